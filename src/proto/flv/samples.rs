//! Tracks, frames and tags for tests.

use std::time::Instant;

use bytes::Bytes;

use super::{Tag, TagKind};
use crate::base::ids::TrackId;
use crate::media::{Codec, Frame, MediaTime, Track};

/// All codecs that FLV carries.
pub(in crate::proto) const ALL_CODECS: [Codec; 13] = [
    Codec::H264,
    Codec::Hevc,
    Codec::Av1,
    Codec::Vp8,
    Codec::Vp9,
    Codec::Aac,
    Codec::Mp3,
    Codec::Opus,
    Codec::Flac,
    Codec::Ac3,
    Codec::Eac3,
    Codec::Ulaw,
    Codec::Alaw,
];

/// Some instant; tests only look at differences.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock, and tests need one to count from"
)]
pub(in crate::proto) fn now() -> Instant {
    <Instant>::now()
}

pub(in crate::proto) fn tag(kind: TagKind, timestamp: u32, payload: &[u8]) -> Tag {
    Tag {
        kind,
        timestamp,
        payload: Bytes::copy_from_slice(payload),
    }
}

/// A track with the shortest configuration that is well-formed.
pub(in crate::proto) fn track(id: u16, codec: Codec) -> Track {
    let init: Vec<u8> = match codec {
        Codec::H264 => vec![1, 0x64, 0, 0x1f, 0xff, 0xe0, 0],
        Codec::Hevc => [&[1][..], &[0; 20], &[3, 0]].concat(),
        Codec::Av1 => vec![0x81, 0, 0x0c, 0],
        Codec::Vp8 | Codec::Vp9 => vec![1, 0, 0, 0, 0, 31, 0x80, 2, 2, 2, 0, 0],
        Codec::Aac => vec![0x12, 0x10],
        Codec::Opus => b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0".to_vec(),
        Codec::Flac => vec![7; 34],
        Codec::Mp3 | Codec::Ac3 | Codec::Eac3 | Codec::Ulaw | Codec::Alaw | Codec::G722 => vec![],
    };
    Track {
        id: TrackId(id),
        codec,
        init: init.into(),
        video: None,
        audio: None,
        language: String::new(),
        rid: String::new(),
    }
}

/// A keyframe of a track.
pub(in crate::proto) fn frame(track: &Track, dts_ms: i64, pts_ms: i64) -> Frame {
    let data: &[u8] = match track.codec {
        Codec::H264 => &[0, 0, 0, 2, 0x65, 7],
        Codec::Hevc => &[0, 0, 0, 2, 0x26, 7],
        Codec::Av1 => &[0x32, 2, 7, 8],
        Codec::Mp3 => &[0xff, 0xfb, 0x90, 0x00, 7],
        Codec::Vp8
        | Codec::Vp9
        | Codec::Aac
        | Codec::Opus
        | Codec::Flac
        | Codec::Ac3
        | Codec::Eac3
        | Codec::Ulaw
        | Codec::Alaw
        | Codec::G722 => &[1, 2, 3, 4],
    };
    Frame {
        track: track.id,
        dts: MediaTime::from_millis(dts_ms),
        pts: MediaTime::from_millis(pts_ms),
        keyframe: true,
        data: Bytes::from_static(data),
        received: now(),
    }
}
