//! Finds the end of a message head as its bytes arrive, each byte looked at once.

use super::error::Refusal;

/// How far the search for a head's end has come. Independent of how the input is cut up.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadScan {
    bytes: u32,
    line: Line,
    first_line: bool,
}

/// What the line being read holds so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Empty,
    /// Ends in a carriage return; `empty` when that is all it holds.
    Return {
        empty: bool,
    },
    Text,
}

/// The bounds of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    pub(super) first_line_bytes_max: u32,
    pub(super) bytes_max: u32,
}

impl HeadScan {
    pub(super) fn new() -> Self {
        Self {
            bytes: 0,
            line: Line::Empty,
            first_line: true,
        }
    }

    /// True until the first byte of a head was seen.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Reads on in `input`; the count of its bytes that belong to the head when it ends there.
    ///
    /// A line ends in CR LF only. RFC 9112 section 2.2 also allows a bare LF, which is one more
    /// thing that two readers can see differently.
    pub(super) fn advance(
        &mut self,
        input: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<usize>, Refusal> {
        for (index, &byte) in input.iter().enumerate() {
            self.bytes += 1;
            if self.bytes > limits.bytes_max {
                return Err(Refusal::HeadTooLarge);
            }
            if self.first_line && self.bytes > limits.first_line_bytes_max {
                return Err(Refusal::TargetTooLong);
            }
            let malformed = if self.first_line {
                Refusal::RequestLine
            } else {
                Refusal::Header
            };
            self.line = match (byte, self.line) {
                (b'\r', Line::Empty) => Line::Return { empty: true },
                (b'\r', Line::Text) => Line::Return { empty: false },
                (b'\n', Line::Return { empty: true }) => return Ok(Some(index + 1)),
                (b'\n', Line::Return { empty: false }) => {
                    self.first_line = false;
                    Line::Empty
                }
                (b'\n', Line::Empty | Line::Text) | (_, Line::Return { .. }) => {
                    return Err(malformed);
                }
                (_, Line::Empty | Line::Text) => Line::Text,
            };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        first_line_bytes_max: 20,
        bytes_max: 40,
    };

    #[test]
    fn finds_the_end_however_the_input_is_cut() {
        let input = b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest";
        for cut in 0..20 {
            let mut scan = HeadScan::new();
            assert_eq!(scan.advance(&input[..cut], LIMITS), Ok(None));
            assert_eq!(scan.advance(&input[cut..], LIMITS), Ok(Some(24 - cut)));
        }
    }

    #[test]
    fn bare_line_feeds_and_returns_are_refused() {
        for input in [&b"GET / HTTP/1.0\n\n"[..], b"GET /\r HTTP/1.1\r\n\r\n"] {
            let scanned = HeadScan::new().advance(input, LIMITS);
            assert_eq!(scanned, Err(Refusal::RequestLine));
        }
        let scanned = HeadScan::new().advance(b"GET / HTTP/1.1\r\nA: b\n\r\n", LIMITS);
        assert_eq!(scanned, Err(Refusal::Header));
    }

    #[test]
    fn both_bounds_hold() {
        let scanned = HeadScan::new().advance(&[b'a'; 21], LIMITS);
        assert_eq!(scanned, Err(Refusal::TargetTooLong));
        let scanned =
            HeadScan::new().advance(b"GET\r\nabcdefghijabcdefghijabcdefghijabcdefghij", LIMITS);
        assert_eq!(scanned, Err(Refusal::HeadTooLarge));
    }
}
