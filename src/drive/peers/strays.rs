//! Brings what arrives to the shard that runs its session.
//!
//! The kernel gives a datagram or a connection to any shard. A check names its session, and so the
//! shard that made it, which knows who runs it. An address where a peer was authenticated leads
//! from the shard where its datagrams arrive to the one that runs it. Frames of a connection go the
//! same way, and the answers back to the connection.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use super::{Arrival, CONNECTIONS_FROM, Peers, RELAYS_FROM};
use crate::base::ids::{ConnId, ShardId};
use crate::drive::{Driver, Session};
use crate::io::{DatagramIndex, Piece, ReceivedDatagram};
use crate::proto::ice::{Channel, Path, Stray};
use crate::proto::webrtc::{SessionKey, Tenant};

/// Datagrams that are passed to other shards in one round: an attacker with made-up names costs no
/// more.
const STRAYS_PER_ROUND_MAX: usize = 256;

/// Addresses whose datagrams go to another shard. A peer that moves leaves one.
const ROUTES_MAX: usize = 65_536;

/// Connections of other shards: each is a path of a peer, which has 16 at most.
const RELAYS_MAX: usize = 65_536;

/// Checks for sessions that were made here, of one round.
const CLAIMS_MAX: usize = 1024;

/// A check for a session that was made here and may not run yet.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The session.
    pub key: SessionKey,
    /// The shard where the check arrived, which would run it.
    pub by: ShardId,
    /// The check.
    pub stray: Stray,
}

/// What the peers of two shards tell each other.
#[derive(Clone, Debug)]
pub enum PeerMessage {
    /// To the maker: a check has arrived here.
    Claim {
        /// The session.
        key: SessionKey,
        /// The check.
        stray: Stray,
    },
    /// To the shard that runs a session, or to its maker, who knows that shard: a datagram that
    /// arrived elsewhere.
    Stray {
        /// The session.
        key: SessionKey,
        /// The shard where it arrived.
        at: ShardId,
        /// The datagram.
        stray: Stray,
    },
    /// From the shard that runs a session: what comes from this address is for it.
    Route {
        /// The session.
        key: SessionKey,
        /// The address.
        from: SocketAddr,
        /// False to forget it.
        is_valid: bool,
    },
    /// From the shard that runs a session: send this on a connection of the receiver.
    Frame {
        /// The connection, by the receiver's number.
        conn: ConnId,
        /// The frame.
        bytes: Bytes,
    },
}

impl PeerMessage {
    /// Its sender makes up for a loss.
    pub fn may_be_lost(&self) -> bool {
        match self {
            Self::Claim { .. } | Self::Stray { .. } | Self::Frame { .. } => true,
            Self::Route { .. } => false,
        }
    }
}

/// What is counted of strays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StrayCounters {
    /// Datagrams that arrived on another shard than that of their peer and were passed on.
    pub passed: u64,
    /// Datagrams that could not be brought to where they belong.
    pub dropped: u64,
    /// Checks for sessions of other shards that were asked about there.
    pub claims: u64,
}

/// What a shard knows of datagrams that arrive elsewhere than their peer runs.
#[derive(Debug, Default)]
pub(super) struct Strays {
    me: ShardId,
    /// Media shards; none while WebRTC is off.
    media_shards: u16,
    /// Where sessions run whose datagrams arrive here.
    routes: HashMap<SocketAddr, (SessionKey, ShardId), foldhash::fast::RandomState>,
    /// Where datagrams from an address arrive, if not here.
    arrive_at: HashMap<SocketAddr, ShardId, foldhash::fast::RandomState>,
    /// Connections of other shards that are paths of peers, by channel and the other way round.
    relays: HashMap<u64, (ShardId, ConnId), foldhash::fast::RandomState>,
    relay_of: HashMap<(ShardId, ConnId), u64, foldhash::fast::RandomState>,
    next_relay: u64,
    in_round: usize,
    claims: [VecDeque<Claim>; 2],
    outbox: Vec<(ShardId, PeerMessage)>,
    scratch: Vec<u8>,
    counters: StrayCounters,
}

impl Strays {
    /// The channel of another shard's connection.
    fn relay(&mut self, shard: ShardId, conn: ConnId) -> Option<Channel> {
        if let Some(channel) = self.relay_of.get(&(shard, conn)) {
            return Some(Channel(*channel));
        }
        if self.relays.len() >= RELAYS_MAX {
            return None;
        }
        let mut channel;
        loop {
            channel = RELAYS_FROM + self.next_relay % (CONNECTIONS_FROM - RELAYS_FROM);
            self.next_relay += 1;
            if !self.relays.contains_key(&channel) {
                break;
            }
        }
        self.relays.insert(channel, (shard, conn));
        self.relay_of.insert((shard, conn), channel);
        Some(Channel(channel))
    }

    fn forget_relay(&mut self, channel: Channel) {
        if let Some(relayed) = self.relays.remove(&channel.0) {
            self.relay_of.remove(&relayed);
        }
    }

    /// Sends a frame on another shard's connection.
    pub(super) fn send_frame(&mut self, channel: Channel, bytes: Bytes) {
        if let Some((shard, conn)) = self.relays.get(&channel.0).copied() {
            let message = PeerMessage::Frame { conn, bytes };
            self.outbox.push((shard, message));
        }
    }

    /// A path is no peer's any more.
    pub(super) fn forget_path(&mut self, key: SessionKey, path: Path) {
        self.forget_relay(path.channel);
        if let Some(at) = self.arrive_at.remove(&path.remote) {
            let message = PeerMessage::Route {
                key,
                from: path.remote,
                is_valid: false,
            };
            self.outbox.push((at, message));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.routes.len() + self.arrive_at.len() + self.relays.len()
    }

    fn claim(&mut self, claim: Claim) {
        let claims = &mut self.claims[claim.key.tenant() as usize];
        if claims.len() < CLAIMS_MAX {
            claims.push_back(claim);
        } else {
            self.counters.dropped += 1;
        }
    }
}

impl Peers {
    /// Says which shard this is, and how many media shards there are: the first ones.
    pub fn set_place(&mut self, me: ShardId, media_shards: u16) {
        self.strays.me = me;
        self.strays.media_shards = media_shards;
    }

    /// What is counted of strays.
    pub fn stray_counters(&self) -> StrayCounters {
        self.strays.counters
    }

    /// Addresses and connections that lead from one shard to another, on both.
    pub fn routes(&self) -> usize {
        self.strays.len()
    }

    /// A datagram arrived.
    pub fn datagram<S: Session>(
        &mut self,
        driver: &mut Driver<S>,
        socket: DatagramIndex,
        received: ReceivedDatagram,
    ) {
        let datagram = driver.datagram(&received);
        let remote = canonical(datagram.from);
        let is_whole = !datagram.is_truncated;
        let mut bytes = std::mem::take(&mut self.strays.scratch);
        bytes.clear();
        bytes.extend_from_slice(datagram.bytes);
        driver.give_back_datagram(received);
        if let Some(channel) = self.channel_of(socket).filter(|_| is_whole) {
            self.arrived_by(driver, Path { remote, channel }, &bytes);
        }
        self.strays.scratch = bytes;
    }

    /// A frame of a TCP connection arrived.
    pub fn frame<S: Session>(&mut self, driver: &mut Driver<S>, conn: ConnId, frame: &[u8]) {
        let Some(peer) = driver.peer(conn) else {
            return;
        };
        let path = Path {
            remote: canonical(peer),
            channel: Self::channel_of_connection(conn),
        };
        self.arrived_by(driver, path, frame);
    }

    fn arrived_by<S: Session>(&mut self, driver: &mut Driver<S>, path: Path, bytes: &[u8]) {
        let stray = || Stray {
            path,
            bytes: Bytes::copy_from_slice(bytes),
        };
        match self.receive(driver, path, bytes) {
            Arrival::Taken => {}
            Arrival::Elsewhere(ufrag) => {
                if let Some(key) = SessionKey::of(&ufrag) {
                    self.look_for(key, stray());
                }
            }
            Arrival::Stranger => {
                if let Some((key, shard)) = self.strays.routes.get(&path.remote).copied() {
                    self.pass_on(key, shard, self.strays.me, stray());
                }
            }
        }
    }

    /// A check for a session that does not run here.
    fn look_for(&mut self, key: SessionKey, stray: Stray) {
        let (maker, me) = (key.shard(), self.strays.me);
        // An address that was one session's may be another's by now.
        let route = self.strays.routes.get(&stray.path.remote).copied();
        let strays = &mut self.strays;
        if let Some((_, shard)) = route.filter(|(known, _)| *known == key) {
            self.pass_on(key, shard, me, stray);
        } else if maker == me {
            let by = me;
            strays.claim(Claim { key, by, stray });
        } else if strays.in_round < STRAYS_PER_ROUND_MAX && maker.0 < strays.media_shards {
            strays.in_round += 1;
            strays.counters.claims += 1;
            let message = PeerMessage::Claim { key, stray };
            strays.outbox.push((maker, message));
        } else {
            strays.counters.dropped += 1;
        }
    }

    /// Sends a datagram that arrived at `at` to the shard that runs its session.
    pub fn pass_on(&mut self, key: SessionKey, shard: ShardId, at: ShardId, stray: Stray) {
        if shard == self.strays.me {
            self.strays.counters.dropped += 1;
            return;
        }
        self.strays.counters.passed += 1;
        let message = PeerMessage::Stray { key, at, stray };
        self.strays.outbox.push((shard, message));
    }

    /// The next check for a session of a door that may have to be run.
    pub fn poll_claim(&mut self, tenant: Tenant) -> Option<Claim> {
        self.strays.claims[tenant as usize].pop_front()
    }

    /// Nobody wants a stray.
    pub fn drop_stray(&mut self) {
        self.strays.counters.dropped += 1;
    }

    /// A message of another shard's peers.
    pub fn message<S: Session>(
        &mut self,
        driver: &mut Driver<S>,
        from: ShardId,
        message: PeerMessage,
    ) {
        match message {
            PeerMessage::Claim { key, stray } => {
                let by = from;
                self.strays.claim(Claim { key, by, stray });
            }
            PeerMessage::Stray { key, at, stray } => {
                if self.conn_of(key).is_some() {
                    self.stray(driver, at, &stray);
                } else if key.shard() == self.strays.me {
                    let by = at;
                    self.strays.claim(Claim { key, by, stray });
                } else {
                    self.drop_stray();
                }
            }
            PeerMessage::Route {
                key,
                from: address,
                is_valid,
            } => {
                let routes = &mut self.strays.routes;
                if is_valid && routes.len() < ROUTES_MAX {
                    routes.insert(address, (key, from));
                } else if !is_valid && routes.get(&address).is_some_and(|(known, _)| *known == key)
                {
                    routes.remove(&address);
                }
            }
            PeerMessage::Frame { conn, bytes } => self.framed.push_back((conn, bytes)),
        }
    }

    /// A datagram for a peer of this shard that may have arrived at another one. It is answered
    /// from here, where the port is the same; the answers to a frame go back to its connection.
    pub fn stray<S: Session>(&mut self, driver: &mut Driver<S>, at: ShardId, stray: &Stray) {
        let mut path = stray.path;
        let is_here = at == self.strays.me;
        if !is_here && !Self::is_datagram(path.channel) {
            let Some(channel) = self.strays.relay(at, ConnId(path.channel.0)) else {
                self.drop_stray();
                return;
            };
            path.channel = channel;
        }
        if self.receive(driver, path, &stray.bytes) != Arrival::Taken {
            self.drop_stray();
        }
        // Only where a peer was authenticated: what anybody can send leaves nothing behind.
        let Some(key) = self.leads_to(path) else {
            self.strays.forget_relay(path.channel);
            return;
        };
        let strays = &mut self.strays;
        if !is_here
            && strays.arrive_at.len() < ROUTES_MAX
            && strays.arrive_at.insert(path.remote, at) != Some(at)
        {
            let message = PeerMessage::Route {
                key,
                from: path.remote,
                is_valid: true,
            };
            strays.outbox.push((at, message));
        }
    }

    /// A round begins: so many strays as in each other may be passed on.
    pub fn begin_round(&mut self) {
        self.strays.in_round = 0;
    }

    /// What other shards are to be told.
    pub fn take_messages(&mut self) -> Vec<(ShardId, PeerMessage)> {
        std::mem::take(&mut self.strays.outbox)
    }

    /// Writes frames to TCP connections.
    pub fn send_framed<S: Session>(&mut self, driver: &mut Driver<S>) {
        while let Some((conn, bytes)) = self.framed.pop_front() {
            let header = Bytes::copy_from_slice(&(bytes.len() as u16).to_be_bytes());
            driver.send(conn, [Piece::Bytes(header), Piece::Bytes(bytes)]);
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
