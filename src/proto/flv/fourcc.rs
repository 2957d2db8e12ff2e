//! FourCC codes of Enhanced RTMP.

use super::{Error, Foreign};
use crate::media::Codec;

/// The video codec of a FourCC.
pub(super) fn video(code: [u8; 4]) -> Result<Codec, Error> {
    match &code {
        b"avc1" => Ok(Codec::H264),
        b"hvc1" => Ok(Codec::Hevc),
        b"av01" => Ok(Codec::Av1),
        b"vp08" => Ok(Codec::Vp8),
        b"vp09" => Ok(Codec::Vp9),
        _ => Err(Error::UnsupportedCodec(Foreign::VideoFourCc(code))),
    }
}

/// The audio codec of a FourCC.
pub(super) fn audio(code: [u8; 4]) -> Result<Codec, Error> {
    match &code {
        b"mp4a" => Ok(Codec::Aac),
        b".mp3" => Ok(Codec::Mp3),
        b"Opus" => Ok(Codec::Opus),
        b"fLaC" => Ok(Codec::Flac),
        b"ac-3" => Ok(Codec::Ac3),
        b"ec-3" => Ok(Codec::Eac3),
        _ => Err(Error::UnsupportedCodec(Foreign::AudioFourCc(code))),
    }
}

/// The FourCC of a codec; G.711 has an old number only, G.722 neither.
pub(super) fn code(codec: Codec) -> Option<[u8; 4]> {
    Some(*match codec {
        Codec::H264 => b"avc1",
        Codec::Hevc => b"hvc1",
        Codec::Av1 => b"av01",
        Codec::Vp8 => b"vp08",
        Codec::Vp9 => b"vp09",
        Codec::Aac => b"mp4a",
        Codec::Mp3 => b".mp3",
        Codec::Opus => b"Opus",
        Codec::Flac => b"fLaC",
        Codec::Ac3 => b"ac-3",
        Codec::Eac3 => b"ec-3",
        Codec::Ulaw | Codec::Alaw | Codec::G722 => return None,
    })
}
