//! What a stream is muxed to on one shard.

use std::time::{Duration, Instant};

use crate::base::ids::TrackId;
use crate::media::Track;
use crate::media::buffer::Pool;
use crate::streams::outlet::Outlet;
use crate::streams::output::{Container, Selection};
use crate::streams::stream::Stream;

/// Containers and track selections that viewers of one stream may have at once. Each is muxed
/// and kept on its own.
const FEEDS_MAX: usize = 32;

/// How long a feed without viewers is kept up.
const FEED_LINGER: Duration = Duration::from_secs(5);

impl Stream {
    /// The outlet that fits, made if there is none. `None` if there are too many.
    pub(super) fn outlet(
        &mut self,
        pool: &mut Pool,
        container: Container,
        is_chunked: bool,
        selection: &Selection,
    ) -> Option<usize> {
        let found = self.outlets.iter().find(|(_, outlet)| {
            outlet.container == container
                && outlet.is_chunked == is_chunked
                && outlet.selection == *selection
        });
        if let Some((key, _)) = found {
            return Some(key);
        }
        if self.outlets.len() >= FEEDS_MAX {
            return None;
        }
        let mut outlet = Outlet::new(container, is_chunked, selection.clone(), &self.active());
        let left_out = self.left_out(container);
        if !left_out.is_empty() {
            tracing::info!(
                stream = %self.name,
                container = container.name(),
                codecs = left_out.join(","),
                "tracks are left out that the container cannot carry"
            );
        }
        let mut scratch = Vec::new();
        for (frame, _) in self.log.since_entry() {
            outlet.write(pool, frame, &mut scratch);
        }
        outlet.released = outlet.feed.end();
        // What viewers get of the past says nothing of how long frames stay here.
        outlet.gathered_since = None;
        Some(self.outlets.insert(outlet))
    }

    /// Codec names of the tracks that a container cannot carry.
    pub(super) fn left_out(&self, container: Container) -> Vec<&'static str> {
        self.tracks
            .iter()
            .filter(|track| !container.carries(track.codec))
            .map(|track| track.codec.name())
            .collect()
    }

    /// Tells all outputs of a track that is new or has changed.
    pub(super) fn refresh_outputs(&mut self, pool: &mut Pool, track: &Track) {
        let active = self.active();
        for (_, outlet) in &mut self.outlets {
            outlet.refresh(pool, &active, track);
        }
    }

    /// Takes retired tracks out of all outputs.
    pub(super) fn drop_tracks(&mut self, pool: &mut Pool, tracks: &[TrackId]) {
        let gone: Vec<Track> = tracks
            .iter()
            .filter_map(|id| self.tracks.get(id.index()).cloned())
            .collect();
        for track in gone {
            self.refresh_outputs(pool, &track);
        }
    }

    /// Drops outputs that have had no viewer for a while.
    pub(super) fn drop_idle_outputs(&mut self, now: Instant) {
        self.outlets.retain(|_, outlet| {
            outlet
                .empty_since
                .is_none_or(|since| now < since + FEED_LINGER)
        });
    }
}
