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

/// Once so much of a body has come, it gets room for the rest of it.
const EARNED_BYTES: usize = 1 << 20;

/// Makes room for `count` more of the `left` bytes that are announced.
///
/// Room that is not written to costs addresses and no memory. To double it to the end instead would
/// move hundreds of megabytes at once, and hold up everybody meanwhile.
pub fn make_room(bytes: &mut Vec<u8>, count: usize, left: usize) {
    if bytes.capacity() - bytes.len() >= count {
        return;
    }
    let has_earned = bytes.len() >= EARNED_BYTES;
    if has_earned && bytes.try_reserve_exact(left).is_ok() {
        return;
    }
    // Doubled, but never beyond the end: a big body's buffer is exactly its size.
    let more = bytes.capacity().max(count).min(left);
    bytes.reserve_exact(more);
}

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
        make_room(&mut self.bytes, mine.len(), self.left);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_gets_its_room_when_some_of_it_has_come() {
        let count = 300 << 20;
        let mut body = Body::new(count);
        assert!(
            body.bytes.capacity() <= FIRST_BYTES,
            "what is announced has not come"
        );
        let piece = vec![7; 16 * 1024];
        let mut places = Vec::new();
        while !body.is_whole() {
            assert!(body.take(&piece).is_empty());
            places.push((body.bytes.as_ptr(), body.bytes.len()));
            if body.bytes.len() < EARNED_BYTES {
                assert!(body.bytes.capacity() <= 2 * EARNED_BYTES);
            }
        }
        // It is moved while it is small, and no more.
        let last = places.last().unwrap().0;
        let settled = places.iter().position(|(place, _)| *place == last).unwrap();
        assert!(places[settled].1 <= 2 * EARNED_BYTES + piece.len());
        assert_eq!(body.into_bytes().len(), count);
    }
}
