//! All clients: their sockets and their time, on one thread.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use ringside::base::ids::ConnId;
use ringside::drive::{Driver, Occurrence};
use ringside::io::Piece;
use ringside::proto::replication::{self, Channel, Event, Part, Wire, frame, frame_pushed};
use ringside::shard::clock;

use super::ledger::{Hearing, Ledger};
use super::link::Link;
use super::member::{Member, Outcome, Stage};
use super::options::{Options, What};
use super::scene::Scene;
use crate::fleet::{RING, limits};
use crate::publisher::{LOOK_EVERY, connect};
use crate::stamp;
use crate::tally::Times;

/// Messages that are sent before the sockets are looked at again.
const BURST: usize = 64;

/// Sums over all clients.
#[derive(Default)]
pub(super) struct Tally {
    /// From a message's making to its arrival.
    pub(super) latency: Times,
    /// From the first connect to the whole scene.
    pub(super) join: Times,
    /// From asking for a node to having it.
    pub(super) get: Times,
    /// Of the measurement.
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_delivered: u64,
    /// Messages that others have overtaken, or that came twice.
    pub(super) late: u64,
    /// Messages of a rate that were sent more than a tenth of their interval too late.
    pub(super) late_here: u64,
    pub(super) failed: usize,
    pub(super) complaint: Option<String>,
}

/// All clients.
pub(super) struct Crowd {
    options: Options,
    scene: Scene,
    driver: Driver<Link>,
    members: Vec<Member>,
    conns: Vec<[ConnId; Channel::COUNT]>,
    identities: Vec<String>,
    by_conn: HashMap<ConnId, (usize, Channel)>,
    /// How many are to be there.
    wanted: usize,
    parallel: usize,
    ledger: Ledger,
    /// Since when senders send, in nanoseconds of marks.
    since: Option<u64>,
    /// When each sender sends next; empty while nobody sends.
    due: Vec<Instant>,
    pub(super) tally: Tally,
}

impl Crowd {
    pub(super) fn new(options: &Options) -> io::Result<Self> {
        let limits = limits(Duration::ZERO);
        Ok(Self {
            options: options.clone(),
            scene: Scene::new(options),
            driver: Driver::new(RING, limits)?,
            members: Vec::new(),
            conns: Vec::new(),
            identities: Vec::new(),
            by_conn: HashMap::new(),
            wanted: 0,
            parallel: 1,
            ledger: Ledger::new(usize::from(options.senders), options.clients()),
            since: None,
            due: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Lets clients come until there are so many, some at a time.
    pub(super) fn want(&mut self, wanted: usize, parallel: usize) {
        (self.wanted, self.parallel) = (wanted, parallel);
    }

    /// All that are wanted have come as far as they will.
    pub(super) fn is_settled(&self) -> bool {
        self.members.len() == self.wanted && self.members.iter().all(|it| !is_coming(it))
    }

    /// Clients that have the scene.
    pub(super) fn active(&self) -> usize {
        let active = |member: &&Member| member.stage == Stage::Active;
        self.members.iter().filter(active).count()
    }

    /// The senders begin.
    pub(super) fn begin(&mut self, now: Instant) {
        self.since = Some(stamp::nanoseconds_at(now));
        let senders = usize::from(self.options.senders);
        self.due = match self.options.every() {
            // They take turns within the time between two messages.
            Some(every) => (0..senders)
                .map(|sender| now + every.mul_f64(sender as f64 / senders as f64))
                .collect(),
            None if self.options.window.is_some() => vec![now; senders],
            None => Vec::new(),
        };
    }

    /// The senders stop.
    pub(super) fn stop(&mut self) {
        self.due.clear();
    }

    /// All that was sent has arrived.
    pub(super) fn has_all(&self) -> bool {
        self.ledger.is_settled()
    }

    /// Messages that were to arrive.
    pub(super) fn due(&self) -> u64 {
        self.ledger.due()
    }

    /// Lets the time go on until `end`, or until `is_over`.
    pub(super) fn run(
        &mut self,
        end: Instant,
        is_over: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        loop {
            let now = clock::now();
            if now >= end || is_over(self) {
                return Ok(());
            }
            self.admit()?;
            let is_held_up = self.act()?;
            let next = match self.options.window {
                None => self.due.iter().min().copied(),
                Some(_) => is_held_up.then_some(now),
            };
            let next = next.into_iter().chain([now + LOOK_EVERY, end]).min();
            self.driver.turn(true, next)?;
            self.hear()?;
        }
    }

    /// Lets clients come.
    fn admit(&mut self) -> anyhow::Result<()> {
        let coming = self.members.iter().rev().take(2 * self.parallel);
        let mut coming = coming.filter(|member| is_coming(member)).count();
        while self.members.len() < self.wanted && coming < self.parallel {
            let index = self.members.len();
            let member = Member::new(clock::now(), &self.options, index);
            // Two runs may be there at one time.
            let identity = format!("{:08x}{index:08x}", std::process::id());
            let mut conns = [ConnId(0); Channel::COUNT];
            for channel in member.wire.channels().iter().copied() {
                let mut address = self.options.session;
                address.set_port(address.port() + member.wire.port(channel));
                let link = Link::new(member.wire, channel, &identity);
                let conn = self.driver.open(connect(address)?, address, link);
                let conn = conn.context("no room for a connection")?;
                self.driver.establish(conn);
                self.by_conn.insert(conn, (index, channel));
                conns[channel as usize] = conn;
            }
            self.members.push(member);
            self.conns.push(conns);
            self.identities.push(identity);
            coming += 1;
        }
        Ok(())
    }

    fn hear(&mut self) -> anyhow::Result<()> {
        while let Some(occurrence) = self.driver.poll() {
            let (conn, event) = match occurrence {
                Occurrence::Event(conn, event) => (conn, Ok(event)),
                Occurrence::Gone(conn, reason) => (conn, Err(format!("closed: {reason:?}"))),
                Occurrence::Accepted { .. } | Occurrence::Drained(_) | Occurrence::Datagram(..) => {
                    continue;
                }
            };
            let Some((index, channel)) = self.by_conn.get(&conn).copied() else {
                continue;
            };
            match event {
                Ok(Event::Opened { .. }) => {
                    self.members[index].opened(channel, &self.options);
                }
                Ok(Event::Message(parts)) if channel == Channel::Data => {
                    self.hear_node(index, &parts);
                }
                Ok(Event::Message(parts)) => self.hear_word(index, channel, &parts),
                Ok(Event::Failed(error)) => self.lose(index, &error.to_string()),
                Err(reason) => self.lose(index, &reason),
            }
            while let Some((channel, message)) = self.members[index].poll_say() {
                self.say(index, channel, &message);
            }
        }
        Ok(())
    }

    fn hear_word(&mut self, index: usize, channel: Channel, parts: &[Bytes]) {
        let member = &mut self.members[index];
        let has_given = member.stage == Stage::Giving;
        let outcome = member.hear(clock::now(), channel, parts, &self.scene);
        self.note(index, has_given, outcome);
    }

    /// What has come of a message.
    fn note(&mut self, index: usize, has_given: bool, outcome: Outcome) {
        if let Some(time) = self.members[index].take_fetched() {
            self.tally.get.record(time);
        }
        match outcome {
            Outcome::None => {}
            Outcome::Arrived(time) => {
                self.tally.join.record(time);
                if index == 0 && !has_given {
                    // There was a scene, which need not have the nodes of this run.
                    for node in 0..self.options.nodes as usize {
                        let message = self.scene.message(What::Node, node, 0, 0);
                        self.say(index, Channel::Data, &message);
                    }
                }
            }
            Outcome::Failed(reason) => self.count_failure(reason),
        }
    }

    fn hear_node(&mut self, index: usize, parts: &[Bytes]) {
        let [kind, uuid, .., data] = parts else {
            return;
        };
        if self.members[index].awaits(uuid) {
            let outcome = self.members[index].fetched(clock::now());
            self.note(index, false, outcome);
        }
        let Some(since) = self.since else {
            return;
        };
        let Some(node) = self.scene.node_of(uuid) else {
            return;
        };
        // Late ones get what has changed since the scene was given, which is not measured.
        let mark = stamp::find(data).filter(|(_, time)| *time >= since);
        let Some((number, time)) = mark.filter(|_| index < self.options.clients()) else {
            return;
        };
        let sender = node % usize::from(self.options.senders);
        let is_ours = self.scene.is_sent(kind);
        let hearing = self.ledger.hear(index, sender, number);
        match hearing.filter(|_| is_ours) {
            Some(Hearing::Next | Hearing::After(_)) => {
                let age = stamp::nanoseconds().saturating_sub(time);
                self.tally.latency.record(Duration::from_nanos(age));
                self.tally.delivered += 1;
                self.tally.bytes_delivered += parts.iter().map(|it| it.len() as u64).sum::<u64>();
            }
            Some(Hearing::Late) => self.tally.late += 1,
            None => self.lose(index, "a message came that was not sent"),
        }
    }

    fn say(&mut self, index: usize, channel: Channel, message: &[Part]) {
        let wire = self.members[index].wire;
        let is_pushed = wire == Wire::FourPorts && channel == Channel::Data;
        let (channel, pieces) = match message.as_array().filter(|_| is_pushed) {
            Some(node) => (Channel::Push, frame_pushed(&self.identities[index], node)),
            None => (channel, frame(wire, message)),
        };
        let conn = self.conns[index][channel as usize];
        self.driver.send(conn, pieces.into_iter().map(Piece::Bytes));
    }

    /// Sends what is due. True if there is more, and the sockets should be looked at meanwhile.
    fn act(&mut self) -> anyhow::Result<bool> {
        let mut budget = BURST;
        for sender in 0..self.due.len() {
            loop {
                let now = clock::now();
                let is_due = match self.options.window {
                    Some(window) => self.ledger.under_way(sender) < window,
                    None => self.due[sender] <= now,
                };
                if !is_due || self.members[sender].stage != Stage::Active {
                    break;
                }
                if budget == 0 {
                    self.driver.turn(false, None)?;
                    return Ok(true);
                }
                budget -= 1;
                if let Some(every) = self.options.every() {
                    let late = now.saturating_duration_since(self.due[sender]);
                    self.tally.late_here += u64::from(late > every / 10);
                    self.due[sender] += every;
                }
                self.send_one(sender, now);
            }
        }
        Ok(false)
    }

    fn send_one(&mut self, sender: usize, now: Instant) {
        let number = self.ledger.send(sender);
        let senders = usize::from(self.options.senders);
        // The nodes of a sender are every so many.
        let own = (self.options.nodes as usize - sender).div_ceil(senders);
        let node = sender + senders * (number as usize % own);
        let time = stamp::nanoseconds_at(now);
        let message = self.scene.message(self.options.what(), node, number, time);
        self.tally.sent += 1;
        let bytes = message.iter().map(|part| replication::bytes(part) as u64);
        self.tally.bytes_sent += bytes.sum::<u64>();
        self.say(sender, Channel::Data, &message);
    }

    fn lose(&mut self, index: usize, reason: &str) {
        if self.members[index].stage != Stage::Gone
            && let Outcome::Failed(reason) = self.members[index].failed(reason)
        {
            self.count_failure(reason);
        }
    }

    fn count_failure(&mut self, reason: String) {
        self.tally.failed += 1;
        self.tally.complaint.get_or_insert(reason);
    }

    /// All go.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        self.by_conn.clear();
        for conns in &self.conns {
            for conn in conns {
                self.driver.abort(*conn);
            }
        }
        self.driver.turn(false, None)?;
        Ok(())
    }
}

/// It has not got the scene, and may yet.
fn is_coming(member: &Member) -> bool {
    match member.stage {
        Stage::Opening
        | Stage::LoggingIn
        | Stage::Lobby
        | Stage::Giving
        | Stage::Asking
        | Stage::Fetching => true,
        Stage::Active | Stage::Gone => false,
    }
}
