//! What publishers send: tags with the time at which each is due.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use ringside::base::prng::Prng;
use ringside::proto::flv::{FileReader, Tag, TagKind};

use crate::stamp;

/// `avcC` of H.264 Baseline, level 3, 640x360 (ISO/IEC 14496-15 5.3.3.1).
const AVC_CONFIG: [u8; 45] = [
    0x01, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0x00, 0x1d, 0x67, 0x42, 0xc0, 0x1e, 0xd8, 0x90, 0x28, 0x0b,
    0xfe, 0x5c, 0x05, 0xa8, 0x10, 0x10, 0x0a, 0x00, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00,
    0x78, 0x1e, 0x2c, 0x5c, 0x4c, 0x01, 0x00, 0x05, 0x68, 0xc8, 0x88, 0xcb, 0x20,
];
/// `AudioSpecificConfig` of AAC-LC, 48 kHz, stereo (ISO/IEC 14496-3 1.6.2.1).
const AAC_CONFIG: [u8; 2] = [0x11, 0x90];

/// A keyframe is this many times as large as another frame.
const KEYFRAME_FACTOR: f64 = 6.0;

/// In front of a mark in a video frame: length (32) of the NAL unit, NAL type 6 (SEI), payload
/// type 5 (user data unregistered), its size; the identifier of 16 bytes is the mark's first half.
const SEI_HEADER: [u8; 7] = [0, 0, 0, 3 + stamp::SIZE as u8 + 1, 6, 5, stamp::SIZE as u8];
/// `rbsp_trailing_bits`.
const SEI_END: u8 = 0x80;
const SEI_SIZE: usize = SEI_HEADER.len() + stamp::SIZE + 1;

/// `FrameType`, `CodecID`, `AVCPacketType`, `CompositionTime` (FLV 10.1 E.4.3).
const VIDEO_HEADER_SIZE: usize = 5;
/// `SoundFormat` to `SoundType`, `AACPacketType` (E.4.2).
const AUDIO_HEADER_SIZE: usize = 2;

/// Where a mark is in the body of a video tag.
pub(crate) const VIDEO_MARK_AT: usize = VIDEO_HEADER_SIZE + SEI_HEADER.len();
/// Where a mark is in the body of an audio tag.
pub(crate) const AUDIO_MARK_AT: usize = AUDIO_HEADER_SIZE;

/// Where a mark is in an H.264 access unit with lengths.
pub(crate) const VIDEO_SAMPLE_MARK_AT: usize = SEI_HEADER.len();

/// One tag and when it is due.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    /// Since the publisher's start.
    pub(crate) due: Duration,
    pub(crate) kind: TagKind,
    pub(crate) body: Vec<u8>,
    /// Where to write the mark.
    pub(crate) mark_at: Option<usize>,
}

/// The rates of a synthetic stream: `video_kbps,fps,gop_ms,audio_kbps,audio_fps`, of which the
/// last ones may be left out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// Kilobits of video a second.
    pub video_kbps: f64,
    /// Video frames a second.
    pub fps: f64,
    /// Milliseconds between keyframes.
    pub gop_ms: f64,
    /// Kilobits of audio a second; 0 for no audio.
    pub audio_kbps: f64,
    /// Audio frames a second: 46.875 is AAC at 48 kHz.
    pub audio_fps: f64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            video_kbps: 1872.0,
            fps: 30.0,
            gop_ms: 2000.0,
            audio_kbps: 128.0,
            audio_fps: 46.875,
        }
    }
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut shape = Self::default();
        let places = [
            &mut shape.video_kbps,
            &mut shape.fps,
            &mut shape.gop_ms,
            &mut shape.audio_kbps,
            &mut shape.audio_fps,
        ];
        let mut numbers = text.split(',').filter(|number| !number.is_empty());
        for (place, number) in places.into_iter().zip(numbers.by_ref()) {
            *place = number.trim().parse().context("a rate is a number")?;
        }
        if numbers.next().is_some() {
            bail!("expected video_kbps,fps,gop_ms,audio_kbps,audio_fps");
        }
        if shape.fps <= 0.0 || shape.audio_fps <= 0.0 || shape.gop_ms <= 0.0 {
            bail!("rates and the distance of keyframes are above 0");
        }
        Ok(shape)
    }
}

/// The tags of one publisher.
#[derive(Debug)]
pub(crate) enum Source {
    Synthetic(Synthetic),
    File(File),
}

impl Source {
    /// From `synthetic`, `synthetic:SHAPE` or the path of an FLV file.
    pub(crate) fn open(description: &str) -> anyhow::Result<Self> {
        match description.split_once(':') {
            Some(("synthetic", shape)) => Ok(Self::Synthetic(Synthetic::new(shape.parse()?))),
            None if description == "synthetic" => {
                Ok(Self::Synthetic(Synthetic::new(Shape::default())))
            }
            Some(_) | None => Ok(Self::File(File::open(Path::new(description))?)),
        }
    }

    /// What comes before the first frame.
    pub(crate) fn configuration(&self) -> Vec<(TagKind, Vec<u8>)> {
        match self {
            Self::Synthetic(source) => source.configuration(),
            Self::File(source) => source.configuration.clone(),
        }
    }

    /// The next tag; there is always one.
    pub(crate) fn next(&mut self) -> Timed {
        match self {
            Self::Synthetic(source) => source.next(),
            Self::File(source) => source.next(),
        }
    }
}

/// Frames of the right sizes with nothing in them that could be decoded.
#[derive(Debug)]
pub(crate) struct Synthetic {
    shape: Shape,
    noise: Prng,
    video_frames: u64,
    audio_frames: u64,
}

impl Synthetic {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            noise: Prng::new(1),
            video_frames: 0,
            audio_frames: 0,
        }
    }

    fn configuration(&self) -> Vec<(TagKind, Vec<u8>)> {
        let mut video = vec![0x17, 0, 0, 0, 0];
        video.extend_from_slice(&AVC_CONFIG);
        let mut tags = vec![(TagKind::Video, video)];
        if self.shape.audio_kbps > 0.0 {
            let mut audio = vec![0xaf, 0];
            audio.extend_from_slice(&AAC_CONFIG);
            tags.push((TagKind::Audio, audio));
        }
        tags
    }

    pub(crate) fn next(&mut self) -> Timed {
        let video_due = self.video_frames as f64 / self.shape.fps;
        // Half a frame behind, so that audio is not always due with a picture.
        let audio_due = (self.audio_frames as f64 + 0.5) / self.shape.audio_fps;
        if self.shape.audio_kbps > 0.0 && audio_due < video_due {
            self.audio_frames += 1;
            return self.audio(Duration::from_secs_f64(audio_due));
        }
        self.video_frames += 1;
        self.video(Duration::from_secs_f64(video_due))
    }

    fn video(&mut self, due: Duration) -> Timed {
        let per_group = (self.shape.gop_ms * self.shape.fps / 1000.0)
            .round()
            .max(1.0);
        let is_key = (self.video_frames - 1).is_multiple_of(per_group as u64);
        let group_bytes = self.shape.video_kbps * 125.0 * per_group / self.shape.fps;
        let plain = group_bytes / (per_group - 1.0 + KEYFRAME_FACTOR);
        // Sizes vary by a quarter; the mean stays.
        let share = 0.75 + self.noise.below(501) as f64 / 1000.0;
        let size = plain * share * if is_key { KEYFRAME_FACTOR } else { 1.0 };
        let unit = (size as usize).saturating_sub(SEI_SIZE + 4).max(16);
        let mut body = vec![if is_key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
        push_mark(&mut body);
        body.extend_from_slice(&(unit as u32).to_be_bytes());
        body.push(if is_key { 0x65 } else { 0x41 });
        self.push_noise(&mut body, unit - 1);
        Timed {
            due,
            kind: TagKind::Video,
            body,
            mark_at: Some(VIDEO_MARK_AT),
        }
    }

    fn audio(&mut self, due: Duration) -> Timed {
        let size = (self.shape.audio_kbps * 125.0 / self.shape.audio_fps) as usize;
        let mut body = vec![0xaf, 1];
        body.resize(AUDIO_MARK_AT + stamp::SIZE, 0);
        self.push_noise(&mut body, size.saturating_sub(stamp::SIZE));
        Timed {
            due,
            kind: TagKind::Audio,
            body,
            mark_at: Some(AUDIO_MARK_AT),
        }
    }

    /// Bytes above 3, so that no start code is among them.
    fn push_noise(&mut self, body: &mut Vec<u8>, count: usize) {
        let start = body.len();
        body.resize(start + count, 0);
        self.noise.fill(&mut body[start..]);
        body[start..].iter_mut().for_each(|byte| *byte |= 4);
    }
}

/// A file, again and again.
#[derive(Debug)]
pub(crate) struct File {
    configuration: Vec<(TagKind, Vec<u8>)>,
    media: Vec<Timed>,
    length: Duration,
    next: usize,
    round: u32,
}

impl File {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
        let mut reader = FileReader::new();
        reader.push(&bytes);
        let mut tags = Vec::new();
        while let Some(tag) = reader.next_tag().context("the file is not FLV")? {
            tags.push(tag);
        }
        Self::new(tags)
    }

    fn new(tags: Vec<Tag>) -> anyhow::Result<Self> {
        let (configuration, media): (Vec<Tag>, Vec<Tag>) =
            tags.into_iter().partition(is_configuration);
        let Some(start) = media.iter().map(|tag| tag.timestamp).min() else {
            bail!("the file has no frames");
        };
        let takes_marks = configuration.iter().any(has_four_byte_lengths);
        let mut media: Vec<Timed> = media
            .into_iter()
            .map(|tag| {
                let due = Duration::from_millis(u64::from(tag.timestamp - start));
                let is_avc = tag.kind == TagKind::Video && tag.payload[0] & 0x8f == 7;
                let mut body = tag.payload.to_vec();
                let mark_at = (takes_marks && is_avc).then(|| {
                    let mut mark = Vec::new();
                    push_mark(&mut mark);
                    body.splice(VIDEO_HEADER_SIZE..VIDEO_HEADER_SIZE, mark);
                    VIDEO_MARK_AT
                });
                Timed {
                    due,
                    kind: tag.kind,
                    body,
                    mark_at,
                }
            })
            .collect();
        media.sort_by_key(|timed| timed.due);
        let last = media.last().map_or(Duration::ZERO, |timed| timed.due);
        let frames = media.len().max(2) as u32;
        Ok(Self {
            configuration: configuration
                .into_iter()
                .map(|tag| (tag.kind, tag.payload.to_vec()))
                .collect(),
            length: last + last / (frames - 1) + Duration::from_millis(1),
            media,
            next: 0,
            round: 0,
        })
    }

    fn next(&mut self) -> Timed {
        let mut timed = self.media[self.next].clone();
        timed.due += self.length * self.round;
        self.next += 1;
        if self.next == self.media.len() {
            self.next = 0;
            self.round += 1;
        }
        timed
    }
}

/// Room for a mark, as an SEI unit of its own.
fn push_mark(body: &mut Vec<u8>) {
    body.extend_from_slice(&SEI_HEADER);
    body.extend_from_slice(&[b'0'; stamp::SIZE]);
    body.push(SEI_END);
}

fn is_configuration(tag: &Tag) -> bool {
    let (first, second) = (tag.payload.first(), tag.payload.get(1));
    match tag.kind {
        TagKind::Script => true,
        // Packet type 0, in the low bits of an enhanced header's first byte or in the second.
        TagKind::Video => match first {
            Some(first) if first & 0x80 != 0 => first & 0x0f == 0,
            Some(_) => second == Some(&0),
            None => true,
        },
        TagKind::Audio => match first {
            Some(first) if first >> 4 == 9 => first & 0x0f == 0,
            Some(first) if first >> 4 == 10 => second == Some(&0),
            Some(_) => false,
            None => true,
        },
    }
}

/// An `avcC` whose NAL lengths have 32 bits.
fn has_four_byte_lengths(tag: &Tag) -> bool {
    tag.kind == TagKind::Video
        && tag.payload.first().is_some_and(|first| first & 0x8f == 7)
        && tag
            .payload
            .get(VIDEO_HEADER_SIZE + 4)
            .is_some_and(|byte| byte & 3 == 3)
}

#[cfg(test)]
mod tests {
    use ringside::proto::flv::{Demuxer, Event};

    use super::*;

    #[test]
    fn synthetic_frames_have_the_rate_and_can_be_demuxed() {
        let shape: Shape = "1000,25,1000,64,50".parse().unwrap();
        let mut source = Source::Synthetic(Synthetic::new(shape));
        let mut demuxer = Demuxer::new();
        let now = ringside::shard::clock::now();
        let mut give = |kind, body: Vec<u8>, ms| {
            let tag = Tag {
                kind,
                timestamp: ms,
                payload: body.into(),
            };
            demuxer.handle_tag(tag, now).unwrap();
        };
        for (kind, body) in source.configuration() {
            give(kind, body, 0);
        }
        loop {
            let timed = source.next();
            if timed.due >= Duration::from_secs(10) {
                break;
            }
            give(timed.kind, timed.body, timed.due.as_millis() as u32);
        }
        let (mut tracks, mut bytes, mut keyframes, mut frames) = (0, 0, 0, 0);
        while let Some(event) = demuxer.poll_event() {
            match event {
                Event::Track(_) => tracks += 1,
                Event::Frame(frame) => {
                    bytes += frame.data.len();
                    frames += 1;
                    keyframes += usize::from(frame.keyframe && frame.data.len() > 1000);
                }
                Event::Metadata(_) => {}
            }
        }
        assert_eq!((tracks, frames, keyframes), (2, 750, 10));
        let kbps = bytes / 1250;
        assert!((1010..1120).contains(&kbps), "{kbps} kbit/s");
    }

    #[test]
    fn a_file_loops_with_marks_in_its_pictures() {
        let mut source = Source::open("../assets/demo.flv").unwrap();
        let (mut last, mut marks) = (Duration::ZERO, 0);
        for _ in 0..2000 {
            let timed = source.next();
            assert!(timed.due >= last);
            last = timed.due;
            marks += usize::from(timed.mark_at.is_some());
        }
        assert!(marks > 300, "{marks}");
    }
}
