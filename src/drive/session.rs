//! What a session has to have, to be run by the driver.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::io::Piece;
use crate::media::buffer::Pool;

/// The calls that every session has.
pub trait Session {
    /// What the session tells its door.
    type Event;

    /// Bytes arrived.
    fn handle_input(&mut self, now: Instant, bytes: &[u8]);
    /// The time of [`Session::poll_timeout`] has come.
    fn handle_timeout(&mut self, now: Instant);
    /// The next bytes to send.
    fn poll_transmit(&mut self) -> Option<Bytes>;
    /// The next event.
    fn poll_event(&mut self) -> Option<Self::Event>;
    /// When [`Session::handle_timeout`] wants to be called, and why.
    fn poll_timeout(&self) -> Option<(Instant, &'static str)>;

    /// Called when the socket can take more: what goes on the wire, made of the first of `queue`,
    /// which holds what the session and its owner have to send in their order. Memory for much of it
    /// comes from `pool`. A session without
    /// encryption leaves it as it is, and pays nothing for the ones that have it.
    fn seal(&mut self, _queue: &mut VecDeque<Piece>, _pool: &mut Pool) -> Wire {
        Wire::AsIs
    }

    /// No more will be queued: [`Session::seal`] may end with a goodbye.
    fn finish(&mut self) {}

    /// What the driver has to know besides bytes and events.
    fn poll_notice(&mut self) -> Option<Notice> {
        None
    }
}

/// What [`Session::seal`] has made.
#[derive(Debug)]
pub enum Wire {
    /// The queue goes out as it is.
    AsIs,
    /// This goes out; what it was made of is no longer in the queue.
    Sealed(Piece),
    /// Nothing can go out.
    Nothing,
}

/// What a session tells its driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The peer is somebody else's messenger: this is who it speaks for.
    Peer(SocketAddr),
    /// The peer sends no more, though its socket is open.
    Ended,
    /// The connection is of no use any more. What the session still has to say is sent.
    Failed,
}
