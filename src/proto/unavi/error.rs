//! Why a frame means nothing.

/// Why a frame means nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// It is empty.
    #[error("an empty frame")]
    Empty,
    /// It is neither a message of protocol buffers nor JSON.
    #[error("neither protocol buffers nor JSON")]
    Syntax,
    /// Nothing of that name is known.
    #[error("an unknown message")]
    Unknown,
    /// What belongs to the message is missing, or of another type.
    #[error("a message with other contents than it has")]
    Contents,
    /// It wants to be passed on to other clients, who would take it for the server's word.
    #[error("a message in the server's name")]
    Forged,
    /// A list or text is longer than anything that a client sends.
    #[error("a message with too much in it")]
    TooLarge,
}
