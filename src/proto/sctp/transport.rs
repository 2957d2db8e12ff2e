//! An association (RFC 9260) with one peer over one path: its beginning, its end and the ends of
//! its streams (RFC 6525), around what comes and what goes.
//!
//! DTLS has told who the peer is, so nothing here has to be hard to guess: tags and first numbers
//! are constants, and a cookie carries nothing. Left out for the same reason and since ICE watches
//! the path: address changes, heartbeats of our own, restarts. There is no graceful shutdown
//! from this side: a data channel's connection ends with its DTLS session.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::association::{DTLS_BYTES, Options, Reliability, STREAMS_MAX};
use super::chunk::{self, Chunk, Init, Reset, Streams};
use super::inbound::{Inbound, Message};
use super::outbound::{Outbound, TIMEOUT_FIRST, TIMEOUT_MAX};
use super::packer::Packer;

/// Of the DTLS client, and of the server.
const TAGS: [u32; 2] = [0x5249_4e47, 0x5349_4445];

/// The first number: numbers wrap early, so that a mistake in that would show early.
const FIRST: u32 = u32::MAX - 255;

const COOKIE: &[u8] = b"ring";

/// Cookies of peers: those in use have some hundred bytes.
const COOKIE_BYTES_MAX: usize = 1024;

/// Times that INIT and the cookie are sent (RFC 9260 section 16: Max.Init.Retransmits).
const BEGINNINGS_MAX: u32 = 8;

/// Ended streams that nobody has been told of.
const ENDED_MAX: usize = 2 * STREAMS_MAX as usize;

/// Streams of one request: it fits a packet.
const RESET_STREAMS_MAX: usize = 256;

/// What became of a request (RFC 6525 section 4.4).
const NOTHING_TO_DO: u32 = 0;
const PERFORMED: u32 = 1;
const BAD_NUMBER: u32 = 5;
const IN_PROGRESS: u32 = 6;

/// What an association tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// Messages can go.
    Established,
    Message(Message),
    /// The peer sends nothing more on a stream.
    Ended(u16),
    /// The peer knows that we send nothing more on a stream: it can be used anew.
    Free(u16),
    /// It is over.
    Lost,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// The peer is to begin.
    Waiting,
    /// INIT is sent.
    Asking,
    /// The cookie is sent back.
    Answering(Bytes),
    Established,
    Lost,
}

/// A request to end streams that has not been answered.
#[derive(Debug)]
struct Ending {
    request: u32,
    last: u32,
    streams: Vec<u16>,
    timer: Instant,
}

/// One association.
#[derive(Debug)]
pub(super) struct Transport {
    options: Options,
    tag: u32,
    state: State,
    packer: Packer,
    outbound: Outbound,
    inbound: Inbound,
    /// What happened in front of the messages of `inbound`, and behind them.
    events: VecDeque<Event>,
    ended: VecDeque<u16>,
    beginnings: u32,
    begin_timer: Option<Instant>,
    /// The peer's tag and first number, from its INIT.
    peer: Option<(u32, u32)>,
    /// Streams to end, and those that are being ended.
    endings: BTreeSet<u16>,
    ending: Option<Ending>,
    next_request: u32,
    /// The number of the peer's next request, and what became of the one before it.
    peer_request: u32,
    last_result: u32,
}

impl Transport {
    pub(super) fn new(now: Instant, is_client: bool, options: &Options) -> Self {
        let bytes_max = options.datagram_bytes_max.clamp(256, 16384) - DTLS_BYTES;
        let mut transport = Self {
            options: *options,
            tag: TAGS[usize::from(!is_client)],
            state: State::Waiting,
            packer: Packer::new(options.port.max(1), bytes_max),
            outbound: Outbound::new(FIRST, options),
            inbound: inbound(0, options),
            events: VecDeque::new(),
            ended: VecDeque::new(),
            beginnings: 0,
            begin_timer: None,
            peer: None,
            endings: BTreeSet::new(),
            ending: None,
            next_request: FIRST,
            peer_request: 0,
            last_result: NOTHING_TO_DO,
        };
        if is_client {
            transport.state = State::Asking;
            transport.begin(now);
        }
        transport
    }

    /// Two messages that come in pieces at a time; a third waits in the peer.
    fn window(options: &Options) -> usize {
        2 * options.message_bytes_max.clamp(64 * 1024, 1 << 20)
    }

    fn is_established(&self) -> bool {
        self.state == State::Established
    }

    fn init(&self) -> Init<'static> {
        Init {
            tag: self.tag,
            window: Self::window(&self.options) as u32,
            outgoing: STREAMS_MAX,
            incoming: STREAMS_MAX,
            number: FIRST,
            cookie: COOKIE,
            may_forward: true,
        }
    }

    /// Sends INIT or the cookie, once more or for the first time.
    fn begin(&mut self, now: Instant) {
        if self.beginnings > BEGINNINGS_MAX {
            self.lose();
            return;
        }
        match &self.state {
            State::Asking => {
                let init = self.init();
                self.packer.alone(0, |out| init.write(false, out));
            }
            State::Answering(cookie) => {
                let out = self.packer.control(4 + cookie.len());
                chunk::write_cookie_echo(cookie, out);
            }
            State::Waiting | State::Established | State::Lost => return,
        }
        let after = TIMEOUT_FIRST * 2_u32.pow(self.beginnings.min(16));
        self.begin_timer = Some(now + after.min(TIMEOUT_MAX));
        self.beginnings += 1;
    }

    fn lose(&mut self) {
        if self.state != State::Lost {
            self.state = State::Lost;
            self.begin_timer = None;
            self.ending = None;
            self.events.push_back(Event::Lost);
        }
    }

    /// Takes a packet.
    pub(super) fn handle_input(&mut self, now: Instant, packet: &[u8]) {
        let Some((tag, chunks)) = chunk::open(packet, self.options.port.max(1)) else {
            return;
        };
        let mut has_data = false;
        for chunk in chunks {
            let is_init = matches!(chunk, Chunk::Init(_));
            if self.state == State::Lost || tag != if is_init { 0 } else { self.tag } {
                return;
            }
            match chunk {
                Chunk::Init(init) => self.take_init(&init),
                Chunk::InitAck(init) => self.take_init_ack(now, &init),
                Chunk::CookieEcho(cookie) => self.take_cookie(cookie),
                Chunk::CookieAck => {
                    if matches!(self.state, State::Answering(_)) {
                        self.establish();
                    }
                }
                Chunk::Abort | Chunk::ShutdownComplete => self.lose(),
                Chunk::Shutdown => {
                    chunk::write_shutdown_ack(self.packer.control(4));
                    self.lose();
                }
                Chunk::ShutdownAck => {
                    chunk::write_shutdown_complete(self.packer.control(4));
                    self.lose();
                }
                Chunk::Unknown => break,
                Chunk::Other => {}
                Chunk::Data(_)
                | Chunk::Sack(_)
                | Chunk::Heartbeat(_)
                | Chunk::Reconfig(_)
                | Chunk::Forward { .. }
                    if !self.is_established() => {}
                Chunk::Data(data) => {
                    has_data = true;
                    if !data.payload.is_empty() && data.stream < STREAMS_MAX {
                        self.inbound.receive(&data);
                    }
                }
                Chunk::Sack(sack) => {
                    if !self.outbound.acknowledge(now, &sack) {
                        self.lose();
                    }
                }
                Chunk::Heartbeat(value) => {
                    if value.len() + 4 <= self.packer.chunk_bytes_max() {
                        chunk::write_heartbeat_ack(value, self.packer.control(4 + value.len()));
                    }
                }
                Chunk::Reconfig(resets) => {
                    for reset in resets {
                        self.take_reset(&reset);
                    }
                }
                Chunk::Forward { cumulative } => self.inbound.forward(cumulative),
            }
        }
        if has_data {
            self.inbound.end_packet(now);
        }
    }

    /// The peer begins. Both may do so at once: each answers with what it has said itself.
    fn take_init(&mut self, init: &Init<'_>) {
        let is_bad = init.tag == 0 || init.outgoing == 0 || init.incoming == 0;
        let is_other = self
            .peer
            .is_some_and(|known| known != (init.tag, init.number));
        if is_bad || is_other {
            return;
        }
        self.meet(init);
        let answer = self.init();
        self.packer.alone(init.tag, |out| answer.write(true, out));
    }

    /// What the peer has said of itself.
    fn meet(&mut self, init: &Init<'_>) {
        if self.peer.is_some() {
            return;
        }
        self.peer = Some((init.tag, init.number));
        self.packer.tag = init.tag;
        self.inbound = inbound(init.number, &self.options);
        self.peer_request = init.number;
        self.outbound.begin(init.window, init.may_forward);
    }

    fn take_init_ack(&mut self, now: Instant, init: &Init<'_>) {
        let is_other = self
            .peer
            .is_some_and(|known| known != (init.tag, init.number));
        let is_bad = init.tag == 0 || init.cookie.len() > COOKIE_BYTES_MAX;
        if self.state != State::Asking || is_bad || is_other {
            return;
        }
        self.meet(init);
        self.state = State::Answering(Bytes::copy_from_slice(init.cookie));
        self.beginnings = 0;
        self.begin(now);
    }

    fn take_cookie(&mut self, cookie: &[u8]) {
        if cookie != COOKIE || self.peer.is_none() {
            return;
        }
        if !self.is_established() {
            self.establish();
        }
        chunk::write_cookie_ack(self.packer.control(4));
    }

    fn establish(&mut self) {
        self.state = State::Established;
        self.begin_timer = None;
        self.events.push_back(Event::Established);
    }

    fn take_reset(&mut self, reset: &Reset<'_>) {
        let (request, result) = match *reset {
            Reset::Response { request, result } => return self.take_response(request, result),
            Reset::Outgoing { request, .. } | Reset::Incoming { request, .. }
                if request == self.peer_request.wrapping_sub(1) =>
            {
                // Our response was lost.
                (request, self.last_result)
            }
            Reset::Outgoing { request, .. } | Reset::Incoming { request, .. }
                if request != self.peer_request =>
            {
                (request, BAD_NUMBER)
            }
            Reset::Outgoing {
                request,
                last,
                streams,
            } => (request, self.end_incoming(last, streams)),
            Reset::Incoming { request, streams } => {
                self.endings.extend(
                    (0..STREAMS_MAX)
                        .filter(|stream| streams.contains(*stream) && self.outbound.has(*stream)),
                );
                (request, PERFORMED)
            }
        };
        if request == self.peer_request && result != IN_PROGRESS {
            self.peer_request = request.wrapping_add(1);
            self.last_result = result;
        }
        chunk::write_reset_response(request, result, self.packer.control(16));
    }

    /// The peer ends streams of its own, which it has sent on up to a number.
    fn end_incoming(&mut self, last: u32, streams: Streams<'_>) -> u32 {
        let is_early = chunk::is_after(last, self.inbound.cumulative());
        // Until what came before has been read, so that the end comes behind it.
        if is_early || self.inbound.has_ready() || self.ended.len() + 1 > ENDED_MAX / 2 {
            return IN_PROGRESS;
        }
        if streams.is_empty() {
            self.ended.extend(0..STREAMS_MAX);
        } else {
            let known = streams.iter().filter(|stream| *stream < STREAMS_MAX);
            self.ended.extend(known.take(STREAMS_MAX.into()));
        }
        PERFORMED
    }

    fn take_response(&mut self, request: u32, result: u32) {
        let is_this = |ending: &&Ending| ending.request == request;
        if result == IN_PROGRESS || self.ending.as_ref().filter(is_this).is_none() {
            return;
        }
        let Some(ending) = self.ending.take() else {
            return;
        };
        for stream in ending.streams {
            self.outbound.forget(stream);
            // One that the peer has refused stays taken.
            if matches!(result, NOTHING_TO_DO | PERFORMED) {
                self.events.push_back(Event::Free(stream));
            }
        }
    }

    /// The next thing that has happened.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.state == State::Lost {
            return None;
        }
        if let Some(message) = self.inbound.take() {
            return Some(Event::Message(message));
        }
        self.ended.pop_front().map(Event::Ended)
    }

    /// There is something that waits to be taken.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty() || self.inbound.has_ready() || !self.ended.is_empty()
    }

    /// Prepares a stream for messages.
    pub(super) fn configure(&mut self, stream: u16, ordered: bool, reliability: Reliability) {
        self.outbound.configure(stream, ordered, reliability);
    }

    /// Sends a message, at once if it may go. False without the stream.
    pub(super) fn write(&mut self, now: Instant, stream: u16, kind: u32, message: &[u8]) -> bool {
        let piece = self.packer.payload_bytes_max();
        let packer = if self.is_established() {
            if self.inbound.may_acknowledge()
                && self.packer.begins_with(chunk::data_bytes(message.len()))
            {
                self.inbound.acknowledge(&mut self.packer);
            }
            Some(&mut self.packer)
        } else {
            None
        };
        self.outbound
            .write(now, stream, kind, message, packer, piece)
    }

    /// Sends nothing more on a stream, and tells the peer once it has all that was sent.
    pub(super) fn end_stream(&mut self, stream: u16) {
        self.outbound.end(stream);
        self.endings.insert(stream);
    }

    /// Whether messages can be sent on a stream.
    pub(super) fn takes(&self, stream: u16) -> bool {
        self.outbound.takes(stream)
    }

    pub(super) fn buffered(&self, stream: u16) -> usize {
        self.outbound.buffered(stream)
    }

    pub(super) fn buffered_all(&self) -> usize {
        self.outbound.buffered_all()
    }

    /// What is written goes at once.
    pub(super) fn is_prompt(&self, bytes: usize) -> bool {
        self.is_established() && self.outbound.is_prompt(bytes)
    }

    /// The next packet.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        if let Some(packet) = self.packer.take() {
            return Some(packet);
        }
        if self.is_established() {
            self.end_streams(now);
            self.outbound.forward(&mut self.packer);
            if self.inbound.must_acknowledge() {
                self.inbound.acknowledge(&mut self.packer);
            }
            self.outbound.fill(now, &mut self.packer);
        }
        self.packer.finish();
        self.packer.take()
    }

    /// Asks the peer to take the ends of streams that have nothing in flight.
    fn end_streams(&mut self, now: Instant) {
        if self.ending.is_some() || self.endings.is_empty() {
            return;
        }
        let outbound = &self.outbound;
        let streams: Vec<u16> = self
            .endings
            .iter()
            .copied()
            .filter(|stream| outbound.buffered(*stream) == 0)
            .take(RESET_STREAMS_MAX)
            .collect();
        if streams.is_empty() {
            return;
        }
        self.endings.retain(|stream| !streams.contains(stream));
        self.ending = Some(Ending {
            request: self.next_request,
            last: self.outbound.next().wrapping_sub(1),
            streams,
            timer: now + self.outbound.timeout(),
        });
        self.next_request = self.next_request.wrapping_add(1);
        self.write_ending();
    }

    fn write_ending(&mut self) {
        if let Some(ending) = &self.ending {
            let answers = self.peer_request.wrapping_sub(1);
            let (request, last) = (ending.request, ending.last);
            let bytes = 20 + 2 * ending.streams.len();
            let out = self.packer.control(bytes.next_multiple_of(4));
            chunk::write_outgoing_reset(request, answers, last, &ending.streams, out);
        }
    }

    /// When [`Transport::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.state == State::Lost {
            return None;
        }
        let ending = self.ending.as_ref().map(|ending| ending.timer);
        let timers = [
            self.begin_timer,
            self.outbound.timer(),
            self.inbound.timer(),
            ending,
        ];
        timers.into_iter().flatten().min()
    }

    /// Sends again, acknowledges.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.begin_timer.is_some_and(|at| at <= now) {
            self.begin(now);
        }
        self.inbound.handle_timeout(now);
        if !self.outbound.handle_timeout(now) {
            self.lose();
        }
        let timeout: Duration = self.outbound.timeout();
        if let Some(ending) = &mut self.ending
            && ending.timer <= now
        {
            ending.timer = now + timeout;
            self.write_ending();
        }
    }
}

fn inbound(first: u32, options: &Options) -> Inbound {
    let window = Transport::window(options);
    let message_max = options.message_bytes_max.clamp(1, 1 << 20);
    Inbound::new(first, window, message_max)
}
