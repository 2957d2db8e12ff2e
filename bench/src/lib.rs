//! Load for a ringside server, and what it costs the server.
//!
//! [`streams`] publishes and watches, [`segments`] watches by HLS and DASH, [`get`] asks for the
//! same resources over and over, [`rtc`] publishes and plays by WebRTC, [`spaces`] plays in spaces,
//! [`collab`] works in a collaborative session, [`floor`], [`floor_ask`] and
//! [`floor_srtp`] are the bare loops to compare with, [`churn`] comes and goes. Clients run on the server's own engine: one driver on one ring for each
//! thread.

pub mod churn;
pub mod collab;
mod container;
mod control;
mod fleet;
pub mod floor;
pub mod floor_ask;
pub mod floor_srtp;
pub mod get;
mod process;
mod publisher;
pub mod rtc;
pub mod segments;
mod source;
pub mod spaces;
mod stamp;
pub mod streams;
mod swarm;
mod tally;
mod viewer;

pub use process::pin;
pub use source::Shape;
pub use viewer::Mix;
