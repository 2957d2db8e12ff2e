//! What can be wrong with a call.

/// Why a channel cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// As many as [`Options::channels_max`](super::Options::channels_max) are there.
    #[error("too many channels")]
    TooMany,
    /// A label or protocol of more than 256 bytes.
    #[error("label or protocol is too long")]
    TooLong,
    /// The number is taken, still being reset, or out of range.
    #[error("channel number is not free")]
    Taken,
    /// The association has ended.
    #[error("association has ended")]
    Gone,
}

/// Why a message cannot be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// Too much is waiting; [`Event::Writable`](super::Event::Writable) tells when to go on.
    #[error("too much is waiting to be sent")]
    Full,
    /// More than the peer takes.
    #[error("message is too large")]
    TooLarge,
    /// There is no such channel, or it is not open.
    #[error("channel is not open")]
    NotOpen,
}

/// What is wrong with a message of the establishment protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum DcepError {
    /// Neither OPEN nor ACK, or cut short.
    #[error("not a message of the establishment protocol")]
    Malformed,
    /// Label or protocol are not UTF-8 or too long.
    #[error("bad label or protocol")]
    Text,
    /// A kind of channel that is not known.
    #[error("unknown kind of channel")]
    Kind,
}
