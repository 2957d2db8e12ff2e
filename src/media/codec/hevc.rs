//! HEVC: parameter sets, `hvcC`, keyframes (ITU-T H.265, ISO/IEC 14496-15 8.3).

use super::bits::BitReader;
use super::{Error, nal};
use crate::base::bytes::Reader;

/// NAL unit type of a video parameter set.
pub const NAL_VPS: u8 = 32;
/// NAL unit type of a sequence parameter set.
pub const NAL_SPS: u8 = 33;
/// NAL unit type of a picture parameter set.
pub const NAL_PPS: u8 = 34;
/// NAL unit type of an access unit delimiter.
pub const NAL_AUD: u8 = 35;

/// An access unit delimiter that allows every slice type.
pub const AUD: [u8; 3] = [NAL_AUD << 1, 1, 0x50];

/// What `hvcC` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config<'a> {
    /// Profile, tier and level.
    pub profile: ProfileTierLevel,
    /// Bytes of a NAL unit's length: 1, 2 or 4.
    pub length_size: usize,
    /// Video parameter sets.
    pub vps: Vec<&'a [u8]>,
    /// Sequence parameter sets.
    pub sps: Vec<&'a [u8]>,
    /// Picture parameter sets.
    pub pps: Vec<&'a [u8]>,
}

/// The general part of profile_tier_level().
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProfileTierLevel {
    /// general_profile_space, 0 to 3.
    pub space: u8,
    /// True for the high tier.
    pub high_tier: bool,
    /// general_profile_idc, 0 to 31.
    pub profile: u8,
    /// The 32 compatibility flags, flag 0 first.
    pub compatibility: u32,
    /// The 48 constraint bits.
    pub constraints: [u8; 6],
    /// general_level_idc: 30 times the level.
    pub level: u8,
}

/// What is used of a sequence parameter set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sps {
    /// Profile, tier and level.
    pub profile: ProfileTierLevel,
    /// sps_max_sub_layers_minus1 + 1.
    pub sub_layers: u8,
    /// sps_temporal_id_nesting_flag.
    pub temporal_nesting: bool,
    /// chroma_format_idc: 1 is 4:2:0.
    pub chroma_format: u8,
    /// Bits a luma sample.
    pub luma_bits: u8,
    /// Bits a chroma sample.
    pub chroma_bits: u8,
    /// Width after cropping.
    pub width: u32,
    /// Height after cropping.
    pub height: u32,
    /// Frames in 1000 seconds, 0 when not told.
    pub frames_per_1000_s: u32,
    /// How many pictures may be held back for reordering.
    pub reorder: u8,
}

impl Sps {
    /// True unless presentation follows decoding order.
    pub fn may_reorder(&self) -> bool {
        self.reorder != 0
    }
}

/// The type of a NAL unit.
pub fn nal_type(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |byte| byte >> 1 & 0x3f)
}

/// True if decoding can start at this access unit: it has an intra random access picture.
pub fn is_keyframe(data: &[u8]) -> bool {
    nal::units(data)
        .map_while(Result::ok)
        .any(|unit| matches!(nal_type(unit), 16..=23))
}

/// Reads `hvcC` contents.
pub fn parse_config(init: &[u8]) -> Result<Config<'_>, Error> {
    let mut reader = Reader::new(init);
    // Version 0 was written by encoders from before the standard was final.
    if reader.u8()? > 1 {
        return Err(Error::Malformed);
    }
    let profile = read_profile(reader.array()?);
    reader.take(8)?;
    let length_size = usize::from(reader.u8()? & 3) + 1;
    if length_size == 3 {
        return Err(Error::Malformed);
    }
    let mut config = Config {
        profile,
        length_size,
        vps: Vec::new(),
        sps: Vec::new(),
        pps: Vec::new(),
    };
    for _ in 0..reader.u8()? {
        let kind = reader.u8()? & 0x3f;
        for _ in 0..reader.u16()? {
            let length = usize::from(reader.u16()?);
            let unit = reader.take(length)?;
            match kind {
                _ if unit.is_empty() => {}
                NAL_VPS => config.vps.push(unit),
                NAL_SPS => config.sps.push(unit),
                NAL_PPS => config.pps.push(unit),
                _ => {}
            }
        }
    }
    Ok(config)
}

/// The twelve bytes of general profile, tier and level, the same in `hvcC` and in an SPS.
fn read_profile(bytes: [u8; 12]) -> ProfileTierLevel {
    let [first, c0, c1, c2, c3, constraints @ .., level] = bytes;
    ProfileTierLevel {
        space: first >> 6,
        high_tier: first & 0x20 != 0,
        profile: first & 0x1f,
        compatibility: u32::from_be_bytes([c0, c1, c2, c3]),
        constraints,
        level,
    }
}

/// `hvcC` contents for these parameter sets, or nothing if the first SPS cannot be read or a set
/// does not fit the box.
pub fn build_config(vps: &[&[u8]], sps: &[&[u8]], pps: &[&[u8]]) -> Option<Vec<u8>> {
    let info = parse_sps(sps.first()?).ok()?;
    let profile = info.profile;
    let mut out = vec![
        1,
        profile.space << 6 | u8::from(profile.high_tier) << 5 | profile.profile,
    ];
    out.extend_from_slice(&profile.compatibility.to_be_bytes());
    out.extend_from_slice(&profile.constraints);
    out.push(profile.level);
    // No minimal spatial segmentation, parallelism unknown, frame rate not told.
    out.extend_from_slice(&[0xf0, 0, 0xfc, 0xfc | info.chroma_format]);
    out.extend_from_slice(&[0xf8 | (info.luma_bits - 8), 0xf8 | (info.chroma_bits - 8)]);
    out.extend_from_slice(&[0, 0]);
    out.push(info.sub_layers << 3 | u8::from(info.temporal_nesting) << 2 | 3);
    out.push(3);
    for (kind, units) in [(NAL_VPS, vps), (NAL_SPS, sps), (NAL_PPS, pps)] {
        const COMPLETE: u8 = 0x80;
        out.push(COMPLETE | kind);
        out.extend_from_slice(&u16::try_from(units.len()).ok()?.to_be_bytes());
        for unit in units {
            out.extend_from_slice(&u16::try_from(unit.len()).ok()?.to_be_bytes());
            out.extend_from_slice(unit);
        }
    }
    Some(out)
}

/// Reads a sequence parameter set with its NAL unit header. What is broken after the picture
/// size costs only the frame rate.
pub fn parse_sps(unit: &[u8]) -> Result<Sps, Error> {
    if nal_type(unit) != NAL_SPS {
        return Err(Error::Malformed);
    }
    let plain = nal::unescape(unit);
    let mut reader = BitReader::new(&plain);
    reader.skip(16 + 4)?;
    let sub_layers_minus1 = reader.small(3)?;
    let temporal_nesting = reader.flag()?;
    let mut general = [0; 12];
    for byte in &mut general {
        *byte = reader.small(8)?;
    }
    skip_sub_layer_profiles(&mut reader, sub_layers_minus1)?;
    reader.ue()?;
    let chroma_format = bounded(reader.ue()?, 3)?;
    if chroma_format == 3 {
        reader.skip(1)?;
    }
    let (width, height) = (u64::from(reader.ue()?), u64::from(reader.ue()?));
    let (mut crop_x, mut crop_y) = (0, 0);
    if reader.flag()? {
        let unit_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
        let unit_y = if chroma_format == 1 { 2 } else { 1 };
        crop_x = (u64::from(reader.ue()?) + u64::from(reader.ue()?)) * unit_x;
        crop_y = (u64::from(reader.ue()?) + u64::from(reader.ue()?)) * unit_y;
    }
    let luma_bits = 8 + bounded(reader.ue()?, 7)?;
    let chroma_bits = 8 + bounded(reader.ue()?, 7)?;
    let order_bits = u32::from(bounded(reader.ue()?, 12)?) + 4;
    let first = if reader.flag()? { 0 } else { sub_layers_minus1 };
    let mut reorder = 0;
    for _ in first..=sub_layers_minus1 {
        reader.ue()?;
        reorder = bounded(reader.ue()?, 16)?;
        reader.ue()?;
    }
    Ok(Sps {
        profile: read_profile(general),
        sub_layers: sub_layers_minus1 + 1,
        temporal_nesting,
        chroma_format,
        luma_bits,
        chroma_bits,
        width: super::dimension(width.saturating_sub(crop_x))?,
        height: super::dimension(height.saturating_sub(crop_y))?,
        frames_per_1000_s: read_frame_rate(&mut reader, order_bits).unwrap_or(0),
        reorder,
    })
}

fn bounded(value: u32, max: u8) -> Result<u8, Error> {
    u8::try_from(value)
        .ok()
        .filter(|value| *value <= max)
        .ok_or(Error::Malformed)
}

fn skip_sub_layer_profiles(reader: &mut BitReader<'_>, count: u8) -> Result<(), Error> {
    let mut present = [(false, false); 8];
    for flags in present.iter_mut().take(count.into()) {
        *flags = (reader.flag()?, reader.flag()?);
    }
    if count > 0 {
        reader.skip(2 * (8 - usize::from(count)))?;
    }
    for (profile, level) in present {
        reader.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Ok(())
}

/// Reads on from the coding block sizes to the VUI's timing (ITU-T H.265 7.3.2.2.1).
fn read_frame_rate(reader: &mut BitReader<'_>, order_bits: u32) -> Result<u32, Error> {
    for _ in 0..6 {
        reader.ue()?;
    }
    if reader.flag()? && reader.flag()? {
        skip_scaling_lists(reader)?;
    }
    reader.skip(2)?;
    if reader.flag()? {
        reader.skip(8)?;
        reader.ue()?;
        reader.ue()?;
        reader.skip(1)?;
    }
    skip_reference_sets(reader)?;
    if reader.flag()? {
        let count = bounded(reader.ue()?, 32)?;
        reader.skip(usize::from(count) * (order_bits as usize + 1))?;
    }
    reader.skip(2)?;
    if !reader.flag()? {
        return Ok(0);
    }
    nal::skip_vui_opening(reader)?;
    reader.skip(3)?;
    if reader.flag()? {
        for _ in 0..4 {
            reader.ue()?;
        }
    }
    if !reader.flag()? {
        return Ok(0);
    }
    let (ticks, time_scale) = (reader.bits(32)?, reader.bits(32)?);
    Ok(nal::frame_rate(time_scale, u64::from(ticks)))
}

/// ITU-T H.265 7.3.4.
fn skip_scaling_lists(reader: &mut BitReader<'_>) -> Result<(), Error> {
    for size in 0..4u32 {
        let step = if size == 3 { 3 } else { 1 };
        for _ in (0..6).step_by(step) {
            if !reader.flag()? {
                reader.ue()?;
                continue;
            }
            if size > 1 {
                reader.se()?;
            }
            for _ in 0..(1u32 << (4 + (size << 1))).min(64) {
                reader.se()?;
            }
        }
    }
    Ok(())
}

/// The short-term reference picture sets (ITU-T H.265 7.3.7). Each may be told as a change of
/// the one before, so the number of pictures in it has to be followed.
fn skip_reference_sets(reader: &mut BitReader<'_>) -> Result<(), Error> {
    const PICTURES_MAX: u32 = 16;
    let count = bounded(reader.ue()?, 64)?;
    let mut pictures = 0;
    for set in 0..count {
        if set > 0 && reader.flag()? {
            reader.skip(1)?;
            reader.ue()?;
            let mut kept = 0;
            for _ in 0..=pictures {
                let used = reader.flag()?;
                if used || reader.flag()? {
                    kept += 1;
                }
            }
            pictures = kept;
        } else {
            let (before, after) = (reader.ue()?, reader.ue()?);
            if before > PICTURES_MAX || after > PICTURES_MAX {
                return Err(Error::Malformed);
            }
            for _ in 0..before + after {
                reader.ue()?;
                reader.skip(1)?;
            }
            pictures = before + after;
        }
        if pictures > PICTURES_MAX {
            return Err(Error::Malformed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intra_random_access_pictures_are_keyframes() {
        for (kind, expected) in [
            (1u8, false),
            (16, true),
            (19, true),
            (21, true),
            (32, false),
        ] {
            assert_eq!(is_keyframe(&[0, 0, 0, 2, kind << 1, 1]), expected);
        }
    }

    #[test]
    fn short_configurations_are_errors() {
        assert!(parse_config(&[]).is_err());
        assert!(parse_config(&[1; 22]).is_err());
        assert!(parse_sps(&[0x42, 1, 1]).is_err());
    }
}
