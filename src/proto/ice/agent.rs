//! The lite side: answers checks, and says which path to send on.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::path::{Credentials, Path};
use crate::proto::stun::{BINDING, Builder, Class, ErrorCode, Key, Message, TransactionId};

/// Responses that wait to be taken. One datagram makes at most one, so a driver that takes them after
/// each never meets this.
const TRANSMITS_MAX: usize = 16;

/// Bounds and waiting times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Paths that are known at once; at least 2. A browser with two interfaces, IPv4 and IPv6, UDP
    /// and TCP, and an address from a NAT for each has 16.
    pub paths_max: usize,
    /// How long a path may go without an authenticated request (RFC 7675 section 5.1 has 30 s).
    /// Browsers send one every 2.5 to 5 s.
    pub consent: Duration,
    /// How long the first authenticated request may take.
    pub first_check: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            paths_max: 16,
            consent: Duration::from_secs(30),
            first_check: Duration::from_secs(30),
        }
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The peer was authenticated on this path: what comes from there may be looked at.
    Validated(Path),
    /// This is the path to send on.
    Selected(Path),
    /// A validated path is not valid any more. It was silent, there were too many, or it belonged to
    /// what was before a restart.
    Dropped(Path),
    /// The peer is gone, or never came. Nothing happens after this.
    Expired,
}

/// What was counted since the agent was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Requests that got a success response.
    pub answered: u64,
    /// Datagrams that are no message: nothing was sent.
    pub malformed: u64,
    /// Requests for somebody else, or without a name: nothing was sent.
    pub wrong_username: u64,
    /// Requests without the right integrity: nothing was sent.
    pub wrong_integrity: u64,
    /// Requests of a peer that takes itself to be controlled: refused with 487.
    pub role_conflicts: u64,
    /// Requests with attributes that must be understood: refused with 420.
    pub unknown_attributes: u64,
    /// Messages that want no answer, and requests that have none: nothing was sent.
    pub unexpected: u64,
    /// Responses that would have been larger than their request, or that nobody took: not sent.
    pub unsent: u64,
    /// Paths that were dropped because there were too many.
    pub paths_dropped: u64,
}

impl Statistics {
    /// Adds another agent's.
    pub fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.malformed += other.malformed;
        self.wrong_username += other.wrong_username;
        self.wrong_integrity += other.wrong_integrity;
        self.role_conflicts += other.role_conflicts;
        self.unknown_attributes += other.unknown_attributes;
        self.unexpected += other.unexpected;
        self.unsent += other.unsent;
        self.paths_dropped += other.paths_dropped;
    }
}

/// The lite side of one session.
///
/// How a path is selected, from RFC 8445 section 8.1.1 and what browsers do: a nominated path is
/// selected if there is none yet, or if the peer gives its candidate at least the priority of the
/// selected one's. One of a lower priority is selected when it is nominated a second time, by a
/// request of its own and not a repeated one, and the selected one was not nominated between. So a
/// peer that nominates every path once ends up on the best, and a peer that moves to a worse path
/// and keeps nominating it is followed.
#[derive(Debug)]
pub struct Agent {
    options: Options,
    current: Generation,
    /// What a restart replaced: in use until the new one selects.
    previous: Option<Box<Generation>>,
    paths: Vec<Known>,
    selected: Option<Path>,
    /// The selected path is of the current generation.
    is_settled: bool,
    /// When the peer counts as gone; None once it does.
    deadline: Option<Instant>,
    has_validated: bool,
    transmits: VecDeque<(Path, Bytes)>,
    events: VecDeque<Event>,
    statistics: Statistics,
}

/// Credentials from one restart to the next.
#[derive(Debug)]
struct Generation {
    local: Credentials,
    remote: Option<Credentials>,
    key: Key,
}

/// A path on which the peer was authenticated.
#[derive(Debug)]
struct Known {
    path: Path,
    /// By requests of the current generation.
    is_current: bool,
    heard: Instant,
    /// What the peer gave last; 0 if it never gave any.
    priority: u32,
    nominated_by: Option<TransactionId>,
    /// Different requests that nominated this path since the selected one was nominated.
    nominations: u8,
}

impl Generation {
    fn new(local: Credentials, remote: Option<Credentials>) -> Self {
        let key = Key::new(&local.password);
        Self { local, remote, key }
    }

    /// The name is `ours:theirs`; theirs counts once it is known.
    fn has_username(&self, username: &[u8]) -> bool {
        let Some(theirs) = username
            .strip_prefix(self.local.ufrag.as_bytes())
            .and_then(|rest| rest.strip_prefix(b":"))
        else {
            return false;
        };
        self.remote
            .as_ref()
            .is_none_or(|remote| remote.ufrag.as_bytes() == theirs)
    }
}

impl Agent {
    /// An agent with no path. The peer's credentials may come later: see [`Agent::set_remote`].
    pub fn new(
        now: Instant,
        local: Credentials,
        remote: Option<Credentials>,
        options: Options,
    ) -> Self {
        assert!(options.paths_max >= 2, "a path beside the selected one");
        Self {
            options,
            current: Generation::new(local, remote),
            previous: None,
            paths: Vec::new(),
            selected: None,
            is_settled: false,
            deadline: Some(now + options.first_check),
            has_validated: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            statistics: Statistics::default(),
        }
    }

    /// The peer's credentials, which the peer's requests are compared with from here on.
    pub fn set_remote(&mut self, remote: Credentials) {
        self.current.remote = Some(remote);
    }

    /// An ICE restart (RFC 8445 section 9): new credentials on both sides. The paths stay valid, and
    /// requests with the old credentials are answered, until the peer nominates a path with the new
    /// ones. A restart during a restart gives up the one before.
    pub fn restart(&mut self, local: Credentials, remote: Option<Credentials>) {
        let replaced = std::mem::replace(&mut self.current, Generation::new(local, remote));
        if self.is_settled || self.previous.is_none() {
            self.previous = Some(Box::new(replaced));
        }
        self.is_settled = false;
        for known in &mut self.paths {
            known.is_current = false;
            known.nominations = 0;
        }
    }

    /// A datagram that [`stun::is_stun`](crate::proto::stun::is_stun) takes for a message.
    pub fn handle_input(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        self.handle_timeout(now);
        if self.deadline.is_none() {
            return;
        }
        let Ok(message) = Message::parse(bytes) else {
            self.statistics.malformed += 1;
            return;
        };
        match message.class {
            Class::Request if message.method == BINDING => {
                self.handle_request(now, path, &message, bytes.len());
            }
            // An indication keeps a NAT's binding open. Consent needs what is authenticated.
            Class::Request | Class::Indication | Class::Success | Class::Error => {
                self.statistics.unexpected += 1;
            }
        }
    }

    /// Strangers get no answer at all: neither a reflection of what they send nor a sign that there
    /// is somebody.
    fn handle_request(
        &mut self,
        now: Instant,
        path: Path,
        message: &Message<'_>,
        request_bytes: usize,
    ) {
        let username = message.username.unwrap_or_default();
        let (generation, is_current) = if self.current.has_username(username) {
            (&self.current, true)
        } else {
            match self.previous.as_deref() {
                Some(previous) if previous.has_username(username) => (previous, false),
                Some(_) | None => {
                    self.statistics.wrong_username += 1;
                    return;
                }
            }
        };
        if !message.is_authentic(&generation.key) {
            self.statistics.wrong_integrity += 1;
            return;
        }
        let unknown = message.unknown_attributes();
        let (response, is_accepted) = if !unknown.is_empty() {
            self.statistics.unknown_attributes += 1;
            let refusal = Builder::new(Class::Error, message.transaction)
                .error(ErrorCode::UnknownAttribute)
                .unknown_attributes(unknown);
            (refusal, false)
        } else if message.controlled.is_some() {
            // The lite side is always the controlled one (RFC 8445 section 6.1.1).
            self.statistics.role_conflicts += 1;
            let refusal =
                Builder::new(Class::Error, message.transaction).error(ErrorCode::RoleConflict);
            (refusal, false)
        } else {
            let response =
                Builder::new(Class::Success, message.transaction).mapped_address(path.remote);
            (response, true)
        };
        let response = response.sign(&generation.key).finish();
        // Whoever can make an authenticated request is no stranger, and yet nothing that comes from
        // here is of use as an amplifier. Checks with all they must have are larger by 12 bytes.
        if response.len() > request_bytes || self.transmits.len() == TRANSMITS_MAX {
            self.statistics.unsent += 1;
            return;
        }
        self.transmits.push_back((path, response));
        if is_accepted {
            self.statistics.answered += 1;
            self.accept(now, path, message, is_current);
        }
    }

    /// The peer was authenticated on `path`.
    fn accept(&mut self, now: Instant, path: Path, message: &Message<'_>, is_current: bool) {
        self.has_validated = true;
        let index = match self.paths.iter().position(|known| known.path == path) {
            Some(index) => index,
            None => {
                self.drop_silent(now);
                self.make_room();
                self.paths.push(Known {
                    path,
                    is_current,
                    heard: now,
                    priority: 0,
                    nominated_by: None,
                    nominations: 0,
                });
                self.events.push_back(Event::Validated(path));
                self.paths.len() - 1
            }
        };
        let known = &mut self.paths[index];
        known.heard = now;
        known.is_current |= is_current;
        known.priority = message.priority.unwrap_or(known.priority);
        if message.use_candidate {
            self.nominate(index, message.transaction, is_current);
        }
        if self.selected.is_none_or(|selected| selected == path) {
            self.deadline = Some(now + self.options.consent);
        }
    }

    fn nominate(&mut self, index: usize, transaction: TransactionId, is_current: bool) {
        let selected = self
            .paths
            .iter()
            .find(|known| Some(known.path) == self.selected);
        let selected_priority = selected.map(|known| known.priority);
        let known = &mut self.paths[index];
        if known.nominated_by.replace(transaction) != Some(transaction) {
            known.nominations = known.nominations.saturating_add(1);
        }
        let path = known.path;
        let is_chosen = if is_current && !self.is_settled {
            true
        } else if !is_current && self.selected.is_some() {
            // What the peer nominates with credentials that it has replaced changes nothing.
            false
        } else {
            Some(known.priority) >= selected_priority || known.nominations >= 2
        };
        if !is_chosen {
            return;
        }
        for known in &mut self.paths {
            known.nominations = 0;
        }
        if self.selected.replace(path) != Some(path) {
            self.events.push_back(Event::Selected(path));
        }
        if is_current && !self.is_settled {
            self.is_settled = true;
            if self.previous.take().is_some() {
                self.drop_paths(|known| !known.is_current);
            }
        }
    }

    /// Drops paths other than the selected one that have no consent any more.
    fn drop_silent(&mut self, now: Instant) {
        let (selected, consent) = (self.selected, self.options.consent);
        self.drop_paths(|known| Some(known.path) != selected && now >= known.heard + consent);
    }

    fn drop_paths(&mut self, is_dropped: impl Fn(&Known) -> bool) {
        let events = &mut self.events;
        self.paths.retain(|known| {
            let dropped = is_dropped(known);
            if dropped {
                events.push_back(Event::Dropped(known.path));
            }
            !dropped
        });
    }

    fn make_room(&mut self) {
        if self.paths.len() < self.options.paths_max {
            return;
        }
        let oldest = self
            .paths
            .iter()
            .filter(|known| Some(known.path) != self.selected)
            .min_by_key(|known| known.heard);
        if let Some(oldest) = oldest.map(|known| known.path) {
            self.statistics.paths_dropped += 1;
            self.drop_paths(|known| known.path == oldest);
        }
    }

    /// True if the peer was authenticated there: DTLS, SRTP and SRTCP are to be taken from such
    /// paths only.
    pub fn is_valid(&self, path: Path) -> bool {
        self.paths.iter().any(|known| known.path == path)
    }

    /// When the peer was last authenticated on a path that is valid.
    pub fn heard_on(&self, path: Path) -> Option<Instant> {
        let known = self.paths.iter().find(|known| known.path == path)?;
        Some(known.heard)
    }

    /// The path to send on. None until the peer has nominated one.
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// The selected path; before there is one, the one that was heard last. A handshake that waits
    /// for a nomination would lose a round trip.
    pub fn best(&self) -> Option<Path> {
        let newest = || self.paths.iter().max_by_key(|known| known.heard);
        self.selected.or_else(|| newest().map(|known| known.path))
    }

    /// All valid paths.
    pub fn paths(&self) -> impl Iterator<Item = Path> {
        self.paths.iter().map(|known| known.path)
    }

    /// Fragments by which requests for this agent are known: one, or two during a restart.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        let previous = self.previous.as_deref();
        std::iter::once(&self.current)
            .chain(previous)
            .map(|generation| generation.local.ufrag.as_str())
    }

    /// The peer was authenticated at least once.
    pub fn has_validated(&self) -> bool {
        self.has_validated
    }

    /// What was counted.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// The next response to send.
    pub fn poll_transmit(&mut self) -> Option<(Path, Bytes)> {
        self.transmits.pop_front()
    }

    /// The next event. To be called until None after each input: nothing else bounds them.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Agent::handle_timeout`] is to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let reason = match self.has_validated {
            true => "ICE consent",
            false => "first ICE check",
        };
        self.deadline.map(|deadline| (deadline, reason))
    }

    /// Time went on.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            self.transmits.clear();
            self.events.push_back(Event::Expired);
        }
    }
}
