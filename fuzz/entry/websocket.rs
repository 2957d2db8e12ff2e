//! Frames in pieces tell the same as in one, and what the session holds stays bounded.

use std::time::{Duration, Instant};

use ringside::proto::http::{self, Session as Http};
use ringside::proto::websocket::{
    DeflateOptions, Event, HandshakeError, Message, Options, Session, accept,
};

const MESSAGE_BYTES_MAX: usize = 5000;

pub(crate) fn run(data: &[u8]) {
    let Some((&[piece, flags], input)) = data.split_first_chunk() else {
        return;
    };
    let whole = converse(input, input.len().max(1), flags);
    let pieces = converse(input, usize::from(piece).max(1), flags);
    assert_eq!(whole, pieces);
}

#[allow(clippy::disallowed_methods, reason = "a run has to begin at some time")]
fn converse(input: &[u8], piece: usize, flags: u8) -> Vec<Event> {
    let now = Instant::now();
    let options = Options {
        frame_bytes_max: 4000,
        message_bytes_max: MESSAGE_BYTES_MAX,
        deflate: (flags & 1 != 0).then(|| DeflateOptions {
            context_takeover: flags & 2 != 0,
            threshold_bytes: 10,
            ..DeflateOptions::default()
        }),
        ..Options::default()
    };
    let Ok(accepted) = handshake(now, &options, flags) else {
        return Vec::new();
    };
    let mut session = Session::server(now, options, accepted);
    let mut events = Vec::new();
    for bytes in input.chunks(piece) {
        session.handle_input(now, bytes);
        while let Some(event) = session.poll_event() {
            match &event {
                Event::Message(Message::Text(text)) => {
                    assert!(text.len() <= MESSAGE_BYTES_MAX);
                    session.send_text(text);
                }
                Event::Message(Message::Binary(bytes)) => {
                    assert!(bytes.len() <= MESSAGE_BYTES_MAX);
                    session.send_binary(bytes);
                }
                Event::Closed(_) => assert_eq!(session.poll_timeout(), None),
            }
            events.push(event);
        }
        while session.poll_transmit().is_some() {}
        assert_eq!(session.queued_bytes(), 0);
    }
    for _ in 0..3 {
        if let Some((deadline, _)) = session.poll_timeout() {
            session.handle_timeout(deadline + Duration::from_secs(1));
        }
    }
    assert_eq!(session.poll_timeout(), None);
    events
}

fn handshake(
    now: Instant,
    options: &Options,
    flags: u8,
) -> Result<ringside::proto::websocket::Accepted, HandshakeError> {
    let extension = [
        "permessage-deflate",
        "permessage-deflate; server_max_window_bits=9",
    ][usize::from(flags >> 2 & 1)];
    let head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Extensions: {extension}\r\n\r\n"
    );
    let mut http = Http::new(now, http::Options::default());
    http.handle_input(now, head.as_bytes());
    match http.poll_event() {
        Some(http::Event::Request(request)) => accept(&request, options, &[]),
        _ => Err(HandshakeError::NotUpgrade),
    }
}
