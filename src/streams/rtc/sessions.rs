//! The sessions that a shard has made: offers that were answered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::base::ids::{ConnId, ShardId};
use crate::media::Codec;
use crate::proto::ice::Credentials;
use crate::proto::webrtc::{Negotiated, SessionKey};
use crate::streams::name::StreamName;

/// How long the first check may take after the answer. A browser begins as soon as it has it.
const FIRST_CHECK: Duration = Duration::from_secs(30);

/// An offer that was answered.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) name: StreamName,
    /// The publisher that the exchange knows; `None` for a viewer.
    pub(super) publisher: Option<ConnId>,
    /// The last part of its address.
    pub(super) resource: String,
    /// Changes with an ICE restart (RFC 9725 section 4.3.1).
    pub(super) etag: String,
    /// The peer's ICE credentials.
    pub(super) remote: Credentials,
    /// The tag of its first media section.
    pub(super) mid: String,
    /// What its picture is sent as.
    pub(super) video: Option<Codec>,
    pub(super) state: State,
    pub(super) since: Instant,
    /// The WebSocket of this shard that it lives and ends with.
    pub(super) socket: Option<ConnId>,
}

/// Where a session is run.
#[derive(Debug)]
pub(super) enum State {
    /// Nowhere: no check has arrived.
    Waiting(Box<Negotiated>),
    /// On this shard.
    RunBy(ShardId),
}

/// The sessions that one shard has made.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    made: BTreeMap<SessionKey, Made>,
    by_publisher: BTreeMap<ConnId, SessionKey>,
    waiting: usize,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.made.len()
    }

    /// Sessions that nobody has come for.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn insert(&mut self, key: SessionKey, made: Made) {
        if let Some(publisher) = made.publisher {
            self.by_publisher.insert(publisher, key);
        }
        self.waiting += usize::from(matches!(made.state, State::Waiting(_)));
        self.made.insert(key, made);
    }

    pub(super) fn get(&self, key: SessionKey) -> Option<&Made> {
        self.made.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Made> {
        self.made.get_mut(&key)
    }

    /// The session at an address, if all of the address is right.
    pub(super) fn at(&mut self, resource: &str) -> Option<(SessionKey, &mut Made)> {
        let key = SessionKey::of(resource)?;
        let made = self.made.get_mut(&key)?;
        (made.resource == resource).then_some((key, made))
    }

    pub(super) fn of_publisher(&self, conn: ConnId) -> Option<SessionKey> {
        self.by_publisher.get(&conn).copied()
    }

    pub(super) fn publisher(&self, key: SessionKey) -> Option<ConnId> {
        self.made.get(&key)?.publisher
    }

    /// The shard that runs a session; what it needs to run it, if none does and `by` will.
    pub(super) fn claim(
        &mut self,
        key: SessionKey,
        by: ShardId,
    ) -> Option<Result<Box<Negotiated>, ShardId>> {
        let made = self.made.get_mut(&key)?;
        match std::mem::replace(&mut made.state, State::RunBy(by)) {
            State::Waiting(negotiated) => {
                self.waiting -= 1;
                Some(Ok(negotiated))
            }
            State::RunBy(shard) => {
                made.state = State::RunBy(shard);
                Some(Err(shard))
            }
        }
    }

    pub(super) fn remove(&mut self, key: SessionKey) -> Option<Made> {
        let made = self.made.remove(&key)?;
        if let Some(publisher) = made.publisher {
            self.by_publisher.remove(&publisher);
        }
        self.waiting -= usize::from(matches!(made.state, State::Waiting(_)));
        Some(made)
    }

    /// Sessions that nobody has come for in time.
    pub(super) fn overdue(&self, now: Instant) -> Vec<SessionKey> {
        let is_overdue = |made: &Made| {
            matches!(made.state, State::Waiting(_)) && now >= made.since + FIRST_CHECK
        };
        self.made
            .iter()
            .filter(|(_, made)| is_overdue(made))
            .map(|(key, _)| *key)
            .collect()
    }

    pub(super) fn keys(&self) -> Vec<SessionKey> {
        self.made.keys().copied().collect()
    }
}
