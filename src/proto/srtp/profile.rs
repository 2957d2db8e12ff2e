//! The suites, and what DTLS has to export for them.

use super::{Inbound, Outbound};

/// A protection profile of DTLS-SRTP (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`.
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`.
    AeadAes256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`, which every WebRTC endpoint has (RFC 8827 section 6.5).
    AesCm128HmacSha1_80,
    /// `SRTP_AES128_CM_HMAC_SHA1_32`.
    AesCm128HmacSha1_32,
}

impl Profile {
    /// The preferred one first: GCM with a short key costs the least.
    pub const ALL: [Self; 4] = [
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
        Self::AesCm128HmacSha1_80,
        Self::AesCm128HmacSha1_32,
    ];

    /// The number of the profile in the `use_srtp` extension.
    pub fn id(self) -> u16 {
        match self {
            Self::AesCm128HmacSha1_80 => 0x0001,
            Self::AesCm128HmacSha1_32 => 0x0002,
            Self::AeadAes128Gcm => 0x0007,
            Self::AeadAes256Gcm => 0x0008,
        }
    }

    /// The profile of a number of the `use_srtp` extension.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.id() == id)
    }

    /// The length of a master key.
    pub fn key_bytes(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            Self::AeadAes128Gcm | Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 16,
        }
    }

    /// The length of a master salt.
    pub fn salt_bytes(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 14,
        }
    }

    /// What DTLS exports for both directions.
    pub fn keying_bytes(self) -> usize {
        2 * (self.key_bytes() + self.salt_bytes())
    }

    /// What sealing adds to an RTP packet.
    pub fn rtp_tag_bytes(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
            Self::AesCm128HmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 => 4,
        }
    }

    /// The tag of an RTCP packet; sealing adds 4 bytes more, the index.
    pub fn rtcp_tag_bytes(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
            // The short tag is for RTP alone (RFC 5764 section 4.1.2).
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 10,
        }
    }
}

/// Our part in the DTLS handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We began it.
    Client,
    /// The peer began it.
    Server,
}

/// Both directions from what DTLS exported under `EXTRACTOR-dtls_srtp` (RFC 5764 section 4.2).
///
/// # Panics
///
/// If `material` is not of [`Profile::keying_bytes`].
pub fn pair(profile: Profile, role: Role, material: &[u8]) -> (Inbound, Outbound) {
    assert_eq!(material.len(), profile.keying_bytes());
    let (keys, salts) = material.split_at(2 * profile.key_bytes());
    let (client_key, server_key) = keys.split_at(profile.key_bytes());
    let (client_salt, server_salt) = salts.split_at(profile.salt_bytes());
    let (client, server) = ((client_key, client_salt), (server_key, server_salt));
    let (ours, theirs) = match role {
        Role::Client => (client, server),
        Role::Server => (server, client),
    };
    (
        Inbound::new(profile, theirs.0, theirs.1),
        Outbound::new(profile, ours.0, ours.1),
    )
}
