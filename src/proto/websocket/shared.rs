//! A message that is encoded once and sent to many.

use bytes::Bytes;

use super::deflate::deflate_alone;
use super::frame::{Head, Opcode};
use super::options::DeflateOptions;

/// A server's message as it goes over the wire, in the forms that peers may need. Clones share
/// the bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shared {
    pub(super) plain: Bytes,
    /// Compressed, if it is worth it.
    pub(super) deflated: Option<Bytes>,
}

impl Shared {
    /// A text message. Compressed too if `deflate` is given, for the peers that agreed on it.
    pub fn text(text: &str, deflate: Option<&DeflateOptions>) -> Self {
        Self::new(Opcode::Text, text.as_bytes(), deflate)
    }

    /// A binary message, as [`Shared::text`].
    pub fn binary(bytes: &[u8], deflate: Option<&DeflateOptions>) -> Self {
        Self::new(Opcode::Binary, bytes, deflate)
    }

    /// The size on the wire for a peer without compression.
    pub fn plain_bytes(&self) -> usize {
        self.plain.len()
    }

    fn new(opcode: Opcode, payload: &[u8], deflate: Option<&DeflateOptions>) -> Self {
        let deflated = deflate
            .filter(|options| payload.len() >= options.threshold_bytes)
            .and_then(|options| deflate_alone(payload, options.level.clamp(1, 9), 15))
            .map(|payload| encode(opcode, &payload, true, None));
        Self {
            plain: encode(opcode, payload, false, None),
            deflated,
        }
    }
}

/// One whole frame.
pub(super) fn encode(
    opcode: Opcode,
    payload: &[u8],
    is_compressed: bool,
    mask: Option<[u8; 4]>,
) -> Bytes {
    let mut out = Vec::with_capacity(super::frame::HEAD_BYTES_MAX + payload.len());
    let head = Head {
        opcode,
        is_final: true,
        is_compressed,
        mask,
        length: payload.len() as u64,
    };
    head.write(&mut out);
    let begin = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        super::frame::mask(&mut out[begin..], mask, 0);
    }
    out.into()
}
