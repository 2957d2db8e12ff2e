//! WebSocket (RFC 6455) with `permessage-deflate` (RFC 7692): both sides of a connection.
//!
//! [`Session`] reads messages, whole and bounded, and writes them. What goes to many peers is
//! encoded once as a [`Shared`] and given to each by [`Session::send_shared`].
//!
//! # From HTTP to WebSocket
//!
//! A door that gets a [`Request`](crate::proto::http::Request) for which `is_websocket()` is true
//! looks at its path, its Origin and its credentials, and then either answers as to any other
//! request or changes the connection's session:
//!
//! 1. [`accept`] checks the request, chooses a subprotocol and negotiates compression. An error
//!    is answered on the HTTP session: `session.respond(now, error.response())`.
//! 2. `let unread = http_session.into_unread();` ends the HTTP session and gives what came behind
//!    the request: a client may send frames before it has seen the answer.
//! 3. `Session::server(now, options, accepted)` takes its place; its first `poll_transmit` is the
//!    head of the 101 response.
//! 4. `session.handle_input(now, &unread)`, and then `poll_event` as after any input.
//!
//! In `drive` that means: a variant of `ServerSession` for this session, and one call by which the
//! door swaps the `http::Session` of a connection for it (nothing of the HTTP session is left to
//! send then: a request is told after the answers before it were queued, and those are taken by
//! `poll_transmit` first).
//!
//! # Memory
//!
//! An idle session holds no buffer. By default neither side keeps the compression's context from
//! one message to the next, so that no compressor (some 260 kB) or window (32 kB) belongs to a
//! connection; each thread has one of either.
//!
//! Left out: extensions other than `permessage-deflate`, messages handed out before they are
//! complete, sending in fragments.

mod client;
mod deflate;
mod error;
mod extension;
mod frame;
mod handshake;
mod options;
mod session;
mod shared;

#[cfg(test)]
mod tests;

pub use client::ClientHandshake;
pub use error::{CloseReason, HandshakeError, Violation};
pub use extension::Deflate;
pub use handshake::{Accepted, accept};
pub use options::{DeflateOptions, Options};
pub use session::{Event, Message, Session};
pub use shared::Shared;
