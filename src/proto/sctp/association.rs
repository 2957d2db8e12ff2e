//! One association and its channels.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use sctp_proto::{
    AssociationHandle, Chunks, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Payload,
    PayloadProtocolIdentifier as Kind, ReliabilityType, ServerConfig, StreamEvent, TransportConfig,
};

use super::dcep::{Message, Open, TEXT_BYTES_MAX};
use super::{OpenError, SendError};

/// Streams of either direction, and so one more than the highest channel number. A stream that a
/// peer makes costs some 400 bytes, so that all of them are 400 kB at most.
const STREAMS_MAX: u16 = 1024;

/// Headers of a packet and of its first message.
const HEADER_BYTES: usize = 12 + 16;

/// Header, explicit nonce and tag of a DTLS record, and what rounds it up.
const DTLS_BYTES: usize = 40;

/// Events that wait for `poll_event`; beyond, messages stay in SCTP's window.
const EVENTS_MAX: usize = 256;

/// Where packets seem to come from and go to: there is only one peer.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5000);

/// Retransmission timeout at first, at least and at most. RFC 9260 section 16 has 1 s, 1 s and
/// 60 s, for paths of which nothing is known; WebRTC's have round trips of up to 300 ms, and a
/// peer that is away for long is found by ICE.
const TIMEOUT_FIRST: Duration = Duration::from_millis(500);
const TIMEOUT_MIN: Duration = Duration::from_millis(250);
const TIMEOUT_MAX: Duration = Duration::from_secs(10);

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
    endpoint: Endpoint,
    inner: Option<(AssociationHandle, sctp_proto::Association)>,
    is_established: bool,
    is_gone: bool,
    channels: BTreeMap<u16, Channel>,
    /// Streams whose reset has not been answered, so that their numbers are not free.
    resetting: BTreeSet<u16>,
    /// Streams that may have messages.
    readable: BTreeSet<u16>,
    /// At least what is buffered; counted anew when it seems too much.
    buffered_bytes: usize,
    events: VecDeque<Event>,
    event_bytes: usize,
    packets: VecDeque<Bytes>,
    now: Instant,
    counters: Counters,
}

struct Channel {
    state: State,
    /// A `send` was told to wait.
    is_blocked: bool,
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
        let payload = options.datagram_bytes_max.clamp(256, 16384) - DTLS_BYTES - HEADER_BYTES;
        let mut config = EndpointConfig::default();
        config.max_payload_size(payload as u32);
        let transport = Arc::new(transport(&options));
        let mut server = ServerConfig::default();
        server.transport = transport.clone();
        let mut endpoint = Endpoint::new(Arc::new(config), Some(Arc::new(server)));
        let mut inner = None;
        if is_client {
            let mut client = ClientConfig::default();
            client.transport = transport;
            inner = endpoint.connect(client, PEER).ok();
            // The peer may begin too (RFC 9260 section 5.2); one of the two is enough.
            endpoint.reject_new_associations();
        }
        let is_gone = is_client && inner.is_none();
        let mut association = Self {
            options,
            is_client,
            endpoint,
            inner,
            is_established: false,
            is_gone,
            channels: BTreeMap::new(),
            resetting: BTreeSet::new(),
            readable: BTreeSet::new(),
            buffered_bytes: 0,
            events: VecDeque::new(),
            event_bytes: 0,
            packets: VecDeque::new(),
            now,
            counters: Counters::default(),
        };
        if is_gone {
            association.events.push_back(Event::Gone);
        }
        association
    }

    /// Takes a packet, out of one DTLS record.
    pub fn handle_input(&mut self, now: Instant, packet: Bytes) {
        self.now = now;
        if self.is_gone {
            return;
        }
        match self.endpoint.handle(now, PEER, None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                if self.inner.is_none() {
                    self.inner = Some((handle, association));
                    self.endpoint.reject_new_associations();
                }
            }
            Some((_, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, inner)) = &mut self.inner {
                    inner.handle_event(event);
                }
            }
            None => return,
        }
        self.drain();
    }

    /// Retransmits, acknowledges.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if let Some((_, inner)) = &mut self.inner
            && !self.is_gone
        {
            inner.handle_timeout(now);
            self.drain();
        }
    }

    /// The next packet, for one DTLS record. Has to be called until there is none after each
    /// other call; messages sent before share packets.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.packets.is_empty() {
            self.gather();
        }
        self.packets.pop_front()
    }

    /// The next thing that has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() && !self.readable.is_empty() {
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
        let (_, inner) = self.inner.as_ref()?;
        if self.is_gone {
            return None;
        }
        inner.poll_timeout().map(|at| (at, "sctp"))
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
        match self.channels.get(&channel.0).map(|channel| &channel.state) {
            Some(State::Open | State::Opening(_)) => {}
            Some(State::Waiting { .. }) | None => return Err(SendError::NotOpen),
        }
        if bytes.len() > self.peer_message_bytes_max() {
            return Err(SendError::TooLarge);
        }
        // SCTP has no empty messages; one byte stands for nothing (RFC 8831 section 6.6).
        let (kind, content) = match (is_text, bytes) {
            (true, []) => (Kind::StringEmpty, &[0][..]),
            (false, []) => (Kind::BinaryEmpty, &[0][..]),
            (true, bytes) => (Kind::String, bytes),
            (false, bytes) => (Kind::Binary, bytes),
        };
        let max = self.options.buffered_bytes_max;
        if self.buffered_bytes.saturating_add(content.len()) > max {
            self.buffered_bytes = self.count_buffered();
        }
        if self.buffered_bytes.saturating_add(content.len()) > max {
            self.counters.full += 1;
            if let Some(channel) = self.channels.get_mut(&channel.0) {
                channel.is_blocked = true;
            }
            return Err(SendError::Full);
        }
        let written = self.write(channel.0, kind, content);
        if written {
            self.buffered_bytes += content.len();
            Ok(())
        } else {
            Err(SendError::NotOpen)
        }
    }

    /// What a channel has not sent, or sent and not had acknowledged, in bytes.
    #[must_use]
    pub fn buffered(&mut self, channel: ChannelId) -> usize {
        let Some((_, inner)) = &mut self.inner else {
            return 0;
        };
        inner
            .stream(channel.0)
            .and_then(|stream| stream.buffered_amount())
            .unwrap_or(0)
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
        let channel = Channel {
            state: State::Waiting {
                open,
                is_negotiated,
            },
            is_blocked: false,
        };
        self.channels.insert(id, channel);
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

    fn count_buffered(&mut self) -> usize {
        let ids: Vec<u16> = self.channels.keys().copied().collect();
        ids.into_iter().map(|id| self.buffered(ChannelId(id))).sum()
    }

    fn write(&mut self, id: u16, kind: Kind, content: &[u8]) -> bool {
        let Some((_, inner)) = &mut self.inner else {
            return false;
        };
        inner
            .stream(id)
            .and_then(|mut stream| stream.write_with_ppi(content, kind))
            .is_ok()
    }

    /// Takes one burst: as much as the peer's window and the congestion window allow, and so never
    /// more than may be buffered.
    fn gather(&mut self) {
        if let Some((_, inner)) = &mut self.inner
            && let Some(transmit) = inner.poll_transmit(self.now)
            && let Payload::RawEncode(packets) = transmit.payload
        {
            self.packets.extend(packets);
        }
    }

    /// Does what the transport's events ask for, and reads what there is room for.
    fn drain(&mut self) {
        if self.is_gone {
            return;
        }
        self.handle_inner_events();
        if self.is_gone {
            return;
        }
        if self.is_established {
            self.open_waiting();
        }
        self.read_all();
        self.tell_writable();
    }

    fn handle_inner_events(&mut self) {
        loop {
            let Some((handle, inner)) = &mut self.inner else {
                return;
            };
            while let Some(event) = inner.poll_endpoint_event() {
                if let Some(event) = self.endpoint.handle_event(*handle, event) {
                    inner.handle_event(event);
                }
            }
            let Some(event) = inner.poll() else {
                return;
            };
            match event {
                sctp_proto::Event::Connected => {
                    self.is_established = true;
                    let max = self.peer_message_bytes_max();
                    if let Some((_, inner)) = &mut self.inner {
                        inner.set_max_send_message_size(u32::try_from(max).unwrap_or(u32::MAX));
                    }
                }
                sctp_proto::Event::HandshakeFailed { .. }
                | sctp_proto::Event::AssociationLost { .. } => {
                    self.end();
                    return;
                }
                sctp_proto::Event::Stream(event) => self.handle_stream_event(event),
                sctp_proto::Event::DataChannelStatsFinal(_)
                | sctp_proto::Event::DatagramReceived => {}
                // The crate's list may grow.
                _ => {}
            }
        }
    }

    fn end(&mut self) {
        self.is_gone = true;
        self.inner = None;
        for (id, _) in std::mem::take(&mut self.channels) {
            self.events.push_back(Event::Closed(ChannelId(id)));
        }
        self.readable.clear();
        self.events.push_back(Event::Gone);
    }

    fn handle_stream_event(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Readable { id } => {
                self.readable.insert(id);
            }
            StreamEvent::Finished { id } | StreamEvent::Stopped { id, .. } => {
                // What came before the end is read first.
                self.read(id);
                self.resetting.insert(id);
                if self.channels.contains_key(&id) {
                    self.reset(id);
                }
            }
            StreamEvent::ResetComplete { id } => {
                self.resetting.remove(&id);
            }
            // The number stays taken.
            StreamEvent::ResetFailed { .. } => {}
            StreamEvent::Opened { .. }
            | StreamEvent::Writable { .. }
            | StreamEvent::Available
            | StreamEvent::BufferedAmountLow { .. }
            | StreamEvent::BufferedAmountHigh { .. } => {}
            // The crate's list may grow.
            _ => {}
        }
    }

    /// Closes a stream here, and tells so if it was a channel.
    fn reset(&mut self, id: u16) {
        if let Some((_, inner)) = &mut self.inner
            && let Ok(mut stream) = inner.stream(id)
            && stream.close().is_ok()
            && self.is_established
        {
            self.resetting.insert(id);
        }
        self.readable.remove(&id);
        if self.channels.remove(&id).is_some() {
            self.events.push_back(Event::Closed(ChannelId(id)));
        }
    }

    fn open_waiting(&mut self) {
        let waiting: Vec<u16> = self
            .channels
            .iter()
            .filter(|(_, channel)| matches!(channel.state, State::Waiting { .. }))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.open_one(id);
        }
    }

    fn open_one(&mut self, id: u16) {
        let Some(Channel {
            state:
                State::Waiting {
                    open,
                    is_negotiated,
                },
            ..
        }) = self.channels.get(&id)
        else {
            return;
        };
        let (open, is_negotiated) = (open.clone(), *is_negotiated);
        let Some((_, inner)) = &mut self.inner else {
            return;
        };
        // The peer may have written on a negotiated channel already.
        if inner.stream(id).is_err() && inner.open_stream(id, Kind::Binary).is_err() {
            self.reset(id);
            return;
        }
        let ordered = open.ordered || !is_negotiated;
        self.configure(id, ordered, open.reliability);
        let state = if is_negotiated {
            self.tell_opened(id, open);
            self.readable.insert(id);
            State::Open
        } else {
            let message = Message::Open(open.clone()).write();
            if !self.write(id, Kind::Dcep, &message) {
                self.reset(id);
                return;
            }
            State::Opening(open)
        };
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.state = state;
        }
    }

    fn configure(&mut self, id: u16, ordered: bool, reliability: Reliability) {
        let (kind, parameter) = reliability.numbers();
        if let Some((_, inner)) = &mut self.inner
            && let Ok(mut stream) = inner.stream(id)
        {
            // Fails only without a stream.
            let _ = stream.set_reliability_params(!ordered, ReliabilityType::from(kind), parameter);
        }
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

    fn read_all(&mut self) {
        for id in self.readable.clone() {
            self.read(id);
        }
    }

    /// Reads a stream until it is empty or nobody takes the events.
    fn read(&mut self, id: u16) {
        while self.has_room() {
            let message = match &mut self.inner {
                Some((_, inner)) => inner.stream(id).and_then(|mut stream| stream.read_sctp()),
                None => return,
            };
            let Ok(Some(chunks)) = message else {
                self.readable.remove(&id);
                return;
            };
            let kind = chunks.ppi;
            let bytes = content(chunks);
            self.take_message(id, kind, bytes);
        }
    }

    fn take_message(&mut self, id: u16, kind: Kind, bytes: Bytes) {
        let (is_text, bytes) = match kind {
            Kind::Dcep => return self.take_establishment(id, &bytes),
            Kind::String => (true, bytes),
            Kind::Binary => (false, bytes),
            Kind::StringEmpty => (true, Bytes::new()),
            Kind::BinaryEmpty => (false, Bytes::new()),
            Kind::Unknown => {
                self.counters.messages_dropped += 1;
                return;
            }
        };
        match self.channels.get(&id).map(|channel| &channel.state) {
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
        self.configure(id, open.ordered, open.reliability);
        if !self.write(id, Kind::Dcep, &Message::Ack.write()) {
            self.reset(id);
            return;
        }
        let channel = Channel {
            state: State::Open,
            is_blocked: false,
        };
        self.channels.insert(id, channel);
        self.tell_opened(id, open);
    }

    /// The peer has accepted a channel of ours.
    fn opened(&mut self, id: u16) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        if let State::Opening(open) = &channel.state {
            let open = open.clone();
            channel.state = State::Open;
            self.configure(id, open.ordered, open.reliability);
            self.tell_opened(id, open);
        }
    }

    fn tell_writable(&mut self) {
        if !self.channels.values().any(|channel| channel.is_blocked) {
            return;
        }
        self.buffered_bytes = self.count_buffered();
        if self.buffered_bytes > self.options.buffered_bytes_max / 2 {
            return;
        }
        for (id, channel) in &mut self.channels {
            if std::mem::take(&mut channel.is_blocked) {
                self.events.push_back(Event::Writable(ChannelId(*id)));
            }
        }
    }
}

fn transport(options: &Options) -> TransportConfig {
    let message_max = options.message_bytes_max.clamp(1, 1 << 20) as u32;
    TransportConfig::default()
        .with_local_port(options.port.max(1))
        .with_remote_port(options.port.max(1))
        // Two messages that come in pieces at a time; a third waits in the peer.
        .with_max_receive_buffer_size(2 * message_max.max(64 * 1024))
        .with_max_receive_message_size(message_max)
        .with_max_num_inbound_streams(STREAMS_MAX)
        .with_max_num_outbound_streams(STREAMS_MAX)
        .with_rto_initial_ms(TIMEOUT_FIRST.as_millis() as u64)
        .with_rto_min_ms(TIMEOUT_MIN.as_millis() as u64)
        .with_rto_max_ms(TIMEOUT_MAX.as_millis() as u64)
}

/// A message's pieces as one. A message of one piece is the common case, and is copied once: a
/// view would keep its whole packet.
fn content(mut chunks: Chunks) -> Bytes {
    let size = chunks.len();
    match chunks.next(size) {
        Some(chunk) if chunk.bytes.len() == size => chunk.bytes,
        Some(chunk) => {
            let mut all = BytesMut::with_capacity(size);
            all.extend_from_slice(&chunk.bytes);
            while let Some(chunk) = chunks.next(size) {
                all.extend_from_slice(&chunk.bytes);
            }
            all.freeze()
        }
        None => Bytes::new(),
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
