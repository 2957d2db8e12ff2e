//! One RTP payload of one track, free of any session's numbers.

use std::time::Instant;

use bytes::Bytes;

use crate::base::ids::TrackId;
use crate::media::MediaTime;

/// A piece of a frame, in the codec's RTP payload format.
///
/// It comes from a publisher that sends RTP, or is made from a [`Frame`](crate::media::Frame).
/// Each receiver gets it with a header and a key of its own; the payload is shared.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The track of the stream it belongs to.
    pub track: TrackId,
    /// Its place in the track: the publisher's sequence number, extended, without packets that
    /// carried no payload. A number that is missing is lost, or late.
    pub number: u64,
    /// The sampling instant (presentation time) on the stream's timeline.
    pub time: MediaTime,
    /// The RTP marker: the last packet of a picture, or the first of a talk spurt.
    pub marker: bool,
    /// Whether a frame begins here.
    pub start: Start,
    /// The payload, without padding.
    pub payload: Bytes,
    /// What else the publisher said of it.
    pub extras: Extras,
    /// When it was received, for measuring added latency.
    pub received: Instant,
}

/// Whether a frame begins with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// It goes on with a frame.
    No,
    /// A frame begins.
    Frame,
    /// A frame begins from which decoding can start: for H.264 and H.265 its parameter sets are
    /// here or were in packets of the same picture; always so for audio.
    Keyframe,
}

/// Header extensions, and older sound, that travel with a packet from the publisher to all receivers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extras {
    /// Voice activity in the top bit, and the level below full scale in dB, 0 to 127 (RFC 6464).
    pub audio_level: Option<u8>,
    /// The AV1 dependency descriptor as it came; empty without one.
    pub dependency: Bytes,
    /// `abs-capture-time` as it came; empty without it.
    pub capture_time: Bytes,
    /// `playout-delay`, 3 bytes as they came.
    pub playout_delay: Option<[u8; 3]>,
    /// `video-orientation` as it came.
    pub orientation: Option<u8>,
    /// The payload with older sound in front of it, as it came (RFC 2198); empty without. It ends
    /// with the packet's own payload, whose memory it shares.
    pub redundant: Bytes,
}

impl Extras {
    /// Nothing was said.
    pub fn is_empty(&self) -> bool {
        self.audio_level.is_none()
            && self.dependency.is_empty()
            && self.capture_time.is_empty()
            && self.playout_delay.is_none()
            && self.orientation.is_none()
            && self.redundant.is_empty()
    }
}
