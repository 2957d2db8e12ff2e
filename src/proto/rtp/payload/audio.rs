//! Opus (RFC 7587), G.711 and G.722 (RFC 3551 section 4.5): the payload is the frame.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::media::{Codec, Frame, MediaTime, Track, codec};

/// How far a frame's time may be from where the samples sent so far end, before it is a gap. Times
/// that come through a protocol of milliseconds, or from an encoder that stamps them when it gets
/// to it, are off by less; Chrome plays what steps unevenly with audible glitches.
const SLACK_US: u64 = 10_000;

/// Where samples are cut if a frame is too large: 20 ms of one channel of G.711, and of G.722.
const STEP_BYTES: usize = 160;

/// A frame, or a part of one that no datagram holds.
pub(super) struct Part {
    /// Of its first sample.
    pub(super) time: MediaTime,
    /// Nothing was sent for a while before it (RFC 3551 section 4.1).
    pub(super) marker: bool,
    /// The payload.
    pub(super) data: Bytes,
}

/// Where the samples sent so far end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    end: Option<MediaTime>,
}

impl Pace {
    /// A frame in parts; `None` if it is too large and cannot be cut.
    pub(super) fn parts(
        &mut self,
        track: &Track,
        frame: &Frame,
        max: usize,
    ) -> Option<SmallVec<[Part; 1]>> {
        let mut parts = SmallVec::new();
        if frame.data.is_empty() {
            return Some(parts);
        }
        let size = if frame.data.len() <= max {
            frame.data.len()
        } else if track.codec == Codec::Opus {
            return None;
        } else {
            let channels = track.audio.map_or(1, |audio| audio.channels.max(1));
            let step = STEP_BYTES * usize::from(channels);
            if step <= max { max / step * step } else { max }
        };
        let mut from = 0;
        while from < frame.data.len() {
            let to = frame.data.len().min(from + size);
            let data = frame.data.slice(from..to);
            let near = |end: &MediaTime| {
                from > 0 || end.as_micros().abs_diff(frame.pts.as_micros()) <= SLACK_US
            };
            let expected = self.end.filter(near);
            let time = expected.unwrap_or(frame.pts);
            let duration = codec::frame_duration(track, &data);
            self.end = duration.map(|duration| time + duration);
            parts.push(Part {
                time,
                marker: expected.is_none(),
                data,
            });
            from = to;
        }
        Some(parts)
    }
}
