//! One driver for every sans-IO session.
//!
//! Bytes go to the session, what it wants sent goes to the socket, its events go to the caller.
//! The caller hands over bytes that several connections share, and is told when they are sent.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::time::{Duration, Instant};

use slab::Slab;

use super::round_rate::RoundRate;
use super::tls::WIRE_BYTES;
use super::{Notice, Session, Wire};
use crate::base::ids::ConnId;
use crate::io::{
    Completion, Datagram, DatagramIndex, ListenerIndex, Net, Options, Piece, ReceivedDatagram,
    SocketIndex, Statistics, Wait, Waker, listen,
};
use crate::media::buffer::Pool;
use crate::shard::clock;

mod ending;

/// Bytes that a session may have waiting to be sent; beyond it the peer does not read what it
/// asked for, and is closed. The largest single answer is a page or playlist of some 100 kB.
const QUEUE_BYTES_MAX: usize = 4 << 20;

/// Bounds of a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections of this shard. When one more arrives, the oldest one that is not established
    /// is closed for it; if all are established, it is refused.
    pub connections_max: usize,
    /// Connections of this shard that are not established. When one more arrives, the oldest of
    /// them is closed for it.
    pub unestablished_max: usize,
    /// Completions to gather when the shard is busy.
    pub gather_completions: u32,
    /// The longest time to gather them.
    pub gather: Duration,
    /// How long the peer of a connection that this side closes may take none of what is left for
    /// it. Without it, peers that do not read would keep their places for ever.
    pub flush_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            unestablished_max: 4096,
            gather_completions: 32,
            gather: Duration::from_micros(200),
            flush_stall: Duration::from_secs(10),
        }
    }
}

/// Why a connection is gone without this side having closed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// The peer closed it.
    Closed,
    /// The network failed.
    Failed,
    /// It made room for a newer one.
    Displaced,
    /// It did not read what it asked for.
    Overfull,
    /// It took nothing of what it asked for, for too long.
    Stalled,
}

/// What has happened.
#[derive(Debug)]
pub enum Occurrence<E> {
    /// A connection arrived; [`Driver::open`] it or drop it.
    Accepted {
        /// The listener it came by.
        listener: ListenerIndex,
        /// The socket.
        fd: OwnedFd,
        /// Where it comes from.
        peer: SocketAddr,
    },
    /// A session has something to say.
    Event(ConnId, E),
    /// All that was handed over to a streaming connection is sent.
    Drained(ConnId),
    /// A connection is gone. Its id is not used again.
    Gone(ConnId, Gone),
    /// A datagram arrived: read it by [`Driver::datagram`], then
    /// [`Driver::give_back_datagram`]. Until then the kernel lacks its buffer.
    Datagram(DatagramIndex, ReceivedDatagram),
}

/// Counters of one driver since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Bytes received.
    pub received_bytes: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed to make room for newer ones.
    pub displaced: u64,
    /// Connections refused because all places were taken by established ones.
    pub refused: u64,
    /// Times that accepting failed.
    pub accept_failures: u64,
    /// Connections closed because they did not read.
    pub overfull: u64,
    /// Connections closed because they took nothing of an answer for too long.
    pub stalled: u64,
}

struct Connection<S> {
    generation: u32,
    socket: SocketIndex,
    peer: SocketAddr,
    session: S,
    queue: VecDeque<Piece>,
    queue_bytes: usize,
    sending: bool,
    state: State,
    streaming: bool,
    established: bool,
    /// Its session seals, and may have something to tell when it has.
    seals: bool,
    /// The peer sends no more.
    has_ended: bool,
    /// The earliest entry of this connection in the timer heap.
    timer: Option<Instant>,
    /// What its peer had taken when that was last looked at, and when it last took something.
    progress: (u64, Instant),
    /// When it last had something to do, as the driver's rate counts.
    seen: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// Closes once the queue is sent, or if by then no more than `taken` bytes have been.
    Flushing {
        until: Instant,
        taken: u64,
    },
    /// All is sent; waits for the peer to close, so that it reads everything first.
    Lingering(Instant),
}

impl<S: Session> Connection<S> {
    /// Moves what the session has to send into the queue. True if there was something.
    fn gather(&mut self) -> bool {
        let mut has_more = false;
        while let Some(bytes) = self.session.poll_transmit() {
            self.queue_bytes += bytes.len();
            self.queue.push_back(Piece::Bytes(bytes));
            has_more = true;
        }
        has_more
    }
}

/// The connections of one shard.
pub struct Driver<S: Session> {
    net: Net,
    limits: Limits,
    connections: Slab<Connection<S>>,
    /// What a session has sealed, on its way to the socket.
    wire: VecDeque<Piece>,
    /// What sessions seal into.
    pool: Pool,
    /// By socket, the connection's place in `connections`.
    by_socket: Vec<u32>,
    generation: u32,
    timers: BinaryHeap<Reverse<(Instant, ConnId)>>,
    /// Connections in the order they arrived, established and closed ones among them.
    arrivals: VecDeque<ConnId>,
    /// Connections whose peers have finished sending in the last turn.
    ended: Vec<ConnId>,
    unestablished: usize,
    occurrences: VecDeque<Occurrence<S::Event>>,
    counters: Counters,
    now: Instant,
    rate: RoundRate,
    /// How long what has arrived may wait for company, whatever the rate is.
    patience: Duration,
}

impl<S: Session> Driver<S> {
    /// A driver on a ring of its own. The calling thread is the only one that may use it.
    pub fn new(options: Options, limits: Limits) -> io::Result<Self> {
        let now = clock::now();
        Ok(Self {
            net: Net::new(options)?,
            limits,
            connections: Slab::new(),
            wire: VecDeque::new(),
            pool: Pool::new(WIRE_BYTES),
            by_socket: Vec::new(),
            generation: 0,
            timers: BinaryHeap::new(),
            arrivals: VecDeque::new(),
            ended: Vec::new(),
            unestablished: 0,
            occurrences: VecDeque::new(),
            counters: Counters::default(),
            now,
            rate: RoundRate::new(now),
            patience: Duration::ZERO,
        })
    }

    /// Listens at `address`; with `shared`, other shards may too.
    pub fn listen(&mut self, address: SocketAddr, shared: bool) -> io::Result<ListenerIndex> {
        Ok(self.net.listen(listen(address, shared)?))
    }

    /// Accepts from a socket that listens already.
    pub fn adopt_listener(&mut self, fd: OwnedFd) -> ListenerIndex {
        self.net.listen(fd)
    }

    /// Stops listening.
    pub fn close_listener(&mut self, listener: ListenerIndex) {
        self.net.close_listener(listener);
    }

    /// Receives from a datagram socket that is bound already.
    pub fn bind_datagram(&mut self, fd: OwnedFd) -> io::Result<DatagramIndex> {
        let socket = self.net.bind_datagram(fd)?;
        Ok(socket)
    }

    /// The datagram that arrived, where the kernel has put it.
    pub fn datagram(&self, received: &ReceivedDatagram) -> Datagram<'_> {
        self.net.datagram(received)
    }

    /// Gives a datagram's buffer back to the kernel.
    pub fn give_back_datagram(&mut self, received: ReceivedDatagram) {
        self.net.give_back_datagram(received);
    }

    /// Queues datagrams to one peer, as [`Net::send_datagrams`] does.
    pub fn send_datagrams(
        &mut self,
        socket: DatagramIndex,
        to: SocketAddr,
        pieces: impl Iterator<Item = Piece>,
        segment_bytes: Option<u16>,
    ) {
        self.net.send_datagrams(socket, to, pieces, segment_bytes);
    }

    /// How many datagrams one send may have.
    pub fn segments_max(&self, socket: DatagramIndex) -> usize {
        self.net.segments_max(socket)
    }

    /// Closes a datagram socket. Nothing more is told of it.
    pub fn close_datagram(&mut self, socket: DatagramIndex) {
        for _ in 0..self.occurrences.len() {
            match self.occurrences.pop_front() {
                Some(Occurrence::Datagram(from, received)) if from == socket => {
                    self.net.give_back_datagram(received);
                }
                Some(other) => self.occurrences.push_back(other),
                None => break,
            }
        }
        self.net.close_datagram(socket);
    }

    /// The completions that a busy shard waits for: no more than can come. A connection has about
    /// one under way; datagrams, any number. Connections that are silent have none: a client that asks
    /// for one thing after the other would wait for them with each of its requests.
    fn completions_wanted(&self) -> u32 {
        if self.rate.has_datagrams() {
            return self.limits.gather_completions;
        }
        let sources = self.rate.sources() / 2;
        // What one sends and what it then receives make two.
        self.limits.gather_completions.min(sources.max(2))
    }

    /// Runs a session on a connected socket. `None` if there is no room for it.
    pub fn open(&mut self, fd: OwnedFd, peer: SocketAddr, session: S) -> Option<ConnId> {
        let is_full = self.connections.len() >= self.limits.connections_max
            || self.unestablished >= self.limits.unestablished_max;
        if is_full && !self.make_room() {
            self.counters.refused += 1;
            return None;
        }
        self.unestablished += 1;
        let socket = self.net.adopt(fd);
        self.generation = self.generation.wrapping_add(1);
        let index = self.connections.insert(Connection {
            generation: self.generation,
            socket,
            peer,
            session,
            queue: VecDeque::new(),
            queue_bytes: 0,
            sending: false,
            state: State::Open,
            streaming: false,
            established: false,
            seals: false,
            has_ended: false,
            timer: None,
            progress: (0, self.now),
            seen: 0,
        });
        let place = socket.as_usize();
        if self.by_socket.len() <= place {
            self.by_socket.resize(place + 1, u32::MAX);
        }
        self.by_socket[place] = index as u32;
        let conn = Self::id(index, self.generation);
        self.arrivals.push_back(conn);
        self.forget_old_arrivals();
        self.pump(index);
        Some(conn)
    }

    /// The connection did what connections come for, and is not closed for a newer one.
    pub fn establish(&mut self, conn: ConnId) {
        if let Some(connection) = self.connection(conn)
            && !connection.established
        {
            connection.established = true;
            self.unestablished -= 1;
        }
    }

    /// While streaming, [`Occurrence::Drained`] is told each time that all is sent; at once if
    /// nothing waits.
    pub fn set_streaming(&mut self, conn: ConnId, streaming: bool) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        connection.streaming = streaming;
        if streaming && !connection.sending && connection.queue.is_empty() {
            self.occurrences.push_back(Occurrence::Drained(conn));
        }
    }

    /// Calls the session, then sends what it has to send and collects what it has to tell.
    /// `None` if the connection is gone.
    pub fn with<R>(&mut self, conn: ConnId, call: impl FnOnce(&mut S) -> R) -> Option<R> {
        let connection = self.connection(conn)?;
        let result = call(&mut connection.session);
        self.pump(Self::index(conn));
        Some(result)
    }

    /// As [`Driver::with`], and sends pieces behind what the session has to send if `call` says so:
    /// the head of an answer and its body go out together.
    pub fn with_body(
        &mut self,
        conn: ConnId,
        call: impl FnOnce(&mut S) -> bool,
        pieces: impl IntoIterator<Item = Piece>,
    ) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        let has_body = call(&mut connection.session);
        let has_more = connection.gather();
        let is_overfull = has_more && connection.queue_bytes > QUEUE_BYTES_MAX;
        if has_body && connection.state == State::Open {
            for piece in pieces {
                connection.queue_bytes += piece.len();
                connection.queue.push_back(piece);
            }
        }
        self.go_on(Self::index(conn), is_overfull);
    }

    /// Sends pieces after what waits already.
    pub fn send(&mut self, conn: ConnId, pieces: impl IntoIterator<Item = Piece>) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if connection.state != State::Open {
            return;
        }
        for piece in pieces {
            connection.queue_bytes += piece.len();
            connection.queue.push_back(piece);
        }
        self.start_send(Self::index(conn));
    }

    /// Closes once all is sent. Nothing more is told of the connection.
    pub fn close(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(connection) = self.connection(conn) else {
            return;
        };
        connection.streaming = false;
        if connection.state == State::Open {
            connection.session.finish();
            let has_ended = connection.has_ended;
            let is_sent = !self.start_send(Self::index(conn));
            if is_sent && has_ended {
                self.remove(Self::index(conn));
            } else if is_sent {
                self.linger(Self::index(conn), now);
            } else {
                self.flush(Self::index(conn), now);
            }
        }
    }

    /// Closes now. Nothing more is told of the connection.
    pub fn abort(&mut self, conn: ConnId) {
        if self.connection(conn).is_some() {
            self.remove(Self::index(conn));
        }
    }

    /// Closes all connections once what they wait for is sent.
    pub fn close_all(&mut self) {
        let all: Vec<ConnId> = self
            .connections
            .iter()
            .map(|(index, connection)| Self::id(index, connection.generation))
            .collect();
        for conn in all {
            self.close(conn);
        }
    }

    /// Closes connections whose peers have taken nothing of an answer for so long. Those that
    /// stream are the caller's to look after. Called about twice a second.
    pub fn close_stalled(&mut self, stall: Duration) {
        let mut stalled = Vec::new();
        for (index, connection) in &mut self.connections {
            let taken = self.net.sent_bytes(connection.socket);
            let waits = connection.sending || !connection.queue.is_empty();
            if !waits || taken != connection.progress.0 {
                connection.progress = (taken, self.now);
            } else if connection.state == State::Open
                && !connection.streaming
                && self.now >= connection.progress.1 + stall
            {
                stalled.push(index);
            }
        }
        for index in stalled {
            self.counters.stalled += 1;
            self.lose(index, Gone::Stalled);
        }
    }

    /// Bytes that the kernel has taken from the connection.
    pub fn sent_bytes(&self, conn: ConnId) -> u64 {
        self.connections
            .get(Self::index(conn))
            .map_or(0, |connection| self.net.sent_bytes(connection.socket))
    }

    /// The session of a connection, to look at.
    pub fn session(&self, conn: ConnId) -> Option<&S> {
        let connection = self.connections.get(Self::index(conn))?;
        (Self::id(Self::index(conn), connection.generation) == conn).then_some(&connection.session)
    }

    /// The address of the peer.
    pub fn peer(&self, conn: ConnId) -> Option<SocketAddr> {
        let connection = self.connections.get(Self::index(conn))?;
        (Self::id(Self::index(conn), connection.generation) == conn).then_some(connection.peer)
    }

    /// Connections, closing ones included.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Changes the bounds; connections above them stay.
    pub fn set_limits(&mut self, limits: &Limits) {
        self.limits = *limits;
    }

    /// Counters of the driver and of its ring.
    pub fn counters(&self) -> (Counters, Statistics) {
        (self.counters, self.net.statistics())
    }

    /// The time of this round.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Wakes this shard from any thread.
    pub fn waker(&self) -> Waker {
        self.net.waker()
    }

    /// The ring that other shards send wake-ups to.
    pub fn ring_fd(&self) -> RawFd {
        self.net.ring_fd()
    }

    /// Wakes another shard with the next submit.
    pub fn wake_ring(&mut self, ring: RawFd) {
        self.net.wake_ring(ring);
    }

    /// True when enough sends are queued that [`Driver::submit`] is due.
    pub fn batch_is_full(&self) -> bool {
        self.net.batch_is_full()
    }

    /// Submits what is queued without waiting; completions come with the next turn.
    pub fn submit(&mut self) -> io::Result<()> {
        self.net.submit()
    }

    /// Lets what arrives wait so long for company in rounds to come: a shard that sends nothing
    /// sooner need not wake for each packet.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// One round: submits, waits if `may_wait` (until `deadline` or a session's timeout at the
    /// latest), and lets the sessions handle what has arrived.
    pub fn turn(&mut self, may_wait: bool, deadline: Option<Instant>) -> io::Result<()> {
        self.let_ended_go();
        let wait = if may_wait && self.occurrences.is_empty() {
            let timer = self.timers.peek().map(|Reverse((at, _))| *at);
            let until = [timer, deadline].into_iter().flatten().min();
            let limit = until.map(|until| until.saturating_duration_since(clock::now()));
            let gather = match self.rate.is_busy {
                true => self.limits.gather.max(self.patience),
                false => self.patience,
            };
            let gather = limit.map_or(gather, |limit| gather.min(limit));
            if gather > Duration::ZERO {
                Wait::Batch {
                    completions: self.completions_wanted(),
                    gather,
                    limit,
                }
            } else {
                Wait::One(limit)
            }
        } else {
            Wait::No
        };
        self.net.wait(wait)?;
        self.now = clock::now();
        self.rate.count(self.now);
        while let Some(completion) = self.net.completion() {
            self.handle(completion);
        }
        self.fire_timers();
        Ok(())
    }

    /// What has happened, oldest first.
    pub fn poll(&mut self) -> Option<Occurrence<S::Event>> {
        self.occurrences.pop_front()
    }

    /// Lets listeners try again that failed, for example for want of descriptors.
    pub fn resume_listeners(&mut self) {
        self.net.resume_listeners();
    }

    fn handle(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted(listener, fd) => {
                self.counters.accepted += 1;
                // A peer that is gone already has no address.
                if let Some(peer) = Net::peer(&fd) {
                    self.occurrences
                        .push_back(Occurrence::Accepted { listener, fd, peer });
                }
            }
            Completion::AcceptFailed(_, error) => {
                self.counters.accept_failures += 1;
                tracing::warn!(%error, "a connection could not be accepted");
            }
            Completion::Received(socket, received) => {
                let index = self.by_socket[socket.as_usize()] as usize;
                let connection = &mut self.connections[index];
                self.rate.see(&mut connection.seen);
                if connection.state == State::Open {
                    let bytes = self.net.received(&received);
                    self.counters.received_bytes += bytes.len() as u64;
                    connection.session.handle_input(self.now, bytes);
                    self.net.give_back(received);
                    self.pump(index);
                } else {
                    self.net.give_back(received);
                }
            }
            Completion::ReceiveEnded(socket, error) => {
                let index = self.by_socket[socket.as_usize()] as usize;
                match error {
                    Some(_) => self.lose(index, Gone::Failed),
                    None => self.receive_ended(index),
                }
            }
            Completion::Sent(socket, result) => {
                let index = self.by_socket[socket.as_usize()] as usize;
                match result {
                    Ok(()) => self.sent(index),
                    Err(_) => self.lose(index, Gone::Failed),
                }
            }
            Completion::Datagram(socket, received) => {
                self.rate.see_datagram();
                let bytes = self.net.datagram(&received).bytes;
                self.counters.received_bytes += bytes.len() as u64;
                self.occurrences
                    .push_back(Occurrence::Datagram(socket, received));
            }
            Completion::Woken => {}
        }
    }

    fn sent(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        self.rate.see(&mut connection.seen);
        connection.sending = false;
        let is_sending = self.start_send(index);
        if self.connections[index].seals {
            self.collect(index);
        }
        if is_sending {
            return;
        }
        let connection = &self.connections[index];
        match connection.state {
            State::Open if connection.streaming => {
                let conn = Self::id(index, connection.generation);
                self.occurrences.push_back(Occurrence::Drained(conn));
            }
            State::Open | State::Lingering(_) => {}
            State::Flushing { .. } if connection.has_ended => self.remove(index),
            State::Flushing { .. } => self.linger(index, self.now),
        }
    }

    /// True if a send is under way.
    fn start_send(&mut self, index: usize) -> bool {
        let connection = &mut self.connections[index];
        if connection.sending {
            return true;
        }
        match connection
            .session
            .seal(&mut connection.queue, &mut self.pool)
        {
            Wire::AsIs if connection.queue.is_empty() => return false,
            Wire::AsIs => self.net.send(connection.socket, &mut connection.queue),
            Wire::Sealed(piece) => {
                connection.seals = true;
                self.wire.push_back(piece);
                self.net.send(connection.socket, &mut self.wire);
            }
            Wire::Nothing => return false,
        }
        connection.sending = true;
        connection.queue_bytes = connection.queue.iter().map(|piece| piece.len()).sum();
        true
    }

    /// Moves bytes, events and notices out of a session.
    fn pump(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let has_more = connection.gather();
        // A single answer of shared bytes may be larger; asking for more behind it is not allowed.
        let is_overfull = has_more && connection.queue_bytes > QUEUE_BYTES_MAX;
        self.go_on(index, is_overfull);
    }

    /// Sends what was gathered, and hears what the session has to tell.
    fn go_on(&mut self, index: usize, is_overfull: bool) {
        if is_overfull {
            self.collect(index);
            self.counters.overfull += 1;
            self.lose(index, Gone::Overfull);
            return;
        }
        self.start_send(index);
        self.collect(index);
        while let Some(notice) = self.connections[index].session.poll_notice() {
            match notice {
                Notice::Peer(peer) => self.connections[index].peer = peer,
                Notice::Ended => {
                    self.receive_ended(index);
                    return;
                }
                Notice::Failed => {
                    self.fail(index);
                    return;
                }
            }
        }
    }

    /// Takes a session's events and its time.
    fn collect(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let conn = Self::id(index, connection.generation);
        while let Some(event) = connection.session.poll_event() {
            self.occurrences.push_back(Occurrence::Event(conn, event));
        }
        if let Some((at, _why)) = connection.session.poll_timeout() {
            self.arm(index, at);
        }
    }

    /// The session has failed: its last words are sent, and the connection ends.
    fn fail(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.state != State::Open {
            return;
        }
        connection.streaming = false;
        let conn = Self::id(index, connection.generation);
        self.occurrences
            .push_back(Occurrence::Gone(conn, Gone::Failed));
        if self.start_send(index) {
            self.flush(index, self.now);
        } else {
            self.linger(index, self.now);
        }
    }

    fn connection(&mut self, conn: ConnId) -> Option<&mut Connection<S>> {
        let connection = self.connections.get_mut(Self::index(conn))?;
        (Self::id(Self::index(conn), connection.generation) == conn).then_some(connection)
    }

    fn id(index: usize, generation: u32) -> ConnId {
        ConnId((u64::from(generation) << 32) | index as u64)
    }

    fn index(conn: ConnId) -> usize {
        (conn.0 & 0xffff_ffff) as usize
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
