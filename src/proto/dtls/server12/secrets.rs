//! What 1.2 derives from the agreed secret (RFC 5246 sections 5, 6.3 and 8.1, RFC 7627, RFC 5705).

use aws_lc_rs::{digest, hmac};

use crate::proto::dtls::hello::Suite;

const MASTER_SECRET_BYTES: usize = 48;
/// `verify_data` of every suite here.
pub(super) const VERIFY_BYTES: usize = 12;
/// The part of a GCM nonce that the handshake gives (RFC 5288 section 3).
pub(super) const SALT_BYTES: usize = 4;

/// A connection's master secret and what belongs to it.
pub(super) struct Secrets {
    suite: Suite,
    master: [u8; MASTER_SECRET_BYTES],
    client_random: [u8; 32],
    server_random: [u8; 32],
}

/// Key and salt of one direction.
pub(super) struct Direction {
    /// 32 bytes, of which the suite uses 16 or 32.
    key: [u8; 32],
    key_bytes: usize,
    pub(super) salt: [u8; SALT_BYTES],
}

impl Direction {
    pub(super) fn key(&self) -> &[u8] {
        &self.key[..self.key_bytes]
    }
}

/// Which side has said something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Client,
    Server,
}

impl Secrets {
    /// `transcript` reaches from the ClientHello to the ClientKeyExchange (RFC 7627 section 3).
    pub(super) fn new(
        suite: Suite,
        agreed: &[u8],
        transcript: &[u8],
        client_random: [u8; 32],
        server_random: [u8; 32],
    ) -> Self {
        let mut master = [0; MASTER_SECRET_BYTES];
        let session = digest::digest(digest_of(suite), transcript);
        expand(
            suite,
            agreed,
            b"extended master secret",
            &[session.as_ref()],
            &mut master,
        );
        Self {
            suite,
            master,
            client_random,
            server_random,
        }
    }

    /// The keys of what the client and of what the server sends.
    pub(super) fn directions(&self) -> [Direction; 2] {
        let key_bytes = match self.suite {
            Suite::Aes128GcmSha256 => 16,
            Suite::Aes256GcmSha384 => 32,
        };
        let mut block = [0; 2 * (32 + SALT_BYTES)];
        let block = &mut block[..2 * (key_bytes + SALT_BYTES)];
        let seed = [&self.server_random[..], &self.client_random];
        expand(self.suite, &self.master, b"key expansion", &seed, block);
        [0, 1].map(|side| {
            let mut direction = Direction {
                key: [0; 32],
                key_bytes,
                salt: [0; SALT_BYTES],
            };
            direction.key[..key_bytes].copy_from_slice(&block[side * key_bytes..][..key_bytes]);
            let salt = 2 * key_bytes + side * SALT_BYTES;
            direction.salt.copy_from_slice(&block[salt..][..SALT_BYTES]);
            direction
        })
    }

    /// What a side's Finished holds; `transcript` is all before it.
    pub(super) fn verify_data(&self, side: Side, transcript: &[u8]) -> [u8; VERIFY_BYTES] {
        let label: &[u8] = match side {
            Side::Client => b"client finished",
            Side::Server => b"server finished",
        };
        let hash = digest::digest(digest_of(self.suite), transcript);
        let mut data = [0; VERIFY_BYTES];
        expand(self.suite, &self.master, label, &[hash.as_ref()], &mut data);
        data
    }

    /// Keys for SRTP (RFC 5764 section 4.2).
    pub(super) fn export_srtp(&self, material: &mut [u8]) {
        let seed = [&self.client_random[..], &self.server_random];
        let label = b"EXTRACTOR-dtls_srtp";
        expand(self.suite, &self.master, label, &seed, material);
    }
}

fn digest_of(suite: Suite) -> &'static digest::Algorithm {
    match suite {
        Suite::Aes128GcmSha256 => &digest::SHA256,
        Suite::Aes256GcmSha384 => &digest::SHA384,
    }
}

/// The pseudorandom function of RFC 5246 section 5.
fn expand(suite: Suite, secret: &[u8], label: &[u8], seed: &[&[u8]], out: &mut [u8]) {
    let algorithm = match suite {
        Suite::Aes128GcmSha256 => hmac::HMAC_SHA256,
        Suite::Aes256GcmSha384 => hmac::HMAC_SHA384,
    };
    let key = hmac::Key::new(algorithm, secret);
    let seeded = |mut context: hmac::Context| {
        context.update(label);
        for part in seed {
            context.update(part);
        }
        context.sign()
    };
    let mut chain = seeded(hmac::Context::with_key(&key));
    for piece in out.chunks_mut(algorithm.digest_algorithm().output_len()) {
        let mut context = hmac::Context::with_key(&key);
        context.update(chain.as_ref());
        piece.copy_from_slice(&seeded(context).as_ref()[..piece.len()]);
        chain = hmac::sign(&key, chain.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors for TLS 1.2's function that the IETF's TLS working group has passed round:
    /// <https://mailarchive.ietf.org/arch/msg/tls/fzVCzk-z3FShgGJ6DOXqM1ydxms/>.
    #[test]
    fn expansion_follows_known_vectors() {
        let secret = [
            0x9b, 0xbe, 0x43, 0x6b, 0xa9, 0x40, 0xf0, 0x17, 0xb1, 0x76, 0x52, 0x84, 0x9a, 0x71,
            0xdb, 0x35,
        ];
        let seed = [
            0xa0, 0xba, 0x9f, 0x93, 0x6c, 0xda, 0x31, 0x18, 0x27, 0xa6, 0xf7, 0x96, 0xff, 0xd5,
            0x19, 0x8c,
        ];
        let mut out = [0; 100];
        let suite = Suite::Aes128GcmSha256;
        expand(suite, &secret, b"test label", &[&seed], &mut out);
        assert_eq!(
            out[..16],
            [
                0xe3, 0xf2, 0x29, 0xba, 0x72, 0x7b, 0xe1, 0x7b, 0x8d, 0x12, 0x26, 0x20, 0x55, 0x7c,
                0xd4, 0x53
            ]
        );
        assert_eq!(out[96..], [0x87, 0x34, 0x7b, 0x66]);
        // The parts of a seed are one.
        let mut parts = [0; 100];
        let split = [&seed[..5], &seed[5..]];
        expand(suite, &secret, b"test label", &split, &mut parts);
        assert_eq!(out, parts);
    }
}
