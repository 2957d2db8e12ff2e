//! WebRTC for streams: publishers by WHIP, viewers by WHEP.
//!
//! The shard whose connection has the offer makes the session; the shard where its first check
//! arrives runs it, for the kernel will bring all that follows there. A viewer belongs to the shard
//! that runs it. A publisher belongs to the shard that made it, and is fed by the other.

mod control;
pub mod door;
mod message;
mod sessions;
mod signalling;
mod snapshot;
mod sockets;
pub mod websocket;

pub use crate::streams::whip::{Ask, IceServer, PostedOffer, Precondition, Role};
pub use message::{Granted, RtcMessage};
pub use snapshot::{COLUMNS, Census, Column, Counters, RtcSnapshot};
