//! Live streams, as MistServer's users know them: inputs, outputs, names and rules.
//!
//! [`Exchange`] is one shard's part of it and [`Registrar`] the control shard's; both are pure.
//! `door` connects them to the driver and the mesh.

pub mod door;
mod exchange;
mod message;
mod output;
mod registrar;
mod request;
mod settings;
mod snapshot;
mod stream;

pub use exchange::{Exchange, HttpReply, Output, RtmpReply};
pub use message::Message;
pub use output::{Container, Selection};
pub use registrar::Registrar;
pub use settings::{Delivery, Merge, Settings, StreamSettings};
pub use snapshot::{ShardSnapshot, StreamSnapshot};
