//! Why a description could not be read.

/// What is wrong, and in which line; lines count from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Error {
    /// It passes `Limits::bytes_max`.
    #[error("the description has more than {0} bytes")]
    TooLong(usize),
    /// It has more lines than `Limits::lines_max`.
    #[error("the description has more than {0} lines")]
    TooManyLines(usize),
    /// It has more media sections than `Limits::media_max`.
    #[error("the description has more than {0} m-lines")]
    TooManyMedia(usize),
    /// A line passes `Limits::line_bytes_max`.
    #[error("line {line} has more than {max} bytes")]
    LineTooLong {
        /// Its number.
        line: usize,
        /// The limit.
        max: usize,
    },
    /// Not UTF-8, or a control character in a line.
    #[error("line {0} is not text")]
    NotText(usize),
    /// Not `x=value`.
    #[error("line {0} is not of the form \"type=value\"")]
    Line(usize),
    /// The first line is not `v=0`.
    #[error("the description does not begin with \"v=0\"")]
    Version,
    /// An `m=` line that is not `kind port protocol formats`.
    #[error("line {0} is not a valid m-line")]
    Media(usize),
}
