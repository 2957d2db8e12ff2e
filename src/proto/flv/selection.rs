//! Which tracks a stream of tags carries.

use crate::base::ids::TrackId;
use crate::media::{Codec, Kind, Track};

/// Whether tags can carry a codec: all but G.722.
pub fn carries(codec: Codec) -> bool {
    codec != Codec::G722
}

/// One video and one audio track: players of FLV and RTMP know no more.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The first video track.
    pub video: Option<Track>,
    /// The first audio track.
    pub audio: Option<Track>,
    left_out: Vec<TrackId>,
}

impl Selection {
    /// Takes the first track of each kind that FLV has a form for.
    pub fn new(tracks: &[Track]) -> Self {
        let mut selection = Self::default();
        for track in tracks {
            let slot = selection.slot(track.kind());
            if slot.is_none() && carries(track.codec) {
                *slot = Some(track.clone());
            } else {
                selection.left_out.push(track.id);
            }
        }
        selection
    }

    /// Tracks that are not carried.
    pub fn left_out(&self) -> &[TrackId] {
        &self.left_out
    }

    /// The selected track with this id.
    pub fn track(&self, id: TrackId) -> Option<&Track> {
        self.tracks().find(|track| track.id == id)
    }

    /// The selected tracks, video first.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.video.iter().chain(self.audio.iter())
    }

    /// Takes over a changed configuration; true if the track is selected.
    pub fn update(&mut self, track: &Track) -> bool {
        let slot = self.slot(track.kind());
        let selected = slot.as_ref().is_some_and(|known| known.id == track.id);
        if selected {
            *slot = Some(track.clone());
        }
        selected
    }

    fn slot(&mut self, kind: Kind) -> &mut Option<Track> {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }
}
