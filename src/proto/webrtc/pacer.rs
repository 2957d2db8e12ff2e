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

/// The least that a packet is worth. Linux gives a socket 208 kB for what arrives, and counts about
/// 1.3 kB for a datagram however small, so 160 of them are all that a receiver can be sent at once:
/// of 96 kB, 600 bytes each. Firefox lost the 161st to 171st of a backlog of small pictures.
const PACKET_COST_BYTES: usize = 600;

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

    /// What packets of so many bytes together are worth: small ones weigh as much as a receiver's
    /// buffer has to hold for them.
    pub(super) fn cost(bytes: usize, packets: usize) -> usize {
        bytes.max(packets * PACKET_COST_BYTES)
    }

    /// When there is room for at least a few packets again.
    pub(super) fn due(&self) -> Instant {
        let lacking = (4800 - self.tokens).max(0) as u64;
        let micros = lacking * 8_000_000 / self.pace.bits_per_second.max(1);
        self.filled + Duration::from_micros(micros.max(500))
    }
}
