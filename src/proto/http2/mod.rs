//! HTTP/2 (RFC 9113): one server connection. The frames, the header compression and the flow
//! control are those of the crate `h2`; what is here is a session without sockets around it.
//!
//! # Driving it
//!
//! The connection begins with [`Session::new`] once TLS has agreed on `h2` by ALPN (or, without
//! TLS, when the peer is known to speak it). It has the five calls of every session, with two
//! things to know:
//!
//! * Call [`Session::poll_transmit`] only while little waits for the socket, 64 to 256 KiB. The
//!   session hands out [`Options::output_bytes_max`] and then what room is made for, up to the
//!   peer's windows; bytes it still has can be reset or closed, those it gave away cannot.
//! * Taking bytes moves the connection on, so call [`Session::poll_event`] after the last
//!   [`Session::poll_transmit`] of a turn, and after that `poll_transmit` once more if the answer
//!   to an event brought something.
//!
//! The pieces that come out are a frame's head of some bytes, then up to 16 KiB of shared bytes,
//! in turn: a TLS writer should be given several of them at once (`write_vectored`), or each
//! becomes a record. A session is not `Send`: a connection stays on the shard that accepted it.
//!
//! [`Event::Request`] carries the request that HTTP/1 would have made of it. Each is answered once,
//! in any order, by [`Session::respond`], [`Session::respond_stream`] or
//! [`Session::respond_shared`]. A live body is bare bytes ([`chunk_payload`] of what viewers of
//! HTTP/1 share): its owner gives some with [`Session::send`], asks [`Session::queued_bytes`], and
//! goes on when it hears [`Event::Drained`]. Calls for a stream that is gone do nothing, since the
//! peer may have reset it a moment before.
//!
//! # Bounds
//!
//! They are in [`Options`]. What a connection can hold at most is the sum of
//! `queue_bytes_max` (shared bytes), `bodies_bytes_max`, `streams_max` heads of
//! `header_bytes_max`, `output_bytes_max`, `input_bytes_max` and some 30 kB that `h2` takes for itself.
//!
//! `h2` reads the clock in one place, to forget a second after it which streams it has reset.
//!
//! Left out: server push (which clients no longer take), extended CONNECT (RFC 8441), priorities
//! (read and ignored), request trailers (read and dropped).
//!
//! [`chunk_payload`]: crate::proto::http::chunk_payload

mod error;
mod frames;
mod head;
mod options;
mod session;
mod stream;
mod wakers;
mod wire;

#[cfg(test)]
mod tests;

pub use error::{CloseReason, Flood};
pub use options::Options;
pub use session::{Event, Session, StreamNumber};
