//! Why a handshake fails and why a connection ends.

use crate::proto::http::Response;

/// Why a request does not become a WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Not a GET with `Connection: upgrade` and `Upgrade: websocket`.
    #[error("not a request for a WebSocket")]
    NotUpgrade,
    /// A version other than 13.
    #[error("the WebSocket version is not supported")]
    Version,
    /// Sec-WebSocket-Key is missing, repeated, or not 16 bytes in base64.
    #[error("the WebSocket key is malformed")]
    Key,
    /// An answer that this client cannot accept.
    #[error("the answer is not that of a WebSocket server")]
    Answer,
}

impl HandshakeError {
    /// The answer of a server.
    pub fn response(self) -> Response {
        match self {
            // RFC 6455 section 4.4: the versions that are supported.
            Self::Version => {
                Response::text(426, self.to_string()).with_header("Sec-WebSocket-Version", "13")
            }
            Self::NotUpgrade | Self::Key | Self::Answer => Response::text(400, self.to_string()),
        }
    }
}

/// What a peer did that ends the connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Violation {
    /// A reserved bit without an extension that gives it a meaning.
    #[error("a reserved bit is set")]
    ReservedBits,
    /// A reserved opcode.
    #[error("the opcode is not known")]
    Opcode,
    /// A control frame in fragments, or of more than 125 bytes.
    #[error("a control frame is fragmented or too long")]
    Control,
    /// A continuation of nothing, or another message inside of one.
    #[error("a fragment is out of order")]
    Fragment,
    /// A client's frame without a mask, or a server's with one.
    #[error("a frame is masked where it must not be, or the reverse")]
    Mask,
    /// A length that takes more bytes than it needs, or more than 63 bits.
    #[error("the length is malformed")]
    Length,
    /// A frame beyond `Options::frame_bytes_max` or a message beyond `Options::message_bytes_max`,
    /// before or after it is inflated.
    #[error("the message is too large")]
    TooLarge,
    /// Text that is not UTF-8.
    #[error("the text is not UTF-8")]
    Utf8,
    /// A close frame with half a code, or a code that may not be sent.
    #[error("the close code is malformed")]
    CloseCode,
    /// A message that cannot be inflated.
    #[error("the message cannot be inflated")]
    Deflate,
    /// More control and empty frames than `Options::control_frames_per_s`, or more input than the
    /// owner takes.
    #[error("too many control frames")]
    Flood,
    /// A message that was not complete within `Options::message_timeout`.
    #[error("the message took too long")]
    Timeout,
}

impl Violation {
    /// The close code (RFC 6455 section 7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Self::ReservedBits
            | Self::Opcode
            | Self::Control
            | Self::Fragment
            | Self::Mask
            | Self::Length
            | Self::CloseCode => 1002,
            Self::Utf8 | Self::Deflate => 1007,
            Self::Flood | Self::Timeout => 1008,
            Self::TooLarge => 1009,
        }
    }
}

/// Why a session wants its connection closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed with this code; 1005 if it gave none.
    #[error("closed by the peer with code {0}")]
    Peer(u16),
    /// The owner closed, and the peer has answered or had the time to.
    #[error("finished")]
    Finished,
    /// The peer broke a rule.
    #[error("{0}")]
    Violation(Violation),
    /// No answer to a ping.
    #[error("the peer does not answer")]
    PongTimeout,
    /// More than `Options::queue_bytes_max` waited to be sent.
    #[error("the peer does not read")]
    Overfull,
}
