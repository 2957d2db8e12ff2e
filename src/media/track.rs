//! What is known of a track before its first frame.

use bytes::Bytes;

use crate::base::ids::TrackId;
use crate::media::{Codec, Kind};

/// One elementary stream of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Track {
    /// Its number in the stream.
    pub id: TrackId,
    /// Its codec.
    pub codec: Codec,
    /// The decoder configuration: `avcC`, `hvcC`, `av1C` or `vpcC` box contents, an
    /// AudioSpecificConfig, an `OpusHead` (with its magic), FLAC's 34-byte STREAMINFO, `dac3`
    /// contents; empty where the codec needs none or it is not known.
    pub init: Bytes,
    /// Set for video whose configuration could be read.
    pub video: Option<VideoFormat>,
    /// Set for audio.
    pub audio: Option<AudioFormat>,
    /// ISO 639-2 code, or empty.
    pub language: String,
    /// The name of its simulcast layer (RFC 8853), or empty.
    pub rid: String,
}

impl Track {
    /// Video, audio or meta.
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }
}

/// Picture size and rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VideoFormat {
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
    /// Frames in 1000 seconds; 0 when not known.
    pub frames_per_1000_s: u32,
}

/// Sampling of an audio track.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AudioFormat {
    /// Samples a second.
    pub rate: u32,
    /// Channels.
    pub channels: u8,
    /// Bits a sample, 0 where the codec has none.
    pub bits: u8,
}
