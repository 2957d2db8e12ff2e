//! Whether a track has pictures that are shown in another order than they are decoded in.

use crate::media::{Frame, MediaTime};

/// Watches the frames of a track for B-frames: browsers show their packets, sent in decoding order,
/// with a stutter or not at all, and an operator wants to know why.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReorderWatch {
    latest: Option<MediaTime>,
    seen: bool,
}

impl ReorderWatch {
    /// Looks at the next frame in decoding order. True if it is shown before one that was decoded
    /// earlier. A presentation time that is merely late by a constant is no reordering.
    pub fn look(&mut self, frame: &Frame) -> bool {
        let falls = self.latest.is_some_and(|latest| frame.pts < latest);
        // Both times fall where a timeline starts over.
        let reorders = falls && (frame.pts != frame.dts || self.seen);
        self.seen |= reorders;
        self.latest = Some(match self.latest {
            Some(latest) if reorders => latest.max(frame.pts),
            Some(_) | None => frame.pts,
        });
        reorders
    }

    /// True if any frame so far was reordered.
    pub fn seen(&self) -> bool {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples::frame;

    fn watch(times: &[(i64, i64)]) -> bool {
        let mut watch = ReorderWatch::default();
        for (dts, pts) in times {
            let mut frame = frame(0, *dts, false, 1);
            frame.pts = MediaTime::from_millis(*pts);
            watch.look(&frame);
        }
        watch.seen()
    }

    #[test]
    fn falling_presentation_times_are_reordering() {
        assert!(watch(&[(0, 80), (40, 200), (80, 120), (120, 160)]));
        assert!(!watch(&[(0, 80), (40, 120), (80, 160)]), "a constant delay");
        assert!(!watch(&[(0, 0), (40, 40), (0, 0)]), "a restart");
    }
}
