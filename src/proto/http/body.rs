//! Message bodies: how long one is, and the chunked coding (RFC 9112 sections 6 and 7.1).

use super::error::Refusal;

/// How a body's end is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyLength {
    /// This many bytes; 0 when there is no body.
    Fixed(u64),
    /// The last chunk ends it.
    Chunked,
}

/// Chunk extensions are dropped unread; their length is bounded because each buys a peer
/// work without counting towards the body (the bytes of one chunk's line, or of all trailers).
const LINE_BYTES_MAX: u32 = 1024;

/// Decodes a chunked body as it arrives. The decoder holds no bytes: it says which part of the
/// input is data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ChunkDecoder {
    state: State,
    /// Bytes of the current chunk line, or of the trailer section.
    line_bytes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// In the size, of which `digits` were read.
    Size {
        digits: u8,
        size: u64,
    },
    /// After the size, up to the line's end.
    Extension {
        size: u64,
    },
    /// After the line's carriage return.
    SizeLf {
        size: u64,
    },
    /// In the chunk's data; `left > 0`.
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    Trailer,
    TrailerLf,
    /// After the carriage return of the empty line that ends the body.
    EndLf,
    Done,
}

/// What the decoder found at the front of its input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Skip `skip` bytes; the next `length` are body.
    Data { skip: usize, length: usize },
    /// All input was framing.
    More,
    /// The body ended after `used` bytes.
    Done { used: usize },
}

impl ChunkDecoder {
    pub(super) fn new() -> Self {
        Self {
            state: State::Size { digits: 0, size: 0 },
            line_bytes: 0,
        }
    }

    /// Reads to the next piece of data or the end.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        let mut position = 0;
        loop {
            if self.state == State::Done {
                return Ok(Step::Done { used: position });
            }
            let Some(&byte) = input.get(position) else {
                return Ok(Step::More);
            };
            if let State::Data { left } = self.state {
                let rest = (input.len() - position) as u64;
                let length = left.min(rest);
                self.state = match left - length {
                    0 => State::DataCr,
                    left => State::Data { left },
                };
                return Ok(Step::Data {
                    skip: position,
                    length: length as usize,
                });
            }
            self.state = self.framing(byte)?;
            position += 1;
        }
    }

    fn framing(&mut self, byte: u8) -> Result<State, Refusal> {
        self.line_bytes += 1;
        if self.line_bytes > LINE_BYTES_MAX {
            return Err(Refusal::Chunk);
        }
        Ok(match (self.state, byte) {
            (State::Size { digits, size }, _) if byte.is_ascii_hexdigit() => {
                if digits == 16 {
                    return Err(Refusal::Chunk);
                }
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                State::Size {
                    digits: digits + 1,
                    size: size << 4 | u64::from(digit),
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err(Refusal::Chunk),
            (State::Size { size, .. } | State::Extension { size }, b'\r') => State::SizeLf { size },
            // RFC 9112 section 7.1.1 knows whitespace only as part of an extension.
            (State::Size { size, .. }, b';' | b' ' | b'\t') => State::Extension { size },
            (State::Extension { .. }, b'\n') => return Err(Refusal::Chunk),
            (State::Extension { size }, _) => State::Extension { size },
            (State::SizeLf { size: 0 }, b'\n') => {
                self.line_bytes = 0;
                State::TrailerStart
            }
            (State::SizeLf { size }, b'\n') => State::Data { left: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line_bytes = 0;
                State::Size { digits: 0, size: 0 }
            }
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::Trailer, b'\n') => return Err(Refusal::Chunk),
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::Trailer, _) => State::Trailer,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            (
                State::Size { .. }
                | State::SizeLf { .. }
                | State::Data { .. }
                | State::DataCr
                | State::DataLf
                | State::TrailerLf
                | State::EndLf
                | State::Done,
                _,
            ) => return Err(Refusal::Chunk),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and what follows it, with the input cut into pieces of `piece` bytes.
    fn decode(input: &[u8], piece: usize) -> Result<(Vec<u8>, Option<usize>), Refusal> {
        let (mut decoder, mut body) = (ChunkDecoder::new(), Vec::new());
        let mut consumed = 0;
        for bytes in input.chunks(piece) {
            let mut rest = bytes;
            loop {
                match decoder.step(rest)? {
                    Step::Data { skip, length } => {
                        body.extend_from_slice(&rest[skip..skip + length]);
                        rest = &rest[skip + length..];
                        consumed += skip + length;
                    }
                    Step::More => {
                        consumed += rest.len();
                        break;
                    }
                    Step::Done { used } => return Ok((body, Some(consumed + used))),
                }
            }
        }
        Ok((body, None))
    }

    #[test]
    fn decodes_the_same_in_pieces_of_any_size() {
        let input = b"4;name=value\r\nWiki\r\n5\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n0\r\nA: b\r\n\r\nnext";
        for piece in 1..input.len() {
            let (body, end) = decode(input, piece).unwrap();
            assert_eq!(body, b"Wikipedia in\r\n\r\nchunks.");
            assert_eq!(end, Some(input.len() - 4));
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for input in [
            &b"\r\n"[..],
            b"g\r\n",
            b"-1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"1\n",
            b"1;a\nb",
            b"1\r\nab",
            b"1\r\na\n",
            b"11111111111111111\r\n",
            b"0\r\nA: b\n",
            b"0\r\n\rx",
        ] {
            assert_eq!(decode(input, 64), Err(Refusal::Chunk), "{input:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extension = [b"1;".as_slice(), &[b'a'; 2000]].concat();
        assert_eq!(decode(&extension, 100), Err(Refusal::Chunk));
        let trailers = [b"0\r\n".as_slice(), &b"A: b\r\n".repeat(300)].concat();
        assert_eq!(decode(&trailers, 100), Err(Refusal::Chunk));
    }

    #[test]
    fn the_largest_size_does_not_overflow() {
        assert_eq!(
            decode(b"ffffffffffffffff\r\nab", 1),
            Ok((b"ab".to_vec(), None))
        );
    }
}
