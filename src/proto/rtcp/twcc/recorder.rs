//! The receiver's side: notes when packets arrive, and writes feedback.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::feedback::{Head, REFERENCE_TICKS, write};

/// Feedback that comes more often costs the publisher's uplink, and less often slows its
/// estimate; libwebrtc sends it every 50 to 250 ms.
const INTERVAL: Duration = Duration::from_millis(50);
/// The statuses of one packet. If all are deltas of 2 bytes in vectors of 7, it has
/// 20 + 2 * 400 + 2 * 400 / 7 = 935 bytes, which fits beside reports under any MTU.
const STATUSES_PER_PACKET: usize = 400;
/// With so many arrivals, feedback does not wait for the interval.
const ARRIVALS_MAX: usize = 300;
/// How far back and ahead arrivals are kept: 8 bytes each, 16 kB at most.
const WINDOW: u64 = 2048;
/// What was reported stays so long, so that a late packet is reported with its neighbours.
const REPORTED: u64 = 256;
const TICK_MICROS: u128 = 250;
const MISSING: i64 = i64::MIN;

/// Notes when the packets of one transport arrive.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// The first arrival: the zero of the ticks.
    origin: Option<Instant>,
    /// In ticks, or MISSING; the first is of number `first`.
    arrivals: VecDeque<i64>,
    /// `first <= next <= first + arrivals.len()`
    first: u64,
    /// The first number that has not been reported.
    next: u64,
    unreported: usize,
    due: Option<Instant>,
    count: u8,
}

impl Recorder {
    /// Notes the arrival of a packet with this transport-wide number. A repetition changes
    /// nothing. A number far from all others begins anew.
    pub fn record(&mut self, now: Instant, number: u16) {
        let origin = *self.origin.get_or_insert(now);
        let ticks = (now.saturating_duration_since(origin).as_micros() / TICK_MICROS) as i64;
        if self.arrivals.is_empty() {
            // A turn of 2^16 is left below, for those that are late.
            self.restart(1 << 16 | u64::from(number));
        }
        let newest = self.first + self.arrivals.len().saturating_sub(1) as u64;
        let distance = number.wrapping_sub(newest as u16) as i16;
        let extended = newest.wrapping_add_signed(i64::from(distance));
        if distance > WINDOW as i16 || distance < -(WINDOW as i16) {
            self.restart(((newest >> 16) + 2) << 16 | u64::from(number));
            return self.note(self.first, ticks, now);
        }
        if extended >= self.first {
            self.note(extended, ticks, now);
        }
    }

    /// When [`Self::write`] has something to write.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Appends one packet of feedback of less than 1000 bytes and returns true, if one is due.
    /// The caller repeats it until it returns false.
    pub fn write(&mut self, now: Instant, sender: u32, media: u32, out: &mut Vec<u8>) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        let skipped = (self.next - self.first) as usize;
        let fresh = self.arrivals.iter().skip(skipped);
        let fresh = fresh.map(|ticks| Some(*ticks).filter(|ticks| *ticks != MISSING));
        let fresh = fresh.take(STATUSES_PER_PACKET);
        let first = fresh.clone().flatten().next().unwrap_or_default();
        let head = Head {
            sender,
            media,
            base: self.next as u16,
            count: self.count,
            reference: first.div_euclid(REFERENCE_TICKS),
        };
        let written = write(out, &head, fresh.clone());
        let received = fresh.take(written).flatten().count();
        self.count = self.count.wrapping_add(1);
        self.next += written as u64;
        self.unreported = self.unreported.saturating_sub(received);
        let is_done = self.next == self.first + self.arrivals.len() as u64;
        self.due = (!is_done).then_some(now);
        if is_done {
            self.unreported = 0;
        }
        while self.first + REPORTED < self.next {
            self.arrivals.pop_front();
            self.first += 1;
        }
        true
    }

    fn restart(&mut self, number: u64) {
        self.arrivals.clear();
        (self.first, self.next) = (number, number);
        self.unreported = 0;
    }

    fn note(&mut self, number: u64, ticks: i64, now: Instant) {
        while self.first + self.arrivals.len() as u64 <= number {
            self.arrivals.push_back(MISSING);
        }
        while self.arrivals.len() as u64 > WINDOW {
            self.arrivals.pop_front();
            self.first += 1;
        }
        self.next = self.next.max(self.first);
        let arrival = &mut self.arrivals[(number - self.first) as usize];
        if *arrival != MISSING {
            return;
        }
        *arrival = ticks;
        self.next = self.next.min(number);
        self.unreported += 1;
        let due = *self.due.get_or_insert(now + INTERVAL);
        if self.unreported >= ARRIVALS_MAX {
            self.due = Some(due.min(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::media::samples;
    use crate::proto::rtcp::{Packet, packets};

    /// All that a recorder has to say, in the order of its packets.
    fn drain(recorder: &mut Recorder, now: Instant) -> Vec<(u16, Option<i64>)> {
        let mut found = Vec::new();
        let mut out = Vec::new();
        let mut count = None;
        while recorder.write(now, 1, 2, &mut out) {
            assert!(out.len() < 1000);
            let Some(Ok(Packet::TransportCc(feedback))) = packets(&out).next() else {
                panic!("{out:?}");
            };
            if let Some(count) = count {
                assert_eq!(feedback.count, u8::wrapping_add(count, 1));
            }
            count = Some(feedback.count);
            found.extend(feedback.statuses());
            out.clear();
        }
        found
    }

    #[test]
    fn feedback_is_due_after_the_interval_or_many_packets() {
        let start = samples::now();
        let mut recorder = Recorder::default();
        assert_eq!(recorder.poll_timeout(), None);
        recorder.record(start, 7);
        assert_eq!(recorder.poll_timeout(), Some(start + INTERVAL));
        assert!(drain(&mut recorder, start).is_empty());
        let found = drain(&mut recorder, start + INTERVAL);
        assert_eq!(found, [(7, Some(0))]);
        assert_eq!(recorder.poll_timeout(), None);
        for number in 8..8 + ARRIVALS_MAX as u16 {
            recorder.record(start + INTERVAL, number);
        }
        assert_eq!(recorder.poll_timeout(), Some(start + INTERVAL));
    }

    #[test]
    fn a_late_packet_is_reported_with_those_behind_it() {
        let start = samples::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut recorder = Recorder::default();
        recorder.record(at(0), 65_534);
        recorder.record(at(1), 0);
        let found = drain(&mut recorder, at(60));
        assert_eq!(found, [(65_534, Some(0)), (65_535, None), (0, Some(4))]);
        recorder.record(at(70), 65_535);
        recorder.record(at(70), 0);
        let found = drain(&mut recorder, at(130));
        assert_eq!(found, [(65_535, Some(280)), (0, Some(4))]);
    }

    #[test]
    fn a_jump_begins_anew() {
        let start = samples::now();
        let mut recorder = Recorder::default();
        recorder.record(start, 1);
        recorder.record(start, 30_000);
        recorder.record(start, 30_001);
        recorder.record(start, 20_000);
        let found = drain(&mut recorder, start + INTERVAL);
        assert_eq!(found, [(20_000, Some(0))]);
    }

    proptest! {
        /// Whatever arrives, what is reported last of each number is when it came first.
        #[test]
        fn reports_say_what_was_recorded(
            first: u16,
            steps in prop::collection::vec((0u16..8, 0u16..4, 0u64..40_000_000), 1..600),
        ) {
            let start = samples::now();
            let mut recorder = Recorder::default();
            let mut expected = BTreeMap::new();
            let mut read = BTreeMap::new();
            let (mut now, mut newest, mut position) = (start, first, 0i64);
            let (mut origin, mut earliest) = (None, None);
            for (ahead, back, micros) in steps {
                // Long waits are rare, so that packets of feedback have more than one status.
                now += Duration::from_micros(if micros % 97 == 0 { micros } else { micros % 3000 });
                newest = newest.wrapping_add(ahead);
                position += i64::from(ahead);
                let behind = i64::from(back).min(position);
                let number = newest.wrapping_sub(behind as u16);
                recorder.record(now, number);
                let origin = *origin.get_or_insert(now);
                let ticks = ((now - origin).as_micros() / 250) as i64;
                // What came before the first packet was sent before it, and is not reported.
                let earliest = *earliest.get_or_insert(position - behind);
                if position - behind >= earliest {
                    expected.entry(position - behind).or_insert(ticks);
                }
                for (number, arrival) in drain(&mut recorder, now) {
                    let distance = number.wrapping_sub(newest) as i16;
                    read.insert(position + i64::from(distance), arrival);
                }
            }
            for (number, arrival) in drain(&mut recorder, now + INTERVAL) {
                let distance = number.wrapping_sub(newest) as i16;
                read.insert(position + i64::from(distance), arrival);
            }
            for (position, ticks) in &expected {
                prop_assert_eq!(read.get(position), Some(&Some(*ticks)));
            }
            for (position, arrival) in &read {
                prop_assert_eq!(expected.get(position).copied(), *arrival);
            }
        }
    }
}
