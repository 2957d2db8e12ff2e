//! What an idle HTTP/2 connection holds. A process of its own, since its memory is what is measured.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Instant;

use ringside::proto::http::Response;
use ringside::proto::http2::{Event, Options, Session};

const COUNT: usize = 2000;

/// `h2` keeps some 16 KiB to write frames into and 8 KiB to read them into; more than this, and the
/// "10 000 connections of a shard" would take over 400 MB.
const BYTES_MAX: usize = 40 * 1024;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A session that has answered a request and has nothing to do.
#[allow(
    clippy::disallowed_methods,
    reason = "a test has to begin at some time"
)]
fn idle() -> Session {
    let now = Instant::now();
    let mut session = Session::new(now, Options::default());
    session.handle_input(now, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // SETTINGS, its answer, and HEADERS that end the stream: GET https://a/ from HPACK's table.
    session.handle_input(now, &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]);
    session.handle_input(
        now,
        &[0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x87, 0x84, 0x41, 1, b'a'],
    );
    let Some(Event::Request(stream, _)) = session.poll_event() else {
        panic!("a request was made");
    };
    session.respond(now, stream, Response::text(200, "a".repeat(10_000)));
    let mut sent = 0;
    while let Some(bytes) = session.poll_transmit() {
        sent += bytes.len();
    }
    assert!(sent > 10_000 && session.queued_bytes_total() == 0);
    session
}

#[test]
fn an_idle_connection_is_small() {
    let warm: Vec<Session> = (0..20).map(|_| idle()).collect();
    let before = resident_bytes();
    let sessions: Vec<Session> = (0..COUNT).map(|_| idle()).collect();
    let each = (resident_bytes() - before) / COUNT;
    eprintln!(
        "{each} bytes, {} in the session itself",
        size_of::<Session>()
    );
    assert!(each > size_of::<Session>(), "{each} bytes cannot be right");
    assert!(each <= BYTES_MAX, "{each} bytes");
    drop((warm, sessions));
}
