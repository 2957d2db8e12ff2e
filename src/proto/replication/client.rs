//! A client's side of one connection, for loads and tests. The server's side is [`Connection`].
//!
//! [`Connection`]: super::Connection

use std::collections::VecDeque;

use bytes::Bytes;

use super::connection::{Error, Event, USER};
use super::four_ports::{self, Pairs, Unpaired};
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
///
/// Commands and nodes of generation A come as those of the later ones do: with a number first, and
/// in five parts.
#[derive(Debug)]
pub struct ClientConnection {
    wire: Wire,
    channel: Channel,
    state: State,
    pairs: Pairs,
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
            Wire::Zmtp | Wire::FourPorts => {
                let mut session = zmtp::Session::new(USER);
                let is_push = channel == Channel::Push;
                session.ready(Own {
                    socket_type: if is_push { "PUSH" } else { "DEALER" },
                    identity: (!is_push).then_some(identity),
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
                    Channel::Push => unreachable!("this wire has three connections"),
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
            wire,
            channel,
            state,
            pairs: Pairs::default(),
            out,
            events,
        }
    }

    fn server_type(&self) -> &'static [u8] {
        match self.channel {
            Channel::Command | Channel::Data | Channel::Ttl => b"ROUTER",
            Channel::Push => b"PULL",
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
        loop {
            let session = match &mut self.state {
                State::Tcp(reader) => return reader.poll_event(),
                State::Zmtp(session) => session,
            };
            let event = match session.poll_event()? {
                zmtp::Event::Ready(peer) if peer.socket_type != self.server_type() => {
                    Event::Failed(Error::SocketType)
                }
                zmtp::Event::Ready(peer) => Event::Opened {
                    wire: self.wire,
                    channel: self.channel,
                    identity: peer.identity.into(),
                },
                zmtp::Event::Message(parts) => match self.message(parts) {
                    Some(event) => event,
                    None => continue,
                },
                zmtp::Event::Failed(error) => Event::Failed(error.into()),
            };
            return Some(event);
        }
    }

    /// `None` where a message is half a node.
    fn message(&mut self, parts: Vec<Bytes>) -> Option<Event> {
        match (self.wire, self.channel) {
            (Wire::FourPorts, Channel::Command) => Some(Event::Message(
                // What is no command is left as it is.
                four_ports::command(&parts).map_or(parts, Vec::from),
            )),
            (Wire::FourPorts, Channel::Data) => match self.pairs.take(parts) {
                Ok((_, node)) => node.map(Event::Message),
                Err(Unpaired) => Some(Event::Failed(Error::Pair)),
            },
            (Wire::FourPorts, Channel::Ttl | Channel::Push) | (Wire::Zmtp | Wire::Tcp, _) => {
                Some(Event::Message(parts))
            }
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
