//! What can be wrong with AMF bytes.

use crate::base::bytes::Short;

/// Why a value could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The bytes end inside a value.
    #[error("AMF value is cut short")]
    Short,
    /// A type marker that is not read here.
    #[error("AMF type {0:#04x} is not supported")]
    Marker(u8),
    /// Objects or arrays nested deeper than [`DEPTH_MAX`](super::DEPTH_MAX).
    #[error("AMF value is nested too deep")]
    TooDeep,
    /// More values than [`VALUES_MAX`](super::VALUES_MAX).
    #[error("too many AMF values")]
    TooMany,
}

impl From<Short> for Error {
    fn from(Short: Short) -> Self {
        Self::Short
    }
}
