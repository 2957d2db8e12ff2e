//! The kernel: rings, sockets, receive buffers. The only floor that makes syscalls for data.

mod addresses;
mod beneath;
mod buffer_ring;
mod datagram;
mod net;
pub mod probe;
mod random;
mod sending;
mod tcp;
mod udp;

pub use addresses::addresses;
pub use beneath::{Folder, open_beneath};
pub use datagram::{
    COALESCE_BUFFER_BYTES, Datagram, DatagramIndex, ReceivedDatagram, SEGMENTS_MAX,
};
pub use net::{
    Completion, ListenerIndex, Net, Options, Received, SocketIndex, Statistics, Wait, Waker,
};
pub use random::fill_random;
pub use sending::Piece;
pub use tcp::listen;
pub use udp::bind_udp;
