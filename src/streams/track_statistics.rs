//! What is counted of a track.

use std::time::{Duration, Instant};

use crate::media::{Frame, Kind, MediaTime, Packet, Start};

/// The time over which a track's bit rate is taken.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// Since the stream began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrackStatistics {
    pub(super) frames: u64,
    pub(super) keyframes: u64,
    pub(super) bytes: u64,
    pub(super) rate: u64,
    pub(super) rate_max: u64,
    pub(super) window_start: Option<Instant>,
    pub(super) window_bytes: u64,
    pub(super) last_ms: i64,
    pub(super) is_reordered: bool,
    /// The first keyframe has been looked at.
    pub(super) has_learned: bool,
    /// On a mirror: the oldest frame that the home shard kept when the mirror began.
    pub(super) oldest: Option<MediaTime>,
}

impl TrackStatistics {
    /// Over the last seconds, and the most that it was; before these have passed, what the track
    /// has brought so far.
    pub(super) fn bits_per_second(&self) -> (u64, u64) {
        if self.rate > 0 {
            return (self.rate * 8, self.rate_max * 8);
        }
        let elapsed = Duration::from_millis(self.last_ms.unsigned_abs())
            .clamp(Duration::from_millis(200), RATE_WINDOW);
        let rate = (self.bytes as f64 * 8.0 / elapsed.as_secs_f64()) as u64;
        (rate, rate)
    }

    pub(super) fn count(&mut self, now: Instant, frame: &Frame) {
        self.frames += 1;
        self.keyframes += u64::from(frame.keyframe);
        self.last_ms = frame.dts.as_millis();
        self.is_reordered |= frame.pts != frame.dts;
        self.count_bytes(now, frame.data.len() as u64);
    }

    /// The same of a packet that came in order, or late.
    pub(super) fn count_packet(
        &mut self,
        now: Instant,
        packet: &Packet,
        kind: Kind,
        is_late: bool,
    ) {
        let begins = packet.start != Start::No;
        self.frames += u64::from(begins);
        self.keyframes += u64::from(packet.start == Start::Keyframe);
        let millis = packet.time.as_millis();
        self.is_reordered |= begins && !is_late && kind == Kind::Video && millis < self.last_ms;
        self.last_ms = self.last_ms.max(millis);
        self.count_bytes(now, packet.payload.len() as u64);
    }

    fn count_bytes(&mut self, now: Instant, bytes: u64) {
        self.bytes += bytes;
        let start = *self.window_start.get_or_insert(now);
        self.window_bytes += bytes;
        let elapsed = now.saturating_duration_since(start);
        if elapsed >= RATE_WINDOW {
            self.rate = (self.window_bytes as f64 / elapsed.as_secs_f64()) as u64;
            self.rate_max = self.rate_max.max(self.rate);
            self.window_start = Some(now);
            self.window_bytes = 0;
        }
    }
}
