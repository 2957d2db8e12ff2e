//! What is known of one stream that is received: its place in the sequence, what is missing, and
//! the statistics of reports (RFC 3550 sections 6.4.1, A.1, A.3 and A.8).

use std::time::{Duration, Instant};

use super::missing::Missing;
use super::renumber::Renumber;

/// The extended number of the first packet is this much above its sequence number, so that those
/// that came late have a number too.
const FIRST_TURN: u64 = 1 << 16;
/// How far behind the newest packet another one may be (2048 packets are 12 s of 1.6 Mbit/s and
/// 0.5 s of 50 Mbit/s). One bit each is kept, to tell repetitions.
const WINDOW: u64 = 2048;
/// RFC 3550 appendix A.1: a jump ahead by so many is a publisher that began anew.
const DROPOUT_MAX: u64 = 3000;
/// RFC 3550 appendix A.1: so many packets in sequence far behind the others are one too.
const RESTART_PACKETS: u8 = 2;
const _: () = assert!(WINDOW.is_power_of_two() && WINDOW < DROPOUT_MAX);

/// What has to be known of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The sequence number of its header, or that of the original if it is a retransmission.
    pub sequence: u16,
    /// In ticks of the stream's clock.
    pub timestamp: u32,
    /// It has no payload but padding.
    pub is_empty: bool,
    /// It came as a retransmission (RFC 4588): it says nothing of jitter, and never begins a
    /// stream anew.
    pub is_retransmission: bool,
}

/// What a packet is to the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// It was not there before.
    New {
        /// Its place: the extended sequence number less the empty packets before it. The first
        /// packet of a stream has 65536 more than its sequence number.
        number: u64,
        /// A later one was there already.
        is_late: bool,
        /// The sequence jumped: the publisher began anew. One number is left out, as if a packet
        /// had been lost.
        is_restart: bool,
    },
    /// It was there before.
    Duplicate,
    /// It has no payload (quirk 19: Chromium probes for bandwidth with padding). It takes no
    /// number.
    Empty {
        /// A number that later packets left out for it; no packet will ever have it.
        hole: Option<u64>,
    },
    /// It is too far behind the others to have a number.
    TooOld,
}

/// What a report says of a stream, which is a block of a sender or receiver report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reception {
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the beginning, within 24 bits and a sign.
    pub cumulative_lost: i32,
    /// The highest sequence number with the count of its wraps above it.
    pub highest_sequence: u32,
    /// In ticks of the stream's clock.
    pub jitter: u32,
    /// The middle of the last sender report's time; zero if none came.
    pub last_sender_report: u32,
    /// Since that report came, in units of 1/65536 s.
    pub delay: u32,
}

/// One stream that is received. It takes less than 1 kB; beside that, at most 64 places of empty
/// packets of 16 bytes and 512 missing packets of 48 bytes.
#[derive(Clone, Debug)]
pub struct Incoming {
    rate: u32,
    sequence: Option<Sequence>,
    renumber: Renumber,
    missing: Missing,
    statistics: Statistics,
    sender_report: Option<(u32, Instant)>,
}

/// Where a stream is.
#[derive(Clone, Debug)]
struct Sequence {
    /// The highest extended sequence number.
    highest: u64,
    /// The number where the stream began, or began anew.
    base: u64,
    /// One bit for each of the last WINDOW numbers: it was received.
    seen: Box<[u64; WINDOW as usize / 64]>,
    /// The next sequence number of a publisher that seems to begin anew, and how many there were.
    restart: Option<(u16, u8)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Statistics {
    received: u64,
    /// From before the stream began anew.
    expected_before: u64,
    expected_at_report: u64,
    received_at_report: u64,
    /// Transit time of the last packet, and when the first came, in ticks.
    transit: Option<u32>,
    origin: Option<Instant>,
    /// In 16ths of a tick.
    jitter: u64,
}

impl Incoming {
    /// A stream whose timestamps have `rate` ticks in a second.
    pub fn new(rate: u32) -> Self {
        Self {
            rate,
            sequence: None,
            renumber: Renumber::default(),
            missing: Missing::default(),
            statistics: Statistics::default(),
            sender_report: None,
        }
    }

    /// Takes a packet in.
    pub fn receive(&mut self, now: Instant, arrival: Arrival) -> Received {
        let Some(sequence) = &mut self.sequence else {
            if arrival.is_retransmission {
                return Received::TooOld;
            }
            let first = FIRST_TURN + u64::from(arrival.sequence);
            self.sequence = Some(Sequence::new(first));
            return self.take_newest(now, arrival, first, false);
        };
        let highest = sequence.highest;
        let distance = i64::from(arrival.sequence.wrapping_sub(highest as u16) as i16);
        let extended = highest.wrapping_add_signed(distance);
        if distance > 0 {
            if arrival.is_retransmission {
                // What is repeated was sent before, but none of its kind may have come yet.
                if distance as u64 > WINDOW {
                    return Received::TooOld;
                }
            } else if distance as u64 > DROPOUT_MAX {
                return self.restart(now, arrival);
            }
            self.missing.found(now, highest + 1..extended);
            self.step(extended);
            return self.take_newest(now, arrival, extended, false);
        }
        if distance.unsigned_abs() >= WINDOW {
            if !arrival.is_retransmission && sequence.is_restart(arrival.sequence) {
                return self.restart(now, arrival);
            }
            return Received::TooOld;
        }
        if sequence.see(extended) {
            return Received::Duplicate;
        }
        let is_retransmission = arrival.is_retransmission;
        self.missing.arrived(now, extended, is_retransmission);
        self.count(now, &arrival);
        match self.renumber.late(extended) {
            None => Received::TooOld,
            Some(number) if arrival.is_empty => Received::Empty { hole: Some(number) },
            Some(number) => Received::New {
                number,
                is_late: true,
                is_restart: false,
            },
        }
    }

    /// Takes a packet in that is the newest.
    fn take_newest(
        &mut self,
        now: Instant,
        arrival: Arrival,
        extended: u64,
        is_restart: bool,
    ) -> Received {
        if let Some(sequence) = &mut self.sequence {
            sequence.see(extended);
            sequence.restart = None;
        }
        self.count(now, &arrival);
        if arrival.is_empty {
            self.renumber.drop(extended);
            return Received::Empty { hole: None };
        }
        Received::New {
            number: self.renumber.number(extended),
            is_late: false,
            is_restart,
        }
    }

    /// The publisher began anew: its sequence goes on in the next turn.
    fn restart(&mut self, now: Instant, arrival: Arrival) -> Received {
        let Some(sequence) = &mut self.sequence else {
            return Received::TooOld;
        };
        let highest = sequence.highest;
        let extended = ((highest >> 16) + 1) << 16 | u64::from(arrival.sequence);
        self.statistics.expected_before += highest - sequence.base + 1;
        self.statistics.transit = None;
        *sequence = Sequence::new(extended);
        self.missing.clear();
        self.renumber.skip(highest, extended);
        self.take_newest(now, arrival, extended, true)
    }

    /// Moves the window, so that `extended` is the newest of it.
    fn step(&mut self, extended: u64) {
        let Some(sequence) = &mut self.sequence else {
            return;
        };
        if extended - sequence.highest >= WINDOW {
            sequence.seen.fill(0);
        } else {
            for number in sequence.highest + 1..=extended {
                sequence.forget(number);
            }
        }
        sequence.highest = extended;
    }

    fn count(&mut self, now: Instant, arrival: &Arrival) {
        let statistics = &mut self.statistics;
        statistics.received += 1;
        if arrival.is_retransmission || arrival.is_empty {
            return;
        }
        let origin = *statistics.origin.get_or_insert(now);
        let micros = now.saturating_duration_since(origin).as_micros();
        let ticks = (micros * u128::from(self.rate) / 1_000_000) as u32;
        let transit = ticks.wrapping_sub(arrival.timestamp);
        if let Some(before) = statistics.transit.replace(transit) {
            let difference = u64::from((transit.wrapping_sub(before) as i32).unsigned_abs());
            statistics.jitter = statistics.jitter + difference - ((statistics.jitter + 8) >> 4);
        }
    }

    /// Notes a sender report of this stream. `middle` is that of its NTP time.
    pub fn sender_report(&mut self, now: Instant, middle: u32) {
        self.sender_report = Some((middle, now));
    }

    /// What a report says, and the beginning of the next one's interval. None before the first
    /// packet.
    pub fn report(&mut self, now: Instant) -> Option<Reception> {
        let sequence = self.sequence.as_ref()?;
        let statistics = &mut self.statistics;
        let expected = statistics.expected_before + (sequence.highest - sequence.base + 1);
        let expected_now = expected - statistics.expected_at_report;
        let received_now = statistics.received - statistics.received_at_report;
        statistics.expected_at_report = expected;
        statistics.received_at_report = statistics.received;
        let lost_now = expected_now.saturating_sub(received_now);
        let lost = expected as i64 - statistics.received as i64;
        let (last_sender_report, delay) = self.sender_report.map_or((0, 0), |(middle, then)| {
            let waited = now.saturating_duration_since(then).as_micros();
            let units = (waited << 16) / 1_000_000;
            (middle, u32::try_from(units).unwrap_or(u32::MAX))
        });
        Some(Reception {
            fraction_lost: (lost_now * 256)
                .checked_div(expected_now)
                .map_or(0, |fraction| fraction.min(255) as u8),
            cumulative_lost: lost.clamp(-(1 << 23), (1 << 23) - 1) as i32,
            highest_sequence: (sequence.highest - FIRST_TURN) as u32,
            jitter: (statistics.jitter >> 4).min(u64::from(u32::MAX)) as u32,
            last_sender_report,
            delay,
        })
    }

    /// The sequence numbers to ask for now, in ascending order; `rtt` is the round-trip time, as
    /// far as it is known. Each that is taken counts as asked for.
    pub fn poll_nacks(&mut self, now: Instant, rtt: Duration) -> impl Iterator<Item = u16> {
        let highest = self.sequence.as_ref().map_or(0, |it| it.highest);
        self.missing.poll(now, rtt, highest)
    }

    /// When [`Self::poll_nacks`] has something to ask for or to give up.
    pub fn poll_timeout(&self, rtt: Duration) -> Option<Instant> {
        self.missing.poll_timeout(rtt)
    }

    /// Whether so much was missing, or for so long, that a keyframe has to be asked for. It is
    /// told once each time.
    pub fn take_keyframe_needed(&mut self) -> bool {
        self.missing.take_keyframe_needed()
    }

    /// How many packets were received, repetitions left out.
    pub fn packets(&self) -> u64 {
        self.statistics.received
    }
}

impl Sequence {
    fn new(first: u64) -> Self {
        Self {
            highest: first,
            base: first,
            seen: Box::new([0; WINDOW as usize / 64]),
            restart: None,
        }
    }

    /// Notes a number and returns whether it was there before.
    fn see(&mut self, extended: u64) -> bool {
        let (word, bit) = place(extended);
        let was_seen = self.seen[word] & bit != 0;
        self.seen[word] |= bit;
        was_seen
    }

    fn forget(&mut self, extended: u64) {
        let (word, bit) = place(extended);
        self.seen[word] &= !bit;
    }

    /// Whether a packet far behind the others follows another such packet. One alone is old.
    fn is_restart(&mut self, sequence: u16) -> bool {
        let count = match self.restart {
            Some((next, count)) if next == sequence => count + 1,
            Some(_) | None => 1,
        };
        self.restart = Some((sequence.wrapping_add(1), count));
        count >= RESTART_PACKETS
    }
}

fn place(extended: u64) -> (usize, u64) {
    let index = extended % WINDOW;
    ((index / 64) as usize, 1 << (index % 64))
}

#[cfg(test)]
#[path = "incoming_tests.rs"]
mod tests;
