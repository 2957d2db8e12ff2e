//! How much a receiver is sent at once.

use std::time::{Duration, Instant};

/// Bounds of what one receiver is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Bytes that may go at once: a keyframe of 1080p has 60 to 150 kB, and queues of access
    /// routers hold about 100 ms of a slow line.
    pub burst_bytes: u32,
    /// Bits a second beyond that. Video is below 8 Mbit/s nearly always, and a backlog of one
    /// group of pictures should be through in a fraction of its length.
    pub bits_per_second: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            burst_bytes: 96 * 1024,
            bits_per_second: 40_000_000,
        }
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pacer {
    pace: Pace,
    /// Bytes that may go now; below zero after a burst of packets that was larger.
    tokens: i64,
    filled: Instant,
}

impl Pacer {
    pub(super) fn new(now: Instant, pace: Pace) -> Self {
        Self {
            pace,
            tokens: i64::from(pace.burst_bytes),
            filled: now,
        }
    }

    /// Bytes that may go now.
    pub(super) fn room(&mut self, now: Instant) -> i64 {
        let full = i64::from(self.pace.burst_bytes);
        if self.tokens < full {
            let elapsed = now.saturating_duration_since(self.filled).as_micros();
            let bytes = elapsed * u128::from(self.pace.bits_per_second) / 8_000_000;
            self.tokens = full.min(self.tokens + i64::try_from(bytes).unwrap_or(full));
        }
        self.filled = now;
        self.tokens
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.tokens -= bytes as i64;
    }

    /// When there is room for at least a few packets again.
    pub(super) fn due(&self) -> Instant {
        let lacking = (4800 - self.tokens).max(0) as u64;
        let micros = lacking * 8_000_000 / self.pace.bits_per_second.max(1);
        self.filled + Duration::from_micros(micros.max(500))
    }
}
