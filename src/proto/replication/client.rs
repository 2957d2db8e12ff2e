//! A client's side of one connection, for loads and tests. The server's side is [`Connection`].
//!
//! [`Connection`]: super::Connection

use std::collections::VecDeque;

use bytes::Bytes;

use super::connection::{Error, Event, USER};
use super::tcp::Reader;
use super::{Channel, Wire};
use crate::proto::zmtp::{self, Own};

#[derive(Debug)]
enum State {
    Zmtp(Box<zmtp::Session>),
    Tcp(Box<Reader>),
}

/// One connection, the peer being a server.
///
/// Nothing but what [`ClientConnection::poll_transmit`] gives may be sent before
/// [`Event::Opened`]: ZMTP takes no message before both sides have said who they are.
#[derive(Debug)]
pub struct ClientConnection {
    channel: Channel,
    state: State,
    out: VecDeque<Bytes>,
    events: VecDeque<Event>,
}

impl ClientConnection {
    /// A connection to the port of `channel`, of the client with this identity, which is alike for
    /// all its connections and at most 255 bytes long.
    pub fn new(wire: Wire, channel: Channel, identity: &str) -> Self {
        let mut events = VecDeque::new();
        let mut out = VecDeque::new();
        let state = match wire {
            Wire::Zmtp => {
                let mut session = zmtp::Session::new(USER);
                session.ready(Own {
                    socket_type: "DEALER",
                    identity,
                });
                State::Zmtp(Box::new(session))
            }
            Wire::Tcp => {
                let mut hello = (identity.len() as u32).to_be_bytes().to_vec();
                hello.extend_from_slice(identity.as_bytes());
                hello.push(match channel {
                    Channel::Command => b'C',
                    Channel::Data => b'D',
                    Channel::Ttl => b'T',
                });
                out.push_back(hello.into());
                // The server says nothing of itself.
                events.push_back(Event::Opened {
                    wire,
                    channel,
                    identity: Bytes::new(),
                });
                State::Tcp(Box::new(Reader::of_server(USER)))
            }
        };
        Self {
            channel,
            state,
            out,
            events,
        }
    }

    /// Bytes that have arrived.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Zmtp(session) => session.handle_input(bytes),
            State::Tcp(reader) => reader.handle_input(bytes),
        }
    }

    /// The next bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        match &mut self.state {
            State::Zmtp(session) => session.poll_transmit(),
            State::Tcp(_) => self.out.pop_front(),
        }
    }

    /// The next event. [`Event::Opened`] has the server's identity.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        match &mut self.state {
            State::Tcp(reader) => reader.poll_event(),
            State::Zmtp(session) => Some(match session.poll_event()? {
                zmtp::Event::Ready(peer) if peer.socket_type != b"ROUTER" => {
                    Event::Failed(Error::SocketType)
                }
                zmtp::Event::Ready(peer) => Event::Opened {
                    wire: Wire::Zmtp,
                    channel: self.channel,
                    identity: peer.identity.into(),
                },
                zmtp::Event::Message(parts) => Event::Message(parts),
                zmtp::Event::Failed(error) => Event::Failed(error.into()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::proto::replication::{Connection, Port, frame};

    /// Moves bytes both ways, cut into pieces, until nobody has any.
    fn exchange(now: Instant, client: &mut ClientConnection, server: &mut Connection) {
        loop {
            let up: Vec<Bytes> = std::iter::from_fn(|| client.poll_transmit()).collect();
            let down: Vec<Bytes> = std::iter::from_fn(|| server.poll_transmit()).collect();
            if up.is_empty() && down.is_empty() {
                return;
            }
            let pieces = |bytes: Vec<Bytes>| bytes.concat();
            pieces(up)
                .chunks(5)
                .for_each(|piece| server.handle_input(now, piece));
            pieces(down)
                .chunks(5)
                .for_each(|piece| client.handle_input(piece));
        }
    }

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "a test needs some instant to start from"
    )]
    fn both_sides_understand_each_other_on_each_wire() {
        let now = Instant::now();
        for (wire, channel, port) in [
            (Wire::Zmtp, Channel::Command, Port::First),
            (Wire::Zmtp, Channel::Data, Port::Second),
            (Wire::Zmtp, Channel::Ttl, Port::Third),
            (Wire::Tcp, Channel::Command, Port::First),
            (Wire::Tcp, Channel::Data, Port::First),
            (Wire::Tcp, Channel::Ttl, Port::First),
        ] {
            let mut client = ClientConnection::new(wire, channel, "0123456789abcdef");
            let mut server = Connection::new(now, port);
            exchange(now, &mut client, &mut server);
            let identity = Bytes::from_static(b"0123456789abcdef");
            let opened = Event::Opened {
                wire,
                channel,
                identity,
            };
            assert_eq!(server.poll_event(), Some(opened));
            let opened = client.poll_event();
            assert!(matches!(opened, Some(Event::Opened { channel: said, .. }) if said == channel));

            let parts = [vec![Bytes::from_static(b"one")], vec![vec![7; 300].into()]];
            let message = frame(wire, &parts).concat();
            let whole = Event::Message(parts.iter().map(|part| part.concat().into()).collect());
            for piece in message.chunks(7) {
                client.handle_input(piece);
                server.handle_input(now, piece);
            }
            assert_eq!(client.poll_event(), Some(whole.clone()));
            assert_eq!(server.poll_event(), Some(whole));
            assert_eq!(client.poll_event(), None);
        }
    }

    #[test]
    fn a_server_of_another_kind_is_none() {
        let mut client = ClientConnection::new(Wire::Zmtp, Channel::Data, "me");
        let mut other = zmtp::Session::new(USER);
        other.ready(Own {
            socket_type: "PUB",
            identity: "",
        });
        while let Some(bytes) = other.poll_transmit() {
            client.handle_input(&bytes);
        }
        assert_eq!(client.poll_event(), Some(Event::Failed(Error::SocketType)));
    }
}
