//! Frames that say who made them, so that whoever receives one can tell what is missing.

use std::time::Instant;

use bytes::Bytes;
use ringside::base::ids::TrackId;
use ringside::media::{Codec, Frame, Kind, MediaTime, Track};

use crate::media_fixture::fixture;

const MAGIC: [u8; 8] = *b"RsIm\xa5\x5a\xc3\x3c";
const FILL: u8 = 0x77;
const STAMP_BYTES: usize = MAGIC.len() + 1 + 4 + 4 + 1 + 1 + 4;

/// Where in `avcC` the level stands. The simulation counts configurations there.
pub(crate) const LEVEL_OFFSET: usize = 3;

/// Where in `avcC` the first sequence parameter set stands (ISO/IEC 14496-15 section 5.3.3.1.2).
const PARAMETER_SET_OFFSET: usize = 8;

/// What a frame says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// The stream's index in the world.
    pub(crate) stream: u8,
    /// The publisher, numbered in the order they were accepted.
    pub(crate) publisher: u32,
    /// Counts the publisher's frames of this kind.
    pub(crate) number: u32,
    /// The configuration it was made with.
    pub(crate) version: u8,
    pub(crate) is_key: bool,
    /// Bytes that follow.
    pub(crate) size: u32,
}

impl Stamp {
    /// The stamp and what it announces.
    fn bytes(self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(self.stream);
        out.extend_from_slice(&self.publisher.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&[self.version, u8::from(self.is_key)]);
        out.extend_from_slice(&self.size.to_be_bytes());
        out.resize(out.len() + self.size as usize, FILL);
        out
    }

    /// The stamp in a muxed frame; an error unless it is there once and whole.
    pub(crate) fn find(bytes: &[u8]) -> Result<Self, String> {
        let at = bytes
            .windows(MAGIC.len())
            .position(|window| window == MAGIC)
            .ok_or("a frame without a stamp")?;
        let stamp = bytes[at..]
            .first_chunk::<STAMP_BYTES>()
            .ok_or("a frame is cut short")?;
        let number = |at: usize| {
            u32::from_be_bytes([stamp[at], stamp[at + 1], stamp[at + 2], stamp[at + 3]])
        };
        let stamp = Self {
            stream: stamp[8],
            publisher: number(9),
            number: number(13),
            version: stamp[17],
            is_key: stamp[18] == 1,
            size: number(19),
        };
        let rest = &bytes[at + STAMP_BYTES..];
        if rest.len() != stamp.size as usize || rest.iter().any(|byte| *byte != FILL) {
            return Err(format!(
                "a frame is damaged: {stamp:?}, {} bytes",
                rest.len()
            ));
        }
        Ok(stamp)
    }
}

/// Tracks that publishers announce.
pub(crate) struct Tracks {
    video: Track,
    aac: Track,
    opus: Track,
}

impl Tracks {
    pub(crate) fn load() -> Self {
        Self {
            video: fixture("h264", 0).track,
            aac: fixture("aac", 1).track,
            opus: fixture("opus", 1).track,
        }
    }

    /// H.264 in its `version`th configuration.
    pub(crate) fn video(&self, id: u16, version: u8) -> Track {
        let mut init = self.video.init.to_vec();
        init[LEVEL_OFFSET] = version;
        // And in the parameter set, which is what packets carry.
        init[PARAMETER_SET_OFFSET + LEVEL_OFFSET] = version;
        Track {
            id: TrackId(id),
            init: init.into(),
            ..self.video.clone()
        }
    }

    pub(crate) fn audio(&self, id: u16, is_opus: bool) -> Track {
        let track = if is_opus { &self.opus } else { &self.aac };
        Track {
            id: TrackId(id),
            ..track.clone()
        }
    }
}

/// A frame with a stamp. Times in microseconds.
pub(crate) fn frame(track: &Track, stamp: Stamp, dts: i64, pts: i64, received: Instant) -> Frame {
    let stamp_bytes = stamp.bytes();
    let data = match track.kind() {
        Kind::Video => {
            assert_eq!(track.codec, Codec::H264, "the only one the simulation has");
            // The bit after the header says that it is a picture's first slice.
            let mut unit = vec![if stamp.is_key { 0x65 } else { 0x41 }, 0x88];
            unit.extend_from_slice(&stamp_bytes);
            [&(unit.len() as u32).to_be_bytes()[..], &unit].concat()
        }
        // An Opus packet of one 20 ms frame begins like this; AAC is not looked into.
        Kind::Audio => [&[0xf8][..], &stamp_bytes].concat(),
    };
    Frame {
        track: track.id,
        dts: MediaTime::from_micros(dts),
        pts: MediaTime::from_micros(pts),
        keyframe: stamp.is_key || track.kind() == Kind::Audio,
        data: Bytes::from(data),
        received,
    }
}
