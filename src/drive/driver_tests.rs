use super::*;
use std::net::UdpSocket;

use bytes::Bytes;

use crate::io::bind_udp;

/// A session of a driver that has datagram sockets only.
struct Idle;

impl Session for Idle {
    type Event = ();

    fn handle_input(&mut self, _now: Instant, _bytes: &[u8]) {}
    fn handle_timeout(&mut self, _now: Instant) {}
    fn poll_transmit(&mut self) -> Option<Bytes> {
        None
    }
    fn poll_event(&mut self) -> Option<()> {
        None
    }
    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        None
    }
}

fn bound() -> (Driver<Idle>, DatagramIndex, SocketAddr) {
    let mut driver = Driver::new(Options::default(), Limits::default()).unwrap();
    let fd = bind_udp("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = UdpSocket::from(fd.try_clone().unwrap())
        .local_addr()
        .unwrap();
    let socket = driver.bind_datagram(fd).unwrap();
    (driver, socket, address)
}

fn turn_once(driver: &mut Driver<Idle>) {
    let deadline = clock::now() + Duration::from_millis(500);
    driver.turn(true, Some(deadline)).unwrap();
}

#[test]
fn a_datagram_is_answered_from_where_it_lies() {
    let (mut driver, socket, address) = bound();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    peer.send_to(b"ping", address).unwrap();

    turn_once(&mut driver);
    let Some(Occurrence::Datagram(at, received)) = driver.poll() else {
        panic!("the datagram has arrived");
    };
    let datagram = driver.datagram(&received);
    let (from, answer) = (datagram.from, Bytes::copy_from_slice(datagram.bytes));
    driver.give_back_datagram(received);
    driver.send_datagrams(at, from, std::iter::once(Piece::Bytes(answer)), None);
    driver.submit().unwrap();

    let mut buffer = [0; 64];
    let len = peer.recv(&mut buffer).unwrap();
    assert_eq!((at, &buffer[..len]), (socket, &b"ping"[..]));
    assert_eq!(driver.counters().0.received_bytes, 4);
}

#[test]
fn nothing_is_told_of_a_closed_datagram_socket() {
    let (mut driver, socket, address) = bound();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.send_to(b"unread", address).unwrap();
    turn_once(&mut driver);

    driver.close_datagram(socket);

    assert!(driver.poll().is_none());
}
