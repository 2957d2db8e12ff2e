//! AV1: open bitstream units, sequence header, `av1C` (AV1 bitstream specification 5, AV1 codec
//! ISO media file format binding 2.3).

use super::Error;
use super::bits::BitReader;
use crate::base::bytes::Reader;

/// OBU type of a sequence header.
pub const OBU_SEQUENCE_HEADER: u8 = 1;
/// OBU type of a temporal delimiter.
pub const OBU_TEMPORAL_DELIMITER: u8 = 2;
/// OBU type of a frame header.
pub const OBU_FRAME_HEADER: u8 = 3;
/// OBU type of a frame: header and tiles together.
pub const OBU_FRAME: u8 = 6;

/// One open bitstream unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Obu<'a> {
    /// obu_type.
    pub kind: u8,
    /// The unit with header and size field.
    pub whole: &'a [u8],
    /// What follows header and size field.
    pub payload: &'a [u8],
}

/// What is used of a sequence header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SequenceHeader {
    /// seq_profile.
    pub profile: u8,
    /// seq_level_idx of the first operating point.
    pub level: u8,
    /// True for the high tier.
    pub high_tier: bool,
    /// Bits a sample: 8, 10 or 12.
    pub bits: u8,
    /// No chroma planes.
    pub monochrome: bool,
    /// Chroma has half the width.
    pub subsampling_x: bool,
    /// Chroma has half the height.
    pub subsampling_y: bool,
    /// chroma_sample_position.
    pub sample_position: u8,
    /// max_frame_width_minus_1 + 1.
    pub width: u32,
    /// max_frame_height_minus_1 + 1.
    pub height: u32,
    /// Frames in 1000 seconds, 0 when not told or not constant.
    pub frames_per_1000_s: u32,
}

/// The units of a temporal unit. A unit without a size field reaches to the end. A broken unit
/// gives one error and ends the iteration.
pub fn obus(data: &[u8]) -> Obus<'_> {
    Obus { rest: data }
}

/// Iterates over open bitstream units.
#[derive(Clone, Debug)]
pub struct Obus<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Obus<'a> {
    type Item = Result<Obu<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let obu = next_obu(&mut self.rest);
        if obu.is_err() {
            self.rest = &[];
        }
        Some(obu)
    }
}

fn next_obu<'a>(rest: &mut &'a [u8]) -> Result<Obu<'a>, Error> {
    const FORBIDDEN: u8 = 0x80;
    const EXTENSION: u8 = 0x04;
    const HAS_SIZE: u8 = 0x02;
    let start = *rest;
    let mut reader = Reader::new(start);
    let header = reader.u8()?;
    if header & FORBIDDEN != 0 {
        return Err(Error::Malformed);
    }
    if header & EXTENSION != 0 {
        reader.u8()?;
    }
    let size = if header & HAS_SIZE != 0 {
        read_leb128(&mut reader)?
    } else {
        reader.remaining()
    };
    let payload = reader.take(size)?;
    *rest = reader.rest();
    Ok(Obu {
        kind: header >> 3 & 0xf,
        whole: &start[..start.len() - rest.len()],
        payload,
    })
}

/// Reads a size field.
pub fn read_leb128(reader: &mut Reader<'_>) -> Result<usize, Error> {
    let mut value = 0u64;
    for byte_index in 0..8 {
        let byte = reader.u8()?;
        value |= u64::from(byte & 0x7f) << (7 * byte_index);
        if byte & 0x80 == 0 {
            return u32::try_from(value)
                .map(|value| value as usize)
                .map_err(|_| Error::Malformed);
        }
    }
    Err(Error::Malformed)
}

/// Appends `value` as a size field.
pub fn push_leb128(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends an OBU without extension, with a size field.
pub fn push_obu(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(kind << 3 | 0x02);
    push_leb128(payload.len(), out);
    out.extend_from_slice(payload);
}

/// True if decoding can start at this temporal unit: its first frame is a key frame.
pub fn is_keyframe(data: &[u8]) -> bool {
    const SHOW_EXISTING: u8 = 0x80;
    const FRAME_TYPE: u8 = 0x60;
    let mut reduced = false;
    for obu in obus(data).map_while(Result::ok) {
        match obu.kind {
            OBU_SEQUENCE_HEADER => {
                // A reduced still picture header is the only one whose frames are all key.
                reduced = obu.payload.first().is_some_and(|byte| byte & 0x08 != 0);
            }
            OBU_FRAME_HEADER | OBU_FRAME => {
                let Some(first) = obu.payload.first() else {
                    return false;
                };
                return reduced || first & (SHOW_EXISTING | FRAME_TYPE) == 0;
            }
            _ => {}
        }
    }
    false
}

/// Reads `av1C` contents: the sequence header among its OBUs.
pub fn parse_config(init: &[u8]) -> Result<SequenceHeader, Error> {
    const MARKER_AND_VERSION: u8 = 0x81;
    let mut reader = Reader::new(init);
    if reader.array::<4>()?[0] != MARKER_AND_VERSION {
        return Err(Error::Malformed);
    }
    find_sequence_header(reader.rest()).ok_or(Error::Malformed)
}

/// The first sequence header that can be read among these OBUs.
pub fn find_sequence_header(data: &[u8]) -> Option<SequenceHeader> {
    obus(data)
        .map_while(Result::ok)
        .filter(|obu| obu.kind == OBU_SEQUENCE_HEADER)
        .find_map(|obu| parse_sequence_header(obu.payload).ok())
}

/// `av1C` contents for the sequence header in this temporal unit.
pub fn build_config(data: &[u8]) -> Option<Vec<u8>> {
    let obu = obus(data)
        .map_while(Result::ok)
        .find(|obu| obu.kind == OBU_SEQUENCE_HEADER)?;
    let header = parse_sequence_header(obu.payload).ok()?;
    let mut out = vec![
        0x81,
        header.profile << 5 | header.level,
        u8::from(header.high_tier) << 7
            | u8::from(header.bits > 8) << 6
            | u8::from(header.bits == 12) << 5
            | u8::from(header.monochrome) << 4
            | u8::from(header.subsampling_x) << 3
            | u8::from(header.subsampling_y) << 2
            | header.sample_position,
        0,
    ];
    push_obu(OBU_SEQUENCE_HEADER, obu.payload, &mut out);
    Some(out)
}

/// Reads a sequence header's payload (AV1 5.5.1).
pub fn parse_sequence_header(payload: &[u8]) -> Result<SequenceHeader, Error> {
    let reader = &mut BitReader::new(payload);
    let profile = reader.small(3)?;
    if profile > 2 {
        return Err(Error::Malformed);
    }
    reader.skip(1)?;
    let reduced = reader.flag()?;
    let (mut level, mut high_tier, mut frames_per_1000_s) = (0, false, 0);
    if reduced {
        level = reader.small(5)?;
    } else {
        let timing = read_timing(reader)?;
        frames_per_1000_s = timing.frames_per_1000_s;
        let display_delay = reader.flag()?;
        for point in 0..=reader.bits(5)? {
            reader.skip(12)?;
            let point_level = reader.small(5)?;
            let point_tier = point_level > 7 && reader.flag()?;
            if let Some(delay_bits) = timing.delay_bits
                && reader.flag()?
            {
                reader.skip(2 * delay_bits + 1)?;
            }
            if display_delay && reader.flag()? {
                reader.skip(4)?;
            }
            if point == 0 {
                (level, high_tier) = (point_level, point_tier);
            }
        }
    }
    let (width_bits, height_bits) = (reader.bits(4)? + 1, reader.bits(4)? + 1);
    let width = reader.bits(width_bits)? + 1;
    let height = reader.bits(height_bits)? + 1;
    if !reduced && reader.flag()? {
        reader.skip(7)?;
    }
    reader.skip(3)?;
    if !reduced {
        skip_tools(reader)?;
    }
    reader.skip(3)?;
    let color = read_color(reader, profile)?;
    Ok(SequenceHeader {
        profile,
        level,
        high_tier,
        width,
        height,
        frames_per_1000_s,
        ..color
    })
}

struct Timing {
    frames_per_1000_s: u32,
    /// Bits of a decoder model's delays, where there is a decoder model.
    delay_bits: Option<usize>,
}

fn read_timing(reader: &mut BitReader<'_>) -> Result<Timing, Error> {
    let mut timing = Timing {
        frames_per_1000_s: 0,
        delay_bits: None,
    };
    if !reader.flag()? {
        return Ok(timing);
    }
    let (ticks, time_scale) = (reader.bits(32)?, reader.bits(32)?);
    if reader.flag()? {
        let ticks = u64::from(ticks) * (u64::from(reader.ue()?) + 1);
        timing.frames_per_1000_s = super::nal::frame_rate(time_scale, ticks);
    }
    if reader.flag()? {
        timing.delay_bits = Some(reader.bits(5)? as usize + 1);
        reader.skip(32 + 5 + 5)?;
    }
    Ok(timing)
}

fn skip_tools(reader: &mut BitReader<'_>) -> Result<(), Error> {
    const SELECT: u32 = 2;
    reader.skip(4)?;
    let order_hint = reader.flag()?;
    if order_hint {
        reader.skip(2)?;
    }
    let screen_content = if reader.flag()? {
        SELECT
    } else {
        reader.bits(1)?
    };
    if screen_content > 0 && !reader.flag()? {
        reader.skip(1)?;
    }
    if order_hint {
        reader.skip(3)?;
    }
    Ok(())
}

/// color_config() (AV1 5.5.2), in a header whose other fields are empty.
fn read_color(reader: &mut BitReader<'_>, profile: u8) -> Result<SequenceHeader, Error> {
    const SRGB: [u32; 3] = [1, 13, 0];
    let high = reader.flag()?;
    let bits = match (high, profile == 2 && high && reader.flag()?) {
        (_, true) => 12,
        (true, false) => 10,
        (false, false) => 8,
    };
    let mut color = SequenceHeader {
        profile,
        level: 0,
        high_tier: false,
        bits,
        monochrome: profile != 1 && reader.flag()?,
        subsampling_x: true,
        subsampling_y: true,
        sample_position: 0,
        width: 0,
        height: 0,
        frames_per_1000_s: 0,
    };
    let mut description = [2, 2, 2];
    if reader.flag()? {
        description = [reader.bits(8)?, reader.bits(8)?, reader.bits(8)?];
    }
    if color.monochrome {
        reader.skip(1)?;
        return Ok(color);
    }
    if description == SRGB {
        (color.subsampling_x, color.subsampling_y) = (false, false);
        return Ok(color);
    }
    reader.skip(1)?;
    (color.subsampling_x, color.subsampling_y) = match profile {
        0 => (true, true),
        1 => (false, false),
        _ if bits == 12 => {
            let x = reader.flag()?;
            (x, x && reader.flag()?)
        }
        _ => (true, false),
    };
    if color.subsampling_x && color.subsampling_y {
        color.sample_position = reader.small(2)?;
    }
    Ok(color)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obus_are_bounds_checked() {
        // A delimiter, a sequence header of one byte, a frame that claims more than there is.
        let data = [0x12, 0, 0x0a, 1, 0x08, 0x32, 5, 0];
        let found: Vec<_> = obus(&data).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].unwrap().kind, OBU_TEMPORAL_DELIMITER);
        assert_eq!(found[1].unwrap().payload, [0x08]);
        assert_eq!(found[1].unwrap().whole, [0x0a, 1, 0x08]);
        assert_eq!(found[2], Err(Error::Short));
    }

    #[test]
    fn key_frames_are_found() {
        assert!(is_keyframe(&[0x32, 1, 0x10]));
        assert!(!is_keyframe(&[0x32, 1, 0x30]), "inter frame");
        assert!(!is_keyframe(&[0x32, 1, 0x80]), "shows an existing frame");
        assert!(!is_keyframe(&[0x0a, 1, 0x00]), "no frame");
    }

    #[test]
    fn sizes_above_32_bits_are_errors() {
        let data = [0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(obus(&data).next(), Some(Err(Error::Malformed)));
    }
}
