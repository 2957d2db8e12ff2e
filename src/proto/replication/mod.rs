//! The protocol of the `replication` package, which Blender's multi-user add-on speaks.
//!
//! The same messages go over two wires: ZMTP on three ports (generation B, versions 0.9.1 to 0.9.11),
//! and length before each part on one port (generation C, from 0.9.12 on). [`Connection`] tells them
//! apart by their first byte. A connection is one [`Channel`] of a client; what they have in common is
//! an identity.
//!
//! Generation A (versions 0.1.11 to 0.1.31) has messages of its own, by ZMTP on four ports. Its sockets at
//! the first two are those of generation B: a client's first command tells, or its other sockets do.
//!
//! Left out: versions from 0.1.33 to 0.8, which nothing that is still used has.

mod client;
mod connection;
pub mod four_ports;
mod frame;
mod kind;
mod tcp;

pub use client::ClientConnection;
pub use connection::{Connection, Error, Event, Port};
pub use frame::{Part, bytes, frame, frame_pushed};
pub use kind::Kind;

/// How messages are framed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wire {
    /// ZMTP 3.
    Zmtp,
    /// A count of parts, and a length before each.
    Tcp,
    /// ZMTP 3 with the messages of generation A.
    FourPorts,
}

/// Whose messages say the same in the same way, so that one client's can go to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Generation {
    /// Versions 0.1.11 to 0.1.31: messages say by name what they are, and a node is always sent whole.
    A,
    /// B and C, versions from 0.9.1 on.
    Later,
}

impl Wire {
    /// The generation that speaks so.
    pub fn generation(self) -> Generation {
        match self {
            Self::FourPorts => Generation::A,
            Self::Zmtp | Self::Tcp => Generation::Later,
        }
    }

    /// What a client's connections carry.
    pub fn channels(self) -> &'static [Channel] {
        const ALL: [Channel; Channel::COUNT] =
            [Channel::Command, Channel::Data, Channel::Ttl, Channel::Push];
        match self {
            Self::FourPorts => &ALL,
            Self::Zmtp | Self::Tcp => &ALL[..3],
        }
    }

    /// The port that a channel is at, counted from a session's first.
    pub fn port(self, channel: Channel) -> u16 {
        match (self, channel) {
            (Self::Tcp, _) | (_, Channel::Command) => 0,
            (Self::Zmtp | Self::FourPorts, Channel::Data) => 1,
            (Self::Zmtp, Channel::Ttl) | (_, Channel::Push) => 2,
            (Self::FourPorts, Channel::Ttl) => 3,
        }
    }
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
    /// Nodes from a client of generation A, whose `Data` goes to it only.
    Push,
}

impl Channel {
    /// How many there are.
    pub const COUNT: usize = 4;
}
