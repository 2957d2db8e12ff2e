//! One access unit of one track.

use std::time::Instant;

use bytes::Bytes;

use crate::base::ids::TrackId;
use crate::media::MediaTime;

/// One access unit: a picture, or the audio of one codec frame.
///
/// The payload is in the track's canonical form, the same for every protocol it came by:
/// H.264 and HEVC as NAL units with 4-byte big-endian lengths, AV1 as the temporal unit's OBUs
/// with sizes and without the temporal delimiter, VP8/VP9 as the raw frame (superframes whole),
/// AAC as the raw access unit without ADTS, MP3/AC-3/E-AC-3/FLAC as the frame with its own header,
/// Opus as the packet, G.711 and G.722 as the samples.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The track of the stream it belongs to.
    pub track: TrackId,
    /// Decoding time. Never falls within one track.
    pub dts: MediaTime,
    /// Presentation time; equal to `dts` for audio and for video without reordering.
    pub pts: MediaTime,
    /// Decoding can start here. Always true for audio.
    pub keyframe: bool,
    /// The payload.
    pub data: Bytes,
    /// When its last byte was received, for measuring added latency.
    pub received: Instant,
}
