//! What can be wrong with a connection.

use super::Refusal;

/// What a peer did that ends its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The first byte is not version 3.
    #[error("not RTMP version 3")]
    Version,
    /// A chunk of type 2 or 3 on a chunk stream that has had no message.
    #[error("chunk continues an unknown chunk stream")]
    UnknownChunkStream,
    /// More than [`CHUNK_STREAMS_MAX`](super::chunk::CHUNK_STREAMS_MAX).
    #[error("too many chunk streams")]
    TooManyChunkStreams,
    /// A chunk size of 0 or of more than 31 bits.
    #[error("chunk size is out of range")]
    ChunkSize,
    /// A message longer than allowed.
    #[error("message is too large")]
    MessageTooLarge,
    /// Unfinished messages that together are longer than allowed.
    #[error("unfinished messages are too large")]
    UnfinishedTooLarge,
    /// A protocol control message too short for its field.
    #[error("control message is cut short")]
    ControlTooShort,
    /// A command message longer than
    /// [`COMMAND_BYTES_MAX`](super::message::COMMAND_BYTES_MAX).
    #[error("command is too large")]
    CommandTooLarge,
    /// More media than allowed before the publisher was accepted.
    #[error("too much media before publishing was accepted")]
    HeldTooLarge,
    /// More replies waiting to be sent than [`REPLY_BYTES_MAX`](super::REPLY_BYTES_MAX).
    #[error("too many replies are waiting")]
    RepliesTooLarge,
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CloseReason {
    /// The peer broke the protocol or a limit.
    #[error("{0}")]
    Protocol(#[from] Error),
    /// Nothing was published or played in time.
    #[error("nothing was published or played in time")]
    CommandTimeout,
    /// The publisher has sent nothing for too long.
    #[error("publisher is silent")]
    PublisherIdle,
    /// The door refused the peer.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The door ended the publisher or the player.
    #[error("ended")]
    Ended,
    /// The server of a client session refused what was asked.
    #[error("server refused")]
    ServerRefused,
}
