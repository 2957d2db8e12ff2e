//! What is wrong with a configuration file, and where.

use std::io;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is there but cannot be read.
    #[error("{file}: cannot be read: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: io::Error,
    },
    /// The text is not JSON or TOML.
    #[error("{file}:{line}:{column}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What was expected.
        message: String,
    },
    /// A value is not what its place needs.
    #[error("{file}:{line}:{column}: {path}: expected {expected}, found {found}")]
    Value {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The names that lead to the value, such as `streams.live.DVR`.
        path: String,
        /// What would be right.
        expected: String,
        /// What kind of value is there. Texts are not repeated: they may be passwords.
        found: String,
    },
}
