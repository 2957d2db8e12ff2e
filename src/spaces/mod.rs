//! Spaces: players who see, hear and write to each other, as UNAVI's clients know them.
//!
//! The control shard signals and decides who gets what; media shards run the transports and relay
//! what producers send to consumers. [`Order`]s go one way, [`Report`]s the other.

mod bucket;
mod consuming;
mod counters;
pub mod door;
mod entering;
mod host;
mod location;
mod making;
mod message;
mod options;
mod overseeing;
mod player;
mod relay;
pub mod signalling;
mod sound;
mod talk;
mod token;

#[cfg(test)]
mod tests;

pub use counters::Counters;
pub use host::{Host, Output};
pub use message::{
    ByteOrder, ConsumerId, Counted, Direction, Granted, Message, Order, Parameters, ProducerId,
    Refusal, Report, Role, TransportId,
};
pub use options::{Interest, Options};
pub use overseeing::Seen;
pub use relay::{Counters as RelayCounters, Relay, Want};
