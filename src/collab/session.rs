//! One session: its clients, its users, and what they have together.

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::fold::{FoldJob, Folded};
use super::four_ports::Given;
use super::keeping::Keeping;
use super::message::{Message, Subject, dict};
use super::order::Order;
use super::outbox::{Outbox, Overfull};
use super::relay::is_compact;
use super::repository::{COMMON, Repository};
use super::scene::{Change, Scene};
use super::statistics::Statistics;
use super::tries::Tries;
use crate::base::ids::ConnId;
use crate::config::Secret;
use crate::proto::pickle::{Dict, Limits, Rules, Scanner, Value};
use crate::proto::replication::{Channel, Generation, Kind, Wire};
use crate::proto::session_log::Record;

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

/// One of a client's connections, and what waits for it; that outlives the connection.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) conn: Option<ConnId>,
    outbox: Outbox,
    /// Something is on its way to the client.
    is_busy: bool,
    /// When it last took something, and how much it had taken.
    progress: (Instant, u64),
}

impl Lane {
    pub(super) fn queued_bytes(&self) -> usize {
        self.outbox.bytes()
    }
}

/// How far a user is with the scene.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Join {
    /// It has not asked.
    Lobby,
    /// It has the catalogue. Until its first request it may not listen to data.
    Catalogue { missing: HashSet<Bytes> },
    /// It fetches what is missing; whatever concerns those nodes comes with them.
    Fetching { missing: HashSet<Bytes> },
    /// It has given the scene and takes no data before it has read that the scene is complete,
    /// which it does not confirm. How many seconds ago that was sent, beginning at 1.
    Giving(u8),
    /// It has everything.
    Active,
}

/// A client that has logged in.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: Bytes,
    pub(super) is_admin: bool,
    pub(super) join: Join,
    /// Data that it gets once it has the scene.
    held: Outbox,
    /// Whole nodes among them.
    held_nodes: HashSet<Bytes>,
    pub(super) metadata: Dict,
    /// Bytes of its entries.
    pub(super) metadata_bytes: usize,
    latency: i64,
    /// It says that its data connection is to come first.
    pub(super) waits_for_data: Option<Instant>,
    /// What a client of generation A was sent last of the scene that it fetches.
    pub(super) given: Option<Given>,
}

impl User {
    /// Forgets what was to come once it has the scene.
    pub(super) fn hold_nothing(&mut self) {
        self.held = Outbox::new();
        self.held_nodes.clear();
    }

    /// Milliseconds that its last sign of life took.
    pub(super) fn latency(&self) -> i64 {
        self.latency
    }

    /// What it is to do with a message about a node that concerns it.
    pub(super) fn reception(&self, subject: &Subject) -> Reception {
        let (uuid, is_whole) = match subject {
            Subject::Node(uuid) => (uuid, true),
            Subject::Commit(uuid) => (uuid, false),
            Subject::Users | Subject::Metadata(_) | Subject::None => return Reception::Now,
        };
        match &self.join {
            // Whoever is in the lobby fetches everything later.
            Join::Lobby => Reception::Never,
            Join::Catalogue { missing } | Join::Fetching { missing } if missing.contains(uuid) => {
                Reception::Never
            }
            Join::Catalogue { .. } | Join::Giving(_) => Reception::Later,
            // It keeps data until it has the scene, but removes nodes at once: one that came and
            // went meanwhile would come again and stay.
            Join::Fetching { .. } if is_whole || self.held_nodes.contains(uuid) => Reception::Later,
            Join::Fetching { .. } | Join::Active => Reception::Now,
        }
    }
}

/// When a user gets a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reception {
    Now,
    /// When it has the scene.
    Later,
    /// What it says comes another way.
    Never,
}

/// All connections of one identity.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) wire: Wire,
    pub(super) address: IpAddr,
    pub(super) lanes: [Lane; Channel::COUNT],
    pub(super) user: Option<User>,
    /// A login that waits for its time, because others from its address have failed.
    pub(super) login: Option<(Instant, Bytes)>,
    /// It offers a scene, which is looked at a moment later.
    pub(super) offered: Option<(Instant, Bytes)>,
    /// It has begun to send signs of life, and was last asked for one at that time.
    pub(super) asked: Option<Instant>,
    closed: Option<Instant>,
}

/// What the door knows of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signs {
    /// When it last sent something.
    pub heard: Instant,
    /// How many bytes it has taken.
    pub taken: u64,
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
            self.turn_away(&identity);
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
                lanes: [(); Channel::COUNT].map(|()| Lane {
                    conn: None,
                    outbox: Outbox::new(),
                    is_busy: false,
                    progress: (now, 0),
                }),
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
            Kind::Right => self.right(identity, parts),
            Kind::Delete => self.delete(identity, parts),
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
                lane.is_busy = true;
                return Some((conn, lane.outbox.take(wire, logged)));
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
        let table = self.next_table;
        leaving
            .chain(logins)
            .chain(offers)
            .chain(tick)
            .chain(table)
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

    /// Queues a message for a client.
    pub(super) fn send(&mut self, identity: &Bytes, channel: Channel, message: &Rc<Message>) {
        let push = |outbox: &mut Outbox, after| outbox.push(message, after);
        self.send_by(identity, channel, 1, push);
    }

    /// Queues what the session stores of a node for one who has asked for it.
    pub(super) fn send_stored(
        &mut self,
        identity: &Bytes,
        channel: Channel,
        messages: &[Rc<Message>],
    ) {
        let push = |outbox: &mut Outbox, after| outbox.push_stored(messages, after);
        self.send_by(identity, channel, messages.len() as u64, push);
    }

    fn send_by(
        &mut self,
        identity: &Bytes,
        channel: Channel,
        count: u64,
        push: impl FnOnce(&mut Outbox, u64) -> Result<usize, Overfull>,
    ) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        // Signs of life do not wait for a disk.
        let after = match channel {
            Channel::Ttl => 0,
            Channel::Command | Channel::Data | Channel::Push => self.keeping.position(),
        };
        let lane = &mut client.lanes[channel as usize];
        let was_idle = lane.outbox.is_empty() && !lane.is_busy;
        let pushed = push(&mut lane.outbox, after);
        if was_idle && let Some(conn) = lane.conn {
            self.dirty.push(conn);
        }
        self.statistics.sent += count;
        match pushed {
            Ok(replaced) => self.statistics.coalesced += replaced as u64,
            Err(Overfull) => {
                self.statistics.overfull += 1;
                self.disconnect(identity, "you read too slowly");
            }
        }
    }

    /// Keeps data back from a client that has not got the scene.
    pub(super) fn hold(&mut self, identity: &Bytes, message: &Rc<Message>) {
        let client = self.clients.get_mut(identity);
        let Some(user) = client.and_then(|client| client.user.as_mut()) else {
            return;
        };
        if let Subject::Node(uuid) = &message.subject {
            user.held_nodes.insert(uuid.clone());
        }
        match user.held.push(message, 0) {
            Ok(replaced) => self.statistics.coalesced += replaced as u64,
            Err(Overfull) => {
                self.statistics.overfull += 1;
                self.disconnect(identity, "you do not fetch the scene");
            }
        }
    }

    /// Lets a client have what was kept back.
    pub(super) fn release(&mut self, identity: &Bytes) {
        let client = self.clients.get_mut(identity);
        let Some(user) = client.and_then(|client| client.user.as_mut()) else {
            return;
        };
        user.held_nodes.clear();
        for message in mem::replace(&mut user.held, Outbox::new()).into_messages() {
            // Changes of owners went out meanwhile, and found nothing to change.
            let message = match &message.subject {
                Subject::Node(uuid) => self.repository.node(uuid).map_or_else(
                    || Rc::clone(&message),
                    |node| message.with_owner(&node.owner),
                ),
                Subject::Commit(_) | Subject::Users | Subject::Metadata(_) | Subject::None => {
                    message
                }
            };
            self.send(identity, Channel::Data, &message);
        }
    }

    /// Forgets what waits for a client about a node that is gone.
    pub(super) fn forget(&mut self, identity: &Bytes, node: &Bytes) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        if !client.user.as_ref().is_some_and(|user| user.is_given(node)) {
            client.lanes[Channel::Data as usize].outbox.forget(node);
        }
        if let Some(user) = &mut client.user {
            user.held.forget(node);
            user.held_nodes.remove(node);
        }
    }

    /// Queues a message for all users but one, and but those who have no answer to their login.
    pub(super) fn tell_others(&mut self, but: Option<&Bytes>, message: &Rc<Message>) {
        for identity in self.users.clone() {
            let is_in = self
                .user(&identity)
                .is_some_and(|user| user.waits_for_data.is_none());
            if is_in && Some(&identity) != but {
                self.send(&identity, Channel::Command, message);
            }
        }
    }

    /// Tells all users who is there.
    pub(super) fn tell_users(&mut self) {
        let mut table = Dict::new();
        for identity in &self.users {
            let Some(client) = self.clients.get(identity) else {
                continue;
            };
            if let Some(user) = &client.user {
                let name = String::from_utf8_lossy(&user.name).into_owned();
                let status = match (&user.join, user.waits_for_data) {
                    (_, Some(_)) => 11,
                    (Join::Active | Join::Giving(_), None) => 2,
                    (Join::Lobby | Join::Catalogue { .. } | Join::Fetching { .. }, None) => 10,
                };
                let entry = dict([
                    ("id", Value::Text(name.clone())),
                    ("admin", user.is_admin.into()),
                    ("latency", user.latency.into()),
                    ("status", status.into()),
                    ("metadata", user.metadata.clone().into()),
                ]);
                table.set(Value::Text(name), entry);
            }
        }
        let kind = Kind::UpdateClientsState;
        let message = Message::of_server(kind, Subject::Users, &Value::Dict(table));
        self.tell_others(None, &message);
    }

    pub(super) fn add_user(&mut self, identity: &Bytes, name: Bytes, is_admin: bool) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        client.user = Some(User {
            name,
            is_admin,
            join: Join::Lobby,
            held: Outbox::new(),
            held_nodes: HashSet::new(),
            metadata: Dict::new(),
            metadata_bytes: 0,
            latency: 999,
            waits_for_data: None,
            given: None,
        });
        let conns = client.lanes.iter().filter_map(|lane| lane.conn);
        self.trusted.extend(conns);
        self.users.push(identity.clone());
    }

    pub(super) fn user(&mut self, identity: &Bytes) -> Option<&mut User> {
        self.clients.get_mut(identity)?.user.as_mut()
    }

    /// The identity of a name.
    pub(super) fn identity_of(&self, name: &[u8]) -> Option<Bytes> {
        let found = self.users.iter().find(|identity| {
            let user = self
                .clients
                .get(*identity)
                .and_then(|client| client.user.as_ref());
            user.is_some_and(|user| user.name == name)
        });
        found.cloned()
    }

    /// Lets a user go, who is told why.
    pub(super) fn disconnect(&mut self, identity: &Bytes, reason: &str) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        // It is behind with everything else, and needs none of it any more.
        for lane in &mut client.lanes {
            lane.outbox = Outbox::new();
        }
        if client.user.is_none() {
            return;
        }
        let value = dict([("reason", reason.into())]);
        let message = Message::of_server(Kind::Disconnect, Subject::None, &value);
        let command = &mut client.lanes[Channel::Command as usize];
        if let Some(conn) = command.conn
            && command.outbox.push(&message, 0).is_ok()
        {
            command.is_busy = false;
            self.dirty.push(conn);
        }
        let conns: Vec<ConnId> = client.lanes.iter().filter_map(|lane| lane.conn).collect();
        self.closing.extend(conns);
        self.leave(identity, reason);
    }

    /// A user is no longer one.
    pub(super) fn leave(&mut self, identity: &Bytes, reason: &str) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        let Some(user) = client.user.take() else {
            return;
        };
        let name = user.name;
        let generation = client.wire.generation();
        tracing::info!(
            port = self.options.port,
            user = %String::from_utf8_lossy(&name),
            reason,
            "a user has left the collaborative session"
        );
        self.users.retain(|other| other != identity);
        if client.lanes.iter().all(|lane| lane.conn.is_none()) {
            self.clients.remove(identity);
        }
        if matches!(&self.state, State::Filling { identity: filling, .. } if filling == identity) {
            // Nobody else could bring a scene otherwise, and all would wait for ever.
            self.state = State::Waiting;
            self.repository.clear();
            self.keep(|| Record::Begin);
        }
        let owned = self.repository.owned(&name);
        let common = Bytes::from_static(COMMON);
        for uuid in &owned {
            self.repository.own(uuid, &common);
        }
        if !owned.is_empty() && name != COMMON {
            self.tell_rights(generation, &owned, "COMMON");
        }
        self.tell_users();
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
