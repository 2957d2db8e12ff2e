//! Packets in, frames out.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Error, av1, h264, h265, nal, vp8, vp9};
use crate::media::{Codec, Kind, MediaTime, codec};

/// The largest frame. A keyframe of 100 Mbit/s video with one every two seconds that took a third of
/// its bits would have 8 MiB.
pub const FRAME_BYTES_MAX: usize = 8 << 20;

/// Frames that may wait to be polled. A packet completes two at most: the one before it, and its own.
const READY_MAX: usize = 8;

/// What a depacketizer looks at of a packet.
#[derive(Clone, Copy, Debug)]
pub struct PacketView<'a> {
    /// Its place in the track; one that is missing is lost.
    pub number: u64,
    /// Its timestamp.
    pub time: MediaTime,
    /// The RTP marker.
    pub marker: bool,
    /// The payload, without padding. Audio shares it; empty ones say nothing.
    pub payload: &'a Bytes,
}

/// A frame that was put together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Its presentation time.
    pub time: MediaTime,
    /// In the canonical form of [`Frame`](crate::media::Frame).
    pub data: Bytes,
    /// Decoding can start here. Always true for audio.
    pub keyframe: bool,
    /// Set on a keyframe that carries another configuration than the one before it, in the form of
    /// [`Track::init`](crate::media::Track::init).
    pub config: Option<Bytes>,
}

/// Puts the frames of one track together.
///
/// A frame ends with a marker, or when a packet has another time: some senders set no markers. A
/// frame of which anything is missing or wrong is dropped, and after it all video until the next
/// keyframe.
#[derive(Debug)]
pub struct Depacketizer {
    codec: Codec,
    format: Format,
    /// The number of the packet before.
    number: Option<u64>,
    /// Of the frame that is being put together.
    time: Option<MediaTime>,
    /// Something of that frame is missing or wrong.
    damaged: bool,
    needs_keyframe: bool,
    config: Bytes,
    ready: VecDeque<Unit>,
    dropped: u64,
}

/// The frame so far.
#[derive(Debug)]
enum Format {
    H264(nal::Assembly),
    H265(nal::Assembly),
    Av1(av1::Assembly),
    Vp8(Vec<u8>),
    Vp9(vp9::Assembly),
    Audio,
}

impl Depacketizer {
    /// `None` for a codec that RTP carries in no form known here: AAC, MP3, FLAC, AC-3.
    pub fn new(codec: Codec) -> Option<Self> {
        let format = match codec {
            Codec::H264 => Format::H264(nal::Assembly::default()),
            Codec::Hevc => Format::H265(nal::Assembly::default()),
            Codec::Av1 => Format::Av1(av1::Assembly::default()),
            Codec::Vp8 => Format::Vp8(Vec::new()),
            Codec::Vp9 => Format::Vp9(vp9::Assembly::default()),
            Codec::Opus | Codec::Ulaw | Codec::Alaw | Codec::G722 => Format::Audio,
            Codec::Aac | Codec::Mp3 | Codec::Flac | Codec::Ac3 | Codec::Eac3 => return None,
        };
        Some(Self {
            codec,
            format,
            number: None,
            time: None,
            damaged: false,
            needs_keyframe: codec.kind() == Kind::Video,
            config: Bytes::new(),
            ready: VecDeque::new(),
            dropped: 0,
        })
    }

    /// Takes the next packet. Numbers rise; one that is left out is a [`Self::gap`].
    ///
    /// # Errors
    ///
    /// [`Error::Order`] for a number that does not rise; that packet is ignored. Everything else
    /// damages the packet's frame.
    pub fn push(&mut self, packet: PacketView<'_>) -> Result<(), Error> {
        if let Some(before) = self.number {
            if packet.number <= before {
                return Err(Error::Order);
            }
            if packet.number - before > 1 {
                self.gap();
            }
        }
        self.number = Some(packet.number);
        if packet.payload.is_empty() {
            return Ok(());
        }
        if matches!(self.format, Format::Audio) {
            self.give_out(packet.time, packet.payload.clone());
            return Ok(());
        }
        if self.time != Some(packet.time) {
            self.finish();
            self.time = Some(packet.time);
        }
        let mut result = Ok(());
        if !self.damaged {
            result = self.read(packet.payload);
            if result.is_err() {
                self.damage();
            }
        }
        if packet.marker {
            self.finish();
        }
        result
    }

    /// Packets are missing before the next one. For video the frame that they may have belonged to
    /// is dropped, and all up to the next keyframe.
    pub fn gap(&mut self) {
        if self.codec.kind() == Kind::Video {
            self.damage();
        }
    }

    /// True if nothing comes out before the next keyframe; the publisher should be asked for one.
    pub fn needs_keyframe(&self) -> bool {
        self.needs_keyframe
    }

    /// Frames that were dropped: damaged, or not decodable because of one that was.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The next frame. To be asked after each packet until there is none; of frames that nobody
    /// takes the oldest are dropped.
    pub fn poll(&mut self) -> Option<Unit> {
        self.ready.pop_front()
    }

    fn read(&mut self, payload: &[u8]) -> Result<(), Error> {
        if self.format.len() + payload.len() > FRAME_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        match &mut self.format {
            Format::H264(assembly) => h264::read(payload, assembly),
            Format::H265(assembly) => h265::read(payload, assembly),
            Format::Av1(assembly) => assembly.read(payload),
            Format::Vp8(frame) => vp8::read(payload, frame),
            Format::Vp9(assembly) => assembly.read(payload),
            Format::Audio => Ok(()),
        }
    }

    fn damage(&mut self) {
        self.format.clear();
        // Without a frame in the making, the next one shows itself whether it is whole.
        self.damaged = self.time.is_some();
        self.needs_keyframe = true;
    }

    /// Ends the frame that is being put together.
    fn finish(&mut self) {
        let Some(time) = self.time.take() else {
            return;
        };
        if std::mem::take(&mut self.damaged) {
            self.dropped += 1;
            return;
        }
        match self.format.take() {
            Ok(Some(data)) => self.give_out(time, data.into()),
            Ok(None) => {}
            Err(_) => {
                self.dropped += 1;
                self.needs_keyframe = true;
            }
        }
    }

    fn give_out(&mut self, time: MediaTime, data: Bytes) {
        let keyframe = codec::is_keyframe(self.codec, &data);
        if self.needs_keyframe && !keyframe {
            self.dropped += 1;
            return;
        }
        self.needs_keyframe = false;
        if self.ready.len() == READY_MAX {
            self.ready.pop_front();
            self.dropped += 1;
        }
        let config = if keyframe {
            self.new_config(&data)
        } else {
            None
        };
        self.ready.push_back(Unit {
            time,
            data,
            keyframe,
            config,
        });
    }

    fn new_config(&mut self, keyframe: &[u8]) -> Option<Bytes> {
        let config = codec::config_in_frame(self.codec, keyframe)?;
        if config == self.config {
            return None;
        }
        self.config = config.into();
        Some(self.config.clone())
    }
}

impl Format {
    fn len(&self) -> usize {
        match self {
            Self::H264(assembly) | Self::H265(assembly) => assembly.len(),
            Self::Av1(assembly) => assembly.len(),
            Self::Vp8(frame) => frame.len(),
            Self::Vp9(assembly) => assembly.len(),
            Self::Audio => 0,
        }
    }

    fn clear(&mut self) {
        match self {
            Self::H264(assembly) | Self::H265(assembly) => assembly.clear(),
            Self::Av1(assembly) => assembly.clear(),
            Self::Vp8(frame) => frame.clear(),
            Self::Vp9(assembly) => assembly.clear(),
            Self::Audio => {}
        }
    }

    /// The frame, if there is one; an error if it is not complete.
    fn take(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::H264(assembly) | Self::H265(assembly) => assembly.take(),
            Self::Av1(assembly) => assembly.take(),
            Self::Vp8(frame) => Ok((!frame.is_empty()).then(|| std::mem::take(frame))),
            Self::Vp9(assembly) => assembly.take(),
            Self::Audio => Ok(None),
        }
    }
}
