use super::*;
use std::net::UdpSocket;
use std::time::Duration;

use bytes::Bytes;

use crate::io::net::{Options, Wait};
use crate::io::udp::bind_udp;

/// Long enough for the loopback, which delivers within the send.
const PATIENCE: Duration = Duration::from_millis(200);

fn net(options: Options) -> Net {
    Net::new(options).unwrap()
}

fn bound(net: &mut Net, address: &str) -> (DatagramIndex, SocketAddr) {
    let fd = bind_udp(address.parse().unwrap(), false).unwrap();
    let socket = net.bind_datagram(fd).unwrap();
    let address = net.datagram_address(socket).unwrap();
    (socket, address)
}

/// What has arrived, owned.
#[derive(Debug, PartialEq)]
struct Arrived {
    socket: DatagramIndex,
    from: SocketAddr,
    bytes: Vec<u8>,
    segment_bytes: Option<u16>,
    is_truncated: bool,
}

/// Receives until `count` datagrams are there, or nothing comes.
fn receive(net: &mut Net, count: usize) -> Vec<Arrived> {
    let mut arrived = Vec::new();
    while arrived.len() < count {
        let before = net.statistics().completions;
        net.wait(Wait::One(Some(PATIENCE))).unwrap();
        while let Some(completion) = net.completion() {
            let Completion::Datagram(socket, received) = completion else {
                continue;
            };
            let datagram = net.datagram(&received);
            arrived.push(Arrived {
                socket,
                from: datagram.from,
                bytes: datagram.bytes.to_vec(),
                segment_bytes: datagram.segment_bytes,
                is_truncated: datagram.is_truncated,
            });
            net.give_back_datagram(received);
        }
        if net.statistics().completions == before {
            break;
        }
    }
    arrived
}

fn pieces(bytes: &[u8], count: usize) -> impl Iterator<Item = Piece> {
    bytes
        .chunks(bytes.len().div_ceil(count).max(1))
        .map(|chunk| Piece::Bytes(Bytes::copy_from_slice(chunk)))
}

fn peer(address: &str) -> UdpSocket {
    let peer = UdpSocket::bind(address).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer
}

/// Waits until the kernel has answered every send, and nothing but idle memory is left.
fn assert_no_leak(net: &mut Net) {
    net.wait(Wait::No).unwrap();
    let memory = net.datagrams.memory.as_ref().unwrap();
    assert_eq!(memory.held, 0);
    assert_eq!(memory.idle.len(), SENDS_MAX);
    assert!(memory.sends.iter().all(|send| send.pieces.is_empty()));
}

#[test]
fn datagrams_of_several_senders_arrive_with_their_addresses() {
    let mut net = net(Options::default());
    let (socket, address) = bound(&mut net, "127.0.0.1:0");
    let peers: Vec<_> = (0..5).map(|_| peer("127.0.0.1:0")).collect();
    for round in 0..20u8 {
        for (number, peer) in peers.iter().enumerate() {
            peer.send_to(&vec![round; number * 300], address).unwrap();
        }
    }

    let arrived = receive(&mut net, 100);

    assert_eq!(arrived.len(), 100);
    for (number, peer) in peers.iter().enumerate() {
        let of_peer = arrived
            .iter()
            .filter(|datagram| datagram.from == peer.local_addr().unwrap());
        for (round, datagram) in of_peer.enumerate() {
            assert_eq!(datagram.bytes, vec![round as u8; number * 300]);
            assert_eq!(datagram.socket, socket);
            assert!(!datagram.is_truncated);
        }
    }
    assert_eq!(net.statistics().datagrams_received, 100);
    assert_no_leak(&mut net);
}

#[test]
fn datagrams_without_payload_do_not_end_the_reception() {
    let mut net = net(Options::default());
    let (_, address) = bound(&mut net, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    for _ in 0..3 {
        peer.send_to(b"", address).unwrap();
        peer.send_to(b"x", address).unwrap();
    }

    let lengths: Vec<_> = receive(&mut net, 6)
        .iter()
        .map(|datagram| datagram.bytes.len())
        .collect();

    assert_eq!(lengths, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn a_datagram_larger_than_the_buffer_is_cut_marked_and_counted() {
    let mut net = net(Options::default());
    let (_, address) = bound(&mut net, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    peer.send_to(&[1; 2000], address).unwrap();
    peer.send_to(&[2; 5000], address).unwrap();
    peer.send_to(&[3; 10], address).unwrap();

    let arrived = receive(&mut net, 3);

    let seen: Vec<_> = arrived
        .iter()
        .map(|datagram| (datagram.bytes.len(), datagram.is_truncated))
        .collect();
    assert_eq!(seen, [(2000, false), (2000, true), (10, false)]);
    assert_eq!(net.statistics().datagrams_truncated, 1);
}

#[test]
fn both_families_are_served_and_ipv4_looks_the_same_on_both() {
    let mut net = net(Options::default());
    let (v6, v6_address) = bound(&mut net, "[::1]:0");
    let (both, both_address) = bound(&mut net, "[::]:0");
    let peer_v4 = peer("127.0.0.1:0");
    let peer_v6 = peer("[::1]:0");
    let (from_v4, from_v6) = (peer_v4.local_addr().unwrap(), peer_v6.local_addr().unwrap());
    peer_v6.send_to(b"six", v6_address).unwrap();
    peer_v4
        .send_to(b"four", ("127.0.0.1", both_address.port()))
        .unwrap();
    peer_v6
        .send_to(b"both", ("::1", both_address.port()))
        .unwrap();

    let arrived = receive(&mut net, 3);
    net.send_datagrams(v6, from_v6, pieces(b"to six", 1), None);
    net.send_datagrams(both, from_v4, pieces(b"to four", 1), None);
    net.submit().unwrap();

    let mut seen: Vec<_> = arrived
        .iter()
        .map(|datagram| (datagram.from, &*datagram.bytes))
        .collect();
    seen.sort_by_key(|(_, bytes)| bytes.to_vec());
    assert_eq!(
        seen,
        [
            (from_v6, &b"both"[..]),
            (from_v4, &b"four"[..]),
            (from_v6, &b"six"[..])
        ]
    );
    let mut buffer = [0; 64];
    assert_eq!(peer_v6.recv(&mut buffer).unwrap(), 6);
    assert_eq!(peer_v4.recv(&mut buffer).unwrap(), 7);
}

#[test]
fn reception_goes_on_when_buffers_come_back() {
    let mut net = net(Options {
        udp_buffers: 8,
        ..Options::default()
    });
    let (_, address) = bound(&mut net, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    for number in 0..50u8 {
        peer.send_to(&[number], address).unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..5 {
        net.wait(Wait::One(Some(PATIENCE))).unwrap();
        while let Some(completion) = net.completion() {
            if let Completion::Datagram(_, received) = completion {
                held.push(received);
            }
        }
    }
    assert_eq!(held.len(), 8, "as many as there are buffers");
    assert_eq!(net.statistics().no_buffers, 1, "not asked again meanwhile");
    for received in held {
        net.give_back_datagram(received);
    }

    let numbers: Vec<_> = receive(&mut net, 42)
        .iter()
        .map(|datagram| datagram.bytes[0])
        .collect();

    assert_eq!(numbers, (8..50).collect::<Vec<_>>());
    assert_no_leak(&mut net);
}

#[test]
fn one_send_of_eight_segments_arrives_as_eight_datagrams() {
    let mut net = net(Options::default());
    let (socket, _) = bound(&mut net, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    let bytes: Vec<u8> = (0..8 * 1200 - 100).map(|at| (at / 7) as u8).collect();

    let to = peer.local_addr().unwrap();
    net.send_datagrams(socket, to, pieces(&bytes, 11), Some(1200));
    net.wait(Wait::No).unwrap();

    for expected in bytes.chunks(1200) {
        let mut buffer = [0; 2048];
        let len = peer.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], expected);
    }
    let statistics = net.statistics();
    assert_eq!(
        (statistics.datagram_sends, statistics.datagrams_sent),
        (1, 8)
    );
    assert_no_leak(&mut net);
}

#[test]
fn large_buffers_take_what_the_kernel_puts_together() {
    let mut net = net(Options {
        udp_buffers: 8,
        udp_buffer_bytes: COALESCE_BUFFER_BYTES,
        ..Options::default()
    });
    let (from, from_address) = bound(&mut net, "127.0.0.1:0");
    let (_, to) = bound(&mut net, "127.0.0.1:0");
    let bytes: Vec<u8> = (0..8 * 1200 - 100).map(|at| (at / 7) as u8).collect();

    net.send_datagrams(from, to, pieces(&bytes, 1), Some(1200));
    net.send_datagrams(from, to, pieces(b"alone", 1), None);
    let arrived = receive(&mut net, 2);

    assert_eq!(arrived[0].bytes, bytes);
    assert_eq!(arrived[0].segment_bytes, Some(1200));
    assert_eq!(arrived[0].from, from_address);
    assert_eq!(arrived[1].bytes, b"alone");
    assert_eq!(arrived[1].segment_bytes, None);
}

#[test]
#[should_panic(expected = "a send has few datagrams")]
fn more_segments_than_the_limit_are_refused() {
    let mut net = net(Options::default());
    let (socket, address) = bound(&mut net, "127.0.0.1:0");
    net.send_datagrams(socket, address, pieces(&[0; 1700], 1), Some(100));
}

#[test]
fn two_rings_share_a_port() {
    let mut first = net(Options::default());
    let fd = bind_udp("127.0.0.1:0".parse().unwrap(), true).unwrap();
    let socket = first.bind_datagram(fd).unwrap();
    let address = first.datagram_address(socket).unwrap();
    let mut second = net(Options::default());
    second
        .bind_datagram(bind_udp(address, true).unwrap())
        .unwrap();
    for _ in 0..64 {
        let peer = peer("127.0.0.1:0");
        peer.send_to(b"a", address).unwrap();
        peer.send_to(b"b", address).unwrap();
    }

    let of_first = receive(&mut first, 128);
    let of_second = receive(&mut second, 128);

    assert_eq!(of_first.len() + of_second.len(), 128);
    assert!(!of_first.is_empty() && !of_second.is_empty());
    // Of the 4-tuple: both datagrams of a peer are at the same ring.
    for arrived in [of_first, of_second] {
        for pair in arrived.chunks(2) {
            assert_eq!(pair[0].from, pair[1].from);
        }
    }
}

#[test]
fn thousands_of_sends_leave_nothing_behind() {
    let mut net = net(Options::default());
    let (socket, address) = bound(&mut net, "127.0.0.1:0");
    let mut received = 0;
    for round in 0..5000usize {
        let bytes = vec![round as u8; 1 + round % 1500];
        net.send_datagrams(socket, address, pieces(&bytes, 1 + round % 8), Some(400));
        if round % 32 == 0 {
            received += receive(&mut net, 1).len();
        }
    }
    received += receive(&mut net, usize::MAX).len();

    let statistics = net.statistics();
    assert_eq!(statistics.datagram_sends, 5000);
    assert_eq!(statistics.datagrams_sent, received as u64);
    assert_eq!(statistics.datagram_sends_dropped, 0);
    assert_no_leak(&mut net);
}

#[test]
fn sends_beyond_the_limit_are_dropped_and_counted() {
    let mut net = net(Options {
        sq_entries: 1024,
        ..Options::default()
    });
    let (socket, _) = bound(&mut net, "127.0.0.1:0");
    let to = peer("127.0.0.1:0").local_addr().unwrap();

    for _ in 0..SENDS_MAX + 88 {
        net.send_datagrams(socket, to, pieces(b"x", 1), None);
    }
    net.submit().unwrap();

    assert_eq!(net.statistics().datagram_sends, SENDS_MAX as u64);
    assert_eq!(net.statistics().datagram_sends_dropped, 88);
    assert_no_leak(&mut net);
}

#[test]
fn failed_sends_are_counted_and_leave_nothing_behind() {
    let mut net = net(Options::default());
    let (socket, address) = bound(&mut net, "127.0.0.1:0");
    let too_long = vec![0; 66_000];
    net.send_datagrams(socket, address, pieces(&too_long, 1), None);
    net.send_datagrams(socket, "[::1]:9".parse().unwrap(), pieces(b"x", 1), None);
    net.submit().unwrap();

    assert_eq!(net.statistics().datagram_sends_failed, 2);
    assert_eq!(net.statistics().datagrams_sent, 0);
    assert_eq!(net.segments_max(socket), SEGMENTS_MAX);
    assert_no_leak(&mut net);
}

#[test]
fn a_closed_socket_tells_nothing_more_and_leaves_its_port() {
    let mut net = net(Options::default());
    let (socket, address) = bound(&mut net, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    peer.send_to(b"unread", address).unwrap();
    net.wait(Wait::One(Some(PATIENCE))).unwrap();
    let to = peer.local_addr().unwrap();
    net.send_datagrams(socket, to, pieces(b"last", 1), None);

    net.close_datagram(socket);
    peer.send_to(b"late", address).unwrap();
    let arrived = receive(&mut net, 1);
    net.send_datagrams(socket, to, pieces(b"too late", 1), None);

    assert_eq!(arrived, []);
    assert!(net.datagrams.is_quiet());
    assert_eq!(net.statistics().datagram_sends_dropped, 1);
    let mut buffer = [0; 64];
    assert_eq!(peer.recv(&mut buffer).unwrap(), 4, "sent before the close");
    assert_no_leak(&mut net);
    UdpSocket::bind(address).unwrap();
}

#[test]
fn a_ring_with_operations_under_way_can_be_dropped() {
    let mut net = net(Options::default());
    let (socket, address) = bound(&mut net, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    peer.send_to(b"unread", address).unwrap();
    net.wait(Wait::One(Some(PATIENCE))).unwrap();
    peer.send_to(b"not even seen", address).unwrap();
    let bytes = Bytes::from(vec![7; 1000]);
    for _ in 0..100 {
        let pieces = std::iter::once(Piece::Bytes(bytes.clone()));
        net.send_datagrams(socket, peer.local_addr().unwrap(), pieces, None);
    }

    drop(net);

    assert!(bytes.is_unique(), "no send holds its bytes");
    UdpSocket::bind(address).unwrap();
}
