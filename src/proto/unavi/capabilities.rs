//! What the server can receive and send: sound in Opus, with the numbers that mediasoup gives.
//!
//! Clients load this before anything else, and some look for entries of video, so all of the list is
//! there (`tests/data/unavi/router_rtp_capabilities.json`).

/// The payload type of what is sent.
pub(super) const PAYLOAD_TYPE: u8 = 100;

/// Both kinds, one, or the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Audio,
    Video,
}

/// Who may send it, seen from the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Both,
    Receive,
}

pub(super) struct HeaderExtension {
    pub(super) kind: Kind,
    pub(super) uri: &'static str,
    pub(super) id: u8,
    pub(super) direction: Direction,
}

pub(super) const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const FRAME_MARKING_DRAFT: &str = "http://tools.ietf.org/html/draft-ietf-avtext-framemarking-07";
const FRAME_MARKING: &str = "urn:ietf:params:rtp-hdrext:framemarking";
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const ORIENTATION: &str = "urn:3gpp:video-orientation";
const TIME_OFFSET: &str = "urn:ietf:params:rtp-hdrext:toffset";
const ABS_CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";

const fn entry(kind: Kind, uri: &'static str, id: u8, direction: Direction) -> HeaderExtension {
    HeaderExtension {
        kind,
        uri,
        id,
        direction,
    }
}

/// In the order of the original.
pub(super) const HEADER_EXTENSIONS: [HeaderExtension; 15] = {
    use Direction::{Both, Receive};
    use Kind::{Audio, Video};
    [
        entry(Audio, MID, 1, Both),
        entry(Video, MID, 1, Both),
        entry(Video, RID, 2, Receive),
        entry(Video, REPAIRED_RID, 3, Receive),
        entry(Audio, ABS_SEND_TIME, 4, Both),
        entry(Video, ABS_SEND_TIME, 4, Both),
        entry(Audio, TRANSPORT_CC, 5, Receive),
        entry(Video, TRANSPORT_CC, 5, Both),
        entry(Video, FRAME_MARKING_DRAFT, 6, Both),
        entry(Video, FRAME_MARKING, 7, Both),
        entry(Audio, AUDIO_LEVEL, 10, Both),
        entry(Video, ORIENTATION, 11, Both),
        entry(Video, TIME_OFFSET, 12, Both),
        entry(Audio, ABS_CAPTURE_TIME, 13, Both),
        entry(Video, ABS_CAPTURE_TIME, 13, Both),
    ]
};

/// Types of feedback that are taken for sound.
pub(super) const FEEDBACK: [&str; 2] = ["nack", "transport-cc"];

impl super::message::Capabilities {
    /// The header extensions of sound that the server sends to such a player, and their numbers.
    pub fn sent_extensions(&self) -> Vec<(&'static str, u8)> {
        HEADER_EXTENSIONS
            .iter()
            .filter(|entry| entry.kind == Kind::Audio && entry.direction == Direction::Both)
            .filter(|entry| self.extensions.iter().any(|known| known == entry.uri))
            .map(|entry| (entry.uri, entry.id))
            .collect()
    }

    /// The payload type of what the server sends.
    pub const PAYLOAD_TYPE: u8 = PAYLOAD_TYPE;
}
