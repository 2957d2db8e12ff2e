//! Where frames begin, told from payloads alone.

use super::{av1, h264, h265, vp8, vp9};
use crate::media::codec::{h264 as avc, hevc};
use crate::media::{Codec, Kind, MediaTime, Start};

/// Tells of each packet of a track whether a frame begins with it. A glance at a few bytes: every
/// packet that is forwarded pays for it.
///
/// Packets come in the order of their numbers. One that comes late is told wrongly at worst as
/// another beginning of its frame.
#[derive(Clone, Copy, Debug)]
pub struct StartFinder {
    codec: Codec,
    /// Of the packet before.
    time: Option<MediaTime>,
    /// A keyframe's beginning was told for that time.
    told: bool,
}

/// What a unit of H.264 or H.265 begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    Nothing,
    Picture,
    /// Parameter sets of a picture from which decoding can start, or its first slice.
    Keyframe,
    /// A slice of such a picture, which is not the first.
    KeyframeSlice,
}

impl StartFinder {
    /// A finder for a track of this codec.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            time: None,
            told: false,
        }
    }

    /// Looks at the next packet's payload.
    ///
    /// The first packet of a time that begins a unit is [`Start::Frame`]. A keyframe is told once
    /// for each time, on the packet from which a receiver can begin: the parameter sets if they are
    /// packets of their own before the picture, else the picture's first slice.
    pub fn look(&mut self, time: MediaTime, payload: &[u8]) -> Start {
        if self.codec.kind() == Kind::Audio {
            return Start::Keyframe;
        }
        let is_new = self.time != Some(time);
        if is_new {
            self.time = Some(time);
            self.told = false;
        }
        let begins = match self.codec {
            Codec::H264 => h264_begins(payload),
            Codec::Hevc => h265_begins(payload),
            Codec::Vp8 => match vp8::parse(payload) {
                Ok(part) if part.starts_keyframe() => Begins::Keyframe,
                Ok(part) if part.starts_frame => Begins::Picture,
                Ok(_) | Err(_) => Begins::Nothing,
            },
            Codec::Vp9 => match vp9::parse(payload) {
                Ok(part) if part.starts_keyframe() => Begins::Keyframe,
                Ok(part) if part.starts_picture() => Begins::Picture,
                Ok(_) | Err(_) => Begins::Nothing,
            },
            Codec::Av1 if av1::starts_sequence(payload) => Begins::Keyframe,
            Codec::Av1 if av1::starts_unit(payload) => Begins::Picture,
            Codec::Av1
            | Codec::Aac
            | Codec::Mp3
            | Codec::Opus
            | Codec::Flac
            | Codec::Ac3
            | Codec::Eac3
            | Codec::Ulaw
            | Codec::Alaw
            | Codec::G722 => Begins::Nothing,
        };
        match begins {
            Begins::Keyframe if !self.told => {
                self.told = true;
                Start::Keyframe
            }
            Begins::Picture | Begins::KeyframeSlice if is_new => Start::Frame,
            Begins::Nothing | Begins::Picture | Begins::Keyframe | Begins::KeyframeSlice => {
                Start::No
            }
        }
    }
}

fn h264_begins(payload: &[u8]) -> Begins {
    match avc::nal_type(payload) {
        h264::STAP_A => aggregate(payload.get(1..), h264_unit),
        h264::FU_A => match payload {
            [_, fragment, rest @ ..] if fragment & h264::FU_START != 0 => {
                h264_unit(&[*fragment, rest.first().copied().unwrap_or_default()])
            }
            _ => Begins::Nothing,
        },
        _ => h264_unit(payload),
    }
}

/// Of a picture parameter set alone nothing follows: some encoders send one with every picture.
fn h264_unit(unit: &[u8]) -> Begins {
    match avc::nal_type(unit) {
        avc::NAL_SPS => Begins::Keyframe,
        avc::NAL_IDR if unit.get(1).is_some_and(|byte| byte & 0x80 != 0) => Begins::Keyframe,
        avc::NAL_IDR => Begins::KeyframeSlice,
        1..h264::STAP_A => Begins::Picture,
        _ => Begins::Nothing,
    }
}

fn h265_begins(payload: &[u8]) -> Begins {
    match hevc::nal_type(payload) {
        h265::AP => aggregate(payload.get(2..), h265_unit),
        h265::FU => match payload {
            [_, _, fragment, rest @ ..] if fragment & h265::FU_START != 0 => {
                let first = (fragment & h265::FU_TYPE) << 1;
                h265_unit(&[first, 1, rest.first().copied().unwrap_or_default()])
            }
            _ => Begins::Nothing,
        },
        _ => h265_unit(payload),
    }
}

fn h265_unit(unit: &[u8]) -> Begins {
    match hevc::nal_type(unit) {
        hevc::NAL_VPS | hevc::NAL_SPS => Begins::Keyframe,
        16..=23 if unit.get(2).is_some_and(|byte| byte & 0x80 != 0) => Begins::Keyframe,
        16..=23 => Begins::KeyframeSlice,
        0..h265::AP => Begins::Picture,
        _ => Begins::Nothing,
    }
}

/// What the first unit begins that begins a keyframe, or else what the first unit does.
fn aggregate(units: Option<&[u8]>, of: impl Fn(&[u8]) -> Begins) -> Begins {
    let mut rest = units.unwrap_or_default();
    let mut first = Begins::Nothing;
    while let Some((size, behind)) = rest.split_first_chunk::<2>() {
        let Some((unit, behind)) = behind.split_at_checked(u16::from_be_bytes(*size).into()) else {
            break;
        };
        rest = behind;
        match of(unit) {
            Begins::Keyframe => return Begins::Keyframe,
            begins if first == Begins::Nothing => first = begins,
            Begins::Nothing | Begins::Picture | Begins::KeyframeSlice => {}
        }
    }
    first
}
