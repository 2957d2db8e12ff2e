//! One container of one stream: muxed once, read by many.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::base::ids::TrackId;
use crate::config::Delivery;
use crate::hub::Feed;
use crate::media::buffer::Pool;
use crate::media::{Codec, Frame, Kind, MediaTime, Track};
use crate::streams::output::{Container, Muxer, Selection, framed};

/// Bytes of one container that are kept for slow viewers: 5 s at 50 Mbit/s.
const FEED_BYTES_MAX: u64 = 32 << 20;

/// A container with a choice of tracks, muxed once for all its viewers.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) container: Container,
    pub(super) is_chunked: bool,
    pub(super) selection: Selection,
    tracks: Vec<(TrackId, Codec)>,
    /// A keyframe of this track is where a viewer can begin; with `None`, any frame is.
    entry_track: Option<TrackId>,
    muxer: Muxer,
    /// What is in force at the end of the feed.
    header: Arc<Header>,
    /// What was in force at the newest entry: it is what viewers who begin there need.
    pub(super) entry_header: Arc<Header>,
    pub(super) feed: Feed,
    /// Keys of the viewers that read it.
    pub(super) viewers: Vec<usize>,
    /// When what has been gathered goes out.
    pub(super) due: Option<Instant>,
    /// Receipt of the oldest frame that has not gone out.
    pub(super) gathered_since: Option<Instant>,
    /// Viewers may read up to here.
    pub(super) released: u64,
    pub(super) empty_since: Option<Instant>,
}

/// What a viewer gets before frames.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// For one that begins.
    pub(super) full: Bytes,
    /// For one that skips over a change.
    pub(super) inline: Bytes,
    /// The position in the feed behind the change that brought it.
    pub(super) since: u64,
}

impl Outlet {
    pub(super) fn new(
        container: Container,
        is_chunked: bool,
        selection: Selection,
        all_tracks: &[Track],
    ) -> Self {
        let tracks = selection.of(all_tracks, container);
        let muxer = Muxer::new(container, &tracks);
        let mut outlet = Self {
            container,
            is_chunked,
            selection,
            tracks: identities(&tracks),
            entry_track: entry_track(&tracks),
            muxer,
            header: Arc::default(),
            entry_header: Arc::default(),
            feed: Feed::new(),
            viewers: Vec::new(),
            due: None,
            gathered_since: None,
            released: 0,
            empty_since: None,
        };
        outlet.renew_header();
        outlet
    }

    /// Muxes a frame into the log. False if it is of a track that this outlet leaves out.
    pub(super) fn write(&mut self, pool: &mut Pool, frame: &Frame, scratch: &mut Vec<u8>) -> bool {
        if !self.tracks.iter().any(|(id, _)| *id == frame.track) {
            return false;
        }
        let is_entry = match self.entry_track {
            Some(track) => frame.keyframe && frame.track == track,
            None => true,
        };
        scratch.clear();
        framed(scratch, self.is_chunked, |out| self.muxer.write(frame, out));
        if scratch.is_empty() {
            return false;
        }
        self.feed.append(pool, frame.dts, is_entry, scratch);
        if is_entry {
            self.entry_header = Arc::clone(&self.header);
        }
        self.gathered_since.get_or_insert(frame.received);
        true
    }

    /// Lets go of what viewers do not need any more.
    pub(super) fn trim(&mut self, delivery: &Delivery) {
        if let Some(newest) = self.feed.newest_dts() {
            let queue = i64::try_from(delivery.viewer_queue_ms.as_micros()).unwrap_or(i64::MAX);
            let keep_from = newest - MediaTime::from_micros(queue);
            self.feed.trim(keep_from, FEED_BYTES_MAX);
        }
    }

    pub(super) fn refresh(&mut self, pool: &mut Pool, all_tracks: &[Track], changed: &Track) {
        let tracks = self.selection.of(all_tracks, self.container);
        let identities = identities(&tracks);
        let mut bytes = Vec::new();
        if identities != self.tracks {
            self.entry_track = entry_track(&tracks);
            self.tracks = identities;
            framed(&mut bytes, self.is_chunked, |out| {
                self.muxer.set_tracks(self.container, &tracks, out);
            });
        } else if identities.iter().any(|(id, _)| *id == changed.id) {
            framed(&mut bytes, self.is_chunked, |out| {
                self.muxer.track_changed(changed, out);
            });
        } else {
            return;
        }
        if let Some(newest) = self.feed.newest_dts() {
            self.feed.append(pool, newest, false, &bytes);
        }
        self.renew_header();
    }

    pub(super) fn renew_header(&mut self) {
        let (mut full, mut inline) = (Vec::new(), Vec::new());
        framed(&mut full, self.is_chunked, |out| self.muxer.header(out));
        framed(&mut inline, self.is_chunked, |out| {
            self.muxer.inline_header(out);
        });
        self.header = Arc::new(Header {
            full: full.into(),
            inline: inline.into(),
            since: self.feed.end(),
        });
    }
}

/// What a muxer cannot change while it runs.
fn identities(tracks: &[Track]) -> Vec<(TrackId, Codec)> {
    tracks.iter().map(|track| (track.id, track.codec)).collect()
}

fn entry_track(tracks: &[Track]) -> Option<TrackId> {
    tracks
        .iter()
        .find(|track| track.kind() == Kind::Video)
        .map(|track| track.id)
}
