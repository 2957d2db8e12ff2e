//! Opens what a peer sends.

use std::fmt;

use crate::base::bytes::{Reader, Short};

use super::cipher::{Cipher, Number, Purpose};
use super::outbound::rtcp_aad;
use super::sources::Sources;
use super::{Error, Profile, RTCP_ENCRYPTED, RTCP_FIXED_BYTES, RTCP_INDEX_BYTES, RTP_FIXED_BYTES};

/// Words of the replay window of RTP: 512 packets, a second of 5 Mbit/s, because a peer without a
/// repair stream answers a NACK with the packet itself.
const RTP_WINDOW_WORDS: usize = 8;

/// Words of the replay window of RTCP: 128 packets.
const RTCP_WINDOW_WORDS: usize = 2;

/// The indexes of a stream (RFC 3711 section 9.2).
const RTP_INDEX_MAX: u64 = (1 << 48) - 1;

/// Opens packets of one peer.
pub struct Inbound {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_sources: Sources<RTP_WINDOW_WORDS>,
    rtcp_sources: Sources<RTCP_WINDOW_WORDS>,
}

/// An RTP packet that has been opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// How long the packet is without its tag.
    pub bytes: usize,
    /// Where the payload begins.
    pub header_bytes: usize,
    /// Which stream it is of.
    pub ssrc: u32,
    /// The rollover counter in bits 16 to 47, and the sequence number below it.
    pub index: u64,
}

impl Inbound {
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
            rtp_sources: Sources::new(),
            rtcp_sources: Sources::new(),
        }
    }

    /// The suite.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Opens an RTP packet in place (RFC 3711 section 3.3, RFC 7714 section 8).
    ///
    /// The packet is the first [`Opened::bytes`]. After an error the bytes are of no use.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the packet. [`Error::Replayed`] and [`Error::TooOld`] are found
    /// before the tag is looked at, so that they cost nearly nothing.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<Opened, Error> {
        let header = Header::read(packet)?;
        let tag_bytes = self.profile.rtp_tag_bytes();
        let bytes = packet
            .len()
            .checked_sub(tag_bytes)
            .filter(|bytes| header.bytes <= *bytes)
            .ok_or(Error::Short)?;
        let newest = self.rtp_sources.newest(header.ssrc);
        let index = guess_index(newest, header.sequence)?;
        self.rtp_sources.check(header.ssrc, index)?;
        let number = Number {
            ssrc: header.ssrc,
            index,
        };
        match &self.rtp {
            Cipher::Gcm(gcm) => {
                let (packet, tag) = packet.split_at_mut(bytes);
                let (header, text) = packet.split_at_mut(header.bytes);
                gcm.open(number, header, text, tag)?;
            }
            Cipher::CounterMode(mode) => {
                // The rollover counter takes the tag's place behind the packet, as in sealing.
                let mut tag = [0; 10];
                let tag = &mut tag[..tag_bytes];
                tag.copy_from_slice(&packet[bytes..]);
                let roc = (index >> 16) as u32;
                packet[bytes..bytes + 4].copy_from_slice(&roc.to_be_bytes());
                mode.verify(&packet[..bytes + 4], tag)?;
                mode.crypt(number, &mut packet[header.bytes..bytes]);
            }
        }
        self.rtp_sources.mark(header.ssrc, index);
        Ok(Opened {
            bytes,
            header_bytes: header.bytes,
            ssrc: header.ssrc,
            index,
        })
    }

    /// Opens a compound RTCP packet in place (RFC 3711 section 3.4, RFC 7714 section 9) and says
    /// how long it is.
    ///
    /// # Errors
    ///
    /// As [`unprotect_rtp`](Self::unprotect_rtp), and [`Error::Unencrypted`].
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Error> {
        let tag_bytes = self.profile.rtcp_tag_bytes();
        let bytes = packet
            .len()
            .checked_sub(tag_bytes + RTCP_INDEX_BYTES)
            .filter(|bytes| *bytes >= RTCP_FIXED_BYTES)
            .ok_or(Error::Short)?;
        let mut reader = Reader::new(packet);
        if reader.u32()? >> 30 != 2 {
            return Err(Error::Version);
        }
        let ssrc = reader.u32()?;
        // GCM has its tag before the index, HMAC behind it.
        let word_at = match &self.rtcp {
            Cipher::Gcm(_) => bytes + tag_bytes,
            Cipher::CounterMode(_) => bytes,
        };
        let word = Reader::new(&packet[word_at..]).u32()?;
        if word & RTCP_ENCRYPTED == 0 {
            return Err(Error::Unencrypted);
        }
        let index = u64::from(word & !RTCP_ENCRYPTED);
        self.rtcp_sources.check(ssrc, index)?;
        let number = Number { ssrc, index };
        match &self.rtcp {
            Cipher::Gcm(gcm) => {
                let (packet, rest) = packet.split_at_mut(bytes);
                let (header, text) = packet.split_at_mut(RTCP_FIXED_BYTES);
                let aad = rtcp_aad(header, word.to_be_bytes());
                gcm.open(number, &aad, text, &rest[..tag_bytes])?;
            }
            Cipher::CounterMode(mode) => {
                let (signed, tag) = packet.split_at_mut(bytes + RTCP_INDEX_BYTES);
                mode.verify(signed, tag)?;
                mode.crypt(number, &mut signed[RTCP_FIXED_BYTES..bytes]);
            }
        }
        self.rtcp_sources.mark(ssrc, index);
        Ok(bytes)
    }

    /// What the tables of streams take on the heap.
    pub fn table_bytes(&self) -> usize {
        self.rtp_sources.heap_bytes() + self.rtcp_sources.heap_bytes()
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

impl From<Short> for Error {
    fn from(_: Short) -> Self {
        Self::Short
    }
}

/// What of an RTP header matters here (RFC 3550 section 5.1).
struct Header {
    bytes: usize,
    sequence: u16,
    ssrc: u32,
}

impl Header {
    fn read(packet: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(packet);
        let first = reader.u8()?;
        reader.u8()?;
        let sequence = reader.u16()?;
        reader.u32()?;
        let ssrc = reader.u32()?;
        if first >> 6 != 2 {
            return Err(Error::Version);
        }
        let mut bytes = RTP_FIXED_BYTES + 4 * usize::from(first & 0x0f);
        if first & 0x10 != 0 {
            reader.take(bytes - RTP_FIXED_BYTES + 2)?;
            bytes += 4 + 4 * usize::from(reader.u16()?);
        }
        Ok(Self {
            bytes,
            sequence,
            ssrc,
        })
    }
}

/// The index nearest to the newest one of those with this sequence number (RFC 3711 section 3.3.1
/// and appendix A). A stream begins with a rollover counter of zero.
fn guess_index(newest: Option<u64>, sequence: u16) -> Result<u64, Error> {
    let Some(newest) = newest else {
        return Ok(sequence.into());
    };
    let ahead = sequence.wrapping_sub(newest as u16) as i16;
    let index = newest
        .checked_add_signed(ahead.into())
        // Nothing is before the first round, so it is a jump ahead within it.
        .unwrap_or_else(|| sequence.into());
    if index > RTP_INDEX_MAX {
        return Err(Error::KeyExhausted);
    }
    Ok(index)
}
