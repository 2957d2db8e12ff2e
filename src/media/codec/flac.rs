//! FLAC: STREAMINFO and frame headers (RFC 9639 8.2, 9.1).

use super::Error;
use super::bits::BitReader;
use crate::base::bytes::Reader;

/// Bytes of a STREAMINFO block's contents.
pub const STREAMINFO_SIZE: usize = 34;

/// What STREAMINFO says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamInfo {
    /// Samples of a block; 0 when blocks differ.
    pub block_samples: u32,
    /// Samples a second.
    pub rate: u32,
    /// Channels.
    pub channels: u8,
    /// Bits a sample.
    pub bits: u8,
}

/// Reads a STREAMINFO block.
pub fn parse_streaminfo(init: &[u8]) -> Result<StreamInfo, Error> {
    if init.len() < STREAMINFO_SIZE {
        return Err(Error::Short);
    }
    let mut reader = BitReader::new(init);
    let (smallest, largest) = (reader.bits(16)?, reader.bits(16)?);
    reader.skip(24 + 24)?;
    let rate = reader.bits(20)?;
    if rate == 0 {
        return Err(Error::Malformed);
    }
    Ok(StreamInfo {
        block_samples: if smallest == largest { largest } else { 0 },
        rate,
        channels: reader.small(3)? + 1,
        bits: reader.small(5)? + 1,
    })
}

/// Samples of a frame, from its header.
pub fn frame_samples(frame: &[u8]) -> Result<u32, Error> {
    let mut reader = Reader::new(frame);
    let [sync, low, sizes, _] = reader.array()?;
    if sync != 0xff || low & 0xfc != 0xf8 {
        return Err(Error::Malformed);
    }
    match sizes >> 4 {
        1 => Ok(192),
        code @ 2..=5 => Ok(144 << code),
        code @ (6 | 7) => {
            skip_coded_number(&mut reader)?;
            let less_one = match code {
                6 => u32::from(reader.u8()?),
                _ => u32::from(reader.u16()?),
            };
            Ok(less_one + 1)
        }
        code @ 8..=15 => Ok(1 << code),
        _ => Err(Error::Malformed),
    }
}

/// The frame or sample number, coded as UTF-8 is but up to 36 bits.
fn skip_coded_number(reader: &mut Reader<'_>) -> Result<(), Error> {
    let more = match reader.u8()?.leading_ones() {
        0 => 0,
        ones @ 2..=7 => ones as usize - 1,
        _ => return Err(Error::Malformed),
    };
    reader.take(more)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_streaminfo() {
        let mut init = [0; STREAMINFO_SIZE];
        init[..4].copy_from_slice(&[0x10, 0, 0x10, 0]);
        init[10..14].copy_from_slice(&[0x0a, 0xc4, 0x42, 0xf0]);
        let info = parse_streaminfo(&init).unwrap();
        assert_eq!((info.rate, info.channels, info.bits), (44_100, 2, 16));
        assert_eq!(info.block_samples, 4096);
        assert_eq!(parse_streaminfo(&init[1..]), Err(Error::Short));
    }

    #[test]
    fn block_size_from_the_header() {
        assert_eq!(frame_samples(&[0xff, 0xf8, 0xc9, 0x18, 0]), Ok(4096));
        assert_eq!(frame_samples(&[0xff, 0xf8, 0x59, 0x18, 0]), Ok(4608));
        let coded = [0xff, 0xf8, 0x79, 0x18, 0xc2, 0x80, 0x03, 0xe7];
        assert_eq!(frame_samples(&coded), Ok(1000));
        assert_eq!(frame_samples(&coded[..7]), Err(Error::Short));
        assert_eq!(
            frame_samples(&[0xff, 0xf8, 0x09, 0x18]),
            Err(Error::Malformed)
        );
    }
}
