//! Frames and packets for the unit tests of other folders.

use std::time::Instant;

use bytes::Bytes;

use crate::base::ids::TrackId;
use crate::media::{Extras, Frame, MediaTime, Packet, Start};

/// Some point in time.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock, and a frame has to have one"
)]
pub(crate) fn now() -> Instant {
    <Instant>::now()
}

/// A packet of zeros.
pub(crate) fn packet(track: u16, number: u64, millis: i64, start: Start, bytes: usize) -> Packet {
    Packet {
        track: TrackId(track),
        number,
        time: MediaTime::from_millis(millis),
        marker: false,
        start,
        payload: Bytes::from(vec![0; bytes]),
        extras: Extras::default(),
        received: now(),
    }
}

/// A frame that is shown when it is decoded.
pub(crate) fn frame(track: u16, millis: i64, keyframe: bool, bytes: usize) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame {
        track: TrackId(track),
        dts: time,
        pts: time,
        keyframe,
        data: Bytes::from(vec![0; bytes]),
        received: now(),
    }
}
