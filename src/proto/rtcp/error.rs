//! Why bytes are not RTCP.

use crate::base::bytes::Short;

/// Why bytes are not an RTCP packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Error {
    /// A packet ends before what it says it has.
    #[error("the packet ends early")]
    Short,
    /// A version other than 2.
    #[error("the version is not 2")]
    Version,
    /// Padding of no bytes, or of more than there are.
    #[error("the padding is malformed")]
    Padding,
    /// Feedback about more packets than can be in flight, or with a symbol that is reserved.
    #[error("the transport-wide feedback is malformed")]
    TransportCc,
}

impl From<Short> for Error {
    fn from(_: Short) -> Self {
        Self::Short
    }
}
