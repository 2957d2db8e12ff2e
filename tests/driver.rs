//! The driver over real loopback sockets, one test at a time so that descriptors can be counted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::ids::ConnId;
use ringside::base::prng::Prng;
use ringside::drive::{Driver, Gone, Limits, Occurrence, Session};
use ringside::io::{Options, Piece};
use ringside::media::buffer::Pool;
use ringside::shard::clock;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends back what it gets. `!` asks for a large answer, and for the end after it.
struct Echo {
    out: VecDeque<Bytes>,
    events: VecDeque<Said>,
    timer: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Bytes(usize),
    Enough,
    TimeIsUp,
}

const LARGE: usize = 3 << 20;

impl Session for Echo {
    type Event = Said;

    fn handle_input(&mut self, _now: Instant, bytes: &[u8]) {
        if bytes.ends_with(b"!") {
            self.events.push_back(Said::Enough);
        } else {
            self.out.push_back(Bytes::copy_from_slice(bytes));
            self.events.push_back(Said::Bytes(bytes.len()));
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.timer.is_some_and(|at| at <= now) {
            self.timer = None;
            self.events.push_back(Said::TimeIsUp);
        }
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    fn poll_event(&mut self) -> Option<Said> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.timer.map(|at| (at, "test"))
    }
}

/// A driver, and what it has told.
struct Rig {
    driver: Driver<Echo>,
    address: SocketAddr,
    /// For sessions that are opened.
    timer: Option<Duration>,
    conns: Vec<ConnId>,
    said: Vec<(ConnId, Said)>,
    drained: BTreeMap<ConnId, u32>,
    gone: BTreeMap<ConnId, Gone>,
    _turn: MutexGuard<'static, ()>,
}

impl Rig {
    fn new(limits: Limits) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut driver = Driver::new(Options::default(), limits).unwrap();
        let listening = ringside::io::listen((Ipv4Addr::LOCALHOST, 0).into(), false).unwrap();
        let address = socket2::SockRef::from(&listening).local_addr().unwrap();
        driver.adopt_listener(listening);
        Self {
            driver,
            address: address.as_socket().unwrap(),
            timer: None,
            conns: Vec::new(),
            said: Vec::new(),
            drained: BTreeMap::new(),
            gone: BTreeMap::new(),
            _turn: turn,
        }
    }

    fn turn(&mut self) {
        let soon = clock::now() + Duration::from_millis(2);
        self.driver.turn(true, Some(soon)).unwrap();
        while let Some(occurrence) = self.driver.poll() {
            match occurrence {
                Occurrence::Accepted { fd, peer, .. } => {
                    let session = Echo {
                        out: VecDeque::new(),
                        events: VecDeque::new(),
                        timer: self.timer.map(|after| self.driver.now() + after),
                    };
                    self.conns.extend(self.driver.open(fd, peer, session));
                }
                Occurrence::Event(conn, said) => {
                    self.said.push((conn, said));
                    if said == Said::Enough {
                        self.driver
                            .send(conn, [Piece::Bytes(pattern(LARGE).into())]);
                        self.driver.close(conn);
                    }
                }
                Occurrence::Datagram(..) => panic!("no datagram socket is bound"),
                Occurrence::Drained(conn) => *self.drained.entry(conn).or_default() += 1,
                Occurrence::Gone(conn, reason) => {
                    let before = self.gone.insert(conn, reason);
                    assert_eq!(before, None, "a connection goes once");
                }
            }
        }
    }

    /// Goes round until something is so.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let end = clock::now() + PATIENCE;
        while !is_so(self) {
            assert!(clock::now() < end, "it does not come: {what}");
            self.turn();
        }
    }

    fn connect(&mut self) -> (TcpStream, ConnId) {
        let before = self.conns.len();
        let client = TcpStream::connect(self.address).unwrap();
        client.set_nonblocking(true).unwrap();
        self.until("a connection", |rig| rig.conns.len() > before);
        (client, self.conns[before])
    }

    /// Reads until `count` bytes have come, or the end.
    fn read(&mut self, client: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut got = Vec::new();
        self.until("bytes", |_| {
            read_some(client, &mut got, 1 << 16) || got.len() >= count
        });
        got
    }
}

/// Bytes in which a piece that is lost, doubled or moved shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8)
        .collect()
}

/// True at the end.
fn read_some(client: &mut TcpStream, got: &mut Vec<u8>, count: usize) -> bool {
    let mut buffer = vec![0; count];
    match client.read(&mut buffer) {
        Ok(0) => true,
        Ok(count) => {
            got.extend_from_slice(&buffer[..count]);
            false
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(_) => true,
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn what_a_session_sends_arrives() {
    let mut rig = Rig::new(Limits::default());
    let (mut client, conn) = rig.connect();
    client.write_all(b"hello").unwrap();
    assert_eq!(rig.read(&mut client, 5), b"hello");
    assert_eq!(rig.said, [(conn, Said::Bytes(5))]);
    drop(client);
    rig.until("the end", |rig| rig.gone.contains_key(&conn));
    assert_eq!(rig.driver.connections(), 0);
}

#[test]
fn a_slow_reader_gets_every_byte_in_order() {
    let mut rig = Rig::new(Limits::default());
    let mut rng = Prng::new(7);
    let mut pool = Pool::new(10_000);
    let (mut client, conn) = rig.connect();
    let expected = pattern(12 << 20);
    let mut rest = &expected[..];
    let mut got = Vec::new();
    rig.driver.set_streaming(conn, true);
    rig.until("all bytes", |rig| {
        // Runs of pieces of all sizes, of both kinds, while earlier ones are under way.
        if !rest.is_empty() && rng.chance(50) {
            let mut pieces = Vec::new();
            for _ in 0..rng.below(20) {
                let count = (rng.below(60_000) as usize).min(rest.len());
                let (piece, after) = rest.split_at(count);
                rest = after;
                if rng.chance(50) {
                    pieces.push(Piece::Bytes(Bytes::copy_from_slice(piece)));
                    continue;
                }
                let mut piece = piece;
                while !piece.is_empty() {
                    let mut slab = pool.take();
                    let count = slab.append(piece);
                    pieces.push(Piece::Buffer(slab.view(0..count)));
                    piece = &piece[count..];
                }
            }
            rig.driver.send(conn, pieces);
        }
        for _ in 0..rng.below(4) {
            let count = 1 + rng.below(100_000) as usize;
            read_some(&mut client, &mut got, count);
        }
        got.len() == expected.len()
    });
    assert!(got == expected, "the bytes are not those that were sent");
    let before = rig.drained.get(&conn).copied();
    rig.until("the last send", |rig| {
        rig.driver.sent_bytes(conn) == expected.len() as u64
            && rig.drained.get(&conn).copied() >= before
    });
    assert_eq!(pool.in_use(), 0, "sent buffers have come home");
}

#[test]
fn a_close_comes_after_everything_that_was_sent() {
    let mut rig = Rig::new(Limits::default());
    let (mut client, conn) = rig.connect();
    let expected = pattern(5 << 20);
    let pieces = expected.chunks(70_000).map(Bytes::copy_from_slice);
    rig.driver.send(conn, pieces.map(Piece::Bytes));
    rig.driver.close(conn);
    rig.driver.send(conn, [Piece::Bytes("too late".into())]);
    let got = rig.read(&mut client, usize::MAX);
    assert!(got == expected, "cut after {} bytes", got.len());
    drop(client);
    rig.until("the end", |rig| rig.driver.connections() == 0);
    assert_eq!(rig.gone, BTreeMap::new(), "this side closed it");
}

/// `nc -N` and some health checks finish sending with their request. The request and the end came
/// in one turn, and the connection was gone before its answer was made.
#[test]
fn who_has_finished_sending_still_gets_the_answer() {
    let mut rig = Rig::new(Limits::default());
    for request in [&b"hello"[..], b"!"] {
        let (mut client, _) = rig.connect();
        client.write_all(request).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let got = rig.read(&mut client, usize::MAX);
        let expected = match request {
            b"!" => pattern(LARGE),
            other => other.to_vec(),
        };
        assert!(got == expected, "cut after {} bytes", got.len());
    }
    rig.until("the end", |rig| rig.driver.connections() == 0);
}

#[test]
fn a_peer_that_vanishes_while_it_is_sent_to_is_forgotten() {
    let mut rig = Rig::new(Limits::default());
    let mut pool = Pool::new(1 << 20);
    for _ in 0..20 {
        let (client, conn) = rig.connect();
        let mut slab = pool.take();
        slab.append(&pattern(1 << 20));
        let pieces = (0..20).map(|_| Piece::Buffer(slab.view(0..1 << 20)));
        rig.driver.send(conn, pieces);
        drop(slab);
        rig.turn();
        drop(client);
        rig.until("the end", |rig| rig.gone.contains_key(&conn));
    }
    assert_eq!(rig.driver.connections(), 0);
    rig.until("the kernel to let go", |_| pool.in_use() == 0);
}

/// A viewer that did not read when its stream ended kept its place for ever.
#[test]
fn who_does_not_read_what_is_left_is_closed() {
    let limits = Limits {
        flush_stall: Duration::from_millis(300),
        ..Limits::default()
    };
    let mut rig = Rig::new(limits);
    let (mut client, conn) = rig.connect();
    rig.driver.establish(conn);
    rig.driver
        .send(conn, [Piece::Bytes(pattern(16 << 20).into())]);
    rig.driver.close(conn);
    let begin = clock::now();
    // As long as it reads, however slowly, it may.
    let mut got = Vec::new();
    while clock::now() < begin + Duration::from_secs(1) {
        rig.turn();
        read_some(&mut client, &mut got, 20_000);
    }
    assert_eq!(rig.driver.connections(), 1);
    rig.until("the end", |rig| rig.driver.connections() == 0);
}

#[test]
fn who_takes_nothing_of_an_answer_is_closed() {
    const STALL: Duration = Duration::from_millis(300);
    let mut rig = Rig::new(Limits::default());
    let (mut client, conn) = rig.connect();
    let (_idle, idle) = rig.connect();
    rig.driver
        .send(conn, [Piece::Bytes(pattern(16 << 20).into())]);
    let begin = clock::now();
    let mut got = Vec::new();
    while clock::now() < begin + Duration::from_secs(1) {
        rig.turn();
        rig.driver.close_stalled(STALL);
        read_some(&mut client, &mut got, 20_000);
    }
    assert!(!rig.gone.contains_key(&conn), "it reads, however slowly");
    rig.until("the end", |rig| {
        rig.driver.close_stalled(STALL);
        rig.gone.get(&conn) == Some(&Gone::Stalled)
    });
    assert!(!rig.gone.contains_key(&idle), "who waits for nothing may");
}

#[test]
fn the_oldest_that_is_not_established_makes_room() {
    let limits = Limits {
        unestablished_max: 3,
        connections_max: 5,
        ..Limits::default()
    };
    let mut rig = Rig::new(limits);
    let mut clients: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    let (mut displaced, first) = clients.remove(0);
    rig.until("room", |rig| rig.gone.contains_key(&first));
    assert_eq!(rig.gone[&first], Gone::Displaced);
    assert!(rig.read(&mut displaced, usize::MAX).is_empty());

    for (_, conn) in &clients {
        rig.driver.establish(*conn);
    }
    clients.extend((0..2).map(|_| rig.connect()));
    for (_, conn) in &clients {
        rig.driver.establish(*conn);
    }
    let mut refused = TcpStream::connect(rig.address).unwrap();
    refused.set_nonblocking(true).unwrap();
    assert!(rig.read(&mut refused, usize::MAX).is_empty());
    assert_eq!(rig.driver.counters().0.refused, 1);
    assert_eq!(rig.driver.connections(), 5);
    assert_eq!(rig.gone.len(), 1);
}

#[test]
fn timers_fire_once_and_not_before_their_time() {
    let mut rig = Rig::new(Limits::default());
    rig.timer = Some(Duration::from_millis(80));
    let begin = clock::now();
    let (_client, conn) = rig.connect();
    rig.until("the time", |rig| !rig.said.is_empty());
    assert!(clock::now() >= begin + Duration::from_millis(80));
    for _ in 0..20 {
        rig.turn();
    }
    assert_eq!(rig.said, [(conn, Said::TimeIsUp)]);
}

#[test]
fn two_thousand_that_come_and_go_leave_nothing() {
    let mut rig = Rig::new(Limits::default());
    let mut rng = Prng::new(11);
    let mut pool = Pool::new(64 << 10);
    let mut slab = pool.take();
    slab.append(&pattern(64 << 10));
    rig.turn();
    let before = descriptors();
    let mut clients = Vec::new();
    let mut opened = 0;
    let mut seen = 0;
    while opened < 2000 || !clients.is_empty() {
        if opened < 2000 && clients.len() < 100 && rng.chance(60) {
            let client = TcpStream::connect(rig.address).unwrap();
            client.set_nonblocking(true).unwrap();
            clients.push(client);
            opened += 1;
        }
        if let Some(conn) = rig.conns.get(seen).copied() {
            seen += 1;
            match rng.below(6) {
                0 => rig.driver.abort(conn),
                1 => rig.driver.close(conn),
                2 => {
                    let pieces = (0..rng.below(40)).map(|_| Piece::Buffer(slab.view(0..64 << 10)));
                    rig.driver.send(conn, pieces);
                    rig.driver.close(conn);
                }
                3 => {
                    rig.driver.set_streaming(conn, true);
                    rig.driver.send(conn, [Piece::Buffer(slab.view(0..1000))]);
                }
                _ => {}
            }
        }
        let index = rng.below(clients.len() as u64) as usize;
        match rng.below(8) {
            0 if !clients.is_empty() => drop(clients.swap_remove(index)),
            1 if !clients.is_empty() => {
                let _ = clients[index].write_all(b"some bytes");
            }
            2 if !clients.is_empty() => {
                let _ = clients[index].write_all(b"!");
            }
            3 if !clients.is_empty() => {
                let _ = clients[index].shutdown(Shutdown::Write);
            }
            4 if !clients.is_empty() => {
                read_some(&mut clients[index], &mut Vec::new(), 1 << 20);
            }
            _ => rig.turn(),
        }
    }
    rig.until("the end of all", |rig| rig.driver.connections() == 0);
    drop(slab);
    rig.until("the kernel to let go", |_| {
        pool.in_use() == 0 && descriptors() <= before
    });
    let known: BTreeSet<_> = rig.conns.iter().copied().collect();
    assert_eq!(known.len(), 2000, "an id is not used again");
}

/// The kernel owns buffers and descriptors of operations under way. `Net` ends these and waits for
/// their completions before it lets go of either, so nothing here is used after it is freed.
#[test]
fn a_driver_may_be_dropped_while_it_sends_and_receives() {
    let mut rig = Rig::new(Limits::default());
    let mut pool = Pool::new(1 << 20);
    let mut clients = Vec::new();
    for _ in 0..50 {
        let (client, conn) = rig.connect();
        let mut slab = pool.take();
        slab.append(&pattern(1 << 20));
        let pieces = (0..12).map(|_| Piece::Buffer(slab.view(0..1 << 20)));
        rig.driver.send(conn, pieces);
        clients.push(client);
    }
    rig.turn();
    let Rig { driver, _turn, .. } = rig;
    drop(driver);
    assert_eq!(pool.in_use(), 0, "every buffer has come home");
    for mut client in clients {
        client.set_nonblocking(false).unwrap();
        let mut got = Vec::new();
        // What the kernel had taken arrives, and then the end.
        let _ = client.read_to_end(&mut got);
        assert!(got.len() < 12 << 20);
        assert!(
            got.chunks(1 << 20)
                .all(|part| part == &pattern(1 << 20)[..part.len()])
        );
    }
}
