//! Seals what is sent.

use std::fmt;

use super::cipher::{Cipher, Number, Purpose};
use super::{Error, Profile, RTCP_ENCRYPTED, RTCP_FIXED_BYTES, RTP_FIXED_BYTES};

/// The largest index of RTCP that may be used (RFC 3711 section 9.2).
const RTCP_INDEX_MAX: u32 = RTCP_ENCRYPTED - 1;

/// Seals packets to one peer.
pub struct Outbound {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    /// Of the last RTCP packet. All streams share it: what must never repeat under one key is the
    /// pair of SSRC and index, and a peer sees only gaps.
    rtcp_index: u32,
}

impl Outbound {
    /// Of a master key and salt.
    ///
    /// # Panics
    ///
    /// If `key` is not of [`Profile::key_bytes`] or `salt` not of [`Profile::salt_bytes`].
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Self {
        Self {
            profile,
            rtp: Cipher::new(profile, Purpose::Rtp, key, salt),
            rtcp: Cipher::new(profile, Purpose::Rtcp, key, salt),
            rtcp_index: 0,
        }
    }

    /// The suite.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What [`protect_rtp`](Self::protect_rtp) needs behind the payload.
    pub fn rtp_tag_bytes(&self) -> usize {
        self.profile.rtp_tag_bytes()
    }

    /// Seals an RTP packet in place (RFC 3711 section 3.3, RFC 7714 section 8).
    ///
    /// `packet` is the packet and room for the tag at its end. The first `header_bytes` stay in the
    /// clear: the fixed header, contributing sources and the extension. `roc` is how often the
    /// sequence number of the packet's stream has wrapped; the caller sees to it that no stream
    /// uses a pair of `roc` and sequence number for two different packets.
    ///
    /// # Panics
    ///
    /// If `header_bytes` is less than 12 or leaves no room for the tag.
    pub fn protect_rtp(&self, roc: u32, header_bytes: usize, packet: &mut [u8]) {
        assert!(header_bytes >= RTP_FIXED_BYTES, "a header has 12 bytes");
        let number = rtp_number(roc, packet);
        let text_end = packet.len() - self.rtp_tag_bytes();
        match &self.rtp {
            Cipher::Gcm(gcm) => {
                let (packet, tag) = packet.split_at_mut(text_end);
                let (header, text) = packet.split_at_mut(header_bytes);
                gcm.seal(number, header, text, tag);
            }
            Cipher::CounterMode(mode) => {
                mode.crypt(number, &mut packet[header_bytes..text_end]);
                // The code is of the packet and the rollover counter, which is not sent: its place
                // is the tag's, until the tag is known.
                let (signed, tag) = (text_end + 4, text_end..packet.len());
                packet[text_end..signed].copy_from_slice(&roc.to_be_bytes());
                let code = mode.sign(&packet[..signed]);
                let tag = &mut packet[tag];
                tag.copy_from_slice(&code[..tag.len()]);
            }
        }
    }

    /// As [`protect_rtp`](Self::protect_rtp), but the payload is read from where all receivers
    /// share it: `packet` is the header, then room for `payload`, `trailer` (padding) and the tag.
    ///
    /// # Panics
    ///
    /// As `protect_rtp`, and if `packet` is not exactly that long.
    pub fn seal_rtp(
        &self,
        roc: u32,
        header_bytes: usize,
        payload: &[u8],
        trailer: &[u8],
        packet: &mut [u8],
    ) {
        assert!(header_bytes >= RTP_FIXED_BYTES, "a header has 12 bytes");
        let text_bytes = payload.len() + trailer.len();
        assert_eq!(
            packet.len(),
            header_bytes + text_bytes + self.rtp_tag_bytes()
        );
        match &self.rtp {
            Cipher::Gcm(gcm) => {
                let number = rtp_number(roc, packet);
                let (header, sealed) = packet.split_at_mut(header_bytes);
                gcm.seal_from(number, header, payload, trailer, sealed);
            }
            Cipher::CounterMode(_) => {
                let (text, rest) = packet[header_bytes..].split_at_mut(payload.len());
                text.copy_from_slice(payload);
                rest[..trailer.len()].copy_from_slice(trailer);
                self.protect_rtp(roc, header_bytes, packet);
            }
        }
    }

    /// Seals a compound RTCP packet in place and adds the index and the tag (RFC 3711 section 3.4,
    /// RFC 7714 section 9).
    ///
    /// # Errors
    ///
    /// [`Error::KeyExhausted`] after 2^31 packets, which is the end of this key.
    ///
    /// # Panics
    ///
    /// If `packet` is shorter than any RTCP packet.
    pub fn protect_rtcp(&mut self, packet: &mut Vec<u8>) -> Result<(), Error> {
        assert!(packet.len() >= RTCP_FIXED_BYTES, "a packet has a header");
        if self.rtcp_index == RTCP_INDEX_MAX {
            return Err(Error::KeyExhausted);
        }
        self.rtcp_index += 1;
        let number = Number {
            ssrc: word(packet, 4),
            index: u64::from(self.rtcp_index),
        };
        let word = (RTCP_ENCRYPTED | self.rtcp_index).to_be_bytes();
        let text_end = packet.len();
        match &self.rtcp {
            Cipher::Gcm(gcm) => {
                packet.resize(text_end + self.profile.rtcp_tag_bytes(), 0);
                let (text, tag) = packet.split_at_mut(text_end);
                let (header, text) = text.split_at_mut(RTCP_FIXED_BYTES);
                gcm.seal(number, &rtcp_aad(header, word), text, tag);
                packet.extend_from_slice(&word);
            }
            Cipher::CounterMode(mode) => {
                mode.crypt(number, &mut packet[RTCP_FIXED_BYTES..]);
                packet.extend_from_slice(&word);
                let code = mode.sign(packet);
                packet.extend_from_slice(&code[..self.profile.rtcp_tag_bytes()]);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("profile", &self.profile)
            .field("rtcp_index", &self.rtcp_index)
            .finish_non_exhaustive()
    }
}

/// What is authentic but in the clear: the header, and the index behind it (RFC 7714 section 9.2).
pub(super) fn rtcp_aad(header: &[u8], word: [u8; 4]) -> [u8; RTCP_FIXED_BYTES + 4] {
    let mut aad = [0; RTCP_FIXED_BYTES + 4];
    aad[..RTCP_FIXED_BYTES].copy_from_slice(header);
    aad[RTCP_FIXED_BYTES..].copy_from_slice(&word);
    aad
}

fn rtp_number(roc: u32, packet: &[u8]) -> Number {
    let sequence = u16::from_be_bytes([packet[2], packet[3]]);
    Number {
        ssrc: word(packet, 8),
        index: u64::from(roc) << 16 | u64::from(sequence),
    }
}

/// Four bytes at `at`, which the caller has checked.
fn word(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}
