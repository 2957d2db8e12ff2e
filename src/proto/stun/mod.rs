//! STUN messages (RFC 8489) as ICE uses them (RFC 8445 section 7): a view over received bytes that
//! copies nothing, and a builder.
//!
//! Integrity is by short-term credentials and HMAC-SHA1, which is what ICE has. Left out: long-term
//! credentials, MESSAGE-INTEGRITY-SHA256 and the methods of TURN.
//!
//! A message is one pass over a few attributes and one hash. Our own view needs no allocation and
//! keeps the key's state between messages.

mod attribute;
mod builder;
mod error;
mod key;
mod message;

pub use attribute::ErrorCode;
pub use builder::Builder;
pub use error::StunError;
pub use key::Key;
pub use message::{Class, Message, TransactionId, is_stun, username_of};

/// The method of all that ICE sends.
pub const BINDING: u16 = 1;

/// Bytes of a message before its attributes.
const HEADER_BYTES: usize = 20;
/// What tells a message from those of RFC 3489, at the fifth byte.
const MAGIC_COOKIE: u32 = 0x2112_A442;
/// What FINGERPRINT is combined with (section 14.7).
const FINGERPRINT_MASK: u32 = 0x5354_554E;
/// The value of MESSAGE-INTEGRITY.
const INTEGRITY_BYTES: usize = 20;

#[cfg(test)]
mod vectors;
