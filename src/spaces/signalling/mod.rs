//! The port that players come to: WebSockets of any path, and how many players there are.

mod admin;
pub mod door;
mod metrics;
mod place;

pub use admin::{Act, Command};
