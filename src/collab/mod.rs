//! Collaborative sessions of Blender's multi-user add-on.
//!
//! A [`Session`] is pure: connections, messages and time come in, and queues of messages come out.
//! It lives on one media shard, which alone listens on its ports, so that its traffic crosses no
//! mesh. What clients send each other is relayed byte for byte, after the pickle scanner has seen
//! it: nothing reaches a client that its loader could run.

pub mod door;
mod login;
mod message;
mod outbox;
mod relay;
mod repository;
mod session;
mod snapshot;
mod statistics;

pub use session::{Options, Session, Signs};
pub use statistics::{COLUMNS, Column, Statistics};
