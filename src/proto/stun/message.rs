//! A received message.

use std::net::SocketAddr;

use crate::base::bytes::Reader;

use super::attribute::{kind, read_xor_address};
use super::{
    BINDING, FINGERPRINT_MASK, HEADER_BYTES, INTEGRITY_BYTES, Key, MAGIC_COOKIE, StunError,
};

/// How many attributes that are not known are told to the peer; the rest is left unsaid.
const UNKNOWN_MAX: usize = 4;

/// What ties a response to its request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TransactionId(pub [u8; 12]);

/// What a message is for (RFC 8489 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// It wants a response.
    Request,
    /// It wants none.
    Indication,
    /// The request was carried out.
    Success,
    /// The request was refused.
    Error,
}

/// True if `bytes` are a STUN message and not DTLS, RTP or RTCP, which may come to the same port
/// (RFC 7983 section 7). The cookie makes it certain.
pub fn is_stun(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_BYTES
        && bytes.first().is_some_and(|first| *first < 4)
        && bytes.get(4..8) == Some(&MAGIC_COOKIE.to_be_bytes())
}

/// The USERNAME of a binding request, without a look at the rest. For finding whom a message is for
/// before it is worth more: nothing is checked but lengths.
pub fn username_of(bytes: &[u8]) -> Option<&str> {
    if !is_stun(bytes) || bytes.get(..2) != Some(&BINDING.to_be_bytes()) {
        return None;
    }
    let mut rest = Reader::new(bytes.get(HEADER_BYTES..)?);
    loop {
        let (kind, value) = attribute(&mut rest).ok()?;
        match kind {
            kind::USERNAME => return str::from_utf8(value).ok(),
            // What follows it is not authenticated.
            kind::MESSAGE_INTEGRITY => return None,
            _ => {}
        }
    }
}

/// ```text
///  type (16) | length without padding (16) | value, padded to a multiple of 4
/// ```
fn attribute<'a>(rest: &mut Reader<'a>) -> Result<(u16, &'a [u8]), StunError> {
    let kind = rest.u16()?;
    let length = usize::from(rest.u16()?);
    let value = rest.take(length)?;
    rest.take(length.wrapping_neg() % 4)?;
    Ok((kind, value))
}

/// A message over borrowed bytes, checked but for its integrity.
///
/// ```text
///  0 0 | method and class (14) | length of the attributes (16)
///  magic cookie (32)
///  transaction id (96)
///  attributes
/// ```
///
/// Where an attribute is there twice the first counts. Those behind MESSAGE-INTEGRITY do not count
/// (RFC 8489 section 14.5), but for FINGERPRINT.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// What it is for.
    pub class: Class,
    /// [`BINDING`] for all that concerns ICE; below 4096.
    pub method: u16,
    /// The same in request and response.
    pub transaction: TransactionId,
    /// USERNAME; at most 513 bytes in ICE, though any length is read.
    pub username: Option<&'a [u8]>,
    /// PRIORITY: that of a candidate that would be found by this check.
    pub priority: Option<u32>,
    /// USE-CANDIDATE: the peer nominates the path.
    pub use_candidate: bool,
    /// ICE-CONTROLLING: the peer controls; the number breaks ties.
    pub controlling: Option<u64>,
    /// ICE-CONTROLLED: the peer takes us to control.
    pub controlled: Option<u64>,
    /// XOR-MAPPED-ADDRESS.
    pub mapped_address: Option<SocketAddr>,
    /// ERROR-CODE; 300 to 699.
    pub error_code: Option<u16>,
    /// FINGERPRINT is there, and right.
    pub has_fingerprint: bool,
    /// What MESSAGE-INTEGRITY covers, and its value.
    integrity: Option<(&'a [u8], &'a [u8])>,
    unknown: [u16; UNKNOWN_MAX],
    unknown_count: usize,
}

impl<'a> Message<'a> {
    /// Reads a datagram, which is one message from end to end.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, StunError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u16()?;
        let length = usize::from(reader.u16()?);
        let cookie = reader.u32()?;
        let transaction = TransactionId(reader.array()?);
        if kind & 0xC000 != 0 || cookie != MAGIC_COOKIE || length != reader.remaining() {
            return Err(StunError::Header);
        }
        let mut message = Self {
            class: match (kind & 0x0100 != 0, kind & 0x0010 != 0) {
                (false, false) => Class::Request,
                (false, true) => Class::Indication,
                (true, false) => Class::Success,
                (true, true) => Class::Error,
            },
            method: (kind & 0x000F) | ((kind & 0x00E0) >> 1) | ((kind & 0x3E00) >> 2),
            transaction,
            username: None,
            priority: None,
            use_candidate: false,
            controlling: None,
            controlled: None,
            mapped_address: None,
            error_code: None,
            has_fingerprint: false,
            integrity: None,
            unknown: [0; UNKNOWN_MAX],
            unknown_count: 0,
        };
        while !reader.is_empty() {
            let before = bytes
                .get(..bytes.len() - reader.remaining())
                .unwrap_or_default();
            let (kind, value) = attribute(&mut reader)?;
            if kind == kind::FINGERPRINT {
                let right = crc32fast::hash(before) ^ FINGERPRINT_MASK;
                if value != right.to_be_bytes() || !reader.is_empty() {
                    return Err(StunError::Fingerprint);
                }
                message.has_fingerprint = true;
            } else if message.integrity.is_none() {
                message.take(kind, value, before)?;
            }
        }
        Ok(message)
    }

    fn take(&mut self, kind: u16, value: &'a [u8], before: &'a [u8]) -> Result<(), StunError> {
        let mut reader = Reader::new(value);
        match kind {
            kind::USERNAME => {
                self.username.get_or_insert(value);
            }
            kind::MESSAGE_INTEGRITY => {
                if value.len() != INTEGRITY_BYTES {
                    return Err(StunError::Value);
                }
                self.integrity = Some((before, value));
            }
            kind::PRIORITY => {
                self.priority.get_or_insert(reader.u32()?);
            }
            kind::USE_CANDIDATE => self.use_candidate = true,
            kind::ICE_CONTROLLING => {
                self.controlling.get_or_insert(reader.u64()?);
            }
            kind::ICE_CONTROLLED => {
                self.controlled.get_or_insert(reader.u64()?);
            }
            kind::XOR_MAPPED_ADDRESS => {
                self.mapped_address
                    .get_or_insert(read_xor_address(value, &self.transaction)?);
            }
            kind::ERROR_CODE => {
                // 21 bits that mean nothing, the hundreds, and the rest.
                let bits = reader.u32()?;
                let (class, number) = ((bits >> 8) & 7, bits & 0xFF);
                if !(3..=6).contains(&class) || number > 99 {
                    return Err(StunError::Value);
                }
                self.error_code.get_or_insert((class * 100 + number) as u16);
            }
            kind::UNKNOWN_ATTRIBUTES | kind::MESSAGE_INTEGRITY_SHA256 => {}
            kind if kind < kind::OPTIONAL => {
                if let Some(free) = self.unknown.get_mut(self.unknown_count) {
                    *free = kind;
                    self.unknown_count += 1;
                }
            }
            // SOFTWARE, and what browsers add of their own.
            _ => {}
        }
        Ok(())
    }

    /// True if the message was made by someone who has the key.
    pub fn is_authentic(&self, key: &Key) -> bool {
        self.integrity
            .is_some_and(|(before, value)| key.verify(before, value))
    }

    /// Attributes that must be understood and are not; the first four of them.
    pub fn unknown_attributes(&self) -> &[u16] {
        self.unknown.get(..self.unknown_count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::stun::Builder;

    const ID: TransactionId = TransactionId([7; 12]);

    #[test]
    fn datagrams_are_told_apart() {
        let message = Builder::new(Class::Request, ID).finish();
        assert!(is_stun(&message));
        assert!(!is_stun(&message[..19]));
        let mut dtls = message.to_vec();
        dtls[0] = 22;
        assert!(!is_stun(&dtls));
        let mut rtp = message.to_vec();
        rtp[0] = 0x80;
        assert!(!is_stun(&rtp));
        let mut cookie = message.to_vec();
        cookie[4] = 0;
        assert!(!is_stun(&cookie));
    }

    #[test]
    fn a_wrong_length_is_no_message() {
        let message = Builder::new(Class::Request, ID).priority(1).finish();
        assert_eq!(
            Message::parse(&message[..message.len() - 4]).unwrap_err(),
            StunError::Header
        );
        let longer = [&message[..], &[0; 4]].concat();
        assert_eq!(Message::parse(&longer).unwrap_err(), StunError::Header);
        let mut attribute_too_long = message.to_vec();
        attribute_too_long[23] = 200;
        assert_eq!(
            Message::parse(&attribute_too_long).unwrap_err(),
            StunError::Short
        );
    }

    #[test]
    fn attributes_behind_the_integrity_do_not_count() {
        let key = Key::new("password of 22 letters");
        let signed = Builder::new(Class::Request, ID).priority(1).sign(&key);
        let mut bytes = signed.finish().to_vec();
        bytes.truncate(bytes.len() - 8);
        bytes.extend_from_slice(&[0, 0x25, 0, 0]);
        bytes[3] -= 4;
        let message = Message::parse(&bytes).unwrap();
        assert!(message.is_authentic(&key));
        assert!(!message.use_candidate);
        assert_eq!(message.priority, Some(1));
    }

    #[test]
    fn a_change_anywhere_is_noticed() {
        let key = Key::new("password of 22 letters");
        let built = Builder::new(Class::Request, ID)
            .username("abcd", "efgh")
            .priority(1)
            .sign(&key)
            .finish();
        assert!(Message::parse(&built).unwrap().is_authentic(&key));
        for index in 0..built.len() {
            let mut bytes = built.to_vec();
            bytes[index] ^= 1;
            // The kind of FINGERPRINT may become one that is ignored.
            let noticed = !Message::parse(&bytes).is_ok_and(|message| message.has_fingerprint);
            assert!(noticed, "byte {index}");
            // Without the fingerprint it is the integrity that notices.
            bytes.truncate(built.len() - 8);
            bytes[3] = bytes[3].wrapping_sub(8);
            if index < bytes.len() && index != 3 {
                let authentic =
                    Message::parse(&bytes).is_ok_and(|message| message.is_authentic(&key));
                assert!(!authentic, "byte {index}");
            }
        }
    }

    #[test]
    fn attributes_that_must_be_understood_are_listed() {
        let mut bytes = Builder::new(Class::Request, ID).finish().to_vec();
        bytes.truncate(HEADER_BYTES);
        for kind in [0x8022_u16, 0x7001, 0x7002, 0x7003, 0x7004, 0x7005, 0xC057] {
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&[0, 1, 0xFF, 0, 0, 0]);
        }
        bytes[3] = 7 * 8;
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            message.unknown_attributes(),
            [0x7001, 0x7002, 0x7003, 0x7004]
        );
    }

    #[test]
    fn the_username_is_found_without_the_rest() {
        let key = Key::new("password of 22 letters");
        let request = Builder::new(Class::Request, ID)
            .priority(1)
            .username("abcd", "efgh")
            .sign(&key)
            .finish();
        assert_eq!(username_of(&request), Some("abcd:efgh"));
        assert_eq!(username_of(&request[..40]), None);
        let response = Builder::new(Class::Success, ID)
            .username("abcd", "efgh")
            .finish();
        assert_eq!(username_of(&response), None, "only requests");
        assert_eq!(
            username_of(&Builder::new(Class::Request, ID).finish()),
            None
        );
    }

    #[test]
    fn classes_and_methods_are_taken_apart() {
        for class in [
            Class::Request,
            Class::Indication,
            Class::Success,
            Class::Error,
        ] {
            let bytes = Builder::new(class, ID).finish();
            let message = Message::parse(&bytes).unwrap();
            assert_eq!((message.class, message.method), (class, BINDING));
        }
        let mut allocate = Builder::new(Class::Success, ID).finish().to_vec();
        allocate.truncate(HEADER_BYTES);
        allocate[..4].copy_from_slice(&[0x3F, 0xFF, 0, 0]);
        let message = Message::parse(&allocate).unwrap();
        assert_eq!((message.class, message.method), (Class::Error, 0xFFF));
    }
}
