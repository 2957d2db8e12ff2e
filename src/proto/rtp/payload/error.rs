//! Why a packet could not be read.

use crate::base::bytes::Short;

/// Why a payload was not taken. The frame it belongs to is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The payload ends before a value does.
    #[error("payload ends early")]
    Short,
    /// The packet's number is not above that of the packet before it.
    #[error("packet out of order")]
    Order,
    /// A structure of the payload format that is not supported, with its number.
    #[error("payload structure {0} is not supported")]
    Structure(u8),
    /// A fragment without its beginning, or one whose end is missing.
    #[error("fragments do not fit together")]
    Fragment,
    /// What the payload format or the codec does not allow.
    #[error("not valid for this payload format")]
    Malformed,
    /// The frame would become larger than is allowed.
    #[error("frame too large")]
    TooLarge,
}

impl From<Short> for Error {
    fn from(Short: Short) -> Self {
        Self::Short
    }
}
