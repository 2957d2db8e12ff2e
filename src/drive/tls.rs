//! TLS 1.2 and 1.3 around a session, without input or output of its own.
//!
//! What a door sends stays in the connection's queue as it is, shared with other viewers, until
//! the socket has taken what was sealed before: then the next [`SEAL_BYTES`] are sealed. So a
//! viewer that reads slowly holds one such batch, whatever waits for it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, BufRead, IoSlice, Write};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::{ServerConfig, ServerConnection};

use super::server_session::{ServerEvent, ServerSession};
use super::{Notice, Session, Wire};
use crate::io::Piece;
use crate::media::buffer::{Pool, Slab};
use crate::proto::replication::{Connection, Port};
use crate::proto::{http, http2, rtmp};

/// The most plaintext that is sealed at once: what a slow viewer holds of its own. Measured with GETs
/// of 550 kB, CPU-s/GB of the server: 0.245 with 64 KiB, 0.166 with 128, 0.150 with 256; three sends
/// a GET instead of nine.
pub const SEAL_BYTES: usize = 256 * 1024;

/// The most plaintext of one record (RFC 8446 section 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// What a record has around its plaintext: header, type and tag (RFC 8446 section 5.2), and the
/// nonce of TLS 1.2 (RFC 5288 section 3).
const RECORD_OVERHEAD: usize = 5 + 1 + 16 + 8;

/// Room for what is sealed at once and for what rustls has to say meanwhile. Larger vectors are not
/// kept by the allocator, and every batch would fault its pages in again: that cost more than sealing.
pub(super) const WIRE_BYTES: usize =
    SEAL_BYTES + (SEAL_BYTES / RECORD_BYTES + 1) * RECORD_OVERHEAD + 2048;

/// Pieces that go in one record. A frame is rarely in more than two of them.
const SLICES_MAX: usize = 16;

/// The content type of the first record (RFC 8446 section 5.1); what begins otherwise is no TLS.
const HANDSHAKE: u8 = 22;

/// RFC 9113 section 3.2.
pub const ALPN_HTTP2: &[u8] = b"h2";

/// RFC 7301 section 6.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// As registered with IANA; `curl --http1.0` offers nothing else.
pub const ALPN_HTTP1_0: &[u8] = b"http/1.0";

/// The ports of a collaborative session in the one that is inside TLS. Only `ringside collab-tunnel`
/// says them.
pub const ALPN_COLLAB: &[&[u8]] = &[
    b"ringside-collab",
    b"ringside-collab-data",
    b"ringside-collab-ttl",
    b"ringside-collab-fourth",
];

/// What to say to a browser that was given `http://` for this port.
const NOT_PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 35\r\nConnection: close\r\n\r\nThis port speaks TLS: use https://\n";

/// Counts of one shard.
#[derive(Debug, Default)]
pub struct TlsCounters {
    /// Handshakes that have ended well.
    pub handshakes: Cell<u64>,
    /// Connections that were gone before their handshake had.
    pub failures: Cell<u64>,
    /// Connections, those in their handshake included.
    pub connections: Cell<u64>,
}

/// What is spoken inside.
#[derive(Clone, Debug)]
pub enum Inner {
    /// HTTP, in the version that the handshake has settled on.
    Http(Arc<http::Options>, Arc<http2::Options>),
    /// RTMP, with the seed of its handshake.
    Rtmp(rtmp::Options, u64),
    /// A port of a collaborative session. The protocol that a TLS handshake has settled on may say
    /// another one.
    Replication(Port),
}

impl Inner {
    /// The session itself. `alpn` is what both sides have chosen (RFC 7301); without it HTTP is 1.1.
    pub fn begin(self, now: Instant, alpn: Option<&[u8]>) -> ServerSession {
        match self {
            Self::Http(_, options) if alpn == Some(ALPN_HTTP2) => {
                ServerSession::Http2(Box::new(http2::Session::new(now, options)))
            }
            Self::Http(options, _) => {
                ServerSession::Http(Box::new(http::Session::new(now, options)))
            }
            Self::Rtmp(options, seed) => {
                ServerSession::Rtmp(Box::new(rtmp::Session::new(options, seed, now)))
            }
            Self::Replication(port) => {
                let place = ALPN_COLLAB.iter().position(|name| alpn == Some(*name));
                let port = match place {
                    Some(0) => Port::First,
                    Some(1) => Port::Second,
                    Some(2) => Port::Third,
                    Some(_) => Port::Fourth,
                    None => port,
                };
                ServerSession::Replication(Box::new(Connection::new(now, port)))
            }
        }
    }
}

/// A server's side of a TLS connection and the session inside it.
#[derive(Debug)]
pub struct TlsSession {
    tls: ServerConnection,
    stage: Stage,
    counters: Rc<TlsCounters>,
    /// The first byte has come, and was that of a handshake.
    has_begun: bool,
    /// What is left to say to somebody who does not speak TLS.
    plain: &'static [u8],
    notice: Option<Notice>,
    farewell: Farewell,
    /// The last time it was told.
    now: Instant,
}

#[derive(Debug)]
enum Stage {
    Handshake { inner: Inner, deadline: Instant },
    Open(ServerSession),
    Failed,
}

/// How far the end of our side is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Farewell {
    NotYet,
    /// Once the queue is empty.
    Due,
    Said,
}

impl TlsSession {
    /// A connection accepted at `now`, whose handshake may take `handshake_max`.
    pub fn new(
        now: Instant,
        config: Arc<ServerConfig>,
        handshake_max: Duration,
        inner: Inner,
        counters: Rc<TlsCounters>,
    ) -> Result<Self, rustls::Error> {
        let tls = ServerConnection::new(config)?;
        add(&counters.connections);
        Ok(Self {
            tls,
            stage: Stage::Handshake {
                inner,
                deadline: now + handshake_max,
            },
            counters,
            has_begun: false,
            plain: &[],
            notice: None,
            farewell: Farewell::NotYet,
            now,
        })
    }

    /// The session inside, once the handshake is over.
    pub fn inner(&mut self) -> Option<&mut ServerSession> {
        match &mut self.stage {
            Stage::Open(session) => Some(session),
            Stage::Handshake { .. } | Stage::Failed => None,
        }
    }

    /// The same to look at.
    pub fn as_inner(&self) -> Option<&ServerSession> {
        match &self.stage {
            Stage::Open(session) => Some(session),
            Stage::Handshake { .. } | Stage::Failed => None,
        }
    }

    fn read(&mut self, now: Instant, mut rest: &[u8]) -> Result<(), io::Error> {
        while !rest.is_empty() {
            if self.tls.read_tls(&mut rest)? == 0 {
                return Ok(()); // Behind the peer's close_notify.
            }
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            self.begin(now);
            if let Stage::Open(session) = &mut self.stage {
                let mut left = state.plaintext_bytes_to_read();
                while left > 0 {
                    let mut reader = self.tls.reader();
                    let chunk = reader.fill_buf()?;
                    session.handle_input(now, chunk);
                    let count = chunk.len();
                    reader.consume(count);
                    left -= count;
                }
            }
            if state.peer_has_closed() {
                self.notice = Some(Notice::Ended);
            }
        }
        Ok(())
    }

    /// Begins what is inside, if the handshake has just ended.
    fn begin(&mut self, now: Instant) {
        if self.tls.is_handshaking() || !matches!(self.stage, Stage::Handshake { .. }) {
            return;
        }
        if let Stage::Handshake { inner, .. } = mem::replace(&mut self.stage, Stage::Failed) {
            add(&self.counters.handshakes);
            self.stage = Stage::Open(inner.begin(now, self.tls.alpn_protocol()));
        }
    }

    /// Answers somebody who does not speak TLS, if it is likely to be understood.
    fn refuse(&mut self, bytes: &[u8]) {
        tracing::debug!("a connection to a TLS port does not begin with a handshake");
        let is_http = matches!(
            &self.stage,
            Stage::Handshake {
                inner: Inner::Http(..),
                ..
            }
        );
        if is_http && bytes.first().is_some_and(u8::is_ascii_alphabetic) {
            self.plain = NOT_PLAIN;
        }
        self.fail();
    }

    fn fail(&mut self) {
        if matches!(self.stage, Stage::Handshake { .. }) {
            add(&self.counters.failures);
        }
        self.stage = Stage::Failed;
        self.notice = Some(Notice::Failed);
    }

    /// Seals one record with the first of `queue`. Returns the bytes of it that were taken.
    fn seal_record(&mut self, queue: &mut VecDeque<Piece>, wire: &mut dyn Write) -> usize {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (mut count, mut room) = (0, RECORD_BYTES);
        for (slice, piece) in slices.iter_mut().zip(queue.iter()) {
            let part = &piece[..piece.len().min(room)];
            *slice = IoSlice::new(part);
            count += 1;
            room -= part.len();
            if room == 0 {
                break;
            }
        }
        // Its buffer is empty and takes a record; writing to it does not fail.
        let taken = self
            .tls
            .writer()
            .write_vectored(&slices[..count])
            .unwrap_or(0);
        self.flush(wire);
        let mut left = taken;
        while let Some(first) = queue.front_mut() {
            if left < first.len() {
                first.advance(left);
                break;
            }
            left -= first.len();
            queue.pop_front();
        }
        taken
    }

    /// Moves what rustls has to send.
    fn flush(&mut self, wire: &mut dyn Write) {
        while self.tls.wants_write() {
            // What does not fit waits for the next batch.
            if self.tls.write_tls(wire).unwrap_or(0) == 0 {
                return;
            }
        }
    }

    /// Seals what is in `queue`, up to [`SEAL_BYTES`].
    fn seal_queue(&mut self, queue: &mut VecDeque<Piece>, wire: &mut dyn Write) {
        let mut room = SEAL_BYTES;
        while room > 0 && !queue.is_empty() {
            let taken = self.seal_record(queue, wire);
            if taken == 0 {
                break;
            }
            room = room.saturating_sub(taken);
        }
        if self.farewell == Farewell::Due && queue.is_empty() {
            self.farewell = Farewell::Said;
            self.tls.send_close_notify();
        }
        self.flush(wire);
    }
}

impl Session for TlsSession {
    type Event = ServerEvent;

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        if matches!(self.stage, Stage::Failed) {
            return;
        }
        if !self.has_begun && bytes.first() != Some(&HANDSHAKE) {
            self.refuse(bytes);
            return;
        }
        self.has_begun = true;
        self.now = now;
        if let Err(error) = self.read(now, bytes) {
            tracing::debug!(%error, "a TLS connection fails");
            self.fail();
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Handshake { deadline, .. } if *deadline <= now => {
                tracing::debug!("a TLS handshake takes too long");
                self.fail();
            }
            Stage::Open(session) => session.handle_timeout(now),
            Stage::Handshake { .. } | Stage::Failed => {}
        }
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        match self.inner()? {
            // It is asked when there is room: what it has given away it cannot reset.
            ServerSession::Http2(_) => None,
            session @ (ServerSession::Http(_)
            | ServerSession::Rtmp(_)
            | ServerSession::WebSocket(_)
            | ServerSession::Framed(_)
            | ServerSession::Replication(_)
            | ServerSession::Tls(_)
            | ServerSession::Prefaced(_)) => session.poll_transmit(),
        }
    }

    fn poll_event(&mut self) -> Option<ServerEvent> {
        self.inner()?.poll_event()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.stage {
            Stage::Handshake { deadline, .. } => Some((*deadline, "tls handshake")),
            Stage::Open(session) => session.poll_timeout(),
            Stage::Failed => None,
        }
    }

    fn seal(&mut self, queue: &mut VecDeque<Piece>, pool: &mut Pool) -> Wire {
        let mut wire = Vec::new();
        match &mut self.stage {
            Stage::Open(session) => {
                if let ServerSession::Http2(session) = session {
                    take(session, queue);
                }
                let bytes: usize = queue.iter().map(|piece| piece.len()).sum();
                if bytes > RECORD_BYTES {
                    let mut slab = pool.take();
                    self.seal_queue(queue, &mut Appending(&mut slab));
                    return Wire::Sealed(Piece::Buffer(slab.view(0..slab.len())));
                }
                if bytes > 0 {
                    wire.reserve_exact(bytes + 2 * RECORD_OVERHEAD);
                }
                self.seal_queue(queue, &mut wire);
            }
            // Nobody can read it.
            Stage::Failed => {
                queue.clear();
                wire.extend_from_slice(mem::take(&mut self.plain));
                self.flush(&mut wire);
            }
            Stage::Handshake { .. } => self.flush(&mut wire),
        }
        if wire.is_empty() {
            Wire::Nothing
        } else {
            Wire::Sealed(Piece::Bytes(wire.into()))
        }
    }

    fn finish(&mut self) {
        if self.farewell == Farewell::NotYet {
            self.farewell = Farewell::Due;
            let now = self.now;
            if let Some(ServerSession::Http2(session)) = self.inner() {
                session.close(now);
            }
        }
    }

    fn poll_notice(&mut self) -> Option<Notice> {
        self.notice.take()
    }
}

impl Drop for TlsSession {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Handshake { .. }) {
            add(&self.counters.failures);
        }
        let connections = &self.counters.connections;
        connections.set(connections.get() - 1);
    }
}

/// Writes to the end of a slab.
struct Appending<'a>(&'a mut Slab);

impl Write for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.append(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Moves as many frames of HTTP/2 as are sealed at once.
fn take(session: &mut http2::Session, queue: &mut VecDeque<Piece>) {
    let mut bytes: usize = queue.iter().map(|piece| piece.len()).sum();
    while bytes < SEAL_BYTES {
        let Some(frame) = session.poll_transmit() else {
            return;
        };
        bytes += frame.len();
        queue.push_back(Piece::Bytes(frame));
    }
}

fn add(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}
