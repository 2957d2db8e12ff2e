//! The state machine of one server connection.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};

use super::error::{CloseReason, Flood};
use super::frames::Frames;
use super::head;
use super::options::Options;
use super::stream::{Phase, Reading, Sending, Stream, refusal_of_body};
use super::wakers::Wakers;
use super::wire::{Payload, Pipe, Wire};
use crate::proto::http::{Framing, Refusal, Request, Response};

/// Input is given to `h2` in pieces of this size, so that a request is with the owner, and a
/// body's bytes are collected, before much more is read.
const PIECE_BYTES: usize = 16 * 1024;

/// A stream of one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamNumber(u32);

impl StreamNumber {
    /// Below all streams.
    pub const MIN: Self = Self(0);
    /// Above all streams.
    pub const MAX: Self = Self(u32::MAX);
}

/// What a session tells its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A request, to be answered with one of the `respond` calls.
    Request(StreamNumber, Box<Request>),
    /// All that was given to a streaming response has been taken; told each time, and after the
    /// last byte of [`Session::respond_shared`].
    Drained(StreamNumber),
    /// The stream is gone, because the peer gave it up or broke a rule or a bound: nothing more
    /// can be sent. Told once, of a stream whose request was told and whose answer was not
    /// complete when it happened; it may cross with the answer.
    Reset(StreamNumber),
    /// Send what [`Session::poll_transmit`] still gives, then close. Every stream is gone.
    Closed(CloseReason),
}

/// One server connection.
pub struct Session {
    options: Arc<Options>,
    link: Link,
    wire: Wire,
    frames: Frames,
    streams: BTreeMap<StreamNumber, Stream>,
    events: VecDeque<Event>,
    woken: Wakers,
    now: Instant,
    began: Instant,
    /// Since when there is no stream and nothing to send.
    idle_since: Option<Instant>,
    /// When bytes of a stream last moved, or began to wait.
    moved_at: Option<Instant>,
    moved_bytes: u64,
    closing: Option<Instant>,
    requests: u64,
}

enum Link {
    Handshake(Pin<Box<Handshake<Pipe, Payload>>>),
    Open(Box<Connection<Pipe, Payload>>),
    Closed,
}

impl Session {
    /// A session for a connection accepted at `now`.
    pub fn new(now: Instant, options: impl Into<Arc<Options>>) -> Self {
        let options = options.into();
        let wire = Wire::new(options.output_bytes_max);
        let handshake = Builder::new()
            .max_concurrent_streams(options.streams_max)
            .max_header_list_size(options.header_bytes_max)
            .header_table_size(options.header_table_bytes_max)
            .max_frame_size(options.frame_bytes_max)
            // One byte more than a body may have, so that a longer one is seen to be longer.
            .initial_window_size(window(options.body_bytes_max.saturating_add(1)))
            .initial_connection_window_size(window(options.bodies_bytes_max))
            .max_concurrent_reset_streams(options.streams_max as usize)
            .max_pending_accept_reset_streams(options.pending_resets_max)
            .max_local_error_reset_streams(Some(options.error_resets_max))
            .handshake(wire.pipe());
        let mut session = Self {
            link: Link::Handshake(Box::pin(handshake)),
            wire,
            frames: Frames::new(now, &options),
            streams: BTreeMap::new(),
            events: VecDeque::new(),
            woken: Wakers::new(),
            now,
            began: now,
            idle_since: None,
            moved_at: None,
            moved_bytes: 0,
            closing: None,
            requests: 0,
            options,
        };
        session.run(now);
        session
    }

    /// Bytes from the peer.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE_BYTES) {
            if matches!(self.link, Link::Closed) {
                return;
            }
            if let Err(flood) = self.frames.advance(now, piece) {
                return self.end(CloseReason::Flood(flood), Reason::ENHANCE_YOUR_CALM);
            }
            self.wire.receive(piece);
            self.run(now);
            if self.wire.unread_bytes() > self.options.input_bytes_max {
                let reason = CloseReason::Flood(Flood::Input);
                return self.end(reason, Reason::ENHANCE_YOUR_CALM);
            }
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some((deadline, _, due)) = self.deadline() else {
            return;
        };
        if now < deadline {
            return;
        }
        match due {
            Due::Close(reason) => self.end(reason, Reason::NO_ERROR),
            Due::Bodies => {
                let late: Vec<StreamNumber> = self
                    .streams
                    .iter()
                    .filter(|(_, stream)| stream.body_deadline().is_some_and(|at| at <= now))
                    .map(|(number, _)| *number)
                    .collect();
                for number in late {
                    if let Some(stream) = self.streams.remove(&number) {
                        self.refuse(number, stream.respond, false, Refusal::BodyTimeout);
                    }
                }
                self.run(now);
            }
        }
    }

    /// The next bytes to send. See the [module's documentation](super) for when to ask.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        let bytes = self.wire.transmit();
        if self.wire.is_released() {
            self.run(self.now);
        }
        bytes.or_else(|| self.wire.transmit())
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > 0 {
            self.events = VecDeque::new();
        }
        event
    }

    /// When [`Session::handle_timeout`] is due, and what for. None while the owner has a request
    /// and nothing waits to be sent: how long an answer may take is its own affair.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.deadline().map(|(at, why, _)| (at, why))
    }

    /// Requests since the connection began, refused ones included.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Streams whose requests are being read or answered.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes given to the session for any stream that have not become frames.
    pub fn queued_bytes_total(&self) -> usize {
        self.wire.queued_bytes()
    }

    /// Answers a request. [`Response::close`] means nothing here: other streams go on.
    ///
    /// # Panics
    ///
    /// If the stream's request has not been told, or was answered before.
    pub fn respond(&mut self, now: Instant, stream: StreamNumber, response: Response) {
        if let Some(Stream {
            respond, head_only, ..
        }) = self.take_responding(stream)
        {
            self.answer(stream, respond, head_only, response, false);
            self.run(now);
        }
    }

    /// Sends the head of a live response, whose bytes follow by [`Session::send`] up to
    /// [`Session::end_stream`]. The body is bare bytes ([`Framing::Close`]), or there is none and
    /// the response is complete ([`Framing::NoBody`]).
    ///
    /// # Panics
    ///
    /// As [`Session::respond`].
    pub fn respond_stream(
        &mut self,
        now: Instant,
        stream: StreamNumber,
        status: u16,
        headers: &[(&str, &str)],
    ) -> Framing {
        let head = head::response(status, headers.iter().copied(), None);
        self.begin_body(now, stream, head, None)
    }

    /// Sends the head of a response whose body has `length` bytes, which follow by
    /// [`Session::send`]. The response is complete with the last of them; what is given beyond is
    /// dropped. The body of `response` is not looked at.
    ///
    /// # Panics
    ///
    /// As [`Session::respond`].
    pub fn respond_shared(
        &mut self,
        now: Instant,
        stream: StreamNumber,
        response: &Response,
        length: u64,
    ) -> Framing {
        let fields = response
            .headers
            .iter()
            .map(|(name, value)| (*name, &**value));
        let head = head::response(response.status, fields, Some(length));
        self.begin_body(now, stream, head, Some(length))
    }

    /// Gives bytes of a body. They are not copied; a `media::buffer::Buffer` converts into them.
    /// Resets the stream if it has more than `Options::stream_queue_bytes_max` waiting, or the
    /// connection more than `Options::queue_bytes_max`.
    pub fn send(&mut self, now: Instant, stream: StreamNumber, bytes: impl Into<Bytes>) {
        let mut bytes = bytes.into();
        let Some(Phase::Sending(sending)) = self.streams.get_mut(&stream).map(|s| &mut s.phase)
        else {
            return;
        };
        if let Some(left) = &mut sending.left {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        if bytes.is_empty() {
            return;
        }
        let full = sending.queue.bytes() + bytes.len() > self.options.stream_queue_bytes_max
            || self.wire.queued_bytes() + bytes.len() > self.options.queue_bytes_max;
        if full {
            sending.stream.send_reset(Reason::ENHANCE_YOUR_CALM);
            self.streams.remove(&stream);
            self.events.push_back(Event::Reset(stream));
        } else {
            let is_last = sending.left == Some(0);
            let payload = Payload::new(bytes, &sending.queue);
            // It fails if the stream was reset, which the next turn tells.
            let _ = sending.stream.send_data(payload, is_last);
        }
        self.run(now);
    }

    /// Ends a live response after the bytes given so far. Nothing more is told of the stream.
    /// One whose stated length is not reached is reset.
    pub fn end_stream(&mut self, now: Instant, stream: StreamNumber) {
        let Some(mut ended) = self.streams.remove(&stream) else {
            return;
        };
        match &mut ended.phase {
            Phase::Sending(sending) => match sending.left {
                None => {
                    let end = Payload::new(Bytes::new(), &sending.queue);
                    let _ = sending.stream.send_data(end, true);
                }
                Some(0) => {}
                Some(_) => sending.stream.send_reset(Reason::INTERNAL_ERROR),
            },
            Phase::Reading(_) | Phase::Responding => {
                self.streams.insert(stream, ended);
                return;
            }
        }
        drop(ended);
        self.run(now);
    }

    /// Gives a stream up, whatever has become of it: its owner cannot go on.
    pub fn reset_stream(&mut self, now: Instant, stream: StreamNumber) {
        if let Some(mut stream) = self.streams.remove(&stream) {
            match &mut stream.phase {
                Phase::Sending(sending) => sending.stream.send_reset(Reason::INTERNAL_ERROR),
                Phase::Reading(_) | Phase::Responding => {
                    stream.respond.send_reset(Reason::INTERNAL_ERROR);
                }
            }
            drop(stream);
            self.run(now);
        }
    }

    /// Bytes of a streaming response that have not become frames; 0 for any other stream.
    pub fn queued_bytes(&self, stream: StreamNumber) -> usize {
        match self.streams.get(&stream).map(|stream| &stream.phase) {
            Some(Phase::Sending(sending)) => sending.queue.bytes(),
            Some(Phase::Reading(_) | Phase::Responding) | None => 0,
        }
    }

    /// Lets the open streams finish and takes no new ones (GOAWAY, RFC 9113 section 6.8);
    /// [`Event::Closed`] comes after the last one, or after `Options::close_timeout`.
    pub fn close(&mut self, now: Instant) {
        match &mut self.link {
            Link::Open(connection) => {
                connection.graceful_shutdown();
                self.closing.get_or_insert(now);
                self.run(now);
            }
            Link::Handshake(_) => self.end(CloseReason::Finished, Reason::NO_ERROR),
            Link::Closed => {}
        }
    }

    /// Takes the stream of an outstanding request.
    fn take_responding(&mut self, number: StreamNumber) -> Option<Stream> {
        let stream = self.streams.remove(&number)?;
        assert!(
            matches!(stream.phase, Phase::Responding),
            "a response needs an outstanding request"
        );
        Some(stream)
    }

    fn begin_body(
        &mut self,
        now: Instant,
        number: StreamNumber,
        head: http::Response<()>,
        length: Option<u64>,
    ) -> Framing {
        let Some(mut stream) = self.take_responding(number) else {
            return Framing::Close;
        };
        let no_body =
            stream.head_only || !head::has_body(head.status().as_u16()) || length == Some(0);
        // An error means that the stream was reset; the next turn tells.
        if let Ok(sender) = stream.respond.send_response(head, no_body)
            && !no_body
        {
            stream.phase = Phase::Sending(Sending {
                stream: sender,
                queue: self.wire.queue(number, true),
                left: length,
                is_silent: false,
            });
        }
        let framing = if no_body {
            drop(stream);
            Framing::NoBody
        } else {
            self.streams.insert(number, stream);
            self.woken.streams.raise();
            Framing::Close
        };
        self.run(now);
        framing
    }

    /// Writes a whole response. `keep` is set while the request's body still arrives: `h2` resets
    /// a stream whose handles are gone before it has ended, and loses count of one that then still
    /// waits for a window.
    fn answer(
        &mut self,
        number: StreamNumber,
        mut respond: SendResponse<Payload>,
        head_only: bool,
        response: Response,
        keep: bool,
    ) {
        let fields = response
            .headers
            .iter()
            .map(|(name, value)| (*name, &**value));
        let length = response.body.len();
        let head = head::response(response.status, fields, Some(length as u64));
        let no_body = head_only || !head::has_body(response.status) || length == 0;
        if !no_body && self.wire.queued_bytes() + length > self.options.queue_bytes_max {
            return respond.send_reset(Reason::ENHANCE_YOUR_CALM);
        }
        // An error means that the stream was reset, and nobody waits for an answer.
        if let Ok(mut sender) = respond.send_response(head, no_body)
            && !no_body
        {
            let queue = self.wire.queue(number, keep);
            let _ = sender.send_data(Payload::new(response.body, &queue), true);
            if keep {
                let phase = Phase::Sending(Sending {
                    stream: sender,
                    queue,
                    left: Some(0),
                    is_silent: true,
                });
                let stream = Stream {
                    respond,
                    head_only,
                    phase,
                };
                self.streams.insert(number, stream);
                self.woken.streams.raise();
            }
        }
    }

    fn refuse(
        &mut self,
        number: StreamNumber,
        respond: SendResponse<Payload>,
        head_only: bool,
        refusal: Refusal,
    ) {
        let mut response = Response::text(refusal.status(), refusal.to_string());
        if refusal == Refusal::MethodNotAllowed {
            // RFC 9110 section 15.5.6: 405 lists what is allowed.
            response =
                response.with_header("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
        self.answer(number, respond, head_only, response, true);
    }

    /// Goes on until nothing moves.
    fn run(&mut self, now: Instant) {
        self.now = now;
        loop {
            self.woken.connection.take();
            let polled = {
                let mut context = Context::from_waker(&self.woken.connection_waker);
                match &mut self.link {
                    Link::Handshake(handshake) => match handshake.as_mut().poll(&mut context) {
                        Poll::Ready(Ok(connection)) => {
                            self.link = Link::Open(Box::new(connection));
                            continue;
                        }
                        Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
                        Poll::Pending => Poll::Pending,
                    },
                    Link::Open(connection) => connection.poll_accept(&mut context),
                    Link::Closed => break,
                }
            };
            match polled {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.accept(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    self.finish(reason_of(&error));
                    break;
                }
                Poll::Ready(None) => {
                    self.finish(CloseReason::Finished);
                    break;
                }
                Poll::Pending => {}
            }
            if self.woken.streams.take() {
                self.look_at_streams();
            } else if !self.woken.connection.is_raised() {
                break;
            }
        }
        self.tell_drained();
        self.keep_time();
    }

    fn accept(&mut self, request: http::Request<RecvStream>, mut respond: SendResponse<Payload>) {
        self.requests += 1;
        let number = StreamNumber(respond.stream_id().as_u32());
        let (parts, body) = request.into_parts();
        let head_only = parts.method == http::Method::HEAD;
        let request = match head::request(&parts, &self.options) {
            Ok(request) => Box::new(request),
            Err(refusal) => return self.refuse(number, respond, head_only, refusal),
        };
        let is_complete = body.is_end_stream();
        if let Some(refusal) = refusal_of_body(&request, is_complete, &self.options) {
            return self.refuse(number, respond, head_only, refusal);
        }
        let phase = if is_complete {
            self.events.push_back(Event::Request(number, request));
            Phase::Responding
        } else {
            if request.header("expect").is_some() {
                let mut interim = http::Response::new(());
                *interim.status_mut() = http::StatusCode::CONTINUE;
                let _ = respond.send_informational(interim);
            }
            Phase::Reading(Box::new(Reading {
                request: Some(request),
                body,
                received: Vec::new(),
                deadline: self.now + self.options.body_timeout,
            }))
        };
        let stream = Stream {
            respond,
            head_only,
            phase,
        };
        self.streams.insert(number, stream);
        self.woken.streams.raise();
    }

    /// Collects bodies and finds out which streams are gone.
    fn look_at_streams(&mut self) {
        let mut context = Context::from_waker(&self.woken.streams_waker);
        let events = &mut self.events;
        let mut refused = Vec::new();
        let body_bytes_max = self.options.body_bytes_max as usize;
        self.streams.retain(|&number, stream| {
            if let Phase::Reading(reading) = &mut stream.phase {
                match reading.read(&mut context, body_bytes_max) {
                    Poll::Pending => return true,
                    Poll::Ready(Ok(())) => {
                        let mut request = reading.request.take().expect("it is read once");
                        request.body = mem::take(&mut reading.received).into();
                        events.push_back(Event::Request(number, request));
                        stream.phase = Phase::Responding;
                    }
                    Poll::Ready(Err(Some(refusal))) => {
                        refused.push((number, refusal));
                        return true;
                    }
                    // The owner has not heard of it.
                    Poll::Ready(Err(None)) => return false,
                }
            }
            let reset = match &mut stream.phase {
                Phase::Sending(sending) => sending.stream.poll_reset(&mut context),
                Phase::Reading(_) | Phase::Responding => stream.respond.poll_reset(&mut context),
            };
            if reset.is_ready() && !stream.is_silent() {
                events.push_back(Event::Reset(number));
            }
            reset.is_pending()
        });
        for (number, refusal) in refused {
            if let Some(stream) = self.streams.remove(&number) {
                self.refuse(number, stream.respond, stream.head_only, refusal);
            }
        }
    }

    fn tell_drained(&mut self) {
        for number in self.wire.take_drained() {
            let Some(stream) = self.streams.get(&number) else {
                continue;
            };
            let Phase::Sending(sending) = &stream.phase else {
                continue;
            };
            if sending.queue.bytes() > 0 {
                continue;
            }
            let drained = Event::Drained(number);
            let is_complete = sending.left == Some(0);
            if self.events.back() != Some(&drained) && !sending.is_silent {
                self.events.push_back(drained);
            }
            if is_complete {
                self.streams.remove(&number);
            }
        }
    }

    /// Notes since when the connection idles or stands still.
    fn keep_time(&mut self) {
        let queued = self.wire.queued_bytes() > 0;
        let moved = self.wire.moved_bytes();
        if !queued {
            self.moved_at = None;
        } else if self.moved_at.is_none() || moved != self.moved_bytes {
            self.moved_at = Some(self.now);
        }
        self.moved_bytes = moved;
        if queued || !self.streams.is_empty() {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(self.now);
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str, Due)> {
        let options = &*self.options;
        let is_open = match &self.link {
            Link::Handshake(_) => false,
            Link::Open(_) => self.frames.has_settings(),
            Link::Closed => return None,
        };
        let at = |since: Option<Instant>, wait: Duration, why, reason| {
            since.map(|since| (since + wait, why, Due::Close(reason)))
        };
        let handshake = (!is_open).then_some(self.began);
        let bodies = self
            .streams
            .values()
            .filter_map(Stream::body_deadline)
            .min()
            .map(|at| (at, "http2 body", Due::Bodies));
        let wait = options.handshake_timeout;
        [
            at(
                handshake,
                wait,
                "http2 handshake",
                CloseReason::HandshakeTimeout,
            ),
            at(
                self.frames.began(),
                options.header_timeout,
                "http2 frame",
                CloseReason::FrameTimeout,
            ),
            at(
                self.closing,
                options.close_timeout,
                "http2 close",
                CloseReason::Finished,
            ),
            at(
                self.moved_at,
                options.stall_timeout,
                "http2 stall",
                CloseReason::Stalled,
            ),
            at(
                self.idle_since.filter(|_| is_open),
                options.idle_timeout,
                "http2 idle",
                CloseReason::Idle,
            ),
            bodies,
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, ..)| *at)
    }

    /// Ends the connection from this side, with a GOAWAY that gives `code`.
    fn end(&mut self, reason: CloseReason, code: Reason) {
        if let Link::Open(connection) = &mut self.link {
            self.wire.lift_bound();
            connection.abrupt_shutdown(code);
            let mut context = Context::from_waker(&self.woken.connection_waker);
            // Writes the GOAWAY. What else it says is of no interest any more.
            let _ = connection.poll_closed(&mut context);
        }
        self.finish(reason);
    }

    fn finish(&mut self, reason: CloseReason) {
        // The connection goes first: it ends what its streams wait for.
        self.link = Link::Closed;
        self.streams.clear();
        self.moved_at = None;
        self.idle_since = None;
        self.events.push_back(Event::Closed(reason));
    }
}

enum Due {
    Close(CloseReason),
    Bodies,
}

fn reason_of(error: &h2::Error) -> CloseReason {
    let code = error.reason().unwrap_or(Reason::PROTOCOL_ERROR).into();
    if error.is_remote() && error.is_go_away() {
        CloseReason::Peer(code)
    } else {
        CloseReason::Protocol(code)
    }
}

/// A window may have 31 bits (RFC 9113 section 6.9.1). Below 65 535, where it begins, it could only
/// be made smaller after the peer has used it.
fn window(bytes: u32) -> u32 {
    bytes.clamp(65_535, (1 << 31) - 1)
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("streams", &self.streams.len())
            .field("requests", &self.requests)
            .field("queued_bytes", &self.wire.queued_bytes())
            .finish_non_exhaustive()
    }
}
