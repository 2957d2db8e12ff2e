//! What HTTPS costs: keep-alive GETs of a segment, against the same in plain HTTP and against
//! rustls alone in memory. Prints CPU seconds of the server's thread for each GB.
//!
//! `cargo run --release -p ringside-load --bin tls-cost`
#![allow(clippy::unwrap_used, reason = "it measures or it panics")]
#![allow(clippy::print_stdout, reason = "its numbers are what it is for")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringside::drive::{
    ALPN_HTTP1, Certificates, Driver, Identity, Inner, Limits, Occurrence, ServerEvent,
    ServerSession, TlsCounters, TlsSession, server_config,
};
use ringside::io::{Options, Piece, listen};
use ringside::media::buffer::{Buffer, Pool};
use ringside::proto::http::{self, Response};
use ringside::shard::{clock, thread_cpu_time};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A segment of 2 s at 2.2 Mbit/s.
const BODY_BYTES: usize = 550_000;
const CONNECTIONS: usize = 8;
const ROUNDS: usize = 400;
/// Several runs, since other work of the machine makes one dearer and never cheaper.
const RUNS: usize = 5;

/// As a segment is kept: slabs of 64 KiB.
fn body() -> Vec<Buffer> {
    let mut pool = Pool::new(64 * 1024);
    let bytes: Vec<u8> = (0..BODY_BYTES).map(|at| (at * 31 % 251) as u8).collect();
    bytes
        .chunks(64 * 1024)
        .map(|chunk| {
            let mut slab = pool.take();
            assert_eq!(slab.append(chunk), chunk.len());
            slab.view(0..chunk.len())
        })
        .collect()
}

struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn tls() -> Tls {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity = Identity::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
    let root: CertificateDer<'static> = made.cert.der().clone();
    let certificates = Arc::new(Certificates::new(&identity, &[]));
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Tls {
        server: server_config(certificates, &[ALPN_HTTP1]).unwrap(),
        client: Arc::new(client),
    }
}

/// Answers every request with the body, until told to stop. Returns the CPU time and the GETs.
fn serve(
    fd: std::os::fd::OwnedFd,
    tls: Option<Arc<ServerConfig>>,
    stop: &AtomicBool,
) -> (Duration, usize) {
    let mut driver: Driver<ServerSession> =
        Driver::new(Options::default(), Limits::default()).unwrap();
    driver.adopt_listener(fd);
    let counters = Rc::new(TlsCounters::default());
    let body = body();
    let (mut gets, mut began) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let deadline = clock::now() + Duration::from_millis(100);
        driver.turn(true, Some(deadline)).unwrap();
        let now = driver.now();
        while let Some(occurrence) = driver.poll() {
            match occurrence {
                Occurrence::Accepted { fd, peer, .. } => {
                    let inner = Inner::Http(Arc::default(), Arc::default());
                    let session = match &tls {
                        None => inner.begin(now, None),
                        Some(tls) => {
                            let (tls, counters) = (Arc::clone(tls), Rc::clone(&counters));
                            let max = Duration::from_secs(10);
                            let session = TlsSession::new(now, tls, max, inner, counters).unwrap();
                            ServerSession::Tls(Box::new(session))
                        }
                    };
                    driver.open(fd, peer, session).unwrap();
                }
                Occurrence::Event(conn, ServerEvent::Http(http::Event::Request(_))) => {
                    // The first request of each connection is not counted, nor is its handshake.
                    if gets == CONNECTIONS {
                        began = thread_cpu_time();
                    }
                    gets += 1;
                    let response = Response::new(200).with_header("Content-Type", "video/mp2t");
                    let respond = |session: &mut ServerSession| {
                        let http = session.http().unwrap();
                        http.respond_shared(now, &response, BODY_BYTES)
                    };
                    driver.with_body(conn, respond, body.iter().cloned().map(Piece::Buffer));
                    if driver.batch_is_full() {
                        driver.submit().unwrap();
                    }
                }
                Occurrence::Event(..)
                | Occurrence::Drained(_)
                | Occurrence::Gone(..)
                | Occurrence::Datagram(..) => {}
            }
        }
    }
    (thread_cpu_time() - began, gets - CONNECTIONS)
}

/// A client that asks and reads as fast as it can.
struct Client {
    stream: TcpStream,
    tls: Option<ClientConnection>,
    /// Bytes of a whole answer, of plaintext.
    answer_bytes: usize,
}

const REQUEST: &[u8] = b"GET /a.ts HTTP/1.1\r\nHost: localhost\r\n\r\n";

impl Client {
    fn new(address: SocketAddr, tls: Option<&Tls>) -> Self {
        let mut client = Self {
            stream: TcpStream::connect(address).unwrap(),
            tls: tls.map(|tls| {
                let name = ServerName::try_from("localhost").unwrap();
                ClientConnection::new(Arc::clone(&tls.client), name).unwrap()
            }),
            answer_bytes: 0,
        };
        client.answer_bytes = client.first();
        client
    }

    /// Asks once and reads the answer, to learn how long it is.
    fn first(&mut self) -> usize {
        let mut stream: Box<dyn Stream> = match &mut self.tls {
            None => Box::new(&self.stream),
            Some(tls) => Box::new(rustls::Stream::new(tls, &mut self.stream)),
        };
        stream.write_all(REQUEST).unwrap();
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let whole = loop {
            let count = stream.read(&mut buffer).unwrap();
            answer.extend_from_slice(&buffer[..count]);
            if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4 + BODY_BYTES;
            }
        };
        while answer.len() < whole {
            let count = stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0);
            answer.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(answer.len(), whole);
        let body: Vec<u8> = body().iter().flat_map(|piece| piece.to_vec()).collect();
        assert!(answer.ends_with(&body));
        whole
    }

    fn ask(&mut self) {
        match &mut self.tls {
            None => self.stream.write_all(REQUEST).unwrap(),
            Some(tls) => {
                tls.writer().write_all(REQUEST).unwrap();
                while tls.wants_write() {
                    tls.write_tls(&mut self.stream).unwrap();
                }
            }
        }
    }

    /// Counts what comes without deciphering it: a client that does is slower than the server, and
    /// its full socket would be measured.
    fn read(&mut self, buffer: &mut [u8]) {
        let mut left = self.answer_bytes;
        if self.tls.is_none() {
            while left > 0 {
                left -= self.stream.read(buffer).unwrap();
            }
            return;
        }
        let mut held = 0;
        while left > 0 {
            held += self.stream.read(&mut buffer[held..]).unwrap();
            let mut start = 0;
            while let [_, _, _, high, low, ..] = buffer[start..held] {
                let length = usize::from(u16::from_be_bytes([high, low]));
                if held - start < 5 + length {
                    break;
                }
                left -= length - 17; // Its type and its tag.
                start += 5 + length;
            }
            buffer.copy_within(start..held, 0);
            held -= start;
        }
        assert_eq!(held, 0);
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// CPU seconds of the server's thread for each GB of bodies.
fn measure(tls: Option<&Tls>) -> f64 {
    let fd = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), false).unwrap();
    let address = std::net::TcpListener::from(fd.try_clone().unwrap())
        .local_addr()
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let server = thread::Builder::new()
        .name("serve".to_owned())
        .spawn({
            let (stop, tls) = (Arc::clone(&stop), tls.map(|tls| Arc::clone(&tls.server)));
            move || serve(fd, tls, &stop)
        })
        .unwrap();
    let mut clients: Vec<Client> = (0..CONNECTIONS)
        .map(|_| Client::new(address, tls))
        .collect();
    let mut buffer = vec![0; 256 * 1024];
    for _ in 0..ROUNDS / CONNECTIONS {
        clients.iter_mut().for_each(Client::ask);
        for client in &mut clients {
            client.read(&mut buffer);
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (cpu, gets) = server.join().unwrap();
    assert_eq!(gets, ROUNDS);
    cpu.as_secs_f64() / (gets * BODY_BYTES) as f64 * 1e9
}

/// The same bytes sealed by rustls into memory that is used again.
fn alone(tls: &Tls) -> f64 {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(&tls.client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(&tls.server)).unwrap();
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    let body = body();
    let began = thread_cpu_time();
    for _ in 0..ROUNDS {
        wire.clear();
        for record in body.iter().flat_map(|piece| piece.chunks(16 * 1024)) {
            assert_eq!(server.writer().write(record).unwrap(), record.len());
            server.write_tls(&mut wire).unwrap();
        }
    }
    (thread_cpu_time() - began).as_secs_f64() / (ROUNDS * BODY_BYTES) as f64 * 1e9
}

fn main() {
    let tls = tls();
    let best = |measure: &dyn Fn() -> f64| (0..RUNS).map(|_| measure()).fold(f64::MAX, f64::min);
    let plain = best(&|| measure(None));
    let memory = best(&|| alone(&tls));
    let https = best(&|| measure(Some(&tls)));
    println!(
        "CPU-s/GB: HTTP {plain:.3}, rustls in memory {memory:.3}, HTTPS {https:.3}: \
         {:.2} x of both, {:.2} x of rustls for what TLS adds",
        https / (plain + memory),
        (https - plain) / memory
    );
}
