//! How often a shard goes round, and for how many.

use std::time::{Duration, Instant};

/// More rounds a second than this, and the shard gathers completions before it goes round: a
/// round costs about 5 µs when it wakes for one packet.
const BUSY_ROUNDS_PER_S: u32 = 4000;

/// How often the round rate is looked at.
const RATE_WINDOW: Duration = Duration::from_millis(20);

/// Datagrams are expected for so many windows after the last one: peers that only listen say something
/// about once a second.
const DATAGRAM_WINDOWS: u32 = 100;

/// Rounds a second, over short windows.
pub(super) struct RoundRate {
    since: Instant,
    rounds: u32,
    pub(super) is_busy: bool,
    /// Which window it is.
    window: u32,
    /// Connections with something to do in this window.
    sources: u32,
    /// The same of the window before.
    sources_before: u32,
    /// The window from which on datagrams are not expected.
    datagrams_until: u32,
}

impl RoundRate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            rounds: 0,
            is_busy: false,
            window: 1,
            sources: 0,
            sources_before: 0,
            datagrams_until: 0,
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
            self.window = self.window.saturating_add(1);
            self.sources_before = std::mem::take(&mut self.sources);
        }
    }

    /// A connection has something to do, which did so last in the window `seen`.
    pub(super) fn see(&mut self, seen: &mut u32) {
        if *seen != self.window {
            *seen = self.window;
            self.sources += 1;
        }
    }

    /// A datagram has come.
    pub(super) fn see_datagram(&mut self) {
        self.datagrams_until = self.window.saturating_add(DATAGRAM_WINDOWS);
    }

    /// Whether datagrams are expected, which come and go in any number.
    pub(super) fn has_datagrams(&self) -> bool {
        self.window < self.datagrams_until
    }

    /// How many connections have something to do.
    pub(super) fn sources(&self) -> u32 {
        self.sources_before.max(self.sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "a test needs some instant to start from"
    )]
    fn one_who_is_busy_is_one_source_however_often_it_is_seen() {
        let start = Instant::now();
        let mut rate = RoundRate::new(start);
        let (mut busy, mut silent) = (0, 0);
        rate.see(&mut silent);
        rate.count(start + RATE_WINDOW);
        for round in 0..200 {
            rate.see(&mut busy);
            rate.count(start + RATE_WINDOW + RATE_WINDOW * round / 100);
        }
        assert!(rate.is_busy);
        assert_eq!(rate.sources(), 1);
        rate.count(start + 4 * RATE_WINDOW);
        rate.count(start + 6 * RATE_WINDOW);
        assert_eq!(rate.sources(), 0);
    }

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "a test needs some instant to start from"
    )]
    fn datagrams_are_expected_for_a_while() {
        let start = Instant::now();
        let mut rate = RoundRate::new(start);
        assert!(!rate.has_datagrams());
        rate.see_datagram();
        for window in 1..DATAGRAM_WINDOWS {
            rate.count(start + window * RATE_WINDOW);
            assert!(rate.has_datagrams());
        }
        rate.count(start + DATAGRAM_WINDOWS * RATE_WINDOW);
        assert!(!rate.has_datagrams());
    }
}
