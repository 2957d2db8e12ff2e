//! Numbers without the packets that carry nothing.

use std::collections::VecDeque;

/// So many places are kept where numbers were dropped: a late packet from before the oldest of
/// them has no number.
const DROPS_MAX: usize = 64;

/// Turns extended sequence numbers into numbers without empty packets.
#[derive(Clone, Debug, Default)]
pub(super) struct Renumber {
    /// The extended numbers of empty packets, ascending, and by how much numbers behind each are
    /// less than the extended ones.
    drops: VecDeque<(u64, u64)>,
    /// How much less they are now.
    offset: u64,
    /// How much less they are before the oldest of `drops`.
    offset_before: u64,
    /// Nothing before it has a number.
    floor: u64,
}

impl Renumber {
    /// The number of the newest packet.
    pub(super) fn number(&self, extended: u64) -> u64 {
        extended - self.offset
    }

    /// The number of a packet that is not the newest.
    pub(super) fn late(&self, extended: u64) -> Option<u64> {
        if extended < self.floor {
            return None;
        }
        let behind = self.drops.partition_point(|(at, _)| *at < extended);
        let offset = match behind.checked_sub(1) {
            Some(index) => self.drops[index].1,
            None => self.offset_before,
        };
        Some(extended - offset)
    }

    /// The newest packet is empty: those behind it are one number less.
    pub(super) fn drop(&mut self, extended: u64) {
        self.shift(extended, 1);
    }

    /// The sequence goes on at `next` after `highest`: one number is left out between them.
    /// Nothing from before the jump has a number any more.
    pub(super) fn skip(&mut self, highest: u64, next: u64) {
        let left_out = 1;
        self.offset += next - highest - 1 - left_out.min(next - highest - 1);
        self.drops.clear();
        self.offset_before = self.offset;
        self.floor = next;
    }

    fn shift(&mut self, extended: u64, by: u64) {
        if self.drops.len() == DROPS_MAX
            && let Some((at, offset)) = self.drops.pop_front()
        {
            self.offset_before = offset;
            self.floor = at;
        }
        self.offset += by;
        self.drops.push_back((extended, self.offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_packets_have_the_number_of_their_place() {
        let mut renumber = Renumber::default();
        assert_eq!(renumber.number(100), 100);
        renumber.drop(102);
        assert_eq!(renumber.number(103), 102);
        renumber.drop(104);
        renumber.drop(105);
        assert_eq!(renumber.number(107), 104);
        for (extended, number) in [(99, 99), (101, 101), (103, 102), (106, 103)] {
            assert_eq!(renumber.late(extended), Some(number), "{extended}");
        }
    }

    #[test]
    fn places_are_forgotten_beyond_the_bound() {
        let mut renumber = Renumber::default();
        for index in 0..DROPS_MAX as u64 + 2 {
            renumber.drop(1000 + 2 * index);
        }
        assert_eq!(renumber.drops.len(), DROPS_MAX);
        // The empty ones at 1000 and 1002 are forgotten.
        assert_eq!(renumber.late(1001), None);
        assert_eq!(renumber.late(1003), Some(1003 - 2));
        assert_eq!(renumber.late(1005), Some(1005 - 3));
    }

    #[test]
    fn a_jump_leaves_one_number_out() {
        let mut renumber = Renumber::default();
        renumber.drop(100);
        assert_eq!(renumber.number(101), 100);
        renumber.skip(101, 70_000);
        assert_eq!(renumber.number(70_000), 102);
        assert_eq!(renumber.late(99), None);
        renumber.skip(70_000, 70_001);
        assert_eq!(renumber.number(70_001), 103, "no room to leave one out");
    }
}
