//! Why bytes are no message.

use crate::base::bytes::Short;

/// A datagram that is no STUN message. It is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StunError {
    /// It ends early.
    #[error("the message ends early")]
    Short,
    /// Its first bits, its cookie or its length are not those of a message.
    #[error("not a STUN message")]
    Header,
    /// An attribute has a value that it cannot have.
    #[error("an attribute has a wrong value")]
    Value,
    /// FINGERPRINT does not match: damaged, or another protocol that looks alike.
    #[error("the fingerprint is wrong")]
    Fingerprint,
}

impl From<Short> for StunError {
    fn from(_: Short) -> Self {
        Self::Short
    }
}
