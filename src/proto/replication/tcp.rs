//! The wire of versions 0.9.12 and later: identity and role first, then parts with their lengths.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::connection::{Error, Event};
use super::{Channel, Wire};
use crate::proto::zmtp::{Limits, make_room};

/// Bytes of the longest identity.
const IDENTITY_MAX: usize = 256;
/// What is set aside for a part at first.
const FIRST_BYTES: usize = 64 * 1024;

#[derive(Debug)]
enum State {
    /// A number of four bytes, of which some have come.
    Number(What, [u8; 4], usize),
    Identity(usize),
    Role,
    Part(usize),
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Identity,
    Parts,
    Part,
}

#[derive(Debug)]
pub(super) struct Reader {
    state: State,
    limits: Limits,
    /// The identity, then the part that comes.
    current: Vec<u8>,
    parts: Vec<Bytes>,
    parts_left: usize,
    message_bytes: usize,
    events: VecDeque<Event>,
}

impl Reader {
    pub(super) fn new(limits: Limits) -> Self {
        Self::at(What::Identity, limits)
    }

    /// Reads what a server sends, which does not say who it is.
    pub(super) fn of_server(limits: Limits) -> Self {
        Self::at(What::Parts, limits)
    }

    fn at(what: What, limits: Limits) -> Self {
        Self {
            state: State::Number(what, [0; 4], 0),
            limits,
            current: Vec::new(),
            parts: Vec::new(),
            parts_left: 0,
            message_bytes: 0,
            events: VecDeque::new(),
        }
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub(super) fn handle_input(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !matches!(self.state, State::Failed) {
            match self.step(rest) {
                Ok(left) => rest = left,
                Err(error) => {
                    self.state = State::Failed;
                    self.current = Vec::new();
                    self.parts.clear();
                    self.events.push_back(Event::Failed(error));
                }
            }
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn step<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Error> {
        match &mut self.state {
            State::Number(what, bytes, count) => {
                bytes[*count] = input[0];
                *count += 1;
                let (what, count, bytes) = (*what, *count, *bytes);
                if count == bytes.len() {
                    self.number(what, u32::from_be_bytes(bytes) as usize)?;
                }
                Ok(&input[1..])
            }
            State::Identity(left) => {
                let (mine, rest) = input.split_at((*left).min(input.len()));
                self.current.extend_from_slice(mine);
                *left -= mine.len();
                if *left == 0 {
                    self.state = State::Role;
                }
                Ok(rest)
            }
            State::Role => {
                let channel = match input[0] {
                    b'C' => Channel::Command,
                    b'D' => Channel::Data,
                    b'T' => Channel::Ttl,
                    _ => return Err(Error::Greeting),
                };
                let identity = mem::take(&mut self.current).into();
                self.events.push_back(Event::Opened {
                    wire: Wire::Tcp,
                    channel,
                    identity,
                });
                self.state = State::Number(What::Parts, [0; 4], 0);
                Ok(&input[1..])
            }
            State::Part(left) => {
                let (mine, rest) = input.split_at((*left).min(input.len()));
                make_room(&mut self.current, mine.len(), *left);
                self.current.extend_from_slice(mine);
                *left -= mine.len();
                if *left == 0 {
                    self.end_part();
                }
                Ok(rest)
            }
            State::Failed => Ok(&[]),
        }
    }

    fn number(&mut self, what: What, number: usize) -> Result<(), Error> {
        match what {
            What::Identity => {
                if number == 0 || number > IDENTITY_MAX {
                    return Err(Error::Greeting);
                }
                self.state = State::Identity(number);
            }
            What::Parts => {
                if number > self.limits.parts_max {
                    return Err(Error::Parts);
                }
                self.parts_left = number;
                self.message_bytes = 0;
                self.next_part();
            }
            What::Part => {
                self.message_bytes = self.message_bytes.saturating_add(number);
                if self.message_bytes > self.limits.message_bytes_max {
                    return Err(Error::Size);
                }
                self.current = Vec::with_capacity(number.min(FIRST_BYTES));
                self.state = State::Part(number);
                if number == 0 {
                    self.end_part();
                }
            }
        }
        Ok(())
    }

    fn end_part(&mut self) {
        self.parts.push(mem::take(&mut self.current).into());
        self.parts_left -= 1;
        self.next_part();
    }

    fn next_part(&mut self) {
        let what = match self.parts_left {
            0 => {
                self.events
                    .push_back(Event::Message(mem::take(&mut self.parts)));
                What::Parts
            }
            _ => What::Part,
        };
        self.state = State::Number(what, [0; 4], 0);
    }
}
