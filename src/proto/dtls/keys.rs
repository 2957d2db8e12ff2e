//! Keys of SRTP, out of a handshake (RFC 5764 section 4.2).

use std::fmt;

/// How SRTP protects its packets, by the numbers of RFC 5764 section 4.1.2 and RFC 7714
/// section 14.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SrtpProfile {
    /// 0x0001, 16 bytes of key and 14 of salt.
    Aes128CmSha1_80,
    /// 0x0002, 16 bytes of key and 14 of salt.
    Aes128CmSha1_32,
    /// 0x0007, 16 bytes of key and 12 of salt.
    AeadAes128Gcm,
    /// 0x0008, 32 bytes of key and 12 of salt.
    AeadAes256Gcm,
}

impl SrtpProfile {
    /// The preferred one first: GCM with a short key costs the least.
    pub const ALL: [Self; 4] = [
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
        Self::Aes128CmSha1_80,
        Self::Aes128CmSha1_32,
    ];

    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Aes128CmSha1_80 => 0x0001,
            Self::Aes128CmSha1_32 => 0x0002,
            Self::AeadAes128Gcm => 0x0007,
            Self::AeadAes256Gcm => 0x0008,
        }
    }

    pub(super) fn from_number(number: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.number() == number)
    }

    /// From its name in specifications, such as `AEAD_AES_128_GCM`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// Its name in specifications, without `SRTP_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::Aes128CmSha1_80 => "AES128_CM_HMAC_SHA1_80",
            Self::Aes128CmSha1_32 => "AES128_CM_HMAC_SHA1_32",
        }
    }

    /// Bytes of keys and salts of both directions.
    pub(super) fn material_size(self) -> usize {
        2 * (self.key_size() + self.salt_size())
    }

    /// Bytes of a master key.
    #[must_use]
    pub fn key_size(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::Aes128CmSha1_32 | Self::AeadAes128Gcm => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of a master salt.
    #[must_use]
    pub fn salt_size(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::Aes128CmSha1_32 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }

    pub(super) fn from_inner(profile: dimpl::SrtpProfile) -> Option<Self> {
        // The crate's list may grow; what is not known here is not used.
        if profile == dimpl::SrtpProfile::AES128_CM_SHA1_80 {
            Some(Self::Aes128CmSha1_80)
        } else if profile == dimpl::SrtpProfile::AEAD_AES_128_GCM {
            Some(Self::AeadAes128Gcm)
        } else if profile == dimpl::SrtpProfile::AEAD_AES_256_GCM {
            Some(Self::AeadAes256Gcm)
        } else {
            None
        }
    }
}

/// 2 × 32 bytes of keys and 2 × 12 of salts.
const MATERIAL_BYTES_MAX: usize = 88;

/// Master keys and salts of both directions.
///
/// ```text
/// | client key | server key | client salt | server salt |
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKeys {
    profile: SrtpProfile,
    material: [u8; MATERIAL_BYTES_MAX],
}

impl SrtpKeys {
    pub(super) fn new(profile: SrtpProfile, material: &[u8]) -> Option<Self> {
        if material.len() != profile.material_size() {
            return None;
        }
        let mut keys = Self {
            profile,
            material: [0; MATERIAL_BYTES_MAX],
        };
        keys.material[..material.len()].copy_from_slice(material);
        Some(keys)
    }

    /// What they are for.
    #[must_use]
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// The key of what the DTLS client sends.
    #[must_use]
    pub fn client_key(&self) -> &[u8] {
        &self.material[..self.profile.key_size()]
    }

    /// The key of what the DTLS server sends.
    #[must_use]
    pub fn server_key(&self) -> &[u8] {
        &self.material[self.profile.key_size()..][..self.profile.key_size()]
    }

    /// The salt of what the DTLS client sends.
    #[must_use]
    pub fn client_salt(&self) -> &[u8] {
        &self.material[2 * self.profile.key_size()..][..self.profile.salt_size()]
    }

    /// The salt of what the DTLS server sends.
    #[must_use]
    pub fn server_salt(&self) -> &[u8] {
        let from = 2 * self.profile.key_size() + self.profile.salt_size();
        &self.material[from..][..self.profile.salt_size()]
    }
}

impl fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKeys")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

const _: () = assert!(MATERIAL_BYTES_MAX == 2 * (32 + 12));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn material_is_split_in_order() {
        let material: Vec<u8> = (0..60).collect();
        let keys = SrtpKeys::new(SrtpProfile::Aes128CmSha1_80, &material).unwrap();
        assert_eq!(keys.client_key(), &material[..16]);
        assert_eq!(keys.server_key(), &material[16..32]);
        assert_eq!(keys.client_salt(), &material[32..46]);
        assert_eq!(keys.server_salt(), &material[46..60]);
        assert!(SrtpKeys::new(SrtpProfile::AeadAes128Gcm, &material).is_none());
        assert!(!format!("{keys:?}").contains("16"));
    }
}
