//! The ClientHello: put together and read before the state machine gets it.
//!
//! Which SRTP profile is agreed on is the crate's to say: under 1.2 it takes GCM where the client
//! has it, under 1.3 the client's first. Chromium's first is AES-CM with HMAC-SHA1, for which a
//! packet costs four times as much as for GCM, so such a client is answered by a state machine that
//! knows 1.2 alone. It has to be chosen before it sees the hello, which does not fit into one
//! datagram when it has a share of ML-KEM in it.
//!
//! A state machine that does not know 1.3 does not put into its random number that it does (RFC 8446
//! section 4.1.3), so the client goes along.

use std::borrow::Cow;
use std::ops::Range;

use crate::base::bytes::{Reader, Short};

use super::SrtpProfile;
use super::record::{CLIENT_HELLO, HANDSHAKE, Message, next_record};

/// The longest ClientHello. Those of Chromium and Firefox have 1410 and 1460 bytes; with shares of
/// every group that they know they would have 3000.
pub(super) const HELLO_BYTES_MAX: usize = 8192;

/// Pieces that have come and do not touch: as many as 8192 bytes have datagrams of 512.
const PIECES_MAX: usize = 16;

/// `use_srtp` (RFC 5764 section 4.1.1).
const USE_SRTP: u16 = 14;
/// `extended_master_secret` (RFC 7627 section 5.1), without which the crate refuses 1.2.
const EXTENDED_MASTER_SECRET: u16 = 23;
/// `supported_versions` (RFC 8446 section 4.2.1).
const SUPPORTED_VERSIONS: u16 = 43;

const DTLS_1_2: u16 = 0xfefd;
const DTLS_1_3: u16 = 0xfefc;

/// A server's first message, while it is incomplete.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// As long as the message says it is, with zeros where nothing has come.
    body: Vec<u8>,
    /// What has come; in order, apart from each other.
    pieces: Vec<Range<usize>>,
}

impl Assembly {
    /// Takes what a datagram has of it. Returns it once it is whole, as one record.
    ///
    /// Nobody has authenticated the pieces. One that contradicts those before it, or is of a
    /// message of another length, takes their place, so that the hello of a client that sends it
    /// again gets through.
    pub(super) fn take<'a>(&mut self, datagram: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let mut reader = Reader::new(datagram);
        while let Some(record) = next_record(&mut reader) {
            let Some((HANDSHAKE, mut rest)) = record.plain else {
                continue;
            };
            while let Ok(message) = Message::read(rest) {
                rest = &rest[Message::HEADER_SIZE + message.body.len()..];
                if message.kind != CLIENT_HELLO || message.number != 0 {
                    continue;
                }
                if message.offset == 0 && message.body.len() == message.length as usize {
                    self.clear();
                    return Some(Cow::Borrowed(record.whole));
                }
                if self.add(&message) {
                    // The record's header but for its length: its number is one that the client
                    // has used.
                    let head = &record.whole[..11];
                    return Some(Cow::Owned(self.record(head)));
                }
            }
        }
        None
    }

    /// Adds a piece; true if nothing is missing then.
    fn add(&mut self, message: &Message<'_>) -> bool {
        let length = message.length as usize;
        if length > HELLO_BYTES_MAX || message.body.is_empty() {
            return false;
        }
        let start = message.offset as usize;
        let piece = start..start + message.body.len();
        if self.body.len() != length || self.contradicts(&piece, message.body) {
            self.clear();
            self.body.resize(length, 0);
        }
        self.body[piece.clone()].copy_from_slice(message.body);
        let touches = |other: &Range<usize>| piece.start <= other.end && other.start <= piece.end;
        let mut merged = piece.clone();
        for other in self.pieces.iter().filter(|other| touches(other)) {
            merged = merged.start.min(other.start)..merged.end.max(other.end);
        }
        self.pieces.retain(|other| !touches(other));
        if self.pieces.len() == PIECES_MAX {
            self.pieces.remove(0);
        }
        let at = self
            .pieces
            .partition_point(|other| other.start < merged.start);
        self.pieces.insert(at, merged);
        self.pieces.first() == Some(&(0..length))
    }

    fn contradicts(&self, piece: &Range<usize>, bytes: &[u8]) -> bool {
        self.pieces.iter().any(|known| {
            let (from, to) = (known.start.max(piece.start), known.end.min(piece.end));
            from < to && self.body[from..to] != bytes[from - piece.start..to - piece.start]
        })
    }

    fn record(&mut self, head: &[u8]) -> Vec<u8> {
        // Both fit: at most 8192 bytes and a header.
        let length = self.body.len() as u32;
        let size = (Message::HEADER_SIZE + self.body.len()) as u16;
        let mut record = Vec::with_capacity(head.len() + 2 + usize::from(size));
        record.extend(head);
        record.extend(size.to_be_bytes());
        record.push(CLIENT_HELLO);
        record.extend(&length.to_be_bytes()[1..]);
        // Message number 0, from byte 0 on.
        record.extend([0; 5]);
        record.extend(&length.to_be_bytes()[1..]);
        record.append(&mut self.body);
        self.clear();
        record
    }

    fn clear(&mut self) {
        self.body.clear();
        self.pieces.clear();
    }
}

const _: () = assert!(Message::HEADER_SIZE + HELLO_BYTES_MAX <= u16::MAX as usize);

/// What of a ClientHello matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Offer {
    /// The first SRTP profile that is known here.
    first: Option<SrtpProfile>,
    has_gcm: bool,
    has_dtls12: bool,
    has_dtls13: bool,
    has_extended_master_secret: bool,
}

impl Offer {
    /// Of a record with a whole ClientHello.
    ///
    /// ```text
    /// version (2)  random (32)  session id (1, ..)  cookie (1, ..)  cipher suites (2, ..)
    /// compression (1, ..)  extensions (2, [type (2)  (2, ..)])
    /// ```
    pub(super) fn read(record: &[u8]) -> Result<Self, Short> {
        let plain = next_record(&mut Reader::new(record)).and_then(|record| record.plain);
        let (_, message) = plain.ok_or(Short)?;
        let mut reader = Reader::new(Message::read(message)?.body);
        reader.take(2 + 32)?;
        for _ in 0..2 {
            let size = reader.u8()?;
            reader.take(size.into())?;
        }
        let size = reader.u16()?;
        reader.take(size.into())?;
        let size = reader.u8()?;
        reader.take(size.into())?;
        let mut offer = Self::default();
        let size = reader.u16()?;
        let mut extensions = Reader::new(reader.take(size.into())?);
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let size = extensions.u16()?;
            let data = Reader::new(extensions.take(size.into())?);
            match kind {
                USE_SRTP => offer.read_profiles(data)?,
                SUPPORTED_VERSIONS => offer.read_versions(data)?,
                EXTENDED_MASTER_SECRET => offer.has_extended_master_secret = true,
                _ => {}
            }
        }
        Ok(offer)
    }

    fn read_profiles(&mut self, mut data: Reader<'_>) -> Result<(), Short> {
        let size = data.u16()?;
        let mut profiles = Reader::new(data.take(size.into())?);
        while !profiles.is_empty() {
            let Some(profile) = SrtpProfile::from_number(profiles.u16()?) else {
                continue;
            };
            self.first.get_or_insert(profile);
            self.has_gcm |= profile != SrtpProfile::Aes128CmSha1_80;
        }
        Ok(())
    }

    fn read_versions(&mut self, mut data: Reader<'_>) -> Result<(), Short> {
        let size = data.u8()?;
        let mut versions = Reader::new(data.take(size.into())?);
        while !versions.is_empty() {
            match versions.u16()? {
                DTLS_1_2 => self.has_dtls12 = true,
                DTLS_1_3 => self.has_dtls13 = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether GCM is to be had under 1.2 alone, and 1.2 is to be had.
    pub(super) fn has_gcm_under_1_2_only(&self) -> bool {
        self.first == Some(SrtpProfile::Aes128CmSha1_80)
            && self.has_gcm
            && self.has_dtls13
            && self.has_dtls12
            && self.has_extended_master_secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: [u16; 3] = [1, 8, 7];
    const FIREFOX: [u16; 4] = [7, 8, 1, 2];

    /// A piece of a ClientHello in a record of its own.
    fn piece(body: &[u8], range: Range<usize>) -> Vec<u8> {
        let number = |value: usize| u32::try_from(value).unwrap().to_be_bytes();
        let mut record = vec![HANDSHAKE, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9];
        record.extend(&number(12 + range.len())[2..]);
        record.push(CLIENT_HELLO);
        record.extend(&number(body.len())[1..]);
        record.extend([0, 0]);
        record.extend(&number(range.start)[1..]);
        record.extend(&number(range.len())[1..]);
        record.extend(&body[range]);
        record
    }

    fn whole(body: &[u8]) -> Vec<u8> {
        piece(body, 0..body.len())
    }

    fn hello(profiles: &[u16], versions: &[u16]) -> Vec<u8> {
        let list = |values: &[u16]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| value.to_be_bytes())
                .collect()
        };
        let mut extensions = Vec::new();
        let mut add = |kind: u16, data: Vec<u8>| {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            extensions.extend(data);
        };
        let sized = u16::try_from(2 * profiles.len()).unwrap().to_be_bytes();
        add(USE_SRTP, [&sized[..], &list(profiles), &[0]].concat());
        add(EXTENDED_MASTER_SECRET, Vec::new());
        if !versions.is_empty() {
            let size = u8::try_from(2 * versions.len()).unwrap();
            add(SUPPORTED_VERSIONS, [&[size][..], &list(versions)].concat());
        }
        let mut body = vec![0xfe, 0xfd];
        body.extend([7; 32]);
        body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        body
    }

    #[test]
    fn gcm_decides_the_version() {
        let both = [DTLS_1_3, DTLS_1_2];
        for (profiles, versions, expected) in [
            (&CHROMIUM[..], &both[..], true),
            (&FIREFOX[..], &both[..], false),
            (&CHROMIUM[..], &[DTLS_1_3][..], false),
            // 1.2 comes of itself.
            (&CHROMIUM[..], &[][..], false),
            (&[1][..], &both[..], false),
            (&[][..], &both[..], false),
            (&[2, 1, 0x1234, 7][..], &both[..], true),
        ] {
            let offer = Offer::read(&whole(&hello(profiles, versions))).unwrap();
            assert_eq!(
                offer.has_gcm_under_1_2_only(),
                expected,
                "{profiles:?} {versions:?}"
            );
        }
        let body = hello(&CHROMIUM, &both);
        for size in 0..body.len() {
            assert_eq!(Offer::read(&whole(&body[..size])), Err(Short), "{size}");
        }
    }

    /// As recorded; see the README beside them.
    #[test]
    fn real_clients_are_read() {
        for (name, recorded, expected) in [
            (
                "Chromium",
                &include_bytes!("../../../tests/data/dtls/chromium.hello")[..],
                true,
            ),
            (
                "Firefox",
                &include_bytes!("../../../tests/data/dtls/firefox.hello")[..],
                false,
            ),
            (
                "aiortc",
                &include_bytes!("../../../tests/data/dtls/aiortc.hello")[..],
                false,
            ),
        ] {
            let mut assembly = Assembly::default();
            let mut reader = Reader::new(recorded);
            let mut whole = None;
            while !reader.is_empty() {
                assert!(whole.is_none(), "{name}");
                let size = reader.u16().unwrap();
                whole = assembly.take(reader.take(size.into()).unwrap());
            }
            let offer = Offer::read(&whole.unwrap()).unwrap();
            assert!(offer.has_gcm, "{name}");
            assert_eq!(offer.has_gcm_under_1_2_only(), expected, "{name}");
        }
    }

    #[test]
    fn pieces_come_in_any_order() {
        let body = hello(&CHROMIUM, &[DTLS_1_3]);
        let mut assembly = Assembly::default();
        for range in [60..body.len(), 20..40, 30..60, 20..40] {
            assert!(assembly.take(&piece(&body, range)).is_none());
        }
        assert_eq!(assembly.take(&piece(&body, 0..20)).unwrap(), whole(&body));
        // Two in one datagram.
        let both = [piece(&body, 50..body.len()), piece(&body, 0..50)].concat();
        assert_eq!(assembly.take(&both).unwrap(), whole(&body));
        assert_eq!(assembly.take(&whole(&body)).unwrap(), whole(&body));
    }

    #[test]
    fn a_forged_piece_does_not_lock_the_hello_out() {
        let body = hello(&CHROMIUM, &[DTLS_1_3]);
        let forged = vec![9; body.len()];
        let other_length = vec![9; 4000];
        let mut assembly = Assembly::default();
        assert!(assembly.take(&piece(&forged, 0..50)).is_none());
        assert!(assembly.take(&piece(&other_length, 0..50)).is_none());
        assert!(assembly.take(&piece(&forged, 0..50)).is_none());
        assert!(assembly.take(&piece(&body, 0..60)).is_none());
        let rest = piece(&body, 60..body.len());
        assert_eq!(assembly.take(&rest).unwrap(), whole(&body));
        assert!(assembly.take(&piece(&forged, 0..50)).is_none());
        assert_eq!(assembly.take(&whole(&body)).unwrap(), whole(&body));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut assembly = Assembly::default();
        let long = vec![1; HELLO_BYTES_MAX + 1];
        assert!(assembly.take(&piece(&long, 0..1000)).is_none());
        assert!(assembly.body.is_empty());
        let body = vec![1; HELLO_BYTES_MAX];
        for at in 0..100 {
            assert!(assembly.take(&piece(&body, 2 * at..2 * at + 1)).is_none());
            assert!(assembly.pieces.len() <= PIECES_MAX);
        }
        assert_eq!(assembly.take(&whole(&body)).unwrap(), whole(&body));
    }
}
