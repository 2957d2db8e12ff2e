//! Headers that are sent.

use super::elements::{ONE_BYTE, ONE_BYTE_ID_MAX, ONE_BYTE_VALUE_MAX, TWO_BYTES};
use super::extension::{Extension, ExtensionMap};
use super::header::{EXTENSION, FIXED_BYTES, MARKER, PADDING, VERSION};

/// What a packet's header says, extensions apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fields {
    /// The marker bit.
    pub marker: bool,
    /// The packet ends with padding.
    pub has_padding: bool,
    /// 0 to 127; the top bit is left out.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// In ticks of the payload type's clock.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
}

/// Writes a header and returns its length: 12 bytes, and with extensions 4 more and theirs, in a
/// multiple of 4. Heads are of one byte, or of two if a number is above 14 or a value is empty or
/// above 16 bytes (RFC 8285 section 4.1.2). The values are numbers from 1 to 255 and up to
/// 255 bytes.
///
/// Returns None, and `out` is undefined, if there is not enough room for it.
pub fn write_header(out: &mut [u8], fields: &Fields, values: &[(u8, &[u8])]) -> Option<usize> {
    let fixed = out.first_chunk_mut::<FIXED_BYTES>()?;
    *fixed = fixed_bytes(fields);
    if values.is_empty() {
        return Some(FIXED_BYTES);
    }
    fixed[0] |= EXTENSION;
    let form = Form::of(values);
    let mut at = FIXED_BYTES + 4;
    for (id, value) in values {
        at = form.write(out, at, *id, value)?;
    }
    close(out, at, form)
}

fn fixed_bytes(fields: &Fields) -> [u8; FIXED_BYTES] {
    let padding = if fields.has_padding { PADDING } else { 0 };
    let marker = if fields.marker { MARKER } else { 0 };
    let [s0, s1] = fields.sequence.to_be_bytes();
    let [t0, t1, t2, t3] = fields.timestamp.to_be_bytes();
    let [a, b, c, d] = fields.ssrc.to_be_bytes();
    let second = marker | (fields.payload_type & !MARKER);
    [
        VERSION | padding,
        second,
        s0,
        s1,
        t0,
        t1,
        t2,
        t3,
        a,
        b,
        c,
        d,
    ]
}

/// Fills up the last word, writes the block's head, and returns the header's length.
#[inline]
fn close(out: &mut [u8], at: usize, form: Form) -> Option<usize> {
    let end = at.next_multiple_of(4);
    out.get_mut(at..end)?.fill(0);
    let words = ((end - FIXED_BYTES - 4) / 4) as u16;
    let [p0, p1] = form.profile().to_be_bytes();
    let [w0, w1] = words.to_be_bytes();
    out.get_mut(FIXED_BYTES..FIXED_BYTES + 4)?
        .copy_from_slice(&[p0, p1, w0, w1]);
    Some(end)
}

/// The form of all elements of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    OneByte,
    TwoBytes,
}

impl Form {
    fn of(values: &[(u8, &[u8])]) -> Self {
        let fits = |(id, value): &(u8, &[u8])| {
            *id <= ONE_BYTE_ID_MAX && (1..=ONE_BYTE_VALUE_MAX).contains(&value.len())
        };
        if values.iter().all(fits) {
            Self::OneByte
        } else {
            Self::TwoBytes
        }
    }

    fn profile(self) -> u16 {
        match self {
            Self::OneByte => ONE_BYTE,
            Self::TwoBytes => TWO_BYTES,
        }
    }

    /// Writes one element and returns where the next one goes.
    #[inline]
    fn write(self, out: &mut [u8], at: usize, id: u8, value: &[u8]) -> Option<usize> {
        debug_assert!(id != 0 && value.len() <= 255, "RFC 8285 section 4.3");
        let start = match self {
            Self::OneByte => {
                *out.get_mut(at)? = id << 4 | (value.len().wrapping_sub(1) & 0x0f) as u8;
                at + 1
            }
            Self::TwoBytes => {
                let head = out.get_mut(at..at + 2)?;
                head.copy_from_slice(&[id, value.len() as u8]);
                at + 2
            }
        };
        let end = start + value.len();
        out.get_mut(start..end)?.copy_from_slice(value);
        Some(end)
    }
}

/// The header of one outgoing track, with all that stays the same written beforehand.
///
/// Each receiver has one for each of its tracks. Writing a header is a copy of fixed size and a
/// few stores; it allocates nothing.
#[derive(Clone, Debug)]
pub struct Template {
    one_byte: Option<Layout>,
    two_bytes: Layout,
    map: ExtensionMap,
    is_mixed: bool,
}

/// What a template is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TemplateOptions<'a> {
    /// The synchronisation source.
    pub ssrc: u32,
    /// 0 to 127.
    pub payload_type: u8,
    /// The media section's tag; left out if it is empty, longer than [`Template::MID_BYTES_MAX`],
    /// or has no number in `map`.
    pub mid: &'a str,
    /// Numbers of the extensions as agreed. `abs-send-time` and `transport-cc` are sent if they
    /// have one.
    pub map: ExtensionMap,
    /// Both forms may appear in one stream (`a=extmap-allow-mixed`). Without it, a value that
    /// does not fit the one-byte form is left out of a stream that has it.
    pub is_mixed: bool,
}

/// What differs from packet to packet of one track.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Patch {
    /// The marker bit.
    pub marker: bool,
    /// The packet ends with padding.
    pub has_padding: bool,
    /// The sequence number.
    pub sequence: u16,
    /// In ticks of the track's clock.
    pub timestamp: u32,
    /// The transport-wide number; not sent if the extension has none in the map.
    pub transport_cc: u16,
    /// As [`abs_send_time`] makes it; not sent if the extension has none in the map.
    pub abs_send_time: u32,
}

/// The whole header without changing extensions: 12 + 4, mid 2 + 32, transport-cc 2 + 2,
/// abs-send-time 2 + 3, filled up to a multiple of 4.
const TEMPLATE_BYTES: usize = 64;
const _: () = assert!(12 + 4 + (2 + Template::MID_BYTES_MAX) + (2 + 2) + (2 + 3) <= TEMPLATE_BYTES);

/// One form of a template.
#[derive(Clone, Copy, Debug)]
struct Layout {
    bytes: [u8; TEMPLATE_BYTES],
    form: Form,
    /// Where the next element would go.
    end: u8,
    /// `end`, in a multiple of 4; 12 without extensions.
    length: u8,
    /// Where the value is; 0 without it.
    transport_cc: u8,
    abs_send_time: u8,
}

impl Template {
    /// The longest `mid` that a template takes.
    pub const MID_BYTES_MAX: usize = 32;
    /// How much room `write` needs; what is behind the header is undefined afterwards.
    pub const BYTES: usize = TEMPLATE_BYTES;

    /// The template of one track.
    pub fn new(options: &TemplateOptions<'_>) -> Self {
        let mut values: Vec<(Extension, &[u8])> = Vec::new();
        // The values that are patched come first: they are in one cache line with the rest.
        if options.map.id(Extension::TransportCc).is_some() {
            values.push((Extension::TransportCc, &[0; 2]));
        }
        if options.map.id(Extension::AbsSendTime).is_some() {
            values.push((Extension::AbsSendTime, &[0; 3]));
        }
        let mid = options.mid.as_bytes();
        let has_mid = options.map.id(Extension::Mid).is_some();
        if has_mid && (1..=Self::MID_BYTES_MAX).contains(&mid.len()) {
            values.push((Extension::Mid, mid));
        }
        let values: Vec<(u8, Extension, &[u8])> = values
            .into_iter()
            .filter_map(|(extension, value)| Some((options.map.id(extension)?, extension, value)))
            .collect();
        let plain: Vec<(u8, &[u8])> = values.iter().map(|(id, _, value)| (*id, *value)).collect();
        let fits = Form::of(&plain) == Form::OneByte;
        Self {
            one_byte: fits.then(|| Layout::new(options, Form::OneByte, &values)),
            two_bytes: Layout::new(options, Form::TwoBytes, &values),
            map: options.map,
            is_mixed: options.is_mixed,
        }
    }

    /// Writes a header and returns its length. `out` has room for [`Self::BYTES`].
    ///
    /// # Panics
    ///
    /// There is not enough room.
    #[inline]
    pub fn write(&self, out: &mut [u8], patch: &Patch) -> usize {
        let layout = self.one_byte.as_ref().unwrap_or(&self.two_bytes);
        layout.write(out, patch);
        usize::from(layout.length)
    }

    /// As [`Self::write`], with extensions of this one packet behind the constant ones. Those
    /// without a number in the map are left out, as are empty values, values beyond 255 bytes,
    /// and what `out` has no room for.
    ///
    /// # Panics
    ///
    /// There is not enough room for the template alone.
    pub fn write_with(
        &self,
        out: &mut [u8],
        patch: &Patch,
        values: &[(Extension, &[u8])],
    ) -> usize {
        let fits = |(extension, value): &(Extension, &[u8])| {
            let id = self.map.id(*extension);
            id.is_none_or(|id| id <= ONE_BYTE_ID_MAX) && value.len() <= ONE_BYTE_VALUE_MAX
        };
        let layout = match &self.one_byte {
            Some(layout) if !self.is_mixed || values.iter().all(fits) => layout,
            Some(_) | None => &self.two_bytes,
        };
        layout.write(out, patch);
        let mut end = usize::from(layout.end);
        for value in values {
            let (extension, bytes) = *value;
            let Some(id) = self.map.id(extension) else {
                continue;
            };
            let is_possible = match layout.form {
                Form::OneByte => fits(value),
                Form::TwoBytes => bytes.len() <= 255,
            };
            if bytes.is_empty() || !is_possible {
                continue;
            }
            // The filled-up last word and the block's head have to fit as well.
            let size = 2 + bytes.len();
            if end + size + 3 <= out.len()
                && let Some(next) = layout.form.write(out, end, id, bytes)
            {
                end = next;
            }
        }
        if end == usize::from(layout.end) {
            return usize::from(layout.length);
        }
        out[0] |= EXTENSION;
        close(out, end, layout.form).unwrap_or_else(|| usize::from(layout.length))
    }
}

impl Layout {
    fn new(options: &TemplateOptions<'_>, form: Form, values: &[(u8, Extension, &[u8])]) -> Self {
        let fields = Fields {
            ssrc: options.ssrc,
            payload_type: options.payload_type,
            ..Fields::default()
        };
        let mut layout = Self {
            bytes: [0; TEMPLATE_BYTES],
            form,
            end: (FIXED_BYTES + 4) as u8,
            length: FIXED_BYTES as u8,
            transport_cc: 0,
            abs_send_time: 0,
        };
        layout.bytes[..FIXED_BYTES].copy_from_slice(&fixed_bytes(&fields));
        let mut at = usize::from(layout.end);
        for (id, extension, value) in values {
            let end = form
                .write(&mut layout.bytes, at, *id, value)
                .expect("the longest values fit, as asserted beside TEMPLATE_BYTES");
            let start = (end - value.len()) as u8;
            if *extension == Extension::TransportCc {
                layout.transport_cc = start;
            } else if *extension == Extension::AbsSendTime {
                layout.abs_send_time = start;
            }
            at = end;
        }
        if !values.is_empty() {
            layout.bytes[0] |= EXTENSION;
            layout.end = at as u8;
            let length = close(&mut layout.bytes, at, form);
            layout.length = length.expect("the template is a multiple of 4") as u8;
        }
        layout
    }

    #[inline]
    fn write(&self, out: &mut [u8], patch: &Patch) {
        let out: &mut [u8; TEMPLATE_BYTES] = out
            .first_chunk_mut()
            .expect("the caller keeps room for Template::BYTES");
        *out = self.bytes;
        out[0] |= u8::from(patch.has_padding) << 5;
        out[1] |= u8::from(patch.marker) << 7;
        out[2..4].copy_from_slice(&patch.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&patch.timestamp.to_be_bytes());
        if self.transport_cc != 0 {
            let at = usize::from(self.transport_cc);
            out[at..at + 2].copy_from_slice(&patch.transport_cc.to_be_bytes());
        }
        if self.abs_send_time != 0 {
            let at = usize::from(self.abs_send_time);
            out[at..at + 3].copy_from_slice(&patch.abs_send_time.to_be_bytes()[1..]);
        }
    }
}

/// A time as the `abs-send-time` extension has it: seconds modulo 64 with 18 bits behind the
/// point. Any point may be zero, as only differences are read.
pub fn abs_send_time(since: std::time::Duration) -> u32 {
    let seconds = (since.as_secs() & 63) as u32;
    let fraction = (u64::from(since.subsec_nanos()) << 18) / 1_000_000_000;
    seconds << 18 | fraction as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::rtp::{Header, Values};

    fn map(ids: &[(Extension, u8)]) -> ExtensionMap {
        let mut map = ExtensionMap::default();
        for (extension, id) in ids {
            map.set(*extension, *id);
        }
        map
    }

    fn template(map: ExtensionMap, is_mixed: bool) -> Template {
        Template::new(&TemplateOptions {
            ssrc: 0x0102_0304,
            payload_type: 102,
            mid: "v0",
            map,
            is_mixed,
        })
    }

    const PATCH: Patch = Patch {
        marker: true,
        has_padding: false,
        sequence: 0xfffe,
        timestamp: 0xdead_beef,
        transport_cc: 0x1234,
        abs_send_time: 0x56_789a,
    };

    #[test]
    fn written_headers_are_read_back() {
        let fields = Fields {
            marker: true,
            has_padding: false,
            payload_type: 96,
            sequence: 1,
            timestamp: 2,
            ssrc: 3,
        };
        for values in [
            &[][..],
            &[(1, &b"a"[..])],
            &[(1, b"abc"), (14, b"0123456789abcdef")],
            &[(1, b"abc"), (15, b"d")],
            &[(1, b"0123456789abcdef0"), (2, b"")],
        ] {
            let mut out = [0xff; 80];
            let length = write_header(&mut out, &fields, values).unwrap();
            let header = Header::parse(&out[..length]).unwrap();
            assert_eq!(header.length(), length);
            assert_eq!(header.extensions().collect::<Vec<_>>(), values);
            let read = (header.marker, header.payload_type, header.sequence);
            assert_eq!(read, (true, 96, 1));
            assert_eq!((header.timestamp, header.ssrc), (2, 3));
            for room in 0..length {
                assert_eq!(write_header(&mut out[..room], &fields, values), None);
            }
        }
    }

    #[test]
    fn a_template_is_patched() {
        let map = map(&[
            (Extension::Mid, 1),
            (Extension::TransportCc, 2),
            (Extension::AbsSendTime, 3),
        ]);
        let mut out = [0xff; Template::BYTES];
        let length = template(map, false).write(&mut out, &PATCH);
        assert_eq!(length, 12 + 4 + 12);
        let header = Header::parse(&out[..length]).unwrap();
        assert!(header.marker);
        assert_eq!(header.payload_type, 102);
        assert_eq!(header.sequence, 0xfffe);
        assert_eq!(header.timestamp, 0xdead_beef);
        assert_eq!(header.ssrc, 0x0102_0304);
        let expected = Values {
            mid: Some(b"v0"),
            transport_cc: Some(0x1234),
            abs_send_time: Some(0x56_789a),
            ..Values::default()
        };
        assert_eq!(header.extensions().values(&map), expected);
        assert_eq!(out[12..14], [0xbe, 0xde]);
    }

    #[test]
    fn a_template_without_extensions_is_twelve_bytes() {
        let mut out = [0xff; Template::BYTES + 8];
        let patch = Patch {
            has_padding: true,
            ..PATCH
        };
        let bare = template(ExtensionMap::default(), false);
        assert_eq!(bare.write(&mut out, &patch), 12);
        assert_eq!(out[0], 0xa0);
        let level = [(Extension::AudioLevel, &[1][..])];
        assert_eq!(bare.write_with(&mut out, &PATCH, &level), 12, "no number");
    }

    #[test]
    fn a_template_with_a_high_number_has_heads_of_two_bytes() {
        let map = map(&[(Extension::Mid, 15), (Extension::TransportCc, 2)]);
        let mut out = [0xff; Template::BYTES];
        let length = template(map, false).write(&mut out, &PATCH);
        assert_eq!(out[12..14], [0x10, 0x00]);
        let values = Header::parse(&out[..length]).unwrap().extensions();
        assert_eq!(values.values(&map).mid, Some(&b"v0"[..]));
        assert_eq!(values.values(&map).transport_cc, Some(0x1234));
    }

    #[test]
    fn extensions_of_one_packet_follow_the_constant_ones() {
        let map = map(&[
            (Extension::TransportCc, 2),
            (Extension::AudioLevel, 3),
            (Extension::DependencyDescriptor, 4),
        ]);
        let long = [7; 40];
        let values = [
            (Extension::AudioLevel, &[0x85][..]),
            (Extension::Rid, b"no number"),
            (Extension::DependencyDescriptor, &long),
        ];
        let read = |is_mixed, room: usize| {
            let mut out = vec![0xff; room];
            let length = template(map, is_mixed).write_with(&mut out, &PATCH, &values);
            let header = Header::parse(&out[..length]).unwrap();
            let values = header.extensions().values(&map);
            assert_eq!(values.transport_cc, Some(0x1234));
            (values.audio_level, values.dependency.map(<[u8]>::len))
        };
        assert_eq!(read(true, 100), (Some(0x85), Some(40)));
        assert_eq!(read(false, 100), (Some(0x85), None));
        assert_eq!(read(true, Template::BYTES), (Some(0x85), None), "no room");
    }

    #[test]
    fn extensions_of_one_packet_alone() {
        let map = map(&[(Extension::AudioLevel, 3)]);
        let mut out = [0xff; Template::BYTES];
        let values = [(Extension::AudioLevel, &[0x85][..])];
        let length = template(map, false).write_with(&mut out, &PATCH, &values);
        assert_eq!(length, 20);
        let header = Header::parse(&out[..length]).unwrap();
        assert_eq!(header.extensions().values(&map).audio_level, Some(0x85));
    }

    #[test]
    fn the_send_time_has_18_bits_behind_the_point() {
        assert_eq!(abs_send_time(Duration::ZERO), 0);
        assert_eq!(abs_send_time(Duration::from_millis(1500)), 3 << 17);
        assert_eq!(abs_send_time(Duration::from_secs(65)), 1 << 18);
        assert!(abs_send_time(Duration::new(63, 999_999_999)) < 1 << 24);
    }
}
