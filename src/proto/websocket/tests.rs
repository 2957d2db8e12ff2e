//! Conversations: by hand in the manner of the Autobahn suite's cases, and between both sides.

use std::time::Duration;
use std::time::Instant;
use std::time::Instant as Clock;

use proptest::prelude::*;

use super::*;
use crate::proto::http::{self, Request};

#[expect(
    clippy::disallowed_methods,
    reason = "a test has to begin at some time"
)]
fn start() -> Instant {
    Clock::now()
}

fn upgrade(fields: &str) -> Request {
    let head = format!(
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n{fields}\r\n"
    );
    over_http(head.as_bytes()).0
}

/// The request that a session of HTTP tells, and what came behind it.
fn over_http(input: &[u8]) -> (Request, Vec<u8>) {
    let now = start();
    let mut session = http::Session::new(now, http::Options::default());
    session.handle_input(now, input);
    match session.poll_event() {
        Some(http::Event::Request(request)) => (*request, session.into_unread()),
        event => panic!("{event:?}"),
    }
}

#[test]
fn a_connection_goes_over_from_http() {
    let early = frame(TEXT, b"early");
    let head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{KEY}\r\n"
    );
    let (request, unread) = over_http(&[head.as_bytes(), &early].concat());
    let (now, options) = (start(), Options::default());
    let accepted = accept(&request, &options, &[]).unwrap();
    let mut session = Session::server(now, options, accepted);
    session.handle_input(now, &unread);
    assert_eq!(events(&mut session), [text("early")]);
    assert!(sent(&mut session).starts_with(b"HTTP/1.1 101 "));
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

fn server(options: Options) -> (Instant, Session) {
    let now = start();
    let accepted = accept(&upgrade(KEY), &options, &[]).unwrap();
    let mut session = Session::server(now, options, accepted);
    session.poll_transmit().unwrap();
    (now, session)
}

/// A client's frame with a mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let key = [0x37, 0xfa, 0x21, 0x3d];
    out.extend_from_slice(&key);
    out.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    out
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// Without FIN.
const BEGIN_TEXT: u8 = 0x01;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;

fn text(text: &str) -> Event {
    Event::Message(Message::Text(text.to_owned()))
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn sent(session: &mut Session) -> Vec<u8> {
    std::iter::from_fn(|| session.poll_transmit())
        .flatten()
        .collect()
}

/// What a server says about `input` by its events, in pieces of any size the same, and sends.
fn says(input: &[Vec<u8>]) -> (Vec<Event>, Vec<u8>) {
    let input = input.concat();
    let converse = |piece: usize| {
        let (now, mut session) = server(Options::default());
        let mut told = Vec::new();
        for bytes in input.chunks(piece) {
            session.handle_input(now, bytes);
            told.extend(events(&mut session));
        }
        (told, sent(&mut session))
    };
    let whole = converse(input.len().max(1));
    for piece in [1, 2, 3, 7] {
        assert_eq!(converse(piece), whole, "pieces of {piece}");
    }
    whole
}

fn violates(input: &[Vec<u8>], violation: Violation) {
    let (events, sent) = says(input);
    let closed = Event::Closed(CloseReason::Violation(violation));
    assert_eq!(events.last(), Some(&closed), "{input:x?}");
    let code = violation.code().to_be_bytes();
    let close = sent
        .windows(4)
        .any(|bytes| bytes[0] == CLOSE && bytes[2..] == code);
    assert!(close, "{sent:x?}");
}

#[test]
fn the_handshake_of_the_rfc() {
    // RFC 6455 section 1.3.
    let request = upgrade(&format!(
        "{KEY}Sec-WebSocket-Protocol: soap, chat,superchat\r\n"
    ));
    let options = Options::default();
    let accepted = accept(&request, &options, &["superchat", "chat"]).unwrap();
    assert_eq!(accepted.protocol.as_deref(), Some("chat"));
    let mut session = Session::server(start(), options, accepted);
    assert_eq!(
        session.poll_transmit().unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
}

#[test]
fn bad_handshakes_are_refused() {
    let refused = |fields: &str| accept(&upgrade(fields), &Options::default(), &[]).unwrap_err();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    assert_eq!(refused(version), HandshakeError::NotUpgrade);
    assert_eq!(refused(key), HandshakeError::Version);
    let old = format!("{key}Sec-WebSocket-Version: 8\r\n");
    assert_eq!(refused(&old), HandshakeError::Version);
    for bad in [
        "",
        "short",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZQ",
        "!!!!",
    ] {
        let fields = format!("Sec-WebSocket-Key: {bad}\r\n{version}");
        assert_eq!(refused(&fields), HandshakeError::Key, "{bad}");
    }
    assert_eq!(refused(&format!("{key}{KEY}")), HandshakeError::Key);
    let response = HandshakeError::Version.response();
    assert_eq!(response.status, 426);
    assert!(
        response
            .headers
            .iter()
            .any(|(name, _)| *name == "Sec-WebSocket-Version")
    );
}

#[test]
fn the_examples_of_the_rfc() {
    // RFC 6455 section 5.7.
    let hello = vec![
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(says(&[hello]).0, [text("Hello")]);
    let (_, mut session) = server(Options::default());
    session.send_text("Hello");
    assert_eq!(sent(&mut session), b"\x81\x05Hello");
}

#[test]
fn sizes() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
        let payload = vec![b'*'; length];
        let expected = String::from_utf8(payload.clone()).unwrap();
        assert_eq!(says(&[frame(TEXT, &payload)]).0, [text(&expected)]);
        let expected = Event::Message(Message::Binary(payload.clone()));
        assert_eq!(says(&[frame(BINARY, &payload)]).0, [expected]);
    }
}

#[test]
fn pings_and_pongs() {
    for length in [0, 1, 125] {
        let payload = vec![0xfe; length];
        let (events, sent) = says(&[frame(PING, &payload)]);
        assert_eq!(events, []);
        assert_eq!(sent, [&[PONG, length as u8][..], &payload].concat());
    }
    violates(&[frame(PING, &[0; 126])], Violation::Control);
    assert_eq!(says(&[frame(PONG, b"unasked")]), (vec![], vec![]));
}

#[test]
fn reserved_bits_and_opcodes() {
    for first in [0xc1, 0xa1, 0x91, 0xf1, 0xd9, 0xa8] {
        let input = [frame(TEXT, b"before"), frame(first, b"x")];
        violates(&input, Violation::ReservedBits);
        assert_eq!(says(&input).0[0], text("before"));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        violates(&[frame(0x80 | opcode, b"")], Violation::Opcode);
    }
    violates(&[vec![0x81, 1, b'x']], Violation::Mask);
}

#[test]
fn fragments() {
    let whole = says(&[
        frame(BEGIN_TEXT, b"frag"),
        frame(PING, b"between"),
        frame(MORE, b""),
        frame(MORE, b"men"),
        frame(LAST, b"ted"),
    ]);
    assert_eq!(whole.0, [text("fragmented")]);
    assert_eq!(whole.1, b"\x8a\x07between");
    // A control frame in fragments, continuations of nothing, a message inside of another.
    violates(&[frame(0x09, b"x")], Violation::Control);
    violates(&[frame(LAST, b"x")], Violation::Fragment);
    violates(&[frame(MORE, b"x")], Violation::Fragment);
    violates(
        &[frame(BEGIN_TEXT, b"x"), frame(TEXT, b"y")],
        Violation::Fragment,
    );
    violates(&[frame(TEXT, b"x"), frame(LAST, b"y")], Violation::Fragment);
    let empty = [frame(BEGIN_TEXT, b""), frame(MORE, b""), frame(LAST, b"")];
    assert_eq!(says(&empty).0, [text("")]);
}

#[test]
fn text_is_utf8() {
    let word = "κόσμε𐍈";
    for cut in 0..word.len() {
        let (front, back) = word.as_bytes().split_at(cut);
        let input = [frame(BEGIN_TEXT, front), frame(LAST, back)];
        assert_eq!(says(&input).0, [text(word)], "cut at {cut}");
    }
    for bad in [
        &b"\xce\xba\xff"[..],
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xce",
        b"\x80",
    ] {
        violates(&[frame(TEXT, bad)], Violation::Utf8);
        violates(
            &[frame(BEGIN_TEXT, bad), frame(LAST, b"a")],
            Violation::Utf8,
        );
    }
    assert_eq!(says(&[frame(BINARY, b"\xff")]).0.len(), 1);
}

#[test]
fn text_is_refused_before_it_is_complete() {
    let (now, mut session) = server(Options::default());
    session.handle_input(now, &frame(BEGIN_TEXT, b"\xce\xba\xe1"));
    assert_eq!(events(&mut session), []);
    // The frame announces 100 bytes; the fourth cannot follow the third.
    let mut rest = vec![LAST, 0x80 | 100, 0, 0, 0, 0];
    rest.push(b'a');
    session.handle_input(now, &rest);
    let closed = Event::Closed(CloseReason::Violation(Violation::Utf8));
    assert_eq!(events(&mut session), [closed]);
}

#[test]
fn closing() {
    let close = |code: u16, reason: &str| {
        frame(
            CLOSE,
            &[&code.to_be_bytes()[..], reason.as_bytes()].concat(),
        )
    };
    let peer = |code| vec![Event::Closed(CloseReason::Peer(code))];
    for code in [
        1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999,
    ] {
        let (events, sent) = says(&[close(code, "why"), frame(TEXT, b"after")]);
        assert_eq!(events, peer(code));
        assert_eq!(sent, [&[CLOSE, 2][..], &code.to_be_bytes()].concat());
    }
    assert_eq!(says(&[frame(CLOSE, b"")]), (peer(1005), vec![CLOSE, 0]));
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        violates(&[close(code, "")], Violation::CloseCode);
    }
    violates(&[frame(CLOSE, b"\x03")], Violation::CloseCode);
    violates(&[frame(CLOSE, b"\x03\xe8\xff")], Violation::Utf8);
    violates(&[frame(CLOSE, &[3; 126])], Violation::Control);
    // In the middle of a message.
    let events = says(&[frame(BEGIN_TEXT, b"x"), close(1000, "")]).0;
    assert_eq!(events, peer(1000));
}

#[test]
fn the_owner_closes() {
    let (now, mut session) = server(Options::default());
    session.close(now, 1001, &"ü".repeat(100));
    let close = sent(&mut session);
    assert_eq!(close[..4], [CLOSE, 124, 3, 233], "a character is not cut");
    session.send_text("after");
    session.close(now, 1000, "");
    assert_eq!(sent(&mut session), b"");
    session.handle_input(now, &frame(TEXT, b"crossed"));
    session.handle_input(now, &frame(PING, b"crossed"));
    assert_eq!(events(&mut session), []);
    session.handle_input(now, &frame(CLOSE, b"\x03\xe9"));
    assert_eq!(events(&mut session), [Event::Closed(CloseReason::Finished)]);
    assert_eq!((sent(&mut session), session.poll_timeout()), (vec![], None));

    let (now, mut session) = server(Options::default());
    session.close(now, 4000, "gone");
    let (deadline, why) = session.poll_timeout().unwrap();
    assert_eq!(
        (deadline, why),
        (now + Duration::from_secs(5), "websocket close")
    );
    session.handle_timeout(deadline);
    assert_eq!(events(&mut session), [Event::Closed(CloseReason::Finished)]);
}

#[test]
fn messages_are_bounded() {
    let options = Options {
        frame_bytes_max: 1000,
        message_bytes_max: 1500,
        ..Options::default()
    };
    let refuses = |input: &[Vec<u8>]| {
        let (now, mut session) = server(options.clone());
        session.handle_input(now, &input.concat());
        events(&mut session) == [Event::Closed(CloseReason::Violation(Violation::TooLarge))]
    };
    assert!(!refuses(&[frame(BINARY, &[0; 1000])]));
    // The head alone is enough.
    assert!(refuses(&[frame(BINARY, &[0; 1001])[..8].to_vec()]));
    assert!(!refuses(&[frame(2, &[0; 1000]), frame(LAST, &[0; 500])]));
    assert!(refuses(&[frame(2, &[0; 1000]), frame(LAST, &[0; 501])]));
    let huge = vec![
        0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
    ];
    assert!(refuses(&[huge]));
}

#[test]
fn floods_of_control_frames_end_the_connection() {
    for bytes in [frame(PING, b""), frame(PONG, b"x"), frame(MORE, b"")] {
        let (now, mut session) = server(Options::default());
        session.handle_input(now, &frame(2, b"x"));
        session.handle_input(now, &bytes.repeat(200));
        assert_eq!(events(&mut session), []);
        // Twenty a second are given back.
        session.handle_input(now + Duration::from_secs(1), &bytes.repeat(20));
        assert_eq!(events(&mut session), []);
        session.handle_input(now + Duration::from_secs(1), &bytes.repeat(2));
        let closed = Event::Closed(CloseReason::Violation(Violation::Flood));
        assert_eq!(events(&mut session), [closed]);
    }
}

#[test]
fn a_peer_that_says_nothing_is_asked() {
    let (began, mut session) = server(Options::default());
    let ping = began + Duration::from_secs(30);
    assert_eq!(session.poll_timeout(), Some((ping, "websocket ping")));
    session.handle_timeout(ping);
    assert_eq!(sent(&mut session), [PING, 0]);
    let pong = ping + Duration::from_secs(15);
    assert_eq!(session.poll_timeout(), Some((pong, "websocket pong")));
    session.handle_input(ping + Duration::from_secs(1), &frame(PONG, b""));
    let next = ping + Duration::from_secs(31);
    assert_eq!(session.poll_timeout(), Some((next, "websocket ping")));
    session.handle_timeout(next);
    session.handle_timeout(next + Duration::from_secs(15));
    assert_eq!(
        events(&mut session),
        [Event::Closed(CloseReason::PongTimeout)]
    );
}

#[test]
fn a_message_that_drips_in_is_cut_off() {
    let (began, mut session) = server(Options::default());
    let bytes = frame(BINARY, &[0; 100]);
    for n in 0..4 {
        let now = began + Duration::from_secs(n * 20);
        if n < 3 {
            session.handle_input(now, &bytes[n as usize * 10..][..10]);
        }
    }
    let due = began + Duration::from_secs(60);
    assert_eq!(session.poll_timeout(), Some((due, "websocket message")));
    session.handle_timeout(due);
    let closed = Event::Closed(CloseReason::Violation(Violation::Timeout));
    assert_eq!(events(&mut session), [closed]);
}

#[test]
fn a_peer_that_does_not_read_is_closed() {
    let options = Options {
        queue_bytes_max: 10_000,
        ..Options::default()
    };
    let (_, mut session) = server(options);
    let message = Shared::binary(&[0; 1000], None);
    for n in 1..=9 {
        session.send_shared(&message);
        assert_eq!(session.queued_bytes(), n * message.plain_bytes());
    }
    session.send_shared(&message);
    assert_eq!(events(&mut session), [Event::Closed(CloseReason::Overfull)]);
    assert_eq!((session.queued_bytes(), session.poll_transmit()), (0, None));
}

#[test]
fn an_idle_session_holds_no_memory() {
    let (now, mut session) = server(Options::default());
    let input = [
        frame(BEGIN_TEXT, b"a"),
        frame(PING, b"b"),
        frame(LAST, b"c"),
    ]
    .concat();
    for byte in &input {
        session.handle_input(now, &[*byte]);
        events(&mut session);
    }
    sent(&mut session);
    assert_eq!(session.held_bytes(), 0);
}

/// Both sides with their handshake done.
fn connected(server: Options, client: Options) -> (Instant, Session, Session) {
    let now = start();
    let (mut handshake, request) = ClientHandshake::new("a", "/", "", client.deflate.is_some(), 1);
    let (request, _) = over_http(&request);
    let accepted = accept(&request, &server, &[]).unwrap();
    let mut server = Session::server(now, server, accepted);
    server.send_text("early");
    let bytes = sent(&mut server);
    let (front, back) = bytes.split_at(100);
    assert_eq!(handshake.handle_input(front), Ok(None));
    let (deflate, rest) = handshake.handle_input(back).unwrap().unwrap();
    let mut client = Session::client(now, client, deflate, 2);
    client.handle_input(now, &rest);
    assert_eq!(client.poll_event(), Some(text("early")));
    (now, server, client)
}

fn with_deflate(deflate: Option<DeflateOptions>) -> Options {
    Options {
        deflate,
        ..Options::default()
    }
}

#[test]
fn a_client_refuses_another_answer() {
    let answer = |change: &dyn Fn(&str) -> String| {
        let (mut handshake, request) = ClientHandshake::new("a", "/", "", true, 1);
        let (request, _) = over_http(&request);
        let options = Options::default();
        let accepted = accept(&request, &options, &[]).unwrap();
        let mut session = Session::server(start(), options, accepted);
        let head = String::from_utf8(sent(&mut session)).unwrap();
        handshake.handle_input(change(&head).as_bytes())
    };
    assert!(answer(&str::to_owned).is_ok());
    for (from, to) in [
        ("101", "200"),
        ("Accept: ", "Accept: x"),
        ("Upgrade: websocket\r\n", ""),
        ("permessage-deflate", "other"),
    ] {
        let refused = answer(&|head| head.replace(from, to));
        assert_eq!(refused, Err(HandshakeError::Answer), "{from}");
    }
}

#[test]
fn messages_are_compressed_when_it_is_worth_it() {
    let options = Options::default();
    let (now, mut server, mut client) = connected(options.clone(), options);
    let long = "the same again ".repeat(100);
    server.send_text("short");
    let bytes = sent(&mut server);
    assert_eq!(bytes, b"\x81\x05short");
    client.handle_input(now, &bytes);
    server.send_text(&long);
    let bytes = sent(&mut server);
    assert!(bytes[0] == 0xc1 && bytes.len() < 100, "{}", bytes.len());
    client.handle_input(now, &bytes);
    let shared = Shared::text(&long, Some(&DeflateOptions::default()));
    server.send_shared(&shared);
    assert_eq!(server.queued_bytes(), shared.deflated.unwrap().len());
    client.handle_input(now, &sent(&mut server));
    assert_eq!(
        events(&mut client),
        [text("short"), text(&long), text(&long)]
    );
}

#[test]
fn a_shared_message_does_not_enter_a_context() {
    let takeover = with_deflate(Some(DeflateOptions {
        context_takeover: true,
        ..DeflateOptions::default()
    }));
    let (now, mut server, mut client) = connected(takeover.clone(), takeover);
    let long = "the same again ".repeat(100);
    let shared = Shared::text(&long, Some(&DeflateOptions::default()));
    server.send_text(&long);
    let first = server.queued_bytes();
    server.send_shared(&shared);
    assert_eq!(server.queued_bytes(), first + shared.plain_bytes());
    server.send_text(&long);
    client.handle_input(now, &sent(&mut server));
    assert_eq!(events(&mut client), [text(&long), text(&long), text(&long)]);
}

#[test]
fn bombs_are_bounded_one_by_one_and_together() {
    let options = Options {
        message_bytes_max: 100_000,
        ..Options::default()
    };
    let large = Options {
        queue_bytes_max: 64 << 20,
        ..Options::default()
    };
    let (now, mut server, mut client) = connected(options, large);
    // Fifty messages of 90 kB in 5 kB: no more than two are inflated before they are taken.
    for _ in 0..50 {
        client.send_binary(&[0; 90_000]);
    }
    let bytes = sent(&mut client);
    assert!(bytes.len() < 10_000, "{}", bytes.len());
    server.handle_input(now, &bytes);
    for _ in 0..50 {
        assert!(server.held_bytes() <= 200_000, "{}", server.held_bytes());
        let event = server.poll_event();
        assert!(matches!(event, Some(Event::Message(_))), "{event:?}");
    }
    assert_eq!(server.poll_event(), None);
    client.send_binary(&[0; 100_001]);
    server.handle_input(now, &sent(&mut client));
    let closed = Event::Closed(CloseReason::Violation(Violation::TooLarge));
    assert_eq!(events(&mut server), [closed]);
}

#[test]
fn an_owner_that_takes_nothing_bounds_the_input() {
    let options = Options {
        message_bytes_max: 10_000,
        frame_bytes_max: 10_000,
        ..Options::default()
    };
    let (now, mut session) = server(options);
    for _ in 0..5 {
        session.handle_input(now, &frame(BINARY, &[0; 9000]));
    }
    assert!(session.held_bytes() < 50_000);
    let closed = Event::Closed(CloseReason::Violation(Violation::Flood));
    assert_eq!(events(&mut session).last(), Some(&closed));
}

fn deflates() -> impl Strategy<Value = Option<DeflateOptions>> {
    let some = (any::<bool>(), 9u8..=15, 1u8..=9).prop_map(|(context_takeover, bits, level)| {
        DeflateOptions {
            level,
            threshold_bytes: 20,
            context_takeover,
            window_bits: bits,
        }
    });
    prop_oneof![Just(None), some.prop_map(Some)]
}

fn messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        "\\PC{0,200}".prop_map(Message::Text),
        proptest::collection::vec(any::<u8>(), 0..400).prop_map(Message::Binary),
        (0usize..70_000).prop_map(|length| Message::Binary(vec![7; length])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sent_arrives_however_it_is_cut(
        server in deflates(),
        client in deflates(),
        list in proptest::collection::vec((any::<bool>(), messages()), 0..12),
        pieces in proptest::collection::vec(1usize..5000, 1..20),
    ) {
        let (now, mut server, mut client) = connected(with_deflate(server), with_deflate(client));
        let (mut down, mut up) = (Vec::new(), Vec::new());
        for (is_down, message) in list {
            let session = if is_down { &mut server } else { &mut client };
            match &message {
                Message::Text(text) => session.send_text(text),
                Message::Binary(bytes) => session.send_binary(bytes),
            }
            let list = if is_down { &mut down } else { &mut up };
            list.push(Event::Message(message));
        }
        for is_down in [true, false] {
            let (from, to, expected) = if is_down {
                (&mut server, &mut client, &down)
            } else {
                (&mut client, &mut server, &up)
            };
            let (bytes, mut told) = (sent(from), Vec::new());
            let (mut rest, mut sizes) = (&bytes[..], pieces.iter().cycle());
            while !rest.is_empty() {
                let size = sizes.next().copied().unwrap_or(1).min(rest.len());
                to.handle_input(now, &rest[..size]);
                rest = &rest[size..];
                told.extend(events(to));
            }
            prop_assert_eq!(&told, expected);
        }
    }
}
