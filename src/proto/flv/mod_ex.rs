//! `ModEx`, the packets before a packet that modify it (Enhanced RTMP version 2).

use super::Error;
use crate::base::bytes::Reader;

/// The packet type that announces one, for video and for audio.
pub(super) const PACKET_TYPE: u8 = 7;
/// The modifier that carries nanoseconds.
const TIMESTAMP_OFFSET_NANO: u8 = 0;

/// Reads modifiers while `packet_type` announces one. Returns the type of the packet behind them
/// and its offset in nanoseconds.
///
/// ```text
/// size - 1 (8), 255: size - 1 (16)  data (size)  modifier (4)  packet type (4)
/// ```
pub(super) fn read(reader: &mut Reader<'_>, mut packet_type: u8) -> Result<(u8, u32), Error> {
    let mut offset_ns = 0;
    while packet_type == PACKET_TYPE {
        let mut size = usize::from(reader.u8()?) + 1;
        if size == 256 {
            size = usize::from(reader.u16()?) + 1;
        }
        let data = reader.take(size)?;
        let next = reader.u8()?;
        if next >> 4 == TIMESTAMP_OFFSET_NANO {
            offset_ns = Reader::new(data).u24()?.min(999_999);
        }
        packet_type = next & 0x0f;
    }
    Ok((packet_type, offset_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_is_read_and_other_modifiers_are_skipped() {
        let bytes = [
            &[0, 0xff, 0x17][..],
            &[2, 0x00, 0x01, 0x00, 0x07],
            &[255, 1, 0x2b],
            &[9; 300],
            &[0xf1, 0xee],
        ]
        .concat();
        let mut reader = Reader::new(&bytes);
        assert_eq!(read(&mut reader, PACKET_TYPE), Ok((1, 256)));
        assert_eq!(reader.rest(), &[0xee]);
    }

    #[test]
    fn a_cut_modifier_is_an_error() {
        let mut reader = Reader::new(&[4, 0, 0]);
        assert_eq!(read(&mut reader, PACKET_TYPE), Err(Error::Short));
    }
}
