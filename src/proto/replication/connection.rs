//! One connection of a client, of either wire.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::four_ports::Pairs;
use super::tcp::Reader;
use super::{Channel, Wire};
use crate::proto::zmtp::{self, Limits, Own};

/// How long a connection may take to say who it is.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// What a client may send before it has logged in.
const STRANGER: Limits = Limits {
    parts_max: 8,
    message_bytes_max: 64 * 1024,
};

/// What a client may send afterwards: a part of 512 MiB, as the original takes it.
pub(super) const USER: Limits = Limits {
    parts_max: 16,
    message_bytes_max: (512 << 20) + (4 << 20),
};

/// What a login may pass on to the buffers of the user's connections.
const IDENTITY_MAX: usize = 256;

/// The port of a session that a connection came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// The first one: commands, and all of the newer wire.
    First,
    /// The second one: data.
    Second,
    /// The third one: signs of life, or nodes from a client of generation A.
    Third,
    /// The fourth one: signs of life of generation A.
    Fourth,
}

/// Why a connection is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The first bytes are those of no client.
    #[error("the first bytes are those of no client")]
    Greeting,
    /// The handshake took too long.
    #[error("the handshake takes too long")]
    Slow,
    /// A message has too many parts.
    #[error("a message has too many parts")]
    Parts,
    /// A message has too many bytes.
    #[error("a message is too big")]
    Size,
    /// A socket of a kind that has no business at this port.
    #[error("the socket's type is not served at this port")]
    SocketType,
    /// What generation A sends as nodes are none.
    #[error("a node does not come in two messages")]
    Pair,
    /// ZMTP is not spoken well.
    #[error("{0}")]
    Zmtp(#[from] zmtp::Error),
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The connection has said who it is.
    Opened {
        /// How it frames messages.
        wire: Wire,
        /// What it carries.
        channel: Channel,
        /// Whose it is.
        identity: Bytes,
    },
    /// A message with its parts.
    Message(Vec<Bytes>),
    /// It is not understood; nothing more comes.
    Failed(Error),
}

#[derive(Debug)]
enum State {
    /// No byte has come.
    New,
    Zmtp(Box<zmtp::Session>),
    Tcp(Box<Reader>),
    Failed,
}

/// A connection that nodes come by.
#[derive(Debug, Default)]
struct Push {
    pairs: Pairs,
    identity: Option<Bytes>,
    /// A node's data may be more than a stranger may send: it waits until the client is known to have
    /// logged in, which takes no longer than the round that the first message came in.
    is_trusted: bool,
    held: Vec<u8>,
}

/// Bytes that wait so.
const HELD_MAX: usize = 4 << 20;

/// One connection, this side being the server.
#[derive(Debug)]
pub struct Connection {
    port: Port,
    state: State,
    /// What nodes come by, whose sockets do not say whose they are: their first message does.
    push: Option<Push>,
    limits: Limits,
    until: Option<Instant>,
    heard: Instant,
    failure: Option<Error>,
    /// It has failed: what else comes is not looked at, though the peer may still be told why.
    is_over: bool,
    events: VecDeque<Event>,
}

impl Connection {
    /// A connection that begins.
    pub fn new(now: Instant, port: Port) -> Self {
        Self {
            port,
            state: State::New,
            push: None,
            limits: STRANGER,
            until: Some(now + HANDSHAKE),
            heard: now,
            failure: None,
            is_over: false,
            events: VecDeque::new(),
        }
    }

    /// The client has logged in: it may send big messages.
    pub fn trust(&mut self) {
        self.limits = USER;
        match &mut self.state {
            State::Zmtp(session) => session.set_limits(USER),
            State::Tcp(reader) => reader.set_limits(USER),
            State::New | State::Failed => {}
        }
        if let Some(push) = &mut self.push {
            push.is_trusted = true;
            let held = std::mem::take(&mut push.held);
            self.handle_zmtp(&held);
        }
    }

    /// When the last bytes came.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Bytes that have arrived.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        if self.is_over {
            return;
        }
        self.heard = now;
        if let State::New = self.state {
            self.state = match (bytes.first(), self.port) {
                (None, _) => return,
                (Some(0xff), _) => State::Zmtp(Box::new(zmtp::Session::new(self.limits))),
                (Some(0), Port::First) => State::Tcp(Box::new(Reader::new(self.limits))),
                (Some(_), _) => {
                    self.failure = Some(Error::Greeting);
                    State::Failed
                }
            };
        }
        match &mut self.state {
            State::Zmtp(_) => self.handle_zmtp(bytes),
            State::Tcp(reader) => reader.handle_input(bytes),
            State::New | State::Failed => {}
        }
    }

    fn handle_zmtp(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_over {
            if let Some(push) = &mut self.push
                && push.identity.is_some()
                && !push.is_trusted
            {
                if push.held.len() + rest.len() > HELD_MAX {
                    self.is_over = true;
                    self.events.push_back(Event::Failed(Error::Size));
                    return;
                }
                push.held.extend_from_slice(rest);
                return;
            }
            if let State::Zmtp(session) = &mut self.state {
                rest = session.handle_some(rest);
            }
            self.take_zmtp_events();
        }
    }

    /// The time of [`Connection::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.until.is_some_and(|until| now >= until) {
            self.fail(Error::Slow);
        }
    }

    /// Until when it has to say who it is.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.until.map(|until| (until, "the handshake"))
    }

    /// The next bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        match &mut self.state {
            State::Zmtp(session) => session.poll_transmit(),
            State::New | State::Tcp(_) | State::Failed => None,
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if let Some(error) = self.failure.take() {
            return Some(Event::Failed(error));
        }
        match &mut self.state {
            State::Zmtp(_) => None,
            State::Tcp(reader) => match reader.poll_event()? {
                Event::Failed(error) => Some(self.failed(error)),
                event @ Event::Opened { .. } => {
                    self.until = None;
                    Some(event)
                }
                event @ Event::Message(_) => Some(event),
            },
            State::New | State::Failed => None,
        }
    }

    /// Answers `READY` at once: bytes to send are asked for before events are.
    fn take_zmtp_events(&mut self) {
        while let State::Zmtp(session) = &mut self.state {
            let event = match session.poll_event() {
                Some(zmtp::Event::Ready(peer)) => match self.ready(peer) {
                    Some(event) => event,
                    None => continue,
                },
                Some(zmtp::Event::Message(parts)) => match &mut self.push {
                    None => Event::Message(parts),
                    Some(push) => match push.message(parts) {
                        Some(event) => event,
                        None => continue,
                    },
                },
                // The session has nothing more to tell, but may have to say why.
                Some(zmtp::Event::Failed(error)) => {
                    self.until = None;
                    Event::Failed(error.into())
                }
                None => return,
            };
            self.is_over = matches!(event, Event::Failed(_));
            self.events.push_back(event);
            if self.is_over {
                return;
            }
        }
    }

    /// `None` where the first message is to say whose the connection is.
    fn ready(&mut self, peer: zmtp::Peer) -> Option<Event> {
        let State::Zmtp(session) = &mut self.state else {
            return Some(self.failed(Error::Greeting));
        };
        if (self.port, peer.socket_type.as_slice()) == (Port::Third, b"PUSH") {
            session.ready(Own {
                socket_type: "PULL",
                identity: None,
            });
            self.until = None;
            self.push = Some(Push::default());
            return None;
        }
        if peer.socket_type != b"DEALER" {
            session.refuse("this port serves DEALER sockets");
            return Some(Event::Failed(Error::SocketType));
        }
        if !is_identity(&peer.identity) {
            session.refuse("a client has an identity");
            return Some(Event::Failed(Error::SocketType));
        }
        let (wire, channel, identity) = match self.port {
            Port::First => (Wire::Zmtp, Channel::Command, "SERVER_COMMAND"),
            Port::Second => (Wire::Zmtp, Channel::Data, "SERVER_PUSH"),
            Port::Third => (Wire::Zmtp, Channel::Ttl, ""),
            Port::Fourth => (Wire::FourPorts, Channel::Ttl, ""),
        };
        session.ready(Own {
            socket_type: "ROUTER",
            identity: Some(identity),
        });
        self.until = None;
        Some(Event::Opened {
            wire,
            channel,
            identity: peer.identity.into(),
        })
    }

    fn fail(&mut self, error: Error) {
        self.until = None;
        self.state = State::Failed;
        self.failure = Some(error);
    }

    fn failed(&mut self, error: Error) -> Event {
        self.until = None;
        self.state = State::Failed;
        Event::Failed(error)
    }
}

impl Push {
    fn message(&mut self, parts: Vec<Bytes>) -> Option<Event> {
        let Ok((sender, node)) = self.pairs.take(parts) else {
            return Some(Event::Failed(Error::Pair));
        };
        let Some(sender) = sender else {
            return node.map(Event::Message);
        };
        match &self.identity {
            None if is_identity(&sender) => {
                self.identity = Some(sender.clone());
                Some(Event::Opened {
                    wire: Wire::FourPorts,
                    channel: Channel::Push,
                    identity: sender,
                })
            }
            Some(identity) if *identity == sender => None,
            None | Some(_) => Some(Event::Failed(Error::Pair)),
        }
    }
}

fn is_identity(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() <= IDENTITY_MAX
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
