//! Frames for the unit tests of other folders.

use std::time::Instant;

use bytes::Bytes;

use crate::base::ids::TrackId;
use crate::media::{Frame, MediaTime};

/// A frame that is shown when it is decoded.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock, and a frame has to have one"
)]
pub(crate) fn frame(track: u16, millis: i64, keyframe: bool, bytes: usize) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame {
        track: TrackId(track),
        dts: time,
        pts: time,
        keyframe,
        data: Bytes::from(vec![0; bytes]),
        received: <Instant>::now(),
    }
}

/// A moment for tests to begin at.
pub(crate) fn now() -> Instant {
    frame(0, 0, false, 0).received
}
