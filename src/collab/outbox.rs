//! What waits for one connection of a client.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use bytes::Bytes;

use super::message::{Message, Subject};
use crate::proto::replication::Wire;

/// Bytes that may wait before older messages are replaced by newer ones.
const COALESCE_BYTES: usize = 64 << 20;

/// Bytes that may wait besides the newest state of each node, which the session stores anyway, and
/// besides the biggest message: a change may be bigger than all of this, and has to get through.
pub(super) const OWN_BYTES_MAX: usize = 64 << 20;

/// Messages that may wait.
const MESSAGES_MAX: usize = 1 << 20;

/// Bytes of small messages that are handed over at once.
const BATCH_BYTES: usize = 1 << 20;

/// Messages that wait.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    coalesce_at: usize,
    next_number: u64,
    /// Messages among them that are the session's own copy of a node.
    stored: usize,
    /// A table of users waits.
    has_users: bool,
    /// The message about each user that waits, which is behind the table of users.
    metadata: HashMap<Bytes, u64>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    /// How far the log has to be before it goes out.
    after: u64,
    /// It is the session's own copy of a node, for one who has asked for it.
    is_stored: bool,
    message: Rc<Message>,
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
            next_number: 0,
            stored: 0,
            has_users: false,
            metadata: HashMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether something may go out, the log being as far as `logged`.
    pub(super) fn is_ready(&self, logged: u64) -> bool {
        self.waiting
            .front()
            .is_some_and(|first| first.after <= logged)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message that goes out when the log is as far as `after`. How many others it has
    /// replaced, or that there is no room.
    pub(super) fn push(&mut self, message: &Rc<Message>, after: u64) -> Result<usize, Overfull> {
        self.add(message, after, false)
    }

    /// The same for a message of what the session stores of a node, which costs it nothing to keep.
    /// That is so for one node: if more are asked for before it is gone, they count, since what is
    /// stored may change while they wait.
    pub(super) fn push_stored(
        &mut self,
        messages: &[Rc<Message>],
        after: u64,
    ) -> Result<usize, Overfull> {
        let is_stored = self.stored == 0;
        let mut replaced = 0;
        for message in messages {
            replaced += self.add(message, after, is_stored)?;
        }
        Ok(replaced)
    }

    fn add(
        &mut self,
        message: &Rc<Message>,
        after: u64,
        is_stored: bool,
    ) -> Result<usize, Overfull> {
        let mut replaced = 0;
        match &message.subject {
            Subject::Users => {
                // Each table is complete, with what users have said of themselves.
                if self.has_users || !self.metadata.is_empty() {
                    self.metadata.clear();
                    replaced += self.remove(|queued| match queued.subject {
                        Subject::Users | Subject::Metadata(_) => true,
                        Subject::Node(_) | Subject::Commit(_) | Subject::None => false,
                    });
                }
                self.has_users = true;
            }
            Subject::Metadata(user) => {
                if self.merge(user, message) {
                    return Ok(1);
                }
                self.metadata.insert(user.clone(), self.next_number);
            }
            Subject::Node(_) | Subject::Commit(_) | Subject::None => {}
        }
        self.bytes += message.bytes();
        self.waiting.push_back(Waiting {
            number: self.next_number,
            after,
            is_stored,
            message: Rc::clone(message),
        });
        self.stored += usize::from(is_stored);
        self.next_number += 1;
        if self.bytes > self.coalesce_at || self.waiting.len() > MESSAGES_MAX {
            replaced += self.coalesce()?;
        }
        Ok(replaced)
    }

    /// Adds what a user says to what waits of the same user. False if nothing does.
    fn merge(&mut self, user: &Bytes, message: &Message) -> bool {
        let Some(number) = self.metadata.get(user) else {
            return false;
        };
        let found = self
            .waiting
            .binary_search_by_key(number, |waiting| waiting.number);
        let Some(waiting) = found.ok().and_then(|place| self.waiting.get_mut(place)) else {
            return false;
        };
        self.bytes -= waiting.message.bytes();
        waiting.message = Message::merged(&waiting.message, message);
        self.bytes += waiting.message.bytes();
        true
    }

    /// The next messages, some hundred kilobytes or one big one, in pieces.
    pub(super) fn take(&mut self, wire: Wire, logged: u64) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let mut taken = 0;
        while taken < BATCH_BYTES && self.is_ready(logged) {
            let Some(Waiting {
                message, is_stored, ..
            }) = self.waiting.pop_front()
            else {
                break;
            };
            self.stored -= usize::from(is_stored);
            taken += message.bytes();
            self.bytes -= message.bytes();
            match &message.subject {
                Subject::Users => self.has_users = false,
                Subject::Metadata(user) => {
                    self.metadata.remove(user);
                }
                Subject::Node(_) | Subject::Commit(_) | Subject::None => {}
            }
            pieces.extend_from_slice(message.framed(wire));
        }
        self.lower_bound();
        pieces
    }

    /// All messages.
    pub(super) fn into_messages(self) -> impl Iterator<Item = Rc<Message>> {
        self.waiting.into_iter().map(|waiting| waiting.message)
    }

    /// Forgets what was queued about nodes that are gone.
    pub(super) fn forget(&mut self, is_gone: impl Fn(&Bytes) -> bool) {
        self.remove(|queued| match &queued.subject {
            Subject::Node(uuid) | Subject::Commit(uuid) => is_gone(uuid),
            Subject::Users | Subject::Metadata(_) | Subject::None => false,
        });
    }

    fn remove(&mut self, goes: impl Fn(&Message) -> bool) -> usize {
        let before = self.waiting.len();
        let bytes = &mut self.bytes;
        self.waiting.retain(|waiting| {
            let stays = !goes(&waiting.message);
            if !stays {
                *bytes -= waiting.message.bytes();
            }
            stays
        });
        self.count_stored();
        self.lower_bound();
        before - self.waiting.len()
    }

    /// What one big node was allowed, others are not once it has gone.
    fn lower_bound(&mut self) {
        self.coalesce_at = self.coalesce_at.min(self.bytes + COALESCE_BYTES);
    }

    fn count_stored(&mut self) {
        let stored = self.waiting.iter().filter(|waiting| waiting.is_stored);
        self.stored = stored.count();
    }

    /// Removes what a newer whole node makes needless.
    fn coalesce(&mut self) -> Result<usize, Overfull> {
        let mut newest: HashMap<Bytes, u64> = HashMap::new();
        for waiting in &self.waiting {
            if let Subject::Node(uuid) = &waiting.message.subject {
                newest.insert(uuid.clone(), waiting.number);
            }
        }
        let mut old = HashSet::new();
        for waiting in &self.waiting {
            if let Subject::Node(uuid) | Subject::Commit(uuid) = &waiting.message.subject
                && newest
                    .get(uuid)
                    .is_some_and(|newer| waiting.number < *newer)
            {
                old.insert(waiting.number);
            }
        }
        let (mut own, mut biggest) = (0, 0);
        let bytes = &mut self.bytes;
        self.waiting.retain(|waiting| {
            let message = &waiting.message;
            let stays = !old.contains(&waiting.number);
            if !stays {
                *bytes -= message.bytes();
            } else if !waiting.is_stored && !matches!(message.subject, Subject::Node(_)) {
                own += message.bytes();
                biggest = biggest.max(message.bytes());
            }
            stays
        });
        self.count_stored();
        let own = own - biggest;
        // Not before there may be too much, and not with each message.
        let room = OWN_BYTES_MAX.saturating_sub(own);
        self.coalesce_at = self.bytes + room.clamp(COALESCE_BYTES / 64, COALESCE_BYTES);
        if own > OWN_BYTES_MAX || self.waiting.len() > MESSAGES_MAX {
            return Err(Overfull);
        }
        Ok(old.len())
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
