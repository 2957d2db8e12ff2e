//! Tests of one connection.

use super::*;

const LIMITS: Limits = Limits {
    parts_max: 3,
    message_bytes_max: 1000,
};

fn greeting() -> Vec<u8> {
    let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0x11, 0x7f, 3, 1];
    greeting.extend_from_slice(b"NULL");
    greeting.resize(GREETING, 0);
    greeting
}

fn ready() -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x02ab".to_vec();
    let mut frame = vec![COMMAND, body.len() as u8];
    frame.append(&mut body);
    frame
}

fn opened() -> Session {
    let mut session = Session::new(LIMITS);
    session.handle_input(&greeting());
    session.handle_input(&ready());
    let peer = Peer {
        socket_type: b"DEALER".to_vec(),
        identity: b"ab".to_vec(),
    };
    assert_eq!(session.poll_event(), Some(Event::Ready(peer)));
    while session.poll_transmit().is_some() {}
    session
}

#[test]
fn says_what_the_original_says() {
    let mut session = Session::new(LIMITS);
    session.ready(Own {
        socket_type: "ROUTER",
        identity: Some("SERVER_COMMAND"),
    });
    let sent = session.poll_transmit().unwrap();
    assert_eq!(sent.len(), 64);
    assert_eq!(sent[..16], *b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL");
    assert_eq!(
        session.poll_transmit().unwrap(),
        b"\x04\x37\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\x0eSERVER_COMMAND"
            .as_slice()
    );
}

#[test]
fn messages_come_whole_however_they_are_cut() {
    let mut input = greeting();
    input.extend(ready());
    input.extend(b"\x01\x02hi\x03\0\0\0\0\0\0\0\x03you\0\0");
    input.extend(b"\x04\x0a\x04PING\0\x05xyz");
    for step in 1..input.len() {
        let mut session = Session::new(LIMITS);
        for piece in input.chunks(step) {
            session.handle_input(piece);
        }
        assert!(matches!(session.poll_event(), Some(Event::Ready(_))));
        let parts = [&b"hi"[..], b"you", b""].map(Bytes::from_static);
        assert_eq!(session.poll_event(), Some(Event::Message(parts.to_vec())));
        assert_eq!(session.poll_event(), None);
        session.poll_transmit();
        assert_eq!(
            session.poll_transmit().unwrap(),
            b"\x04\x08\x04PONGxyz".as_slice()
        );
    }
}

#[test]
fn refuses_what_is_none_of_it() {
    let failed = |session: &mut Session| match session.poll_event() {
        Some(Event::Failed(error)) => error,
        other => panic!("{other:?}"),
    };
    let mut session = Session::new(LIMITS);
    session.handle_input(b"GET / HTTP/1.1");
    assert_eq!(failed(&mut session), Error::Greeting);

    let mut session = Session::new(LIMITS);
    let mut plain = greeting();
    plain[12..17].copy_from_slice(b"PLAIN");
    session.handle_input(&plain);
    assert_eq!(failed(&mut session), Error::Mechanism);

    let mut session = Session::new(LIMITS);
    session.handle_input(&greeting());
    session.handle_input(b"\0\x01x");
    assert_eq!(failed(&mut session), Error::Early);

    for (input, error) in [
        (&b"\x01\0\x01\0\x01\0\0\0"[..], Error::Parts),
        (b"\x02\0\0\0\0\0\0\x10\0", Error::Size),
        (b"\x02\xff\xff\xff\xff\xff\xff\xff\xff", Error::Size),
        (b"\x08\0", Error::Flags),
        (b"\x04\x02\x05R", Error::Command),
        (b"\x06\0\0\0\0\0\0\x10\0", Error::Command),
    ] {
        let mut session = opened();
        session.handle_input(input);
        session.handle_input(b"more of it");
        if error == Error::Command && input.len() < 5 {
            assert_eq!(session.poll_event(), Some(Event::Failed(error)));
        } else {
            assert_eq!(failed(&mut session), error, "{input:?}");
        }
        assert_eq!(session.poll_event(), None);
    }
}

#[test]
fn an_announcement_costs_no_memory() {
    let mut session = opened();
    session.set_limits(Limits {
        parts_max: 1,
        message_bytes_max: usize::MAX,
    });
    session.handle_input(b"\x02\0\0\0\x20\0\0\0\0some");
    let State::Body(_, body) = &session.state else {
        panic!("a body comes");
    };
    assert!(format!("{body:?}").len() < 1000);
    assert_eq!(session.poll_event(), None);
}
