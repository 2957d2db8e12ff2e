//! One association and its channels.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::dcep::{Message, Open, TEXT_BYTES_MAX};
use super::transport::{self, Transport};
use super::{OpenError, SendError};

/// Streams of either direction, and so one more than the highest channel number.
pub(super) const STREAMS_MAX: u16 = 1024;

/// Header, explicit nonce and tag of a DTLS record, and what rounds it up.
pub(super) const DTLS_BYTES: usize = 40;

/// Kinds of payload (RFC 8831 section 8).
pub(super) const DCEP: u32 = 50;
const STRING: u32 = 51;
const BINARY: u32 = 53;
const STRING_EMPTY: u32 = 56;
const BINARY_EMPTY: u32 = 57;

/// Events that wait for `poll_event`; beyond, messages stay in SCTP's window.
const EVENTS_MAX: usize = 256;

/// Parameters of an association.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The peer's SCTP port; ours is the same.
    pub port: u16,
    /// The largest DTLS datagram in bytes, 256 to 16384.
    pub datagram_bytes_max: usize,
    /// The largest message taken, in bytes, at most 1 MiB; say it in the answer.
    pub message_bytes_max: usize,
    /// The largest message that the peer takes, from its description; 0 means any.
    pub peer_message_bytes_max: u64,
    /// What may wait to be sent or acknowledged on all channels together, in bytes.
    pub buffered_bytes_max: usize,
    /// Channels that are open or being opened.
    pub channels_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 5000,
            datagram_bytes_max: 1200,
            message_bytes_max: 64 * 1024,
            peer_message_bytes_max: 64 * 1024,
            buffered_bytes_max: 256 * 1024,
            channels_max: 32,
        }
    }
}

/// A channel's number, which is that of its two streams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChannelId(pub u16);

/// What happens to a message whose packet was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reliability {
    /// It is sent again until it arrives.
    #[default]
    Reliable,
    /// It is sent again this often.
    Retransmits(u32),
    /// It is sent again for this long, in whole milliseconds.
    Lifetime(Duration),
}

/// What an association tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A channel is open, whoever began.
    Opened {
        /// Its number.
        channel: ChannelId,
        /// Its name, at most 256 bytes.
        label: String,
        /// Its subprotocol, at most 256 bytes; often empty.
        protocol: String,
        /// Messages arrive in the order they were sent in.
        ordered: bool,
        /// What happens to lost messages.
        reliability: Reliability,
    },
    /// A message.
    Message {
        /// Where.
        channel: ChannelId,
        /// UTF-8, as the peer says; not checked here.
        is_text: bool,
        /// All of it.
        bytes: Bytes,
    },
    /// After [`SendError::Full`]: half of what may wait has gone.
    Writable(ChannelId),
    /// A channel is closed, whoever began.
    Closed(ChannelId),
    /// The association has ended. Nothing follows.
    Gone,
}

/// What has been refused or dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Channels beyond `channels_max`, reset.
    pub channels_refused: u64,
    /// Malformed establishment messages; their streams are reset.
    pub establishment_faults: u64,
    /// Messages of no channel or of an unknown kind.
    pub messages_dropped: u64,
    /// Calls of `send` that were told to wait.
    pub full: u64,
}

/// One association with one peer.
pub struct Association {
    options: Options,
    is_client: bool,
    transport: Transport,
    is_established: bool,
    is_gone: bool,
    channels: BTreeMap<u16, State>,
    /// Those in [`State::Waiting`].
    waiting: BTreeSet<u16>,
    /// Those where a `send` was told to wait.
    blocked: BTreeSet<u16>,
    /// Streams whose reset has not been answered, so that their numbers are not free.
    resetting: BTreeSet<u16>,
    events: VecDeque<Event>,
    event_bytes: usize,
    now: Instant,
    counters: Counters,
}

enum State {
    /// To be opened once there is an association. Without a message if `is_negotiated`.
    Waiting {
        open: Open,
        is_negotiated: bool,
    },
    /// OPEN is sent; data may be sent, in order.
    Opening(Open),
    Open,
}

impl Association {
    /// An association that waits for the peer's first packet or, as the DTLS client, begins.
    #[must_use]
    pub fn new(now: Instant, is_client: bool, options: Options) -> Self {
        Self {
            options,
            is_client,
            transport: Transport::new(now, is_client, &options),
            is_established: false,
            is_gone: false,
            channels: BTreeMap::new(),
            waiting: BTreeSet::new(),
            blocked: BTreeSet::new(),
            resetting: BTreeSet::new(),
            events: VecDeque::new(),
            event_bytes: 0,
            now,
            counters: Counters::default(),
        }
    }

    /// Takes a packet, out of one DTLS record.
    pub fn handle_input(&mut self, now: Instant, packet: Bytes) {
        self.now = now;
        if self.is_gone {
            return;
        }
        self.transport.handle_input(now, &packet);
        self.drain();
    }

    /// Retransmits, acknowledges.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if !self.is_gone {
            self.transport.handle_timeout(now);
            self.drain();
        }
    }

    /// The next packet, for one DTLS record. Has to be called until there is none after each
    /// other call; messages sent before share packets.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.transport.poll_transmit(self.now)
    }

    /// The next thing that has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() && self.transport.has_events() {
            self.drain();
        }
        let event = self.events.pop_front()?;
        if let Event::Message { bytes, .. } = &event {
            self.event_bytes -= bytes.len();
        }
        Some(event)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.transport.poll_timeout().map(|at| (at, "sctp"))
    }

    /// Opens a channel. It can be written to once [`Event::Opened`] has come.
    ///
    /// # Errors
    ///
    /// If there are too many, or a text is too long, or all is over.
    pub fn open(
        &mut self,
        now: Instant,
        label: &str,
        protocol: &str,
        reliability: Reliability,
        ordered: bool,
    ) -> Result<ChannelId, OpenError> {
        // RFC 8832 section 6: the DTLS client has the even ones.
        let first = if self.is_client { 0 } else { 1 };
        let id = (first..STREAMS_MAX)
            .step_by(2)
            .find(|id| self.is_free(*id))
            .ok_or(OpenError::TooMany)?;
        self.add(now, id, label, protocol, reliability, ordered, false)
    }

    /// Opens a channel that the peer knows of from elsewhere and opens too.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and if the number is 1024 or more, or taken.
    pub fn open_negotiated(
        &mut self,
        now: Instant,
        id: ChannelId,
        label: &str,
        protocol: &str,
        reliability: Reliability,
        ordered: bool,
    ) -> Result<(), OpenError> {
        if id.0 >= STREAMS_MAX || !self.is_free(id.0) {
            return Err(OpenError::Taken);
        }
        self.add(now, id.0, label, protocol, reliability, ordered, true)
            .map(|_| ())
    }

    /// Sends a message. What is sent before the next `poll_transmit` shares packets.
    ///
    /// # Errors
    ///
    /// If the channel is not open, the message too large, or too much is waiting.
    pub fn send(
        &mut self,
        now: Instant,
        channel: ChannelId,
        is_text: bool,
        bytes: &[u8],
    ) -> Result<(), SendError> {
        self.now = now;
        if bytes.len() > self.peer_message_bytes_max() {
            return Err(SendError::TooLarge);
        }
        // SCTP has no empty messages; one byte stands for nothing (RFC 8831 section 6.6).
        let (kind, content) = match (is_text, bytes) {
            (true, []) => (STRING_EMPTY, &[0][..]),
            (false, []) => (BINARY_EMPTY, &[0][..]),
            (true, bytes) => (STRING, bytes),
            (false, bytes) => (BINARY, bytes),
        };
        let buffered = self.transport.buffered_all();
        if buffered.saturating_add(content.len()) > self.options.buffered_bytes_max
            && self.transport.takes(channel.0)
        {
            self.counters.full += 1;
            self.blocked.insert(channel.0);
            return Err(SendError::Full);
        }
        // A channel that is not open has no stream, or one that takes nothing more.
        match self.transport.write(now, channel.0, kind, content) {
            true => Ok(()),
            false => Err(SendError::NotOpen),
        }
    }

    /// Whether a message of this size would go with the next packet, and not wait for those before
    /// it or for the peer.
    #[must_use]
    pub fn is_prompt(&self, bytes: usize) -> bool {
        self.transport.is_prompt(bytes)
    }

    /// What a channel has not sent, or sent and not had acknowledged, in bytes.
    #[must_use]
    pub fn buffered(&self, channel: ChannelId) -> usize {
        self.transport.buffered(channel.0)
    }

    /// Closes a channel in both directions. [`Event::Closed`] follows at once; the number is free
    /// once the peer has answered.
    pub fn close(&mut self, now: Instant, channel: ChannelId) {
        self.now = now;
        if self.channels.contains_key(&channel.0) {
            self.reset(channel.0);
        }
    }

    /// Whether the peer has answered, so that channels can be used.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.is_established && !self.is_gone
    }

    /// What has been refused or dropped.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn add(
        &mut self,
        now: Instant,
        id: u16,
        label: &str,
        protocol: &str,
        reliability: Reliability,
        ordered: bool,
        is_negotiated: bool,
    ) -> Result<ChannelId, OpenError> {
        self.now = now;
        if self.is_gone {
            return Err(OpenError::Gone);
        }
        if self.channels.len() >= self.options.channels_max {
            return Err(OpenError::TooMany);
        }
        if label.len() > TEXT_BYTES_MAX || protocol.len() > TEXT_BYTES_MAX {
            return Err(OpenError::TooLong);
        }
        let open = Open {
            label: label.to_owned(),
            protocol: protocol.to_owned(),
            ordered,
            reliability,
        };
        let state = State::Waiting {
            open,
            is_negotiated,
        };
        self.channels.insert(id, state);
        self.waiting.insert(id);
        self.drain();
        Ok(ChannelId(id))
    }

    fn is_free(&self, id: u16) -> bool {
        !self.channels.contains_key(&id) && !self.resetting.contains(&id)
    }

    fn peer_message_bytes_max(&self) -> usize {
        match self.options.peer_message_bytes_max {
            0 => self.options.message_bytes_max,
            max => usize::try_from(max).unwrap_or(usize::MAX),
        }
    }

    /// Does what the transport's events ask for, and reads what there is room for.
    fn drain(&mut self) {
        if self.is_gone {
            return;
        }
        while !self.is_gone
            && self.has_room()
            && let Some(event) = self.transport.poll_event()
        {
            self.handle_transport_event(event);
        }
        if self.is_gone {
            return;
        }
        if self.is_established {
            self.open_waiting();
        }
        self.tell_writable();
    }

    fn handle_transport_event(&mut self, event: transport::Event) {
        match event {
            transport::Event::Established => self.is_established = true,
            transport::Event::Lost => self.end(),
            transport::Event::Message(message) => {
                // The peer may write on a negotiated channel as soon as there is an association.
                if self.is_established {
                    self.open_waiting();
                }
                self.take_message(message.stream, message.kind, message.bytes);
            }
            transport::Event::Ended(id) => {
                if self.channels.contains_key(&id) {
                    self.reset(id);
                }
            }
            transport::Event::Free(id) => {
                self.resetting.remove(&id);
            }
        }
    }

    fn end(&mut self) {
        self.is_gone = true;
        self.waiting.clear();
        self.blocked.clear();
        for (id, _) in std::mem::take(&mut self.channels) {
            self.events.push_back(Event::Closed(ChannelId(id)));
        }
        self.events.push_back(Event::Gone);
    }

    /// Closes a stream here, and tells so if it was a channel.
    fn reset(&mut self, id: u16) {
        // Before there is an association the peer knows of nothing.
        if self.is_established && self.resetting.insert(id) {
            self.transport.end_stream(id);
        }
        self.waiting.remove(&id);
        self.blocked.remove(&id);
        if self.channels.remove(&id).is_some() {
            self.events.push_back(Event::Closed(ChannelId(id)));
        }
    }

    fn open_waiting(&mut self) {
        while let Some(id) = self.waiting.pop_first() {
            self.open_one(id);
        }
    }

    fn open_one(&mut self, id: u16) {
        let Some(State::Waiting {
            open,
            is_negotiated,
        }) = self.channels.get(&id)
        else {
            return;
        };
        let (open, is_negotiated) = (open.clone(), *is_negotiated);
        let ordered = open.ordered || !is_negotiated;
        self.transport.configure(id, ordered, open.reliability);
        let state = if is_negotiated {
            self.tell_opened(id, open);
            State::Open
        } else {
            let message = Message::Open(open.clone()).write();
            if !self.transport.write(self.now, id, DCEP, &message) {
                self.reset(id);
                return;
            }
            State::Opening(open)
        };
        self.channels.insert(id, state);
    }

    fn tell_opened(&mut self, id: u16, open: Open) {
        self.events.push_back(Event::Opened {
            channel: ChannelId(id),
            label: open.label,
            protocol: open.protocol,
            ordered: open.ordered,
            reliability: open.reliability,
        });
    }

    fn has_room(&self) -> bool {
        self.events.len() < EVENTS_MAX && self.event_bytes < self.options.message_bytes_max
    }

    fn take_message(&mut self, id: u16, kind: u32, bytes: Bytes) {
        let (is_text, bytes) = match kind {
            DCEP => return self.take_establishment(id, &bytes),
            STRING => (true, bytes),
            BINARY => (false, bytes),
            STRING_EMPTY => (true, Bytes::new()),
            BINARY_EMPTY => (false, Bytes::new()),
            _ => {
                self.counters.messages_dropped += 1;
                return;
            }
        };
        match self.channels.get(&id) {
            Some(State::Open) => {}
            // The acknowledgement is behind, or lost: data proves the same.
            Some(State::Opening(_)) => self.opened(id),
            Some(State::Waiting { .. }) | None => {
                self.counters.messages_dropped += 1;
                self.reset(id);
                return;
            }
        }
        self.event_bytes += bytes.len();
        self.events.push_back(Event::Message {
            channel: ChannelId(id),
            is_text,
            bytes,
        });
    }

    fn take_establishment(&mut self, id: u16, bytes: &[u8]) {
        match Message::read(bytes) {
            Ok(Message::Ack) => self.opened(id),
            Ok(Message::Open(open)) if !self.channels.contains_key(&id) => self.accept(id, open),
            // A channel is opened once.
            Ok(Message::Open(_)) => self.counters.establishment_faults += 1,
            Err(reason) => {
                tracing::debug!(%reason, "data channel refused");
                self.counters.establishment_faults += 1;
                self.reset(id);
            }
        }
    }

    fn accept(&mut self, id: u16, open: Open) {
        if self.channels.len() >= self.options.channels_max {
            self.counters.channels_refused += 1;
            self.reset(id);
            return;
        }
        self.transport.configure(id, open.ordered, open.reliability);
        if !self
            .transport
            .write(self.now, id, DCEP, &Message::Ack.write())
        {
            self.reset(id);
            return;
        }
        self.channels.insert(id, State::Open);
        self.tell_opened(id, open);
    }

    /// The peer has accepted a channel of ours.
    fn opened(&mut self, id: u16) {
        if let Some(State::Opening(open)) = self.channels.get(&id) {
            let open = open.clone();
            self.channels.insert(id, State::Open);
            self.transport.configure(id, open.ordered, open.reliability);
            self.tell_opened(id, open);
        }
    }

    fn tell_writable(&mut self) {
        if self.blocked.is_empty()
            || self.transport.buffered_all() > self.options.buffered_bytes_max / 2
        {
            return;
        }
        while let Some(id) = self.blocked.pop_first() {
            self.events.push_back(Event::Writable(ChannelId(id)));
        }
    }
}

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Association")
            .field("is_client", &self.is_client)
            .field("is_established", &self.is_established())
            .field("channels", &self.channels.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
