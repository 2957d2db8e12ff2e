//! Extension elements of a header (RFC 8285 section 4), and what their values say.
//!
//! ```text
//! profile 0xbede            profile 0x1000 to 0x100f
//! +-------+-------+----     +---------------+---------------+----
//! |  id   |bytes-1| value   |      id       |     bytes     | value
//! +-------+-------+----     +---------------+---------------+----
//! ```

use super::extension::{Extension, ExtensionMap};

/// The profile of elements with heads of one byte.
pub(super) const ONE_BYTE: u16 = 0xbede;
/// The profile of elements with heads of two bytes.
pub(super) const TWO_BYTES: u16 = 0x1000;
/// The highest number that a head of one byte can have; 15 is reserved.
pub(super) const ONE_BYTE_ID_MAX: u8 = 14;
/// The longest value behind a head of one byte.
pub(super) const ONE_BYTE_VALUE_MAX: usize = 16;

/// Iterates over the elements of a header: number and value. Padding is passed over; elements
/// behind one that is malformed are not found.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a> {
    is_short: bool,
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    pub(super) const NONE: Self = Self {
        is_short: true,
        rest: &[],
    };

    #[inline]
    pub(super) fn new(profile: u16, block: &'a [u8]) -> Self {
        match profile {
            ONE_BYTE => Self {
                is_short: true,
                rest: block,
            },
            // The low four bits are the application's.
            TWO_BYTES..=0x100f => Self {
                is_short: false,
                rest: block,
            },
            _ => Self::NONE,
        }
    }

    /// The value of one extension; the last one if it is repeated.
    pub fn find(&self, map: &ExtensionMap, extension: Extension) -> Option<&'a [u8]> {
        let wanted = map.id(extension)?;
        let same = self.filter(|(id, _)| *id == wanted);
        same.last().map(|(_, value)| value)
    }

    /// All values that are understood, found in one pass; the last one of those repeated.
    pub fn values(self, map: &ExtensionMap) -> Values<'a> {
        let mut values = Values::default();
        for (id, value) in self {
            if let Some(extension) = map.extension(id) {
                values.take(extension, value);
            }
        }
        values
    }

    fn end<T>(&mut self) -> Option<T> {
        self.rest = &[];
        None
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&head, rest) = self.rest.split_first()?;
            if head == 0 {
                self.rest = rest;
                continue;
            }
            let (id, bytes, rest) = if self.is_short {
                (head >> 4, usize::from(head & 0x0f) + 1, rest)
            } else {
                let Some((&bytes, rest)) = rest.split_first() else {
                    return self.end();
                };
                (head, usize::from(bytes), rest)
            };
            // RFC 8285 section 4.2: number 15 ends the elements; 0 with a length means nothing.
            if self.is_short && !matches!(id, 1..=ONE_BYTE_ID_MAX) {
                return self.end();
            }
            let Some((value, rest)) = rest.split_at_checked(bytes) else {
                return self.end();
            };
            self.rest = rest;
            return Some((id, value));
        }
    }
}

/// What the extensions of one packet say. Values of a wrong length are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Values<'a> {
    /// The media section's tag, 1 to 255 bytes.
    pub mid: Option<&'a [u8]>,
    /// The simulcast layer's name.
    pub rid: Option<&'a [u8]>,
    /// The name of the layer that a retransmission repairs.
    pub repaired_rid: Option<&'a [u8]>,
    /// Send time modulo 64 s, 24 bits with 18 of them behind the point.
    pub abs_send_time: Option<u32>,
    /// The transport-wide sequence number.
    pub transport_cc: Option<u16>,
    /// Voice activity in the top bit, and the level below full scale in dB.
    pub audio_level: Option<u8>,
    /// `abs-capture-time`, 8 or 16 bytes.
    pub capture_time: Option<&'a [u8]>,
    /// The AV1 dependency descriptor, at least 3 bytes.
    pub dependency: Option<&'a [u8]>,
    /// Least and most delay, 12 bits each, in units of 10 ms.
    pub playout_delay: Option<[u8; 3]>,
    /// Camera and rotation.
    pub orientation: Option<u8>,
}

impl<'a> Values<'a> {
    fn take(&mut self, extension: Extension, value: &'a [u8]) {
        let text = || Some(value).filter(|value| !value.is_empty());
        match extension {
            Extension::Mid => self.mid = text(),
            Extension::Rid => self.rid = text(),
            Extension::RepairedRid => self.repaired_rid = text(),
            Extension::AbsSendTime => {
                self.abs_send_time = array(value).map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]));
            }
            Extension::TransportCc => self.transport_cc = array(value).map(u16::from_be_bytes),
            // Two-byte heads allow a level of more than a byte; the first is the level.
            Extension::AudioLevel => self.audio_level = value.first().copied(),
            Extension::AbsCaptureTime => {
                self.capture_time = Some(value).filter(|value| matches!(value.len(), 8 | 16));
            }
            Extension::DependencyDescriptor => {
                self.dependency = Some(value).filter(|value| value.len() >= 3);
            }
            Extension::PlayoutDelay => self.playout_delay = array(value),
            Extension::VideoOrientation => self.orientation = value.first().copied(),
        }
    }
}

fn array<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(profile: u16, block: &[u8]) -> Vec<(u8, &[u8])> {
        Elements::new(profile, block).collect()
    }

    #[test]
    fn heads_of_one_byte() {
        // The example of RFC 8285 section 4.2: three elements with padding between them.
        let block = [
            0x10, 0xaa, 0x21, 0xbb, 0xbc, 0x00, 0x00, 0x33, 0xc1, 0xc2, 0xc3, 0xc4,
        ];
        assert_eq!(
            list(0xbede, &block),
            [
                (1, &[0xaa][..]),
                (2, &[0xbb, 0xbc]),
                (3, &[0xc1, 0xc2, 0xc3, 0xc4])
            ]
        );
    }

    #[test]
    fn heads_of_two_bytes() {
        // RFC 8285 section 4.3: a value may be empty.
        let block = [0x01, 0x00, 0x02, 0x01, 0xbb, 0x00, 0xff, 0x02, 0xc1, 0xc2];
        let expected = [(1, &[][..]), (2, &[0xbb]), (255, &[0xc1, 0xc2])];
        assert_eq!(list(0x1000, &block), expected);
        assert_eq!(list(0x100f, &block), expected);
        assert_eq!(list(0x1010, &block), []);
    }

    #[test]
    fn elements_end_at_what_is_malformed() {
        assert_eq!(list(0xbede, &[0x10, 1, 0xf0, 2, 0x20, 3]), [(1, &[1][..])]);
        assert_eq!(list(0xbede, &[0x10, 1, 0x05, 2, 0x20, 3]), [(1, &[1][..])]);
        assert_eq!(list(0xbede, &[0x10, 1, 0x22, 2, 0x20]), [(1, &[1][..])]);
        assert_eq!(list(0x1000, &[1, 1, 1, 9]), [(1, &[1][..])]);
        assert_eq!(list(0x1000, &[1, 1, 1, 9, 4, 0]), [(1, &[1][..])]);
    }

    #[test]
    fn values_are_read_by_what_the_map_calls_them() {
        let mut map = ExtensionMap::default();
        map.set(Extension::Mid, 4);
        map.set(Extension::TransportCc, 3);
        map.set(Extension::AbsSendTime, 2);
        map.set(Extension::AudioLevel, 1);
        map.set(Extension::PlayoutDelay, 5);
        let block = [
            0x10, 0x85, 0x22, 1, 2, 3, 0x31, 4, 5, 0x41, b'v', b'0', 0x51, 1, 2, 0x60, 1,
        ];
        let elements = Elements::new(0xbede, &block);
        let expected = Values {
            mid: Some(b"v0"),
            abs_send_time: Some(0x01_0203),
            transport_cc: Some(0x0405),
            audio_level: Some(0x85),
            ..Values::default()
        };
        assert_eq!(elements.values(&map), expected, "the delay has 2 bytes");
        assert_eq!(elements.find(&map, Extension::Mid), Some(&b"v0"[..]));
        assert_eq!(elements.find(&map, Extension::Rid), None);
        let repeated = Elements::new(0xbede, &[0x10, 1, 0x10, 2]);
        assert_eq!(repeated.find(&map, Extension::AudioLevel), Some(&[2][..]));
        assert_eq!(repeated.values(&map).audio_level, Some(2));
    }
}
