//! Data channels: SCTP over DTLS (RFC 8261, RFC 8831) and their establishment (RFC 8832).
//!
//! An [`Association`] is fed with what DTLS records held and gives packets for DTLS records. The
//! transport is the crate `sctp-proto`; what a channel is, its opening and closing, and the bounds
//! are here. Messages that are written before packets are taken share packets.
//!
//! Left out: interleaving of large messages (RFC 8260), priorities, changing the number of streams
//! (RFC 6525 section 4.5 and 4.6).

mod association;
mod dcep;
mod error;

#[cfg(test)]
mod tests;

pub use association::{Association, ChannelId, Counters, Event, Options, Reliability};
pub use error::{OpenError, SendError};
