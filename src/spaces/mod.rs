//! Spaces: players who see, hear and write to each other, as UNAVI's clients know them.
//!
//! The control shard signals and decides who gets what; media shards run the transports and relay
//! what producers send to consumers. [`Order`]s go one way, [`Report`]s the other.

pub mod door;
mod location;
mod message;
mod relay;
mod talk;

pub use message::{
    ByteOrder, ConsumerId, Direction, Granted, Message, Order, Parameters, ProducerId, Refusal,
    Report, Role, TransportId,
};
pub use relay::{Counters, Item, Relay, Want};
