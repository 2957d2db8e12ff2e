//! Why a request is refused and why a connection ends.

/// Why a request was refused. The session answers with [`Refusal::status`] and closes, because
/// what follows a request that was not understood cannot be trusted to be a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a request line.
    #[error("the request line is malformed")]
    RequestLine,
    /// The target is not a path that can be served safely.
    #[error("the request target is malformed")]
    Target,
    /// The request line passes `Options::target_bytes_max`.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The head passes `Options::header_bytes_max`.
    #[error("the request head is too large")]
    HeadTooLarge,
    /// More fields than `Options::headers_max`.
    #[error("the request has too many header fields")]
    TooManyHeaders,
    /// A header field is malformed.
    #[error("a header field is malformed")]
    Header,
    /// No Host in HTTP/1.1, several, or one that is not a host.
    #[error("the Host header is missing or malformed")]
    Host,
    /// The body's length is stated twice or in two ways.
    #[error("the body's length is ambiguous")]
    LengthAmbiguous,
    /// The body's length is not a number.
    #[error("the body's length is malformed")]
    Length,
    /// A transfer coding other than `chunked`.
    #[error("the transfer coding is not supported")]
    Coding,
    /// The chunked body is malformed.
    #[error("the chunked body is malformed")]
    Chunk,
    /// The body passes `Options::body_bytes_max`.
    #[error("the body is too large")]
    BodyTooLarge,
    /// A method this server does not know.
    #[error("the method is not known")]
    Method,
    /// CONNECT or TRACE.
    #[error("the method is not allowed")]
    MethodNotAllowed,
    /// Not HTTP/1.0 or 1.1.
    #[error("the HTTP version is not supported")]
    Version,
    /// An expectation other than `100-continue`.
    #[error("the expectation cannot be met")]
    Expectation,
    /// The head was not complete in time.
    #[error("the request head took too long")]
    HeadTimeout,
    /// The body was not complete in time.
    #[error("the request body took too long")]
    BodyTimeout,
}

impl Refusal {
    /// The status code of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::RequestLine
            | Self::Target
            | Self::Header
            | Self::Host
            | Self::LengthAmbiguous
            | Self::Length
            | Self::Chunk => 400,
            Self::MethodNotAllowed => 405,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::Coding | Self::Method => 501,
            Self::Version => 505,
        }
    }
}

/// Why a session wants its connection closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum CloseReason {
    /// The last response was sent and either side asked for a close after it.
    #[error("finished")]
    Finished,
    /// No request came within the keep-alive time, or none at all on a new connection.
    #[error("idle for too long")]
    Idle,
    /// A request was refused.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The peer sent more than `Options::pipelined_bytes_max` while a response was outstanding.
    #[error("too much pipelined input")]
    PipelineTooLong,
}
