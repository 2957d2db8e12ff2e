//! VP9 and VP8: frame headers, `vpcC` (VP9 bitstream specification 6.2, RFC 6386 9.1, VP codec
//! ISO media file format binding).

use super::Error;
use super::bits::BitReader;
use crate::base::bytes::Reader;

/// What a VP9 key frame's header or `vpcC` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Profile, 0 to 3.
    pub profile: u8,
    /// Ten times the level.
    pub level: u8,
    /// Bits a sample.
    pub bits: u8,
    /// 0 and 1: 4:2:0, 2: 4:2:2, 3: 4:4:4.
    pub chroma: u8,
    /// Samples use the whole range.
    pub full_range: bool,
    /// colour_primaries, transfer_characteristics and matrix_coefficients of ISO/IEC 23091-2.
    pub color: [u8; 3],
}

/// A VP9 key frame's configuration and picture size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyFrame {
    /// The configuration.
    pub config: Config,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Reads `vpcC` contents, with or without the version and flags that open the box: RTMP
/// publishers differ.
pub fn parse_config(init: &[u8]) -> Result<Config, Error> {
    const VERSION_AND_FLAGS: [u8; 4] = [1, 0, 0, 0];
    // Without them the third byte is the bit depth, which is never 0.
    let record = init.strip_prefix(&VERSION_AND_FLAGS).unwrap_or(init);
    let mut reader = Reader::new(record);
    let [profile, level, depth, color @ ..] = reader.array::<6>()?;
    let config = Config {
        profile,
        level,
        bits: depth >> 4,
        chroma: depth >> 1 & 7,
        full_range: depth & 1 == 1,
        color,
    };
    if profile > 3 || !matches!(config.bits, 8 | 10 | 12) {
        return Err(Error::Malformed);
    }
    Ok(config)
}

/// `vpcC` contents, with version and flags.
pub fn build_config(config: &Config) -> Vec<u8> {
    let depth = config.bits << 4 | config.chroma << 1 | u8::from(config.full_range);
    let mut out = vec![1, 0, 0, 0, config.profile, config.level, depth];
    out.extend_from_slice(&config.color);
    out.extend_from_slice(&[0, 0]);
    out
}

/// True if a VP9 frame is a key frame.
pub fn is_keyframe(data: &[u8]) -> bool {
    let mut reader = BitReader::new(data);
    matches!(read_frame_type(&mut reader), Ok((_, true)))
}

/// Reads a VP9 key frame's header.
pub fn parse_key_frame(data: &[u8]) -> Result<KeyFrame, Error> {
    const SYNC_CODE: u32 = 0x49_83_42;
    const RGB: u32 = 7;
    let mut reader = BitReader::new(data);
    let (profile, key) = read_frame_type(&mut reader)?;
    reader.skip(2)?;
    if !key || reader.bits(24)? != SYNC_CODE {
        return Err(Error::Malformed);
    }
    let bits = match profile >= 2 {
        true if reader.flag()? => 12,
        true => 10,
        false => 8,
    };
    let color_space = reader.bits(3)?;
    let odd_profile = profile & 1 == 1;
    let (chroma, full_range) = if color_space == RGB {
        if odd_profile {
            reader.skip(1)?;
        }
        (3, true)
    } else {
        let full_range = reader.flag()?;
        if odd_profile {
            let (x, y) = (reader.flag()?, reader.flag()?);
            reader.skip(1)?;
            // 4:4:0 has no code of its own in vpcC.
            (if x && !y { 2 } else { 3 }, full_range)
        } else {
            (1, full_range)
        }
    };
    let (width, height) = (reader.bits(16)? + 1, reader.bits(16)? + 1);
    Ok(KeyFrame {
        config: Config {
            profile,
            level: level_for(u64::from(width) * u64::from(height)),
            bits,
            chroma,
            full_range,
            color: color_codes(color_space),
        },
        width,
        height,
    })
}

/// Profile and whether the frame is a key frame.
fn read_frame_type(reader: &mut BitReader<'_>) -> Result<(u8, bool), Error> {
    const FRAME_MARKER: u32 = 2;
    if reader.bits(2)? != FRAME_MARKER {
        return Err(Error::Malformed);
    }
    let profile = reader.small(1)? | reader.small(1)? << 1;
    if profile == 3 {
        reader.skip(1)?;
    }
    let show_existing = reader.flag()?;
    let key = !show_existing && !reader.flag()?;
    Ok((profile, key))
}

/// The lowest level whose picture size allows this one (VP9 levels, table of limits).
fn level_for(pixels: u64) -> u8 {
    const PIXELS_MAX: [(u64, u8); 8] = [
        (36_864, 10),
        (73_728, 11),
        (122_880, 20),
        (245_760, 21),
        (552_960, 30),
        (983_040, 31),
        (2_228_224, 40),
        (8_912_896, 50),
    ];
    PIXELS_MAX
        .iter()
        .find(|(limit, _)| pixels <= *limit)
        .map_or(60, |(_, level)| *level)
}

/// VP9's color_space as ISO/IEC 23091-2 codes; 2 is unspecified.
fn color_codes(color_space: u32) -> [u8; 3] {
    match color_space {
        1 => [6, 6, 6],
        2 => [1, 1, 1],
        3 => [6, 6, 6],
        4 => [7, 7, 7],
        5 => [9, 14, 9],
        7 => [1, 13, 0],
        _ => [2, 2, 2],
    }
}

/// True if a VP8 frame is a key frame.
pub fn is_vp8_keyframe(data: &[u8]) -> bool {
    data.first().is_some_and(|byte| byte & 1 == 0)
}

/// The picture size in a VP8 key frame.
pub fn parse_vp8_size(data: &[u8]) -> Result<(u32, u32), Error> {
    const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];
    let mut reader = Reader::new(data);
    let [tag, _, _] = reader.array()?;
    if tag & 1 != 0 || reader.array::<3>()? != START_CODE {
        return Err(Error::Malformed);
    }
    // The upper two bits of each are a scaling hint.
    let width = u16::from_le_bytes(reader.array()?) & 0x3fff;
    let height = u16::from_le_bytes(reader.array()?) & 0x3fff;
    Ok((width.into(), height.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_box_read_the_same() {
        let built = build_config(&Config {
            profile: 0,
            level: 31,
            bits: 8,
            chroma: 1,
            full_range: false,
            color: [1, 1, 1],
        });
        assert_eq!(parse_config(&built), parse_config(&built[4..]));
        assert_eq!(parse_config(&built).unwrap().level, 31);
        assert!(parse_config(&[0; 12]).is_err());
    }

    #[test]
    fn reads_a_key_frame_header() {
        // Profile 0, BT.601, 160x120.
        let data = [0x82, 0x49, 0x83, 0x42, 0x20, 0x09, 0xf0, 0x07, 0x70];
        let key = parse_key_frame(&data).unwrap();
        assert_eq!((key.width, key.height), (160, 120));
        assert_eq!(key.config.level, 10);
        assert!(is_keyframe(&data));
        assert!(!is_keyframe(&[0x86]));
    }

    #[test]
    fn reads_a_vp8_key_frame_header() {
        let data = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 160, 0, 120, 0x40];
        assert_eq!(parse_vp8_size(&data), Ok((160, 120)));
        assert!(is_vp8_keyframe(&data));
    }
}
