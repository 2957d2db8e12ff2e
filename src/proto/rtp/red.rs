//! Redundant sound (RFC 2198): a payload that repeats older sound in front of its own.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |1|  block PT   |     timestamp offset      |   block length    |  for each older block
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0|  block PT   |  for the packet's own block, then all blocks in this order
//! +-+-+-+-+-+-+-+-+
//! ```

use std::ops::Range;

use super::error::Error;

const FOLLOWS: u8 = 0x80;

/// The block of the packet's own time, which is the last one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Primary {
    /// Its payload type, 0 to 127.
    pub payload_type: u8,
    /// Where in the payload it is: to its end.
    pub range: Range<usize>,
}

/// Finds the block of the packet's own time.
///
/// # Errors
///
/// The payload ends before its headers do, or before the older blocks that they announce.
pub fn primary(payload: &[u8]) -> Result<Primary, Error> {
    let mut rest = payload;
    let mut older_bytes = 0;
    loop {
        match rest {
            [first, _, high, low, after @ ..] if first & FOLLOWS != 0 => {
                older_bytes += usize::from(high & 3) << 8 | usize::from(*low);
                rest = after;
            }
            [first, blocks @ ..] if first & FOLLOWS == 0 => {
                let begin = payload.len() - blocks.len() + older_bytes;
                if begin > payload.len() {
                    return Err(Error::Redundancy);
                }
                return Ok(Primary {
                    payload_type: *first,
                    range: begin..payload.len(),
                });
            }
            _ => return Err(Error::Redundancy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_block_is_the_last() {
        // Opus as 111, one packet of 20 ms (960 ticks) before, 3 bytes long.
        let payload = [0x80 | 111, 0x0f, 0x00, 3, 111, 1, 2, 3, 9, 8, 7, 6];
        let primary = primary(&payload).unwrap();
        assert_eq!(primary.payload_type, 111);
        assert_eq!(payload[primary.range], [9, 8, 7, 6]);
    }

    #[test]
    fn blocks_may_be_many_long_or_none() {
        assert_eq!(primary(&[111, 5, 6]).unwrap().range, 1..3);
        assert_eq!(primary(&[111]).unwrap().range, 1..1);
        let mut two = vec![0x80 | 8, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0];
        let headers = two.len();
        two.extend([7; 1023]);
        assert_eq!(primary(&two).unwrap().range, headers + 1023..headers + 1023);
        two.push(1);
        assert_eq!(
            primary(&two).unwrap(),
            Primary {
                payload_type: 0,
                range: headers + 1023..headers + 1024
            }
        );
    }

    #[test]
    fn what_ends_early_is_refused() {
        let payload = [0x80 | 111, 0x0f, 0x00, 3, 111, 1, 2, 3];
        assert_eq!(primary(&payload).unwrap().range, 8..8);
        for length in 0..payload.len() {
            assert_eq!(primary(&payload[..length]), Err(Error::Redundancy));
        }
    }
}
