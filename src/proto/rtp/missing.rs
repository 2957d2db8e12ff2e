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
/// The round-trip time until there is a measure of it. A peer that only publishes gets no reports
/// to answer, so what it is asked for again is all there is to measure; less would ask for every
/// packet many times where the peer is far away, and give up before the first answer.
const ROUND_TRIP_FIRST: Duration = Duration::from_millis(100);
const ASKED_MAX: u8 = 10;
/// After so long a receiver's buffer has passed over it.
const GIVE_UP: Duration = Duration::from_millis(1500);

/// Packets that did not come.
#[derive(Clone, Debug, Default)]
pub(super) struct Missing {
    /// Ascending, at most MISSING_MAX.
    list: VecDeque<Entry>,
    is_keyframe_needed: bool,
    /// From the first request for a packet to its retransmission, smoothed: the round-trip time,
    /// or more where a request or an answer was lost.
    answered_in: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u64,
    /// The packet that showed the gap.
    shown_by: u64,
    since: Instant,
    first_asked: Instant,
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
            first_asked: now,
            asked: now,
            times: 0,
        }));
    }

    /// A packet came after all.
    pub(super) fn arrived(&mut self, now: Instant, number: u64, is_retransmission: bool) {
        let index = self
            .list
            .binary_search_by_key(&number, |entry| entry.number);
        let Ok(index) = index else { return };
        if let Some(entry) = self.list.remove(index)
            && entry.times > 0
            && is_retransmission
        {
            let sample = now.saturating_duration_since(entry.first_asked);
            self.answered_in = Some(match self.answered_in {
                Some(smoothed) => (smoothed * 7 + sample) / 8,
                None => sample,
            });
        }
    }

    /// How long an answer may take: a round trip, and a quarter more where that is an average.
    fn repeat(&self, rtt: Duration) -> Duration {
        let expected = match (rtt.is_zero(), self.answered_in) {
            (false, _) => rtt,
            (true, Some(smoothed)) => smoothed + smoothed / 4,
            (true, None) => ROUND_TRIP_FIRST,
        };
        expected.max(REPEAT_MIN)
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
        let repeat = self.repeat(rtt);
        let before = self.list.len();
        self.list.retain(|entry| !entry.is_hopeless(now, repeat));
        self.is_keyframe_needed |= self.list.len() < before;
        self.list.iter_mut().filter_map(move |entry| {
            let is_overtaken = entry.times == 0 && entry.shown_by + PATIENCE_PACKETS - 1 <= highest;
            if !is_overtaken && (entry.due(repeat) > now || entry.times >= ASKED_MAX) {
                return None;
            }
            if entry.times == 0 {
                entry.first_asked = now;
            }
            entry.asked = now;
            entry.times += 1;
            Some(entry.number as u16)
        })
    }

    pub(super) fn poll_timeout(&self, rtt: Duration) -> Option<Instant> {
        let repeat = self.repeat(rtt);
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
        for number in [65_540, 65_535, 65_536, 9] {
            missing.arrived(start, number, false);
        }
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

    /// A publisher 230 ms away was asked ten times for each lost packet, and for a keyframe, before
    /// the first answer could have come: nothing told its round-trip time.
    #[test]
    fn the_round_trip_time_is_learnt_from_answers() {
        let start = samples::now();
        let mut missing = Missing::default();
        let far = Duration::from_millis(230);
        let ask = |missing: &mut Missing, now| missing.poll(now, Duration::ZERO, 9).count();
        missing.found(start, 5..6);
        let asked: usize = (0..23)
            .map(|tens| ask(&mut missing, start + PATIENCE + tens * PATIENCE))
            .sum();
        assert_eq!(asked, 3);
        missing.arrived(start + PATIENCE + far, 5, true);
        let later = start + Duration::from_secs(1);
        missing.found(later, 7..8);
        let asked: usize = (0..23)
            .map(|tens| ask(&mut missing, later + PATIENCE + tens * PATIENCE))
            .sum();
        assert_eq!(asked, 1);
        assert!(!missing.take_keyframe_needed());
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
