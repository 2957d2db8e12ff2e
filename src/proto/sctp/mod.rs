//! Data channels: SCTP over DTLS (RFC 8261, RFC 8831) and their establishment (RFC 8832).
//!
//! An [`Association`] is fed with what DTLS records held and gives packets for DTLS records:
//! channels, their opening and closing, and the bounds. Beneath it are the association of RFC 9260
//! with what it needs of RFC 3758 (messages may be given up) and RFC 6525 (streams end one by one).
//! Messages that are written before packets are taken share packets.
//!
//! Left out: interleaving of large messages (RFC 8260), priorities, changing the number of streams
//! (RFC 6525 section 4.5 and 4.6), several paths.

mod association;
mod chunk;
mod dcep;
mod error;
mod inbound;
mod outbound;
mod packer;
mod transport;

#[cfg(test)]
mod foreign_tests;
#[cfg(test)]
mod tests;

pub use association::{Association, ChannelId, Counters, Event, Options, Reliability};
pub use error::{OpenError, SendError};
