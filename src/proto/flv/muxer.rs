//! Frames in, an FLV file out.

use super::{Selection, TagKind, frame_head, metadata, sequence_header};
use crate::base::ids::TrackId;
use crate::media::{Codec, Frame, Kind, MediaTime, Track};

/// Writes the tags of one live file. All viewers of the same tracks share what it writes: a new
/// viewer gets [`Self::header`] and goes on with the frames everybody gets.
#[derive(Debug)]
pub struct Muxer {
    selection: Selection,
    /// Of the tag written last, in milliseconds.
    last_timestamp: u32,
}

impl Muxer {
    /// A muxer of the first video and the first audio track of `tracks`.
    pub fn new(tracks: &[Track]) -> Self {
        Self {
            selection: Selection::new(tracks),
            last_timestamp: 0,
        }
    }

    /// Tracks that FLV has no place for.
    pub fn left_out(&self) -> &[TrackId] {
        self.selection.left_out()
    }

    /// What a viewer needs before the first frame: file header, metadata, configurations.
    ///
    /// ```text
    /// "FLV"  version 1 (8)  audio flag 4 | video flag 1 (8)  header size 9 (32)  previous tag size 0
    /// ```
    pub fn header(&self, out: &mut Vec<u8>) {
        let audio = u8::from(self.selection.audio.is_some()) << 2;
        let video = u8::from(self.selection.video.is_some());
        out.extend_from_slice(&[b'F', b'L', b'V', 1, audio | video, 0, 0, 0, 9, 0, 0, 0, 0]);
        write_tag(TagKind::Script, 0, &[&metadata(&self.selection)], out);
        for track in self.selection.tracks() {
            write_sequence_header(track, 0, out);
        }
    }

    /// One frame as one tag; nothing if its track is left out.
    pub fn write(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        if let Some(track) = self.selection.track(frame.track) {
            let head = frame_head(track, frame);
            self.last_timestamp = timestamp(frame.dts);
            let kind = tag_kind(track.codec);
            write_tag(kind, self.last_timestamp, &[&head, &frame.data], out);
        }
    }

    /// The new configuration of a track, to stand before its next frame. Its tag has the time of the
    /// frame before it.
    pub fn track_changed(&mut self, track: &Track, out: &mut Vec<u8>) {
        if self.selection.update(track) {
            write_sequence_header(track, self.last_timestamp, out);
        }
    }
}

fn write_sequence_header(track: &Track, timestamp: u32, out: &mut Vec<u8>) {
    if let Some(body) = sequence_header(track) {
        write_tag(tag_kind(track.codec), timestamp, &[&body], out);
    }
}

/// Milliseconds modulo 2^32; times before zero are zero.
fn timestamp(time: MediaTime) -> u32 {
    time.as_millis().max(0) as u32
}

fn tag_kind(codec: Codec) -> TagKind {
    match codec.kind() {
        Kind::Video => TagKind::Video,
        Kind::Audio => TagKind::Audio,
    }
}

/// ```text
/// type (8)  size (24)  timestamp (24)  its upper byte (8)  stream id 0 (24)  body  tag size (32)
/// ```
fn write_tag(kind: TagKind, timestamp: u32, parts: &[&[u8]], out: &mut Vec<u8>) {
    const HEADER_BYTES: usize = 11;
    const SIZE_MAX: usize = 0xff_ffff;
    let size: usize = parts.iter().map(|part| part.len()).sum();
    if size > SIZE_MAX {
        // No tag can hold it; a viewer misses one frame.
        return;
    }
    out.reserve(HEADER_BYTES + size + 4);
    let [_, size_bytes @ ..] = (size as u32).to_be_bytes();
    let [upper, lower @ ..] = timestamp.to_be_bytes();
    out.push(kind.number());
    out.extend_from_slice(&size_bytes);
    out.extend_from_slice(&lower);
    out.extend_from_slice(&[upper, 0, 0, 0]);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&((HEADER_BYTES + size) as u32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::flv::samples::{ALL_CODECS, frame, now, track};
    use crate::proto::flv::{Demuxer, Event, FileReader};

    fn read(file: &[u8]) -> Vec<Event> {
        let mut reader = FileReader::new();
        reader.push(file);
        let mut demuxer = Demuxer::new();
        while let Some(tag) = reader.next_tag().unwrap() {
            demuxer.handle_tag(tag, now()).unwrap();
        }
        std::iter::from_fn(|| demuxer.poll_event()).collect()
    }

    #[test]
    fn every_codec_survives_the_round_trip() {
        for codec in ALL_CODECS {
            let track = track(3, codec);
            let mut muxer = Muxer::new(std::slice::from_ref(&track));
            let mut file = Vec::new();
            muxer.header(&mut file);
            let mut sent = frame(&track, 1000, 1040);
            if codec.kind() == Kind::Audio || !matches!(codec, Codec::H264 | Codec::Hevc) {
                sent.pts = sent.dts;
            }
            muxer.write(&sent, &mut file);
            let events = read(&file);
            assert!(matches!(events[0], Event::Metadata(_)), "{codec:?}");
            let Event::Track(got) = &events[1] else {
                panic!("{codec:?}: no track");
            };
            assert_eq!((got.codec, &got.init), (codec, &track.init));
            let Event::Frame(got) = &events[2] else {
                panic!("{codec:?}: no frame");
            };
            assert_eq!(got.data, sent.data, "{codec:?}");
            assert_eq!((got.dts, got.pts), (sent.dts, sent.pts), "{codec:?}");
            assert!(got.keyframe);
        }
    }

    #[test]
    fn a_second_video_track_is_left_out() {
        let tracks = [
            track(0, Codec::H264),
            track(1, Codec::Hevc),
            track(2, Codec::Aac),
        ];
        let mut muxer = Muxer::new(&tracks);
        assert_eq!(muxer.left_out(), [TrackId(1)]);
        let mut out = Vec::new();
        muxer.write(&frame(&tracks[1], 0, 0), &mut out);
        muxer.track_changed(&tracks[1], &mut out);
        assert!(out.is_empty());
        muxer.write(&frame(&tracks[2], 0, 0), &mut out);
        assert!(!out.is_empty());
    }

    #[test]
    fn g722_has_no_place_and_takes_none() {
        let tracks = [track(0, Codec::G722), track(1, Codec::Ulaw)];
        let mut muxer = Muxer::new(&tracks);
        assert_eq!(muxer.left_out(), [TrackId(0)]);
        let mut out = Vec::new();
        muxer.write(&frame(&tracks[0], 0, 0), &mut out);
        assert!(out.is_empty());
        muxer.write(&frame(&tracks[1], 0, 0), &mut out);
        assert_eq!(out[11], 0x82, "mu-law, one channel");
    }

    #[test]
    fn a_changed_track_is_configured_inline() {
        let mut track = track(0, Codec::Aac);
        let mut muxer = Muxer::new(std::slice::from_ref(&track));
        let mut file = Vec::new();
        muxer.header(&mut file);
        track.init = vec![0x11, 0x90].into();
        muxer.track_changed(&track, &mut file);
        let Some(Event::Track(changed)) = read(&file).pop() else {
            panic!("the last event is the track");
        };
        assert_eq!(changed.init, track.init);
    }

    #[test]
    fn timestamps_are_clamped_below_and_use_the_upper_byte() {
        assert_eq!(timestamp(MediaTime::from_millis(-5)), 0);
        assert_eq!(timestamp(MediaTime::from_millis(0x1_0000_0007)), 7);
        let mut out = Vec::new();
        write_tag(TagKind::Audio, 0xaabb_ccdd, &[&[1]], &mut out);
        assert_eq!(
            out,
            [8, 0, 0, 1, 0xbb, 0xcc, 0xdd, 0xaa, 0, 0, 0, 1, 0, 0, 0, 12]
        );
    }
}
