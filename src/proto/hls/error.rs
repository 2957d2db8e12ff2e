//! What can be wrong with the query of a playlist request.

/// Why a request for a playlist cannot be answered. The answer is 400 (RFC 8216bis section
/// 6.2.5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// A value that is not a decimal number.
    #[error("_HLS_msn and _HLS_part are decimal numbers")]
    Number,
    /// A number that no playlist can reach.
    #[error("_HLS_msn or _HLS_part is too large")]
    TooLarge,
    /// A part of no segment.
    #[error("_HLS_part needs _HLS_msn")]
    PartWithoutMsn,
}
