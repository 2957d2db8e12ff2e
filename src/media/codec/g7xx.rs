//! G.711 and G.722: frames without headers, whose length is all that they say.

use super::{Codec, Samples};
use crate::media::{AudioFormat, Track};

/// Samples a second of G.711 everywhere but in files.
pub const G711_RATE: u32 = 8000;

/// Samples a second of G.722. Its RTP clock ticks at half of that (RFC 3551 section 4.5.2).
pub const G722_RATE: u32 = 16_000;

/// One channel at the codec's rate: what a publisher means that tells nothing. `None` for other
/// codecs.
pub fn usual_format(codec: Codec) -> Option<AudioFormat> {
    let (rate, bits) = match codec {
        Codec::Ulaw | Codec::Alaw => (G711_RATE, 8),
        Codec::G722 => (G722_RATE, 0),
        Codec::H264
        | Codec::Hevc
        | Codec::Av1
        | Codec::Vp8
        | Codec::Vp9
        | Codec::Aac
        | Codec::Mp3
        | Codec::Opus
        | Codec::Flac
        | Codec::Ac3
        | Codec::Eac3 => return None,
    };
    Some(AudioFormat {
        rate,
        channels: 1,
        bits,
    })
}

/// Samples of a frame of a G.711 or G.722 track: a byte is one sample of G.711, two of G.722.
pub(super) fn frame_samples(track: &Track, frame: &[u8]) -> Option<Samples> {
    let usual = usual_format(track.codec)?;
    let format = track.audio.unwrap_or(usual);
    let per_byte = if track.codec == Codec::G722 { 2 } else { 1 };
    let count = frame.len() * per_byte / usize::from(format.channels.max(1));
    Some(Samples {
        count: u32::try_from(count).ok()?,
        rate: if format.rate == 0 {
            usual.rate
        } else {
            format.rate
        },
    })
}
