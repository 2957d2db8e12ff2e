//! Removals that are told again.
//!
//! A client of generation A gets commands by one connection and nodes by another, so that a removal
//! overtakes nodes that were sent before. They bring back to the client what is gone, and nobody else
//! knows.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::message::{Message, Subject};
use super::session::Session;
use crate::proto::pickle::Value;
use crate::proto::replication::{Channel, Kind};

/// When a removal is told again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Removals that wait to be told again; the first one goes out early where there are more.
const AGAIN_MAX: usize = 4096;

/// Users who are waited for because of one removal; where there are more, the others are told as if
/// nothing was on its way to them.
const BEHIND_MAX: usize = 64;

/// Removals that are told again in one round: each goes to all users.
const TOLD_MAX: usize = 64;

/// A removal that is told again.
#[derive(Debug)]
pub(super) struct Again {
    due: Instant,
    uuid: Bytes,
    /// Who is told: all users, where that is not said. Who has removed it is one of them, since it
    /// did so at once, and others' nodes are on their way to it.
    to: Option<Vec<Behind>>,
    /// Users to whom something was on its way when the node was removed, which may have been the
    /// node. They are told when that has come, and as much later.
    behind: Vec<Behind>,
}

/// A user, and the number of what was on its way.
type Behind = (Bytes, u64);

impl Session {
    /// A node was removed.
    pub(super) fn tell_again(&mut self, now: Instant, uuid: &Bytes) {
        let users = self.users.iter();
        let behind =
            users.filter_map(|identity| Some((identity.clone(), self.on_its_way(identity)?)));
        let behind = behind.take(BEHIND_MAX).collect();
        self.again.push_back(Again {
            due: now + AGAIN_AFTER,
            uuid: uuid.clone(),
            to: None,
            behind,
        });
        if self.again.len() > AGAIN_MAX {
            self.tell_first_again(None);
        }
    }

    /// The number of the nodes that are on their way to a user.
    fn on_its_way(&self, identity: &Bytes) -> Option<u64> {
        let client = self.clients.get(identity)?;
        client.lanes[Channel::Data as usize].on_its_way()
    }

    /// When the next one is due.
    pub(super) fn next_again(&self) -> Option<Instant> {
        self.again.front().map(|again| again.due)
    }

    /// Tells again what is due; where that is much, some of it in the next round.
    pub(super) fn take_again(&mut self, now: Instant) {
        for _ in 0..TOLD_MAX {
            if self.next_again().is_none_or(|due| due > now) {
                return;
            }
            self.tell_first_again(Some(now));
        }
    }

    /// Tells those who may hear it, and the others later. Without a time all are told.
    fn tell_first_again(&mut self, now: Option<Instant>) {
        let Some(again) = self.again.pop_front() else {
            return;
        };
        if self.repository.node(&again.uuid).is_some() {
            return;
        }
        let is_user = |identity: &Bytes| {
            let client = self.clients.get(identity);
            client.is_some_and(|client| client.user.is_some())
        };
        let mut later = now.map_or(Vec::new(), |_| again.behind);
        later.retain(|(identity, _)| is_user(identity));
        let mut told: Vec<Bytes> = match again.to {
            None => self.users.clone(),
            Some(these) => {
                let these = these.into_iter().map(|(identity, _)| identity);
                these.filter(is_user).collect()
            }
        };
        let waited: HashSet<&Bytes> = later.iter().map(|(identity, _)| identity).collect();
        told.retain(|identity| !waited.contains(identity));
        let text = Value::Text(String::from_utf8_lossy(&again.uuid).into_owned());
        let message = Message::of_server(Kind::Delete, Subject::None, &text);
        for identity in told {
            self.send(&identity, Channel::Command, &message);
        }
        if let Some(now) = now.filter(|_| !later.is_empty()) {
            let behind = later.iter();
            let behind =
                behind.filter(|(identity, number)| self.on_its_way(identity) == Some(*number));
            self.again.push_back(Again {
                due: now + AGAIN_AFTER,
                uuid: again.uuid,
                behind: behind.cloned().collect(),
                to: Some(later),
            });
        }
    }
}
