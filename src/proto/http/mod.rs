//! HTTP/1.0 and 1.1 (RFC 9110, RFC 9112): one server connection, and a small client for load tests.
//!
//! [`Session`] reads requests and writes heads and whole bodies. The body of a live response does
//! not pass through it: the caller sends bytes that all viewers share, already framed with
//! [`chunk()`], and calls [`Session::end_stream`] when there are no more.
//!
//! Framing is read strictly (RFC 9112 section 6.3 lets a server refuse what two readers could
//! understand differently): a request whose length is stated twice, in two ways or in a coding
//! other than plain `chunked` is refused and its connection closed.
//!
//! Left out: request trailers (read and dropped), upgrades (a WebSocket request is recognised and
//! given to the caller as it is), request bodies handed out before they are complete.

mod body;
mod chunk;
mod client;
mod error;
mod forwarded;
mod head;
mod request;
mod response;
mod session;

pub use chunk::{CHUNK_END, chunk, chunk_payload};
pub use client::{ClientError, ClientSession};
pub use error::{CloseReason, Refusal};
pub use forwarded::{client_address, is_forwarded};
pub use request::{Method, Request, Version, parameter};
pub use response::{CORS, Framing, Response};
pub use session::{Event, Options, Session};
