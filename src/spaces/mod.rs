//! Spaces: players who see, hear and write to each other, as UNAVI's clients know them.
//!
//! The control shard signals and decides who gets what; media shards run the transports and relay
//! what producers send to consumers. [`Order`]s go one way, [`Report`]s the other.

mod message;

pub use message::{
    ByteOrder, ConsumerId, Direction, Message, Order, Parameters, ProducerId, Refusal, Report,
    Role, TransportId,
};
