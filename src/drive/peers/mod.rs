//! Runs the WebRTC peers of a shard on its datagram sockets and TCP connections.
//!
//! All peers share one table by path: a datagram costs one look-up. What peers send goes out at
//! once through the shard's ring; media is sealed into slabs that go back to their pool when the
//! kernel has taken them.

mod strays;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use slab::Slab;

use crate::base::ids::{ConnId, TrackId};
use crate::drive::{Driver, Session};
use crate::io::{DatagramIndex, Piece};
use crate::media::{Packet, Start};
use crate::proto::ice::{self, Channel, Path};
use crate::proto::stun;
use crate::proto::webrtc::{Arena, Asked, Burst, Event, Peer, PeerStatistics, SessionKey, Tenant};

use strays::Strays;

pub use strays::{Claim, PeerMessage, StrayCounters};

/// The bit that tells the ids of peers from those of connections, whose index stays far below it.
const PEER: u64 = 1 << 30;

/// Channels below this are datagram sockets; the others are connections, whose generation makes
/// them larger.
const CONNECTIONS_FROM: u64 = 1 << 32;

/// Channels from here to [`CONNECTIONS_FROM`] are connections of other shards.
const RELAYS_FROM: u64 = 1 << 31;

/// How long an address stays one peer's after its last check there. Browsers send one every 2.5 to
/// 5 s. Without this, whoever has a session and sends a check in another peer's name would have
/// that peer's packets brought to itself, and lost.
const KEEP_PATH: Duration = Duration::from_secs(10);

/// The least time between two calls of one peer for its timers, so that one whose time does not go
/// on keeps nobody else waiting.
const TIMER_PAUSE: Duration = Duration::from_micros(250);

/// The largest datagram that is looked at. Media is below 1500 bytes nearly everywhere.
pub const DATAGRAM_BYTES_MAX: usize = 2048;

/// How long the rest of a picture is waited for. A publisher on a local network hands over its
/// packets 3 to 20 µs apart; one that spaces them out is not waited for.
const PICTURE_HOLD: Duration = Duration::from_micros(100);

/// With fewer peers nobody waits: a round more costs 5 µs, and each send that it saves 1 to 2 µs.
const HOLD_PEERS_MIN: usize = 8;

/// Having waited in vain, so many pictures are not waited for.
const HOLD_REST: u8 = 31;

/// What became of a datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// A peer of this shard has it.
    Taken,
    /// A check for a session that is not here, by its name.
    Elsewhere(String),
    /// Nobody's.
    Stranger,
}

/// Counters of the peers of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerCounters {
    /// Datagrams of nobody that is known here.
    pub strangers: u64,
    /// Peers so far.
    pub added: u64,
    /// Sends of media by their number of datagrams, 1 to 16.
    pub segments: [u64; 17],
    /// Media packets sent.
    pub packets_sent: u64,
    /// Bytes of these.
    pub bytes_sent: u64,
    /// Checks that would have led another peer's packets away.
    pub paths_kept: u64,
    /// What was counted of peers that are gone.
    past: Totals,
}

/// What is counted of peers, added up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Of media and reports.
    pub peers: PeerStatistics,
    /// Of ICE.
    pub ice: ice::Statistics,
}

impl Totals {
    fn add(&mut self, peer: &Peer) {
        self.peers.add(peer.statistics());
        self.ice.add(&peer.ice_statistics());
    }
}

struct Entry {
    generation: u32,
    key: SessionKey,
    peer: Peer,
    /// The names that its checks have: two while it restarts.
    ufrags: Vec<String>,
    /// Its paths in the table.
    paths: Vec<Path>,
    /// The earliest entry of this peer in the timer heap.
    timer: Option<Instant>,
}

/// The peers of one shard.
pub struct Peers {
    entries: Slab<Entry>,
    generation: u32,
    by_path: HashMap<Path, u32, foldhash::fast::RandomState>,
    by_ufrag: HashMap<String, u32, foldhash::fast::RandomState>,
    by_key: HashMap<SessionKey, ConnId, foldhash::fast::RandomState>,
    strays: Strays,
    timers: BinaryHeap<Reverse<(Instant, ConnId)>>,
    sockets: Vec<DatagramIndex>,
    arena: Arena,
    inbox: BytesMut,
    bursts: Vec<Burst>,
    /// By tenant.
    events: [VecDeque<(ConnId, Event)>; 2],
    /// Frames for TCP connections, which the door writes.
    framed: VecDeque<(ConnId, Bytes)>,
    counters: PeerCounters,
    /// A picture of this peer and track has begun to arrive in this round and has not ended.
    picture: Option<(ConnId, TrackId)>,
    /// Packets that have arrived, to tell whether waiting was of use.
    arrived: u64,
    /// Pictures that are not waited for.
    rest: u8,
}

impl Default for Peers {
    fn default() -> Self {
        Self::new()
    }
}

impl Peers {
    /// No peers yet.
    pub fn new() -> Self {
        Self {
            entries: Slab::new(),
            generation: 0,
            by_path: HashMap::default(),
            by_ufrag: HashMap::default(),
            by_key: HashMap::default(),
            strays: Strays::default(),
            timers: BinaryHeap::new(),
            sockets: Vec::new(),
            arena: Arena::default(),
            inbox: BytesMut::new(),
            bursts: Vec::new(),
            events: Default::default(),
            framed: VecDeque::new(),
            counters: PeerCounters::default(),
            picture: None,
            arrived: 0,
            rest: 0,
        }
    }

    /// Whether an id is that of a peer.
    pub fn is_peer(conn: ConnId) -> bool {
        conn.0 & PEER != 0
    }

    /// Takes part in a datagram socket; the channel is what its paths have.
    pub fn add_socket(&mut self, socket: DatagramIndex) -> Channel {
        self.sockets.push(socket);
        Channel(self.sockets.len() as u64 - 1)
    }

    /// The channel of a datagram socket.
    pub fn channel_of(&self, socket: DatagramIndex) -> Option<Channel> {
        let at = self.sockets.iter().position(|known| *known == socket)?;
        Some(Channel(at as u64))
    }

    /// Whether a channel is a datagram socket.
    pub fn is_datagram(channel: Channel) -> bool {
        channel.0 < RELAYS_FROM
    }

    /// The channel of a TCP connection.
    pub fn channel_of_connection(conn: ConnId) -> Channel {
        Channel(conn.0)
    }

    /// Counters.
    pub fn counters(&self) -> &PeerCounters {
        &self.counters
    }

    /// What is counted of all peers there are and were. It looks at each peer.
    pub fn totals(&self) -> Totals {
        let mut totals = self.counters.past;
        for (_, entry) in &self.entries {
            totals.add(&entry.peer);
        }
        totals
    }

    /// Peers whose handshake is complete.
    pub fn connected(&self) -> usize {
        let all = self.entries.iter();
        all.filter(|(_, entry)| entry.peer.is_connected()).count()
    }

    /// Addresses and names that lead to a peer.
    pub fn leading(&self) -> (usize, usize) {
        (self.by_path.len(), self.by_ufrag.len())
    }

    /// How many peers there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Runs a session's peer, which answers to `ufrag`.
    pub fn add(&mut self, key: SessionKey, peer: Peer, ufrag: &str) -> ConnId {
        self.generation = self.generation.wrapping_add(1);
        let index = self.entries.insert(Entry {
            generation: self.generation,
            key,
            peer,
            ufrags: vec![ufrag.to_owned()],
            paths: Vec::new(),
            timer: None,
        });
        self.by_ufrag.insert(ufrag.to_owned(), index as u32);
        self.counters.added += 1;
        let conn = Self::id(index, self.generation);
        self.by_key.insert(key, conn);
        self.arm(index);
        conn
    }

    /// The peer of a session that runs here.
    pub fn conn_of(&self, key: SessionKey) -> Option<ConnId> {
        self.by_key.get(&key).copied()
    }

    /// The session of a peer.
    pub fn key_of(&self, conn: ConnId) -> Option<SessionKey> {
        let entry = self.entries.get(Self::index(conn))?;
        (Self::id(Self::index(conn), entry.generation) == conn).then_some(entry.key)
    }

    /// The sessions of a door that run here.
    pub fn running(&self, tenant: Tenant) -> Vec<SessionKey> {
        let all = self.entries.iter().map(|(_, entry)| entry.key);
        all.filter(|key| key.tenant() == tenant).collect()
    }

    /// A peer answers to another name as well.
    pub fn add_ufrag(&mut self, conn: ConnId, ufrag: &str) {
        let index = Self::index(conn);
        if let Some(entry) = self.entry_mut(conn) {
            entry.ufrags.push(ufrag.to_owned());
            // The one that is valid and the one that is to be.
            let old = (entry.ufrags.len() > 2).then(|| entry.ufrags.remove(0));
            if let Some(old) = old {
                self.by_ufrag.remove(&old);
            }
            self.by_ufrag.insert(ufrag.to_owned(), index as u32);
        }
    }

    /// A peer to look at.
    pub fn peer(&self, conn: ConnId) -> Option<&Peer> {
        let entry = self.entries.get(Self::index(conn))?;
        (Self::id(Self::index(conn), entry.generation) == conn).then_some(&entry.peer)
    }

    /// The paths that lead to a peer.
    pub fn paths(&self, conn: ConnId) -> impl Iterator<Item = Path> {
        let entry = self.entries.get(Self::index(conn));
        let entry = entry.filter(|entry| Self::id(Self::index(conn), entry.generation) == conn);
        entry
            .into_iter()
            .flat_map(|entry| entry.paths.iter().copied())
    }

    /// Calls a peer, and sends what it has to send.
    pub fn with<S: Session, R>(
        &mut self,
        driver: &mut Driver<S>,
        conn: ConnId,
        call: impl FnOnce(&mut Peer) -> R,
    ) -> Option<R> {
        let result = call(&mut self.entry_mut(conn)?.peer);
        self.pump(driver, Self::index(conn));
        Some(result)
    }

    /// Forgets a peer after what it has to say has been sent.
    pub fn remove<S: Session>(&mut self, driver: &mut Driver<S>, conn: ConnId) -> Option<Peer> {
        self.entry_mut(conn)?;
        let index = Self::index(conn);
        self.pump(driver, index);
        let entry = self.entries.remove(index);
        self.counters.past.add(&entry.peer);
        for ufrag in &entry.ufrags {
            self.by_ufrag.remove(ufrag);
        }
        for path in &entry.paths {
            if self.by_path.get(path) == Some(&(index as u32)) {
                self.by_path.remove(path);
                self.strays.forget_path(entry.key, *path);
            }
        }
        if self.by_key.get(&entry.key) == Some(&conn) {
            self.by_key.remove(&entry.key);
        }
        Some(entry.peer)
    }

    /// A datagram, or a frame of a TCP connection, has arrived.
    pub fn receive<S: Session>(
        &mut self,
        driver: &mut Driver<S>,
        path: Path,
        bytes: &[u8],
    ) -> Arrival {
        let known = self.by_path.get(&path).copied();
        let index = match known {
            Some(index) if !stun::is_stun(bytes) => index,
            Some(_) | None => match ice::ufrag_of(bytes) {
                Some(ufrag) => match self.by_ufrag.get(ufrag) {
                    Some(index) => *index,
                    None => return Arrival::Elsewhere(ufrag.to_owned()),
                },
                // An indication keeps a path open (RFC 8445 section 11), and says nothing.
                None => {
                    self.counters.strangers += u64::from(known.is_none());
                    return Arrival::Stranger;
                }
            },
        };
        let index = index as usize;
        let now = driver.now();
        let entry = &mut self.entries[index];
        entry.peer.handle_input(now, path, bytes, &mut self.inbox);
        if known != Some(index as u32) {
            self.lead(now, path, index);
        }
        self.pump(driver, index);
        Arrival::Taken
    }

    /// Leads what comes by `path` to a peer that has been authenticated there, unless it is that of
    /// another one.
    fn lead(&mut self, now: Instant, path: Path, index: usize) {
        if self.entries[index].peer.heard_on(path).is_none() {
            return;
        }
        if let Some(other) = self.by_path.get(&path).copied()
            && let Some(other) = self.entries.get_mut(other as usize)
        {
            let heard = other.peer.heard_on(path);
            if heard.is_some_and(|heard| now < heard + KEEP_PATH) {
                self.counters.paths_kept += 1;
                return;
            }
            other.paths.retain(|known| *known != path);
        }
        self.by_path.insert(path, index as u32);
        self.entries[index].paths.push(path);
    }

    /// The session that what comes by `path` is led to.
    fn leads_to(&self, path: Path) -> Option<SessionKey> {
        let index = *self.by_path.get(&path)?;
        self.entries.get(index as usize).map(|entry| entry.key)
    }

    /// Sends packets of a track to a peer, which decides what of it goes out.
    pub fn forward<S: Session>(
        &mut self,
        driver: &mut Driver<S>,
        conn: ConnId,
        packets: &[Packet],
        is_backlog: bool,
    ) {
        let now = driver.now();
        let index = Self::index(conn);
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        if Self::id(index, entry.generation) != conn {
            return;
        }
        entry
            .peer
            .forward(now, packets, is_backlog, &mut self.arena, &mut self.bursts);
        let is_quiet = !entry.peer.wants_attention();
        self.send_bursts(driver);
        if !is_quiet {
            self.pump(driver, index);
        }
    }

    /// Sends a packet again that a peer has asked for.
    pub fn send_again<S: Session>(
        &mut self,
        driver: &mut Driver<S>,
        conn: ConnId,
        packet: &Packet,
        asked: Asked,
    ) {
        let now = driver.now();
        let index = Self::index(conn);
        if let Some(entry) = self.entries.get_mut(index)
            && Self::id(index, entry.generation) == conn
        {
            let (arena, bursts) = (&mut self.arena, &mut self.bursts);
            entry.peer.send_again(now, packet, asked, arena, bursts);
            self.send_bursts(driver);
        }
    }

    /// Lets the time go on.
    pub fn handle_timeouts<S: Session>(&mut self, driver: &mut Driver<S>) {
        let now = driver.now();
        while let Some(Reverse((at, conn))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let index = Self::index(conn);
            let (arena, bursts) = (&mut self.arena, &mut self.bursts);
            let Some(entry) = self.entries.get_mut(index) else {
                continue;
            };
            if Self::id(index, entry.generation) != conn || entry.timer != Some(at) {
                continue;
            }
            entry.timer = None;
            if entry.peer.poll_timeout().is_some_and(|(due, _)| due <= now) {
                entry.peer.handle_timeout(now, arena, bursts);
            }
            self.send_bursts(driver);
            self.pump(driver, index);
            self.pause(index, now);
        }
    }

    /// Has a peer whose time has not gone on called later.
    fn pause(&mut self, index: usize, now: Instant) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        if entry.timer.is_some_and(|at| at <= now) {
            let at = now + TIMER_PAUSE;
            entry.timer = Some(at);
            let conn = Self::id(index, entry.generation);
            self.timers.push(Reverse((at, conn)));
        }
    }

    /// How long it is worth to wait for the rest of a picture before packets are sent on: what is
    /// sent together costs a third of what is sent one by one.
    pub fn hold(&mut self) -> Option<Duration> {
        self.picture?;
        if self.entries.len() < HOLD_PEERS_MIN {
            return None;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return None;
        }
        Some(PICTURE_HOLD)
    }

    /// A picture has begun to arrive in this round, and has not ended.
    pub fn is_amid_picture(&self) -> bool {
        self.picture.is_some()
    }

    /// Packets that have arrived so far.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// The round goes on without the rest of a picture; `in_vain` if nothing of it has come.
    pub fn end_hold(&mut self, in_vain: bool) {
        self.picture = None;
        if in_vain {
            self.rest = HOLD_REST;
        }
    }

    /// When [`Peers::handle_timeouts`] has to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// The next event of a door's peers.
    pub fn poll_event(&mut self, tenant: Tenant) -> Option<(ConnId, Event)> {
        self.events[tenant as usize].pop_front()
    }

    /// Whether a door's peers have something to tell, or are asked for.
    pub fn has_news(&self, tenant: Tenant) -> bool {
        !self.events[tenant as usize].is_empty()
    }

    fn send_bursts<S: Session>(&mut self, driver: &mut Driver<S>) {
        for burst in self.bursts.drain(..) {
            self.counters.segments[burst.segments.min(16)] += 1;
            self.counters.packets_sent += burst.segments as u64;
            self.counters.bytes_sent += burst.bytes.len() as u64;
            let channel = burst.path.channel;
            if channel.0 >= RELAYS_FROM {
                let segment = usize::from(burst.segment_bytes.unwrap_or(u16::MAX));
                let bytes = Bytes::from(burst.bytes);
                for at in (0..bytes.len()).step_by(segment) {
                    let frame = bytes.slice(at..bytes.len().min(at + segment));
                    if channel.0 >= CONNECTIONS_FROM {
                        self.framed.push_back((ConnId(channel.0), frame));
                    } else {
                        self.strays.send_frame(channel, frame);
                    }
                }
                continue;
            }
            let Some(socket) = self.sockets.get(channel.0 as usize) else {
                continue;
            };
            let to = burst.path.remote;
            if burst.segments > driver.segments_max(*socket) {
                let segment = usize::from(burst.segment_bytes.unwrap_or(u16::MAX));
                for at in (0..burst.bytes.len()).step_by(segment) {
                    let end = burst.bytes.len().min(at + segment);
                    let piece = Piece::Buffer(burst.bytes.slice(at..end));
                    driver.send_datagrams(*socket, to, std::iter::once(piece), None);
                }
            } else {
                let piece = Piece::Buffer(burst.bytes);
                let pieces = std::iter::once(piece);
                driver.send_datagrams(*socket, to, pieces, burst.segment_bytes);
            }
        }
    }

    /// Moves what a peer has to send and to tell.
    fn pump<S: Session>(&mut self, driver: &mut Driver<S>, index: usize) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        let conn = Self::id(index, entry.generation);
        while let Some((path, bytes)) = entry.peer.poll_transmit() {
            if path.channel.0 >= CONNECTIONS_FROM {
                self.framed.push_back((ConnId(path.channel.0), bytes));
            } else if path.channel.0 >= RELAYS_FROM {
                self.strays.send_frame(path.channel, bytes);
            } else if let Some(socket) = self.sockets.get(path.channel.0 as usize) {
                let pieces = std::iter::once(Piece::Bytes(bytes));
                driver.send_datagrams(*socket, path.remote, pieces, None);
            }
        }
        while let Some(event) = entry.peer.poll_event() {
            if let Event::Invalidated(path) = &event {
                entry.paths.retain(|known| known != path);
                if self.by_path.get(path) == Some(&(index as u32)) {
                    self.by_path.remove(path);
                    self.strays.forget_path(entry.key, *path);
                }
            } else if let Event::Packet(packet) = &event {
                self.arrived += 1;
                if packet.marker {
                    self.picture = self
                        .picture
                        .filter(|picture| *picture != (conn, packet.track));
                } else if packet.start != Start::Keyframe {
                    // Each packet of sound begins something, so that this is a picture's.
                    self.picture = Some((conn, packet.track));
                }
            }
            self.events[entry.key.tenant() as usize].push_back((conn, event));
        }
        self.arm(index);
    }

    fn arm(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        if let Some((at, _why)) = entry.peer.poll_timeout()
            && entry.timer.is_none_or(|armed| at < armed)
        {
            entry.timer = Some(at);
            self.timers
                .push(Reverse((at, Self::id(index, entry.generation))));
            self.forget_old_timers();
        }
    }

    /// Keeps `timers` from growing with entries of peers that are gone or have moved their time.
    fn forget_old_timers(&mut self) {
        if self.timers.len() > 4 * self.entries.len() + 1024 {
            let entries = &self.entries;
            self.timers.retain(|Reverse((at, conn))| {
                entries.get(Self::index(*conn)).is_some_and(|entry| {
                    Self::id(Self::index(*conn), entry.generation) == *conn
                        && entry.timer == Some(*at)
                })
            });
        }
    }

    fn entry_mut(&mut self, conn: ConnId) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(Self::index(conn))?;
        (Self::id(Self::index(conn), entry.generation) == conn).then_some(entry)
    }

    fn id(index: usize, generation: u32) -> ConnId {
        ConnId(u64::from(generation) << 32 | PEER | index as u64)
    }

    fn index(conn: ConnId) -> usize {
        (conn.0 & (PEER - 1)) as usize
    }
}
