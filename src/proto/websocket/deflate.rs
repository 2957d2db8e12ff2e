//! Compressing messages (RFC 7692 section 7.2), bounded.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::error::Violation;
use super::extension::Deflate;
use super::options::DeflateOptions;

/// What a compressor ends a flush with; not sent (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const BITS_MAX: u8 = 15;

thread_local! {
    /// The compressor and decompressor of all connections that keep no context.
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch {
        compress: None,
        decompress: None,
    }) };
}

struct Scratch {
    /// With the level and window that it was made for.
    compress: Option<(u8, u8, Compress)>,
    decompress: Option<Decompress>,
}

/// The compression of one connection.
#[derive(Debug)]
pub(super) struct Codec {
    level: u8,
    threshold_bytes: usize,
    send_bits: u8,
    /// None if each message starts afresh.
    send: Option<Box<Compress>>,
    receive: Option<Box<Decompress>>,
}

/// Which side of the connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Server,
    Client,
}

impl Codec {
    pub(super) fn new(side: Side, agreed: Deflate, options: &DeflateOptions) -> Self {
        let server = (
            agreed.server_no_context_takeover,
            agreed.server_max_window_bits,
        );
        let client = (
            agreed.client_no_context_takeover,
            agreed.client_max_window_bits.unwrap_or(BITS_MAX),
        );
        let (send, receive) = match side {
            Side::Server => (server, client),
            Side::Client => (client, server),
        };
        let level = options.level.clamp(1, 9);
        Self {
            level,
            threshold_bytes: options.threshold_bytes,
            send_bits: send.1.max(9),
            send: (!send.0).then(|| Box::new(compressor(level, send.1.max(9)))),
            // A larger window than the peer's reads what it writes.
            receive: (!receive.0)
                .then(|| Box::new(Decompress::new_with_window_bits(false, receive.1.max(9)))),
        }
    }

    /// True if a message that was compressed alone, with the largest window, may be sent without
    /// the connection's context missing it.
    pub(super) fn takes_shared(&self) -> bool {
        self.send.is_none() && self.send_bits == BITS_MAX
    }

    /// The message compressed, or None if it is better sent as it is.
    pub(super) fn deflate(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if message.len() < self.threshold_bytes {
            return None;
        }
        match &mut self.send {
            // It is in the context now, so it has to be sent whatever its size.
            Some(compress) => Some(run(compress, message)),
            None => deflate_alone(message, self.level, self.send_bits),
        }
    }

    /// The message inflated. At most `bytes_max` bytes are ever held.
    pub(super) fn inflate(
        &mut self,
        message: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, Violation> {
        match &mut self.receive {
            Some(decompress) => inflate(decompress, message, bytes_max),
            None => SCRATCH.with_borrow_mut(|scratch| {
                let decompress = scratch
                    .decompress
                    .get_or_insert_with(|| Decompress::new_with_window_bits(false, BITS_MAX));
                decompress.reset(false);
                inflate(decompress, message, bytes_max)
            }),
        }
    }
}

/// Compresses a message without context; None if it does not become smaller.
pub(super) fn deflate_alone(message: &[u8], level: u8, window_bits: u8) -> Option<Vec<u8>> {
    let out = SCRATCH.with_borrow_mut(|scratch| {
        let compress = match &mut scratch.compress {
            Some((had, bits, compress)) if (*had, *bits) == (level, window_bits) => {
                compress.reset();
                compress
            }
            other => {
                let made = (level, window_bits, compressor(level, window_bits));
                &mut other.insert(made).2
            }
        };
        run(compress, message)
    });
    (out.len() < message.len()).then_some(out)
}

fn compressor(level: u8, window_bits: u8) -> Compress {
    Compress::new_with_window_bits(Compression::new(level.into()), false, window_bits)
}

fn run(compress: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() / 2 + 64);
    let begin = compress.total_in();
    loop {
        let used = (compress.total_in() - begin) as usize;
        // Compressing has no errors but misuse, which would show as a message that does not end.
        let _ = compress.compress_vec(&message[used..], &mut out, FlushCompress::Sync);
        // Room left over says that everything came out (zlib's rule for a flush).
        if out.len() < out.capacity() {
            break;
        }
        out.reserve(out.capacity());
    }
    if out.ends_with(&TAIL) {
        out.truncate(out.len() - TAIL.len());
    }
    out
}

fn inflate(
    decompress: &mut Decompress,
    mut message: Vec<u8>,
    bytes_max: usize,
) -> Result<Vec<u8>, Violation> {
    message.extend_from_slice(&TAIL);
    let mut out = Vec::with_capacity((message.len() * 3).min(bytes_max));
    let mut rest = &message[..];
    loop {
        let begin = decompress.total_in();
        let (room, length) = (out.capacity(), out.len());
        let status = decompress
            .decompress_vec(rest, &mut out, FlushDecompress::Sync)
            .map_err(|_| Violation::Deflate)?;
        let used = (decompress.total_in() - begin) as usize;
        rest = &rest[used..];
        if out.len() > bytes_max {
            return Err(Violation::TooLarge);
        }
        match status {
            // RFC 7692 section 7.2.3.4: a sender may end its stream, and goes on with a new one.
            Status::StreamEnd => {
                decompress.reset(false);
                if rest.len() <= TAIL.len() {
                    break;
                }
            }
            Status::Ok | Status::BufError if out.len() < room => {
                if rest.is_empty() {
                    break;
                }
                if used == 0 && out.len() == length {
                    return Err(Violation::Deflate);
                }
            }
            Status::Ok | Status::BufError => {
                // One byte beyond the bound tells a message that is too large from one that fits.
                let more = out.len().clamp(256, 1 << 18).min(bytes_max + 1 - out.len());
                if more == 0 {
                    return Err(Violation::TooLarge);
                }
                out.reserve_exact(more);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    const AFRESH: Deflate = Deflate {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: None,
    };

    fn pair(agreed: Deflate) -> (Codec, Codec) {
        let options = DeflateOptions {
            threshold_bytes: 0,
            ..DeflateOptions::default()
        };
        (
            Codec::new(Side::Server, agreed, &options),
            Codec::new(Side::Client, agreed, &options),
        )
    }

    fn text(bytes: usize) -> Vec<u8> {
        let words = b"the quick brown fox jumps over the lazy dog ";
        (0..bytes)
            .map(|n| words[(n * n / 7 + n) % words.len()])
            .collect()
    }

    #[test]
    fn messages_come_back() {
        for takeover in [false, true] {
            for bits in 9..=15 {
                let (mut server, mut client) = pair(Deflate {
                    server_no_context_takeover: !takeover,
                    client_no_context_takeover: !takeover,
                    server_max_window_bits: bits,
                    client_max_window_bits: Some(bits),
                });
                for bytes in [100, 3000, 65_535, 300_000] {
                    let message = text(bytes);
                    let sent = server.deflate(&message).unwrap();
                    assert!(sent.len() < bytes);
                    assert_eq!(client.inflate(sent, bytes), Ok(message.clone()));
                    let sent = client.deflate(&message).unwrap();
                    assert_eq!(server.inflate(sent, bytes), Ok(message));
                }
            }
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7692 sections 7.2.3.1, 7.2.3.3 and 7.2.3.4.
        let (mut server, _) = pair(AFRESH);
        for sent in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[
                0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
            ],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        ] {
            assert_eq!(server.inflate(sent.to_vec(), 5), Ok(b"Hello".to_vec()));
        }
        // 7.2.3.2: the second message refers to the first.
        let (mut server, _) = pair(Deflate {
            client_no_context_takeover: false,
            ..AFRESH
        });
        let first = vec![0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(server.inflate(first, 5), Ok(b"Hello".to_vec()));
        let second = vec![0xf2, 0x00, 0x11, 0x00, 0x00];
        assert_eq!(server.inflate(second, 5), Ok(b"Hello".to_vec()));
    }

    #[test]
    fn a_bomb_is_stopped_at_the_bound() {
        let (mut server, mut client) = pair(AFRESH);
        let bomb = client.deflate(&vec![0; 50_000_000]).unwrap();
        assert!(bomb.len() < 60_000);
        assert_eq!(
            server.inflate(bomb.clone(), 1 << 20),
            Err(Violation::TooLarge)
        );
        assert_eq!(
            server.inflate(bomb, 50_000_000).map(|out| out.len()),
            Ok(50_000_000)
        );
        for (bytes, bytes_max) in [(1000, 999), (70_000, 69_999)] {
            let sent = client.deflate(&vec![7; bytes]).unwrap();
            assert_eq!(server.inflate(sent, bytes_max), Err(Violation::TooLarge));
        }
    }

    #[test]
    fn garbage_is_refused() {
        let (mut server, _) = pair(AFRESH);
        assert_eq!(
            server.inflate(vec![0xff; 100], 1000),
            Err(Violation::Deflate)
        );
        assert_eq!(server.inflate(Vec::new(), 1000), Ok(Vec::new()));
    }

    #[test]
    fn what_does_not_become_smaller_is_left_alone() {
        let mut noise = [0; 1000];
        Prng::new(1).fill(&mut noise);
        assert_eq!(pair(AFRESH).0.deflate(&noise), None);
    }
}
