//! What publishers send: packets like those of a browser's camera and microphone, with marks.
//!
//! ```text
//! H.264:  FU indicator, FU header, slice header ..., mark, filler
//! VP8:    payload descriptor, frame header ..., mark, filler
//! Opus:   table of contents, mark, filler
//! ```

use std::str::FromStr;
use std::time::Duration;

use crate::stamp;

/// Of each packet of a frame.
pub(super) const FRAME_PACKETS: usize = 7;

/// Of a frame's packet: what goes to a viewer is about 1200 bytes with a header of 24.
const PAYLOAD_BYTES: usize = 1176;

/// Of a packet of sound: with a header of 24, about 100.
const SOUND_BYTES: usize = 76;

/// 1.6 Mbit/s of such frames.
pub(super) const FRAME_EVERY: Duration = Duration::from_micros(42_000);
pub(crate) const SOUND_EVERY: Duration = Duration::from_micros(20_000);

/// Where a mark begins in a payload, by codec.
const H264_MARK_AT: usize = 8;
const VP8_MARK_AT: usize = 12;
const OPUS_MARK_AT: usize = 2;

/// Parameter sets of 640x360 Baseline in one packet (RFC 6184 section 5.7.1).
const PARAMETERS: [u8; 39] = [
    0x78, 0x00, 0x1d, 0x67, 0x42, 0xc0, 0x1e, 0xd8, 0x90, 0x28, 0x0b, 0xfe, 0x5c, 0x05, 0xa8, 0x10,
    0x10, 0x0a, 0x00, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x78, 0x1e, 0x2c, 0x5c, 0x4c,
    0x00, 0x05, 0x68, 0xc8, 0x88, 0xcb, 0x20,
];

/// What video is coded in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// H.264, cut into fragments.
    H264,
    /// VP8.
    Vp8,
}

impl Codec {
    /// As SDP has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Vp8 => "VP8",
        }
    }

    fn mark_at(self) -> usize {
        match self {
            Self::H264 => H264_MARK_AT,
            Self::Vp8 => VP8_MARK_AT,
        }
    }
}

impl FromStr for Codec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::H264, Self::Vp8]
            .into_iter()
            .find(|codec| codec.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("no codec `{text}`"))
    }
}

/// The payload of the parameter sets in front of a keyframe, where the codec has such.
pub(super) fn parameters(codec: Codec) -> Option<&'static [u8]> {
    (codec == Codec::H264).then_some(&PARAMETERS)
}

/// Writes the payload of a frame's packet `index`. `number` differs from packet to packet.
pub(super) fn picture(
    codec: Codec,
    is_keyframe: bool,
    index: usize,
    number: u32,
    out: &mut Vec<u8>,
) {
    let (is_first, is_last) = (index == 0, index + 1 == FRAME_PACKETS);
    out.clear();
    match codec {
        Codec::H264 => {
            let kind = if is_keyframe { 5 } else { 1 };
            // The slice's first macroblock is 0; it is an I or a P slice, as all of its picture
            // are (slice types 7 and 5, ITU-T H.264 section 7.4.3).
            let slice = if is_keyframe { 0x88 } else { 0x9a };
            out.push(0x60 | 28);
            out.push(u8::from(is_first) << 7 | u8::from(is_last) << 6 | kind);
            out.extend_from_slice(&[slice, 0x84, 0x21, 0xa3, 0x5c, 0x97]);
        }
        Codec::Vp8 => {
            // RFC 7741 section 4.2 and 4.3: the start bit, then the frame's header.
            out.push(u8::from(is_first) << 4);
            match is_keyframe {
                true => out.extend_from_slice(&[0x10, 2, 0, 0x9d, 0x01, 0x2a, 0x80, 2, 0x68, 1, 9]),
                false => out.extend_from_slice(&[0x11, 2, 0, 7, 7, 7, 7, 7, 7, 7, 7]),
            }
        }
    }
    mark(out, number);
    // A browser's packets of one frame differ by a byte or two.
    let bytes = PAYLOAD_BYTES - (number as usize * 7 / 3) % 3;
    out.resize(bytes, 0xa5);
}

/// Writes the payload of a packet of sound.
pub(crate) fn sound(number: u32, out: &mut Vec<u8>) {
    out.clear();
    // 20 ms of stereo (RFC 6716 section 3.1).
    out.extend_from_slice(&[0xfc, 0x11]);
    mark(out, number);
    out.resize(SOUND_BYTES, 0x5a);
}

fn mark(out: &mut Vec<u8>, number: u32) {
    let at = out.len();
    out.resize(at + stamp::SIZE, 0);
    stamp::write(&mut out[at..], number, stamp::nanoseconds());
}

/// When a packet of video was sent, in nanoseconds.
pub(super) fn picture_sent(codec: Codec, payload: &[u8]) -> Option<u64> {
    let (_, time) = stamp::read(payload.get(codec.mark_at()..)?)?;
    Some(time)
}

/// When a packet of sound was sent.
pub(crate) fn sound_sent(payload: &[u8]) -> Option<u64> {
    let (_, time) = stamp::read(payload.get(OPUS_MARK_AT..)?)?;
    Some(time)
}

/// Whether a keyframe begins with this packet.
pub(super) fn is_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match (codec, payload) {
        (Codec::H264, [first, ..]) => first & 0x1f == 24,
        (Codec::Vp8, [0x10, header, ..]) => header & 1 == 0,
        (Codec::H264 | Codec::Vp8, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use ringside::media::{MediaTime, Start};
    use ringside::proto::rtp::payload::StartFinder;

    use super::*;

    #[test]
    fn the_server_sees_frames_and_keyframes_where_they_are() {
        for (codec, known) in [
            (Codec::H264, ringside::media::Codec::H264),
            (Codec::Vp8, ringside::media::Codec::Vp8),
        ] {
            let mut finder = StartFinder::new(known);
            let mut payload = Vec::new();
            let mut time = MediaTime::ZERO;
            if let Some(sets) = parameters(codec) {
                assert_eq!(finder.look(time, sets), Start::Keyframe);
            } else {
                picture(codec, true, 0, 0, &mut payload);
                assert_eq!(finder.look(time, &payload), Start::Keyframe);
                assert!(is_keyframe(codec, &payload));
            }
            time = MediaTime::from_micros(42_000);
            for index in 0..FRAME_PACKETS {
                picture(codec, false, index, index as u32, &mut payload);
                let expected = if index == 0 { Start::Frame } else { Start::No };
                assert_eq!(finder.look(time, &payload), expected);
                assert!(!is_keyframe(codec, &payload));
                assert!(picture_sent(codec, &payload).is_some());
                assert!((PAYLOAD_BYTES - 2..=PAYLOAD_BYTES).contains(&payload.len()));
            }
        }
    }

    #[test]
    fn sound_carries_a_mark() {
        let mut payload = Vec::new();
        sound(1, &mut payload);
        assert!(sound_sent(&payload).is_some());
        assert_eq!(payload.len(), SOUND_BYTES);
    }
}
