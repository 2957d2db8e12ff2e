//! The bodies of tags, as FLV files and RTMP messages carry them.

use smallvec::SmallVec;

use super::fourcc;
use crate::media::{Codec, Frame, Kind, Track};

/// What stands before the payload of a frame: 1 to 8 bytes.
pub type Head = SmallVec<[u8; 8]>;

/// First byte of a legacy AAC tag; rate, size and channels are fixed for AAC (FLV 10.1 E.4.2.1).
const AAC: u8 = 0xaf;
/// First byte of a legacy MP3 tag: 44.1 kHz, 16 bit, stereo, whatever the frame says.
const MP3: u8 = 0x2f;
/// First bytes of legacy G.711 tags, of one channel and 16 bit when decoded; the formats imply their
/// rate.
const ALAW: u8 = 0x72;
const ULAW: u8 = 0x82;
const AVC: u8 = 7;
const FRAME_KEY: u8 = 1 << 4;
const FRAME_INTER: u8 = 2 << 4;
/// `IsExHeader` of a video tag.
const EX_VIDEO: u8 = 0x80;
/// `SoundFormat` 9 of an audio tag.
const EX_AUDIO: u8 = 0x90;
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
const CODED_FRAMES_X: u8 = 3;

/// The bytes before the payload of `frame`, which is of `track`. G.722 has no place in FLV.
pub fn frame_head(track: &Track, frame: &Frame) -> Head {
    let codec = track.codec;
    let frame_type = if frame.keyframe {
        FRAME_KEY
    } else {
        FRAME_INTER
    };
    let composition = composition_time(frame);
    let mut head = Head::new();
    match codec {
        Codec::H264 => {
            head.extend_from_slice(&[frame_type | AVC, 1]);
            head.extend_from_slice(&composition);
        }
        Codec::Hevc if composition != [0; 3] => {
            head.push(EX_VIDEO | frame_type | CODED_FRAMES);
            head.extend(fourcc::code(codec).into_iter().flatten());
            head.extend_from_slice(&composition);
        }
        Codec::Hevc => {
            head.push(EX_VIDEO | frame_type | CODED_FRAMES_X);
            head.extend(fourcc::code(codec).into_iter().flatten());
        }
        Codec::Av1 | Codec::Vp8 | Codec::Vp9 => {
            head.push(EX_VIDEO | frame_type | CODED_FRAMES);
            head.extend(fourcc::code(codec).into_iter().flatten());
        }
        Codec::Aac => head.extend_from_slice(&[AAC, 1]),
        Codec::Mp3 => head.push(MP3),
        Codec::Alaw => head.push(ALAW | stereo(track)),
        Codec::Ulaw => head.push(ULAW | stereo(track)),
        Codec::G722 => {}
        Codec::Opus | Codec::Flac | Codec::Ac3 | Codec::Eac3 => {
            head.push(EX_AUDIO | CODED_FRAMES);
            head.extend(fourcc::code(codec).into_iter().flatten());
        }
    }
    head
}

/// The body of the tag that configures the decoder of `track`; `None` where there is nothing to
/// say.
pub fn sequence_header(track: &Track) -> Option<Vec<u8>> {
    if track.init.is_empty() {
        return None;
    }
    let mut body = Vec::with_capacity(track.init.len() + 16);
    match track.codec {
        Codec::H264 => body.extend_from_slice(&[FRAME_KEY | AVC, 0, 0, 0, 0]),
        Codec::Aac => body.extend_from_slice(&[AAC, 0]),
        Codec::Mp3 | Codec::Ac3 | Codec::Eac3 | Codec::Ulaw | Codec::Alaw | Codec::G722 => {
            return None;
        }
        Codec::Hevc | Codec::Av1 | Codec::Vp8 | Codec::Vp9 | Codec::Opus | Codec::Flac => {
            body.push(match track.kind() {
                Kind::Video => EX_VIDEO | FRAME_KEY | SEQUENCE_START,
                Kind::Audio => EX_AUDIO | SEQUENCE_START,
            });
            body.extend(fourcc::code(track.codec).into_iter().flatten());
        }
    }
    if track.codec == Codec::Flac {
        // The signature and the header of a last metadata block: STREAMINFO of 34 bytes.
        body.extend_from_slice(b"fLaC\x80\x00\x00\x22");
    }
    body.extend_from_slice(&track.init);
    Some(body)
}

/// `SoundType` of a legacy audio tag.
fn stereo(track: &Track) -> u8 {
    u8::from(track.audio.is_some_and(|format| format.channels > 1))
}

/// Presentation time less decoding time in milliseconds, both rounded as the timestamp is, so that
/// a reader gets the presentation time to the millisecond.
fn composition_time(frame: &Frame) -> [u8; 3] {
    const MAX: i64 = 0x7f_ffff;
    let composition = frame.pts.as_millis() - frame.dts.as_millis();
    let [_, bytes @ ..] = (composition.clamp(-MAX - 1, MAX) as i32).to_be_bytes();
    bytes
}
