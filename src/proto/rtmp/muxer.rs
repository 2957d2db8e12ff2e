//! Frames in, messages out, the same bytes for every player of a stream.

use super::OUTPUT_CHUNK_SIZE;
use super::chunk::{Envelope, write_message};
use super::message::kind;
use super::outbox::csid;
use super::session::STREAM_ID;
use crate::base::ids::TrackId;
use crate::media::{Codec, Frame, Kind, MediaTime, Track};
use crate::proto::flv::{Selection, frame_head, metadata, sequence_header};

/// Writes the messages that play one stream.
///
/// Every message starts with a full header on a fixed chunk stream, so that it is right after any
/// other: a player gets [`Self::header`] and goes on with the frames everybody gets. A piece must be
/// sent whole, behind what its [`Session`](super::Session) has to send.
#[derive(Debug)]
pub struct Muxer {
    selection: Selection,
    /// Of the frame written last, in milliseconds.
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

    /// Tracks that RTMP has no place for.
    pub fn left_out(&self) -> &[TrackId] {
        self.selection.left_out()
    }

    /// What a player needs before the first frame: metadata and configurations.
    pub fn header(&self, out: &mut Vec<u8>) {
        let envelope = Envelope {
            csid: csid::DATA,
            kind: kind::DATA,
            stream_id: STREAM_ID,
            timestamp: 0,
        };
        let metadata = metadata(&self.selection);
        write_message(envelope, OUTPUT_CHUNK_SIZE, &[&metadata], out);
        for track in self.selection.tracks() {
            write_sequence_header(track, 0, out);
        }
    }

    /// One frame as one message; nothing if its track is left out.
    pub fn write(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        if let Some(track) = self.selection.track(frame.track) {
            self.last_timestamp = timestamp(frame.dts);
            let envelope = media_envelope(track.codec, self.last_timestamp);
            let head = frame_head(track, frame);
            write_message(envelope, OUTPUT_CHUNK_SIZE, &[&head, &frame.data], out);
        }
    }

    /// The new configuration of a track, to stand before its next frame.
    pub fn track_changed(&mut self, track: &Track, out: &mut Vec<u8>) {
        if self.selection.update(track) {
            write_sequence_header(track, self.last_timestamp, out);
        }
    }
}

fn write_sequence_header(track: &Track, timestamp: u32, out: &mut Vec<u8>) {
    if let Some(body) = sequence_header(track) {
        let envelope = media_envelope(track.codec, timestamp);
        write_message(envelope, OUTPUT_CHUNK_SIZE, &[&body], out);
    }
}

fn media_envelope(codec: Codec, timestamp: u32) -> Envelope {
    let (csid, kind) = match codec.kind() {
        Kind::Video => (csid::VIDEO, kind::VIDEO),
        Kind::Audio => (csid::AUDIO, kind::AUDIO),
    };
    Envelope {
        csid,
        kind,
        stream_id: STREAM_ID,
        timestamp,
    }
}

/// Milliseconds modulo 2^32; times before zero are zero.
fn timestamp(time: MediaTime) -> u32 {
    time.as_millis().max(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::flv::samples::{ALL_CODECS, frame, now, track};
    use crate::proto::flv::{Demuxer, Event};
    use crate::proto::rtmp::ChunkReader;

    /// Reads as a player that was told the chunk size.
    fn play(bytes: &[u8]) -> Vec<Event> {
        let mut reader = ChunkReader::new(1 << 24);
        let mut announce = &[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 1, 0, 0][..];
        assert_eq!(reader.read(&mut announce), Ok(None));
        let mut demuxer = Demuxer::new();
        let mut input = bytes;
        while let Some(message) = reader.read(&mut input).unwrap() {
            assert_eq!(message.stream_id, STREAM_ID);
            let tag = message.into_tag().unwrap();
            demuxer.handle_tag(tag, now()).unwrap();
        }
        std::iter::from_fn(|| demuxer.poll_event()).collect()
    }

    #[test]
    fn every_codec_survives_the_round_trip() {
        for codec in ALL_CODECS {
            let track = track(3, codec);
            let mut muxer = Muxer::new(std::slice::from_ref(&track));
            let mut bytes = Vec::new();
            muxer.header(&mut bytes);
            let sent = frame(&track, 20_000_000, 20_000_000);
            muxer.write(&sent, &mut bytes);
            let events = play(&bytes);
            let [
                Event::Metadata(_),
                Event::Track(got_track),
                Event::Frame(got),
            ] = &events[..]
            else {
                panic!("{codec:?}: {events:?}");
            };
            assert_eq!((got_track.codec, &got_track.init), (codec, &track.init));
            assert_eq!((&got.data, got.dts), (&sent.data, sent.dts), "{codec:?}");
        }
    }

    #[test]
    fn a_frame_longer_than_a_chunk_is_split() {
        let track = track(0, Codec::Aac);
        let mut muxer = Muxer::new(std::slice::from_ref(&track));
        let mut bytes = Vec::new();
        muxer.header(&mut bytes);
        let mut sent = frame(&track, 5, 5);
        sent.data = vec![0xc4; 3 * OUTPUT_CHUNK_SIZE].into();
        muxer.write(&sent, &mut bytes);
        let Some(Event::Frame(got)) = play(&bytes).pop() else {
            panic!("the frame comes last");
        };
        assert_eq!(got.data, sent.data);
    }

    #[test]
    fn quirk_07_a_player_is_sent_metadata_without_data_start() {
        let mut bytes = Vec::new();
        Muxer::new(&[track(0, Codec::H264)]).header(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("onMetaData") && !text.contains("NetStream.Data.Start"));
    }
}
