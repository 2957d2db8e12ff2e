//! The head of a frame, and bodies that are received piece by piece.

use bytes::Bytes;

pub(super) const MORE: u8 = 1;
pub(super) const LONG: u8 = 2;
pub(super) const COMMAND: u8 = 4;

/// Bytes of the longest body whose length is one byte.
pub const SHORT_MAX: usize = 255;

/// Appends the head of a message part of `count` bytes.
pub fn part_head(count: usize, has_more: bool, out: &mut Vec<u8>) {
    let flags = if has_more { MORE } else { 0 };
    match u8::try_from(count) {
        Ok(count) => out.extend_from_slice(&[flags, count]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend_from_slice(&(count as u64).to_be_bytes());
        }
    }
}

/// A body's bytes as they arrive. Memory grows with what has come and not with what was announced,
/// so that an announcement alone costs nothing.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    left: usize,
}

/// What is set aside for a body at first.
const FIRST_BYTES: usize = 64 * 1024;

impl Body {
    pub(super) fn new(count: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(count.min(FIRST_BYTES)),
            left: count,
        }
    }

    /// Takes what belongs to the body, and gives the rest back.
    pub(super) fn take<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let (mine, rest) = input.split_at(self.left.min(input.len()));
        let free = self.bytes.capacity() - self.bytes.len();
        if free < mine.len() {
            // Doubled, but never beyond the end: a big body's buffer is exactly its size.
            let more = self.bytes.capacity().max(mine.len()).min(self.left);
            self.bytes.reserve_exact(more);
        }
        self.bytes.extend_from_slice(mine);
        self.left -= mine.len();
        rest
    }

    pub(super) fn is_whole(&self) -> bool {
        self.left == 0
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}
