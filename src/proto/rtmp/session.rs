//! The server's side of a connection: Adobe RTMP 1.0 section 7.2.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::chunk::control_number;
use super::message::{COMMAND_BYTES_MAX, Command, control, kind, object};
use super::outbox::{Outbox, WINDOW_BYTES, Window};
use super::{Capabilities, ChunkReader, CloseReason, Error, Handshake, Message, Progress, Target};
use crate::base::bytes::Reader;
use crate::media::{Frame, Track};
use crate::proto::amf::Value;
use crate::proto::flv::{self, Demuxer};

/// The message stream of every connection: a connection publishes or plays one stream.
pub(super) const STREAM_ID: u32 = 1;
/// `Dynamic` of Set Peer Bandwidth.
const LIMIT_DYNAMIC: u8 = 2;
/// What a held message costs besides its payload.
const HELD_MESSAGE_BYTES: usize = 64;

/// What an operator may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The longest message: a keyframe of 4K at high rates is below 4 MiB.
    pub message_bytes_max: usize,
    /// How much media may come before the door has accepted a publisher.
    pub held_bytes_max: usize,
    /// From the connection's start to `publish` or `play`.
    pub command_timeout: Duration,
    /// How long a publisher may send nothing.
    pub publisher_idle_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 << 20,
            held_bytes_max: 2 << 20,
            command_timeout: Duration::from_secs(10),
            publisher_idle_timeout: Duration::from_secs(30),
        }
    }
}

/// What a session tells the door.
#[derive(Clone, Debug)]
pub enum Event {
    /// The peer wants to publish: answer with [`Session::accept_publish`] or
    /// [`Session::refuse_publish`].
    Publish(Target),
    /// The peer wants to play: answer with [`Session::accept_play`] or [`Session::refuse_play`].
    Play(Target, Capabilities),
    /// A new or changed track of the publisher.
    Track(Track),
    /// A frame of the publisher.
    Frame(Frame),
    /// `onMetaData` of the publisher.
    Metadata(Value),
    /// A tag, or part of it, could not be used. The session goes on.
    BadMedia(flv::Error),
    /// The player paused, or went on.
    Pause(bool),
    /// The publisher stopped; the connection stays.
    Unpublish,
    /// The player stopped, or took back its wish; the connection stays.
    StopPlay,
    /// The last event. The connection is to be closed when all is sent.
    Closed(CloseReason),
}

/// Why the door says no.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Somebody else publishes the stream.
    Busy,
    /// The peer may not.
    Denied,
    /// There is no such stream.
    NotFound,
    /// Something failed here.
    Failed,
}

impl Refusal {
    fn description(self) -> &'static str {
        match self {
            Self::Busy => "Stream is already being published.",
            Self::Denied => "Access denied.",
            Self::NotFound => "Stream not found.",
            Self::Failed => "Server failure.",
        }
    }
}

/// One connection of a publisher or a player.
///
/// A player costs little while it only reads: the handshake's buffer is gone, and what is left is
/// some strings and the headers of the two or three chunk streams it used.
#[derive(Debug)]
pub struct Session {
    options: Options,
    state: State,
    reader: ChunkReader,
    window: Window,
    outbox: Outbox,
    events: VecDeque<Event>,
    app: String,
    tc_url: String,
    capabilities: Capabilities,
    /// When [`State::Handshake`] or [`State::Idle`] was entered.
    idle_since: Instant,
    last_input: Instant,
}

#[derive(Debug)]
enum State {
    Handshake(Handshake),
    /// Before `connect`, or nothing is published or played.
    Idle,
    PublishPending(Held),
    Publishing(Box<Demuxer>),
    PlayPending,
    Playing,
    Closed,
}

/// What came before the publisher was accepted; at most `held_bytes_max`.
#[derive(Debug, Default)]
struct Held {
    messages: VecDeque<(Instant, Message)>,
    bytes: usize,
}

impl Session {
    /// A connection that was accepted at `now`; `seed` fills its handshake.
    pub fn new(options: Options, seed: u64, now: Instant) -> Self {
        Self {
            options,
            state: State::Handshake(Handshake::server(seed)),
            reader: ChunkReader::new(options.message_bytes_max),
            window: Window::new(),
            outbox: Outbox::new(),
            events: VecDeque::new(),
            app: String::new(),
            tc_url: String::new(),
            capabilities: Capabilities::default(),
            idle_since: now,
            last_input: now,
        }
    }

    /// Bytes that came.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        self.last_input = now;
        self.window.receive(bytes.len());
        let mut input = bytes;
        if let Err(error) = self.read(now, &mut input) {
            self.close(CloseReason::Protocol(error));
        }
    }

    /// Closes what has waited too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = self.deadline().filter(|(deadline, _)| *deadline <= now);
        if let Some((_, reason)) = due {
            self.close(reason);
        }
    }

    /// Bytes to be sent, in order.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outbox.take()
    }

    /// What has happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is due, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.deadline().map(|(deadline, reason)| {
            let publishing = reason == CloseReason::PublisherIdle;
            (
                deadline,
                if publishing {
                    "publisher idle"
                } else {
                    "command"
                },
            )
        })
    }

    /// Frames that the publisher sent before their configuration.
    pub fn dropped_before_config(&self) -> u64 {
        if let State::Publishing(demuxer) = &self.state {
            demuxer.dropped_before_config()
        } else {
            0
        }
    }

    /// Lets the publisher start. What it has sent already becomes events.
    ///
    /// Does nothing unless [`Event::Publish`] waits for an answer, as do the other answers: the peer
    /// may have taken its wish back.
    pub fn accept_publish(&mut self) {
        let State::PublishPending(held) = &mut self.state else {
            return;
        };
        let held = std::mem::take(held);
        self.state = State::Publishing(Box::default());
        self.outbox.user_control(control::STREAM_BEGIN, STREAM_ID);
        self.status("status", "NetStream.Publish.Start", "Publishing.");
        for (received, message) in held.messages {
            if let Err(error) = self.handle_message(received, message) {
                return self.close(CloseReason::Protocol(error));
            }
        }
    }

    /// Sends the publisher away.
    pub fn refuse_publish(&mut self, refusal: Refusal) {
        if matches!(self.state, State::PublishPending(_)) {
            self.status("error", "NetStream.Publish.BadName", refusal.description());
            self.close(CloseReason::Refused(refusal));
        }
    }

    /// Lets the player start. What [`Muxer`](super::Muxer) writes can follow what
    /// [`Self::poll_transmit`] then gives.
    pub fn accept_play(&mut self) {
        if !matches!(self.state, State::PlayPending) {
            return;
        }
        self.state = State::Playing;
        self.outbox.announce_chunk_size();
        self.outbox.user_control(control::STREAM_BEGIN, STREAM_ID);
        self.status("status", "NetStream.Play.Reset", "Playing and resetting.");
        self.status("status", "NetStream.Play.Start", "Started playing.");
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
    }

    /// Sends the player away.
    pub fn refuse_play(&mut self, refusal: Refusal) {
        if matches!(self.state, State::PlayPending) {
            let code = match refusal {
                Refusal::NotFound => "NetStream.Play.StreamNotFound",
                Refusal::Busy | Refusal::Denied | Refusal::Failed => "NetStream.Play.Failed",
            };
            self.status("error", code, refusal.description());
            self.close(CloseReason::Refused(refusal));
        }
    }

    /// Tells the player that the stream is over, and closes.
    pub fn end_play(&mut self) {
        if matches!(self.state, State::Playing) {
            self.outbox.user_control(control::STREAM_EOF, STREAM_ID);
            self.status(
                "status",
                "NetStream.Play.UnpublishNotify",
                "Stream is over.",
            );
            self.status("status", "NetStream.Play.Stop", "Stopped playing.");
            self.close(CloseReason::Ended);
        }
    }

    /// Tells the publisher that it must stop, and closes.
    pub fn end_publish(&mut self, refusal: Refusal) {
        if matches!(self.state, State::Publishing(_)) {
            self.status("error", "NetStream.Publish.BadName", refusal.description());
            self.close(CloseReason::Ended);
        }
    }

    fn deadline(&self) -> Option<(Instant, CloseReason)> {
        match self.state {
            State::Handshake(_) | State::Idle => Some((
                self.idle_since + self.options.command_timeout,
                CloseReason::CommandTimeout,
            )),
            State::Publishing(_) => Some((
                self.last_input + self.options.publisher_idle_timeout,
                CloseReason::PublisherIdle,
            )),
            State::PublishPending(_) | State::PlayPending | State::Playing | State::Closed => None,
        }
    }

    fn read(&mut self, now: Instant, input: &mut &[u8]) -> Result<(), Error> {
        while let State::Handshake(handshake) = &mut self.state {
            match handshake.read(input)? {
                Progress::Waiting => return Ok(()),
                Progress::Send(bytes) => self.outbox.raw(&bytes),
                Progress::Done(bytes) => {
                    self.outbox.raw(&bytes);
                    self.state = State::Idle;
                }
            }
        }
        while !matches!(self.state, State::Closed) {
            let Some(message) = self.reader.read(input)? else {
                break;
            };
            self.handle_message(now, message)?;
            self.outbox.check()?;
        }
        self.window.acknowledge(&mut self.outbox);
        Ok(())
    }

    fn handle_message(&mut self, now: Instant, message: Message) -> Result<(), Error> {
        match message.kind {
            kind::USER_CONTROL => self.handle_user_control(&message.payload),
            kind::WINDOW_ACKNOWLEDGEMENT_SIZE => {
                self.window.set(control_number(&message.payload)?);
            }
            kind::COMMAND
            | kind::COMMAND_AMF3
            | kind::AUDIO
            | kind::VIDEO
            | kind::DATA
            | kind::DATA_AMF3
            | kind::AGGREGATE => return self.handle_ordered(now, message),
            // Acknowledgements, bandwidth limits, shared objects, and what nobody has defined.
            _ => {}
        }
        Ok(())
    }

    fn handle_user_control(&mut self, payload: &[u8]) {
        let mut reader = Reader::new(payload);
        if let (Ok(control::PING_REQUEST), Ok(data)) = (reader.u16(), reader.u32()) {
            self.outbox.pong(data);
        }
    }

    /// Commands and media keep their order, also while the door decides.
    fn handle_ordered(&mut self, now: Instant, message: Message) -> Result<(), Error> {
        if let State::PublishPending(held) = &mut self.state {
            held.bytes += HELD_MESSAGE_BYTES + message.payload.len();
            if held.bytes > self.options.held_bytes_max {
                return Err(Error::HeldTooLarge);
            }
            held.messages.push_back((now, message));
            return Ok(());
        }
        if !matches!(message.kind, kind::COMMAND | kind::COMMAND_AMF3) {
            self.handle_media(now, message);
            return Ok(());
        }
        if message.payload.len() > COMMAND_BYTES_MAX {
            return Err(Error::CommandTooLarge);
        }
        if let Some(command) = Command::read(&message) {
            self.handle_command(now, &command, message);
        }
        Ok(())
    }

    /// Media of a peer that does not publish is not looked at.
    fn handle_media(&mut self, now: Instant, message: Message) {
        let State::Publishing(demuxer) = &mut self.state else {
            return;
        };
        let tags = if message.kind == kind::AGGREGATE {
            message.split_aggregate()
        } else {
            message.into_tag().into_iter().collect()
        };
        for tag in tags {
            if let Err(error) = demuxer.handle_tag(tag, now) {
                self.events.push_back(Event::BadMedia(error));
            }
            while let Some(event) = demuxer.poll_event() {
                self.events.push_back(match event {
                    flv::Event::Track(track) => Event::Track(track),
                    flv::Event::Frame(frame) => Event::Frame(frame),
                    flv::Event::Metadata(value) => Event::Metadata(value),
                });
            }
        }
    }

    fn handle_command(&mut self, now: Instant, command: &Command, message: Message) {
        match command.name.as_str() {
            "connect" => self.handle_connect(command),
            "createStream" => self.result(command, Value::Number(f64::from(STREAM_ID))),
            "publish" => match command.text(0) {
                Some(name) => self.handle_publish(name),
                // publish(false) is how a script stops.
                None => self.stop(now),
            },
            "play" => match command.text(0) {
                Some(name) => self.handle_play(name),
                None => self.stop(now),
            },
            "play2" => {
                let options = command.arguments.get(1);
                let name = options.and_then(|options| options.property("streamName"));
                if let Some(name) = name.and_then(Value::as_str) {
                    self.handle_play(name);
                }
            }
            "FCPublish" => {
                self.result(command, Value::Undefined);
                self.notify("onFCPublish", "NetStream.Publish.Start", command.text(0));
            }
            "FCSubscribe" => {
                self.result(command, Value::Undefined);
                self.notify("onFCSubscribe", "NetStream.Play.Start", command.text(0));
            }
            "FCUnpublish" => {
                self.result(command, Value::Undefined);
                self.notify(
                    "onFCUnpublish",
                    "NetStream.Unpublish.Success",
                    command.text(0),
                );
                self.stop(now);
            }
            "deleteStream" | "closeStream" | "close" => self.stop(now),
            "pause" | "pauseRaw" => self.handle_pause(command.flag(0).unwrap_or(true)),
            "seek" => self.status("status", "NetStream.Seek.Notify", "Live."),
            "getStreamLength" => self.result(command, Value::Number(0.0)),
            // librtmp sends metadata as a data message, some encoders as a command.
            "@setDataFrame" | "onMetaData" => {
                let kind = kind::DATA;
                self.handle_media(now, Message { kind, ..message });
            }
            "_result" | "_error" | "onStatus" | "receiveAudio" | "receiveVideo" => {}
            // releaseStream, _checkbw, checkBandwidth and whatever a client thinks of: those that
            // wait for an answer are content with an empty one, while some give up on an error.
            _ => self.result(command, Value::Null),
        }
    }

    fn handle_connect(&mut self, command: &Command) {
        let Some(peer) = command.arguments.first() else {
            return;
        };
        let text = |name| {
            peer.property(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        self.app = text("app").to_owned();
        self.tc_url = text("tcUrl").to_owned();
        self.capabilities = Capabilities::read(peer);

        let window = WINDOW_BYTES.to_be_bytes();
        self.outbox
            .control(kind::WINDOW_ACKNOWLEDGEMENT_SIZE, &window);
        let [a, b, c, d] = window;
        self.outbox
            .control(kind::SET_PEER_BANDWIDTH, &[a, b, c, d, LIMIT_DYNAMIC]);
        // Before any reply longer than the default chunk: OBS does not put such a reply together.
        self.outbox.announce_chunk_size();
        self.outbox.user_control(control::STREAM_BEGIN, 0);

        let mut properties = vec![
            ("fmsVer".to_owned(), Value::from("FMS/3,5,7,7009")),
            ("capabilities".to_owned(), Value::Number(31.0)),
            ("mode".to_owned(), Value::Number(1.0)),
        ];
        if self.capabilities.enhanced() {
            properties.extend(Capabilities::of_server());
        }
        let information = object([
            ("level", Value::from("status")),
            ("code", Value::from("NetConnection.Connect.Success")),
            ("description", Value::from("Connection succeeded.")),
            ("objectEncoding", Value::Number(0.0)),
        ]);
        let arguments = [Value::Object(properties), information];
        self.outbox
            .command("_result", command.transaction, &arguments);
    }

    fn handle_publish(&mut self, name: &str) {
        match self.state {
            State::Idle => {
                self.state = State::PublishPending(Held::default());
                let target = Target::new(&self.app, &self.tc_url, name);
                self.events.push_back(Event::Publish(target));
            }
            State::Publishing(_) | State::PlayPending | State::Playing => {
                self.status(
                    "error",
                    "NetStream.Publish.BadName",
                    "Connection is in use.",
                );
            }
            State::Handshake(_) | State::PublishPending(_) | State::Closed => {}
        }
    }

    fn handle_play(&mut self, name: &str) {
        match self.state {
            State::Idle => {}
            // A player changes the stream.
            State::PlayPending | State::Playing => self.events.push_back(Event::StopPlay),
            State::Publishing(_) => {
                return self.status("error", "NetStream.Play.Failed", "Connection is in use.");
            }
            State::Handshake(_) | State::PublishPending(_) | State::Closed => return,
        }
        self.state = State::PlayPending;
        let target = Target::new(&self.app, &self.tc_url, name);
        self.events
            .push_back(Event::Play(target, self.capabilities));
    }

    fn handle_pause(&mut self, paused: bool) {
        if matches!(self.state, State::Playing) {
            let code = if paused {
                "NetStream.Pause.Notify"
            } else {
                "NetStream.Unpause.Notify"
            };
            self.status("status", code, "Live.");
            self.events.push_back(Event::Pause(paused));
        }
    }

    /// The peer stops publishing or playing.
    fn stop(&mut self, now: Instant) {
        let event = match self.state {
            State::Publishing(_) => Event::Unpublish,
            State::PlayPending | State::Playing => Event::StopPlay,
            State::Handshake(_) | State::Idle | State::PublishPending(_) | State::Closed => return,
        };
        self.state = State::Idle;
        self.idle_since = now;
        self.events.push_back(event);
    }

    fn result(&mut self, command: &Command, value: Value) {
        if command.transaction != 0.0 {
            let arguments = [Value::Null, value];
            self.outbox
                .command("_result", command.transaction, &arguments);
        }
    }

    fn notify(&mut self, name: &str, code: &str, stream: Option<&str>) {
        let information = object([
            ("level", Value::from("status")),
            ("code", Value::from(code)),
            ("description", Value::from(stream.unwrap_or_default())),
        ]);
        self.outbox.command(name, 0.0, &[Value::Null, information]);
    }

    fn status(&mut self, level: &str, code: &str, description: &str) {
        let information = object([
            ("level", Value::from(level)),
            ("code", Value::from(code)),
            ("description", Value::from(description)),
        ]);
        let arguments = [Value::Null, information];
        self.outbox
            .command_on(STREAM_ID, "onStatus", 0.0, &arguments);
    }

    fn close(&mut self, reason: CloseReason) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.events.push_back(Event::Closed(reason));
        }
    }
}

#[cfg(test)]
impl Session {
    /// What the session has allocated, apart from a publisher's demuxer.
    pub(super) fn heap_bytes(&self) -> usize {
        self.reader.heap_bytes()
            + self.outbox.heap_bytes()
            + self.events.capacity() * size_of::<Event>()
            + self.app.capacity()
            + self.tc_url.capacity()
    }
}
