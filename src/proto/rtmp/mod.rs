//! Real-Time Messaging Protocol, both sides, plain (TLS is the driver's matter).
//!
//! Specifications: "Adobe's Real Time Messaging Protocol" 1.0, "Enhanced RTMP" versions 1 and 2
//! (Veovera). Left out: RTMPE, RTMPT, shared objects, AMF 3, seeking, `reconnectRequest`.
//!
//! [`Session`] is the server's side of one connection; a door answers its [`Event::Publish`] or
//! [`Event::Play`]. What a player is sent is made by [`Muxer`] once for all players of a stream.
//! [`Client`] is the other side.

mod capabilities;
pub mod chunk;
mod client;
mod error;
mod handshake;
pub mod message;
mod muxer;
mod outbox;
mod session;
mod target;

pub use capabilities::Capabilities;
pub use chunk::ChunkReader;
pub use client::{Client, ClientEvent};
pub use error::{CloseReason, Error};
pub use handshake::{Handshake, Progress};
pub use message::Message;
pub use muxer::Muxer;
pub use outbox::{OUTPUT_CHUNK_SIZE, REPLY_BYTES_MAX};
pub use session::{Event, Options, Refusal, Session};
pub use target::Target;

#[cfg(test)]
mod tests;
