//! Runs sans-IO sessions on a shard's sockets.

mod driver;
mod server_session;

pub use driver::{Counters, Driver, Gone, Limits, Occurrence, Session};
pub use server_session::{ServerEvent, ServerSession};
