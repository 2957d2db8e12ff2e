//! The establishment protocol (RFC 8832 section 5).
//!
//! ```text
//! OPEN  3 (1)  kind (1)  priority (2)  reliability (4)  label size (2)  protocol size (2)
//!       label  protocol
//! ACK   2 (1)
//! ```

use std::time::Duration;

use crate::base::bytes::{Reader, Short};

use super::Reliability;
use super::error::DcepError;

const ACK: u8 = 2;
const OPEN: u8 = 3;

/// The bit of a kind that says that messages may overtake each other.
const UNORDERED: u8 = 0x80;

/// The longest label and the longest protocol. Those in use are words.
pub(super) const TEXT_BYTES_MAX: usize = 256;

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// Opens a channel on the stream that it comes on.
    Open(Open),
    /// Accepts it.
    Ack,
}

/// What a channel is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Open {
    pub(super) label: String,
    pub(super) protocol: String,
    pub(super) ordered: bool,
    pub(super) reliability: Reliability,
}

impl From<Short> for DcepError {
    fn from(_: Short) -> Self {
        Self::Malformed
    }
}

impl Message {
    /// Reads one; bytes behind it are ignored.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, DcepError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            ACK => Ok(Self::Ack),
            OPEN => Open::read(reader).map(Self::Open),
            _ => Err(DcepError::Malformed),
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        match self {
            Self::Ack => vec![ACK],
            Self::Open(open) => open.write(),
        }
    }
}

impl Open {
    fn read(mut reader: Reader<'_>) -> Result<Self, DcepError> {
        let kind = reader.u8()?;
        let _priority = reader.u16()?;
        let parameter = reader.u32()?;
        let label_size = usize::from(reader.u16()?);
        let protocol_size = usize::from(reader.u16()?);
        if label_size > TEXT_BYTES_MAX || protocol_size > TEXT_BYTES_MAX {
            return Err(DcepError::Text);
        }
        let reliability = match kind & !UNORDERED {
            0 => Reliability::Reliable,
            1 => Reliability::Retransmits(parameter),
            2 => Reliability::Lifetime(Duration::from_millis(parameter.into())),
            _ => return Err(DcepError::Kind),
        };
        let mut text = |size| {
            let bytes = reader.take(size)?.to_vec();
            String::from_utf8(bytes).map_err(|_| DcepError::Text)
        };
        Ok(Self {
            label: text(label_size)?,
            protocol: text(protocol_size)?,
            ordered: kind & UNORDERED == 0,
            reliability,
        })
    }

    fn write(&self) -> Vec<u8> {
        let (kind, parameter) = self.reliability.numbers();
        let size = |text: &str| u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
        let mut out = Vec::with_capacity(12 + self.label.len() + self.protocol.len());
        out.push(OPEN);
        out.push(if self.ordered { kind } else { kind | UNORDERED });
        out.extend([0, 0]);
        out.extend(parameter.to_be_bytes());
        out.extend(size(&self.label));
        out.extend(size(&self.protocol));
        out.extend(self.label.as_bytes());
        out.extend(self.protocol.as_bytes());
        out
    }
}

impl Reliability {
    /// As in an OPEN message: kind and parameter.
    pub(super) fn numbers(self) -> (u8, u32) {
        match self {
            Self::Reliable => (0, 0),
            Self::Retransmits(count) => (1, count),
            Self::Lifetime(lifetime) => {
                (2, u32::try_from(lifetime.as_millis()).unwrap_or(u32::MAX))
            }
        }
    }
}

const _: () = assert!(TEXT_BYTES_MAX <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for reliability in [
            Reliability::Reliable,
            Reliability::Retransmits(3),
            Reliability::Lifetime(Duration::from_millis(250)),
        ] {
            for ordered in [true, false] {
                let message = Message::Open(Open {
                    label: "chat ü".to_owned(),
                    protocol: "json".to_owned(),
                    ordered,
                    reliability,
                });
                assert_eq!(Message::read(&message.write()), Ok(message));
            }
        }
        assert_eq!(Message::read(&Message::Ack.write()), Ok(Message::Ack));
    }

    #[test]
    fn an_open_of_a_browser_is_read() {
        let bytes = b"\x03\x81\x01\x00\x00\x00\x00\x00\x00\x04\x00\x00data";
        let open = Open {
            label: "data".to_owned(),
            protocol: String::new(),
            ordered: false,
            reliability: Reliability::Retransmits(0),
        };
        assert_eq!(Message::read(bytes), Ok(Message::Open(open)));
    }

    #[test]
    fn what_is_cut_long_or_strange_is_refused() {
        let bytes = b"\x03\x00\x01\x00\x00\x00\x00\x00\x00\x04\x00\x02datajs";
        for size in 0..bytes.len() {
            assert_eq!(Message::read(&bytes[..size]), Err(DcepError::Malformed));
        }
        let mut long = bytes.to_vec();
        long[8] = 2;
        assert_eq!(Message::read(&long), Err(DcepError::Text));
        let mut kind = bytes.to_vec();
        kind[1] = 3;
        assert_eq!(Message::read(&kind), Err(DcepError::Kind));
        let mut text = bytes.to_vec();
        text[12] = 0xff;
        assert_eq!(Message::read(&text), Err(DcepError::Text));
        assert_eq!(Message::read(&[9]), Err(DcepError::Malformed));
    }
}
