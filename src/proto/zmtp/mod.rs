//! ZMTP 3, the wire of `ZeroMQ`, with the NULL mechanism: greeting, commands and frames, sans-IO.
//!
//! Only what a server needs whose peers are `DEALER` and `PUSH` sockets: it waits for the peer's
//! `READY` before it says its own, because what it is depends on what the peer is. A client for loads
//! and tests is the same session, which says its own at once.
//!
//! Left out: PLAIN and CURVE, ZMTP 1 and 2, and heartbeats of its own.

mod frames;
mod session;

pub use frames::{SHORT_MAX, make_room, part_head};
pub use session::{Error, Event, Own, Peer, Session};

/// What one peer may make this side remember.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Parts of one message.
    pub parts_max: usize,
    /// Bytes of one message.
    pub message_bytes_max: usize,
}
