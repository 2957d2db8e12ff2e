//! Load for a ringside server, and what it costs the server.
//!
//! [`streams`] publishes and watches, [`floor`] is the bare loop to compare with, [`churn`] comes
//! and goes. Clients run on the server's own engine: one driver on one ring for each thread.

pub mod churn;
mod container;
mod control;
mod fleet;
pub mod floor;
mod process;
mod publisher;
mod source;
mod stamp;
pub mod streams;
mod tally;
mod viewer;

pub use process::pin;
pub use source::Shape;
pub use viewer::Mix;
