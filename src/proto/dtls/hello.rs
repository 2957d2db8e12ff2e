//! The ClientHello: put together and read before a state machine is chosen for it.
//!
//! Version and SRTP profile hang together: under 1.3 the crate takes the client's first profile, under
//! 1.2 [`server12`](super::server12) takes ours. Chromium's first is AES-CM with HMAC-SHA1, for which a
//! packet costs four times as much as for GCM, so such a client is answered with 1.2. The state machine
//! has to be chosen before it sees the hello, which does not fit into one datagram when it has a share
//! of ML-KEM in it.
//!
//! Where 1.2 is chosen although the server has 1.3, its random number does not say so (RFC 8446 section
//! 4.1.3), and the client goes along.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::base::bytes::{Reader, Short};

use super::assembly::Pieces;
use super::certificate::SignatureScheme;
use super::record::{CLIENT_HELLO, HANDSHAKE, Message, next_record};
use super::{SrtpOrder, SrtpProfile, Versions};

/// `supported_groups` (RFC 8422 section 5.1.1).
const SUPPORTED_GROUPS: u16 = 10;
/// `ec_point_formats` (RFC 8422 section 5.1.2).
const POINT_FORMATS: u16 = 11;
/// `signature_algorithms` (RFC 5246 section 7.4.1.4.1).
const SIGNATURE_ALGORITHMS: u16 = 13;
/// `use_srtp` (RFC 5764 section 4.1.1).
const USE_SRTP: u16 = 14;
/// `extended_master_secret` (RFC 7627 section 5.1), without which 1.2 is refused.
const EXTENDED_MASTER_SECRET: u16 = 23;
/// `supported_versions` (RFC 8446 section 4.2.1).
const SUPPORTED_VERSIONS: u16 = 43;
/// `renegotiation_info` (RFC 5746 section 3.2).
const RENEGOTIATION_INFO: u16 = 0xff01;

/// `TLS_EMPTY_RENEGOTIATION_INFO_SCSV` (RFC 5746 section 3.3), instead of the extension.
const RENEGOTIATION_SCSV: u16 = 0x00ff;

const DTLS_1_2: u16 = 0xfefd;
const DTLS_1_3: u16 = 0xfefc;

/// A server's first message, while it is incomplete.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pieces: Pieces,
}

impl Assembly {
    /// Takes what a datagram has of it. Returns it once it is whole, as one record.
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
                    self.pieces.clear();
                    return Some(Cow::Borrowed(record.whole));
                }
                if self.pieces.add(&message) {
                    // The record's header but for its length: its number is one that the client
                    // has used.
                    let head = &record.whole[..11];
                    return Some(Cow::Owned(self.record(head)));
                }
            }
        }
        None
    }

    fn record(&mut self, head: &[u8]) -> Vec<u8> {
        let body = self.pieces.whole().unwrap_or_default();
        // Both fit: at most 8192 bytes and a header.
        let length = body.len() as u32;
        let size = (Message::HEADER_SIZE + body.len()) as u16;
        let mut record = Vec::with_capacity(head.len() + 2 + usize::from(size));
        record.extend(head);
        record.extend(size.to_be_bytes());
        record.push(CLIENT_HELLO);
        record.extend(&length.to_be_bytes()[1..]);
        // Message number 0, from byte 0 on.
        record.extend([0; 5]);
        record.extend(&length.to_be_bytes()[1..]);
        record.extend(body);
        self.pieces.clear();
        record
    }
}

/// Cipher suites that 1.2 is spoken with (RFC 5289 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Suite {
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`, which every WebRTC endpoint has (RFC 8827 section
    /// 6.5).
    Aes128GcmSha256,
    /// `TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384`
    Aes256GcmSha384,
}

impl Suite {
    /// The preferred one first.
    const ALL: [Self; 2] = [Self::Aes128GcmSha256, Self::Aes256GcmSha384];

    pub(super) fn number(self) -> u16 {
        match self {
            Self::Aes128GcmSha256 => 0xc02b,
            Self::Aes256GcmSha384 => 0xc02c,
        }
    }
}

/// Groups that 1.2 agrees on keys in (RFC 8422 section 5.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Group {
    X25519,
    P256,
}

impl Group {
    /// The preferred one first.
    const ALL: [Self; 2] = [Self::X25519, Self::P256];

    pub(super) fn number(self) -> u16 {
        match self {
            Self::X25519 => 29,
            Self::P256 => 23,
        }
    }
}

/// What of a ClientHello matters here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Offer {
    version: u16,
    pub(super) random: [u8; 32],
    /// Those known here, in the client's order, each once.
    pub(super) profiles: SmallVec<[SrtpProfile; 4]>,
    pub(super) suite: Option<Suite>,
    pub(super) group: Option<Group>,
    pub(super) has_renegotiation_info: bool,
    pub(super) has_point_formats: bool,
    has_schemes: [bool; 2],
    has_no_compression: bool,
    has_supported_versions: bool,
    has_dtls12: bool,
    has_dtls13: bool,
    has_extended_master_secret: bool,
}

/// The state machine for a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    /// [`server12`](super::server12).
    Dtls12,
    /// The crate, with 1.3 alone.
    Dtls13,
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
        let mut offer = Self {
            version: reader.u16()?,
            random: reader.array()?,
            ..Self::default()
        };
        for _ in 0..2 {
            let size = reader.u8()?;
            reader.take(size.into())?;
        }
        let size = reader.u16()?;
        offer.read_suites(Reader::new(reader.take(size.into())?))?;
        let size = reader.u8()?;
        offer.has_no_compression = reader.take(size.into())?.contains(&0);
        let size = reader.u16()?;
        let mut extensions = Reader::new(reader.take(size.into())?);
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let size = extensions.u16()?;
            let mut data = Reader::new(extensions.take(size.into())?);
            match kind {
                SUPPORTED_GROUPS => offer.read_groups(list(&mut data)?)?,
                SIGNATURE_ALGORITHMS => offer.read_schemes(list(&mut data)?)?,
                USE_SRTP => offer.read_profiles(list(&mut data)?)?,
                SUPPORTED_VERSIONS => offer.read_versions(data)?,
                EXTENDED_MASTER_SECRET => offer.has_extended_master_secret = true,
                RENEGOTIATION_INFO => offer.has_renegotiation_info = true,
                POINT_FORMATS => offer.has_point_formats = true,
                _ => {}
            }
        }
        Ok(offer)
    }

    fn read_suites(&mut self, mut suites: Reader<'_>) -> Result<(), Short> {
        let mut has = [false; 2];
        while !suites.is_empty() {
            let number = suites.u16()?;
            self.has_renegotiation_info |= number == RENEGOTIATION_SCSV;
            for (has, suite) in has.iter_mut().zip(Suite::ALL) {
                *has |= number == suite.number();
            }
        }
        let first = Suite::ALL.into_iter().zip(has).find(|(_, has)| *has);
        self.suite = first.map(|(suite, _)| suite);
        Ok(())
    }

    fn read_groups(&mut self, mut groups: Reader<'_>) -> Result<(), Short> {
        let mut has = [false; 2];
        while !groups.is_empty() {
            let number = groups.u16()?;
            for (has, group) in has.iter_mut().zip(Group::ALL) {
                *has |= number == group.number();
            }
        }
        let first = Group::ALL.into_iter().zip(has).find(|(_, has)| *has);
        self.group = first.map(|(group, _)| group);
        Ok(())
    }

    fn read_schemes(&mut self, mut schemes: Reader<'_>) -> Result<(), Short> {
        while !schemes.is_empty() {
            let number = schemes.u16()?;
            self.has_schemes[0] |= number == SignatureScheme::EcdsaSha256.number();
            self.has_schemes[1] |= number == SignatureScheme::EcdsaSha384.number();
        }
        Ok(())
    }

    fn read_profiles(&mut self, mut profiles: Reader<'_>) -> Result<(), Short> {
        while !profiles.is_empty() {
            if let Some(profile) = SrtpProfile::from_number(profiles.u16()?)
                && !self.profiles.contains(&profile)
            {
                self.profiles.push(profile);
            }
        }
        Ok(())
    }

    fn read_versions(&mut self, mut data: Reader<'_>) -> Result<(), Short> {
        let size = data.u8()?;
        let mut versions = Reader::new(data.take(size.into())?);
        self.has_supported_versions = true;
        while !versions.is_empty() {
            match versions.u16()? {
                DTLS_1_2 => self.has_dtls12 = true,
                DTLS_1_3 => self.has_dtls13 = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether 1.2 is to be had, with a server that signs like this.
    pub(super) fn has_1_2(&self, scheme: SignatureScheme) -> bool {
        let has_version = if self.has_supported_versions {
            self.has_dtls12
        } else {
            self.version == DTLS_1_2
        };
        has_version
            && self.has_extended_master_secret
            && self.has_no_compression
            && self.suite.is_some()
            && self.group.is_some()
            && match scheme {
                SignatureScheme::EcdsaSha256 => self.has_schemes[0],
                SignatureScheme::EcdsaSha384 => self.has_schemes[1],
            }
    }

    /// Who answers.
    pub(super) fn choose(
        &self,
        versions: Versions,
        order: SrtpOrder,
        scheme: SignatureScheme,
    ) -> Choice {
        match versions {
            Versions::Dtls12 => return Choice::Dtls12,
            Versions::Dtls13 => return Choice::Dtls13,
            Versions::Both => {}
        }
        // The first that the crate knows, too.
        let is_known = |profile: &&SrtpProfile| **profile != SrtpProfile::Aes128CmSha1_32;
        let under_1_3 = self.profiles.iter().find(is_known).copied();
        let is_best = match order {
            SrtpOrder::ClientOrder => true,
            SrtpOrder::GcmFirst | SrtpOrder::Only(_) => under_1_3 == order.choose(&self.profiles),
        };
        if self.has_dtls13 && (is_best || !self.has_1_2(scheme)) {
            Choice::Dtls13
        } else {
            Choice::Dtls12
        }
    }
}

/// What is behind its size in two bytes.
fn list<'a>(data: &mut Reader<'a>) -> Result<Reader<'a>, Short> {
    let size = data.u16()?;
    Ok(Reader::new(data.take(size.into())?))
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::proto::dtls::assembly::{MESSAGE_BYTES_MAX, PIECES_MAX};

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
        add(SUPPORTED_GROUPS, vec![0, 4, 0, 24, 0, 23]);
        add(SIGNATURE_ALGORITHMS, vec![0, 4, 8, 4, 4, 3]);
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

    fn choice(record: &[u8], order: SrtpOrder) -> (Choice, Option<SrtpProfile>) {
        let offer = Offer::read(record).unwrap();
        let choice = offer.choose(Versions::Both, order, SignatureScheme::EcdsaSha256);
        (choice, order.choose(&offer.profiles))
    }

    #[test]
    fn the_best_profile_decides_the_version() {
        use SrtpOrder::{ClientOrder, GcmFirst, Only};
        use SrtpProfile::{AeadAes128Gcm, AeadAes256Gcm, Aes128CmSha1_32, Aes128CmSha1_80};
        let both = [DTLS_1_3, DTLS_1_2];
        for (profiles, versions, order, choice_expected, profile) in [
            (
                &CHROMIUM[..],
                &both[..],
                GcmFirst,
                Choice::Dtls12,
                Some(AeadAes128Gcm),
            ),
            (
                &FIREFOX[..],
                &both[..],
                GcmFirst,
                Choice::Dtls13,
                Some(AeadAes128Gcm),
            ),
            (
                &CHROMIUM[..],
                &both[..],
                ClientOrder,
                Choice::Dtls13,
                Some(Aes128CmSha1_80),
            ),
            (
                &CHROMIUM[..],
                &[DTLS_1_3][..],
                GcmFirst,
                Choice::Dtls13,
                Some(AeadAes128Gcm),
            ),
            (
                &CHROMIUM[..],
                &[][..],
                GcmFirst,
                Choice::Dtls12,
                Some(AeadAes128Gcm),
            ),
            (
                &[8, 7][..],
                &both[..],
                GcmFirst,
                Choice::Dtls12,
                Some(AeadAes128Gcm),
            ),
            (
                &[1][..],
                &both[..],
                GcmFirst,
                Choice::Dtls13,
                Some(Aes128CmSha1_80),
            ),
            (
                &[2, 0x1234, 2][..],
                &both[..],
                GcmFirst,
                Choice::Dtls12,
                Some(Aes128CmSha1_32),
            ),
            (
                &[2, 1][..],
                &both[..],
                GcmFirst,
                Choice::Dtls13,
                Some(Aes128CmSha1_80),
            ),
            (
                &FIREFOX[..],
                &both[..],
                Only(Aes128CmSha1_80),
                Choice::Dtls12,
                Some(Aes128CmSha1_80),
            ),
            (
                &[8, 1][..],
                &both[..],
                Only(AeadAes256Gcm),
                Choice::Dtls13,
                Some(AeadAes256Gcm),
            ),
            (
                &[8, 1][..],
                &both[..],
                Only(AeadAes128Gcm),
                Choice::Dtls12,
                None,
            ),
            (&[][..], &both[..], GcmFirst, Choice::Dtls13, None),
        ] {
            let found = choice(&whole(&hello(profiles, versions)), order);
            assert_eq!(
                found,
                (choice_expected, profile),
                "{profiles:?} {versions:?} {order:?}"
            );
        }
        let body = hello(&CHROMIUM, &both);
        for size in 0..body.len() {
            assert_eq!(Offer::read(&whole(&body[..size])), Err(Short), "{size}");
        }
        let offer = Offer::read(&whole(&body)).unwrap();
        assert_eq!(offer.group, Some(Group::P256));
        assert!(offer.has_1_2(SignatureScheme::EcdsaSha256));
        assert!(!offer.has_1_2(SignatureScheme::EcdsaSha384));
    }

    /// As recorded; see the README beside them.
    #[test]
    fn real_clients_are_read() {
        for (name, recorded, expected) in [
            (
                "Chromium",
                &include_bytes!("../../../tests/data/dtls/chromium.hello")[..],
                Choice::Dtls12,
            ),
            (
                "Firefox",
                &include_bytes!("../../../tests/data/dtls/firefox.hello")[..],
                Choice::Dtls13,
            ),
            (
                "aiortc",
                &include_bytes!("../../../tests/data/dtls/aiortc.hello")[..],
                Choice::Dtls12,
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
            let whole = whole.unwrap();
            let offer = Offer::read(&whole).unwrap();
            assert!(offer.has_1_2(SignatureScheme::EcdsaSha256), "{name}");
            assert_eq!(offer.suite, Some(Suite::Aes128GcmSha256), "{name}");
            assert_eq!(offer.group, Some(Group::X25519), "{name}");
            let gcm = Some(SrtpProfile::AeadAes128Gcm);
            assert_eq!(
                choice(&whole, SrtpOrder::GcmFirst),
                (expected, gcm),
                "{name}"
            );
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
        let long = vec![1; MESSAGE_BYTES_MAX + 1];
        assert!(assembly.take(&piece(&long, 0..1000)).is_none());
        assert_eq!(assembly.pieces.count(), 0);
        let body = vec![1; MESSAGE_BYTES_MAX];
        for at in 0..100 {
            assert!(assembly.take(&piece(&body, 2 * at..2 * at + 1)).is_none());
            assert!(assembly.pieces.count() <= PIECES_MAX);
        }
        assert_eq!(assembly.take(&whole(&body)).unwrap(), whole(&body));
    }
}
