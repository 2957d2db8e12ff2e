//! The clients of `/ws`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::base::ids::ConnId;
use crate::server::log_layer::Log;
use crate::shard::clock;
use crate::streams::api::events::{
    Changes, Subscription, auth_frame, challenge_frame, log_frame, login,
};
use crate::streams::api::{Caller, Reply};
use crate::streams::{ClientSnapshot, ShardSnapshot};

/// How long a client has to log in.
const LOGIN_MAX: Duration = Duration::from_secs(10);

/// Clients at once.
const LISTENERS_MAX: usize = 64;

/// Someone who listens.
#[derive(Debug)]
struct Listener {
    subscription: Subscription,
    caller: Caller,
    /// When it has to have logged in; `None` once it has.
    until: Option<Instant>,
}

/// What is to be done with a listener's connection.
#[derive(Debug)]
pub(super) enum Frame {
    /// Send this text.
    Send(ConnId, String),
    /// Close it.
    Close(ConnId),
}

/// All who listen.
#[derive(Debug)]
pub(super) struct Listeners {
    listeners: BTreeMap<ConnId, Listener>,
    changes: Changes,
    /// The first line of the log that was not sent.
    next_line: u64,
    log: Log,
    frames: Vec<Frame>,
}

impl Listeners {
    pub(super) fn new(log: Log) -> Self {
        Self {
            listeners: BTreeMap::new(),
            changes: Changes::default(),
            next_line: 0,
            log,
            frames: Vec::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.listeners.len() >= LISTENERS_MAX
    }

    /// Somebody comes. `is_authorized` says whether it may listen at once.
    pub(super) fn come(
        &mut self,
        now: Instant,
        conn: ConnId,
        subscription: Subscription,
        caller: Caller,
        is_authorized: bool,
    ) {
        self.send_lines();
        let listener = Listener {
            subscription,
            caller,
            until: (!is_authorized).then_some(now + LOGIN_MAX),
        };
        self.listeners.insert(conn, listener);
        if is_authorized {
            self.begin(conn);
        } else {
            self.frames.push(Frame::Send(conn, auth_frame(false)));
        }
    }

    /// It may listen.
    pub(super) fn begin(&mut self, conn: ConnId) {
        self.send_lines();
        let Some(listener) = self.listeners.get_mut(&conn) else {
            return;
        };
        listener.until = None;
        let subscription = listener.subscription;
        self.frames.push(Frame::Send(conn, auth_frame(true)));
        let lines = self.log.with(|ring| ring.since(0));
        for line in subscription.first_lines(&lines) {
            let frame = log_frame(line, std::process::id());
            self.frames.push(Frame::Send(conn, frame));
        }
        if subscription.streams {
            let streams = self.changes.all_streams();
            let frames = streams.into_iter().map(|text| Frame::Send(conn, text));
            self.frames.extend(frames);
        }
    }

    /// What a listener that has not logged in shows; it may be asked for once at a time.
    pub(super) fn login(
        &self,
        conn: ConnId,
        text: &str,
    ) -> Option<(&Caller, serde_json::Map<String, serde_json::Value>)> {
        let listener = self.listeners.get(&conn)?;
        listener.until?;
        Some((&listener.caller, login(text)?))
    }

    /// It may not.
    pub(super) fn refuse(&mut self, conn: ConnId, reply: &Reply) {
        let frame = challenge_frame(reply.members.get("authorize"));
        self.frames.push(Frame::Send(conn, frame));
    }

    pub(super) fn connection_gone(&mut self, conn: ConnId) {
        if self.listeners.remove(&conn).is_some() && !self.wants(|_| true) {
            self.changes.forget();
        }
    }

    fn wants(&self, what: impl Fn(&Subscription) -> bool) -> bool {
        self.listeners
            .values()
            .any(|listener| listener.until.is_none() && what(&listener.subscription))
    }

    /// Whether somebody wants streams.
    pub(super) fn want_streams(&self) -> bool {
        self.wants(|subscription| subscription.streams)
    }

    /// Whether somebody wants sessions.
    pub(super) fn want_clients(&self) -> bool {
        self.wants(|subscription| subscription.accesses)
    }

    fn send_to(&mut self, wants: impl Fn(&Subscription) -> bool, texts: &[String]) {
        for (conn, listener) in &self.listeners {
            if listener.until.is_none() && wants(&listener.subscription) {
                let frames = texts.iter().map(|text| Frame::Send(*conn, text.clone()));
                self.frames.extend(frames);
            }
        }
    }

    /// What the shards had in this second.
    pub(super) fn tell(&mut self, shards: Option<&[ShardSnapshot]>, clients: &[ClientSnapshot]) {
        if let Some(shards) = shards.filter(|_| self.want_streams()) {
            let texts = self.changes.of_streams(shards);
            self.send_to(|subscription| subscription.streams, &texts);
        }
        if self.want_clients() {
            let texts = self
                .changes
                .of_clients(clock::unix_millis() / 1000, clients);
            self.send_to(|subscription| subscription.accesses, &texts);
        }
    }

    fn send_lines(&mut self) {
        let from = self.next_line;
        let (lines, next) = self.log.with(|ring| (ring.since(from), ring.next_number()));
        self.next_line = next;
        let texts: Vec<String> = lines
            .iter()
            .map(|line| log_frame(line, std::process::id()))
            .collect();
        self.send_to(|subscription| subscription.logs.is_some(), &texts);
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.listeners.is_empty() {
            return;
        }
        self.send_lines();
        let late = self
            .listeners
            .iter()
            .filter(|(_, listener)| listener.until.is_some_and(|until| now >= until))
            .map(|(conn, _)| Frame::Close(*conn));
        self.frames.extend(late);
    }

    pub(super) fn take_frames(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.frames)
    }
}
