//! Why bytes are not an RTP packet.

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Error {
    /// It ends before its header does.
    #[error("the packet ends early")]
    Short,
    /// A version other than 2.
    #[error("the version is not 2")]
    Version,
    /// Padding of no bytes, or of more than there are.
    #[error("the padding is malformed")]
    Padding,
    /// A retransmission too short to name what it repeats (RFC 4588 section 4).
    #[error("the retransmission carries no sequence number")]
    Retransmission,
    /// Redundant sound that announces more than there is (RFC 2198 section 3).
    #[error("the redundant blocks end early")]
    Redundancy,
}
