//! How often a shard goes round.

use std::time::{Duration, Instant};

/// More rounds a second than this, and the shard gathers completions before it goes round: a
/// round costs about 5 µs when it wakes for one packet.
const BUSY_ROUNDS_PER_S: u32 = 4000;

/// How often the round rate is looked at.
const RATE_WINDOW: Duration = Duration::from_millis(20);

/// Rounds a second, over short windows.
pub(super) struct RoundRate {
    since: Instant,
    rounds: u32,
    pub(super) is_busy: bool,
}

impl RoundRate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            rounds: 0,
            is_busy: false,
        }
    }

    pub(super) fn count(&mut self, now: Instant) {
        self.rounds += 1;
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= RATE_WINDOW {
            let rate = f64::from(self.rounds) / elapsed.as_secs_f64();
            // Gathering itself lowers the rate, so going back takes a lower one.
            let threshold = if self.is_busy {
                BUSY_ROUNDS_PER_S / 4
            } else {
                BUSY_ROUNDS_PER_S
            };
            self.is_busy = rate > f64::from(threshold);
            self.since = now;
            self.rounds = 0;
        }
    }
}
