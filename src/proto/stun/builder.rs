//! Making messages.

use std::net::SocketAddr;

use bytes::Bytes;
use smallvec::SmallVec;

use super::attribute::{kind, xor_address};
use super::{
    BINDING, Class, ErrorCode, FINGERPRINT_MASK, HEADER_BYTES, Key, MAGIC_COOKIE, TransactionId,
};

/// A response and most requests fit; a long user name goes to the heap.
const INLINE_BYTES: usize = 256;

/// A message in the making. The attributes go in the order of the calls; [`Builder::sign`] is the
/// last of them.
#[derive(Clone, Debug)]
pub struct Builder {
    bytes: SmallVec<[u8; INLINE_BYTES]>,
    transaction: TransactionId,
}

impl Builder {
    /// A message of the binding method.
    pub fn new(class: Class, transaction: TransactionId) -> Self {
        let class = match class {
            Class::Request => 0x0000,
            Class::Indication => 0x0010,
            Class::Success => 0x0100,
            Class::Error => 0x0110,
        };
        let mut bytes = SmallVec::new();
        bytes.extend_from_slice(&(BINDING | class).to_be_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        bytes.extend_from_slice(&transaction.0);
        debug_assert_eq!(bytes.len(), HEADER_BYTES);
        Self { bytes, transaction }
    }

    /// USERNAME of a check: the fragment of whom it is for, then that of whom it is from (RFC 8445
    /// section 7.2.2). Each at most 256 bytes.
    pub fn username(mut self, to: &str, from: &str) -> Self {
        debug_assert!(to.len() <= 256 && from.len() <= 256);
        self.begin(kind::USERNAME, to.len() + 1 + from.len());
        self.bytes.extend_from_slice(to.as_bytes());
        self.bytes.push(b':');
        self.bytes.extend_from_slice(from.as_bytes());
        self.pad();
        self
    }

    /// PRIORITY.
    pub fn priority(self, priority: u32) -> Self {
        self.attribute(kind::PRIORITY, &priority.to_be_bytes())
    }

    /// USE-CANDIDATE.
    pub fn use_candidate(self) -> Self {
        self.attribute(kind::USE_CANDIDATE, &[])
    }

    /// ICE-CONTROLLING.
    pub fn controlling(self, tie_breaker: u64) -> Self {
        self.attribute(kind::ICE_CONTROLLING, &tie_breaker.to_be_bytes())
    }

    /// ICE-CONTROLLED.
    pub fn controlled(self, tie_breaker: u64) -> Self {
        self.attribute(kind::ICE_CONTROLLED, &tie_breaker.to_be_bytes())
    }

    /// XOR-MAPPED-ADDRESS.
    pub fn mapped_address(self, address: SocketAddr) -> Self {
        let (value, bytes) = xor_address(address, &self.transaction);
        self.attribute(
            kind::XOR_MAPPED_ADDRESS,
            value.get(..bytes).unwrap_or_default(),
        )
    }

    /// ERROR-CODE.
    pub fn error(mut self, code: ErrorCode) -> Self {
        let reason = code.reason().as_bytes();
        let number = code.number();
        self.begin(kind::ERROR_CODE, 4 + reason.len());
        self.bytes
            .extend_from_slice(&[0, 0, (number / 100) as u8, (number % 100) as u8]);
        self.bytes.extend_from_slice(reason);
        self.pad();
        self
    }

    /// UNKNOWN-ATTRIBUTES.
    pub fn unknown_attributes(mut self, kinds: &[u16]) -> Self {
        self.begin(kind::UNKNOWN_ATTRIBUTES, 2 * kinds.len());
        for kind in kinds {
            self.bytes.extend_from_slice(&kind.to_be_bytes());
        }
        self.pad();
        self
    }

    /// MESSAGE-INTEGRITY.
    pub fn sign(self, key: &Key) -> Self {
        let value = key.sign(&self.bytes);
        self.attribute(kind::MESSAGE_INTEGRITY, &value)
    }

    /// Adds FINGERPRINT and gives the message: one allocation, of just its size.
    pub fn finish(mut self) -> Bytes {
        self.set_length(8);
        let fingerprint = crc32fast::hash(&self.bytes) ^ FINGERPRINT_MASK;
        Bytes::copy_from_slice(
            &self
                .attribute(kind::FINGERPRINT, &fingerprint.to_be_bytes())
                .bytes,
        )
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.begin(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    fn begin(&mut self, kind: u16, bytes: usize) {
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&(bytes as u16).to_be_bytes());
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        self.set_length(0);
    }

    /// The header's length as if `more` bytes followed.
    fn set_length(&mut self, more: usize) {
        let length = (self.bytes.len() - HEADER_BYTES + more) as u16;
        if let Some(place) = self.bytes.get_mut(2..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::stun::Message;

    const ID: TransactionId = TransactionId([9; 12]);

    #[test]
    fn what_is_built_is_read() {
        let key = Key::new("a password");
        let bytes = Builder::new(Class::Request, ID)
            .username("abcde", "fgh")
            .priority(0x6e00_01ff)
            .use_candidate()
            .controlling(77)
            .controlled(78)
            .sign(&key)
            .finish();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.transaction, ID);
        assert_eq!(message.username, Some(&b"abcde:fgh"[..]));
        assert_eq!(message.priority, Some(0x6e00_01ff));
        assert!(message.use_candidate && message.has_fingerprint);
        assert_eq!(
            (message.controlling, message.controlled),
            (Some(77), Some(78))
        );
        assert!(message.is_authentic(&key));
        assert!(!message.is_authentic(&Key::new("another")));
    }

    #[test]
    fn addresses_and_errors_are_read() {
        for address in ["192.0.2.1:32853", "[2001:db8::1]:1"] {
            let address = address.parse().unwrap();
            let bytes = Builder::new(Class::Success, ID)
                .mapped_address(address)
                .finish();
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(message.mapped_address, Some(address));
            assert!(!message.is_authentic(&Key::new("")), "it is not signed");
        }
        for code in [ErrorCode::RoleConflict, ErrorCode::UnknownAttribute] {
            let bytes = Builder::new(Class::Error, ID)
                .error(code)
                .unknown_attributes(&[5])
                .finish();
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(message.error_code, Some(code.number()));
        }
    }

    #[test]
    fn a_long_user_name_fits() {
        let (to, from) = ("a".repeat(256), "b".repeat(256));
        let bytes = Builder::new(Class::Request, ID)
            .username(&to, &from)
            .finish();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.username, Some(format!("{to}:{from}").as_bytes()));
    }
}
