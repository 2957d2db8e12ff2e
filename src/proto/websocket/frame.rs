//! The head of a frame, and masks (RFC 6455 section 5).
//!
//! ```text
//! +-+-+-+-+-------+-+-------------+----------------------+----------------+
//! |F|R|R|R|opcode |M| length      | length, 16 or 64 bits| mask, if M     |
//! |I|S|S|S|       |A| 0..=125,    | if it is 126 or 127  | 32 bits        |
//! |N|V|V|V| 4 bits|S| 126, 127    |                      |                |
//! | |1|2|3|       |K| 7 bits      |                      |                |
//! +-+-+-+-+-------+-+-------------+----------------------+----------------+
//! ```

use super::error::Violation;

/// The longest head.
pub(super) const HEAD_BYTES_MAX: usize = 14;
/// The longest payload of a control frame (RFC 6455 section 5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_3: u8 = 0x30;
const MASK: u8 = 0x80;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn parse(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return Err(Violation::Opcode),
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    pub(super) fn is_control(self) -> bool {
        match self {
            Self::Continuation | Self::Text | Self::Binary => false,
            Self::Close | Self::Ping | Self::Pong => true,
        }
    }
}

/// A frame's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) opcode: Opcode,
    /// The last frame of its message.
    pub(super) is_final: bool,
    /// RSV1: the message is compressed (RFC 7692 section 6).
    pub(super) is_compressed: bool,
    /// Of a client's frame.
    pub(super) mask: Option<[u8; 4]>,
    pub(super) length: u64,
}

/// What a head may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// The peer is a client.
    pub(super) masked: bool,
    /// `permessage-deflate` was agreed on.
    pub(super) compressed: bool,
}

impl Head {
    /// The head at the front of `bytes` and its length, or None if it is not complete. What is
    /// wrong with it is said as soon as it can be seen.
    pub(super) fn parse(
        bytes: &[u8],
        expected: Expected,
    ) -> Result<Option<(Self, usize)>, Violation> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let opcode = Opcode::parse(first & 0x0f)?;
        let (is_final, is_compressed) = (first & FIN != 0, first & RSV1 != 0);
        let begins = matches!(opcode, Opcode::Text | Opcode::Binary);
        if first & RSV2_3 != 0 || (is_compressed && !(expected.compressed && begins)) {
            return Err(Violation::ReservedBits);
        }
        if (second & MASK != 0) != expected.masked {
            return Err(Violation::Mask);
        }
        let short = second & !MASK;
        if opcode.is_control() && (!is_final || usize::from(short) > CONTROL_BYTES_MAX) {
            return Err(Violation::Control);
        }
        // RFC 6455 section 5.2: the shortest form, and the highest bit is zero.
        let (length, rest) = match short {
            126 => {
                let Some((length, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                match u16::from_be_bytes(*length) {
                    0..126 => return Err(Violation::Length),
                    length => (u64::from(length), rest),
                }
            }
            127 => {
                let Some((length, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                match u64::from_be_bytes(*length) {
                    length @ 0x1_0000..0x8000_0000_0000_0000 => (length, rest),
                    _ => return Err(Violation::Length),
                }
            }
            length => (u64::from(length), rest),
        };
        let (mask, rest) = if expected.masked {
            let Some((mask, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            (Some(*mask), rest)
        } else {
            (None, rest)
        };
        let head = Self {
            opcode,
            is_final,
            is_compressed,
            mask,
            length,
        };
        Ok(Some((head, bytes.len() - rest.len())))
    }

    /// Appends the head to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(bit(self.is_final, FIN) | bit(self.is_compressed, RSV1) | self.opcode.bits());
        let masked = bit(self.mask.is_some(), MASK);
        match self.length {
            0..126 => out.push(masked | self.length as u8),
            126..0x1_0000 => {
                out.push(masked | 126);
                out.extend_from_slice(&(self.length as u16).to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend_from_slice(&self.length.to_be_bytes());
            }
        }
        out.extend(self.mask.into_iter().flatten());
    }
}

/// Applies or takes off a mask. `phase` is the position of `bytes` in the frame's payload.
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4], phase: usize) {
    let key: [u8; 4] = std::array::from_fn(|index| key[(phase + index) % 4]);
    let word = u64::from(u32::from_ne_bytes(key));
    let word = word << 32 | word;
    let mut words = bytes.chunks_exact_mut(8);
    for chunk in &mut words {
        let bytes: &mut [u8; 8] = chunk.try_into().expect("chunks have eight bytes");
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Expected = Expected {
        masked: true,
        compressed: false,
    };
    const CLIENT: Expected = Expected {
        masked: false,
        compressed: true,
    };

    #[test]
    fn heads_are_read_as_written() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, (1 << 63) - 1] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let head = Head {
                    opcode: Opcode::Binary,
                    is_final: length % 2 == 0,
                    is_compressed: mask.is_none(),
                    mask,
                    length,
                };
                let mut out = Vec::new();
                head.write(&mut out);
                assert!(out.len() <= HEAD_BYTES_MAX);
                let expected = if mask.is_some() { SERVER } else { CLIENT };
                for cut in 0..out.len() {
                    assert_eq!(Head::parse(&out[..cut], expected), Ok(None));
                }
                out.push(9);
                let used = out.len() - 1;
                assert_eq!(Head::parse(&out, expected), Ok(Some((head, used))));
            }
        }
    }

    #[test]
    fn bad_heads_are_refused() {
        for (bytes, violation) in [
            (&[0x91, 0x80][..], Violation::ReservedBits),
            (&[0xa1, 0x80], Violation::ReservedBits),
            (&[0xc1, 0x80], Violation::ReservedBits),
            (&[0x83, 0x80], Violation::Opcode),
            (&[0x8b, 0x80], Violation::Opcode),
            (&[0x81, 0x00], Violation::Mask),
            (&[0x09, 0x80], Violation::Control),
            (&[0x89, 0xfe], Violation::Control),
            (&[0x81, 0xfe, 0, 125], Violation::Length),
            (
                &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
                Violation::Length,
            ),
            (&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Violation::Length),
        ] {
            assert_eq!(Head::parse(bytes, SERVER), Err(violation), "{bytes:x?}");
        }
        let parse = |first| Head::parse(&[first, 0], CLIENT).map(|head| head.is_some());
        assert_eq!(parse(0xc1), Ok(true));
        // RFC 7692 section 6: only the first frame of a message says that it is compressed.
        assert_eq!(parse(0xc0), Err(Violation::ReservedBits));
        assert_eq!(parse(0xc9), Err(Violation::ReservedBits));
    }

    #[test]
    fn masking_in_pieces_is_masking() {
        let key = [0x12, 0x34, 0x56, 0x78];
        let plain: Vec<u8> = (0..100).collect();
        let masked: Vec<u8> = plain
            .iter()
            .enumerate()
            .map(|(index, byte)| byte ^ key[index % 4])
            .collect();
        for cut in 0..plain.len() {
            let mut bytes = plain.clone();
            let (front, back) = bytes.split_at_mut(cut);
            mask(front, key, 0);
            mask(back, key, cut);
            assert_eq!(bytes, masked);
        }
    }
}
