//! Tests of a client's side, against the server's.

use std::time::Instant;
use std::time::Instant as Clock;

use super::*;
use crate::proto::replication::{Connection, Port, frame, frame_pushed};

/// Moves bytes both ways, cut into pieces, until nobody has any.
fn exchange(now: Instant, client: &mut ClientConnection, server: &mut Connection) {
    loop {
        let up: Vec<Bytes> = std::iter::from_fn(|| client.poll_transmit()).collect();
        let down: Vec<Bytes> = std::iter::from_fn(|| server.poll_transmit()).collect();
        if up.is_empty() && down.is_empty() {
            return;
        }
        let pieces = |bytes: Vec<Bytes>| bytes.concat();
        pieces(up)
            .chunks(5)
            .for_each(|piece| server.handle_input(now, piece));
        pieces(down)
            .chunks(5)
            .for_each(|piece| client.handle_input(piece));
    }
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs some instant to start from"
)]
fn both_sides_understand_each_other_on_each_wire() {
    let now = Clock::now();
    for (wire, channel, port) in [
        (Wire::Zmtp, Channel::Command, Port::First),
        (Wire::Zmtp, Channel::Data, Port::Second),
        (Wire::Zmtp, Channel::Ttl, Port::Third),
        (Wire::Tcp, Channel::Command, Port::First),
        (Wire::Tcp, Channel::Data, Port::First),
        (Wire::Tcp, Channel::Ttl, Port::First),
    ] {
        let mut client = ClientConnection::new(wire, channel, "0123456789abcdef");
        let mut server = Connection::new(now, port);
        exchange(now, &mut client, &mut server);
        let identity = Bytes::from_static(b"0123456789abcdef");
        let opened = Event::Opened {
            wire,
            channel,
            identity,
        };
        assert_eq!(server.poll_event(), Some(opened));
        let opened = client.poll_event();
        assert!(matches!(opened, Some(Event::Opened { channel: said, .. }) if said == channel));

        let parts = [vec![Bytes::from_static(b"one")], vec![vec![7; 300].into()]];
        let message = frame(wire, &parts).concat();
        let whole = Event::Message(parts.iter().map(|part| part.concat().into()).collect());
        for piece in message.chunks(7) {
            client.handle_input(piece);
            server.handle_input(now, piece);
        }
        assert_eq!(client.poll_event(), Some(whole.clone()));
        assert_eq!(server.poll_event(), Some(whole));
        assert_eq!(client.poll_event(), None);
    }
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs some instant to start from"
)]
fn generation_a_sends_and_gets_commands_and_nodes_as_if_they_were_of_the_later_ones() {
    let now = Clock::now();
    let wire = Wire::FourPorts;
    let open = |channel| {
        let ports = [Port::First, Port::Second, Port::Third, Port::Fourth];
        let mut client = ClientConnection::new(wire, channel, "me");
        let mut server = Connection::new(now, ports[usize::from(wire.port(channel))]);
        exchange(now, &mut client, &mut server);
        assert!(matches!(client.poll_event(), Some(Event::Opened { .. })));
        (client, server)
    };
    let parts = |parts: &[&'static [u8]]| -> Vec<Bytes> {
        parts.iter().map(|part| Bytes::from_static(part)).collect()
    };
    let framed = |parts: &[Bytes]| {
        let parts: Vec<_> = parts.iter().map(|part| vec![part.clone()]).collect();
        frame(wire, &parts).concat()
    };

    let (mut client, _) = open(Channel::Command);
    let kick = parts(&[b"\x80\x04K\x0b.", b"server", b"N."]);
    client.handle_input(&framed(&kick));
    assert_eq!(client.poll_event(), Some(Event::Message(kick)));
    client.handle_input(&framed(&parts(&[b"nonsense"])));
    let nonsense = Event::Message(parts(&[b"nonsense"]));
    assert_eq!(client.poll_event(), Some(nonsense));

    let node = parts(&[b"Thing", b"cube", b"COMMON", b"].", b"data"]);
    let (mut client, _) = open(Channel::Data);
    let sent = framed(&node);
    let (half, rest) = sent.split_at(sent.len() - 3);
    client.handle_input(half);
    assert_eq!(client.poll_event(), None);
    client.handle_input(rest);
    assert_eq!(client.poll_event(), Some(Event::Message(node.clone())));
    client.handle_input(&framed(&parts(&[b"data"])));
    assert_eq!(client.poll_event(), Some(Event::Failed(Error::Pair)));

    let (_, mut server) = open(Channel::Push);
    let whole = <[Bytes; 5]>::try_from(node.clone()).unwrap();
    let sent = frame_pushed("me", &whole.map(|part| vec![part])).concat();
    server.handle_input(now, &sent);
    let opened = server.poll_event();
    assert!(matches!(opened, Some(Event::Opened { identity, .. }) if identity == "me"));
    server.trust();
    assert_eq!(server.poll_event(), Some(Event::Message(node)));
}

#[test]
fn a_server_of_another_kind_is_none() {
    let mut client = ClientConnection::new(Wire::Zmtp, Channel::Data, "me");
    let mut other = zmtp::Session::new(USER);
    other.ready(Own {
        socket_type: "PUB",
        identity: Some(""),
    });
    while let Some(bytes) = other.poll_transmit() {
        client.handle_input(&bytes);
    }
    assert_eq!(client.poll_event(), Some(Event::Failed(Error::SocketType)));
}
