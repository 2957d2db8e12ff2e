//! Connects WebRTC peers to a shard's sockets, the exchange and the other shards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::{Choosing, Control};
use super::message::{Granted, RtcMessage};
use super::sessions::{Sessions, State};
use super::signalling::{Asking, Waiting};
use super::snapshot::{Census, Counters, RtcSnapshot};
use super::sockets::Sockets;
use super::websocket::Dialect;
use crate::base::ids::{ConnId, ShardId, TrackId};
use crate::drive::{Claim, Driver, Peers, ServerSession};
use crate::io::{DatagramIndex, fill_random};
use crate::media::{Kind, Packet};
use crate::proto::http::Response;
use crate::proto::ice::Credentials;
use crate::proto::sdp::Limits;
use crate::proto::webrtc::{
    ENTROPY_BYTES, Event, Fingerprint, Negotiated, Peer, SessionKey, Shared, Tenant,
};
use crate::proto::websocket;
use crate::shard::clock;
use crate::streams::exchange::{Exchange, RtcReply};
use crate::streams::name::StreamName;
use crate::streams::whip::IceServer;

/// Tells the ids of publishers that were made here from those of connections and peers.
const MADE: u64 = 1 << 29;

/// What WebRTC needs to know of this server.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Of all peers.
    pub shared: Arc<Shared>,
    /// Of our certificate.
    pub fingerprint: Fingerprint,
    /// Values of `a=candidate` lines.
    pub candidates: Vec<String>,
    /// Media shards.
    pub shards: u16,
    /// Sessions that nobody has come for yet.
    pub half_open_max: usize,
    /// Sessions of this shard.
    pub sessions_max: usize,
    /// Bounds of an offer.
    pub limits: Limits,
    /// What clients are told of STUN and TURN (RFC 9725 section 4.6).
    pub ice_servers: Vec<IceServer>,
}

/// A peer that this shard runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) key: SessionKey,
    pub(super) name: StreamName,
    pub(super) is_publisher: bool,
    /// Its handshake is done.
    is_connected: bool,
}

/// What the door wants done.
#[derive(Debug)]
pub(in crate::streams) enum Act {
    /// Answer a request.
    Respond(ConnId, Response),
    /// Send to another shard.
    Mesh(ShardId, RtcMessage),
    /// Go on as a WebSocket.
    Upgrade(ConnId, Box<websocket::Accepted>),
    /// Send a message on a WebSocket.
    Say(ConnId, String),
    /// Close a WebSocket.
    HangUp(ConnId),
    /// The connection has done what it came for.
    Establish(ConnId),
}

/// WebRTC on one shard.
pub struct RtcDoor {
    pub(super) me: ShardId,
    pub(super) identity: Option<Identity>,
    pub(super) peers: Peers,
    pub(super) sessions: Sessions,
    pub(super) running: HashMap<ConnId, Running, foldhash::fast::RandomState>,
    /// Those of them whose handshake is not done.
    handshaking: usize,
    /// What waits for a stream's tracks, by the connection that asked.
    pub(super) waiting: BTreeMap<ConnId, Waiting>,
    /// Publishers' offers, by the publisher's id.
    pub(super) publishing: BTreeMap<ConnId, Box<Asking>>,
    /// The WebSockets that signal.
    pub(super) sockets: Sockets,
    /// Sessions that run here and are controlled while they do.
    pub(super) controls: BTreeMap<ConnId, Control>,
    /// What waits for a stream's tracks to choose among, by the id that asked.
    pub(super) choosing: BTreeMap<ConnId, Choosing>,
    next_publisher: u64,
    pub(super) acts: Vec<Act>,
    batch: Vec<Packet>,
    pub(super) counters: Counters,
}

impl std::fmt::Debug for RtcDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RtcDoor")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl RtcDoor {
    /// The door of shard `me`. It answers offers if it has an identity.
    pub fn new(me: ShardId) -> Self {
        Self {
            me,
            identity: None,
            peers: Peers::new(),
            sessions: Sessions::default(),
            running: HashMap::default(),
            handshaking: 0,
            waiting: BTreeMap::new(),
            publishing: BTreeMap::new(),
            sockets: Sockets::default(),
            controls: BTreeMap::new(),
            choosing: BTreeMap::new(),
            next_publisher: 0,
            acts: Vec::new(),
            batch: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Offers are answered from here on.
    pub fn set_identity(&mut self, identity: Identity) {
        self.sockets.set_offer_bytes_max(identity.limits.bytes_max);
        self.peers.set_place(self.me, identity.shards);
        self.identity = Some(identity);
    }

    /// Takes part in a datagram socket.
    pub fn add_socket(&mut self, socket: DatagramIndex) {
        self.peers.add_socket(socket);
    }

    /// Peers, for what is counted of them.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The shard's number.
    pub(in crate::streams) fn me(&self) -> ShardId {
        self.me
    }

    /// All that is counted. It looks at each peer.
    pub fn snapshot(&self) -> RtcSnapshot {
        let totals = self.peers.totals();
        let counters = self.peers.counters();
        let strays = self.peers.stray_counters();
        RtcSnapshot {
            census: self.census(),
            connected: self.peers.connected() as u64,
            counters: self.counters,
            peers: totals.peers,
            ice: totals.ice,
            strangers: counters.strangers,
            strays_passed: strays.passed,
            strays_dropped: strays.dropped,
            claims: strays.claims,
            paths_kept: counters.paths_kept,
            media_packets_sent: counters.packets_sent,
            media_bytes_sent: counters.bytes_sent,
        }
    }

    /// What there is at the moment.
    pub fn census(&self) -> Census {
        Census {
            sessions: self.sessions.len(),
            half_open: self.half_open(),
            peers: self.peers.len(),
            running: self.running.len(),
            asking: self.waiting.len() + self.publishing.len(),
            sockets: self.sockets.len(),
            controls: self.controls.len() + self.choosing.len(),
            routes: self.peers.routes(),
            leading: self.peers.leading(),
        }
    }

    /// Sessions that nobody has come for, and those that run here whose handshake is not done.
    pub(super) fn half_open(&self) -> usize {
        self.sessions.waiting() + self.handshaking
    }

    /// Whether an id is one of WebRTC: of a peer, or of a publisher that was made here.
    pub(in crate::streams) fn is_ours(conn: ConnId) -> bool {
        conn.0 & 1 << 31 == 0 && (Peers::is_peer(conn) || conn.0 & MADE != 0)
    }

    /// Peers, which may ask for a moment before what has arrived is sent on.
    pub fn peers_mut(&mut self) -> &mut Peers {
        &mut self.peers
    }

    /// When [`RtcDoor::handle_timeouts`] has to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.peers.deadline()
    }

    /// Sends a message to a shard; to this one as well.
    pub(super) fn mesh(&mut self, to: ShardId, message: RtcMessage) {
        self.acts.push(Act::Mesh(to, message));
    }

    /// Runs a session that was made here.
    fn run(
        &mut self,
        driver: &Driver<ServerSession>,
        key: SessionKey,
        negotiated: Negotiated,
    ) -> bool {
        let Some(made) = self.sessions.get(key) else {
            return false;
        };
        let granted = Granted {
            name: made.name.clone(),
            is_publisher: made.publisher.is_some(),
            negotiated,
            has_socket: made.socket.is_some(),
        };
        self.start(driver, key, granted)
    }

    /// A check has come for a session that was made here.
    fn claimed(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        claim: Claim,
    ) {
        let Claim { key, by, stray } = claim;
        if self.identity.is_none() {
            self.peers.drop_stray();
            return;
        }
        match self.sessions.claim(key, by) {
            Some(Ok(negotiated)) if by == self.me => {
                if self.run(driver, key, *negotiated) {
                    self.hand_over_commands(key, by);
                    self.peers.stray(driver, by, &stray);
                } else {
                    self.peers.drop_stray();
                    self.made_gone(exchange, key);
                }
            }
            Some(Ok(negotiated)) => {
                let Some(made) = self.sessions.get(key) else {
                    return;
                };
                let granted = Box::new(Granted {
                    name: made.name.clone(),
                    is_publisher: made.publisher.is_some(),
                    negotiated: *negotiated,
                    has_socket: made.socket.is_some(),
                });
                self.mesh(
                    by,
                    RtcMessage::Granted {
                        key,
                        granted,
                        stray,
                    },
                );
                self.hand_over_commands(key, by);
            }
            Some(Err(shard)) if shard == self.me => self.peers.stray(driver, by, &stray),
            Some(Err(shard)) => self.peers.pass_on(key, shard, by, stray),
            None => self.peers.drop_stray(),
        }
    }

    /// Runs a session. False if this shard is about to end, or has too many handshakes.
    fn start(&mut self, driver: &Driver<ServerSession>, key: SessionKey, granted: Granted) -> bool {
        let Some(identity) = &self.identity else {
            return false;
        };
        if self.handshaking >= identity.half_open_max {
            self.counters.handshakes_refused += 1;
            return false;
        }
        let mut seed = [0; 8];
        fill_random(&mut seed).expect("the kernel has had random bytes for the session's names");
        let ufrag = granted.negotiated.local.ufrag.clone();
        let peer = Peer::new(
            driver.now(),
            Duration::from_millis(clock::unix_millis().unsigned_abs()),
            granted.negotiated,
            &identity.shared,
            u64::from_le_bytes(seed),
        );
        let conn = self.peers.add(key, peer, &ufrag);
        if granted.has_socket {
            let control = Control::new(driver.now(), true);
            self.controls.insert(conn, control);
        }
        self.handshaking += 1;
        self.running.insert(
            conn,
            Running {
                key,
                name: granted.name,
                is_publisher: granted.is_publisher,
                is_connected: false,
            },
        );
        true
    }

    /// A message of another shard's door.
    pub fn message(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        from: ShardId,
        message: RtcMessage,
    ) {
        match message {
            RtcMessage::Granted {
                key,
                granted,
                stray,
            } => {
                if self.start(driver, key, *granted) {
                    self.peers.stray(driver, self.me, &stray);
                } else {
                    self.mesh(from, RtcMessage::Gone { key });
                }
            }
            RtcMessage::Gone { key } => self.made_gone(exchange, key),
            RtcMessage::End { key } => self.end_running(driver, exchange, key),
            RtcMessage::EndMade { key } => self.end_made(driver, exchange, key),
            RtcMessage::Restart { key, local, remote } => {
                self.restart_running(driver, key, &local, &remote);
            }
            RtcMessage::Select { key, track } => {
                self.select_running(driver, exchange, key, (Kind::Video, track));
            }
            RtcMessage::Command { key, command } => {
                let by = (key, Dialect::Socket);
                self.command(driver, exchange, by, *command);
            }
            RtcMessage::Said { key, text } => self.said(key, text),
            RtcMessage::Keyframe { key, track } => {
                if let Some(conn) = self.peers.conn_of(key) {
                    let now = driver.now();
                    self.peers
                        .with(driver, conn, |peer| peer.request_keyframe(now, track));
                }
            }
            RtcMessage::Ask { conn, ask } => {
                let asker = (Some(from), conn);
                if let Some(response) = self.change_made(exchange, asker, *ask) {
                    let response = Box::new(response);
                    self.mesh(from, RtcMessage::Answer { conn, response });
                }
            }
            RtcMessage::Answer { conn, response } => self.respond(conn, *response),
            RtcMessage::Track { key, track } => {
                if let Some(conn) = self.sessions.publisher(key) {
                    exchange.publisher_track(conn, *track);
                }
            }
            RtcMessage::Packets { key, packets } => {
                if let Some(conn) = self.sessions.publisher(key) {
                    exchange.publisher_packets(conn, packets);
                }
            }
        }
    }

    /// Lets the time go on.
    pub fn handle_timeouts(&mut self, driver: &mut Driver<ServerSession>) {
        self.peers.begin_round();
        self.peers.handle_timeouts(driver);
    }

    /// Once in a while: forgets sessions that nobody came for.
    pub fn sweep(&mut self, driver: &mut Driver<ServerSession>, exchange: &mut Exchange) {
        let now = driver.now();
        self.sweep_controls(driver, exchange);
        self.sweep_sockets(now);
        for key in self.sessions.overdue(now) {
            self.counters.never_came += 1;
            self.say_never_came(key);
            self.made_gone(exchange, key);
        }
    }

    /// Tells the exchange what peers have to tell.
    pub fn pump(&mut self, driver: &mut Driver<ServerSession>, exchange: &mut Exchange) {
        while let Some(claim) = self.peers.poll_claim(Tenant::Streams) {
            self.claimed(driver, exchange, claim);
        }
        let mut batch_of = None;
        while let Some((conn, event)) = self.peers.poll_event(Tenant::Streams) {
            if batch_of.is_some_and(|of| of != conn || !matches!(event, Event::Packet(_))) {
                self.hand_over(exchange, batch_of.take());
            }
            if let Event::Packet(packet) = event {
                batch_of = Some(conn);
                self.batch.push(packet);
            } else {
                self.handle_event(driver, exchange, conn, event);
            }
        }
        self.hand_over(exchange, batch_of);
        self.peers.send_framed(driver);
    }

    fn hand_over(&mut self, exchange: &mut Exchange, conn: Option<ConnId>) {
        let Some(running) = conn.and_then(|conn| self.running.get(&conn)) else {
            self.batch.clear();
            return;
        };
        let packets = std::mem::take(&mut self.batch);
        let key = running.key;
        if key.shard() == self.me {
            if let Some(publisher) = self.sessions.publisher(key) {
                exchange.publisher_packets(publisher, packets);
            }
        } else {
            self.mesh(key.shard(), RtcMessage::Packets { key, packets });
        }
    }

    fn handle_event(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        conn: ConnId,
        event: Event,
    ) {
        let Some(running) = self.running.get(&conn).cloned() else {
            return;
        };
        let key = running.key;
        match event {
            Event::Validated(_) | Event::Invalidated(_) => {}
            Event::Connected => {
                self.note_connected(conn);
                if !running.is_publisher {
                    let tracks = self
                        .peers
                        .peer(conn)
                        .map(|peer| peer.tracks().collect())
                        .unwrap_or_default();
                    exchange.rtc_view(conn, running.name.as_str(), tracks);
                }
            }
            Event::Track(track) => {
                if let Some(control) = self.controls.get_mut(&conn) {
                    control.note_track(&track);
                }
                if key.shard() == self.me {
                    if let Some(publisher) = self.sessions.publisher(key) {
                        exchange.publisher_track(publisher, track);
                    }
                } else {
                    let track = Box::new(track);
                    self.mesh(key.shard(), RtcMessage::Track { key, track });
                }
            }
            Event::Packet(_) => {}
            Event::Lost(asked) => match exchange.packet(conn, asked.track, asked.number) {
                Some(packet) => self.peers.send_again(driver, conn, packet, asked),
                None => self.counters.not_kept += 1,
            },
            Event::KeyframeWanted(track) => exchange.rtc_keyframe(conn, track),
            Event::Switched { from, .. } => exchange.rtc_unwatch(conn, from),
            Event::Data(event) => self.channel_event(driver, exchange, conn, event),
            Event::Gone(reason) => {
                tracing::debug!(?conn, ?reason, "a WebRTC peer is gone");
                self.forget_running(driver, conn);
                if !running.is_publisher {
                    exchange.connection_gone(conn);
                }
                self.tell_gone(exchange, key);
            }
        }
    }

    fn tell_gone(&mut self, exchange: &mut Exchange, key: SessionKey) {
        if key.shard() == self.me {
            self.made_gone(exchange, key);
        } else {
            self.mesh(key.shard(), RtcMessage::Gone { key });
        }
    }

    fn note_connected(&mut self, conn: ConnId) {
        if let Some(running) = self.running.get_mut(&conn)
            && !std::mem::replace(&mut running.is_connected, true)
        {
            self.handshaking -= 1;
        }
    }

    fn forget_running(&mut self, driver: &mut Driver<ServerSession>, conn: ConnId) {
        if let Some(running) = self.running.remove(&conn) {
            self.handshaking -= usize::from(!running.is_connected);
        }
        self.controls.remove(&conn);
        self.peers.remove(driver, conn);
    }

    /// A session that was made here is over.
    fn made_gone(&mut self, exchange: &mut Exchange, key: SessionKey) {
        let Some(made) = self.sessions.remove(key) else {
            return;
        };
        if let Some(publisher) = made.publisher {
            exchange.connection_gone(publisher);
        }
        if let Some(socket) = made.socket {
            self.session_over(socket);
        }
    }

    /// Ends a session that was made here, wherever it runs.
    fn end_made(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        key: SessionKey,
    ) {
        match self.sessions.get(key).map(|made| &made.state) {
            Some(State::RunBy(shard)) if *shard == self.me => {
                self.end_running(driver, exchange, key);
            }
            Some(State::RunBy(shard)) => {
                let shard = *shard;
                self.mesh(shard, RtcMessage::End { key });
            }
            Some(State::Waiting(_)) | None => {}
        }
        self.made_gone(exchange, key);
    }

    /// Ends a peer that runs here.
    pub(super) fn end_running(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        key: SessionKey,
    ) {
        let Some(conn) = self.peers.conn_of(key) else {
            return;
        };
        let now = driver.now();
        self.tell_stop(driver, conn);
        self.peers.with(driver, conn, |peer| peer.close(now));
        let is_viewer = self
            .running
            .get(&conn)
            .is_some_and(|running| !running.is_publisher);
        self.forget_running(driver, conn);
        if is_viewer {
            exchange.connection_gone(conn);
        }
        self.tell_gone(exchange, key);
    }

    fn restart_running(
        &mut self,
        driver: &mut Driver<ServerSession>,
        key: SessionKey,
        local: &Credentials,
        remote: &Credentials,
    ) {
        if let Some(conn) = self.peers.conn_of(key) {
            self.peers.with(driver, conn, |peer| {
                peer.restart(local.clone(), remote.clone());
            });
            self.peers.add_ufrag(conn, &local.ufrag);
        }
    }

    /// Sends another track of a kind in the place of one.
    pub(super) fn select_running(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        key: SessionKey,
        (kind, to): (Kind, TrackId),
    ) {
        let Some(conn) = self.peers.conn_of(key) else {
            return;
        };
        let from = self
            .peers
            .with(driver, conn, |peer| peer.replace(kind, to))
            .flatten();
        if let Some(from) = from {
            exchange.rtc_select(conn, from, to);
        }
    }

    /// Sends packets of a track to viewers of this shard.
    pub(in crate::streams) fn forward(
        &mut self,
        driver: &mut Driver<ServerSession>,
        packets: &[Packet],
        viewer: ConnId,
        is_backlog: bool,
    ) {
        self.peers.forward(driver, viewer, packets, is_backlog);
    }

    /// An answer of the exchange.
    pub(in crate::streams) fn reply(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        conn: ConnId,
        reply: RtcReply,
    ) {
        match reply {
            RtcReply::AcceptPublish => self.accept_publisher(exchange, driver.now(), conn),
            RtcReply::PublishBusy => self.refuse_busy(conn),
            RtcReply::PublishDenied(_) => self.refuse_publisher(conn),
            RtcReply::EndPublish => {
                if let Some(key) = self.sessions.of_publisher(conn) {
                    self.end_made(driver, exchange, key);
                }
            }
            RtcReply::Keyframe(track) => {
                let Some(key) = self.sessions.of_publisher(conn) else {
                    return;
                };
                match self.sessions.get(key).map(|made| &made.state) {
                    Some(State::RunBy(shard)) if *shard != self.me => {
                        let shard = *shard;
                        self.mesh(shard, RtcMessage::Keyframe { key, track });
                    }
                    Some(State::RunBy(_)) => {
                        if let Some(peer) = self.peers.conn_of(key) {
                            let now = driver.now();
                            self.peers
                                .with(driver, peer, |peer| peer.request_keyframe(now, track));
                        }
                    }
                    Some(State::Waiting(_)) | None => {}
                }
            }
            RtcReply::Tracks(tracks) => {
                if !self.chosen(driver, exchange, conn, &tracks) {
                    self.tracks_known(driver.now(), conn, &tracks);
                }
            }
            RtcReply::NotFound => {
                if !self.chosen(driver, exchange, conn, &[])
                    && !self.refuse_viewer(conn)
                    && let Some(running) = self.running.get(&conn)
                {
                    let key = running.key;
                    self.end_running(driver, exchange, key);
                }
            }
            RtcReply::TracksChanged(_) => {}
            RtcReply::EndPlay => {
                if let Some(running) = self.running.get(&conn) {
                    let key = running.key;
                    self.end_running(driver, exchange, key);
                }
            }
        }
    }

    pub(super) fn respond(&mut self, conn: ConnId, response: Response) {
        match self.sockets.has(conn) {
            true => self.answer_socket(conn, &response),
            false => self.acts.push(Act::Respond(conn, response)),
        }
    }

    /// A new publisher's id.
    pub(super) fn next_publisher(&mut self) -> ConnId {
        let number = self.next_publisher;
        self.next_publisher += 1;
        // The number goes around the bits that tell ids apart.
        ConnId((number & !(MADE - 1)) << 3 | MADE | (number & (MADE - 1)))
    }

    /// An id for a question to the exchange that no connection of this shard has asked.
    pub(super) fn next_asker(&mut self) -> ConnId {
        self.next_publisher()
    }

    /// Ends a session that was made here when what is at hand is done.
    pub(super) fn end_later(&mut self, key: SessionKey) {
        let me = self.me;
        self.mesh(me, RtcMessage::EndMade { key });
    }

    pub(super) fn limits(&self) -> Limits {
        self.identity
            .as_ref()
            .map_or_else(Limits::default, |identity| identity.limits)
    }

    pub(super) fn ice_servers(&self) -> &[IceServer] {
        self.identity
            .as_ref()
            .map_or(&[], |identity| &identity.ice_servers)
    }

    pub(super) fn is_media_shard(&self, shard: ShardId) -> bool {
        self.identity
            .as_ref()
            .is_some_and(|identity| shard.0 < identity.shards)
    }

    /// Random bytes for one session's names. `None` if the kernel has none.
    pub(super) fn entropy(&self) -> Option<[u8; ENTROPY_BYTES]> {
        let mut bytes = [0; ENTROPY_BYTES];
        fill_random(&mut bytes).ok().map(|()| bytes)
    }

    /// What is to be done.
    pub(in crate::streams) fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    /// The exchange wants a session ended.
    pub(in crate::streams) fn close(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        conn: ConnId,
    ) {
        let running = self.running.get(&conn).map(|running| running.key);
        if let Some(key) = running {
            self.end_running(driver, exchange, key);
        } else if let Some(key) = self.sessions.of_publisher(conn) {
            self.end_made(driver, exchange, key);
        }
    }

    /// Whoever waited for an answer is gone.
    pub fn connection_gone(&mut self, conn: ConnId) {
        self.waiting.remove(&conn);
        self.socket_gone(conn);
    }

    /// Ends all sessions.
    pub fn drain(&mut self, driver: &mut Driver<ServerSession>, exchange: &mut Exchange) {
        for key in self.sessions.keys() {
            self.end_made(driver, exchange, key);
        }
        for key in self.peers.running(Tenant::Streams) {
            self.end_running(driver, exchange, key);
        }
        self.drain_sockets();
        self.identity = None;
    }
}
