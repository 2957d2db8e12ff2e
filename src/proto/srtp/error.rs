//! What can be wrong with a packet.

/// Why a packet was not opened or not sealed. It is dropped and counted; no error ends a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Too short for its header, its tag, or what the header announces.
    #[error("packet is cut short")]
    Short,
    /// Not version 2.
    #[error("not version 2")]
    Version,
    /// RTCP that is not encrypted.
    #[error("RTCP is not encrypted")]
    Unencrypted,
    /// A packet that came before. Firefox sends old packets again to probe for bandwidth.
    #[error("packet came before")]
    Replayed,
    /// Older than the replay window, so that nobody knows whether it came before.
    #[error("packet is too old")]
    TooOld,
    /// The tag is not that of this packet.
    #[error("packet is not authentic")]
    NotAuthentic,
    /// As many packets as one key is good for (RFC 3711 section 9.2).
    #[error("key is used up")]
    KeyExhausted,
}
