//! SRTP and SRTCP in place: RFC 3711 with the AES-CM and HMAC-SHA1 suites, RFC 7714 with AES-GCM,
//! keyed by DTLS (RFC 5764).
//!
//! [`Outbound`] seals what we send and [`Inbound`] opens what a peer sends; nothing is allocated
//! per packet. One pair serves all streams of a peer. A sender knows its extended sequence numbers
//! itself, so [`Outbound`] has no table of streams; [`Inbound`] keeps a bounded one, for the
//! rollover counters and the replay windows, and only an authentic packet changes it.
//!
//! Left out, because no browser uses them: the MKI, key derivation rates, null ciphers and RTCP
//! that is authentic but not encrypted.

mod cipher;
mod error;
mod inbound;
mod outbound;
mod profile;
mod replay;
mod sources;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use inbound::{Inbound, Opened};
pub use outbound::Outbound;
pub use profile::Profile;
pub use replay::Window;
pub use sources::SOURCES_MAX;

/// What any RTP packet begins with (RFC 3550 section 5.1).
const RTP_FIXED_BYTES: usize = 12;

/// What stays in the clear of any RTCP packet: the first header and its sender (RFC 3711
/// section 3.4).
const RTCP_FIXED_BYTES: usize = 8;

/// The E flag and the index, behind the RTCP packet (RFC 3711 section 3.4).
const RTCP_INDEX_BYTES: usize = 4;

/// Set in the index of an RTCP packet that is encrypted.
const RTCP_ENCRYPTED: u32 = 1 << 31;
