//! The protocol of the `replication` package, which Blender's multi-user add-on speaks.
//!
//! The same messages go over two wires: ZMTP on three ports (versions 0.9.1 to 0.9.11), and length
//! before each part on one port (from 0.9.12 on). [`Connection`] tells them apart by their first
//! byte. A connection is one [`Channel`] of a client; what they have in common is an identity.
//!
//! Left out: versions up to 0.1.31 with four ports.

mod client;
mod connection;
mod frame;
mod kind;
mod tcp;

pub use client::ClientConnection;
pub use connection::{Connection, Error, Event, Port};
pub use frame::{Part, bytes, frame};
pub use kind::Kind;

/// How messages are framed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wire {
    /// ZMTP 3.
    Zmtp,
    /// A count of parts, and a length before each.
    Tcp,
}

/// What a connection carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Channel {
    /// Everything but nodes and signs of life.
    Command,
    /// Nodes and their changes.
    Data,
    /// Signs of life.
    Ttl,
}
