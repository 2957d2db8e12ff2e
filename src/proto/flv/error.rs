//! What can be wrong with a tag.

use crate::base::bytes::Short;

/// Why a tag, or the rest of a tag, was not used. The tags after it are not affected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The tag ends inside a field.
    #[error("tag is cut short")]
    Short,
    /// A codec that is not carried. Reported once for each.
    #[error("codec {0:?} is not supported")]
    UnsupportedCodec(Foreign),
    /// A packet type that is not defined for the codec.
    #[error("packet type {0} is not supported")]
    PacketType(u8),
    /// A decoder configuration that contradicts itself.
    #[error("decoder configuration is malformed")]
    Config,
    /// NAL units whose lengths do not add up to the frame.
    #[error("NAL unit length is wrong")]
    NalLength,
    /// AV1 units whose sizes do not add up to the frame.
    #[error("OBU size is wrong")]
    ObuSize,
    /// An MP3 frame without a valid header.
    #[error("MPEG audio header is malformed")]
    MpegAudio,
    /// More than [`TRACKS_MAX`](super::TRACKS_MAX) tracks.
    #[error("too many tracks")]
    TooManyTracks,
    /// The file does not start with an FLV header.
    #[error("not an FLV file")]
    NotFlv,
}

impl From<Short> for Error {
    fn from(Short: Short) -> Self {
        Self::Short
    }
}

/// A codec that is not carried, as the tag names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foreign {
    /// A `CodecID` of FLV 10.1 section E.4.3.1.
    Video(u8),
    /// A `SoundFormat` of FLV 10.1 section E.4.2.1.
    Audio(u8),
    /// A FourCC of Enhanced RTMP in a video tag.
    VideoFourCc([u8; 4]),
    /// A FourCC of Enhanced RTMP in an audio tag.
    AudioFourCc([u8; 4]),
}
