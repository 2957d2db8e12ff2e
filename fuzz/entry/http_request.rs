//! Requests in pieces are the same requests, and what the session holds stays bounded.

use std::time::{Duration, Instant};

use ringside::proto::http::{Event, Options, Response, Session};

pub(crate) fn run(data: &[u8]) {
    let Some((&piece, input)) = data.split_first() else {
        return;
    };
    let whole = converse(input, input.len().max(1));
    assert_eq!(whole, converse(input, usize::from(piece).max(1)));
    for event in &whole.0 {
        if let Event::Request(request) = event {
            assert!(request.path.starts_with('/') || request.path == "*");
            assert!(!request.path.split('/').any(|part| part == ".."));
            assert!(!request.path.contains(char::is_control));
            assert!(request.body.len() <= 1000);
            let _ = request.parameter("pass");
            let _ = (request.host(), request.raw_path(), request.is_websocket());
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a run has to begin at some time")]
fn converse(input: &[u8], piece: usize) -> (Vec<Event>, Vec<u8>) {
    let now = Instant::now();
    let options = Options {
        header_bytes_max: 2000,
        target_bytes_max: 1000,
        body_bytes_max: 1000,
        // More than any input, since how much is held depends on how it is cut up.
        pipelined_bytes_max: u32::MAX,
        ..Options::default()
    };
    let mut session = Session::new(now, options);
    let (mut events, mut sent) = (Vec::new(), Vec::new());
    for bytes in input.chunks(piece) {
        session.handle_input(now, bytes);
        while let Some(event) = session.poll_event() {
            if let Event::Request(request) = &event {
                if request.query() == "live" {
                    session.respond_stream(now, 200, &[("Content-Type", "video/mp4")]);
                    session.end_stream(now);
                } else {
                    session.respond(now, Response::text(200, request.path.clone()));
                }
            }
            events.push(event);
        }
        while let Some(bytes) = session.poll_transmit() {
            sent.extend_from_slice(&bytes);
        }
    }
    if let Some((deadline, _)) = session.poll_timeout() {
        session.handle_timeout(deadline + Duration::from_secs(1));
        assert!(matches!(session.poll_event(), Some(Event::Closed(_))));
        assert_eq!(session.poll_timeout(), None);
    }
    (events, sent)
}
