//! What goes over the mesh: the messages of all doors.

use crate::collab::AdminMessage;
use crate::drive::PeerMessage;
use crate::{spaces, streams};

/// A message from one shard to another.
#[derive(Debug)]
pub(super) enum Message {
    Streams(streams::Message),
    Spaces(spaces::Message),
    Collab(Box<AdminMessage>),
    Peers(Box<PeerMessage>),
}

impl From<streams::Message> for Message {
    fn from(message: streams::Message) -> Self {
        Self::Streams(message)
    }
}

impl From<spaces::Message> for Message {
    fn from(message: spaces::Message) -> Self {
        Self::Spaces(message)
    }
}
