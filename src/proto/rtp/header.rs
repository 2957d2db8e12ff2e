//! The header of a packet, without a copy (RFC 3550 section 5.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---+-+-+-------+-+-------------+-------------------------------+
//! |V=2|P|X|  CC   |M| payload type|       sequence number         |
//! +---+-+-+-------+-+-------------+-------------------------------+
//! |                           timestamp                           |
//! +---------------------------------------------------------------+
//! |                             SSRC                              |
//! +---------------------------------------------------------------+
//! |                      CSRC, CC of them                         |
//! +-------------------------------+-------------------------------+
//! |     profile, if X             |   words that follow           |
//! +-------------------------------+-------------------------------+
//! |                      extension elements                       |
//! +---------------------------------------------------------------+
//! |    payload ...                        padding ...     | count |
//! +---------------------------------------------------------------+
//! ```

use std::ops::Range;

use super::elements::Elements;
use super::error::Error;

/// The header without CSRCs and extensions.
pub const FIXED_BYTES: usize = 12;

pub(super) const VERSION: u8 = 0x80;
pub(super) const VERSION_MASK: u8 = 0xc0;
pub(super) const PADDING: u8 = 0x20;
pub(super) const EXTENSION: u8 = 0x10;
pub(super) const MARKER: u8 = 0x80;

/// A packet that is not encrypted, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// The marker bit.
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// In ticks of the payload type's clock.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
    packet: &'a [u8],
    elements: Elements<'a>,
    /// `FIXED_BYTES <= length <= packet.len() - padding`
    length: usize,
    padding: u8,
}

impl<'a> Header<'a> {
    /// Takes a packet apart.
    ///
    /// # Errors
    ///
    /// It is not RTP, or one of its lengths points beyond its end. Malformed extension elements
    /// are not an error: those before them are found, those behind them are not.
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Result<Self, Error> {
        let (length, elements) = measure(packet)?;
        let Some(
            &[
                first,
                second,
                s0,
                s1,
                t0,
                t1,
                t2,
                t3,
                ssrc0,
                ssrc1,
                ssrc2,
                ssrc3,
            ],
        ) = packet.first_chunk::<FIXED_BYTES>()
        else {
            return Err(Error::Short);
        };
        let padding = if first & PADDING == 0 {
            0
        } else {
            let count = packet.last().copied().unwrap_or_default();
            if count == 0 || usize::from(count) > packet.len() - length {
                return Err(Error::Padding);
            }
            count
        };
        Ok(Self {
            marker: second & MARKER != 0,
            payload_type: second & !MARKER,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([ssrc0, ssrc1, ssrc2, ssrc3]),
            packet,
            elements,
            length,
            padding,
        })
    }

    /// How many bytes the header has, CSRCs and extensions included.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How many bytes of padding the packet ends with; the last of them is the count.
    pub fn padding(&self) -> usize {
        usize::from(self.padding)
    }

    /// Where in the packet the payload is, without padding. It may be empty.
    pub fn payload_range(&self) -> Range<usize> {
        self.length..self.packet.len() - usize::from(self.padding)
    }

    /// The payload, without padding. It may be empty.
    pub fn payload(&self) -> &'a [u8] {
        self.packet.get(self.payload_range()).unwrap_or_default()
    }

    /// How many contributing sources are named, 0 to 15.
    pub fn csrc_count(&self) -> usize {
        self.packet
            .first()
            .map_or(0, |first| usize::from(first & 0x0f))
    }

    /// The contributing sources.
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        let bytes = self.packet.get(FIXED_BYTES..).unwrap_or_default();
        let (words, _) = bytes.as_chunks::<4>();
        words
            .iter()
            .take(self.csrc_count())
            .map(|word| u32::from_be_bytes(*word))
    }

    /// The extension elements: number and value of each.
    pub fn extensions(&self) -> Elements<'a> {
        self.elements
    }
}

/// How many bytes the header of a packet has, which may be encrypted behind it.
///
/// # Errors
///
/// It is not RTP, or its header does not fit in it.
#[inline]
pub fn header_length(packet: &[u8]) -> Result<usize, Error> {
    measure(packet).map(|(length, _)| length)
}

/// The SSRC of a packet, which may be encrypted behind its header.
#[inline]
pub fn ssrc_of(packet: &[u8]) -> Option<u32> {
    let (_, rest) = packet.split_first_chunk::<8>()?;
    rest.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[inline]
fn measure(packet: &[u8]) -> Result<(usize, Elements<'_>), Error> {
    let &[first, ..] = packet else {
        return Err(Error::Short);
    };
    if first & VERSION_MASK != VERSION {
        return Err(Error::Version);
    }
    let fixed = FIXED_BYTES + 4 * usize::from(first & 0x0f);
    let (_, rest) = packet.split_at_checked(fixed).ok_or(Error::Short)?;
    if first & EXTENSION == 0 {
        return Ok((fixed, Elements::NONE));
    }
    let (&[p0, p1, l0, l1], rest) = rest.split_first_chunk().ok_or(Error::Short)?;
    let bytes = 4 * usize::from(u16::from_be_bytes([l0, l1]));
    let block = rest.get(..bytes).ok_or(Error::Short)?;
    let elements = Elements::new(u16::from_be_bytes([p0, p1]), block);
    Ok((fixed + 4 + bytes, elements))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_packet_is_taken_apart() {
        let packet = [
            0x80, 0xe0, 0x12, 0x34, 0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3,
        ];
        let header = Header::parse(&packet).unwrap();
        assert!(header.marker);
        assert_eq!(header.payload_type, 96);
        assert_eq!(header.sequence, 0x1234);
        assert_eq!(header.timestamp, 9);
        assert_eq!(header.ssrc, 0xdead_beef);
        assert_eq!(header.length(), 12);
        assert_eq!(header.payload(), [1, 2, 3]);
        assert_eq!(header.csrcs().count(), 0);
        assert_eq!(header.extensions().count(), 0);
        assert_eq!(ssrc_of(&packet), Some(0xdead_beef));
        for cut in 0..12 {
            assert_eq!(Header::parse(&packet[..cut]).err(), Some(Error::Short));
        }
    }

    #[test]
    fn csrcs_extensions_and_padding_are_not_payload() {
        let packet = [
            0xb2, 0x60, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, // fixed, P, X, two CSRCs
            0, 0, 0, 7, 0, 0, 0, 8, // CSRCs
            0xbe, 0xde, 0, 1, 0x10, 0x55, 0, 0, // one element
            9, 9, // payload
            0, 0, 3, // padding
        ];
        let header = Header::parse(&packet).unwrap();
        assert_eq!(header.csrcs().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(header.length(), 28);
        assert_eq!(header.payload_range(), 28..30);
        assert_eq!(header.padding(), 3);
        assert_eq!(header.extensions().collect::<Vec<_>>(), [(1, &[0x55][..])]);
        assert_eq!(header_length(&packet[..28]), Ok(28));
        for cut in 0..28 {
            assert_eq!(header_length(&packet[..cut]), Err(Error::Short), "{cut}");
        }
    }

    #[test]
    fn padding_has_to_fit_and_may_be_all_there_is() {
        let mut packet = vec![0xa0, 0x60, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0];
        for (count, result) in [
            (0, Err(Error::Padding)),
            (1, Ok(2)),
            (3, Ok(0)),
            (4, Err(Error::Padding)),
            (255, Err(Error::Padding)),
        ] {
            packet[14] = count;
            let payload = Header::parse(&packet).map(|header| header.payload().len());
            assert_eq!(payload, result, "{count}");
        }
        assert_eq!(Header::parse(&packet[..12]).err(), Some(Error::Padding));
    }

    #[test]
    fn other_versions_are_refused() {
        let mut packet = [0; 12];
        for first in [0x00, 0x40, 0xc0] {
            packet[0] = first;
            assert_eq!(Header::parse(&packet).err(), Some(Error::Version));
        }
    }
}
