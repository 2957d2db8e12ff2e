//! MPEG audio layers (ISO/IEC 11172-3 2.4.1.3, ISO/IEC 13818-3 2.4.2.3).

use super::Error;
use crate::base::bytes::Reader;

/// The lowest rate of MPEG-1; those below are MPEG-2 or 2.5.
pub const MPEG1_RATE_MIN: u32 = 32_000;

/// What a frame's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// True for MPEG-1, false for MPEG-2 and 2.5, which have the lower rates.
    pub mpeg1: bool,
    /// Layer: 1, 2 or 3.
    pub layer: u8,
    /// Samples a second.
    pub rate: u32,
    /// Channels.
    pub channels: u8,
    /// Samples of a frame.
    pub samples: u32,
}

/// Reads the four bytes that open a frame.
pub fn parse_header(frame: &[u8]) -> Result<Header, Error> {
    const RATES: [u32; 3] = [44_100, 48_000, 32_000];
    const MONO: u8 = 3;
    let [sync, version, rate, mode] = Reader::new(frame).array()?;
    if sync != 0xff || version & 0xe0 != 0xe0 {
        return Err(Error::Malformed);
    }
    let divisor = match version >> 3 & 3 {
        0 => 4,
        2 => 2,
        3 => 1,
        _ => return Err(Error::Malformed),
    };
    let layer = 4 - (version >> 1 & 3);
    let rate = RATES
        .get(usize::from(rate >> 2 & 3))
        .ok_or(Error::Malformed)?
        / divisor;
    let samples = match layer {
        1 => 384,
        2 => 1152,
        3 if divisor == 1 => 1152,
        3 => 576,
        _ => return Err(Error::Malformed),
    };
    Ok(Header {
        mpeg1: divisor == 1,
        layer,
        rate,
        channels: if mode >> 6 == MONO { 1 } else { 2 },
        samples,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_headers() {
        let high = parse_header(&[0xff, 0xfb, 0x90, 0x64]).unwrap();
        assert_eq!((high.rate, high.channels, high.samples), (44_100, 2, 1152));
        let low = parse_header(&[0xff, 0xf3, 0x84, 0xc4]).unwrap();
        assert_eq!((low.rate, low.channels, low.samples), (24_000, 1, 576));
        assert!(!low.mpeg1);
    }

    #[test]
    fn rejects_what_is_reserved() {
        for bytes in [
            [0xff, 0xeb, 0x90, 0],
            [0xff, 0xf9, 0x90, 0],
            [0xff, 0xfb, 0x9c, 0],
        ] {
            assert_eq!(parse_header(&bytes), Err(Error::Malformed));
        }
        assert_eq!(parse_header(&[0xff, 0xfb]), Err(Error::Short));
    }
}
