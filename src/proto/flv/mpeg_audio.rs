//! The header of an MPEG audio frame (ISO/IEC 11172-3 2.4.1.3, ISO/IEC 13818-3 2.4.1.3).

use crate::media::AudioFormat;

/// Samples a second of MPEG-1; MPEG-2 has half, the unofficial MPEG-2.5 a quarter.
const RATES: [u32; 3] = [44_100, 48_000, 32_000];

/// The rate and the channels of the frame that starts here.
///
/// ```text
/// sync (11)  version (2)  layer (2)  ...  rate (2, bits 20..22)  ...  mode (2, bits 24..26)
/// ```
pub(super) fn format(frame: &[u8]) -> Option<AudioFormat> {
    let header = u32::from_be_bytes(*frame.first_chunk()?);
    if header >> 21 != 0x7ff {
        return None;
    }
    let divisor = match (header >> 19) & 3 {
        0 => 4,
        2 => 2,
        3 => 1,
        _ => return None,
    };
    let rate = RATES.get(((header >> 10) & 3) as usize)? / divisor;
    let mono = (header >> 6) & 3 == 3;
    Some(AudioFormat {
        rate,
        channels: if mono { 1 } else { 2 },
        bits: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_channels() {
        let of = |bytes: [u8; 4]| format(&bytes).map(|f| (f.rate, f.channels));
        assert_eq!(of([0xff, 0xfb, 0x90, 0x00]), Some((44_100, 2)));
        assert_eq!(of([0xff, 0xfb, 0x94, 0xc0]), Some((48_000, 1)));
        assert_eq!(of([0xff, 0xf3, 0x90, 0x00]), Some((22_050, 2)));
        assert_eq!(of([0xff, 0xe3, 0x98, 0x00]), Some((8_000, 2)));
        assert_eq!(of([0xff, 0xfb, 0x9c, 0x00]), None);
        assert_eq!(of([0xff, 0x1b, 0x90, 0x00]), None);
        assert_eq!(format(&[0xff, 0xfb]), None);
    }
}
