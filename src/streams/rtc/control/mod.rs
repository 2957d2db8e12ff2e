//! Sessions that are controlled while they run: over their WebSocket, or over a data channel.
//!
//! This is on the shard that runs the session.

mod door;

use std::time::{Duration, Instant};

use super::websocket::{Allowance, Dialect};
use crate::base::ids::{ConnId, TrackId};
use crate::media::{Kind, Track};
use crate::proto::sctp::ChannelId;
use crate::proto::webrtc::SessionKey;

/// The data channel that takes commands, as MistServer's players name it.
const CHANNEL: &str = "MistControl";

/// Between two reports of the time. The shard's sweep comes about every half of a second.
const TIME_EVERY: Duration = Duration::from_millis(900);

/// A session that somebody controls.
#[derive(Debug)]
pub(in crate::streams::rtc) struct Control {
    has_socket: bool,
    channel: Option<ChannelId>,
    /// Of the data channel; a WebSocket's messages are counted where they arrive.
    allowance: Allowance,
    since: Instant,
    told: Option<Instant>,
    /// Nothing is to be sent.
    is_held: bool,
    /// Kinds that were switched off.
    without: Vec<Kind>,
    /// How often a publisher is asked for a keyframe, and when it was.
    keyframes: Option<(Duration, Instant)>,
    /// What a publisher sends.
    tracks: Vec<(TrackId, &'static str)>,
}

impl Control {
    pub(in crate::streams::rtc) fn new(now: Instant, has_socket: bool) -> Self {
        Self {
            has_socket,
            channel: None,
            allowance: Allowance::new(now),
            since: now,
            told: None,
            is_held: false,
            without: Vec::new(),
            keyframes: None,
            tracks: Vec::new(),
        }
    }

    /// A publisher announces a track.
    pub(in crate::streams::rtc) fn note_track(&mut self, track: &Track) {
        self.tracks.retain(|(id, _)| *id != track.id);
        self.tracks.push((track.id, track.codec.name()));
    }

    fn set_without(&mut self, kind: Kind, is_without: bool) {
        self.without.retain(|known| *known != kind);
        if is_without {
            self.without.push(kind);
        }
    }

    fn is_paused(&self, kind: Kind) -> bool {
        self.is_held || self.without.contains(&kind)
    }
}

/// What waits for the tracks of a stream.
#[derive(Debug)]
pub(in crate::streams::rtc) struct Choosing {
    conn: ConnId,
    key: SessionKey,
    dialect: Dialect,
    selectors: Vec<(Kind, String)>,
}
