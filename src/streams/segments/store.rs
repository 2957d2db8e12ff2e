//! The bytes of the segment that is being made.

use std::collections::VecDeque;

use crate::hub::Pieces;
use crate::media::buffer::{Pool, Slab};

/// Bytes in slabs, by position. What is let go of lives on in the pieces that were made of it.
#[derive(Debug, Default)]
pub(super) struct Store {
    slabs: VecDeque<(u64, Slab)>,
    end: u64,
}

impl Store {
    /// The position behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Appends bytes.
    pub(super) fn append(&mut self, pool: &mut Pool, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.slabs.back().is_none_or(|(_, slab)| slab.room() == 0) {
                self.slabs.push_back((self.end, pool.take()));
            }
            let (_, slab) = self.slabs.back_mut().expect("one was just made sure of");
            let count = slab.append(rest);
            rest = &rest[count..];
            self.end += count as u64;
        }
    }

    /// Shared views of what was appended from `from` on.
    pub(super) fn since(&self, from: u64) -> Pieces {
        let mut pieces = Pieces::new();
        let first = self
            .slabs
            .partition_point(|(start, slab)| start + slab.len() as u64 <= from);
        for (start, slab) in self.slabs.range(first..) {
            let begin = (from.max(*start) - start) as usize;
            if begin < slab.len() {
                pieces.push(slab.view(begin..slab.len()));
            }
        }
        pieces
    }

    /// Nothing before the end is asked for any more.
    pub(super) fn forget(&mut self) {
        while self.slabs.len() > 1 {
            self.slabs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_reach_over_slabs_and_outlive_them() {
        let mut pool = Pool::new(8);
        let mut store = Store::default();
        store.append(&mut pool, b"hello ");
        let from = store.end();
        store.append(&mut pool, b"wide world");
        let pieces = store.since(from);
        assert_eq!(pieces.len(), 2, "two of 8 bytes");
        store.forget();
        store.append(&mut pool, b"!");
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        assert_eq!(bytes, b"wide world");
        let last: Vec<u8> = store
            .since(store.end() - 1)
            .iter()
            .flat_map(|piece| piece.to_vec())
            .collect();
        assert_eq!(last, b"!");
        drop((store, pieces));
        assert_eq!(pool.in_use(), 0);
    }
}
