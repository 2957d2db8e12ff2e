//! The client's side of a connection, to publish or to play.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::chunk::{Envelope, control_number};
use super::message::{COMMAND_BYTES_MAX, Command, control, kind, object};
use super::outbox::{Outbox, Window, csid};
use super::{Capabilities, ChunkReader, CloseReason, Error, Handshake, Message, Progress, Target};
use crate::base::bytes::Reader;
use crate::proto::amf::Value;
use crate::proto::flv::TagKind;

/// From the start to the server's consent.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Numbers of the calls that expect an answer.
mod transaction {
    pub(super) const CONNECT: f64 = 1.0;
    pub(super) const RELEASE_STREAM: f64 = 2.0;
    pub(super) const FC_PUBLISH: f64 = 3.0;
    pub(super) const CREATE_STREAM: f64 = 4.0;
    pub(super) const PUBLISH_OR_PLAY: f64 = 5.0;
}

/// What a client tells its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientEvent {
    /// The server answered `connect`.
    Connected,
    /// The server agreed: a publisher may send tags, a player gets them.
    Ready,
    /// Audio, video, data or an aggregate for the player.
    Message(Message),
    /// The last event. The connection is to be closed when all is sent.
    Closed(CloseReason),
}

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    purpose: Purpose,
    target: Target,
    state: State,
    /// Of the message stream that the server created.
    stream_id: u32,
    reader: ChunkReader,
    window: Window,
    outbox: Outbox,
    events: VecDeque<ClientEvent>,
    started: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    Publish,
    Play,
}

#[derive(Debug)]
enum State {
    Handshake(Handshake),
    Connecting,
    CreatingStream,
    Starting,
    Ready,
    Closed,
}

impl Client {
    /// A client that publishes `target`, connected at `now`; `seed` fills its handshake.
    pub fn publish(target: Target, seed: u64, now: Instant) -> Self {
        Self::new(Purpose::Publish, target, seed, now)
    }

    /// A client that plays `target`, connected at `now`; `seed` fills its handshake.
    pub fn play(target: Target, seed: u64, now: Instant) -> Self {
        Self::new(Purpose::Play, target, seed, now)
    }

    fn new(purpose: Purpose, target: Target, seed: u64, now: Instant) -> Self {
        let (handshake, hello) = Handshake::client(seed);
        let mut outbox = Outbox::new();
        outbox.raw(&hello);
        Self {
            purpose,
            target,
            state: State::Handshake(handshake),
            stream_id: 0,
            reader: ChunkReader::new(MESSAGE_BYTES_MAX),
            window: Window::new(),
            outbox,
            events: VecDeque::new(),
            started: now,
        }
    }

    /// Bytes that came.
    pub fn handle_input(&mut self, _now: Instant, bytes: &[u8]) {
        self.window.receive(bytes.len());
        let mut input = bytes;
        if let Err(error) = self.read(&mut input) {
            self.close(CloseReason::Protocol(error));
        }
    }

    /// Closes what has waited too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self
            .poll_timeout()
            .is_some_and(|(deadline, _)| deadline <= now)
        {
            self.close(CloseReason::CommandTimeout);
        }
    }

    /// Bytes to be sent, in order.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outbox.take()
    }

    /// What has happened, in order.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is due, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::Handshake(_) | State::Connecting | State::CreatingStream | State::Starting => {
                Some((self.started + COMMAND_TIMEOUT, "command"))
            }
            State::Ready | State::Closed => None,
        }
    }

    /// Sends one tag; nothing before [`ClientEvent::Ready`]. `timestamp` is in milliseconds.
    pub fn send_tag(&mut self, kind: TagKind, timestamp: u32, payload: &[u8]) {
        if !matches!(self.state, State::Ready) {
            return;
        }
        let envelope = Envelope {
            csid: match kind {
                TagKind::Audio => csid::AUDIO,
                TagKind::Video => csid::VIDEO,
                TagKind::Script => csid::DATA,
            },
            kind: kind.number(),
            stream_id: self.stream_id,
            timestamp,
        };
        self.outbox.message(envelope, payload);
    }

    /// Says goodbye and closes.
    pub fn finish(&mut self) {
        if matches!(self.state, State::Ready) {
            if self.purpose == Purpose::Publish {
                let arguments = [Value::Null, Value::from(self.stream_name().as_str())];
                self.outbox.command("FCUnpublish", 0.0, &arguments);
            }
            let arguments = [Value::Null, Value::Number(f64::from(self.stream_id))];
            self.outbox.command("deleteStream", 0.0, &arguments);
        }
        self.close(CloseReason::Ended);
    }

    fn read(&mut self, input: &mut &[u8]) -> Result<(), Error> {
        while let State::Handshake(handshake) = &mut self.state {
            match handshake.read(input)? {
                Progress::Waiting => return Ok(()),
                Progress::Send(bytes) => self.outbox.raw(&bytes),
                Progress::Done(bytes) => {
                    self.outbox.raw(&bytes);
                    self.state = State::Connecting;
                    self.connect();
                }
            }
        }
        while !matches!(self.state, State::Closed) {
            let Some(message) = self.reader.read(input)? else {
                break;
            };
            self.handle_message(message)?;
            self.outbox.check()?;
        }
        self.window.acknowledge(&mut self.outbox);
        Ok(())
    }

    fn connect(&mut self) {
        let mut properties = vec![
            ("app".to_owned(), Value::from(self.target.app.as_str())),
            ("type".to_owned(), Value::from("nonprivate")),
            (
                "flashVer".to_owned(),
                Value::from("FMLE/3.0 (compatible; ringside)"),
            ),
            ("tcUrl".to_owned(), Value::from(self.target.tc_url.as_str())),
        ];
        properties.push(Capabilities::of_client());
        let arguments = [Value::Object(properties)];
        self.outbox
            .command("connect", transaction::CONNECT, &arguments);
    }

    fn handle_message(&mut self, message: Message) -> Result<(), Error> {
        match message.kind {
            kind::USER_CONTROL => {
                let mut reader = Reader::new(&message.payload);
                if let (Ok(control::PING_REQUEST), Ok(data)) = (reader.u16(), reader.u32()) {
                    self.outbox.pong(data);
                }
            }
            kind::WINDOW_ACKNOWLEDGEMENT_SIZE => {
                self.window.set(control_number(&message.payload)?);
            }
            kind::COMMAND | kind::COMMAND_AMF3 => {
                if message.payload.len() > COMMAND_BYTES_MAX {
                    return Err(Error::CommandTooLarge);
                }
                if let Some(command) = Command::read(&message) {
                    self.handle_command(&command);
                }
            }
            kind::AUDIO | kind::VIDEO | kind::DATA | kind::DATA_AMF3 | kind::AGGREGATE => {
                self.events.push_back(ClientEvent::Message(message));
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_command(&mut self, command: &Command) {
        match command.name.as_str() {
            "_result" => self.handle_result(command),
            // Servers answer releaseStream and FCPublish with an error when they do not know them.
            "_error"
                if command.transaction == transaction::CONNECT
                    || command.transaction == transaction::CREATE_STREAM
                    || command.transaction == transaction::PUBLISH_OR_PLAY =>
            {
                self.close(CloseReason::ServerRefused);
            }
            "onStatus" => self.handle_status(command),
            "close" => self.close(CloseReason::Ended),
            _ => {}
        }
    }

    fn handle_result(&mut self, command: &Command) {
        match self.state {
            State::Connecting if command.transaction == transaction::CONNECT => {
                self.state = State::CreatingStream;
                self.events.push_back(ClientEvent::Connected);
                self.create_stream();
            }
            State::CreatingStream if command.transaction == transaction::CREATE_STREAM => {
                let id = command.arguments.get(1).and_then(Value::as_f64);
                self.stream_id = id.unwrap_or(1.0) as u32;
                self.state = State::Starting;
                self.start();
            }
            State::Handshake(_)
            | State::Connecting
            | State::CreatingStream
            | State::Starting
            | State::Ready
            | State::Closed => {}
        }
    }

    fn create_stream(&mut self) {
        self.outbox.announce_chunk_size();
        if self.purpose == Purpose::Publish {
            let name = self.stream_name();
            for (call, number) in [
                ("releaseStream", transaction::RELEASE_STREAM),
                ("FCPublish", transaction::FC_PUBLISH),
            ] {
                let arguments = [Value::Null, Value::from(name.as_str())];
                self.outbox.command(call, number, &arguments);
            }
        }
        let number = transaction::CREATE_STREAM;
        self.outbox.command("createStream", number, &[Value::Null]);
    }

    fn start(&mut self) {
        let name = Value::String(self.stream_name());
        let number = transaction::PUBLISH_OR_PLAY;
        match self.purpose {
            Purpose::Publish => {
                let arguments = [Value::Null, name, Value::from("live")];
                self.outbox
                    .command_on(self.stream_id, "publish", number, &arguments);
            }
            Purpose::Play => {
                // -2000: the live stream, else the recorded one.
                let arguments = [Value::Null, name, Value::Number(-2000.0)];
                self.outbox
                    .command_on(self.stream_id, "play", number, &arguments);
                self.set_buffer_length(1000);
            }
        }
    }

    /// User control event 3: stream (32), milliseconds (32).
    fn set_buffer_length(&mut self, milliseconds: u32) {
        let mut payload = control::SET_BUFFER_LENGTH.to_be_bytes().to_vec();
        payload.extend_from_slice(&self.stream_id.to_be_bytes());
        payload.extend_from_slice(&milliseconds.to_be_bytes());
        self.outbox.control(kind::USER_CONTROL, &payload);
    }

    fn handle_status(&mut self, command: &Command) {
        let empty = object([]);
        let information = command.arguments.get(1).unwrap_or(&empty);
        let text = |name| information.property(name).and_then(Value::as_str);
        match (text("code").unwrap_or_default(), &self.state) {
            ("NetStream.Publish.Start" | "NetStream.Play.Start", State::Starting) => {
                self.state = State::Ready;
                self.events.push_back(ClientEvent::Ready);
            }
            ("NetStream.Play.Stop" | "NetStream.Play.UnpublishNotify", _) => {
                self.close(CloseReason::Ended);
            }
            _ if text("level") == Some("error") => self.close(CloseReason::ServerRefused),
            _ => {}
        }
    }

    fn stream_name(&self) -> String {
        let Target { name, query, .. } = &self.target;
        if query.is_empty() {
            return name.clone();
        }
        format!("{name}?{query}")
    }

    fn close(&mut self, reason: CloseReason) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.events.push_back(ClientEvent::Closed(reason));
        }
    }
}
