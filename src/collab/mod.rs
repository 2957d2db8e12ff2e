//! Collaborative sessions of Blender's multi-user add-on.
//!
//! A [`Session`] is pure: connections, messages and time come in, and queues of messages come out.
//! It lives on one media shard, which alone listens on its ports, so that its traffic crosses no
//! mesh. What clients send each other is relayed byte for byte, after the pickle scanner has seen
//! it: nothing reaches a client that its loader could run.

mod admin;
mod again;
mod contested;
pub mod door;
mod fold;
mod four_ports;
mod keeping;
mod login;
mod message;
mod order;
mod outbox;
mod relay;
mod repository;
mod scene;
mod session;
mod snapshot;
mod statistics;
mod tries;

pub use admin::{Answer, Command, Message as AdminMessage};
pub use fold::{FoldJob, Folded};
pub use keeping::{Keeping, Mode};
pub use order::Order;
pub use scene::{Change, Scene};
pub use session::{Options, Session, Signs};
pub use statistics::{COLUMNS, Column, Statistics};

#[cfg(test)]
mod keeping_tests;
