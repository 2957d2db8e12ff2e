//! Reads the media fixtures.

use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use ringside::base::bytes::Reader;
use ringside::base::ids::TrackId;
use ringside::media::{Codec, Frame, MediaTime, Track, codec};

/// A track and its frames, described as an ingest would.
pub(crate) struct Fixture {
    /// The track.
    pub(crate) track: Track,
    /// Its frames in decoding order.
    pub(crate) frames: Vec<Frame>,
}

const CODECS: [Codec; 11] = [
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
];

/// Reads `tests/data/media/NAME.frames` (layout in the README there) as track `id`.
pub(crate) fn fixture(name: &str, id: u16) -> Fixture {
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "tests/data/media",
        &format!("{name}.frames"),
    ]
    .iter()
    .collect();
    let bytes = std::fs::read(&path).unwrap();
    let mut reader = Reader::new(&bytes);
    let length = reader.u8().unwrap().into();
    let codec_name = reader.take(length).unwrap();
    let codec = *CODECS
        .iter()
        .find(|codec| codec.name().as_bytes() == codec_name)
        .unwrap();
    let length = reader.u32().unwrap() as usize;
    let mut track = Track {
        id: TrackId(id),
        codec,
        init: Bytes::copy_from_slice(reader.take(length).unwrap()),
        video: None,
        audio: None,
        language: String::new(),
        rid: String::new(),
    };
    codec::describe(&mut track);
    let mut frames = Vec::new();
    while !reader.is_empty() {
        let pts = reader.u64().unwrap() as i64;
        let dts = reader.u64().unwrap() as i64;
        let keyframe = reader.u8().unwrap() == 1;
        let length = reader.u32().unwrap() as usize;
        frames.push(Frame {
            track: track.id,
            dts: MediaTime::from_micros(dts),
            pts: MediaTime::from_micros(pts),
            keyframe,
            data: Bytes::copy_from_slice(reader.take(length).unwrap()),
            received: now(),
        });
    }
    codec::learn(&mut track, &frames[0].data);
    Fixture { track, frames }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a frame needs a time of receipt, and no test looks at it"
)]
fn now() -> Instant {
    Instant::now()
}

/// The frames of both in decoding order.
pub(crate) fn interleave(a: &[Frame], b: &[Frame]) -> Vec<Frame> {
    let mut frames = [a, b].concat();
    frames.sort_by_key(|frame| frame.dts);
    frames
}
