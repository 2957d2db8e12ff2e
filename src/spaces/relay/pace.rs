//! How long messages wait for others that leave with them.

use std::time::{Duration, Instant};

/// With fewer messages a second nobody waits: what is saved is not needed.
const GATHER_FROM_PER_S: f64 = 2000.0;

/// How long messages wait while there are many.
pub(super) const GATHER: Duration = Duration::from_millis(5);

/// How long they wait at most where the shard would not get done otherwise: a datagram costs as much
/// with twenty locations as with five, and what waits a little longer is better than what is lost.
pub(super) const GATHER_MAX: Duration = Duration::from_millis(20);

/// From this share of a CPU on they wait longer, and below that one shorter again.
const BUSY: f64 = 0.85;
const CALM: f64 = 0.6;

/// Of one relay.
#[derive(Debug)]
pub(super) struct Pace {
    /// Messages queued in the second that began at `since`, and those of the one before.
    since: Instant,
    queued: f64,
    per_s: f64,
    gather: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            queued: 0.0,
            per_s: 0.0,
            gather: GATHER,
        }
    }

    /// A message is queued for a receiver.
    pub(super) fn count(&mut self) {
        self.queued += 1.0;
    }

    /// Counts the second that has passed.
    pub(super) fn note_time(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= Duration::from_secs(1) {
            self.per_s = self.queued / passed.as_secs_f64();
            self.queued = 0.0;
            self.since = now;
        }
    }

    /// The share of a CPU that the shard took in the last tenth of a second or so.
    pub(super) fn note_load(&mut self, load: f64) {
        if load > BUSY {
            self.gather = (self.gather * 5 / 4).min(GATHER_MAX);
        } else if load < CALM {
            self.gather = (self.gather * 19 / 20).max(GATHER);
        }
    }

    /// How long messages wait; zero while there are few.
    pub(super) fn gather(&self) -> Duration {
        match self.per_s >= GATHER_FROM_PER_S {
            true => self.gather,
            false => Duration::ZERO,
        }
    }
}
