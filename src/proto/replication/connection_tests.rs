//! Tests of connections of both wires.

use std::time::Instant as Clock;

use super::*;
use crate::proto::replication::{Part, frame};

#[allow(
    clippy::disallowed_methods,
    reason = "a test needs some instant to start from"
)]
fn start() -> Instant {
    Clock::now()
}

fn part(bytes: &'static [u8]) -> Part {
    vec![Bytes::from_static(bytes)]
}

fn opened(port: Port, input: &[u8]) -> (Connection, Option<Event>) {
    let mut connection = Connection::new(start(), port);
    for piece in input.chunks(3) {
        connection.handle_input(start(), piece);
    }
    let event = connection.poll_event();
    (connection, event)
}

fn zmtp_input(socket_type: &[u8]) -> Vec<u8> {
    let mut input = b"\xff\0\0\0\0\0\0\0\x11\x7f\x03\x00NULL".to_vec();
    input.resize(64, 0);
    let mut body = b"\x05READY\x0bSocket-Type\0\0\0".to_vec();
    body.push(socket_type.len() as u8);
    body.extend_from_slice(socket_type);
    body.extend_from_slice(b"\x08Identity\0\0\0\x02id");
    input.extend([4, body.len() as u8]);
    input.extend(body);
    input
}

#[test]
fn tells_the_wires_apart_by_their_first_byte() {
    for (role, channel) in [
        (b'C', Channel::Command),
        (b'D', Channel::Data),
        (b'T', Channel::Ttl),
    ] {
        let (mut connection, event) = opened(Port::First, &[0, 0, 0, 2, b'i', b'd', role]);
        let identity = Bytes::from_static(b"id");
        let wire = Wire::Tcp;
        assert_eq!(
            event,
            Some(Event::Opened {
                wire,
                channel,
                identity
            })
        );
        assert_eq!(connection.poll_transmit(), None);
        assert_eq!(connection.poll_timeout(), None);
    }
    for (port, channel) in [
        (Port::First, Channel::Command),
        (Port::Second, Channel::Data),
        (Port::Third, Channel::Ttl),
    ] {
        let (mut connection, event) = opened(port, &zmtp_input(b"DEALER"));
        let identity = Bytes::from_static(b"id");
        let wire = Wire::Zmtp;
        assert_eq!(
            event,
            Some(Event::Opened {
                wire,
                channel,
                identity
            })
        );
        assert_eq!(connection.poll_transmit().map(|sent| sent.len()), Some(64));
        assert!(connection.poll_transmit().is_some());
    }
}

#[test]
fn what_is_framed_is_read_again() {
    let parts = [part(b"one"), part(b""), part(&[7; 5000])];
    let heads = [
        (Wire::Tcp, vec![0, 0, 0, 1, b'i', b'C']),
        (Wire::Zmtp, zmtp_input(b"DEALER")),
    ];
    for (wire, head) in heads {
        let (mut connection, _) = opened(Port::First, &head);
        let pieces = frame(wire, &parts);
        assert_eq!(
            pieces[1].as_ptr(),
            parts[2][0].as_ptr(),
            "big parts are shared"
        );
        for piece in pieces {
            connection.handle_input(start(), &piece);
        }
        let whole: Vec<Bytes> = parts.iter().map(|part| part[0].clone()).collect();
        assert_eq!(connection.poll_event(), Some(Event::Message(whole)));
    }
}

#[test]
fn strangers_send_little() {
    let head = [0, 0, 0, 1, b'i', b'D'];
    let big = [0, 0, 0, 1, 0, 16, 0, 0];
    let (mut connection, _) = opened(Port::First, &head);
    connection.handle_input(start(), &big);
    assert_eq!(connection.poll_event(), Some(Event::Failed(Error::Size)));

    let (mut connection, _) = opened(Port::First, &head);
    connection.trust();
    connection.handle_input(start(), &big);
    assert_eq!(connection.poll_event(), None);
}

#[test]
fn nothing_of_whoever_is_refused_is_taken() {
    let mut input = zmtp_input(b"PUSH");
    input.extend(b"\0\x02hi\0\x02ho");
    let mut connection = Connection::new(start(), Port::Second);
    connection.handle_input(start(), &input);
    connection.handle_input(start(), b"\0\x02hi");
    let failed = Event::Failed(Error::SocketType);
    assert_eq!(connection.poll_event(), Some(failed));
    assert_eq!(connection.poll_event(), None);
    // It is told why.
    let sent: Vec<Bytes> = std::iter::from_fn(|| connection.poll_transmit()).collect();
    assert!(sent.concat().windows(5).any(|name| name == b"ERROR"));
}

/// What a client of generation A sends with a node of so many bytes.
fn pushed(sender: &'static [u8], count: usize) -> Vec<u8> {
    let head = [
        sender,
        b"cube",
        b"COMMON",
        b"Thing",
        b"\x80\x04K\x01.",
        b"]",
    ]
    .map(part);
    let data = [vec![Bytes::from(vec![5; count])]];
    [
        frame(Wire::Zmtp, &head).concat(),
        frame(Wire::Zmtp, &data).concat(),
    ]
    .concat()
}

#[test]
fn a_socket_without_identity_says_whose_it_is_with_its_first_node() {
    let (mut connection, event) = opened(Port::Third, &zmtp_input(b"PUSH"));
    assert_eq!((event, connection.poll_timeout()), (None, None));
    let sent: Vec<Bytes> = std::iter::from_fn(|| connection.poll_transmit()).collect();
    assert_eq!(
        sent.concat()[64..],
        *b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PULL"
    );
    // What follows waits until it is known whether the sender has logged in.
    connection.handle_input(start(), &pushed(b"me", 100_000));
    let opened = Event::Opened {
        wire: Wire::FourPorts,
        channel: Channel::Push,
        identity: Bytes::from_static(b"me"),
    };
    assert_eq!(connection.poll_event(), Some(opened));
    connection.handle_input(start(), &pushed(b"me", 1));
    assert_eq!(connection.poll_event(), None);
    connection.trust();
    for count in [100_000, 1] {
        let Some(Event::Message(node)) = connection.poll_event() else {
            panic!("no node");
        };
        assert_eq!(
            node[..2],
            [Bytes::from_static(b"Thing"), Bytes::from_static(b"cube")]
        );
        assert_eq!(node[4].len(), count);
    }
    connection.handle_input(start(), &pushed(b"you", 1));
    assert_eq!(connection.poll_event(), Some(Event::Failed(Error::Pair)));
    connection.handle_input(start(), &pushed(b"me", 1));
    assert_eq!(connection.poll_event(), None, "nothing follows a failure");
}

#[test]
fn what_waits_for_a_login_has_an_end() {
    let (mut connection, _) = opened(Port::Third, &zmtp_input(b"PUSH"));
    connection.handle_input(start(), &pushed(b"me", 1));
    assert!(matches!(
        connection.poll_event(),
        Some(Event::Opened { .. })
    ));
    connection.handle_input(start(), &vec![0; HELD_MAX - 100]);
    assert_eq!(connection.poll_event(), None);
    connection.handle_input(start(), &[0; 200]);
    assert_eq!(connection.poll_event(), Some(Event::Failed(Error::Size)));
    let (mut connection, _) = opened(Port::Third, &zmtp_input(b"PUSH"));
    connection.handle_input(start(), &pushed(b"", 1));
    assert_eq!(connection.poll_event(), Some(Event::Failed(Error::Pair)));
}

#[test]
fn refuses_others() {
    let failed = |event| match event {
        Some(Event::Failed(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(failed(opened(Port::First, b"GET /").1), Error::Greeting);
    assert_eq!(
        failed(opened(Port::Second, &[0, 0, 0, 1]).1),
        Error::Greeting
    );
    assert_eq!(
        failed(opened(Port::First, &[0, 0, 9, 0]).1),
        Error::Greeting
    );
    assert_eq!(
        failed(opened(Port::Fourth, &zmtp_input(b"PUSH")).1),
        Error::SocketType
    );
    assert_eq!(
        failed(opened(Port::First, &[0, 0, 0, 1, b'i', b'X']).1),
        Error::Greeting
    );
    let (mut connection, event) = opened(Port::First, &[0, 0]);
    assert_eq!(event, None);
    let (until, _) = connection.poll_timeout().unwrap();
    connection.handle_timeout(until);
    assert_eq!(failed(connection.poll_event()), Error::Slow);
}
