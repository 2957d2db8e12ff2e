//! Why an offer gets no answer, in words for whoever sent it.

use std::fmt;

use crate::base::ids::TrackId;
use crate::media::Codec;
use crate::proto::sdp;

/// How much of a peer's own words a problem repeats.
const QUOTED_CHARS_MAX: usize = 120;

/// Why an offer gets no answer. Its text names the media section and the attribute at fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem {
    /// It is no session description, or one that is too large.
    #[error(transparent)]
    Description(#[from] sdp::Error),
    /// There is no media section.
    #[error("the offer has no m-line")]
    NoMedia,
    /// Two media sections have the same identification tag.
    #[error("{0}: a=mid is the same as an earlier m-line's")]
    MidTwice(Place),
    /// An attribute that a session needs is not there.
    #[error("{place}: a={attribute} is missing")]
    Missing {
        /// Where.
        place: Place,
        /// Its name.
        attribute: &'static str,
    },
    /// An attribute's value cannot be used.
    #[error("{place}: a={attribute} is malformed or not supported")]
    Malformed {
        /// Where.
        place: Place,
        /// Its name.
        attribute: &'static str,
    },
    /// A publisher's offer has no section that sends audio or video.
    #[error("no m-line of the offer sends audio or video")]
    NothingSent,
    /// A publisher's offer has no codec that is known here.
    #[error("{place}: none of its codecs is supported: {offered}")]
    NoCodec {
        /// The first section that was to send.
        place: Place,
        /// What it offers.
        offered: String,
    },
    /// No track of the stream can be sent.
    #[error("nothing of the stream can be sent: {}", reasons(.0))]
    NothingToSend(Vec<(TrackId, LeftOut)>),
}

/// A media section as a problem names it: its number from 1, its kind and its tag.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    pub(super) number: usize,
    pub(super) kind: String,
    pub(super) mid: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m-line {} ({}", self.number, quoted(&self.kind))?;
        if !self.mid.is_empty() {
            write!(f, ", mid {}", quoted(&self.mid))?;
        }
        f.write_str(")")
    }
}

/// Why a track is not sent to a receiver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LeftOut {
    /// The codec is not sent by RTP here.
    NotByRtp(Codec),
    /// The offer does not have the codec.
    NotOffered(Codec),
    /// The offer has the codec, in profiles that do not include the track's.
    Profile(Codec),
    /// More channels than the codec has in WebRTC.
    Channels(Codec),
    /// The offer has no section of this kind, or all of them carry another track.
    NoSection(Codec),
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (codec, reason) = match self {
            Self::NotByRtp(codec) => (codec, "cannot be sent by WebRTC"),
            Self::NotOffered(codec) => (codec, "is not in the offer"),
            Self::Profile(codec) => (codec, "is not offered in the track's profile"),
            Self::Channels(codec) => (codec, "has too many channels"),
            Self::NoSection(codec) => (codec, "has no m-line that could carry it"),
        };
        write!(f, "{} {reason}", codec.name())
    }
}

fn reasons(left_out: &[(TrackId, LeftOut)]) -> String {
    if left_out.is_empty() {
        return "it has no tracks".to_owned();
    }
    let texts: Vec<_> = left_out
        .iter()
        .map(|(track, reason)| format!("track {track}: {reason}"))
        .collect();
    texts.join("; ")
}

/// A peer's words, at a length that fits a line.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}
