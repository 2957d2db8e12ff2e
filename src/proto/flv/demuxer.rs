//! Tags in, tracks and frames out.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::packet::{Content, Packet};
use super::{Error, Foreign, Tag, TagKind, Timeline, audio, av1, metadata, mpeg_audio, nal, video};
use crate::base::ids::TrackId;
use crate::media::codec::g7xx;
use crate::media::{AudioFormat, Codec, Frame, Kind, MediaTime, Track, VideoFormat};
use crate::proto::amf;

/// How many tracks one publisher may have. Enhanced RTMP allows 256 of each kind; a ladder of
/// renditions with their languages is below 16.
pub const TRACKS_MAX: usize = 16;
/// How many unsupported codecs are remembered as reported; further ones are dropped silently.
const REPORTED_MAX: usize = 8;
/// Script data above this size is not read: metadata has some hundred bytes, and only text that
/// nothing here uses is longer.
const SCRIPT_BYTES_MAX: usize = 64 * 1024;

/// What a tag brought.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new track, or a known one with another configuration. Formats are those that metadata
    /// or an MP3 frame told; the configuration itself is not looked into.
    Track(Track),
    /// An access unit of a track that was announced.
    Frame(Frame),
    /// The value of `onMetaData`.
    Metadata(amf::Value),
}

/// Reads the tags of one publisher or one file.
///
/// A track is known by its kind, its number in the tag and its codec. Its [`TrackId`] counts tracks
/// in the order their first configuration came.
#[derive(Debug, Default)]
pub struct Demuxer {
    timeline: Timeline,
    slots: Vec<Slot>,
    video: Option<VideoFormat>,
    audio: Option<AudioFormat>,
    events: VecDeque<Event>,
    reported: Vec<Foreign>,
    dropped_before_config: u64,
}

#[derive(Debug)]
struct Slot {
    number: u8,
    codec: Codec,
    id: TrackId,
    /// As it came, to see whether it changes.
    config: Bytes,
    /// Bytes of a NAL length; 1 to 4.
    length_size: u8,
}

impl Demuxer {
    /// A demuxer that knows no track.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one tag. What could be read of it is in [`Self::poll_event`] also after an error, and
    /// the next tag is read as if the error had not been.
    pub fn handle_tag(&mut self, tag: Tag, received: Instant) -> Result<(), Error> {
        let dts_ms = self.timeline.unwrap(tag.timestamp);
        let (packets, mut result) = match tag.kind {
            TagKind::Audio => audio::read(&tag.payload),
            TagKind::Video => video::read(&tag.payload),
            TagKind::Script => {
                self.handle_script(&tag.payload);
                return Ok(());
            }
        };
        for packet in packets {
            let handled = match packet.content {
                Content::Config => self.handle_config(&packet),
                Content::Frame { .. } => self.handle_frame(&packet, dts_ms, received),
            };
            result = result.and(handled);
        }
        result.or_else(|error| self.report(error))
    }

    /// What the tags brought, in their order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How many frames came before the configuration they need.
    pub fn dropped_before_config(&self) -> u64 {
        self.dropped_before_config
    }

    fn handle_script(&mut self, payload: &[u8]) {
        if payload.len() > SCRIPT_BYTES_MAX {
            return;
        }
        if let Some(value) = metadata::read(payload) {
            self.video = metadata::video_format(&value).or(self.video);
            self.audio = metadata::audio_format(&value).or(self.audio);
            self.events.push_back(Event::Metadata(value));
        }
    }

    fn handle_config(&mut self, packet: &Packet) -> Result<(), Error> {
        let known = self.slot(packet);
        if known.is_some_and(|index| self.slots[index].config == packet.payload) {
            return Ok(());
        }
        let (init, length_size) = canonical_config(packet.codec, &packet.payload)?;
        let index = match known {
            Some(index) => index,
            None => self.add_slot(packet)?,
        };
        let slot = &mut self.slots[index];
        slot.config = packet.payload.clone();
        slot.length_size = length_size;
        let id = slot.id;
        self.announce(id, packet.codec, init, None);
        Ok(())
    }

    fn handle_frame(
        &mut self,
        packet: &Packet,
        dts_ms: i64,
        received: Instant,
    ) -> Result<(), Error> {
        let Content::Frame {
            mut keyframe,
            composition_ms,
            offset_ns,
        } = packet.content
        else {
            return Ok(());
        };
        let index = match self.slot(packet) {
            Some(index) => index,
            None => match self.add_slot_without_config(packet, keyframe)? {
                Some(index) => index,
                None => {
                    self.dropped_before_config += 1;
                    return Ok(());
                }
            },
        };
        let slot = &self.slots[index];
        let data = match packet.codec {
            Codec::H264 | Codec::Hevc => {
                let (data, starts) =
                    nal::canonical_frame(packet.codec, slot.length_size, &packet.payload)?;
                keyframe |= starts;
                data
            }
            Codec::Av1 => av1::canonical_frame(&packet.payload)?,
            Codec::Vp8
            | Codec::Vp9
            | Codec::Aac
            | Codec::Mp3
            | Codec::Opus
            | Codec::Flac
            | Codec::Ac3
            | Codec::Eac3
            | Codec::Ulaw
            | Codec::Alaw
            | Codec::G722 => packet.payload.clone(),
        };
        if data.is_empty() {
            return Ok(());
        }
        let offset = MediaTime::from_micros(i64::from(offset_ns / 1000));
        let mut dts = MediaTime::from_millis(dts_ms);
        let pts = dts + MediaTime::from_millis(i64::from(composition_ms)) + offset;
        if packet.codec.kind() == Kind::Audio {
            dts = pts;
        }
        self.events.push_back(Event::Frame(Frame {
            track: slot.id,
            dts,
            pts,
            keyframe,
            data,
            received,
        }));
        Ok(())
    }

    /// Codecs whose frames can be decoded on their own become a track with their first frame.
    fn add_slot_without_config(
        &mut self,
        packet: &Packet,
        keyframe: bool,
    ) -> Result<Option<usize>, Error> {
        let (init, audio) = match packet.codec {
            Codec::H264 | Codec::Hevc | Codec::Av1 | Codec::Aac | Codec::Flac => return Ok(None),
            Codec::Vp8 | Codec::Vp9 if !keyframe => return Ok(None),
            Codec::Vp8 | Codec::Vp9 | Codec::Ac3 | Codec::Eac3 => (Bytes::new(), None),
            Codec::Opus => (
                Bytes::from_static(&OPUS_HEAD),
                Some(AudioFormat {
                    rate: 48_000,
                    channels: 2,
                    bits: 0,
                }),
            ),
            // The rate bits of the tag cannot tell 8 kHz; metadata can.
            Codec::Ulaw | Codec::Alaw | Codec::G722 => {
                let told = self.audio.filter(|format| format.rate > 0);
                (
                    Bytes::new(),
                    told.or_else(|| g7xx::usual_format(packet.codec)),
                )
            }
            Codec::Mp3 => {
                let format = mpeg_audio::format(&packet.payload).ok_or(Error::MpegAudio)?;
                (Bytes::new(), Some(format))
            }
        };
        let index = self.add_slot(packet)?;
        self.announce(self.slots[index].id, packet.codec, init, audio);
        Ok(Some(index))
    }

    fn slot(&self, packet: &Packet) -> Option<usize> {
        let same = |slot: &Slot| slot.number == packet.track && slot.codec == packet.codec;
        self.slots.iter().position(same)
    }

    fn add_slot(&mut self, packet: &Packet) -> Result<usize, Error> {
        let index = self.slots.len();
        if index == TRACKS_MAX {
            return Err(Error::TooManyTracks);
        }
        self.slots.push(Slot {
            number: packet.track,
            codec: packet.codec,
            id: TrackId(index as u16),
            config: Bytes::new(),
            length_size: 4,
        });
        Ok(index)
    }

    fn announce(&mut self, id: TrackId, codec: Codec, init: Bytes, audio: Option<AudioFormat>) {
        let (video, audio) = match codec.kind() {
            Kind::Video => (self.video, None),
            Kind::Audio => (None, audio.or(self.audio)),
        };
        self.events.push_back(Event::Track(Track {
            id,
            codec,
            init,
            video,
            audio,
            language: String::new(),
            rid: String::new(),
        }));
    }

    /// Lets an unsupported codec through once.
    fn report(&mut self, error: Error) -> Result<(), Error> {
        if let Error::UnsupportedCodec(foreign) = error {
            if self.reported.contains(&foreign) || self.reported.len() == REPORTED_MAX {
                return Ok(());
            }
            self.reported.push(foreign);
        }
        Err(error)
    }
}

/// An `OpusHead` of two channels (RFC 7845 section 5.1), for publishers that send none: magic,
/// version, channels, pre-skip, 48000 Hz, gain, mapping family 0. The numbers are little-endian.
const OPUS_HEAD: [u8; 19] = *b"OpusHead\x01\x02\x00\x00\x80\xbb\x00\x00\x00\x00\x00";

/// The `vpcC` box is a full box: version 1 and flags stand before the record. Enhanced RTMP carries
/// the record; ffmpeg sends the box.
const VPCC_FULL_BOX: [u8; 4] = [1, 0, 0, 0];
const VPCC_RECORD_BYTES_MIN: usize = 8;
const AV1C_BYTES_MIN: usize = 4;
/// Marker bit and version 1 of `av1C`.
const AV1C_FIRST: u8 = 0x81;
const FLAC_STREAMINFO_BYTES: usize = 34;

/// The configuration as [`Track::init`] holds it, and the size of NAL lengths.
fn canonical_config(codec: Codec, config: &Bytes) -> Result<(Bytes, u8), Error> {
    let init = match codec {
        Codec::H264 | Codec::Hevc => return nal::canonical_config(codec, config),
        Codec::Av1 if config.len() >= AV1C_BYTES_MIN && config[0] == AV1C_FIRST => config.clone(),
        Codec::Vp8 | Codec::Vp9 if config.starts_with(&VPCC_FULL_BOX) => config.clone(),
        Codec::Vp8 | Codec::Vp9 if config.len() >= VPCC_RECORD_BYTES_MIN => {
            [&VPCC_FULL_BOX, &config[..]].concat().into()
        }
        Codec::Aac if config.len() >= 2 => config.clone(),
        Codec::Opus if config.starts_with(b"OpusHead") && config.len() >= OPUS_HEAD.len() => {
            config.clone()
        }
        Codec::Flac => flac_streaminfo(config).ok_or(Error::Config)?,
        Codec::Mp3 | Codec::Ac3 | Codec::Eac3 | Codec::Ulaw | Codec::Alaw | Codec::G722 => {
            Bytes::new()
        }
        Codec::Av1 | Codec::Vp8 | Codec::Vp9 | Codec::Aac | Codec::Opus => {
            return Err(Error::Config);
        }
    };
    Ok((init, 4))
}

/// `fLaC`, then metadata blocks of which STREAMINFO is the first; or STREAMINFO alone.
fn flac_streaminfo(config: &Bytes) -> Option<Bytes> {
    if config.len() == FLAC_STREAMINFO_BYTES {
        return Some(config.clone());
    }
    let block = config.strip_prefix(b"fLaC")?;
    let (header, info) = block.split_first_chunk::<4>()?;
    (header[0] & 0x7f == 0 && info.len() >= FLAC_STREAMINFO_BYTES)
        .then(|| config.slice(8..8 + FLAC_STREAMINFO_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::flv::samples::{now, tag};

    fn events(demuxer: &mut Demuxer) -> Vec<Event> {
        std::iter::from_fn(|| demuxer.poll_event()).collect()
    }

    fn tracks(events: &[Event]) -> Vec<(u16, Codec)> {
        let track = |event: &Event| match event {
            Event::Track(track) => Some((track.id.0, track.codec)),
            Event::Frame(_) | Event::Metadata(_) => None,
        };
        events.iter().filter_map(track).collect()
    }

    fn frames(events: &[Event]) -> Vec<(u16, i64, i64, bool)> {
        let frame = |event: &Event| match event {
            Event::Frame(f) => Some((f.track.0, f.dts.as_micros(), f.pts.as_micros(), f.keyframe)),
            Event::Track(_) | Event::Metadata(_) => None,
        };
        events.iter().filter_map(frame).collect()
    }

    const AVC_CONFIG: &[u8] = &[0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe0, 0];

    #[test]
    fn configuration_then_frames() {
        let mut demuxer = Demuxer::new();
        let mut feed = |kind, timestamp, payload: &[u8]| {
            demuxer.handle_tag(tag(kind, timestamp, payload), now())
        };
        feed(TagKind::Video, 0, AVC_CONFIG).unwrap();
        feed(TagKind::Audio, 0, &[0xaf, 0, 0x12, 0x10]).unwrap();
        feed(TagKind::Video, 40, &[0x17, 1, 0, 0, 80, 0, 0, 0, 1, 0x65]).unwrap();
        feed(TagKind::Audio, 41, &[0xaf, 1, 9]).unwrap();
        feed(TagKind::Video, 80, &[0x27, 1, 0, 0, 0, 0, 0, 0, 1, 0x01]).unwrap();
        feed(TagKind::Video, 80, AVC_CONFIG).unwrap();
        let events = events(&mut demuxer);
        assert_eq!(tracks(&events), [(0, Codec::H264), (1, Codec::Aac)]);
        assert_eq!(
            frames(&events),
            [
                (0, 40_000, 120_000, true),
                (1, 41_000, 41_000, true),
                (0, 80_000, 80_000, false),
            ]
        );
    }

    #[test]
    fn a_changed_configuration_is_announced_with_the_same_id() {
        let mut demuxer = Demuxer::new();
        for config in [&[0xaf, 0, 0x12, 0x10][..], &[0xaf, 0, 0x11, 0x90]] {
            demuxer
                .handle_tag(tag(TagKind::Audio, 0, config), now())
                .unwrap();
        }
        let events = events(&mut demuxer);
        assert_eq!(tracks(&events), [(0, Codec::Aac), (0, Codec::Aac)]);
    }

    #[test]
    fn frames_before_their_configuration_are_counted() {
        let mut demuxer = Demuxer::new();
        demuxer
            .handle_tag(tag(TagKind::Audio, 0, &[0xaf, 1, 9]), now())
            .unwrap();
        let nal = &[0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65];
        demuxer
            .handle_tag(tag(TagKind::Video, 0, nal), now())
            .unwrap();
        assert!(demuxer.poll_event().is_none());
        assert_eq!(demuxer.dropped_before_config(), 2);
    }

    #[test]
    fn codecs_without_configuration_start_with_a_frame() {
        let mut demuxer = Demuxer::new();
        for (kind, payload) in [
            (TagKind::Audio, &b"\x91Opus\x01"[..]),
            (TagKind::Audio, &[0x2f, 0xff, 0xfb, 0x90, 0x00]),
            (TagKind::Audio, b"\x91ac-3\x0b\x77"),
            (TagKind::Video, b"\xa1vp08\x01"),
            (TagKind::Video, b"\x91vp08\x01"),
        ] {
            demuxer.handle_tag(tag(kind, 0, payload), now()).unwrap();
        }
        let events = events(&mut demuxer);
        assert_eq!(
            tracks(&events),
            [
                (0, Codec::Opus),
                (1, Codec::Mp3),
                (2, Codec::Ac3),
                (3, Codec::Vp8)
            ]
        );
        assert_eq!(frames(&events).len(), 4);
        assert_eq!(demuxer.dropped_before_config(), 1);
        let Event::Track(opus) = &events[0] else {
            panic!("the first event is the track");
        };
        assert_eq!(opus.init.len(), 19);
    }

    #[test]
    fn an_unsupported_codec_is_reported_once() {
        let mut demuxer = Demuxer::new();
        let mut feed = || demuxer.handle_tag(tag(TagKind::Video, 0, &[0x12, 0]), now());
        assert_eq!(feed(), Err(Error::UnsupportedCodec(Foreign::Video(2))));
        assert_eq!(feed(), Ok(()));
    }

    #[test]
    fn tracks_have_a_bound() {
        let mut demuxer = Demuxer::new();
        let config = |number| [&b"\x95\x00mp4a"[..], &[number, 0x12, 0x10]].concat();
        for number in 0..TRACKS_MAX as u8 {
            demuxer
                .handle_tag(tag(TagKind::Audio, 0, &config(number)), now())
                .unwrap();
        }
        let one_more = tag(TagKind::Audio, 0, &config(99));
        assert_eq!(
            demuxer.handle_tag(one_more, now()),
            Err(Error::TooManyTracks)
        );
    }

    #[test]
    fn nanoseconds_reach_the_presentation_time() {
        let mut demuxer = Demuxer::new();
        let config = b"\x90av01\x81\x00\x0c\x00";
        demuxer
            .handle_tag(tag(TagKind::Video, 0, config), now())
            .unwrap();
        // 500000 ns.
        let frame = b"\x97\x02\x07\xa1\x20\x01av01\x12\x00\x32\x01\x07";
        demuxer
            .handle_tag(tag(TagKind::Video, 7, frame), now())
            .unwrap();
        assert_eq!(frames(&events(&mut demuxer)), [(0, 7_000, 7_500, true)]);
    }

    #[test]
    fn quirk_02_metadata_does_not_choose_the_codec() {
        let mut demuxer = Demuxer::new();
        let mut script = Vec::new();
        amf::Value::from("onMetaData").write(&mut script);
        amf::Value::EcmaArray(vec![
            ("videocodecid".to_owned(), amf::Value::from("avc1")),
            ("width".to_owned(), amf::Value::from(1920.0)),
            ("height".to_owned(), amf::Value::from(1080.0)),
        ])
        .write(&mut script);
        demuxer
            .handle_tag(tag(TagKind::Script, 0, &script), now())
            .unwrap();
        let config = [&b"\x90hvc1\x01"[..], &[0; 20], &[3, 0]].concat();
        demuxer
            .handle_tag(tag(TagKind::Video, 0, &config), now())
            .unwrap();
        let events = events(&mut demuxer);
        assert_eq!(tracks(&events), [(0, Codec::Hevc)]);
        let Event::Track(track) = &events[1] else {
            panic!("the second event is the track");
        };
        assert_eq!(track.video.map(|format| format.width), Some(1920));
    }

    #[test]
    fn quirk_04_a_four_byte_timecode_is_not_an_error() {
        let mut demuxer = Demuxer::new();
        for payload in [&[0, 0, 0, 1][..], &[0xff; 4], &[]] {
            assert_eq!(
                demuxer.handle_tag(tag(TagKind::Script, 0, payload), now()),
                Ok(())
            );
        }
        assert!(demuxer.poll_event().is_none());
    }

    #[test]
    fn quirk_11_values_that_are_not_amf0_end_the_metadata_only() {
        let mut demuxer = Demuxer::new();
        let mut script = Vec::new();
        amf::Value::from("@setDataFrame").write(&mut script);
        amf::Value::from("onMetaData").write(&mut script);
        amf::write_object_start(&mut script);
        amf::write_key("width", &mut script);
        amf::Value::from(640.0).write(&mut script);
        amf::write_key("additionalMedia", &mut script);
        script.extend_from_slice(&[0x11, 0x0c, 0x80]);
        demuxer
            .handle_tag(tag(TagKind::Script, 0, &script), now())
            .unwrap();
        let Some(Event::Metadata(value)) = demuxer.poll_event() else {
            panic!("metadata is expected");
        };
        assert_eq!(value.properties().len(), 1);
    }
}
