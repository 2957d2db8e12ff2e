//! A peer in memory: the client of `h2`, or frames written by hand.

mod bounds;
mod client;
mod frames;

use std::task::{Context, Poll, Waker};
use std::time::Instant;
use std::time::Instant as Clock;

use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};

use super::wire::{Pipe, Wire};
use super::*;
use crate::proto::http::Request;

#[expect(
    clippy::disallowed_methods,
    reason = "a test has to begin at some time"
)]
pub(super) fn start() -> Instant {
    Clock::now()
}

/// The client of `h2`.
struct Client {
    wire: Wire,
    connection: Connection<Pipe, Bytes>,
    requests: SendRequest<Bytes>,
    /// How the connection ended.
    ended: Option<Result<(), h2::Error>>,
}

fn poll<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl Client {
    fn new(builder: &h2::client::Builder) -> Self {
        let wire = Wire::new(usize::MAX);
        let mut handshake = Box::pin(builder.handshake(wire.pipe()));
        let (requests, connection) = poll(|cx| handshake.as_mut().poll(cx))
            .expect("a client's handshake only writes")
            .unwrap();
        Self {
            wire,
            connection,
            requests,
            ended: None,
        }
    }

    /// Moves bytes both ways until there are no more.
    fn exchange(&mut self, now: Instant, session: &mut Session) {
        loop {
            let mut moved = false;
            if self.ended.is_none() {
                self.ended = poll(|cx| Pin::new(&mut self.connection).poll(cx));
            }
            while let Some(bytes) = self.wire.transmit() {
                session.handle_input(now, &bytes);
                moved = true;
            }
            while let Some(bytes) = session.poll_transmit() {
                self.wire.receive(&bytes);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn request(&mut self, request: http::request::Builder, body: Option<&[u8]>) -> ResponseFuture {
        let request = request.body(()).unwrap();
        let (response, mut stream) = self.requests.send_request(request, body.is_none()).unwrap();
        if let Some(body) = body {
            stream
                .send_data(Bytes::copy_from_slice(body), true)
                .unwrap();
        }
        response
    }

    fn get(&mut self, path: &str) -> ResponseFuture {
        self.request(get(path), None)
    }
}

fn get(path: &str) -> http::request::Builder {
    http::Request::builder().uri(format!("https://example.org{path}"))
}

/// A session and a client that have shaken hands.
fn connected(options: Options) -> (Instant, Session, Client) {
    let now = start();
    let mut session = Session::new(now, options);
    let mut client = Client::new(&h2::client::Builder::new());
    client.exchange(now, &mut session);
    (now, session, client)
}

fn request(session: &mut Session) -> (StreamNumber, Box<Request>) {
    match session.poll_event() {
        Some(Event::Request(stream, request)) => (stream, request),
        event => panic!("{event:?}"),
    }
}

/// A response, as far as it has come.
#[derive(Debug)]
struct Answer {
    head: http::response::Parts,
    body: Vec<u8>,
    is_complete: bool,
}

fn answer(response: &mut ResponseFuture) -> Result<Answer, h2::Error> {
    let response = poll(|cx| Pin::new(response).poll(cx)).expect("a response has come")?;
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    let is_complete = read(&mut stream, &mut body)?;
    Ok(Answer {
        head,
        body,
        is_complete,
    })
}

/// True if the body is complete.
fn read(stream: &mut h2::RecvStream, body: &mut Vec<u8>) -> Result<bool, h2::Error> {
    loop {
        match poll(|cx| stream.poll_data(cx)) {
            None => return Ok(false),
            Some(None) => return Ok(true),
            Some(Some(data)) => {
                let data = data?;
                stream.flow_control().release_capacity(data.len()).unwrap();
                body.extend_from_slice(&data);
            }
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame written by hand.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A field as HPACK writes it without tables or Huffman coding (RFC 7541 section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        if text.len() < 127 {
            out.push(text.len() as u8);
        } else {
            out.push(127);
            let mut left = text.len() - 127;
            while left >= 128 {
                out.push(left as u8 | 128);
                left /= 128;
            }
            out.push(left as u8);
        }
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// The header block of a GET, and more fields.
fn block(more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/x"),
    ];
    fields(&[&pseudo, more].concat())
}

fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect()
}

/// A session after preface and empty SETTINGS, its own SETTINGS read.
fn raw(options: Options) -> (Instant, Session) {
    let now = start();
    let mut session = Session::new(now, options);
    session.handle_input(now, PREFACE);
    session.handle_input(now, &frame(4, 0, 0, &[]));
    session.handle_input(now, &frame(4, 1, 0, &[]));
    let sent = sent(&mut session);
    assert!(sent.iter().any(|frame| (frame.kind, frame.flags) == (4, 1)));
    (now, session)
}

/// A frame that the session sent.
#[derive(PartialEq, Eq, Debug)]
struct Sent {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Sent {
    /// The error code of RST_STREAM or GOAWAY.
    fn code(&self) -> u32 {
        let at = if self.kind == 7 { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

fn sent(session: &mut Session) -> Vec<Sent> {
    let mut bytes = Vec::new();
    while let Some(piece) = session.poll_transmit() {
        bytes.extend_from_slice(&piece);
    }
    let (mut frames, mut rest) = (Vec::new(), &bytes[..]);
    while let [a, b, c, kind, flags, s, t, u, v, after @ ..] = rest {
        let (payload, next) = after.split_at(u32::from_be_bytes([0, *a, *b, *c]) as usize);
        frames.push(Sent {
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes([*s, *t, *u, *v]),
            payload: payload.to_vec(),
        });
        rest = next;
    }
    assert!(rest.is_empty());
    frames
}

use std::future::Future;
use std::pin::Pin;
