//! One connection.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::Limits;
use super::frames::{Body, COMMAND, LONG, MORE};

/// Bytes of a greeting.
const GREETING: usize = 64;
/// Bytes of a command. The longest one, `READY`, has a socket type and an identity of 255 bytes.
const COMMAND_BYTES_MAX: usize = 1024;
/// `PING` may bring that much to be sent back.
const CONTEXT_MAX: usize = 16;
/// Answers to `PING` that wait to be sent.
const PONGS_MAX: usize = 64;

/// Why a connection is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The first bytes are none of ZMTP 3.
    #[error("the greeting is none of ZMTP 3")]
    Greeting,
    /// The peer asks for a mechanism that is not spoken here.
    #[error("the mechanism is not NULL")]
    Mechanism,
    /// A frame's flags have unknown bits.
    #[error("a frame has unknown flags")]
    Flags,
    /// A command is no command, or comes at the wrong time.
    #[error("a command is malformed")]
    Command,
    /// A message came before `READY`.
    #[error("a message came before READY")]
    Early,
    /// A message has too many parts.
    #[error("a message has too many parts")]
    Parts,
    /// A message has too many bytes.
    #[error("a message is too big")]
    Size,
}

/// What the peer said of itself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Peer {
    /// Its `Socket-Type`.
    pub socket_type: Vec<u8>,
    /// Its `Identity`.
    pub identity: Vec<u8>,
}

/// What this side says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Own<'a> {
    /// Its `Socket-Type`.
    pub socket_type: &'a str,
    /// Its `Identity`; sockets of the types `PUSH` and `PULL` say none.
    pub identity: Option<&'a str>,
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The peer has said who it is; answer by [`Session::ready`].
    Ready(Peer),
    /// A message with its parts.
    Message(Vec<Bytes>),
    /// The peer is not understood; nothing more comes.
    Failed(Error),
}

#[derive(Debug)]
enum State {
    Greeting(Vec<u8>),
    /// The head of a frame, up to nine bytes.
    Head([u8; 9], usize),
    Body(u8, Body),
    Failed,
}

/// One connection, this side being the server.
#[derive(Debug)]
pub struct Session {
    state: State,
    limits: Limits,
    is_ready: bool,
    parts: Vec<Bytes>,
    message_bytes: usize,
    out: VecDeque<Bytes>,
    events: VecDeque<Event>,
}

impl Session {
    /// A connection that begins; this side's greeting is ready to be sent.
    pub fn new(limits: Limits) -> Self {
        let mut greeting = vec![0; GREETING];
        greeting[0] = 0xff;
        greeting[8] = 1;
        greeting[9] = 0x7f;
        greeting[10..12].copy_from_slice(&[3, 1]);
        greeting[12..16].copy_from_slice(b"NULL");
        Self {
            state: State::Greeting(Vec::with_capacity(GREETING)),
            limits,
            is_ready: false,
            parts: Vec::new(),
            message_bytes: 0,
            out: VecDeque::from([greeting.into()]),
            events: VecDeque::new(),
        }
    }

    /// Changes what the peer may send from its next frame on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Answers [`Event::Ready`]. A client, whose kind depends on nothing, says it at once.
    pub fn ready(&mut self, own: Own<'_>) {
        let mut body = b"\x05READY".to_vec();
        let identity = own.identity.map(|identity| ("Identity", identity));
        for (name, value) in [("Socket-Type", own.socket_type)]
            .into_iter()
            .chain(identity)
        {
            body.push(name.len() as u8);
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(&(value.len() as u32).to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
        self.send_command(&body);
    }

    /// Tells the peer why it is let go.
    pub fn refuse(&mut self, reason: &str) {
        let reason = reason.as_bytes();
        let reason = &reason[..reason.len().min(usize::from(u8::MAX) - 16)];
        let mut body = b"\x05ERROR".to_vec();
        body.push(reason.len() as u8);
        body.extend_from_slice(reason);
        self.send_command(&body);
    }

    fn send_command(&mut self, body: &[u8]) {
        let mut command = Vec::with_capacity(body.len() + 2);
        command.push(COMMAND);
        command.push(body.len() as u8);
        command.extend_from_slice(body);
        self.out.push_back(command.into());
    }

    /// Bytes that have arrived.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.handle_some(rest);
        }
    }

    /// The same up to the next event. Gives back what has not been looked at.
    pub fn handle_some<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        let before = self.events.len();
        while !rest.is_empty() && self.events.len() == before {
            if matches!(self.state, State::Failed) {
                return &[];
            }
            match self.step(rest) {
                Ok(left) => rest = left,
                Err(error) => {
                    self.state = State::Failed;
                    self.parts.clear();
                    self.events.push_back(Event::Failed(error));
                    return &[];
                }
            }
        }
        rest
    }

    /// The next bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn step<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Error> {
        match &mut self.state {
            State::Greeting(greeting) => {
                let (mine, rest) = input.split_at((GREETING - greeting.len()).min(input.len()));
                greeting.extend_from_slice(mine);
                check_greeting(greeting)?;
                if greeting.len() == GREETING {
                    self.state = State::Head([0; 9], 0);
                }
                Ok(rest)
            }
            State::Head(head, count) => {
                head[*count] = input[0];
                *count += 1;
                let flags = head[0];
                let bytes = match (flags & LONG != 0, *count) {
                    (false, 2) => Some(u64::from(head[1])),
                    (true, 9) => head[1..].try_into().ok().map(u64::from_be_bytes),
                    (true | false, _) => None,
                };
                if flags & !(MORE | LONG | COMMAND) != 0 {
                    return Err(Error::Flags);
                }
                if let Some(bytes) = bytes {
                    self.begin_body(flags, bytes)?;
                }
                Ok(&input[1..])
            }
            State::Body(flags, body) => {
                let flags = *flags;
                let rest = body.take(input);
                if body.is_whole() {
                    self.end_body(flags)?;
                }
                Ok(rest)
            }
            State::Failed => Ok(&[]),
        }
    }

    fn begin_body(&mut self, flags: u8, bytes: u64) -> Result<(), Error> {
        let bytes = usize::try_from(bytes).map_err(|_| Error::Size)?;
        if flags & COMMAND != 0 {
            if bytes > COMMAND_BYTES_MAX || flags & MORE != 0 {
                return Err(Error::Command);
            }
        } else {
            if !self.is_ready {
                return Err(Error::Early);
            }
            if self.parts.len() >= self.limits.parts_max {
                return Err(Error::Parts);
            }
            self.message_bytes = self.message_bytes.saturating_add(bytes);
            if self.message_bytes > self.limits.message_bytes_max {
                return Err(Error::Size);
            }
        }
        self.state = State::Body(flags, Body::new(bytes));
        if bytes == 0 {
            self.end_body(flags)?;
        }
        Ok(())
    }

    fn end_body(&mut self, flags: u8) -> Result<(), Error> {
        let state = mem::replace(&mut self.state, State::Head([0; 9], 0));
        let State::Body(_, body) = state else {
            return Ok(());
        };
        let body = body.into_bytes();
        if flags & COMMAND != 0 {
            return self.command(&body);
        }
        self.parts.push(body);
        if flags & MORE == 0 {
            self.message_bytes = 0;
            self.events
                .push_back(Event::Message(mem::take(&mut self.parts)));
        }
        Ok(())
    }

    fn command(&mut self, body: &[u8]) -> Result<(), Error> {
        let (name, rest) = split_short(body).ok_or(Error::Command)?;
        match name {
            b"READY" if !self.is_ready => {
                self.is_ready = true;
                self.events.push_back(Event::Ready(properties(rest)?));
            }
            b"READY" => return Err(Error::Command),
            b"PING" => {
                let context = rest.get(2..).ok_or(Error::Command)?;
                if context.len() > CONTEXT_MAX {
                    return Err(Error::Command);
                }
                if self.out.len() < PONGS_MAX {
                    self.send_command(&[b"\x04PONG", context].concat());
                }
            }
            // Other commands are those of sockets that do not come here.
            _ => {}
        }
        Ok(())
    }
}

fn check_greeting(greeting: &[u8]) -> Result<(), Error> {
    let is = |at: usize, wanted: u8| greeting.get(at).is_none_or(|byte| *byte == wanted);
    if !is(0, 0xff) || !is(9, 0x7f) || greeting.get(10).is_some_and(|major| *major < 3) {
        return Err(Error::Greeting);
    }
    let mechanism = greeting.get(12..).unwrap_or_default();
    let mechanism = &mechanism[..mechanism.len().min(20)];
    let mut wanted = [0; 20];
    wanted[..4].copy_from_slice(b"NULL");
    if mechanism != &wanted[..mechanism.len()] {
        return Err(Error::Mechanism);
    }
    Ok(())
}

fn split_short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*count))
}

fn properties(mut rest: &[u8]) -> Result<Peer, Error> {
    let mut peer = Peer::default();
    while !rest.is_empty() {
        let (name, after) = split_short(rest).ok_or(Error::Command)?;
        let (count, after) = after.split_first_chunk::<4>().ok_or(Error::Command)?;
        let count = u32::from_be_bytes(*count) as usize;
        let (value, after) = after.split_at_checked(count).ok_or(Error::Command)?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            peer.socket_type = value.to_vec();
        } else if name.eq_ignore_ascii_case(b"Identity") {
            peer.identity = value.to_vec();
        }
        rest = after;
    }
    Ok(peer)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
