//! One session: its clients, its users, and what they have together.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::again::Again;
use super::fold::{FoldJob, Folded};
use super::keeping::Keeping;
use super::message::{Message, Subject, dict};
use super::order::Order;
use super::relay::is_compact;
use super::repository::Repository;
use super::scene::{Change, Scene};
use super::statistics::Statistics;
use super::tries::Tries;
use crate::base::ids::ConnId;
use crate::config::Secret;
use crate::proto::pickle::{Limits, Rules, Scanner};
use crate::proto::replication::{Channel, Generation, Kind, Wire};
use crate::proto::session_log::Record;

mod client;
mod sending;
mod users;

pub use client::Signs;
pub(super) use client::{Client, Join, Lane, Reception, User};

/// How long a user's connection may be away before the user has left: ZeroMQ connects again by
/// itself, 100 ms after a connection broke.
const GRACE: Duration = Duration::from_millis(500);

/// How often clients are told who is there, and are asked for a sign of life.
const TICK: Duration = Duration::from_secs(1);

/// Identities that are known at once.
const CLIENTS_MAX: usize = 1024;

/// What a pickle of a message may ask for.
pub(super) const PICKLE: Limits = Limits {
    depth_max: 128,
    memo_max: 1 << 22,
    stack_max: 1 << 22,
    expanded_max: 1 << 24,
    integer_bytes_max: 1024,
};

/// What a session is made with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Its first port.
    pub port: u16,
    /// Makes administrators of those who know it.
    pub admin_password: Secret,
    /// Lets in those who know it; empty for everybody.
    pub server_password: Secret,
    /// The versions that may meet; empty for the version of whoever comes first.
    pub versions: Vec<String>,
    /// How long a client may be silent.
    pub timeout: Duration,
    /// How long a client may take nothing of what waits for it.
    pub stall: Duration,
}

/// Whether there is a scene.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Nobody has brought one.
    Waiting,
    /// Somebody is bringing one.
    Filling {
        /// Who.
        identity: Bytes,
        /// What has not come yet.
        missing: HashSet<Bytes>,
    },
    /// There is one.
    Active,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    pub(super) options: Options,
    pub(super) state: State,
    pub(super) repository: Repository,
    pub(super) clients: HashMap<Bytes, Client>,
    /// Identities of users in the order of their logins.
    pub(super) users: Vec<Bytes>,
    links: HashMap<ConnId, (Bytes, Channel)>,
    pub(super) version: Option<String>,
    pub(super) scanner: Scanner,
    pub(super) statistics: Statistics,
    next_tick: Instant,
    /// Removals that are told again.
    pub(super) again: VecDeque<Again>,
    /// The next table of users, where it cannot wait for the tick.
    pub(super) next_table: Option<Instant>,
    /// When the last one was sent because something in it had changed.
    pub(super) last_table: Option<Instant>,
    dirty: Vec<ConnId>,
    closing: Vec<ConnId>,
    pub(super) trusted: Vec<ConnId>,
    pub(super) orders: VecDeque<Order>,
    pub(super) keeping: Keeping,
    /// What cannot go out before more is logged.
    gated: Vec<ConnId>,
    pub(super) tries: Tries,
}

impl Session {
    /// A session that nobody has come to. With a scene, if one was kept.
    pub fn new(now: Instant, options: Options, kept: Option<Scene>, keeping: Keeping) -> Self {
        let kept = kept.filter(Scene::is_complete);
        Self {
            options,
            state: match kept.is_some() {
                true => State::Active,
                false => State::Waiting,
            },
            repository: kept.map(|scene| scene.repository).unwrap_or_default(),
            clients: HashMap::new(),
            users: Vec::new(),
            links: HashMap::new(),
            version: None,
            scanner: Scanner::new(PICKLE),
            statistics: Statistics::default(),
            next_tick: now + TICK,
            again: VecDeque::new(),
            next_table: None,
            last_table: None,
            dirty: Vec::new(),
            closing: Vec::new(),
            trusted: Vec::new(),
            orders: VecDeque::new(),
            keeping,
            gated: Vec::new(),
            tries: Tries::default(),
        }
    }

    /// Its scene, for whoever begins to keep a copy.
    pub fn scene(&self) -> Scene {
        match self.state {
            State::Active => Scene {
                repository: self.repository.clone(),
                is_complete: true,
            },
            State::Waiting => Scene::default(),
            State::Filling { .. } => Scene {
                repository: self.repository.clone(),
                is_complete: false,
            },
        }
    }

    /// Has something kept.
    pub(super) fn keep(&mut self, record: impl FnOnce() -> Record) {
        if self.keeping.count() {
            self.orders.push_back(Order::Keep(Change::Record(record())));
        }
    }

    /// What is to be done elsewhere.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// The log is as far as `position`, counted in records.
    pub fn logged(&mut self, now: Instant, position: u64) {
        if self.keeping.advance(now, position) {
            self.dirty.append(&mut self.gated);
        }
    }

    /// Whether records wait to be logged.
    pub fn waits_for_log(&self) -> bool {
        self.keeping.is_behind()
    }

    /// The keeper has fallen so far behind that it gets the whole scene later, and nothing before. All
    /// orders so far were handed over.
    pub fn keeper_lost(&mut self, now: Instant) {
        self.keeping.lose(now);
        self.dirty.append(&mut self.gated);
    }

    /// The keeper takes changes again, from the scene that it gets first.
    pub fn keeper_found(&mut self) {
        let scene = Box::new(self.scene());
        self.orders.push_back(Order::Keep(Change::Whole(scene)));
        self.keeping.find();
    }

    /// A node was folded.
    pub fn folded(&mut self, folded: Folded) {
        if !self.repository.fold(&folded) {
            self.statistics.unfolded += 1;
            return;
        }
        self.statistics.folded += 1;
        if self.keeping.is_kept() {
            self.orders.push_back(Order::Keep(Change::Folded(folded)));
        }
    }

    /// A node could not be handed over to be folded.
    pub fn not_folded(&mut self, job: &FoldJob) {
        self.repository.unfolded(job);
    }

    /// Changes passwords, versions and the timeout.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// A connection has said who it is. False if it may not stay.
    pub fn opened(
        &mut self,
        now: Instant,
        conn: ConnId,
        address: IpAddr,
        (wire, channel, identity): (Wire, Channel, Bytes),
    ) -> bool {
        if channel == Channel::Push && self.user(&identity).is_none() {
            self.turn_away_pushing(&identity, address);
            return false;
        }
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&identity) {
            self.statistics.refused_connections += 1;
            return false;
        }
        let client = self
            .clients
            .entry(identity.clone())
            .or_insert_with(|| Client {
                wire,
                address,
                lanes: [(); Channel::COUNT].map(|()| Lane::new(now)),
                user: None,
                login: None,
                offered: None,
                asked: None,
                closed: None,
            });
        // A client that connects again does so from where it is; an identity is no password.
        let spoken = client.wire_with(wire, channel);
        let Some(spoken) = spoken.filter(|_| client.address == address) else {
            self.statistics.refused_connections += 1;
            return false;
        };
        client.wire = spoken;
        let lane = &mut client.lanes[channel as usize];
        lane.is_busy = false;
        lane.progress = (now, 0);
        if let Some(old) = lane.conn.replace(conn) {
            self.links.remove(&old);
            self.closing.push(old);
        }
        if channel == Channel::Command {
            client.closed = None;
        }
        if client.user.is_some() {
            self.trusted.push(conn);
        }
        self.links.insert(conn, (identity.clone(), channel));
        self.dirty.push(conn);
        match channel {
            Channel::Command => self.told_giving(&identity),
            Channel::Data => self.data_opened(&identity),
            Channel::Ttl | Channel::Push => {}
        }
        true
    }

    /// A message of a connection.
    pub fn message(&mut self, now: Instant, conn: ConnId, parts: Vec<Bytes>) {
        let Some((identity, channel)) = self.links.get(&conn).cloned() else {
            return;
        };
        self.statistics.received += 1;
        match channel {
            Channel::Ttl => self.sign_of_life(now, &identity, &parts),
            Channel::Command => self.command(now, &identity, &parts),
            Channel::Push => self.data(&identity, parts),
            // Nothing comes by the connection that generation A listens at.
            Channel::Data if self.generation_of(&identity) == Generation::A => {
                self.statistics.refused_messages += 1;
            }
            Channel::Data => self.data(&identity, parts),
        }
    }

    fn sign_of_life(&mut self, now: Instant, identity: &Bytes, parts: &[Bytes]) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        match (client.asked, parts.first()) {
            (_, Some(part)) if part == b"INIT".as_slice() => self.ask(now, identity),
            (Some(asked), _) => {
                if let Some(user) = &mut client.user {
                    user.latency = now.saturating_duration_since(asked).as_millis() as i64;
                }
            }
            (None, _) => {}
        }
    }

    fn ask(&mut self, now: Instant, identity: &Bytes) {
        if let Some(client) = self.clients.get_mut(identity) {
            client.asked = Some(now);
            if client.lanes[Channel::Ttl as usize].outbox.is_empty() {
                let ping = vec![vec![Bytes::from_static(b"PING")]];
                self.send(identity, Channel::Ttl, &Message::new(Subject::None, ping));
            }
        }
    }

    fn command(&mut self, now: Instant, identity: &Bytes, parts: &[Bytes]) {
        let Some(parts) = self.numbered(identity, parts) else {
            self.statistics.refused_messages += 1;
            return;
        };
        let parts = &parts;
        let [first, owner, body] = parts;
        let Some(kind) = Kind::read(first) else {
            self.statistics.refused_messages += 1;
            return;
        };
        let scanned = self.scanner.scan(body, Rules::Plain);
        let is_safe = scanned.is_ok_and(|summary| is_compact(&summary, body.len()));
        if !is_safe || str::from_utf8(owner).is_err() {
            self.statistics.refused_pickles += 1;
            return;
        }
        let is_user = self
            .clients
            .get(identity)
            .is_some_and(|client| client.user.is_some());
        match kind {
            Kind::RequestServerInfo => self.server_info(identity),
            Kind::Auth => self.ask_login(now, identity, body),
            _ if !is_user => self.turn_away(identity),
            Kind::Snapshot => self.snapshot(identity, body),
            Kind::ServerSnapshot => self.server_snapshot(now, identity, body),
            Kind::Right => self.right(now, identity, parts),
            Kind::Delete => self.delete(now, identity, parts),
            Kind::Kick => self.kick(identity, body),
            Kind::UpdateUserMetadata => self.metadata(now, identity, parts),
            Kind::Commit | Kind::Node | Kind::Disconnect | Kind::UpdateClientsState => {
                self.statistics.refused_messages += 1;
            }
        }
    }

    /// Somebody who has not logged in says what only users may say. It may have been a user that was
    /// away for too long and does not know that it has left.
    pub(super) fn turn_away(&mut self, identity: &Bytes) {
        self.statistics.refused_strangers += 1;
        let client = self.clients.get(identity);
        if client.is_some_and(|client| client.lanes[0].outbox.is_empty()) {
            let value = dict([("reason", "you are not logged in".into())]);
            let message = Message::of_server(Kind::Disconnect, Subject::None, &value);
            self.send(identity, Channel::Command, &message);
        }
    }

    /// A connection is gone.
    pub fn closed(&mut self, now: Instant, conn: ConnId) {
        let Some((identity, channel)) = self.links.remove(&conn) else {
            return;
        };
        let Some(client) = self.clients.get_mut(&identity) else {
            return;
        };
        let lane = &mut client.lanes[channel as usize];
        lane.conn = None;
        lane.is_busy = false;
        let is_needed = matches!(channel, Channel::Command | Channel::Data);
        if is_needed || client.lanes.iter().all(|lane| lane.conn.is_none()) {
            client.closed.get_or_insert(now);
        }
        if client.user.is_none() && client.lanes.iter().all(|lane| lane.conn.is_none()) {
            self.clients.remove(&identity);
        }
    }

    /// A connection was not understood.
    pub fn failed(&mut self) {
        self.statistics.refused_connections += 1;
    }

    /// All that was handed over to a connection is sent.
    pub fn drained(&mut self, conn: ConnId) {
        let mut has_all = false;
        if let Some(lane) = self.lane(conn) {
            lane.is_busy = false;
            has_all = lane.outbox.is_empty();
            if !has_all {
                self.dirty.push(conn);
            }
        }
        if has_all && let Some((identity, Channel::Command)) = self.links.get(&conn).cloned() {
            self.told_giving(&identity);
        }
    }

    fn lane(&mut self, conn: ConnId) -> Option<&mut Lane> {
        let (identity, channel) = self.links.get(&conn)?;
        Some(&mut self.clients.get_mut(identity)?.lanes[*channel as usize])
    }

    /// What goes out next: a connection, and the pieces for it.
    pub fn poll_send(&mut self) -> Option<(ConnId, Vec<Bytes>)> {
        while let Some(conn) = self.dirty.pop() {
            let Some((identity, channel)) = self.links.get(&conn) else {
                continue;
            };
            let Some(client) = self.clients.get_mut(identity) else {
                continue;
            };
            let wire = client.wire;
            let lane = &mut client.lanes[*channel as usize];
            let logged = self.keeping.logged();
            if lane.is_busy || lane.outbox.is_empty() {
                continue;
            }
            if lane.outbox.is_ready(logged) {
                return Some((conn, lane.hand_over(wire, logged)));
            }
            // A connection is here once, because it is made dirty again only from here.
            if !self.gated.contains(&conn) {
                self.gated.push(conn);
            }
        }
        None
    }

    /// The next connection to close once all is sent.
    pub fn poll_close(&mut self) -> Option<ConnId> {
        self.closing.pop()
    }

    /// The next connection of somebody who has logged in.
    pub fn poll_trusted(&mut self) -> Option<ConnId> {
        self.trusted.pop()
    }

    /// When [`Session::tick`] wants to be called. None while nobody is there.
    pub fn deadline(&self) -> Option<Instant> {
        let leaving = self.clients.values().filter_map(|client| {
            let until = client.user.as_ref()?.waits_for_data;
            [client.closed.map(|closed| closed + GRACE), until]
                .into_iter()
                .flatten()
                .min()
        });
        let logins = self.clients.values();
        let logins = logins.filter_map(|client| client.login.as_ref().map(|(due, _)| *due));
        let offers = self.clients.values();
        let offers = offers.filter_map(|client| client.offered.as_ref().map(|(due, _)| *due));
        let tick = (!self.clients.is_empty()).then_some(self.next_tick);
        let soon = [self.next_table, self.next_again()].into_iter().flatten();
        leaving
            .chain(logins)
            .chain(offers)
            .chain(tick)
            .chain(soon)
            .min()
    }

    /// The time of [`Session::deadline`] has come. `signs` tells of a connection.
    pub fn tick(&mut self, now: Instant, signs: impl Fn(ConnId) -> Option<Signs>) {
        let left: Vec<Bytes> = self
            .users
            .iter()
            .filter(|identity| {
                let closed = self.clients.get(*identity).and_then(|client| client.closed);
                closed.is_some_and(|closed| now >= closed + GRACE && !self.is_whole(identity))
            })
            .cloned()
            .collect();
        for identity in left {
            // What is left of it would tell it by signs of life that it is still here.
            if let Some(client) = self.clients.get(&identity) {
                let conns = client.lanes.iter().filter_map(|lane| lane.conn);
                self.closing.extend(conns);
            }
            self.leave(&identity, "its connection is closed");
        }
        for client in self.clients.values_mut() {
            if client.closed.is_some_and(|closed| now >= closed + GRACE) {
                client.closed = None;
            }
        }
        self.give_up_data(now);
        self.take_logins(now);
        self.take_offers(now);
        self.take_again(now);
        if self.keeping.is_late(now) {
            self.statistics.log_late += 1;
            tracing::warn!(
                port = self.options.port,
                "the log of the collaborative session is late: messages go out before they are logged"
            );
            self.dirty.append(&mut self.gated);
        }
        if self.next_table.is_some_and(|due| now >= due) {
            self.tell_users_soon(now);
        }
        if now < self.next_tick {
            return;
        }
        // Nobody was asked for a sign of life while this side was held up.
        let late = now.saturating_duration_since(self.next_tick);
        self.next_tick = now + TICK;
        for identity in self.users.clone() {
            self.look_after(now, late, &identity, &signs);
            self.age_giving(&identity);
        }
        let watched: Vec<Bytes> = self
            .clients
            .iter()
            .filter(|(_, client)| client.asked.is_some())
            .map(|(identity, _)| identity.clone())
            .collect();
        for identity in watched {
            self.ask(now, &identity);
        }
        self.tell_users();
    }

    /// Whether both connections that a user needs are there. The one that nodes of generation A come
    /// by is not known before the first node.
    fn is_whole(&self, identity: &Bytes) -> bool {
        self.clients
            .get(identity)
            .is_some_and(|client| client.lanes[..2].iter().all(|lane| lane.conn.is_some()))
    }

    fn look_after(
        &mut self,
        now: Instant,
        late: Duration,
        identity: &Bytes,
        signs: impl Fn(ConnId) -> Option<Signs>,
    ) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        let mut heard = None;
        let mut is_stalled = false;
        for lane in &mut client.lanes {
            let Some(sign) = lane.conn.and_then(&signs) else {
                continue;
            };
            heard = heard.max(Some(sign.heard));
            if !lane.is_busy || sign.taken != lane.progress.1 {
                lane.progress = (now, sign.taken);
            }
            is_stalled |= now.saturating_duration_since(lane.progress.0) > self.options.stall;
        }
        let silent = heard.map(|heard| now.saturating_duration_since(heard));
        if client.asked.is_some()
            && silent.is_some_and(|silent| silent > self.options.timeout + late)
        {
            self.statistics.lost += 1;
            self.disconnect(identity, "nothing was heard of you");
        } else if is_stalled {
            self.statistics.overfull += 1;
            self.disconnect(identity, "you do not read what is sent");
        }
    }

    /// What the session counts.
    pub fn statistics(&self) -> Statistics {
        let lanes = self.clients.values().flat_map(|client| &client.lanes);
        Statistics {
            port: self.options.port,
            users: self.users.len() as u64,
            connections: self.links.len() as u64,
            nodes: self.repository.len() as u64,
            node_bytes: self.repository.bytes() as u64,
            locks: self.repository.locks() as u64,
            queued_bytes: lanes.map(|lane| lane.outbox.bytes() as u64).sum(),
            ..self.statistics.clone()
        }
    }
}
