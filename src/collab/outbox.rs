//! What waits for one connection of a client.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use bytes::Bytes;

use super::message::{Message, Subject};
use crate::proto::replication::Wire;

/// Bytes that may wait before older messages are replaced by newer ones.
const COALESCE_BYTES: usize = 64 << 20;

/// Bytes that may wait besides the newest state of each node, which the session stores anyway.
const OWN_BYTES_MAX: usize = 64 << 20;

/// Messages that may wait.
const MESSAGES_MAX: usize = 1 << 20;

/// Bytes of small messages that are handed over at once.
const BATCH_BYTES: usize = 1 << 20;

/// Messages that wait.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: VecDeque<Rc<Message>>,
    bytes: usize,
    coalesce_at: usize,
    /// How many of them say something of users.
    about_users: usize,
}

/// A client that reads too slowly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Overfull;

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            coalesce_at: COALESCE_BYTES,
            about_users: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message. How many others it has replaced, or that there is no room.
    pub(super) fn push(&mut self, message: &Rc<Message>) -> Result<usize, Overfull> {
        let mut replaced = 0;
        if message.subject == Subject::Users && self.about_users > 0 {
            // Each table is complete, with all that users have said of themselves. Nothing of that
            // may stay before it: a client takes it for a fault to be told of a user that no table
            // before has named.
            replaced += self.remove(is_about_users);
            self.about_users = 0;
        }
        self.about_users += usize::from(is_about_users(message));
        self.bytes += message.bytes();
        self.waiting.push_back(Rc::clone(message));
        if self.bytes > self.coalesce_at || self.waiting.len() > MESSAGES_MAX {
            replaced += self.coalesce()?;
        }
        Ok(replaced)
    }

    /// The next messages, some hundred kilobytes or one big one, in pieces.
    pub(super) fn take(&mut self, wire: Wire) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let mut taken = 0;
        while taken < BATCH_BYTES {
            let Some(message) = self.waiting.pop_front() else {
                break;
            };
            taken += message.bytes();
            self.bytes -= message.bytes();
            self.about_users -= usize::from(is_about_users(&message));
            pieces.extend_from_slice(message.framed(wire));
        }
        if self.waiting.is_empty() {
            self.coalesce_at = COALESCE_BYTES;
        }
        pieces
    }

    /// All messages.
    pub(super) fn into_messages(self) -> VecDeque<Rc<Message>> {
        self.waiting
    }

    /// Forgets what was queued about a node.
    pub(super) fn forget(&mut self, node: &Bytes) {
        self.remove(|queued| match &queued.subject {
            Subject::Node(uuid) | Subject::Commit(uuid) => uuid == node,
            Subject::Users | Subject::Metadata(_) | Subject::None => false,
        });
    }

    fn remove(&mut self, goes: impl Fn(&Message) -> bool) -> usize {
        let before = self.waiting.len();
        let bytes = &mut self.bytes;
        self.waiting.retain(|queued| {
            let stays = !goes(queued);
            if !stays {
                *bytes -= queued.bytes();
            }
            stays
        });
        before - self.waiting.len()
    }

    /// Removes what a newer whole node makes needless.
    fn coalesce(&mut self) -> Result<usize, Overfull> {
        let mut newest: HashMap<Bytes, usize> = HashMap::new();
        for (place, message) in self.waiting.iter().enumerate() {
            if let Subject::Node(uuid) = &message.subject {
                newest.insert(uuid.clone(), place);
            }
        }
        let mut places = HashSet::new();
        for (place, message) in self.waiting.iter().enumerate() {
            if let Subject::Node(uuid) | Subject::Commit(uuid) = &message.subject
                && newest.get(uuid).is_some_and(|newer| place < *newer)
            {
                places.insert(place);
            }
        }
        let mut place = 0;
        let mut own = 0;
        let bytes = &mut self.bytes;
        self.waiting.retain(|message| {
            let stays = !places.contains(&place);
            place += 1;
            if !stays {
                *bytes -= message.bytes();
            } else if !matches!(message.subject, Subject::Node(_)) {
                own += message.bytes();
            }
            stays
        });
        self.coalesce_at = self.bytes + COALESCE_BYTES;
        if own > OWN_BYTES_MAX || self.waiting.len() > MESSAGES_MAX {
            return Err(Overfull);
        }
        Ok(places.len())
    }
}

fn is_about_users(message: &Message) -> bool {
    match message.subject {
        Subject::Users | Subject::Metadata(_) => true,
        Subject::Node(_) | Subject::Commit(_) | Subject::None => false,
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
