//! What shards tell each other about WebRTC sessions.

use super::websocket::Command;
use crate::base::ids::{ConnId, TrackId};
use crate::media::{Packet, Track};
use crate::proto::http::Response;
use crate::proto::ice::{Credentials, Stray};
use crate::proto::webrtc::{Negotiated, SessionKey};
use crate::streams::name::StreamName;
use crate::streams::whip::Ask;

/// A session on its way to the shard that runs it.
#[derive(Debug)]
pub struct Granted {
    /// The stream.
    pub name: StreamName,
    /// The peer publishes it.
    pub is_publisher: bool,
    /// What offer and answer agreed on.
    pub negotiated: Negotiated,
    /// A WebSocket is there to be told how it goes.
    pub has_socket: bool,
}

/// A message about one session. Only [`RtcMessage::Packets`] may be lost.
#[derive(Debug)]
pub enum RtcMessage {
    /// From the maker: run it.
    Granted {
        /// The session.
        key: SessionKey,
        /// All there is to know.
        granted: Box<Granted>,
        /// The check that made the receiver ask.
        stray: Stray,
    },
    /// To the maker: the peer is gone.
    Gone {
        /// The session.
        key: SessionKey,
    },
    /// From the maker: end it.
    End {
        /// The session.
        key: SessionKey,
    },
    /// To the maker, from itself: end the session wherever it runs.
    EndMade {
        /// The session.
        key: SessionKey,
    },
    /// From the maker: new credentials (RFC 8445 section 9).
    Restart {
        /// The session.
        key: SessionKey,
        /// Ours.
        local: Credentials,
        /// The peer's.
        remote: Credentials,
    },
    /// From the maker: send another track in the place of one.
    Select {
        /// The session.
        key: SessionKey,
        /// The one that is wanted.
        track: TrackId,
    },
    /// From the maker: the publisher has to send a keyframe.
    Keyframe {
        /// The session.
        key: SessionKey,
        /// The publisher's number of the track.
        track: TrackId,
    },
    /// To the maker: a request about a session has come to a connection of the sender.
    Ask {
        /// The connection, by the sender's number.
        conn: ConnId,
        /// The request.
        ask: Box<Ask>,
    },
    /// From the maker: the response to [`RtcMessage::Ask`].
    Answer {
        /// The connection, by the receiver's number.
        conn: ConnId,
        /// The response.
        response: Box<Response>,
    },
    /// From the maker: a command has come over the session's WebSocket.
    Command {
        /// The session.
        key: SessionKey,
        /// The command.
        command: Box<Command>,
    },
    /// To the maker: a message for the session's WebSocket.
    Said {
        /// The session.
        key: SessionKey,
        /// The message.
        text: String,
    },
    /// To the maker: a publisher's track.
    Track {
        /// The session.
        key: SessionKey,
        /// The track.
        track: Box<Track>,
    },
    /// To the maker: a publisher's packets.
    Packets {
        /// The session.
        key: SessionKey,
        /// The packets.
        packets: Vec<Packet>,
    },
}

impl RtcMessage {
    /// It is media.
    pub fn may_be_lost(&self) -> bool {
        match self {
            Self::Packets { .. } => true,
            Self::Granted { .. }
            | Self::Gone { .. }
            | Self::End { .. }
            | Self::EndMade { .. }
            | Self::Restart { .. }
            | Self::Select { .. }
            | Self::Keyframe { .. }
            | Self::Ask { .. }
            | Self::Answer { .. }
            | Self::Command { .. }
            | Self::Said { .. }
            | Self::Track { .. } => false,
        }
    }
}
