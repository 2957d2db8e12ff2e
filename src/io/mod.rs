//! The kernel: rings, sockets, receive buffers. The only floor that makes syscalls for data.

mod buffer_ring;
mod net;
pub mod probe;
mod tcp;

pub use net::{
    Completion, ListenerIndex, Net, Options, Piece, Received, SocketIndex, Statistics, Wait, Waker,
};
pub use tcp::listen;
