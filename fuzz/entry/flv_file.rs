//! An FLV file: read in two pieces as in one, demuxed, and every track and frame muxed again.

use std::time::Instant;

use ringside::media::Track;
use ringside::proto::flv::{Demuxer, Event, FileReader, Muxer, Tag};

pub(crate) fn run(data: &[u8]) {
    let tags = read(&[data]);
    let (before, after) = data.split_at(data.len() / 2);
    assert_eq!(read(&[before, after]), tags);

    #[expect(
        clippy::disallowed_methods,
        reason = "there is no driver to take the time from"
    )]
    let now = Instant::now();
    let mut demuxer = Demuxer::new();
    let mut tracks: Vec<Track> = Vec::new();
    let mut out = Vec::new();
    for tag in tags {
        let _ = demuxer.handle_tag(tag, now);
        while let Some(event) = demuxer.poll_event() {
            match event {
                Event::Track(track) => {
                    tracks.retain(|known| known.id != track.id);
                    tracks.push(track);
                }
                Event::Frame(frame) => {
                    let track = tracks.iter().find(|track| track.id == frame.track);
                    let track = track.expect("a frame comes after its track");
                    let mut muxer = Muxer::new(std::slice::from_ref(track));
                    out.clear();
                    muxer.header(&mut out);
                    muxer.write(&frame, &mut out);
                }
                Event::Metadata(_) => {}
            }
        }
    }
}

fn read(pieces: &[&[u8]]) -> Vec<Tag> {
    let mut reader = FileReader::new();
    let mut tags = Vec::new();
    for piece in pieces {
        reader.push(piece);
        while let Ok(Some(tag)) = reader.next_tag() {
            tags.push(tag);
        }
    }
    tags
}
