//! Records protected by AES-GCM (RFC 5288, RFC 6347 section 4.1).
//!
//! ```text
//! type (1)  version (2)  epoch (2)  number (6)  length (2)  nonce (8)  text  tag (16)
//! ```

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::base::bytes::Reader;

use super::secrets::{Direction, SALT_BYTES};
use crate::proto::dtls::hello::Suite;

pub(super) const HEADER_BYTES: usize = 13;
const NONCE_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
/// What a record has beyond its text.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;

pub(super) const VERSION: [u8; 2] = [0xfe, 0xfd];

/// The epoch of all protected records: there is no renegotiation.
const EPOCH: u64 = 1;

/// One direction's key.
pub(super) struct Protection {
    key: LessSafeKey,
    salt: [u8; SALT_BYTES],
}

impl Protection {
    pub(super) fn new(suite: Suite, direction: &Direction) -> Self {
        let algorithm = match suite {
            Suite::Aes128GcmSha256 => &AES_128_GCM,
            Suite::Aes256GcmSha384 => &AES_256_GCM,
        };
        let key =
            UnboundKey::new(algorithm, direction.key()).expect("the key has the suite's size");
        Self {
            key: LessSafeKey::new(key),
            salt: direction.salt,
        }
    }

    fn nonce(&self, explicit: [u8; NONCE_BYTES]) -> Nonce {
        let mut nonce = [0; SALT_BYTES + NONCE_BYTES];
        nonce[..SALT_BYTES].copy_from_slice(&self.salt);
        nonce[SALT_BYTES..].copy_from_slice(&explicit);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What we send.
pub(super) struct Sealer {
    protection: Protection,
    /// Of the next record. 48 bits are not used up in any connection's life.
    number: u64,
}

impl Sealer {
    pub(super) fn new(protection: Protection) -> Self {
        Self {
            protection,
            number: 0,
        }
    }

    /// Appends a record to `datagram`. `text` has at most 16384 bytes.
    pub(super) fn seal(&mut self, kind: u8, text: &[u8], datagram: &mut Vec<u8>) {
        let number = (EPOCH << 48 | self.number).to_be_bytes();
        self.number += 1;
        let size = (NONCE_BYTES + text.len() + TAG_BYTES) as u16;
        datagram.reserve(OVERHEAD_BYTES + text.len());
        datagram.push(kind);
        datagram.extend(VERSION);
        datagram.extend(number);
        datagram.extend(size.to_be_bytes());
        // The number is the nonce, too, so that none is used twice.
        datagram.extend(number);
        let start = datagram.len();
        datagram.extend(text);
        let tag = self
            .protection
            .key
            .seal_in_place_separate_tag(
                self.protection.nonce(number),
                Aad::from(aad(number, kind, VERSION, text.len())),
                &mut datagram[start..],
            )
            .expect("a record is shorter than GCM's limit");
        datagram.extend(tag.as_ref());
    }
}

/// What the peer sends.
pub(super) struct Opener {
    protection: Protection,
    replay: Replay,
}

impl Opener {
    pub(super) fn new(protection: Protection) -> Self {
        Self {
            protection,
            replay: Replay::default(),
        }
    }

    /// The type and the text of a whole record, if it is authentic and has not been here.
    pub(super) fn open(&mut self, record: &[u8]) -> Option<(u8, Vec<u8>)> {
        let mut reader = Reader::new(record);
        let kind = reader.u8().ok()?;
        let version = reader.array().ok()?;
        let number: [u8; 8] = reader.array().ok()?;
        reader.u16().ok()?;
        let explicit = reader.array().ok()?;
        let text_bytes = reader.remaining().checked_sub(TAG_BYTES)?;
        let place = u64::from_be_bytes(number) & 0xffff_ffff_ffff;
        if number[..2] != [0, 1] || !self.replay.is_new(place) {
            return None;
        }
        let mut text = reader.rest().to_vec();
        let aad = Aad::from(aad(number, kind, version, text_bytes));
        let nonce = self.protection.nonce(explicit);
        self.protection
            .key
            .open_in_place(nonce, aad, &mut text)
            .ok()?;
        text.truncate(text_bytes);
        self.replay.note(place);
        Some((kind, text))
    }
}

fn aad(number: [u8; 8], kind: u8, version: [u8; 2], text_bytes: usize) -> [u8; 13] {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&number);
    aad[8] = kind;
    aad[9..11].copy_from_slice(&version);
    aad[11..].copy_from_slice(&(text_bytes as u16).to_be_bytes());
    aad
}

/// The newest 64 numbers (RFC 6347 section 4.1.2.6).
#[derive(Debug, Default)]
struct Replay {
    /// One more than the highest.
    next: u64,
    /// Bit 0 is the highest.
    seen: u64,
}

impl Replay {
    fn is_new(&self, number: u64) -> bool {
        match self.next.checked_sub(number + 1) {
            None => true,
            Some(age) => age < 64 && self.seen >> age & 1 == 0,
        }
    }

    fn note(&mut self, number: u64) {
        match self.next.checked_sub(number + 1) {
            None => {
                let steps = number + 1 - self.next;
                self.seen = if steps < 64 { self.seen << steps } else { 0 } | 1;
                self.next = number + 1;
            }
            Some(age) if age < 64 => self.seen |= 1 << age,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dtls::server12::secrets::Secrets;

    fn pair(suite: Suite) -> (Sealer, Opener) {
        let [direction, _] = Secrets::new(suite, &[1; 32], &[2; 99], [3; 32], [4; 32]).directions();
        let new = || Protection::new(suite, &direction);
        (Sealer::new(new()), Opener::new(new()))
    }

    #[test]
    fn what_is_sealed_is_opened_once_and_only_whole() {
        for suite in [Suite::Aes128GcmSha256, Suite::Aes256GcmSha384] {
            let (mut sealer, mut opener) = pair(suite);
            let mut record = Vec::new();
            sealer.seal(23, b"text", &mut record);
            assert_eq!(record.len(), OVERHEAD_BYTES + 4);
            for at in 0..record.len() {
                // The length is the record layer's to check.
                if !(11..13).contains(&at) {
                    let mut other = record.clone();
                    other[at] ^= 1;
                    assert_eq!(opener.open(&other), None, "{at}");
                }
                assert_eq!(opener.open(&record[..at]), None, "{at}");
            }
            assert_eq!(opener.open(&record), Some((23, b"text".to_vec())));
            assert_eq!(opener.open(&record), None);
        }
    }

    #[test]
    fn the_window_takes_each_number_once() {
        let mut replay = Replay::default();
        for (number, is_new) in [
            (0, true),
            (0, false),
            (5, true),
            (3, true),
            (3, false),
            (63, true),
            (0, false),
            (1, true),
            (100, true),
            (36, false),
            (37, true),
            (37, false),
            (0xffff_ffff_ffff, true),
            (100, false),
        ] {
            assert_eq!(replay.is_new(number), is_new, "{number}");
            if is_new {
                replay.note(number);
            }
        }
    }
}
