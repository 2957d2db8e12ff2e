//! Packets that did not come, and when to ask for them.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// More is not worth the upstream: the stream begins anew with a keyframe. 512 packets are 3 s of
/// 1.6 Mbit/s.
const MISSING_MAX: usize = 512;
/// Packets that are only out of order come within so much time, or so many packets.
const PATIENCE: Duration = Duration::from_millis(10);
const PATIENCE_PACKETS: u64 = 3;
/// Asked for again after the round-trip time, but not sooner.
const REPEAT_MIN: Duration = Duration::from_millis(20);
const ASKED_MAX: u8 = 10;
/// After so long a receiver's buffer has passed over it.
const GIVE_UP: Duration = Duration::from_millis(1500);

/// Packets that did not come.
#[derive(Clone, Debug, Default)]
pub(super) struct Missing {
    /// Ascending, at most MISSING_MAX.
    list: VecDeque<Entry>,
    is_keyframe_needed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u64,
    /// The packet that showed the gap.
    shown_by: u64,
    since: Instant,
    asked: Instant,
    times: u8,
}

impl Entry {
    /// When it is to be asked for.
    fn due(&self, repeat: Duration) -> Instant {
        if self.times == 0 {
            self.since + PATIENCE
        } else {
            self.asked + repeat
        }
    }

    fn is_hopeless(&self, now: Instant, repeat: Duration) -> bool {
        now.saturating_duration_since(self.since) >= GIVE_UP
            || (self.times >= ASKED_MAX && self.due(repeat) <= now)
    }
}

impl Missing {
    /// The packets of a gap, behind all others.
    pub(super) fn found(&mut self, now: Instant, gap: Range<u64>) {
        let count = (gap.end - gap.start) as usize;
        if self.list.len() + count > MISSING_MAX {
            self.list.clear();
            self.is_keyframe_needed = true;
            return;
        }
        let shown_by = gap.end;
        self.list.extend(gap.map(|number| Entry {
            number,
            shown_by,
            since: now,
            asked: now,
            times: 0,
        }));
    }

    /// A packet came after all.
    pub(super) fn arrived(&mut self, number: u64) {
        if let Ok(index) = self
            .list
            .binary_search_by_key(&number, |entry| entry.number)
        {
            self.list.remove(index);
        }
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// Sequence numbers to ask for; `highest` is the newest packet.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        rtt: Duration,
        highest: u64,
    ) -> impl Iterator<Item = u16> {
        let repeat = rtt.max(REPEAT_MIN);
        let before = self.list.len();
        self.list.retain(|entry| !entry.is_hopeless(now, repeat));
        self.is_keyframe_needed |= self.list.len() < before;
        self.list.iter_mut().filter_map(move |entry| {
            let is_overtaken = entry.times == 0 && entry.shown_by + PATIENCE_PACKETS - 1 <= highest;
            if !is_overtaken && (entry.due(repeat) > now || entry.times >= ASKED_MAX) {
                return None;
            }
            entry.asked = now;
            entry.times += 1;
            Some(entry.number as u16)
        })
    }

    pub(super) fn poll_timeout(&self, rtt: Duration) -> Option<Instant> {
        let repeat = rtt.max(REPEAT_MIN);
        let due = |entry: &Entry| entry.due(repeat).min(entry.since + GIVE_UP);
        self.list.iter().map(due).min()
    }

    pub(super) fn take_keyframe_needed(&mut self) -> bool {
        std::mem::take(&mut self.is_keyframe_needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;

    const RTT: Duration = Duration::from_millis(50);

    fn asked(missing: &mut Missing, now: Instant, highest: u64) -> Vec<u16> {
        missing.poll(now, RTT, highest).collect()
    }

    #[test]
    fn reordering_is_given_time() {
        let start = samples::now();
        let mut missing = Missing::default();
        missing.found(start, 65_535..65_537);
        assert!(asked(&mut missing, start, 65_537).is_empty());
        assert_eq!(missing.poll_timeout(RTT), Some(start + PATIENCE));
        // Three packets behind it are there.
        assert_eq!(asked(&mut missing, start, 65_539), [65_535, 0]);
        missing.found(start, 65_540..65_541);
        assert_eq!(asked(&mut missing, start + PATIENCE, 65_541), [4]);
        missing.arrived(65_540);
        missing.arrived(65_535);
        missing.arrived(65_536);
        missing.arrived(9);
        assert_eq!(missing.poll_timeout(RTT), None);
    }

    #[test]
    fn a_packet_is_asked_for_ten_times_and_given_up() {
        let start = samples::now();
        let mut missing = Missing::default();
        missing.found(start, 5..6);
        let mut now = start + PATIENCE;
        for _ in 0..ASKED_MAX {
            assert_eq!(asked(&mut missing, now, 6), [5]);
            assert!(asked(&mut missing, now + RTT / 2, 6).is_empty());
            assert_eq!(missing.poll_timeout(RTT), Some(now + RTT));
            now += RTT;
        }
        assert!(!missing.take_keyframe_needed());
        assert!(asked(&mut missing, now, 6).is_empty());
        assert_eq!(missing.poll_timeout(RTT), None);
        assert!(missing.take_keyframe_needed());
        assert!(!missing.take_keyframe_needed(), "told once");
    }

    #[test]
    fn a_slow_round_trip_gives_up_by_time() {
        let start = samples::now();
        let mut missing = Missing::default();
        missing.found(start, 5..6);
        let rtt = Duration::from_secs(10);
        assert_eq!(missing.poll(start + PATIENCE, rtt, 6).count(), 1);
        assert_eq!(missing.poll_timeout(rtt), Some(start + GIVE_UP));
        assert_eq!(missing.poll(start + GIVE_UP, rtt, 6).count(), 0);
        assert!(missing.take_keyframe_needed());
    }

    #[test]
    fn too_much_is_not_asked_for() {
        let start = samples::now();
        let mut missing = Missing::default();
        missing.found(start, 0..MISSING_MAX as u64);
        assert!(!missing.take_keyframe_needed());
        missing.found(start, 1000..1001);
        assert!(missing.take_keyframe_needed());
        assert_eq!(missing.poll_timeout(RTT), None);
    }
}
