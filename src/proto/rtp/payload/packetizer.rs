//! Frames in, packets out.

use std::time::Instant;

use bytes::Bytes;

use super::payloads::Payloads;
use super::{audio, av1, h264, h265, vp8, vp9};
use crate::base::ids::TrackId;
use crate::media::{Codec, Extras, Frame, Kind, MediaTime, Packet, Start, Track};

/// What a datagram may hold so that it passes tunnels on paths of 1280 bytes and more; browsers
/// send no larger ones.
const DATAGRAM_BYTES_MAX: usize = 1200;
/// An RTP header without contributing sources (RFC 3550 section 5.1).
const HEADER_BYTES: usize = 12;
/// Room for header extensions: their header, then `mid`, `abs-send-time`, `transport-cc`,
/// `playout-delay` and a short dependency descriptor.
const EXTENSION_BYTES: usize = 36;
/// The number of the packet that is sent again (RFC 4588 section 4).
const RTX_BYTES: usize = 2;
/// The longest authentication tag (RFC 7714 section 13.2).
const TAG_BYTES: usize = 16;

/// The largest payload that leaves room for all that goes with it: 1134 bytes.
pub const PAYLOAD_BYTES_MAX: usize =
    DATAGRAM_BYTES_MAX - HEADER_BYTES - EXTENSION_BYTES - RTX_BYTES - TAG_BYTES;

/// The smallest limit that is taken: a payload header and something behind it.
pub const PAYLOAD_BYTES_MIN: usize = 32;

/// How a track is cut into packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The largest payload in bytes; raised to [`PAYLOAD_BYTES_MIN`] if it is below.
    pub payload_bytes_max: usize,
    /// What an H.264 receiver takes.
    pub h264_mode: H264Mode,
    /// The number of the first packet.
    pub first_number: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            h264_mode: H264Mode::NonInterleaved,
            first_number: 0,
        }
    }
}

/// `packetization-mode` (RFC 6184 section 5.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum H264Mode {
    /// 0: every packet is one unit. A frame with a unit that does not fit cannot be sent.
    SingleUnit,
    /// 1: units may share a packet or be cut.
    NonInterleaved,
}

/// Makes the packets of one track.
#[derive(Debug)]
pub struct Packetizer {
    codec: Codec,
    options: Options,
    number: u64,
    format: Format,
    payloads: Payloads,
    dropped: u64,
}

/// What a payload format remembers between frames.
#[derive(Debug)]
enum Format {
    H264,
    H265,
    Av1,
    Vp8(PictureId),
    Vp9(PictureId),
    Audio(audio::Pace),
}

/// Counts pictures in 15 bits (RFC 7741 section 4.2, RFC 9628 section 4.2).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PictureId(u16);

impl PictureId {
    /// The two bytes of this picture's number, and one more for the next.
    pub(super) fn next(&mut self) -> [u8; 2] {
        const LONG: u16 = 0x8000;
        let bytes = (self.0 | LONG).to_be_bytes();
        self.0 = (self.0 + 1) & !LONG;
        bytes
    }
}

impl Packetizer {
    /// `None` for a codec that RTP carries in no form known here: AAC, MP3, FLAC, AC-3.
    pub fn new(codec: Codec, options: Options) -> Option<Self> {
        let format = match codec {
            Codec::H264 => Format::H264,
            Codec::Hevc => Format::H265,
            Codec::Av1 => Format::Av1,
            Codec::Vp8 => Format::Vp8(PictureId::default()),
            Codec::Vp9 => Format::Vp9(PictureId::default()),
            Codec::Opus | Codec::Ulaw | Codec::Alaw | Codec::G722 => {
                Format::Audio(audio::Pace::default())
            }
            Codec::Aac | Codec::Mp3 | Codec::Flac | Codec::Ac3 | Codec::Eac3 => return None,
        };
        let options = Options {
            payload_bytes_max: options.payload_bytes_max.max(PAYLOAD_BYTES_MIN),
            ..options
        };
        Some(Self {
            codec,
            options,
            number: options.first_number,
            format,
            payloads: Payloads::default(),
            dropped: 0,
        })
    }

    /// The number that the next packet gets.
    pub fn next_number(&self) -> u64 {
        self.number
    }

    /// Frames that could not be sent: units too large for [`H264Mode::SingleUnit`], and Opus
    /// packets that no datagram holds.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Appends the packets of a frame, which is of `track`, in decoding order; none if nothing in it
    /// is worth sending. A keyframe that lacks its parameter sets gets them from [`Track::init`].
    ///
    /// A packet's time is the frame's presentation time. That of audio is put right by some
    /// milliseconds at most, so that it steps by the samples sent.
    pub fn packetize(&mut self, track: &Track, frame: &Frame, out: &mut Vec<Packet>) {
        debug_assert_eq!(track.codec, self.codec);
        let max = self.options.payload_bytes_max;
        let header = Head {
            track: frame.track,
            keyframe: frame.keyframe || self.codec.kind() == Kind::Audio,
            received: frame.received,
        };
        let payloads = &mut self.payloads;
        payloads.clear();
        match &mut self.format {
            Format::Audio(pace) => {
                let parts = pace.parts(track, frame, max);
                self.dropped += u64::from(parts.is_none());
                for part in parts.into_iter().flatten() {
                    out.push(header.packet(self.number, part.time, part.marker, true, part.data));
                    self.number += 1;
                }
                return;
            }
            Format::H264 => {
                if !h264::write(track, frame, self.options.h264_mode, max, payloads) {
                    self.dropped += 1;
                    return;
                }
            }
            Format::H265 => h265::write(track, frame, max, payloads),
            Format::Av1 => av1::write(track, frame, max, payloads),
            Format::Vp8(picture) => vp8::write(&frame.data, picture, max, payloads),
            Format::Vp9(picture) => {
                vp9::write(&frame.data, frame.keyframe, picture, max, payloads);
            }
        }
        self.give_out(&header, frame.pts, out);
    }

    fn give_out(&mut self, header: &Head, time: MediaTime, out: &mut Vec<Packet>) {
        let all = Bytes::from(self.payloads.take());
        let ends = self.payloads.ends();
        out.reserve(ends.len());
        let mut from = 0;
        for (index, end) in ends.iter().enumerate() {
            let marker = index + 1 == ends.len();
            let payload = all.slice(from..*end);
            out.push(header.packet(self.number, time, marker, index == 0, payload));
            self.number += 1;
            from = *end;
        }
    }
}

/// What the packets of a frame have in common.
struct Head {
    track: TrackId,
    keyframe: bool,
    received: Instant,
}

impl Head {
    fn packet(
        &self,
        number: u64,
        time: MediaTime,
        marker: bool,
        is_first: bool,
        payload: Bytes,
    ) -> Packet {
        Packet {
            track: self.track,
            number,
            time,
            marker,
            start: match (is_first, self.keyframe) {
                (true, true) => Start::Keyframe,
                (true, false) => Start::Frame,
                (false, _) => Start::No,
            },
            payload,
            extras: Extras::default(),
            received: self.received,
        }
    }
}
