//! Frames in any order and cut up anyhow: what the session holds stays bounded, and what it tells
//! is told in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::proto::http::{Framing, Response};
use ringside::proto::http2::{Event, Options, Session};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[allow(clippy::disallowed_methods, reason = "a run has to begin at some time")]
pub(crate) fn run(data: &[u8]) {
    let Some((&piece, input)) = data.split_first() else {
        return;
    };
    let now = Instant::now();
    let options = Options {
        body_bytes_max: 1000,
        stream_queue_bytes_max: 100_000,
        queue_bytes_max: 300_000,
        output_bytes_max: 20_000,
        ..Options::default()
    };
    let (queue_max, output_max) = (options.queue_bytes_max, 20_000 + 16_384 + 20_000);
    let mut session = Session::new(now, options);
    session.handle_input(now, PREFACE);
    // Streams whose requests were told, and whether a body is being sent.
    let mut open = BTreeMap::new();
    let mut resets = BTreeSet::new();
    let mut closed = false;
    for (turn, bytes) in input.chunks(usize::from(piece).max(1)).enumerate() {
        session.handle_input(now + Duration::from_millis(turn as u64), bytes);
        while let Some(event) = session.poll_event() {
            assert!(!closed, "nothing is told after the end");
            match event {
                Event::Request(stream, request) => {
                    assert!(request.path.starts_with('/') || request.path == "*");
                    assert!(request.body.len() <= 1000);
                    assert!(open.insert(stream, false).is_none());
                    let body = Bytes::from(vec![0; 30_000]);
                    match request.query() {
                        "live" => {
                            let framing = session.respond_stream(now, stream, 200, &[]);
                            session.send(now, stream, body);
                            open.insert(stream, framing == Framing::Close);
                        }
                        "shared" => {
                            let head = Response::new(200);
                            let framing = session.respond_shared(now, stream, &head, 30_000);
                            session.send(now, stream, body);
                            open.insert(stream, framing == Framing::Close);
                        }
                        "wait" => {}
                        _ => {
                            let answer = Response::text(200, request.path.clone());
                            session.respond(now, stream, answer);
                            open.remove(&stream);
                        }
                    }
                }
                Event::Drained(stream) => {
                    assert_eq!(open.get(&stream), Some(&true));
                    session.send(now, stream, Bytes::from_static(b"more"));
                }
                // It may have crossed with the answer.
                Event::Reset(stream) => {
                    open.remove(&stream);
                    assert!(resets.insert(stream), "told once");
                }
                Event::Closed(_) => closed = true,
            }
        }
        assert!(session.queued_bytes_total() <= queue_max);
        let mut sent = 0;
        // A socket that takes a little in each turn.
        while let Some(bytes) = session.poll_transmit() {
            sent += bytes.len();
            assert!(sent <= output_max + queue_max * 2);
            if turn % 3 == 0 && sent > 10_000 {
                break;
            }
        }
    }
    for _ in 0..200 {
        let Some((deadline, _)) = session.poll_timeout() else {
            break;
        };
        session.handle_timeout(deadline);
    }
    session.close(now + Duration::from_secs(1000));
    while session.poll_transmit().is_some() {}
    while let Some((deadline, _)) = session.poll_timeout() {
        session.handle_timeout(deadline);
    }
}
