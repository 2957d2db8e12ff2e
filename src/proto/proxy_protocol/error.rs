//! What is wrong with a header.

/// A header that cannot be used. The connection is of no use then: where its own bytes begin is not
/// known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProxyError {
    /// The line of version 1 has no end within 107 bytes.
    #[error("the line of the PROXY header is too long")]
    LineTooLong,
    /// The line of version 1 is malformed.
    #[error("the PROXY header is malformed")]
    Line,
    /// Not version 2.
    #[error("the PROXY header has an unknown version")]
    Version,
    /// Neither LOCAL nor PROXY.
    #[error("the PROXY header has an unknown command")]
    Command,
    /// The addresses do not fit in the length that is stated.
    #[error("the PROXY header is shorter than its addresses")]
    Short,
    /// Longer than is read.
    #[error("the PROXY header is too long")]
    TooLong,
}
