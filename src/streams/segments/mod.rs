//! Segments and parts: HLS, low-latency HLS and DASH are views of the same bytes.
//!
//! ```text
//! frames -> Cutter: where segments begin, once for the stream        } home shard
//!        -> Maker:  segments and parts of one rendition, muxed once  }
//!              | Updates, which carry shared bytes
//!        -> Listing: what is kept of them                            } every shard that has
//!        -> playlists, rendered once per change                      } viewers of it
//! ```
//!
//! A rendition is made when it is first asked for, from the frames that are kept, so that its first
//! playlist has the whole window; and let go when nobody has asked for a while. Segments have the
//! same numbers in all renditions.

pub(super) mod cutter;
pub(super) mod listing;
pub(super) mod maker;
#[cfg(test)]
mod maker_tests;
pub(super) mod playlists;
pub(super) mod rendition;
mod store;

use smallvec::SmallVec;

use crate::base::ids::TrackId;
use crate::media::{Kind, Track};
use crate::streams::output::Container;

/// How segments are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Form {
    /// MPEG transport streams, picture and sound together.
    Ts,
    /// Fragmented MP4, each track by itself (ISO/IEC 23000-19).
    Cmaf,
}

impl Form {
    /// MistServer's name of what serves it.
    pub fn connector(self) -> &'static str {
        match self {
            Self::Ts => "HLS",
            Self::Cmaf => "CMAF",
        }
    }

    /// The name in logs, metrics and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ts => "hls",
            Self::Cmaf => "cmaf",
        }
    }

    /// What a track of a codec has to be allowed in.
    pub(super) fn container(self) -> Container {
        match self {
            Self::Ts => Container::Ts,
            Self::Cmaf => Container::Mp4,
        }
    }

    /// The media type of its segments.
    pub(super) fn media_type(self, is_video: bool) -> &'static str {
        match self {
            Self::Ts => "video/mp2t",
            Self::Cmaf if is_video => "video/mp4",
            Self::Cmaf => "audio/mp4",
        }
    }
}

/// Which rendition of a stream.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// How it is written.
    pub(super) form: Form,
    /// Its tracks, in the order of their numbers.
    pub(super) tracks: SmallVec<[TrackId; 2]>,
}

impl Key {
    /// Reads the name of a rendition: track numbers from 1, joined by `_`.
    pub(super) fn parse(form: Form, text: &str) -> Option<Self> {
        let mut tracks: SmallVec<[TrackId; 2]> = SmallVec::new();
        for part in text.split('_') {
            let number: u16 = part.parse().ok().filter(|_| !part.starts_with('+'))?;
            tracks.push(TrackId(number.checked_sub(1)?));
        }
        let is_rising = tracks.windows(2).all(|pair| pair[0] < pair[1]);
        let most = match form {
            Form::Ts => 2,
            Form::Cmaf => 1,
        };
        (is_rising && tracks.len() <= most).then_some(Self { form, tracks })
    }

    /// For these tracks.
    pub(super) fn new(form: Form, tracks: impl IntoIterator<Item = TrackId>) -> Self {
        let mut tracks: SmallVec<[TrackId; 2]> = tracks.into_iter().collect();
        tracks.sort_unstable();
        Self { form, tracks }
    }

    /// Its name in paths.
    pub(super) fn name(&self) -> String {
        let numbers: Vec<String> = self
            .tracks
            .iter()
            .map(|track| (u32::from(track.0) + 1).to_string())
            .collect();
        numbers.join("_")
    }

    /// Whether a stream of these tracks can have it: all are there and can be carried, and no two
    /// are of one kind.
    pub(super) fn is_of(&self, tracks: &[Track]) -> bool {
        let mut kinds: SmallVec<[Kind; 2]> = SmallVec::new();
        self.tracks.iter().all(|id| {
            let Some(track) = tracks.iter().find(|track| track.id == *id) else {
                return false;
            };
            let is_new = !kinds.contains(&track.kind());
            kinds.push(track.kind());
            is_new && self.form.container().carries(track.codec)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renditions_are_named_by_their_tracks() {
        let key = Key::parse(Form::Ts, "1_3").expect("good");
        assert_eq!(key.tracks[..], [TrackId(0), TrackId(2)]);
        assert_eq!(key.name(), "1_3");
        assert_eq!(Key::new(Form::Ts, [TrackId(2), TrackId(0)]), key);
        for bad in ["", "0", "1_1", "2_1", "+1", "1_2_3", "x", "1_", "65536"] {
            assert_eq!(Key::parse(Form::Ts, bad), None, "{bad}");
        }
        assert_eq!(Key::parse(Form::Cmaf, "1_2"), None);
    }
}
