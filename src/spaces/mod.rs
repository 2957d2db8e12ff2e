//! Spaces: players who see, hear and write to each other, as UNAVI's clients know them.
//!
//! The control shard signals and decides who gets what; media shards run the transports and relay
//! what producers send to consumers. [`Order`]s go one way, [`Report`]s the other.

mod bucket;
mod consuming;
mod counters;
mod host;
mod message;
mod options;
mod player;
mod token;

#[cfg(test)]
mod tests;

pub use counters::Counters;
pub use host::{Host, Output, Seen};
pub use message::{
    ByteOrder, ConsumerId, Direction, Message, Order, Parameters, ProducerId, Refusal, Report,
    Role, TransportId,
};
pub use options::{Interest, Options};
