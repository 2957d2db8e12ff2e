//! H.264: parameter sets, `avcC`, keyframes (ITU-T H.264, ISO/IEC 14496-15 5.3).

use super::bits::BitReader;
use super::{Error, nal};
use crate::base::bytes::Reader;

/// NAL unit type of an IDR slice.
pub const NAL_IDR: u8 = 5;
/// NAL unit type of supplemental enhancement information.
pub const NAL_SEI: u8 = 6;
/// NAL unit type of a sequence parameter set.
pub const NAL_SPS: u8 = 7;
/// NAL unit type of a picture parameter set.
pub const NAL_PPS: u8 = 8;
/// NAL unit type of an access unit delimiter.
pub const NAL_AUD: u8 = 9;

/// An access unit delimiter that allows every slice type.
pub const AUD: [u8; 2] = [NAL_AUD, 0xf0];

/// What `avcC` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config<'a> {
    /// profile_idc.
    pub profile: u8,
    /// The constraint flags.
    pub compatibility: u8,
    /// level_idc.
    pub level: u8,
    /// Bytes of a NAL unit's length: 1, 2 or 4.
    pub length_size: usize,
    /// Sequence parameter sets, at most 31.
    pub sps: Vec<&'a [u8]>,
    /// Picture parameter sets, at most 255.
    pub pps: Vec<&'a [u8]>,
}

/// What is used of a sequence parameter set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sps {
    /// profile_idc.
    pub profile: u8,
    /// The constraint flags.
    pub compatibility: u8,
    /// level_idc.
    pub level: u8,
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
    /// How many pictures may be held back for reordering, when told or implied.
    pub reorder: Option<u8>,
}

impl Sps {
    /// True unless the stream promises that presentation follows decoding order.
    pub fn may_reorder(&self) -> bool {
        self.reorder != Some(0)
    }
}

/// The type of a NAL unit.
pub fn nal_type(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |byte| byte & 0x1f)
}

/// Reads `avcC` contents.
pub fn parse_config(init: &[u8]) -> Result<Config<'_>, Error> {
    let mut reader = Reader::new(init);
    if reader.u8()? != 1 {
        return Err(Error::Malformed);
    }
    let [profile, compatibility, level, lengths, sps_count] = reader.array()?;
    let length_size = usize::from(lengths & 3) + 1;
    let sps = read_list(&mut reader, sps_count & 0x1f)?;
    let pps_count = reader.u8()?;
    let pps = read_list(&mut reader, pps_count)?;
    if length_size == 3 {
        return Err(Error::Malformed);
    }
    Ok(Config {
        profile,
        compatibility,
        level,
        length_size,
        sps,
        pps,
    })
}

fn read_list<'a>(reader: &mut Reader<'a>, count: u8) -> Result<Vec<&'a [u8]>, Error> {
    let mut list = Vec::new();
    for _ in 0..count {
        let length = usize::from(reader.u16()?);
        let unit = reader.take(length)?;
        if !unit.is_empty() {
            list.push(unit);
        }
    }
    Ok(list)
}

/// `avcC` contents for these parameter sets, or nothing if the first SPS cannot be read or a set
/// does not fit the box.
pub fn build_config(sps: &[&[u8]], pps: &[&[u8]]) -> Option<Vec<u8>> {
    let first = sps.first()?;
    let info = parse_sps(first).ok()?;
    if sps.len() > 31 || pps.len() > 255 {
        return None;
    }
    let mut out = vec![1, info.profile, info.compatibility, info.level, 0xff];
    out.push(0xe0 | sps.len() as u8);
    push_list(sps, &mut out)?;
    out.push(pps.len() as u8);
    push_list(pps, &mut out)?;
    if has_chroma_format(info.profile) {
        out.extend_from_slice(&[
            0xfc | info.chroma_format,
            0xf8 | (info.luma_bits - 8),
            0xf8 | (info.chroma_bits - 8),
            0,
        ]);
    }
    Some(out)
}

fn push_list(units: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    for unit in units {
        out.extend_from_slice(&u16::try_from(unit.len()).ok()?.to_be_bytes());
        out.extend_from_slice(unit);
    }
    Some(())
}

/// True if decoding can start at this access unit: it has an IDR slice or a recovery point.
///
/// A stream with periodic intra refresh has no IDR after its first picture; its recovery points
/// are the only places where a viewer can join, though the picture completes a little later.
pub fn is_keyframe(data: &[u8]) -> bool {
    nal::units(data)
        .map_while(Result::ok)
        .any(|unit| match nal_type(unit) {
            NAL_IDR => true,
            NAL_SEI => has_recovery_point(unit),
            _ => false,
        })
}

fn has_recovery_point(unit: &[u8]) -> bool {
    const RECOVERY_POINT: usize = 6;
    let plain = nal::unescape(&unit[1..]);
    let mut reader = Reader::new(&plain);
    // Two bytes left hold no message: the last is the trailing stop bit.
    while reader.remaining() > 2 {
        let (Ok(kind), Ok(size)) = (sei_number(&mut reader), sei_number(&mut reader)) else {
            return false;
        };
        if kind == RECOVERY_POINT {
            return true;
        }
        if reader.take(size).is_err() {
            return false;
        }
    }
    false
}

/// A payload type or size: a run of 255s and a last byte (ITU-T H.264 7.3.2.3.1).
fn sei_number(reader: &mut Reader<'_>) -> Result<usize, Error> {
    let mut sum = 0;
    loop {
        let byte = reader.u8()?;
        sum += usize::from(byte);
        if byte != 0xff {
            return Ok(sum);
        }
    }
}

/// Reads a sequence parameter set with its NAL unit header. A broken VUI costs only the fields
/// it holds.
pub fn parse_sps(unit: &[u8]) -> Result<Sps, Error> {
    if nal_type(unit) != NAL_SPS {
        return Err(Error::Malformed);
    }
    let plain = nal::unescape(&unit[1..]);
    let mut reader = BitReader::new(&plain);
    let (profile, compatibility, level) = (reader.small(8)?, reader.small(8)?, reader.small(8)?);
    reader.ue()?;
    let (mut chroma_format, mut luma_bits, mut chroma_bits) = (1, 8, 8);
    if has_chroma_format(profile) {
        chroma_format = bounded(reader.ue()?, 3)?;
        if chroma_format == 3 {
            reader.skip(1)?;
        }
        luma_bits = 8 + bounded(reader.ue()?, 6)?;
        chroma_bits = 8 + bounded(reader.ue()?, 6)?;
        reader.skip(1)?;
        if reader.flag()? {
            skip_scaling_lists(&mut reader, if chroma_format == 3 { 12 } else { 8 })?;
        }
    }
    reader.ue()?;
    let order_type = reader.ue()?;
    match order_type {
        0 => {
            reader.ue()?;
        }
        1 => skip_order_cycle(&mut reader)?,
        _ => {}
    }
    reader.ue()?;
    reader.skip(1)?;
    let (width_blocks, height_units) = (reader.ue()?, reader.ue()?);
    let frames_only = reader.flag()?;
    if !frames_only {
        reader.skip(1)?;
    }
    reader.skip(1)?;
    let fields = if frames_only { 1 } else { 2 };
    let width = u64::from(width_blocks).saturating_add(1) * 16;
    let height = u64::from(height_units).saturating_add(1) * 16 * fields;
    let (mut crop_x, mut crop_y) = (0, 0);
    if reader.flag()? {
        let unit_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
        let unit_y = fields * if chroma_format == 1 { 2 } else { 1 };
        crop_x = (u64::from(reader.ue()?) + u64::from(reader.ue()?)) * unit_x;
        crop_y = (u64::from(reader.ue()?) + u64::from(reader.ue()?)) * unit_y;
    }
    let mut sps = Sps {
        profile,
        compatibility,
        level,
        chroma_format,
        luma_bits,
        chroma_bits,
        width: super::dimension(width.saturating_sub(crop_x))?,
        height: super::dimension(height.saturating_sub(crop_y))?,
        frames_per_1000_s: 0,
        reorder: implied_reorder(profile, compatibility, order_type),
    };
    if reader.flag()? {
        // A cut VUI leaves what was read before the cut.
        let _ = read_vui(&mut reader, &mut sps);
    }
    Ok(sps)
}

/// ITU-T H.264 7.3.2.1.1: the profiles whose SPS has chroma and bit depth fields.
fn has_chroma_format(profile: u8) -> bool {
    matches!(
        profile,
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
    )
}

/// What follows about reordering when the VUI does not tell (ITU-T H.264 E.2.1).
fn implied_reorder(profile: u8, compatibility: u8, order_type: u32) -> Option<u8> {
    const BASELINE: u8 = 66;
    const CONSTRAINT_SET3: u8 = 0x10;
    let intra_only =
        matches!(profile, 44 | 86 | 100 | 110 | 122 | 244) && compatibility & CONSTRAINT_SET3 != 0;
    (order_type == 2 || profile == BASELINE || intra_only).then_some(0)
}

fn bounded(value: u32, max: u8) -> Result<u8, Error> {
    u8::try_from(value)
        .ok()
        .filter(|value| *value <= max)
        .ok_or(Error::Malformed)
}

fn skip_scaling_lists(reader: &mut BitReader<'_>, count: usize) -> Result<(), Error> {
    for list in 0..count {
        if reader.flag()? {
            let size = if list < 6 { 16 } else { 64 };
            let (mut last, mut next) = (8i64, 8i64);
            for _ in 0..size {
                if next != 0 {
                    next = (last + reader.se()?).rem_euclid(256);
                }
                last = if next == 0 { last } else { next };
            }
        }
    }
    Ok(())
}

fn skip_order_cycle(reader: &mut BitReader<'_>) -> Result<(), Error> {
    reader.skip(1)?;
    reader.se()?;
    reader.se()?;
    let count = bounded(reader.ue()?, 255)?;
    for _ in 0..count {
        reader.se()?;
    }
    Ok(())
}

fn read_vui(reader: &mut BitReader<'_>, sps: &mut Sps) -> Result<(), Error> {
    nal::skip_vui_opening(reader)?;
    if reader.flag()? {
        let (ticks, time_scale) = (reader.bits(32)?, reader.bits(32)?);
        reader.skip(1)?;
        // A tick is a field: two make a frame.
        sps.frames_per_1000_s = nal::frame_rate(time_scale, u64::from(ticks) * 2);
    }
    let nal_hrd = reader.flag()?;
    if nal_hrd {
        skip_hrd(reader)?;
    }
    let vcl_hrd = reader.flag()?;
    if vcl_hrd {
        skip_hrd(reader)?;
    }
    if nal_hrd || vcl_hrd {
        reader.skip(1)?;
    }
    reader.skip(1)?;
    if reader.flag()? {
        reader.skip(1)?;
        for _ in 0..4 {
            reader.ue()?;
        }
        sps.reorder = Some(bounded(reader.ue()?, 16)?);
    }
    Ok(())
}

fn skip_hrd(reader: &mut BitReader<'_>) -> Result<(), Error> {
    let count = bounded(reader.ue()?, 31)?;
    reader.skip(8)?;
    for _ in 0..=count {
        reader.ue()?;
        reader.ue()?;
        reader.skip(1)?;
    }
    reader.skip(20)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1280x720, High, level 3.1, 25 frames a second, as x264 writes it.
    const SPS: [u8; 27] = [
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03,
        0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x83, 0x19, 0x60, 0x00,
    ];

    #[test]
    fn reads_a_sequence_parameter_set() {
        let sps = parse_sps(&SPS).unwrap();
        assert_eq!((sps.width, sps.height), (1280, 720));
        assert_eq!((sps.profile, sps.level), (100, 31));
        assert_eq!(sps.frames_per_1000_s, 25_000);
        assert!(sps.may_reorder());
    }

    #[test]
    fn builds_a_configuration_that_reads_back() {
        let pps: [u8; 4] = [0x68, 0xeb, 0xe3, 0xcb];
        let built = build_config(&[&SPS], &[&pps]).unwrap();
        let config = parse_config(&built).unwrap();
        assert_eq!(config.length_size, 4);
        assert_eq!(config.sps, [&SPS[..]]);
        assert_eq!(config.pps, [&pps[..]]);
        assert_eq!(build_config(&[&pps], &[]), None);
    }

    #[test]
    fn recovery_points_are_keyframes() {
        assert!(is_keyframe(&[0, 0, 0, 1, 0x65]));
        assert!(!is_keyframe(&[0, 0, 0, 1, 0x41]));
        // User data of 2 bytes, then a recovery point.
        let sei = [0x06, 5, 2, 1, 1, 6, 1, 0x84, 0x80];
        let mut unit = vec![0, 0, 0, 9];
        unit.extend_from_slice(&sei);
        assert!(is_keyframe(&unit));
        unit[9] = 4;
        assert!(!is_keyframe(&unit));
    }

    #[test]
    fn every_cut_is_an_error_or_a_value() {
        for end in 0..SPS.len() {
            let _ = parse_sps(&SPS[..end]);
        }
        assert!(parse_sps(&SPS[..8]).is_err());
    }
}
