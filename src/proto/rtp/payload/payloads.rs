//! The payloads of one frame while they are written.

/// Payloads one behind the other in one buffer.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    /// All of them.
    pub(super) bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Payloads {
    /// Makes room for a frame.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve_exact(bytes);
    }

    /// Ends the payload that was written.
    pub(super) fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// Writes a payload.
    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.end();
    }

    /// Gives out the buffer; the ends stay until [`Self::clear`].
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Where each payload ends.
    pub(super) fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// Forgets everything but keeps the list's memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// The size of pieces into which `length` bytes are cut so that none has more than `room`, there
/// are as few as possible, and all but the last have the same size: equal datagrams leave in one
/// send.
pub(super) fn even(length: usize, room: usize) -> usize {
    let room = room.max(1);
    length.div_ceil(length.div_ceil(room).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_few_and_even() {
        assert_eq!(even(1000, 1000), 1000);
        assert_eq!(even(1001, 1000), 501);
        assert_eq!(even(2999, 1000), 1000);
        assert_eq!(even(0, 1000), 1);
        for length in 1..400 {
            for room in 1..40 {
                let size = even(length, room);
                assert!(size <= room);
                assert_eq!(length.div_ceil(size), length.div_ceil(room));
            }
        }
    }
}
