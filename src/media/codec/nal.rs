//! NAL units: what H.264 and HEVC have in common.

use super::{Error, bits::BitReader};

/// The four-byte start code of Annex B.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The largest parameter set looked into. The worst legal SPS, with every scaling list and 64
/// reference picture sets, stays below it.
const PARAMETER_SET_BYTES_MAX: usize = 4096;

/// The NAL units of an access unit in canonical form (4-byte lengths). Empty units are passed
/// over; a length beyond the end gives one error and ends the iteration.
pub fn units(data: &[u8]) -> Units<'_> {
    units_with_length(data, 4)
}

/// The same for lengths of 1, 2, 3 or 4 bytes.
pub fn units_with_length(data: &[u8], length_size: usize) -> Units<'_> {
    debug_assert!((1..=4).contains(&length_size));
    Units {
        rest: data,
        length_size: length_size.clamp(1, 4),
    }
}

/// Iterates over NAL units.
#[derive(Clone, Debug)]
pub struct Units<'a> {
    rest: &'a [u8],
    length_size: usize,
}

impl<'a> Iterator for Units<'a> {
    type Item = Result<&'a [u8], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let Some((length, rest)) = self.rest.split_at_checked(self.length_size) else {
                self.rest = &[];
                return Some(Err(Error::Short));
            };
            let length = length
                .iter()
                .fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
            let Some((unit, rest)) = rest.split_at_checked(length) else {
                self.rest = &[];
                return Some(Err(Error::Short));
            };
            self.rest = rest;
            if !unit.is_empty() {
                return Some(Ok(unit));
            }
        }
    }
}

/// Writes the access unit with 4-byte lengths, for a publisher whose configuration announced
/// shorter ones.
pub fn widen_lengths(data: &[u8], length_size: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    for unit in units_with_length(data, length_size) {
        push_unit(unit?, out);
    }
    Ok(())
}

/// Appends `unit` in canonical form.
pub fn push_unit(unit: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(unit.len()).expect("a unit is a part of a bounded frame");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(unit);
}

/// Appends `unit` with a start code.
pub fn push_annex_b(unit: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&START_CODE);
    out.extend_from_slice(unit);
}

/// Writes the access unit with start codes. What precedes a broken unit is written.
pub fn to_annex_b(data: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    for unit in units(data) {
        push_annex_b(unit?, out);
    }
    Ok(())
}

/// The NAL units of a byte stream (ITU-T H.264 annex B), without the zeros around them.
pub fn annex_b_units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(bytes);
    std::iter::from_fn(move || {
        while let Some(from) = rest {
            let end = from
                .windows(3)
                .position(|window| window[..2] == [0, 0] && window[2] <= 1)
                .unwrap_or(from.len());
            rest = after_start_code(&from[end..]);
            // cabac_zero_words end in 3, so every trailing zero is padding.
            let end = from[..end]
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            if end > 0 {
                return Some(&from[..end]);
            }
        }
        None
    })
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    let at = bytes.windows(3).position(|window| window == [0, 0, 1])?;
    Some(&bytes[at + 3..])
}

/// The unit without its emulation prevention bytes (ITU-T H.264 7.4.1), cut to what a header
/// parser needs.
pub(super) fn unescape(unit: &[u8]) -> Vec<u8> {
    let unit = &unit[..unit.len().min(PARAMETER_SET_BYTES_MAX)];
    let mut plain = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for byte in unit {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        plain.push(*byte);
    }
    plain
}

/// Passes over the aspect ratio, overscan and video signal fields, which open the VUI of both
/// codecs (ITU-T H.264 E.1.1, H.265 E.2.1).
pub(super) fn skip_vui_opening(reader: &mut BitReader<'_>) -> Result<(), Error> {
    const EXTENDED_SAR: u32 = 255;
    if reader.flag()? && reader.bits(8)? == EXTENDED_SAR {
        reader.skip(32)?;
    }
    if reader.flag()? {
        reader.skip(1)?;
    }
    if reader.flag()? {
        reader.skip(4)?;
        if reader.flag()? {
            reader.skip(24)?;
        }
    }
    if reader.flag()? {
        reader.ue()?;
        reader.ue()?;
    }
    Ok(())
}

/// Frames in 1000 seconds for `time_scale` ticks a second and `ticks` a frame; 0 when absurd.
pub(super) fn frame_rate(time_scale: u32, ticks: u64) -> u32 {
    const FRAMES_PER_1000_S_MAX: u64 = 1_000_000;
    (u64::from(time_scale) * 1000 + ticks / 2)
        .checked_div(ticks)
        .filter(|rate| *rate <= FRAMES_PER_1000_S_MAX)
        .map_or(0, |rate| rate as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_bounds_checked() {
        let data = [0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9, 1];
        let found: Vec<_> = units(&data).collect();
        assert_eq!(found, [Ok(&[7u8, 8][..]), Err(Error::Short)]);
    }

    #[test]
    fn annex_b_and_back() {
        let stream = [0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 5, 1, 2, 3, 0, 0, 0, 0, 1, 6];
        let found: Vec<_> = annex_b_units(&stream).collect();
        assert_eq!(found, [&[9, 0xf0][..], &[5, 1, 2, 3], &[6]]);
        let mut canonical = Vec::new();
        found
            .iter()
            .for_each(|unit| push_unit(unit, &mut canonical));
        let mut again = Vec::new();
        to_annex_b(&canonical, &mut again).unwrap();
        assert_eq!(
            again,
            [0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 5, 1, 2, 3, 0, 0, 0, 1, 6]
        );
    }

    #[test]
    fn short_lengths_are_widened() {
        let mut out = Vec::new();
        widen_lengths(&[0, 1, 5, 0, 2, 6, 7], 2, &mut out).unwrap();
        assert_eq!(out, [0, 0, 0, 1, 5, 0, 0, 0, 2, 6, 7]);
    }

    #[test]
    fn emulation_prevention_is_removed() {
        assert_eq!(
            unescape(&[1, 0, 0, 3, 1, 0, 0, 3, 0]),
            [1, 0, 0, 1, 0, 0, 0]
        );
    }
}
