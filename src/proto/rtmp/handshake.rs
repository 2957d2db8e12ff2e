//! The handshake: Adobe RTMP 1.0 section 5.2, and the digest form that Flash players from version 9
//! on use to recognise a genuine server (public knowledge, not in the specification).
//!
//! ```text
//! C0, S0   version 3 (8)
//! C1, S1   time (32)  version, 0 without digest (32)  random (1528 bytes)
//! C2, S2   the other side's C1, S1
//! ```
//!
//! With digest, C1 and S1 hold an HMAC-SHA256 of their other 1504 bytes at an offset that four of
//! their bytes give, in one of two places:
//!
//! ```text
//! schema 0   time  version  digest block (764)  key block (764)    offset in bytes 8..12
//! schema 1   time  version  key block (764)  digest block (764)    offset in bytes 772..776
//! ```

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Error;
use crate::base::prng::Prng;

const VERSION: u8 = 3;
const PACKET_BYTES: usize = 1536;
const DIGEST_BYTES: usize = 32;
/// Where the offset of each schema stands.
const SCHEMA_OFFSETS_AT: [usize; 2] = [8, 772];
/// A digest block is 4 bytes of offset and 760 that hold the digest.
const DIGEST_POSITIONS: usize = 760 - DIGEST_BYTES;
/// What a server with digest calls itself in S1, a Flash Media Server 3.5.
const SERVER_VERSION: [u8; 4] = [3, 5, 1, 1];

const CLIENT_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001";
/// Follows either key where a digest is answered.
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57,
    0x6e, 0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];

type Packet = [u8; PACKET_BYTES];

/// One side of a handshake. Its buffer is as long as what has come.
#[derive(Debug)]
pub struct Handshake {
    side: Side,
    received: Vec<u8>,
}

#[derive(Debug)]
enum Side {
    /// Waits for C0 and C1, then answers with filler from the generator.
    ServerFirst(Prng),
    /// Waits for C2, which is not looked at: ffmpeg's does not follow the rules.
    ServerSecond,
    /// Waits for S0, S1 and S2.
    Client,
}

/// What the bytes so far have led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Waiting,
    /// These bytes are to be sent; the handshake goes on.
    Send(Bytes),
    /// These bytes, if any, are to be sent; chunks follow.
    Done(Bytes),
}

impl Handshake {
    /// The server's side; `seed` fills S1 and S2.
    pub fn server(seed: u64) -> Self {
        Self {
            side: Side::ServerFirst(Prng::new(seed)),
            received: Vec::new(),
        }
    }

    /// The client's side without digest, and C0 and C1.
    pub fn client(seed: u64) -> (Self, Bytes) {
        let mut hello = vec![0; 1 + PACKET_BYTES];
        hello[0] = VERSION;
        Prng::new(seed).fill(&mut hello[9..]);
        let handshake = Self {
            side: Side::Client,
            received: Vec::new(),
        };
        (handshake, hello.into())
    }

    /// Takes bytes off the front of `input`. To be called until it waits or is done.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Progress, Error> {
        let wanted = match self.side {
            Side::ServerFirst(_) => 1 + PACKET_BYTES,
            Side::ServerSecond => PACKET_BYTES,
            Side::Client => 1 + 2 * PACKET_BYTES,
        };
        let missing = wanted - self.received.len();
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.received.extend_from_slice(taken);
        *input = rest;
        let has_version = !matches!(self.side, Side::ServerSecond);
        if has_version
            && self
                .received
                .first()
                .is_some_and(|version| *version != VERSION)
        {
            return Err(Error::Version);
        }
        if taken.len() < missing {
            return Ok(Progress::Waiting);
        }
        let received = std::mem::take(&mut self.received);
        match &mut self.side {
            Side::ServerFirst(prng) => {
                let reply = packet(&received[1..]).map(|c1| answer(&c1, prng));
                self.side = Side::ServerSecond;
                Ok(Progress::Send(reply.unwrap_or_default()))
            }
            Side::ServerSecond => Ok(Progress::Done(Bytes::new())),
            Side::Client => {
                // C2 repeats S1.
                let s1 = received.get(1..1 + PACKET_BYTES).unwrap_or_default();
                Ok(Progress::Done(Bytes::copy_from_slice(s1)))
            }
        }
    }
}

fn packet(bytes: &[u8]) -> Option<Packet> {
    bytes.first_chunk().copied()
}

/// S0, S1 and S2 for a C1.
fn answer(c1: &Packet, prng: &mut Prng) -> Bytes {
    let mut s1 = [0; PACKET_BYTES];
    prng.fill(&mut s1[8..]);
    let mut s2 = *c1;
    if let Some((schema, digest)) = find_digest(c1, CLIENT_KEY) {
        s1[4..8].copy_from_slice(&SERVER_VERSION);
        put_digest(&mut s1, schema, SERVER_KEY);
        let key = hmac(&[SERVER_KEY, &KEY_TAIL].concat(), &[&digest]);
        prng.fill(&mut s2);
        let (random, signature) = s2.split_at_mut(PACKET_BYTES - DIGEST_BYTES);
        signature.copy_from_slice(&hmac(&key, &[random]));
    }
    [&[VERSION], &s1[..], &s2[..]].concat().into()
}

/// The schema and the digest of a packet that has one.
fn find_digest(packet: &Packet, key: &[u8]) -> Option<(usize, [u8; DIGEST_BYTES])> {
    // The version is 0 in the simple form.
    if packet[4..8] == [0; 4] {
        return None;
    }
    (0..SCHEMA_OFFSETS_AT.len()).find_map(|schema| {
        let at = digest_at(packet, schema);
        let (before, rest) = packet.split_at(at);
        let (digest, after) = rest.split_first_chunk()?;
        (hmac(key, &[before, after]) == *digest).then_some((schema, *digest))
    })
}

fn put_digest(packet: &mut Packet, schema: usize, key: &[u8]) {
    let at = digest_at(packet, schema);
    let digest = hmac(key, &[&packet[..at], &packet[at + DIGEST_BYTES..]]);
    packet[at..at + DIGEST_BYTES].copy_from_slice(&digest);
}

/// Where the digest of a schema stands: at most at 1504.
fn digest_at(packet: &Packet, schema: usize) -> usize {
    let at = SCHEMA_OFFSETS_AT[schema];
    let sum: usize = packet[at..at + 4]
        .iter()
        .map(|byte| usize::from(*byte))
        .sum();
    at + 4 + sum % DIGEST_POSITIONS
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(hello: &[u8]) -> Bytes {
        let mut handshake = Handshake::server(1);
        let Progress::Send(reply) = handshake.read(&mut &hello[..]).unwrap() else {
            panic!("C1 is answered");
        };
        reply
    }

    #[test]
    fn simple_client_gets_its_echo_and_both_finish() {
        let (mut client, hello) = Handshake::client(7);
        let mut server = Handshake::server(1);
        let Ok(Progress::Send(reply)) = server.read(&mut &hello[..]) else {
            panic!("the server answers C1");
        };
        assert_eq!(reply[0], 3);
        assert_eq!(reply[1 + PACKET_BYTES..], hello[1..]);
        let Ok(Progress::Done(c2)) = client.read(&mut &reply[..]) else {
            panic!("the client is done");
        };
        assert_eq!(c2[..], reply[1..=PACKET_BYTES]);
        let input = [&c2[..], b"next"].concat();
        let mut rest = &input[..];
        assert_eq!(server.read(&mut rest), Ok(Progress::Done(Bytes::new())));
        assert_eq!(rest, b"next");
    }

    #[test]
    fn digest_is_answered_in_both_schemas() {
        for schema in [0, 1] {
            let mut c1 = [0; PACKET_BYTES];
            Prng::new(3).fill(&mut c1[8..]);
            c1[4..8].copy_from_slice(&[9, 0, 124, 2]);
            put_digest(&mut c1, schema, CLIENT_KEY);
            let (_, client_digest) = find_digest(&c1, CLIENT_KEY).unwrap();
            let reply = answer_to(&[&[3], &c1[..]].concat());
            let s1 = packet(&reply[1..]).unwrap();
            assert_eq!(find_digest(&s1, SERVER_KEY).unwrap().0, schema);
            let s2 = &reply[1 + PACKET_BYTES..];
            let key = hmac(&[SERVER_KEY, &KEY_TAIL].concat(), &[&client_digest]);
            let (random, signature) = s2.split_at(PACKET_BYTES - DIGEST_BYTES);
            assert_eq!(hmac(&key, &[random]), signature);
        }
    }

    #[test]
    fn a_version_without_digest_gets_its_echo() {
        let mut hello = vec![9; 1 + PACKET_BYTES];
        hello[0] = 3;
        assert_eq!(answer_to(&hello)[1 + PACKET_BYTES..], hello[1..]);
    }

    #[test]
    fn quirk_03_ffmpeg_c2_not_checked() {
        let (_, hello) = Handshake::client(7);
        let mut server = Handshake::server(1);
        server.read(&mut &hello[..]).unwrap();
        let mut c2 = &[0xee; PACKET_BYTES][..];
        assert_eq!(server.read(&mut c2), Ok(Progress::Done(Bytes::new())));
    }

    #[test]
    fn another_version_is_refused_at_its_first_byte() {
        for version in [0, 6, b'G', 0x16] {
            let mut server = Handshake::server(1);
            assert_eq!(server.read(&mut &[version][..]), Err(Error::Version));
        }
    }

    #[test]
    fn byte_by_byte_is_the_same_as_at_once() {
        let (_, hello) = Handshake::client(7);
        let mut server = Handshake::server(1);
        let mut sent = Vec::new();
        for byte in hello.iter().chain(&[0; PACKET_BYTES]) {
            match server.read(&mut &[*byte][..]).unwrap() {
                Progress::Waiting => {}
                Progress::Send(bytes) | Progress::Done(bytes) => sent.extend_from_slice(&bytes),
            }
        }
        assert_eq!(sent, answer_to(&hello));
    }

    #[test]
    fn largest_offset_stays_inside() {
        let packet = [0xff; PACKET_BYTES];
        for schema in [0, 1] {
            assert!(digest_at(&packet, schema) + DIGEST_BYTES <= PACKET_BYTES);
        }
    }
}
