//! MPEG-DASH: the media presentation description.
//!
//! Specification: ISO/IEC 23009-1:2022, and for low latency the DASH-IF "Low-Latency Modes for
//! DASH". Writing only: live and ended presentations with SegmentTemplate and SegmentTimeline.
//! Content protection, events, trick modes and segment lists are not here.

mod mpd;
mod template;
mod xml;

pub use mpd::{
    AdaptationSet, Mpd, Period, Representation, RepresentationKind, TargetLatency, UtcTiming,
};
pub use template::{SegmentTemplate, TimelineEntry};
