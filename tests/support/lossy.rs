//! A relay that loses media packets on their way to a client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ringside::base::prng::Prng;

/// Larger than any datagram of the server.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// How often a thread looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);

/// Datagrams between clients and a server on loopback, of which some are lost.
pub struct Lossy {
    /// Where clients send to, at the server's addresses: Firefox uses none of loopback.
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    front: UdpSocket,
    server: SocketAddr,
    percent: u64,
    lost: AtomicU64,
    passed: AtomicU64,
    is_over: AtomicBool,
}

impl Lossy {
    /// Loses `percent` of the packets of media from the server at `server`; which ones follows from
    /// `seed` and their order. Checks, handshakes and reports all arrive.
    pub fn start(server: u16, percent: u64, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            front: socket(),
            server: (own_address(), server).into(),
            percent,
            lost: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let port = shared.front.local_addr().expect("it is bound").port();
        let inner = Arc::clone(&shared);
        thread::spawn(move || to_server(&inner, seed));
        Self { port, shared }
    }

    /// Packets of media that were lost, and that were not.
    pub fn counts(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.shared.lost), read(&self.shared.passed))
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

/// This machine's address, where it has one: Firefox fails a check whose answer says that it came
/// from loopback. Nothing is sent.
fn own_address() -> IpAddr {
    let socket = socket();
    let found = socket
        .connect(("192.0.2.1", 9))
        .and_then(|()| socket.local_addr());
    found.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port is free");
    let timeout = socket.set_read_timeout(Some(POLL));
    timeout.expect("the time is not zero");
    socket
}

fn to_server(shared: &Arc<Shared>, seed: u64) {
    let mut behind: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    while !shared.is_over.load(Ordering::Relaxed) {
        let Ok((length, client)) = shared.front.recv_from(&mut bytes) else {
            continue; // Nothing came in time, or the client's port was closed.
        };
        let own = behind.entry(client).or_insert_with(|| {
            let own = Arc::new(socket());
            let (inner, theirs) = (Arc::clone(shared), Arc::clone(&own));
            thread::spawn(move || to_client(&inner, &theirs, client, seed));
            own
        });
        // A server that is gone is seen by the client.
        let _ = own.send_to(&bytes[..length], shared.server);
    }
}

fn to_client(shared: &Shared, own: &UdpSocket, client: SocketAddr, seed: u64) {
    let mut prng = Prng::new(seed);
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    while !shared.is_over.load(Ordering::Relaxed) {
        let Ok(length) = own.recv(&mut bytes) else {
            continue;
        };
        if is_media(&bytes[..length]) {
            if prng.chance(shared.percent) {
                shared.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            shared.passed.fetch_add(1, Ordering::Relaxed);
        }
        let _ = shared.front.send_to(&bytes[..length], client);
    }
}

/// RFC 5761 section 4 and RFC 7983: RTP, and not RTCP.
fn is_media(bytes: &[u8]) -> bool {
    matches!(bytes, [128..=191, kind, ..] if !(192..=223).contains(kind))
}
