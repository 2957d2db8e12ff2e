//! A client's connections, and how far its user is.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::base::ids::ConnId;
use crate::collab::four_ports::Given;
use crate::collab::message::Subject;
use crate::collab::outbox::Outbox;
use crate::proto::pickle::Dict;
use crate::proto::replication::{Channel, Wire};

/// One of a client's connections, and what waits for it; that outlives the connection.
#[derive(Debug)]
pub(in crate::collab) struct Lane {
    pub(in crate::collab) conn: Option<ConnId>,
    pub(super) outbox: Outbox,
    /// Something is on its way to the client.
    pub(super) is_busy: bool,
    /// How many times something was.
    handed: u64,
    /// When it last took something, and how much it had taken.
    pub(super) progress: (Instant, u64),
}

impl Lane {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            conn: None,
            outbox: Outbox::new(),
            is_busy: false,
            handed: 0,
            progress: (now, 0),
        }
    }

    /// The next messages go out.
    pub(super) fn hand_over(&mut self, wire: Wire, logged: u64) -> Vec<Bytes> {
        self.is_busy = true;
        self.handed += 1;
        self.outbox.take(wire, logged)
    }

    /// The number of what is on its way to the client.
    pub(in crate::collab) fn on_its_way(&self) -> Option<u64> {
        self.is_busy.then_some(self.handed)
    }

    pub(in crate::collab) fn queued_bytes(&self) -> usize {
        self.outbox.bytes()
    }
}

/// How far a user is with the scene.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::collab) enum Join {
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
pub(in crate::collab) struct User {
    pub(in crate::collab) name: Bytes,
    pub(in crate::collab) is_admin: bool,
    pub(in crate::collab) join: Join,
    /// Data that it gets once it has the scene.
    pub(super) held: Outbox,
    /// Whole nodes among them.
    pub(super) held_nodes: HashSet<Bytes>,
    pub(in crate::collab) metadata: Dict,
    /// Bytes of its entries.
    pub(in crate::collab) metadata_bytes: usize,
    pub(super) latency: i64,
    /// It says that its data connection is to come first.
    pub(in crate::collab) waits_for_data: Option<Instant>,
    /// Its login was answered that there is a scene: it will ask for the scene, and cannot deal with
    /// another catalogue than that which it gets then.
    pub(in crate::collab) will_ask: bool,
    /// What a client of generation A was sent last of the scene that it fetches.
    pub(in crate::collab) given: Option<Given>,
}

impl User {
    /// Forgets what was to come once it has the scene.
    pub(in crate::collab) fn hold_nothing(&mut self) {
        self.held = Outbox::new();
        self.held_nodes.clear();
    }

    /// Milliseconds that its last sign of life took.
    pub(in crate::collab) fn latency(&self) -> i64 {
        self.latency
    }

    /// What it is to do with a message about a node that concerns it.
    pub(in crate::collab) fn reception(&self, subject: &Subject) -> Reception {
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
pub(in crate::collab) enum Reception {
    Now,
    /// When it has the scene.
    Later,
    /// What it says comes another way.
    Never,
}

/// All connections of one identity.
#[derive(Debug)]
pub(in crate::collab) struct Client {
    pub(in crate::collab) wire: Wire,
    pub(in crate::collab) address: IpAddr,
    pub(in crate::collab) lanes: [Lane; Channel::COUNT],
    pub(in crate::collab) user: Option<User>,
    /// A login that waits for its time, because others from its address have failed.
    pub(in crate::collab) login: Option<(Instant, Bytes)>,
    /// It offers a scene, which is looked at a moment later.
    pub(in crate::collab) offered: Option<(Instant, Bytes)>,
    /// It has begun to send signs of life, and was last asked for one at that time.
    pub(in crate::collab) asked: Option<Instant>,
    pub(super) closed: Option<Instant>,
}

/// What the door knows of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signs {
    /// When it last sent something.
    pub heard: Instant,
    /// How many bytes it has taken.
    pub taken: u64,
}
