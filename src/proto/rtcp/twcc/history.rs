//! The sender's side: what was sent when, and what became of it.

use std::time::{Duration, Instant};

use super::feedback::Feedback;

/// Rates are over the last second: 10 buckets of 100 ms.
const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_millis(100);
const TICK_MICROS: i64 = 250;

/// The packets that were sent on one transport, the newest of them: 8 bytes each.
#[derive(Clone, Debug)]
pub struct History {
    /// A power of two of them.
    slots: Box<[Slot]>,
    /// Numbers given so far.
    next: u64,
    /// The zero of send times.
    origin: Option<Instant>,
    /// In ticks of 250 µs, extended.
    newest_arrival: Option<i64>,
    buckets: [Bucket; BUCKETS],
    /// When the newest bucket began.
    bucket_start: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Since the origin, modulo 2^32 (71 minutes).
    sent_micros: u32,
    bytes: u16,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Fate {
    #[default]
    Unknown,
    Lost,
    Acked,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    bytes: u64,
    acked: u32,
    lost: u32,
}

/// A packet that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acked {
    /// Its number, extended to 64 bits; the first packet has 0.
    pub number: u64,
    /// Its size as it was given.
    pub bytes: u16,
    /// When it was sent, since the first packet was.
    pub sent: Duration,
    /// When it arrived, in microseconds of the receiver's clock, whose zero is anywhere.
    pub arrival_micros: i64,
}

/// What became of the packets of the last second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rates {
    /// Of packets that arrived, in bits per second.
    pub acked_bitrate: u64,
    /// Lost of those whose fate is known, 0 to 1; 0 if none is.
    pub loss: f32,
}

impl History {
    /// A history of the last `packets`, rounded up to a power of two of at least 16 and at most
    /// 2^15. It should be more than are sent in two round trips and two intervals of feedback.
    pub fn new(packets: usize) -> Self {
        let capacity = packets.clamp(16, 1 << 15).next_power_of_two();
        Self {
            slots: vec![Slot::default(); capacity].into_boxed_slice(),
            next: 0,
            origin: None,
            newest_arrival: None,
            buckets: [Bucket::default(); BUCKETS],
            bucket_start: None,
        }
    }

    /// Notes a packet of `bytes` that is sent `now`, and returns its transport-wide number.
    #[inline]
    pub fn send(&mut self, now: Instant, bytes: usize) -> u16 {
        let origin = *self.origin.get_or_insert(now);
        let sent = now.saturating_duration_since(origin);
        let number = self.next;
        self.next += 1;
        let index = number as usize & (self.slots.len() - 1);
        self.slots[index] = Slot {
            sent_micros: sent.as_micros() as u32,
            bytes: bytes.min(usize::from(u16::MAX)) as u16,
            fate: Fate::Unknown,
        };
        number as u16
    }

    /// Takes feedback. `each` gets the packets of which it says for the first time that they
    /// arrived, in the order of their numbers. Numbers that are not in the history are passed
    /// over.
    pub fn take(&mut self, now: Instant, feedback: &Feedback<'_>, mut each: impl FnMut(Acked)) {
        let Some(origin) = self.origin else {
            return;
        };
        self.turn(now);
        let elapsed = now.saturating_duration_since(origin).as_micros() as u64;
        for (number, arrival) in feedback.statuses() {
            // 1 is the packet that was sent last.
            let back = match (self.next as u16).wrapping_sub(number) {
                0 => 1 << 16,
                back => u64::from(back),
            };
            if back > self.next || back > self.slots.len() as u64 {
                continue;
            }
            let extended = self.next - back;
            let index = extended as usize & (self.slots.len() - 1);
            let slot = &mut self.slots[index];
            let bucket = &mut self.buckets[0];
            match (arrival, slot.fate) {
                (None, Fate::Unknown) => {
                    slot.fate = Fate::Lost;
                    bucket.lost += 1;
                }
                (Some(ticks), Fate::Unknown | Fate::Lost) => {
                    slot.fate = Fate::Acked;
                    bucket.acked += 1;
                    bucket.bytes += u64::from(slot.bytes);
                    let ticks = extend(&mut self.newest_arrival, ticks);
                    let age = (elapsed as u32).wrapping_sub(slot.sent_micros);
                    each(Acked {
                        number: extended,
                        bytes: slot.bytes,
                        sent: Duration::from_micros(elapsed.saturating_sub(u64::from(age))),
                        arrival_micros: ticks * TICK_MICROS,
                    });
                }
                (None, Fate::Lost | Fate::Acked) | (Some(_), Fate::Acked) => {}
            }
        }
    }

    /// What became of the packets whose fate the last second of feedback told.
    pub fn rates(&mut self, now: Instant) -> Rates {
        self.turn(now);
        let (mut bytes, mut acked, mut lost) = (0, 0, 0);
        for bucket in &self.buckets {
            bytes += bucket.bytes;
            acked += bucket.acked;
            lost += bucket.lost;
        }
        let known = acked + lost;
        Rates {
            acked_bitrate: bytes * 8,
            loss: if known == 0 {
                0.0
            } else {
                lost as f32 / known as f32
            },
        }
    }

    /// Begins as many buckets as time has passed for.
    fn turn(&mut self, now: Instant) {
        let start = *self.bucket_start.get_or_insert(now);
        let passed = now.saturating_duration_since(start).as_millis() / BUCKET.as_millis();
        if passed == 0 {
            return;
        }
        if passed >= BUCKETS as u128 {
            self.buckets = [Bucket::default(); BUCKETS];
            self.bucket_start = Some(now);
            return;
        }
        let turns = passed as usize;
        self.buckets.rotate_right(turns);
        self.buckets[..turns].fill(Bucket::default());
        self.bucket_start = Some(start + BUCKET * turns as u32);
    }
}

/// The reference time of feedback wraps around after 2^32 ticks.
fn extend(newest: &mut Option<i64>, ticks: i64) -> i64 {
    let extended = match *newest {
        None => ticks,
        Some(newest) => newest + i64::from((ticks as u32).wrapping_sub(newest as u32) as i32),
    };
    *newest = Some(newest.map_or(extended, |newest| newest.max(extended)));
    extended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;
    use crate::proto::rtcp::twcc::Recorder;
    use crate::proto::rtcp::{Packet, packets};

    fn feed(history: &mut History, recorder: &mut Recorder, now: Instant) -> Vec<Acked> {
        let mut acked = Vec::new();
        let mut out = Vec::new();
        while recorder.write(now, 1, 2, &mut out) {
            let Some(Ok(Packet::TransportCc(feedback))) = packets(&out).next() else {
                panic!("{out:?}");
            };
            history.take(now, &feedback, |packet| acked.push(packet));
            out.clear();
        }
        acked
    }

    #[test]
    fn packets_are_acked_or_lost() {
        let start = samples::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut history = History::new(100);
        let mut recorder = Recorder::default();
        for millis in 0..100 {
            let number = history.send(at(millis), 1250);
            if number % 10 != 3 {
                recorder.record(at(millis + 20), number);
            }
        }
        let acked = feed(&mut history, &mut recorder, at(200));
        assert_eq!(acked.len(), 90);
        for packet in &acked {
            assert_eq!(packet.bytes, 1250);
            assert_eq!(packet.sent, Duration::from_millis(packet.number));
            assert_eq!(packet.arrival_micros, packet.number as i64 * 1000);
        }
        let rates = history.rates(at(200));
        assert_eq!(rates.acked_bitrate, 90 * 1250 * 8);
        assert!((rates.loss - 0.1).abs() < 0.001, "{rates:?}");
        assert_eq!(history.rates(at(1300)), Rates::default());
    }

    #[test]
    fn a_lost_packet_may_still_come_and_is_acked_once() {
        let start = samples::now();
        let mut history = History::new(16);
        let mut recorder = Recorder::default();
        for _ in 0..3 {
            history.send(start, 100);
        }
        recorder.record(start, 0);
        recorder.record(start, 2);
        let now = start + Duration::from_millis(60);
        assert_eq!(feed(&mut history, &mut recorder, now).len(), 2);
        recorder.record(now, 1);
        let now = now + Duration::from_millis(60);
        let acked = feed(&mut history, &mut recorder, now);
        assert_eq!(acked.iter().map(|one| one.number).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn numbers_wrap_and_old_ones_are_forgotten() {
        let start = samples::now();
        let mut history = History::new(16);
        let mut recorder = Recorder::default();
        for number in 0..65_540u32 {
            assert_eq!(history.send(start, 100), number as u16);
        }
        // 65 520 has just been written over, as has what was never sent.
        for number in [65_520, 65_524, 65_535, 3, 4] {
            recorder.record(start, number);
        }
        let now = start + Duration::from_millis(60);
        let acked = feed(&mut history, &mut recorder, now);
        let numbers: Vec<_> = acked.iter().map(|one| one.number).collect();
        assert_eq!(numbers, [65_524, 65_535, 65_539]);
    }

    #[test]
    fn arrivals_go_on_after_the_reference_wraps() {
        let mut newest = None;
        assert_eq!(extend(&mut newest, (1 << 31) - 10), (1 << 31) - 10);
        assert_eq!(extend(&mut newest, -(1 << 31) + 5), (1 << 31) + 5);
        assert_eq!(extend(&mut newest, -(1 << 31) - 1), (1 << 31) - 1);
    }
}
