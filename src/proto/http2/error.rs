//! Why a connection ends.

/// Why a session wants its connection closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum CloseReason {
    /// Either side said that it goes, and the last stream is done.
    #[error("finished")]
    Finished,
    /// No stream was open for `Options::idle_timeout`.
    #[error("idle for too long")]
    Idle,
    /// The preface and the first SETTINGS were not there within `Options::handshake_timeout`.
    #[error("the handshake took too long")]
    HandshakeTimeout,
    /// A frame or a block of header fields was not complete within `Options::header_timeout`.
    #[error("a frame took too long")]
    FrameTimeout,
    /// The peer took nothing of what it asked for within `Options::stall_timeout`.
    #[error("the peer does not read")]
    Stalled,
    /// The peer broke the protocol; the error code that it was told (RFC 9113 section 7).
    #[error("protocol error {0}")]
    Protocol(u32),
    /// The peer closed the connection with this error code.
    #[error("closed by the peer with error {0}")]
    Peer(u32),
    /// More frames than `Options` allows of a kind that costs the peer little.
    #[error("too many {0}")]
    Flood(Flood),
}

/// What there was too much of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Flood {
    /// PING, SETTINGS, PRIORITY, GOAWAY, empty DATA and frames of unknown types.
    #[error("control frames")]
    Control,
    /// RST_STREAM.
    #[error("stream resets")]
    Resets,
    /// WINDOW_UPDATE.
    #[error("window updates")]
    WindowUpdates,
    /// Input that could not be read because its answers were not.
    #[error("unread bytes")]
    Input,
}
