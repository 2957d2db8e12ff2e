//! The packets of one track that are kept on one shard: what answers a receiver's request for a
//! lost packet, and what somebody who joins begins with.

use std::collections::VecDeque;
use std::time::Duration;

use crate::media::{Packet, Start};

/// Numbers that the log spans: 3 s of 8 Mbit/s in packets of 1500 bytes.
const PACKETS_MAX: usize = 2048;

/// Bytes of payload that are kept: as many full packets as there are numbers.
const BYTES_MAX: usize = PACKETS_MAX * 1500;

/// How long a packet is kept that does not belong to the run since the newest keyframe. A receiver
/// that asks for one this old has shown something else long since.
const AGE_MAX: Duration = Duration::from_secs(3);

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// It is the newest.
    Newest,
    /// It came after one with a higher number, and has taken its place.
    Late,
    /// It is there already.
    Duplicate,
    /// The place that it would have had is gone.
    TooOld,
}

/// The packets of one track by number. Those that did not come have a place all the same.
#[derive(Debug, Default)]
pub struct PacketLog {
    slots: VecDeque<Option<Packet>>,
    /// The number of the first slot.
    first: u64,
    bytes: usize,
    held: usize,
    /// The number of the newest packet with which decoding can start.
    keyframe: Option<u64>,
}

impl PacketLog {
    /// Puts a packet in its place.
    pub fn push(&mut self, packet: Packet) -> Kept {
        let number = packet.number;
        if self.slots.is_empty() {
            self.first = number;
        }
        let oldest = self.slots.front().and_then(Option::as_ref);
        if number.checked_add(1) == Some(self.first)
            && oldest.is_some_and(|oldest| oldest.start == Start::No)
        {
            // It changed places with the oldest, which is of the same frame: its own place was not
            // kept while it was empty.
            self.first = number;
            self.note(&packet);
            self.slots.push_front(Some(packet));
            self.trim();
            return Kept::Late;
        }
        let Some(index) = number.checked_sub(self.first) else {
            return Kept::TooOld;
        };
        let end = self.slots.len() as u64;
        if index < end {
            let slot = &mut self.slots[index as usize];
            if slot.is_some() {
                return Kept::Duplicate;
            }
            self.note(&packet);
            self.slots[index as usize] = Some(packet);
            self.trim();
            return Kept::Late;
        }
        if index - end >= PACKETS_MAX as u64 {
            // Nothing that is here is of use to anybody who is that far ahead.
            self.clear();
            self.first = number;
        } else {
            for _ in end..index {
                self.slots.push_back(None);
            }
        }
        self.note(&packet);
        self.slots.push_back(Some(packet));
        self.trim();
        Kept::Newest
    }

    fn note(&mut self, packet: &Packet) {
        self.bytes += packet.payload.len();
        self.held += 1;
        if packet.start == Start::Keyframe {
            self.keyframe = self.keyframe.max(Some(packet.number));
        }
    }

    /// Lets go of what is too much or too old. The newest packet stays.
    fn trim(&mut self) {
        let Some(newest) = self.slots.back().and_then(Option::as_ref) else {
            return;
        };
        let newest = newest.received;
        while self.slots.len() > 1 {
            let is_whole = self.slots.len() <= PACKETS_MAX && self.bytes <= BYTES_MAX;
            let is_current = self.keyframe == Some(self.first);
            let is_needed = match &self.slots[0] {
                None => false,
                Some(packet) => {
                    is_current || newest.saturating_duration_since(packet.received) <= AGE_MAX
                }
            };
            if is_whole && is_needed {
                break;
            }
            if let Some(Some(packet)) = self.slots.pop_front() {
                self.bytes -= packet.payload.len();
                self.held -= 1;
            }
            self.first += 1;
            self.keyframe = self.keyframe.filter(|keyframe| *keyframe >= self.first);
        }
    }

    /// The packet with a number, if it has come and is still here.
    pub fn get(&self, number: u64) -> Option<&Packet> {
        let index = number.checked_sub(self.first)?;
        self.slots.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// The highest number so far.
    pub fn newest(&self) -> Option<u64> {
        (self.slots.len() as u64)
            .checked_sub(1)
            .map(|last| self.first + last)
    }

    /// The packets from the newest keyframe on; `None` without a keyframe, or if one of them is
    /// missing.
    pub fn since_keyframe(&self) -> Option<impl ExactSizeIterator<Item = &Packet>> {
        let skip = (self.keyframe? - self.first) as usize;
        let run = || self.slots.range(skip..);
        run()
            .all(Option::is_some)
            .then(|| run().map(|slot| slot.as_ref().expect("all of them are there")))
    }

    /// Nobody begins at the newest keyframe from here on: the codec has changed.
    pub fn forget_keyframe(&mut self) {
        self.keyframe = None;
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes of payload kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packets kept.
    pub fn len(&self) -> usize {
        self.held
    }

    /// True when nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;

    #[test]
    fn the_first_two_may_change_places() {
        let mut log = PacketLog::default();
        log.push(packet(5, Start::No));
        assert_eq!(log.push(packet(4, Start::Keyframe)), Kept::Late);
        assert_eq!(log.push(packet(4, Start::Keyframe)), Kept::Duplicate);
        let run: Vec<u64> = log.since_keyframe().unwrap().map(|p| p.number).collect();
        assert_eq!(run, [4, 5]);
        assert_eq!(log.push(packet(2, Start::No)), Kept::TooOld);
        assert_eq!(log.len(), 2);
    }

    fn packet(number: u64, start: Start) -> Packet {
        samples::packet(0, number, number as i64, start, 100)
    }

    fn fill(log: &mut PacketLog, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let start = if number % 100 == 0 {
                Start::Keyframe
            } else {
                Start::No
            };
            log.push(packet(number, start));
        }
    }

    fn run(log: &PacketLog) -> Option<Vec<u64>> {
        Some(log.since_keyframe()?.map(|packet| packet.number).collect())
    }

    #[test]
    fn a_late_packet_takes_its_place_and_a_second_one_is_not_kept() {
        let mut log = PacketLog::default();
        fill(&mut log, [100, 101, 103]);
        assert_eq!(log.get(102).map(|packet| packet.number), None);
        assert_eq!(run(&log), None, "one is missing");
        assert_eq!(log.push(packet(102, Start::No)), Kept::Late);
        assert_eq!(log.push(packet(102, Start::No)), Kept::Duplicate);
        assert_eq!(log.push(packet(99, Start::No)), Kept::TooOld);
        assert_eq!(run(&log), Some(vec![100, 101, 102, 103]));
        assert_eq!((log.len(), log.bytes(), log.newest()), (4, 400, Some(103)));
    }

    #[test]
    fn a_run_begins_at_the_newest_keyframe_even_if_that_was_late() {
        let mut log = PacketLog::default();
        fill(&mut log, [100, 199, 201]);
        assert_eq!(run(&log), None);
        fill(&mut log, [200]);
        assert_eq!(run(&log), Some(vec![200, 201]));
        log.forget_keyframe();
        assert_eq!(run(&log), None);
    }

    #[test]
    fn numbers_are_bounded_and_with_them_a_run() {
        let mut log = PacketLog::default();
        log.push(packet(0, Start::Keyframe));
        for number in 1..PACKETS_MAX as u64 {
            log.push(packet(number, Start::No));
        }
        assert_eq!(run(&log).map(|run| run.len()), Some(PACKETS_MAX));
        log.push(packet(PACKETS_MAX as u64, Start::No));
        assert_eq!(run(&log), None, "its keyframe is gone");
        assert_eq!(log.len(), PACKETS_MAX);
    }

    #[test]
    fn a_number_far_ahead_begins_anew_and_costs_nothing() {
        let mut log = PacketLog::default();
        fill(&mut log, 0..10);
        assert_eq!(log.push(packet(u64::MAX - 1, Start::No)), Kept::Newest);
        assert_eq!((log.len(), log.newest()), (1, Some(u64::MAX - 1)));
        assert_eq!(log.push(packet(3, Start::No)), Kept::TooOld);
    }

    #[test]
    fn bytes_are_bounded() {
        let mut log = PacketLog::default();
        for number in 0..100 {
            log.push(samples::packet(0, number, 0, Start::No, BYTES_MAX / 10));
        }
        assert_eq!(log.len(), 10);
        log.clear();
        assert_eq!((log.len(), log.bytes(), log.newest()), (0, 0, None));
    }

    #[test]
    fn what_is_old_goes_unless_it_is_of_the_run_since_the_keyframe() {
        let mut log = PacketLog::default();
        let aged = |number, seconds, start| {
            let mut packet = packet(number, start);
            packet.received = samples::now() + Duration::from_secs(seconds);
            packet
        };
        log.push(aged(1, 0, Start::No));
        log.push(aged(2, 1, Start::Keyframe));
        log.push(aged(3, 1, Start::No));
        log.push(aged(4, 60, Start::No));
        assert!(log.get(1).is_none(), "it is a minute old");
        assert_eq!(run(&log), Some(vec![2, 3, 4]), "as old, and needed");
        log.push(aged(5, 60, Start::Keyframe));
        assert_eq!(run(&log), Some(vec![5]));
        assert_eq!(log.len(), 2);
    }
}
