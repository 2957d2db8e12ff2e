//! What sessions cost without a socket: wall time of one thread, the smallest of several rounds.
//!
//! `cargo run --release -p ringside-load --bin session-cost`
#![allow(clippy::unwrap_used, reason = "it measures or it panics")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::proto::http::{self, Request, Response};
use ringside::proto::http2;
use ringside::proto::websocket::{self, Shared};
use ringside::shard::clock;

const ROUNDS: u32 = 7;

fn main() {
    let segment = Bytes::from(vec![0; 30_000]);
    report("HTTP/2: a request and its response of 30 kB", 2000, || {
        responses(2000, &segment)
    });
    for length in [100, 1000, 60_000] {
        report(
            &format!("WebSocket: read a message of {length} bytes"),
            20_000,
            || messages(20_000, length),
        );
    }
    report("WebSocket: send a shared message", 20_000, || {
        shared(20_000)
    });
}

fn report(what: &str, count: u32, run: impl Fn() -> Duration) {
    let least = (0..ROUNDS).map(|_| run()).min().unwrap_or_default();
    #[expect(clippy::print_stdout, reason = "it is what this program is for")]
    {
        println!("{what}: {} ns", (least / count).as_nanos());
    }
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn responses(count: u32, body: &Bytes) -> Duration {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // GET, https, and the path `/x` and authority `a` without an index (RFC 7541 section 6.2.2).
    const HEAD: &[u8] = &[0x82, 0x87, 0x04, 2, b'/', b'x', 0x01, 1, b'a'];
    let now = clock::now();
    let options = http2::Options {
        window_updates_per_s: u32::MAX,
        ..http2::Options::default()
    };
    let mut session = http2::Session::new(now, options);
    session.handle_input(now, PREFACE);
    session.handle_input(now, &frame(4, 0, 0, &[]));
    session.handle_input(now, &frame(4, 1, 0, &[]));
    drain(&mut session);
    let began = clock::now();
    for n in 0..count {
        let mut input = frame(1, 5, n * 2 + 1, HEAD);
        // What the response takes of the connection's window is given back.
        input.extend(frame(8, 0, 0, &30_000u32.to_be_bytes()));
        session.handle_input(now, &input);
        let Some(http2::Event::Request(stream, _)) = session.poll_event() else {
            unreachable!("the request is whole");
        };
        let head = Response::new(200)
            .with_header("Content-Type", "video/mp4")
            .with_cors();
        session.respond_shared(now, stream, &head, 30_000);
        session.send(now, stream, body.clone());
        assert!(drain(&mut session) > 30_000);
        assert_eq!(session.poll_event(), Some(http2::Event::Drained(stream)));
    }
    began.elapsed()
}

fn drain(session: &mut http2::Session) -> usize {
    std::iter::from_fn(|| session.poll_transmit())
        .map(|piece| black_box(piece).len())
        .sum()
}

fn socket() -> (Instant, websocket::Session) {
    const HEAD: &[u8] =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let now = clock::now();
    let mut before = http::Session::new(now, http::Options::default());
    before.handle_input(now, HEAD);
    let Some(http::Event::Request(request)) = before.poll_event() else {
        unreachable!("the request is whole");
    };
    let request: Request = *request;
    let options = websocket::Options::default();
    let accepted = websocket::accept(&request, &options, &[]).unwrap();
    let mut session = websocket::Session::server(now, options, accepted);
    while session.poll_transmit().is_some() {}
    (now, session)
}

fn messages(count: u32, length: usize) -> Duration {
    let (now, mut session) = socket();
    let mut input = vec![0x81];
    match length {
        0..126 => input.push(0x80 | length as u8),
        126..0x1_0000 => {
            input.push(0x80 | 126);
            input.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => unreachable!("no longer ones are measured"),
    }
    // Masked with zeros: the work is the same.
    input.extend_from_slice(&[0; 4]);
    input.extend(std::iter::repeat_n(b'a', length));
    let began = clock::now();
    for _ in 0..count {
        session.handle_input(now, &input);
        assert!(matches!(
            session.poll_event(),
            Some(websocket::Event::Message(_))
        ));
    }
    began.elapsed()
}

fn shared(count: u32) -> Duration {
    let (_, mut session) = socket();
    let message = Shared::text(&"a".repeat(1000), None);
    let began = clock::now();
    for _ in 0..count {
        session.send_shared(&message);
        black_box(session.poll_transmit());
    }
    began.elapsed()
}
