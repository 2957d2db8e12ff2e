//! The state machine of one connection, either side.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::deflate::{Codec, Side};
use super::error::{CloseReason, Violation};
use super::extension::Deflate;
use super::frame::{CONTROL_BYTES_MAX, Expected, HEAD_BYTES_MAX, Head, Opcode, mask};
use super::handshake::Accepted;
use super::options::Options;
use super::shared::{Shared, encode};
use crate::base::prng::Prng;

/// What a peer's close frame without a code is told as (RFC 6455 section 7.1.5).
const NO_CODE: u16 = 1005;

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Message {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// What a session tells its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A message is complete.
    Message(Message),
    /// Send what [`Session::poll_transmit`] still gives, then close. Nothing more is read.
    Closed(CloseReason),
}

/// One connection, after its handshake.
#[derive(Debug)]
pub struct Session {
    options: Arc<Options>,
    side: Side,
    state: State,
    reading: Reading,
    message: Option<Box<Partial>>,
    codec: Option<Box<Codec>>,
    transmit: VecDeque<Bytes>,
    /// Bytes in `transmit`.
    queued_bytes: usize,
    events: VecDeque<Event>,
    /// Bytes of the messages in `events`.
    told_bytes: usize,
    /// Input that waits until the owner has taken what was told.
    unread: Vec<u8>,
    heard: Instant,
    /// When the pong to a ping is due.
    pong_due: Option<Instant>,
    control_left: u32,
    control_counted: Instant,
    /// Masks of a client.
    prng: Prng,
}

// With the session of HTTP that it takes the place of, the sum behind a hundred thousand idle
// connections: 30 MB.
const _: () = assert!(size_of::<Session>() <= 320);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// A close frame was sent; until this time the peer may answer.
    Closing(Instant),
    Closed,
}

#[derive(Debug)]
enum Reading {
    Head {
        bytes: [u8; HEAD_BYTES_MAX],
        /// `0 <= count < HEAD_BYTES_MAX`.
        count: u8,
    },
    Payload {
        head: Head,
        /// Bytes read; `0 <= read < head.length`.
        read: u64,
        /// A control frame's payload.
        control: Vec<u8>,
    },
}

impl Reading {
    const NOTHING: Self = Self::Head {
        bytes: [0; HEAD_BYTES_MAX],
        count: 0,
    };
}

/// A message that is not complete.
#[derive(Debug)]
struct Partial {
    is_text: bool,
    is_compressed: bool,
    bytes: Vec<u8>,
    /// Bytes that were seen to be UTF-8.
    checked: usize,
    began: Instant,
}

impl Partial {
    /// Text is refused as soon as it is no UTF-8, whatever is still to come.
    fn check(&mut self) -> Result<(), Violation> {
        if !self.is_text || self.is_compressed {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            // The last character may be incomplete.
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::Utf8),
        }
        Ok(())
    }
}

impl Session {
    /// The server's side of a connection whose request was accepted. The answer is the first thing
    /// that [`Session::poll_transmit`] gives.
    pub fn server(now: Instant, options: impl Into<Arc<Options>>, accepted: Accepted) -> Self {
        let mut session = Self::new(now, options.into(), Side::Server, accepted.deflate, 0);
        session.push(accepted.head);
        session
    }

    /// The client's side of a connection whose handshake is done. Masks follow from `seed`, so
    /// this is for peers that are trusted.
    pub fn client(
        now: Instant,
        options: impl Into<Arc<Options>>,
        deflate: Option<Deflate>,
        seed: u64,
    ) -> Self {
        Self::new(now, options.into(), Side::Client, deflate, seed)
    }

    fn new(
        now: Instant,
        options: Arc<Options>,
        side: Side,
        deflate: Option<Deflate>,
        seed: u64,
    ) -> Self {
        let how = options.deflate.unwrap_or_default();
        Self {
            side,
            state: State::Open,
            reading: Reading::NOTHING,
            message: None,
            codec: deflate.map(|agreed| Box::new(Codec::new(side, agreed, &how))),
            transmit: VecDeque::new(),
            queued_bytes: 0,
            events: VecDeque::new(),
            told_bytes: 0,
            unread: Vec::new(),
            heard: now,
            pong_due: None,
            control_left: options.control_frames_per_s.saturating_mul(10),
            control_counted: now,
            prng: Prng::new(seed),
            options,
        }
    }

    /// Bytes from the peer.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        if self.state == State::Closed || bytes.is_empty() {
            return;
        }
        self.heard = now;
        self.pong_due = None;
        if self.unread.is_empty() {
            self.read(bytes);
        } else if self.unread.len() + bytes.len() > self.options.message_bytes_max {
            self.fail(Violation::Flood);
        } else {
            self.unread.extend_from_slice(bytes);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.deadline() {
            Some((at, _, due)) if at <= now => match due {
                Due::Close => self.finish(CloseReason::Finished),
                Due::Pong => self.finish(CloseReason::PongTimeout),
                Due::Message => self.fail(Violation::Timeout),
                Due::Ping => {
                    self.pong_due = Some(now + self.options.pong_timeout);
                    self.send_frame(Opcode::Ping, &[], false);
                }
            },
            Some(_) | None => {}
        }
    }

    /// The next bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        let bytes = self.transmit.pop_front()?;
        self.queued_bytes -= bytes.len();
        if self.transmit.is_empty() {
            self.transmit = VecDeque::new();
        }
        Some(bytes)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() && !self.unread.is_empty() {
            let unread = mem::take(&mut self.unread);
            self.read(&unread);
        }
        let event = self.events.pop_front();
        match &event {
            Some(Event::Message(message)) => self.told_bytes -= message.bytes(),
            Some(Event::Closed(_)) => {}
            None => self.events = VecDeque::new(),
        }
        event
    }

    /// When [`Session::handle_timeout`] is due, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.deadline().map(|(at, why, _)| (at, why))
    }

    /// Bytes that wait for [`Session::poll_transmit`].
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// True until a close frame was sent or came.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Sends a text message. Does nothing after a close.
    pub fn send_text(&mut self, text: &str) {
        self.send(Opcode::Text, text.as_bytes());
    }

    /// Sends a binary message. Does nothing after a close.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send(Opcode::Binary, bytes);
    }

    /// Sends a message that was encoded for many. Does nothing after a close.
    ///
    /// # Panics
    ///
    /// On a client's session: what a client sends is masked for one connection.
    pub fn send_shared(&mut self, message: &Shared) {
        assert!(
            self.side == Side::Server,
            "a client's frames are not shared"
        );
        if self.state != State::Open {
            return;
        }
        let takes = self
            .codec
            .as_ref()
            .is_some_and(|codec| codec.takes_shared());
        match &message.deflated {
            Some(deflated) if takes => self.push(deflated.clone()),
            Some(_) | None => self.push(message.plain.clone()),
        }
    }

    /// Sends a close frame; [`Event::Closed`] comes when the peer has answered. The reason is cut
    /// to 123 bytes. Messages that still come are dropped.
    ///
    /// # Panics
    ///
    /// If `code` is not one that may be sent (RFC 6455 section 7.4).
    pub fn close(&mut self, now: Instant, code: u16, reason: &str) {
        assert!(is_code(code), "{code} is not sent in a close frame");
        if self.state != State::Open {
            return;
        }
        self.send_close(Some(code), reason);
        self.state = State::Closing(now + self.options.close_timeout);
    }

    /// Bytes of memory that the session holds beside itself.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let message = self
            .message
            .as_ref()
            .map_or(0, |message| message.bytes.capacity());
        self.told_bytes
            + self.unread.capacity()
            + message
            + self.queued_bytes
            + (self.transmit.capacity() + self.events.capacity()) * 32
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.state != State::Open {
            return;
        }
        match self.codec.as_mut().and_then(|codec| codec.deflate(payload)) {
            Some(deflated) => self.send_frame(opcode, &deflated, true),
            None => self.send_frame(opcode, payload, false),
        }
    }

    fn send_frame(&mut self, opcode: Opcode, payload: &[u8], is_compressed: bool) {
        let key = match self.side {
            Side::Server => None,
            Side::Client => Some((self.prng.next_u64() as u32).to_ne_bytes()),
        };
        self.push(encode(opcode, payload, is_compressed, key));
    }

    fn send_close(&mut self, code: Option<u16>, reason: &str) {
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend_from_slice(&code.to_be_bytes());
            let end = reason.floor_char_boundary(CONTROL_BYTES_MAX - payload.len());
            payload.extend_from_slice(&reason.as_bytes()[..end]);
        }
        self.send_frame(Opcode::Close, &payload, false);
    }

    fn push(&mut self, bytes: Bytes) {
        if self.state == State::Closed {
            return;
        }
        if self.queued_bytes + bytes.len() > self.options.queue_bytes_max {
            self.finish(CloseReason::Overfull);
            self.transmit = VecDeque::new();
            self.queued_bytes = 0;
            return;
        }
        self.queued_bytes += bytes.len();
        self.transmit.push_back(bytes);
    }

    /// Ends the connection because of what the peer did.
    fn fail(&mut self, violation: Violation) {
        if self.state == State::Open {
            self.send_close(Some(violation.code()), &violation.to_string());
        }
        self.finish(CloseReason::Violation(violation));
    }

    fn finish(&mut self, reason: CloseReason) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        self.reading = Reading::NOTHING;
        self.message = None;
        self.codec = None;
        self.unread = Vec::new();
        self.events.push_back(Event::Closed(reason));
    }

    fn read(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.state != State::Closed {
            // What compressed messages become is bounded by the owner's taking them.
            if self.told_bytes >= self.options.message_bytes_max {
                self.unread = rest.to_vec();
                return;
            }
            if let Err(violation) = self.step(&mut rest) {
                return self.fail(violation);
            }
        }
    }

    /// Reads a head, or as much of a payload as there is.
    fn step(&mut self, rest: &mut &[u8]) -> Result<(), Violation> {
        match &mut self.reading {
            Reading::Head { bytes, count } => {
                let expected = Expected {
                    masked: self.side == Side::Server,
                    compressed: self.codec.is_some(),
                };
                let had = usize::from(*count);
                let take = rest.len().min(HEAD_BYTES_MAX - had);
                bytes[had..had + take].copy_from_slice(&rest[..take]);
                match Head::parse(&bytes[..had + take], expected)? {
                    Some((head, used)) => {
                        *rest = &rest[used - had..];
                        self.begin_frame(head)
                    }
                    None => {
                        *count += take as u8;
                        *rest = &[];
                        Ok(())
                    }
                }
            }
            Reading::Payload {
                head,
                read,
                control,
            } => {
                let take = (head.length - *read).min(rest.len() as u64) as usize;
                let (data, after) = rest.split_at(take);
                *rest = after;
                let out = match &mut self.message {
                    Some(message) if !head.opcode.is_control() => &mut message.bytes,
                    Some(_) | None => control,
                };
                let begin = out.len();
                out.extend_from_slice(data);
                if let Some(key) = head.mask {
                    mask(&mut out[begin..], key, (*read % 4) as usize);
                }
                *read += take as u64;
                let (head, is_complete) = (*head, *read == head.length);
                if is_complete {
                    let control = mem::take(control);
                    self.reading = Reading::NOTHING;
                    self.end_frame(head, &control)
                } else if head.opcode.is_control() {
                    Ok(())
                } else {
                    self.message
                        .as_mut()
                        .map_or(Ok(()), |message| message.check())
                }
            }
        }
    }

    fn begin_frame(&mut self, head: Head) -> Result<(), Violation> {
        if head.opcode.is_control() || head.length == 0 {
            self.count_control()?;
        }
        match head.opcode {
            Opcode::Text | Opcode::Binary => {
                if self.message.is_some() {
                    return Err(Violation::Fragment);
                }
                self.message = Some(Box::new(Partial {
                    is_text: head.opcode == Opcode::Text,
                    is_compressed: head.is_compressed,
                    bytes: Vec::new(),
                    checked: 0,
                    began: self.heard,
                }));
            }
            Opcode::Continuation if self.message.is_none() => return Err(Violation::Fragment),
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        let has = self
            .message
            .as_ref()
            .map_or(0, |message| message.bytes.len());
        let room = (self.options.message_bytes_max - has) as u64;
        if !head.opcode.is_control()
            && (head.length > self.options.frame_bytes_max || head.length > room)
        {
            return Err(Violation::TooLarge);
        }
        if head.length == 0 {
            self.reading = Reading::NOTHING;
            return self.end_frame(head, &[]);
        }
        self.reading = Reading::Payload {
            head,
            read: 0,
            control: Vec::new(),
        };
        Ok(())
    }

    fn end_frame(&mut self, head: Head, control: &[u8]) -> Result<(), Violation> {
        match head.opcode {
            Opcode::Text | Opcode::Binary | Opcode::Continuation if head.is_final => {
                let message = self
                    .message
                    .take()
                    .expect("a frame began or goes on with it");
                self.end_message(*message)
            }
            Opcode::Text | Opcode::Binary | Opcode::Continuation => self
                .message
                .as_mut()
                .map_or(Ok(()), |message| message.check()),
            Opcode::Ping => {
                if self.state == State::Open {
                    self.send_frame(Opcode::Pong, control, false);
                }
                Ok(())
            }
            Opcode::Pong => Ok(()),
            Opcode::Close => self.end_peer(control),
        }
    }

    fn end_message(&mut self, message: Partial) -> Result<(), Violation> {
        let Partial {
            is_text,
            is_compressed,
            mut bytes,
            ..
        } = message;
        if is_compressed && let Some(codec) = &mut self.codec {
            bytes = codec.inflate(bytes, self.options.message_bytes_max)?;
        }
        let message = if is_text {
            Message::Text(String::from_utf8(bytes).map_err(|_| Violation::Utf8)?)
        } else {
            Message::Binary(bytes)
        };
        match self.state {
            State::Open => {
                self.told_bytes += message.bytes();
                self.events.push_back(Event::Message(message));
            }
            State::Closing(_) | State::Closed => {}
        }
        Ok(())
    }

    /// The peer's close frame (RFC 6455 section 5.5.1).
    fn end_peer(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let code = match payload {
            [] => None,
            [_] => return Err(Violation::CloseCode),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !is_code(code) {
                    return Err(Violation::CloseCode);
                }
                std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
                Some(code)
            }
        };
        if self.state == State::Open {
            self.send_close(code, "");
            self.finish(CloseReason::Peer(code.unwrap_or(NO_CODE)));
        } else {
            self.finish(CloseReason::Finished);
        }
        Ok(())
    }

    fn count_control(&mut self) -> Result<(), Violation> {
        let per_s = self.options.control_frames_per_s;
        if self.control_left == 0 {
            let elapsed = self.heard.saturating_duration_since(self.control_counted);
            let earned = elapsed.as_millis() * u128::from(per_s) / 1000;
            self.control_left = earned.min(u128::from(per_s) * 10) as u32;
            if self.control_left > 0 {
                self.control_counted = self.heard;
            }
        }
        self.control_left = self.control_left.checked_sub(1).ok_or(Violation::Flood)?;
        Ok(())
    }

    fn deadline(&self) -> Option<(Instant, &'static str, Due)> {
        match self.state {
            State::Closed => return None,
            State::Closing(until) => return Some((until, "websocket close", Due::Close)),
            State::Open => {}
        }
        let life = match self.pong_due {
            Some(due) => (due, "websocket pong", Due::Pong),
            None => (
                self.heard + self.options.ping_interval,
                "websocket ping",
                Due::Ping,
            ),
        };
        let message = self.message.as_ref().map(|message| {
            let until = message.began + self.options.message_timeout;
            (until, "websocket message", Due::Message)
        });
        [Some(life), message]
            .into_iter()
            .flatten()
            .min_by_key(|(at, ..)| *at)
    }
}

enum Due {
    Close,
    Ping,
    Pong,
    Message,
}

/// Codes that a close frame may have (RFC 6455 section 7.4 and the IANA registry).
fn is_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
