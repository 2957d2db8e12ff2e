//! Live streams, as MistServer's users know them: inputs, outputs, names and rules.
//!
//! [`Exchange`] is one shard's part of it and [`Registrar`] the control shard's; both are pure.
//! `door` connects them to the driver and the mesh.

pub mod access;
pub mod api;
pub mod client;
pub mod door;
mod exchange;
mod families;
pub mod info;
mod lines;
mod message;
pub mod name;
mod outlet;
mod output;
mod packets;
pub mod page;
mod registrar;
mod request;
pub mod rtc;
mod segment_request;
mod segments;
mod snapshot;
mod stream;
mod stream_mirror;
mod stream_outlets;
mod stream_packets;
mod track_builder;
mod track_statistics;
mod viewing;
pub mod whip;

pub use client::{ClientSnapshot, SessionFilter, ShardClients};
pub use exchange::{Exchange, HttpReply, Output, RtcReply, RtmpReply};
pub use families::{Row, families};
pub use message::Message;
pub use output::{Choice, Container, Selection};
pub use packets::Wishes;
pub use registrar::Registrar;
pub use segments::cutter::Epoch;
pub use segments::listing::{Listing, Opening, Part, Update};
pub use segments::{Form, Key as RenditionKey};
pub use snapshot::{Counters, ShardSnapshot, StreamSnapshot, TrackSnapshot};
pub use stream_mirror::Backlog;
pub use viewing::Session as ViewingSession;
