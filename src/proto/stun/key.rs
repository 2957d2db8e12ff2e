//! The key of MESSAGE-INTEGRITY.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use super::{HEADER_BYTES, INTEGRITY_BYTES};

/// A password, ready to be used: what depends on it alone is hashed once.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl Key {
    /// The key of a short-term credential (RFC 8489 section 9.1.1). ICE's passwords are ASCII, which
    /// `OpaqueString` leaves as it is.
    pub fn new(password: &str) -> Self {
        Self(hmac::Key::new(
            hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            password.as_bytes(),
        ))
    }

    /// The HMAC of a message up to MESSAGE-INTEGRITY. The length in its header counts as if the
    /// message ended behind that attribute (section 14.5).
    pub(super) fn sign(&self, before: &[u8]) -> [u8; INTEGRITY_BYTES] {
        let length = (before.len() + 4 + INTEGRITY_BYTES - HEADER_BYTES) as u16;
        let mut context = hmac::Context::with_key(&self.0);
        context.update(before.get(..2).unwrap_or_default());
        context.update(&length.to_be_bytes());
        context.update(before.get(4..).unwrap_or_default());
        let mut value = [0; INTEGRITY_BYTES];
        value.copy_from_slice(context.sign().as_ref());
        value
    }

    pub(super) fn verify(&self, before: &[u8], value: &[u8]) -> bool {
        verify_slices_are_equal(&self.sign(before), value).is_ok()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}
