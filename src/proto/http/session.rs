//! The state machine of one server connection.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::body::{BodyLength, ChunkDecoder, Step};
use super::chunk::CHUNK_END;
use super::error::{CloseReason, Refusal};
use super::head::{HeadLimits, HeadScan};
use super::request::{HEAD_BYTES_MAX, Method, Request, Version};
use super::response::{self, BodyHead, Connection, Framing, Response};

/// Bounds and waiting times of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The longest request line. A target is a stream name and a few parameters.
    pub target_bytes_max: u32,
    /// The longest head; at most 65 535.
    pub header_bytes_max: u32,
    /// The most header fields; at most 128.
    pub headers_max: u32,
    /// The longest request body. The largest that a client has reason to send is a
    /// configuration over the API.
    pub body_bytes_max: u32,
    /// The most input held while a response is outstanding: one more head.
    pub pipelined_bytes_max: u32,
    /// From the connection's start, or the first byte of a later request, to the end of the head.
    pub header_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// From the end of a response to the first byte of the next request.
    pub keep_alive_timeout: Duration,
    /// Paths have names in them that are not of files: a slash or dot in percent encoding is no fault,
    /// and a request's `path` is as it came.
    pub opaque_paths: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target_bytes_max: 8 * 1024,
            header_bytes_max: 16 * 1024,
            headers_max: 64,
            body_bytes_max: 1024 * 1024,
            pipelined_bytes_max: 16 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(60),
            opaque_paths: false,
        }
    }
}

/// What a session tells its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A request, to be answered with [`Session::respond`] or [`Session::respond_stream`]. The
    /// next one comes after that answer.
    Request(Box<Request>),
    /// Send what [`Session::poll_transmit`] still gives, then close. Nothing more is read.
    Closed(CloseReason),
}

/// One server connection.
///
/// While a connection idles it holds no buffer: the head being read is buffered only when it
/// arrives in pieces, and belongs to the request once it is complete.
#[derive(Debug)]
pub struct Session {
    options: Arc<Options>,
    state: State,
    /// The first pieces of a head; while a response is outstanding, what came behind its request.
    input: Vec<u8>,
    transmit: VecDeque<Bytes>,
    events: VecDeque<Event>,
}

// The sum behind "a hundred thousand idle connections": 25 MB of sessions.
const _: () = assert!(size_of::<Session>() <= 256);

#[derive(Debug)]
enum State {
    /// Waiting for a request or reading its head.
    Head(Head),
    /// Reading a request's body.
    Body(Box<Body>),
    /// The owner has the request.
    Responding(Exchange),
    /// The owner sends a live body.
    Streaming(Exchange, Framing),
    Closed,
}

#[derive(Debug)]
struct Head {
    scan: HeadScan,
    deadline: Instant,
}

#[derive(Debug)]
struct Body {
    request: Box<Request>,
    received: Vec<u8>,
    left: BodyLeft,
    deadline: Instant,
}

#[derive(Debug)]
enum BodyLeft {
    Bytes(u64),
    Chunks(ChunkDecoder),
}

/// What the answer to a request depends on.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    version: Version,
    keep_alive: bool,
    head_only: bool,
    takes_chunks: bool,
}

impl Exchange {
    fn of(request: &Request) -> Self {
        Self {
            version: request.version,
            keep_alive: request.keep_alive,
            head_only: request.method == Method::Head,
            takes_chunks: request.takes_chunks(),
        }
    }

    fn connection(self, keep_alive: bool) -> Connection {
        match (keep_alive, self.version) {
            (false, _) => Connection::Close,
            (true, Version::Http10) => Connection::KeepAlive,
            (true, Version::Http11 | Version::Http2) => Connection::Implied,
        }
    }
}

impl Session {
    /// A session for a connection accepted at `now`.
    pub fn new(now: Instant, options: impl Into<Arc<Options>>) -> Self {
        let options = options.into();
        let deadline = now + options.header_timeout;
        Self {
            options,
            state: State::Head(Head {
                scan: HeadScan::new(),
                deadline,
            }),
            input: Vec::new(),
            transmit: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Bytes from the peer.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.state = match mem::replace(&mut self.state, State::Closed) {
                State::Head(head) => self.read_head(now, head, &mut rest),
                State::Body(body) => self.read_body(body, &mut rest),
                State::Responding(exchange) => self.hold(State::Responding(exchange), &mut rest),
                State::Streaming(exchange, framing) => {
                    self.hold(State::Streaming(exchange, framing), &mut rest)
                }
                State::Closed => return,
            };
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self
            .poll_timeout()
            .is_none_or(|(deadline, _)| now < deadline)
        {
            return;
        }
        self.state = match mem::replace(&mut self.state, State::Closed) {
            State::Head(head) if head.scan.is_empty() => self.close(CloseReason::Idle),
            State::Head(_) => self.refuse(Refusal::HeadTimeout),
            State::Body(_) => self.refuse(Refusal::BodyTimeout),
            state @ (State::Responding(_) | State::Streaming(..) | State::Closed) => state,
        };
    }

    /// The next bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        let bytes = self.transmit.pop_front();
        if self.transmit.is_empty() && self.transmit.capacity() > 0 {
            self.transmit = VecDeque::new();
        }
        bytes
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > 0 {
            self.events = VecDeque::new();
        }
        event
    }

    /// When [`Session::handle_timeout`] is due, and what for. None while the owner has a request:
    /// how long an answer may take is its own affair.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Head(head) if head.scan.is_empty() => Some((head.deadline, "http idle")),
            State::Head(head) => Some((head.deadline, "http head")),
            State::Body(body) => Some((body.deadline, "http body")),
            State::Responding(_) | State::Streaming(..) | State::Closed => None,
        }
    }

    /// Answers the outstanding request. Does nothing once the session has closed.
    ///
    /// # Panics
    ///
    /// If no request is outstanding.
    pub fn respond(&mut self, now: Instant, response: Response) {
        let Some(exchange) = self.take_exchange() else {
            return;
        };
        let keep_alive = exchange.keep_alive && !response.close;
        let connection = exchange.connection(keep_alive);
        let (head, body) = response::write(response, exchange.head_only, connection);
        self.transmit.push_back(head);
        self.transmit.extend(body);
        self.finish(now, keep_alive);
    }

    /// Sends the head of a response whose body of `length` bytes does not pass through the session:
    /// the owner queues it behind what [`Session::poll_transmit`] gives, unless this returns false,
    /// as in answer to HEAD. The response's own body must be empty.
    ///
    /// # Panics
    ///
    /// If no request is outstanding.
    pub fn respond_shared(&mut self, now: Instant, response: &Response, length: usize) -> bool {
        debug_assert!(response.body.is_empty());
        let Some(exchange) = self.take_exchange() else {
            return false;
        };
        let keep_alive = exchange.keep_alive && !response.close;
        let connection = exchange.connection(keep_alive);
        let headers = response.headers.iter();
        let head = response::write_head(
            response.status,
            headers.map(|(name, value)| (*name, value.as_ref())),
            BodyHead::Length(length),
            connection,
        );
        self.transmit.push_back(head.into());
        self.finish(now, keep_alive);
        !exchange.head_only
    }

    /// How the body of the live response is framed, between [`Session::respond_stream`] and
    /// [`Session::end_stream`].
    pub fn framing(&self) -> Option<Framing> {
        match self.state {
            State::Streaming(_, framing) => Some(framing),
            State::Head(_) | State::Body(_) | State::Responding(_) | State::Closed => None,
        }
    }

    /// Sends the head of a live response and says how its body is to be framed. The body does not
    /// pass through the session. Framed with its end by the connection once the session has closed.
    ///
    /// # Panics
    ///
    /// If no request is outstanding.
    pub fn respond_stream(
        &mut self,
        now: Instant,
        status: u16,
        headers: &[(&str, &str)],
    ) -> Framing {
        let Some(exchange) = self.take_exchange() else {
            return Framing::Close;
        };
        let chunked = exchange.takes_chunks;
        let (framing, body, keep_alive) = if exchange.head_only {
            (Framing::NoBody, BodyHead::Unstated, exchange.keep_alive)
        } else if chunked {
            (Framing::Chunked, BodyHead::Chunked, exchange.keep_alive)
        } else {
            (Framing::Close, BodyHead::Unstated, false)
        };
        let connection = exchange.connection(keep_alive);
        let head = response::write_head(status, headers.iter().copied(), body, connection);
        self.transmit.push_back(head.into());
        if framing == Framing::NoBody {
            self.finish(now, keep_alive);
        } else {
            self.state = State::Streaming(exchange, framing);
        }
        framing
    }

    /// Ends a live response after its last byte was queued: the last chunk, and the connection
    /// serves the next request; or the end of the connection. Does nothing when not streaming.
    pub fn end_stream(&mut self, now: Instant) {
        self.state = match mem::replace(&mut self.state, State::Closed) {
            State::Streaming(exchange, Framing::Chunked) => {
                self.transmit.push_back(Bytes::from_static(CHUNK_END));
                return self.finish(now, exchange.keep_alive);
            }
            State::Streaming(_, Framing::Close | Framing::NoBody) => {
                return self.finish(now, false);
            }
            state @ (State::Head(_) | State::Body(_) | State::Responding(_) | State::Closed) => {
                state
            }
        };
    }

    /// True between [`Session::respond_stream`] and [`Session::end_stream`].
    pub fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming(..))
    }

    /// Ends the session and gives back what came behind the outstanding request, for a connection
    /// that is handed to another owner together with [`Request::head`].
    pub fn into_unread(self) -> Vec<u8> {
        self.input
    }

    fn read_head(&mut self, now: Instant, mut head: Head, rest: &mut &[u8]) -> State {
        if head.scan.is_empty() {
            // RFC 9112 section 2.2: an empty line before a request is skipped. It is not a
            // sign of life, or a peer could keep a connection with it.
            let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
            *rest = &rest[blank.count()..];
            let Some(&first) = rest.first() else {
                return State::Head(head);
            };
            // Says no at once to what speaks another protocol, such as TLS.
            if !first.is_ascii_alphabetic() {
                return self.refuse(Refusal::RequestLine);
            }
            head.deadline = head.deadline.min(now + self.options.header_timeout);
        }
        let limits = HeadLimits {
            first_line_bytes_max: self.options.target_bytes_max,
            bytes_max: self.options.header_bytes_max.min(HEAD_BYTES_MAX as u32),
        };
        let length = match head.scan.advance(rest, limits) {
            Ok(Some(length)) => length,
            Ok(None) => {
                self.input.extend_from_slice(rest);
                *rest = &[];
                return State::Head(head);
            }
            Err(refusal) => return self.refuse(refusal),
        };
        let (last, after) = rest.split_at(length);
        *rest = after;
        let mut whole = mem::take(&mut self.input);
        whole.extend_from_slice(last);
        let headers_max = self.options.headers_max as usize;
        let opaque_paths = self.options.opaque_paths;
        match Request::parse_as(whole.into_boxed_slice(), headers_max, opaque_paths) {
            Ok((request, length)) => self.begin_body(now, Box::new(request), length),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn begin_body(&mut self, now: Instant, request: Box<Request>, length: BodyLength) -> State {
        let left = match length {
            BodyLength::Fixed(0) => return self.deliver(request, Vec::new()),
            BodyLength::Fixed(bytes) if bytes > u64::from(self.options.body_bytes_max) => {
                return self.refuse(Refusal::BodyTooLarge);
            }
            BodyLength::Fixed(bytes) => BodyLeft::Bytes(bytes),
            BodyLength::Chunked => BodyLeft::Chunks(ChunkDecoder::new()),
        };
        match request.header("expect") {
            None => {}
            // RFC 9110 section 10.1.1: an expectation in HTTP/1.0 is ignored.
            Some(_) if request.version == Version::Http10 => {}
            Some(expected) if expected.eq_ignore_ascii_case("100-continue") => {
                let interim = Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n");
                self.transmit.push_back(interim);
            }
            Some(_) => return self.refuse(Refusal::Expectation),
        }
        State::Body(Box::new(Body {
            request,
            received: Vec::new(),
            left,
            deadline: now + self.options.body_timeout,
        }))
    }

    fn read_body(&mut self, mut body: Box<Body>, rest: &mut &[u8]) -> State {
        match &mut body.left {
            BodyLeft::Bytes(left) => {
                let length = (*left).min(rest.len() as u64);
                let (data, after) = rest.split_at(length as usize);
                *rest = after;
                *left -= length;
                body.received.extend_from_slice(data);
                if *left > 0 {
                    return State::Body(body);
                }
            }
            BodyLeft::Chunks(decoder) => loop {
                match decoder.step(rest) {
                    Ok(Step::Data { skip, length }) => {
                        let room = self.options.body_bytes_max as usize - body.received.len();
                        if length > room {
                            return self.refuse(Refusal::BodyTooLarge);
                        }
                        let (data, after) = rest[skip..].split_at(length);
                        *rest = after;
                        body.received.extend_from_slice(data);
                    }
                    Ok(Step::More) => {
                        *rest = &[];
                        return State::Body(body);
                    }
                    Ok(Step::Done { used }) => {
                        *rest = &rest[used..];
                        break;
                    }
                    Err(refusal) => return self.refuse(refusal),
                }
            },
        }
        let Body {
            request, received, ..
        } = *body;
        self.deliver(request, received)
    }

    fn deliver(&mut self, mut request: Box<Request>, body: Vec<u8>) -> State {
        request.body = body.into();
        let exchange = Exchange::of(&request);
        self.events.push_back(Event::Request(request));
        State::Responding(exchange)
    }

    /// Keeps what arrives behind an outstanding request.
    fn hold(&mut self, state: State, rest: &mut &[u8]) -> State {
        if self.input.len() + rest.len() > self.options.pipelined_bytes_max as usize {
            return self.close(CloseReason::PipelineTooLong);
        }
        self.input.extend_from_slice(rest);
        *rest = &[];
        state
    }

    fn take_exchange(&mut self) -> Option<Exchange> {
        match mem::replace(&mut self.state, State::Closed) {
            State::Responding(exchange) => Some(exchange),
            State::Closed => None,
            State::Head(_) | State::Body(_) | State::Streaming(..) => {
                panic!("a response needs an outstanding request")
            }
        }
    }

    /// A response is complete: reads on with what was held, or closes.
    fn finish(&mut self, now: Instant, keep_alive: bool) {
        if !keep_alive {
            self.state = self.close(CloseReason::Finished);
            return;
        }
        self.state = State::Head(Head {
            scan: HeadScan::new(),
            deadline: now + self.options.keep_alive_timeout,
        });
        let held = mem::take(&mut self.input);
        self.handle_input(now, &held);
    }

    fn refuse(&mut self, refusal: Refusal) -> State {
        let mut response = Response::text(refusal.status(), refusal.to_string());
        if refusal == Refusal::MethodNotAllowed {
            // RFC 9110 section 15.5.6: 405 lists what is allowed.
            response =
                response.with_header("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
        let (head, body) = response::write(response, false, Connection::Close);
        self.transmit.push_back(head);
        self.transmit.extend(body);
        self.close(CloseReason::Refused(refusal))
    }

    fn close(&mut self, reason: CloseReason) -> State {
        self.input = Vec::new();
        self.events.push_back(Event::Closed(reason));
        State::Closed
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
