//! Runs sans-IO sessions on a shard's sockets.

mod driver;

pub use driver::{Counters, Driver, Gone, Limits, Occurrence, Session};
