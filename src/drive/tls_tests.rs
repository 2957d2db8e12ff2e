//! A TLS session against rustls' own client, in memory.

use std::collections::VecDeque;
use std::io::{BufRead, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::server_session::ServerEvent;
use super::*;
use crate::io::Piece;
use crate::media::buffer::Pool;
use crate::proto::http::{self, Response};
use crate::shard::clock;

const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// A certificate for these names, and its authority.
fn identity(names: &[&str]) -> (Identity, CertificateDer<'static>) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity = Identity::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
    (identity, made.cert.der().clone())
}

struct Pair {
    server: TlsSession,
    client: ClientConnection,
    counters: Rc<TlsCounters>,
    /// As the driver's.
    queue: VecDeque<Piece>,
    pool: Pool,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let (identity, root) = identity(&["localhost"]);
        let certificates = Arc::new(Certificates::new(&identity, &[]));
        Self::with(certificates, root, "localhost")
    }

    fn with(certificates: Arc<Certificates>, root: CertificateDer<'static>, name: &str) -> Self {
        let now = clock::now();
        let counters = Rc::new(TlsCounters::default());
        let config = server_config(certificates, &[b"http/1.1"]).unwrap();
        let inner = Inner::Http(Arc::default(), Arc::default());
        let server =
            TlsSession::new(now, config, HANDSHAKE_MAX, inner, Rc::clone(&counters)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        Self {
            server,
            client,
            counters,
            queue: VecDeque::new(),
            pool: Pool::new(tls::WIRE_BYTES),
            now,
        }
    }

    /// What the client has to send.
    fn received_by_server(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// One send of the server's.
    fn seal(&mut self) -> Option<Piece> {
        while let Some(bytes) = self.server.poll_transmit() {
            self.queue.push_back(Piece::Bytes(bytes));
        }
        match self.server.seal(&mut self.queue, &mut self.pool) {
            Wire::Sealed(piece) => Some(piece),
            Wire::Nothing => None,
            Wire::AsIs => panic!("TLS sends nothing as it is"),
        }
    }

    /// Gives bytes to the client, and what it reads in them back.
    fn received_by_client(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client.process_new_packets()?;
            let mut reader = self.client.reader();
            while let Ok(chunk) = reader.fill_buf() {
                if chunk.is_empty() {
                    break;
                }
                plain.extend_from_slice(chunk);
                let count = chunk.len();
                reader.consume(count);
            }
        }
        Ok(plain)
    }

    /// Moves bytes until nobody has any, `piece` at a time to the server.
    fn settle(&mut self, piece: usize) -> Result<Vec<u8>, rustls::Error> {
        let mut plain = Vec::new();
        loop {
            let sent = self.received_by_server();
            for part in sent.chunks(piece) {
                self.server.handle_input(self.now, part);
            }
            let mut has_moved = !sent.is_empty();
            while let Some(bytes) = self.seal() {
                has_moved = true;
                plain.extend(self.received_by_client(&bytes)?);
            }
            if !has_moved {
                return Ok(plain);
            }
        }
    }

    fn open() -> Self {
        let mut pair = Self::new();
        pair.settle(usize::MAX).unwrap();
        assert!(!pair.client.is_handshaking());
        pair
    }

    fn request(&mut self) -> Box<http::Request> {
        self.client
            .writer()
            .write_all(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        self.settle(usize::MAX).unwrap();
        match self.server.poll_event() {
            Some(ServerEvent::Http(http::Event::Request(request))) => request,
            other => panic!("{other:?} is no request"),
        }
    }
}

#[test]
fn a_request_is_answered_inside() {
    let mut pair = Pair::open();
    assert_eq!(pair.client.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(pair.request().path, "/a");
    let now = pair.now;
    let http = pair.server.inner().unwrap().http().unwrap();
    http.respond(now, Response::text(200, "hello"));
    let answer = pair.settle(usize::MAX).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"hello\n"));
    assert_eq!(pair.counters.handshakes.get(), 1);
    assert_eq!(pair.counters.connections.get(), 1);
    drop(pair.server);
    assert_eq!(pair.counters.connections.get(), 0);
    assert_eq!(pair.counters.failures.get(), 0);
}

#[test]
fn bytes_may_come_one_by_one() {
    let mut pair = Pair::new();
    pair.settle(1).unwrap();
    assert!(!pair.client.is_handshaking());
    assert_eq!(pair.request().path, "/a");
}

/// A viewer that reads nothing holds one batch; the rest is shared with the other viewers.
#[test]
fn a_batch_is_sealed_at_a_time() {
    let mut pair = Pair::open();
    let body: Vec<u8> = (0..550_000_u32).map(|at| (at % 251) as u8).collect();
    // In pieces of all sizes, as frames are.
    let mut rest = Bytes::from(body.clone());
    let mut length = 1;
    while !rest.is_empty() {
        let piece = rest.split_to(length.min(rest.len()));
        pair.queue.push_back(Piece::Bytes(piece));
        length = length * 3 % 70_001 + 1;
    }
    let left = |pair: &Pair| pair.queue.iter().map(|piece| piece.len()).sum::<usize>();
    let mut plain = Vec::new();
    let mut before = body.len();
    while before > 0 {
        let sealed = pair.seal().unwrap();
        let taken = before - left(&pair);
        assert!(taken <= SEAL_BYTES && (taken == SEAL_BYTES || before < SEAL_BYTES));
        // Records are full: their overhead is that of the fewest there could be, and some for
        // records that end with the last of the small pieces that fit.
        assert!(
            sealed.len() - taken <= 22 * (taken / (16 * 1024) + 40),
            "{}",
            sealed.len()
        );
        plain.extend(pair.received_by_client(&sealed).unwrap());
        before -= taken;
    }
    assert_eq!(plain, body);
    assert!(pair.seal().is_none());
}

#[test]
fn full_records_carry_bulk() {
    let mut pair = Pair::open();
    pair.queue
        .push_back(Piece::Bytes(vec![7; SEAL_BYTES].into()));
    let sealed = pair.seal().unwrap();
    let mut lengths = Vec::new();
    let mut rest = &sealed[..];
    while let [_, _, _, high, low, ..] = *rest {
        let length = usize::from(u16::from_be_bytes([high, low]));
        lengths.push(length);
        rest = &rest[5 + length..];
    }
    assert_eq!(lengths, vec![16 * 1024 + 17; SEAL_BYTES / (16 * 1024)]);
}

#[test]
fn both_sides_say_goodbye() {
    let mut pair = Pair::open();
    pair.queue
        .push_back(Piece::Bytes(Bytes::from_static(b"last words")));
    pair.server.finish();
    let sealed = pair.seal().unwrap();
    assert_eq!(pair.received_by_client(&sealed).unwrap(), b"last words");
    // An end of file that is not the goodbye would be an error here.
    assert_eq!(pair.client.reader().read(&mut [0; 8]).unwrap(), 0);
    assert!(pair.seal().is_none(), "it is said once");

    let mut pair = Pair::open();
    pair.client.send_close_notify();
    pair.settle(usize::MAX).unwrap();
    assert_eq!(pair.server.poll_notice(), Some(Notice::Ended));
    assert_eq!(pair.server.poll_notice(), None);
}

#[test]
fn who_speaks_no_tls_is_told_at_once() {
    for (bytes, is_answered) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], true),
        (b"\x03\x00\x00\x00", false),
        (b"\x80\x2e\x01\x00\x02", false),
    ] {
        let mut pair = Pair::new();
        pair.server.handle_input(pair.now, bytes);
        assert_eq!(pair.server.poll_notice(), Some(Notice::Failed));
        let answer = pair.seal().map_or(Vec::new(), |piece| piece.to_vec());
        assert_eq!(
            answer.starts_with(b"HTTP/1.1 400 "),
            is_answered,
            "{bytes:?}"
        );
        if is_answered {
            let text = std::str::from_utf8(&answer).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        }
        assert!(pair.seal().is_none());
        assert_eq!(pair.counters.failures.get(), 1);
    }
}

#[test]
fn a_slow_handshake_ends() {
    let mut pair = Pair::new();
    let hello = pair.received_by_server();
    pair.server.handle_input(pair.now, &hello[..20]);
    let (deadline, _) = pair.server.poll_timeout().unwrap();
    assert_eq!(deadline, pair.now + HANDSHAKE_MAX);
    pair.server
        .handle_timeout(deadline - Duration::from_millis(1));
    assert_eq!(pair.server.poll_notice(), None);
    pair.server.handle_timeout(deadline);
    assert_eq!(pair.server.poll_notice(), Some(Notice::Failed));
    assert_eq!(pair.server.poll_timeout(), None);
    drop(pair.server);
    assert_eq!(pair.counters.failures.get(), 1, "it is counted once");
}

/// A record that was changed on its way ends the connection, and nothing of it is believed.
#[test]
fn a_changed_record_ends_with_an_alert() {
    let mut pair = Pair::open();
    pair.client
        .writer()
        .write_all(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut bytes = pair.received_by_server();
    *bytes.last_mut().unwrap() ^= 1;
    pair.queue
        .push_back(Piece::Bytes(Bytes::from_static(b"waiting")));
    pair.server.handle_input(pair.now, &bytes);
    assert!(pair.server.poll_event().is_none());
    assert_eq!(pair.server.poll_notice(), Some(Notice::Failed));
    let sealed = pair.seal().unwrap();
    let alert = pair.received_by_client(&sealed).unwrap_err();
    assert!(matches!(alert, rustls::Error::AlertReceived(_)), "{alert}");
    assert!(pair.queue.is_empty());
}

/// What a truncated connection has sent of a request is never one.
#[test]
fn a_truncated_record_is_nothing() {
    let mut pair = Pair::open();
    pair.client
        .writer()
        .write_all(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let bytes = pair.received_by_server();
    pair.server
        .handle_input(pair.now, &bytes[..bytes.len() - 1]);
    assert!(pair.server.poll_event().is_none());
    assert_eq!(pair.server.poll_notice(), None, "the rest may come yet");
}

#[test]
fn a_name_chooses_the_certificate() {
    let (first, first_root) = identity(&["first.example", "www.first.example"]);
    let (second, second_root) = identity(&["second.example", "*.wild.example"]);
    let certificates = Arc::new(Certificates::new(&first, std::slice::from_ref(&second)));
    let is_served = |root: &CertificateDer<'static>, name: &str| {
        Pair::with(Arc::clone(&certificates), root.clone(), name)
            .settle(usize::MAX)
            .is_ok()
    };
    for name in ["first.example", "www.first.example", "WWW.First.Example"] {
        assert!(is_served(&first_root, name), "{name}");
    }
    for name in ["second.example", "a.wild.example"] {
        assert!(is_served(&second_root, name), "{name}");
    }
    for name in ["a.b.wild.example", "wild.example"] {
        assert!(!is_served(&second_root, name), "{name} gets the first");
    }
    // A renewal is what the next handshake gets.
    let (renewed, renewed_root) = identity(&["first.example"]);
    certificates.replace(&renewed, &[second]);
    assert!(is_served(&renewed_root, "first.example"));
    assert!(!is_served(&first_root, "first.example"));
    assert!(is_served(&second_root, "second.example"));
}

#[test]
fn unusable_files_are_told_apart() {
    let pem = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let ((cert, key), (_, other_key)) = (pem("a.example"), pem("a.example"));
    let error =
        |cert: &str, key: &str| Identity::from_pem(cert.as_bytes(), key.as_bytes()).unwrap_err();
    assert_eq!(error(&cert, &other_key), CertificateError::Mismatch);
    assert_eq!(error("", &key), CertificateError::NoCertificate);
    assert_eq!(error(&key, &key), CertificateError::NoCertificate);
    let half = |text: &str| text[..text.len() / 2].to_owned();
    assert_eq!(error(&half(&cert), &key), CertificateError::BadCertificate);
    assert_eq!(error(&cert, &half(&key)), CertificateError::NoKey);
    assert_eq!(error(&cert, ""), CertificateError::NoKey);
    let damaged = cert.replacen("MII", "AAA", 1);
    assert_eq!(error(&damaged, &key), CertificateError::BadCertificate);
    let shown = format!("{:?}", Identity::from_pem(cert.as_bytes(), key.as_bytes()));
    assert!(shown.contains("a.example") && shown.len() < 100, "{shown}");
}

#[test]
fn a_proxy_names_its_client() {
    let session = || {
        let inner = Inner::Http(Arc::default(), Arc::default());
        Prefaced::new(inner.begin(clock::now(), None))
    };
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
    let request = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let path = |session: &mut Prefaced| match session.poll_event() {
        Some(ServerEvent::Http(http::Event::Request(request))) => request.path.clone(),
        other => panic!("{other:?} is no request"),
    };

    for piece in [1, 7, 1000] {
        let mut session = session();
        for part in [&header[..], request].concat().chunks(piece) {
            session.handle_input(clock::now(), part);
        }
        let client = "192.0.2.7:56324".parse().unwrap();
        assert_eq!(session.poll_notice(), Some(Notice::Peer(client)));
        assert_eq!(path(&mut session), "/a");
    }
    // Without one the proxy speaks for itself.
    let mut plain = session();
    plain.handle_input(clock::now(), request);
    assert_eq!(plain.poll_notice(), None);
    assert_eq!(path(&mut plain), "/a");
    // A second header is no header.
    let mut twice = session();
    twice.handle_input(clock::now(), &[&header[..], header, b"\r\n"].concat());
    assert!(matches!(twice.poll_notice(), Some(Notice::Peer(_))));
    let event = twice.poll_event();
    assert!(
        matches!(event, Some(ServerEvent::Http(http::Event::Closed(_)))),
        "{event:?}"
    );
    let mut bad = session();
    bad.handle_input(clock::now(), b"PROXY TCP4 a b c d\r\n");
    assert_eq!(bad.poll_notice(), Some(Notice::Failed));
}
