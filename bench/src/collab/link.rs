//! One of a client's connections.

use std::time::Instant;

use bytes::Bytes;
use ringside::drive::Session;
use ringside::proto::replication::{Channel, ClientConnection, Event, Wire};

pub(super) struct Link(ClientConnection);

impl Link {
    pub(super) fn new(wire: Wire, channel: Channel, identity: &str) -> Self {
        Self(ClientConnection::new(wire, channel, identity))
    }
}

impl Session for Link {
    type Event = Event;

    fn handle_input(&mut self, _now: Instant, bytes: &[u8]) {
        self.0.handle_input(bytes);
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.0.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.0.poll_event()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        None
    }
}
