//! Retransmissions (RFC 4588 section 4): the payload begins with the number of what is repeated.

use std::ops::Range;

use super::error::Error;
use super::header::Header;

/// The original sequence number, in front of the payload.
pub const OSN_BYTES: usize = 2;

/// What a retransmission repeats. SSRC, payload type and extensions are the original's business;
/// marker and timestamp are those of the retransmission.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Original {
    /// Its sequence number.
    pub sequence: u16,
    /// Where in the retransmission its payload is.
    pub payload: Range<usize>,
}

/// What a retransmission repeats; None if it repeats nothing, as Chromium's do that probe for
/// bandwidth.
///
/// # Errors
///
/// It has a payload, but not enough for a number.
pub fn original(header: &Header<'_>) -> Result<Option<Original>, Error> {
    let range = header.payload_range();
    match header.payload() {
        [] | [_, _] => Ok(None),
        [_] => Err(Error::Retransmission),
        &[high, low, ..] => Ok(Some(Original {
            sequence: u16::from_be_bytes([high, low]),
            payload: range.start + OSN_BYTES..range.end,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, 97, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn a_retransmission_names_what_it_repeats() {
        let packet = packet(&[0xff, 0xfe, 1, 2, 3]);
        let header = Header::parse(&packet).unwrap();
        let found = original(&header).unwrap().unwrap();
        assert_eq!(found.sequence, 0xfffe);
        assert_eq!(packet[found.payload], [1, 2, 3]);
    }

    /// Quirk 19: Chromium probes with retransmissions of nothing.
    #[test]
    fn empty_retransmissions_repeat_nothing() {
        for payload in [&[][..], &[0, 1]] {
            let packet = packet(payload);
            assert_eq!(original(&Header::parse(&packet).unwrap()), Ok(None));
        }
        let mut padded = packet(&[0, 0, 3]);
        padded[0] |= 0x20;
        assert_eq!(original(&Header::parse(&padded).unwrap()), Ok(None));
        let short = packet(&[1]);
        let error = original(&Header::parse(&short).unwrap());
        assert_eq!(error, Err(Error::Retransmission));
    }
}
