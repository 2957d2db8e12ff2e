//! Reads just enough of a container to see whole frames and the marks in them.

use std::mem;

use crate::source::{AUDIO_MARK_AT, VIDEO_MARK_AT, VIDEO_SAMPLE_MARK_AT};
use crate::stamp;

/// What is kept of the beginning of a frame.
const HEAD_SIZE: usize = 64;

const _: () = assert!(VIDEO_MARK_AT + stamp::SIZE <= HEAD_SIZE);

/// A frame that has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) is_keyframe: bool,
    /// When it was sent, if it says so.
    pub(crate) sent: Option<u64>,
}

/// A reader of one of the containers.
#[derive(Debug)]
pub(crate) enum Container {
    Flv(Flv),
    Ts(Ts),
    Mp4(Mp4),
}

impl Container {
    /// Takes bytes and calls `seen` for each frame that they complete.
    pub(crate) fn read(&mut self, bytes: &[u8], seen: impl FnMut(Seen)) {
        match self {
            Self::Flv(reader) => reader.read(bytes, seen),
            Self::Ts(reader) => reader.read(bytes, seen),
            Self::Mp4(reader) => reader.read(bytes, seen),
        }
    }
}

/// The frame in a tag's body, or in the part of it that is known.
pub(crate) fn tag(number: u8, head: &[u8]) -> Option<Seen> {
    const AUDIO: u8 = 8;
    const VIDEO: u8 = 9;
    let (first, second) = (*head.first()?, *head.get(1)?);
    match number {
        // The second byte of the old form tells frames from configuration.
        VIDEO if first & 0x80 != 0 || second == 1 => Some(Seen {
            is_keyframe: (first >> 4) & 7 == 1,
            sent: mark(head, VIDEO_MARK_AT),
        }),
        AUDIO if second != 0 => Some(Seen {
            is_keyframe: false,
            sent: mark(head, AUDIO_MARK_AT),
        }),
        _ => None,
    }
}

fn mark(head: &[u8], at: usize) -> Option<u64> {
    stamp::read(head.get(at..)?).map(|(_sequence, sent)| sent)
}

/// A run of bytes of which the first are kept.
#[derive(Debug, Default)]
struct Body {
    left: usize,
    head: Vec<u8>,
    keep: usize,
}

impl Body {
    fn begin(&mut self, size: usize, keep: usize) {
        self.left = size;
        self.keep = keep;
        self.head.clear();
    }

    /// Takes from the front of `bytes`; true when all have come.
    fn take(&mut self, bytes: &mut &[u8]) -> bool {
        let (taken, rest) = bytes.split_at(self.left.min(bytes.len()));
        let kept = taken.len().min(self.keep - self.head.len());
        self.head.extend_from_slice(&taken[..kept]);
        self.left -= taken.len();
        *bytes = rest;
        self.left == 0
    }
}

/// FLV 10.1 annex E.
#[derive(Debug)]
pub(crate) struct Flv {
    at: FlvAt,
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum FlvAt {
    FileHeader,
    TagHeader,
    Tag(u8),
    BackPointer,
}

impl Flv {
    pub(crate) fn new() -> Self {
        let mut body = Body::default();
        body.begin(13, 0);
        Self {
            at: FlvAt::FileHeader,
            body,
        }
    }

    fn read(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Seen)) {
        while !bytes.is_empty() {
            if !self.body.take(&mut bytes) {
                return;
            }
            self.at = match self.at {
                FlvAt::FileHeader | FlvAt::BackPointer => {
                    self.body.begin(11, 11);
                    FlvAt::TagHeader
                }
                FlvAt::TagHeader => {
                    let [kind, a, b, c] = [0, 1, 2, 3].map(|index| self.body.head[index]);
                    let size = u32::from_be_bytes([0, a, b, c]) as usize;
                    self.body.begin(size.max(1), HEAD_SIZE);
                    FlvAt::Tag(kind)
                }
                FlvAt::Tag(kind) => {
                    tag(kind, &self.body.head).into_iter().for_each(&mut seen);
                    self.body.begin(4, 0);
                    FlvAt::BackPointer
                }
            };
        }
    }
}

/// ISO/IEC 13818-1. A frame's end is not known before the next one, so a frame that is not a
/// keyframe counts as seen with the packet that has its mark.
#[derive(Debug)]
pub(crate) struct Ts {
    packet: Vec<u8>,
    /// The packet identifier of a keyframe that has begun.
    keyframe: Option<u16>,
}

const TS_PACKET_SIZE: usize = 188;

impl Ts {
    pub(crate) fn new() -> Self {
        Self {
            packet: Vec::with_capacity(TS_PACKET_SIZE),
            keyframe: None,
        }
    }

    fn read(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Seen)) {
        if !self.packet.is_empty() {
            let (taken, rest) = bytes.split_at(bytes.len().min(TS_PACKET_SIZE - self.packet.len()));
            self.packet.extend_from_slice(taken);
            bytes = rest;
            if self.packet.len() < TS_PACKET_SIZE {
                return;
            }
            let packet = mem::take(&mut self.packet);
            self.packet(&packet, &mut seen);
            self.packet = packet;
            self.packet.clear();
        }
        let packets = bytes.chunks_exact(TS_PACKET_SIZE);
        self.packet.extend_from_slice(packets.remainder());
        for packet in packets {
            self.packet(packet, &mut seen);
        }
    }

    fn packet(&mut self, packet: &[u8], seen: &mut impl FnMut(Seen)) {
        const STARTS_UNIT: u16 = 0x4000;
        const FIRST_MEDIA_PID: u16 = 0x20;
        const HAS_ADAPTATION: u8 = 0x20;
        const RANDOM_ACCESS: u8 = 0x40;
        const VIDEO_STREAMS: [u8; 4] = [0, 0, 1, 0xe0];
        let word = u16::from_be_bytes([packet[1], packet[2]]);
        let pid = word & 0x1fff;
        if word & STARTS_UNIT == 0 || pid < FIRST_MEDIA_PID {
            return;
        }
        if self.keyframe == Some(pid) {
            self.keyframe = None;
            seen(Seen {
                is_keyframe: true,
                sent: None,
            });
        }
        let has_adaptation = packet[3] & HAS_ADAPTATION != 0;
        let adaptation = if has_adaptation {
            1 + usize::from(packet[4])
        } else {
            0
        };
        let body = packet.get(4 + adaptation..).unwrap_or_default();
        let is_video = body.starts_with(&VIDEO_STREAMS);
        if has_adaptation && adaptation > 1 && packet[5] & RANDOM_ACCESS != 0 && is_video {
            self.keyframe = Some(pid);
        }
        if let Some((_sequence, sent)) = stamp::find(body) {
            seen(Seen {
                is_keyframe: false,
                sent: Some(sent),
            });
        }
    }
}

/// ISO/IEC 14496-12, with one frame in a fragment.
#[derive(Debug)]
pub(crate) struct Mp4 {
    at: Mp4At,
    body: Body,
    is_keyframe: bool,
    is_video: bool,
}

#[derive(Clone, Copy, Debug)]
enum Mp4At {
    Header,
    Fragment,
    Data,
    Other,
}

impl Mp4 {
    const FRAGMENT_SIZE: usize = 512;

    pub(crate) fn new() -> Self {
        let mut body = Body::default();
        body.begin(8, 8);
        Self {
            at: Mp4At::Header,
            body,
            is_keyframe: false,
            is_video: false,
        }
    }

    fn read(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Seen)) {
        while !bytes.is_empty() {
            if !self.body.take(&mut bytes) {
                return;
            }
            match self.at {
                Mp4At::Header => {
                    self.begin_box();
                    continue;
                }
                Mp4At::Fragment => self.read_fragment(),
                Mp4At::Data => {
                    let at = if self.is_video {
                        VIDEO_SAMPLE_MARK_AT
                    } else {
                        0
                    };
                    seen(Seen {
                        is_keyframe: self.is_keyframe,
                        sent: mark(&self.body.head, at),
                    });
                }
                Mp4At::Other => {}
            }
            self.at = Mp4At::Header;
            self.body.begin(8, 8);
        }
    }

    fn begin_box(&mut self) {
        let (size, name) = self.body.head.split_at(4);
        let size = size
            .iter()
            .fold(0, |size, byte| size << 8 | usize::from(*byte));
        let (at, keep) = match name {
            b"moof" => (Mp4At::Fragment, Self::FRAGMENT_SIZE),
            b"mdat" => (Mp4At::Data, HEAD_SIZE),
            _ => (Mp4At::Other, 0),
        };
        self.at = at;
        self.body.begin(size.saturating_sub(8).max(1), keep);
    }

    /// `trun` of the first sample: flags are told of video only, and bit 16 says that it is no
    /// place to start (8.8.8 and 8.8.3.1).
    fn read_fragment(&mut self) {
        const SAMPLE_FLAGS: u8 = 0x04;
        const NOT_SYNC: u8 = 0x01;
        let head = &self.body.head;
        let Some(at) = head.windows(4).position(|name| name == b"trun") else {
            return;
        };
        // Name (4), version and flags (4), count (4), data offset (4), duration (4), size (4).
        let told = head
            .get(at + 6)
            .is_some_and(|flags| flags & SAMPLE_FLAGS != 0);
        self.is_video = told;
        self.is_keyframe = told && head.get(at + 25).is_some_and(|flags| flags & NOT_SYNC == 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringside::base::ids::TrackId;
    use ringside::media::{Codec, Frame, MediaTime, Track};
    use ringside::proto::flv::{Demuxer, Event, Tag};
    use ringside::proto::{cmaf, flv, mpegts};
    use ringside::shard::clock;

    use super::*;
    use crate::source::{Shape, Source, Synthetic};

    /// Two seconds of tracks and frames, the frames with their sequence as the time of their mark.
    fn media() -> (Vec<Track>, Vec<Frame>) {
        let mut source = Source::Synthetic(Synthetic::new(Shape::default()));
        let mut demuxer = Demuxer::new();
        let configuration = source.configuration();
        let frames = (0..154).map(|sequence| {
            let mut timed = source.next();
            let at = timed.mark_at.unwrap();
            stamp::write(&mut timed.body[at..], sequence, u64::from(sequence));
            (timed.kind, timed.body, timed.due)
        });
        let tags = configuration
            .into_iter()
            .map(|(kind, body)| (kind, body, Duration::ZERO))
            .chain(frames);
        for (kind, body, due) in tags {
            let tag = Tag {
                kind,
                timestamp: due.as_millis() as u32,
                payload: body.into(),
            };
            demuxer.handle_tag(tag, clock::now()).unwrap();
        }
        let (mut tracks, mut frames) = (Vec::new(), Vec::new());
        while let Some(event) = demuxer.poll_event() {
            match event {
                Event::Track(mut track) => {
                    if track.codec == Codec::Aac {
                        track.audio = Some(ringside::media::AudioFormat {
                            rate: 48_000,
                            channels: 2,
                            bits: 16,
                        });
                    }
                    tracks.push(track);
                }
                Event::Frame(frame) => frames.push(frame),
                Event::Metadata(_) => {}
            }
        }
        assert!(frames[0].track == TrackId(0) && frames[0].dts == MediaTime::ZERO);
        (tracks, frames)
    }

    fn check(mut container: Container, bytes: &[u8], pieces: usize) {
        let (mut sent, mut keyframes) = (Vec::new(), 0);
        for piece in bytes.chunks(pieces) {
            container.read(piece, |seen| {
                sent.extend(seen.sent);
                keyframes += usize::from(seen.is_keyframe);
            });
        }
        assert_eq!(
            sent,
            (0..154).collect::<Vec<u64>>(),
            "in pieces of {pieces}"
        );
        assert!((1..=2).contains(&keyframes), "{keyframes} keyframes");
    }

    #[test]
    fn every_mark_comes_through_every_container() {
        let (tracks, frames) = media();
        let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
        let mut flv = flv::Muxer::new(&tracks);
        let mut ts = mpegts::Muxer::new(&tracks);
        let mut mp4 = cmaf::Muxer::new(&tracks);
        flv.header(&mut a);
        mp4.header(&mut c);
        for frame in &frames {
            flv.write(frame, &mut a);
            ts.write(frame, &mut b);
            mp4.write(frame, &mut c);
        }
        for pieces in [1, 100, 16 * 1024] {
            check(Container::Flv(Flv::new()), &a, pieces);
            check(Container::Ts(Ts::new()), &b, pieces);
            check(Container::Mp4(Mp4::new()), &c, pieces);
        }
    }
}
