//! What users send to each other: nodes, changes, locks, and what they say of themselves.

use std::time::Instant;

use bytes::Bytes;

use super::message::{Message, Subject, dict};
use super::order::Order;
use super::outbox::OWN_BYTES_MAX;
use super::repository::Full;
use super::session::{Join, PICKLE, Reception, Session, State};
use crate::proto::pickle::{self, Dict, Pieces, Rules, Scanner, Summary, Value, decode};
use crate::proto::replication::{Channel, Generation, Kind, bytes};
use crate::proto::session_log::Record;

/// Bytes of the longest uuid.
const UUID_MAX: usize = 64;
/// Bytes of the longest name of a type.
const TYPE_MAX: usize = 256;
/// Bytes of the longest owner.
const OWNER_MAX: usize = 256;
/// Items of a pickle that need not be in it by themselves.
const EXPANDED_FREE: usize = 1 << 16;
/// Entries and bytes of what a user says of itself.
const METADATA_MAX: usize = 256;
const METADATA_BYTES_MAX: usize = 1 << 20;
/// Bytes of what all users say: a table of all of it goes to each of them.
const TABLE_BYTES_MAX: usize = OWN_BYTES_MAX / 4;

/// What is kept of a whole node.
pub(super) fn node_record(generation: Generation, parts: &[Bytes; 5]) -> Record {
    let [_, node @ ..] = parts.clone();
    match generation {
        Generation::A => Record::Typed(parts.clone()),
        Generation::Later => Record::Node(node),
    }
}

pub(super) fn is_uuid(part: &[u8]) -> bool {
    !part.is_empty() && part.len() <= UUID_MAX && str::from_utf8(part).is_ok()
}

/// Whether the parts of a whole node may go to clients, and into a file that is read again.
pub(super) fn is_safe_node(
    scanner: &mut Scanner,
    generation: Generation,
    parts: &[Bytes; 5],
) -> bool {
    let [kind, uuid, owner, dependencies, data] = parts;
    let is_of_kind = match generation {
        Generation::A => is_type(kind),
        Generation::Later => Kind::read(kind) == Some(Kind::Node),
    };
    is_of_kind
        && is_uuid(uuid)
        && owner.len() <= OWNER_MAX
        && str::from_utf8(owner).is_ok()
        && is_dependencies(scanner, dependencies)
        && scanner.scan(data, Rules::Plain).is_ok_and(|summary| {
            // What the data of generation A are is left to the type.
            generation == Generation::A || summary.kind == pickle::Kind::Dict
        })
}

/// Whether a part is the name of a type of generation A.
pub(super) fn is_type(part: &[u8]) -> bool {
    !part.is_empty() && part.len() <= TYPE_MAX && str::from_utf8(part).is_ok()
}

/// The same of a change.
pub(super) fn is_safe_commit(scanner: &mut Scanner, parts: &[Bytes; 4]) -> bool {
    let [_, uuid, dependencies, delta] = parts;
    is_uuid(uuid)
        && is_dependencies(scanner, dependencies)
        && scanner.scan(delta, Rules::Delta).is_ok()
}

fn is_dependencies(scanner: &mut Scanner, part: &[u8]) -> bool {
    scanner.scan(part, Rules::Plain).is_ok_and(|summary| {
        matches!(summary.kind, pickle::Kind::List | pickle::Kind::None)
            && is_compact(&summary, part.len())
    })
}

/// Whether a pickle of so many bytes, from which values are made here, does not take many times as
/// many as values: 64 kB can name a text of 32 kB 16 000 times.
pub(super) fn is_compact(summary: &Summary, count: usize) -> bool {
    summary.expanded as usize <= EXPANDED_FREE + 2 * count
}

impl Session {
    /// Whether the parts of a whole node may go to clients.
    pub(super) fn may_pass(&mut self, generation: Generation, parts: &[Bytes; 5]) -> bool {
        let is_safe = is_safe_node(&mut self.scanner, generation, parts);
        self.statistics.refused_pickles += u64::from(!is_safe);
        is_safe
    }

    pub(super) fn data(&mut self, identity: &Bytes, parts: Vec<Bytes>) {
        let Some(user) = self.user(identity) else {
            self.turn_away(identity);
            return;
        };
        let name = user.name.clone();
        match &user.join {
            Join::Active => {}
            Join::Fetching { missing } if missing.is_empty() => self.end_join(identity),
            // It knows, or else it would send none.
            Join::Giving(_) => self.end_giving(identity),
            Join::Lobby | Join::Catalogue { .. } | Join::Fetching { .. } => {
                self.statistics.refused_messages += 1;
                return;
            }
        }
        if self.state != State::Active {
            self.statistics.refused_messages += 1;
            return;
        }
        let generation = self.generation_of(identity);
        let kind = match generation {
            // Nothing else comes by that connection.
            Generation::A => Some(Kind::Node),
            Generation::Later => parts.first().and_then(|part| Kind::read(part)),
        };
        let was_empty = self.repository.len() == 0;
        let (subject, stored) = match kind {
            Some(Kind::Node) => {
                let Ok(node) = <[Bytes; 5]>::try_from(parts.clone()) else {
                    self.statistics.refused_messages += 1;
                    return;
                };
                if !self.may_pass(generation, &node) {
                    return;
                }
                let owner = &node[2];
                if owner != "COMMON" && *owner != name && self.identity_of(owner).is_none() {
                    self.statistics.refused_rights += 1;
                    return;
                }
                (
                    Subject::Node(node[1].clone()),
                    self.repository.set(node).map(|()| true),
                )
            }
            Some(Kind::Commit) => {
                let Ok(commit) = <[Bytes; 4]>::try_from(parts.clone()) else {
                    self.statistics.refused_messages += 1;
                    return;
                };
                if !is_safe_commit(&mut self.scanner, &commit) {
                    self.statistics.refused_pickles += 1;
                    return;
                }
                (
                    Subject::Commit(commit[1].clone()),
                    self.repository.commit(commit),
                )
            }
            _ => {
                self.statistics.refused_messages += 1;
                return;
            }
        };
        match stored {
            Ok(true) => {
                self.keep_stored(generation, &subject, &parts);
                self.spread(identity, &parts, subject);
                if was_empty {
                    self.offer_first(identity);
                }
            }
            Ok(false) => self.statistics.refused_messages += 1,
            Err(Full) => self.disconnect(identity, "the scene is too big for the server"),
        }
    }

    /// Has a node or a change kept, and folds the node's changes if they have become many.
    fn keep_stored(&mut self, generation: Generation, subject: &Subject, parts: &[Bytes]) {
        self.keep(|| match parts {
            [_, uuid, dependencies, delta] => {
                Record::Commit([uuid, dependencies, delta].map(Bytes::clone))
            }
            _ => {
                let node = parts.to_vec().try_into().expect("a node has five parts");
                node_record(generation, &node)
            }
        });
        if let Subject::Commit(uuid) = subject
            && let Some(job) = self.repository.fold_job(uuid)
        {
            self.orders.push_back(Order::Fold(job));
        }
    }

    /// Passes a node or a change on to everybody else who has, or is to have, the node.
    fn spread(&mut self, from: &Bytes, parts: &[Bytes], subject: Subject) {
        let message = Message::relayed(subject, parts);
        for identity in self.users.clone() {
            if identity == *from {
                continue;
            }
            let user = self.user(&identity);
            match user.map(|user| user.reception(&message.subject)) {
                Some(Reception::Now) => self.send(&identity, Channel::Data, &message),
                Some(Reception::Later) => self.hold(&identity, &message),
                Some(Reception::Never) | None => {}
            }
        }
    }

    pub(super) fn right(&mut self, now: Instant, identity: &Bytes, parts: &[Bytes]) {
        let Some(user) = self.user(identity) else {
            return;
        };
        let name = user.name.clone();
        let Ok(Value::Dict(asked)) = decode(&parts[2], PICKLE) else {
            self.statistics.refused_messages += 1;
            return;
        };
        let owner = asked.of("owner").and_then(Value::as_text);
        let generation = self.generation_of(identity);
        let uuids: Option<Vec<&str>> = asked.of("uuid").and_then(|uuids| match generation {
            Generation::A => uuids.as_text().map(|uuid| vec![uuid]),
            Generation::Later => uuids.as_items()?.iter().map(Value::as_text).collect(),
        });
        let (Some(owner), Some(uuids)) = (owner, uuids) else {
            self.statistics.refused_messages += 1;
            return;
        };
        let is_somebody = owner == "COMMON" || self.identity_of(owner.as_bytes()).is_some();
        if parts[1] != name || !is_somebody {
            self.statistics.refused_rights += 1;
            return;
        }
        // Of generation A there is one.
        let is_echoed =
            generation == Generation::Later || self.repository.say(now, &name, uuids[0].as_bytes());
        let new = Bytes::copy_from_slice(owner.as_bytes());
        let known: Vec<Bytes> = uuids
            .iter()
            .filter(|uuid| self.repository.own(uuid.as_bytes(), &new))
            .map(|uuid| Bytes::copy_from_slice(uuid.as_bytes()))
            .collect();
        if known.is_empty() {
            self.statistics.refused_messages += 1;
        } else if known.len() == uuids.len() {
            let but = (!is_echoed).then_some(identity);
            self.tell_owner(but, &known, &Message::relayed(Subject::None, parts));
        } else {
            self.tell_rights(generation, &known, owner);
        }
    }

    /// Tells all users that nodes have another owner.
    pub(super) fn tell_rights(&mut self, generation: Generation, uuids: &[Bytes], owner: &str) {
        let text = |uuid: &Bytes| Value::Text(String::from_utf8_lossy(uuid).into_owned());
        let said: Vec<(&[Bytes], Value)> = match generation {
            // One message for each node.
            Generation::A => uuids.chunks(1).map(|one| (one, text(&one[0]))).collect(),
            Generation::Later => vec![(uuids, Value::List(uuids.iter().map(text).collect()))],
        };
        for (uuids, value) in said {
            let value = dict([("uuid", value), ("owner", owner.into())]);
            let message = Message::of_server(Kind::Right, Subject::None, &value);
            self.tell_owner(None, uuids, &message);
        }
    }

    pub(super) fn delete(&mut self, now: Instant, from: &Bytes, parts: &[Bytes]) {
        let uuid = match decode(&parts[2], PICKLE) {
            Ok(Value::Text(text)) if is_uuid(text.as_bytes()) => Bytes::from(text),
            Ok(_) | Err(_) => {
                self.statistics.refused_messages += 1;
                return;
            }
        };
        if self.state != State::Active {
            self.statistics.refused_messages += 1;
            return;
        }
        if self.repository.delete(&uuid) {
            self.keep(|| Record::Delete(uuid.clone()));
            if self.generation_of(from) == Generation::A {
                self.tell_again(now, &uuid);
            }
        }
        for identity in self.users.clone() {
            // What still waits for it would bring the node back behind the message that it goes.
            self.forget(&identity, &uuid);
        }
        // Clients repeat themselves, and wait for an echo each time; those of generation A have removed
        // it themselves.
        let but = (self.generation_of(from) == Generation::A).then_some(from);
        self.tell_others(but, &Message::relayed(Subject::None, parts));
    }

    pub(super) fn kick(&mut self, identity: &Bytes, body: &Bytes) {
        if !self.user(identity).is_some_and(|user| user.is_admin) {
            self.statistics.refused_rights += 1;
            return;
        }
        let asked = decode(body, PICKLE);
        let name = asked
            .as_ref()
            .ok()
            .and_then(Value::as_dict)
            .and_then(|dict| dict.of("user"));
        let found = name.and_then(Value::as_text).map(str::as_bytes);
        match found.and_then(|name| self.identity_of(name)) {
            Some(target) => self.disconnect(&target, "kicked by admin"),
            None => self.statistics.refused_messages += 1,
        }
    }

    pub(super) fn metadata(&mut self, now: Instant, identity: &Bytes, parts: &[Bytes]) {
        let all = self.metadata_bytes();
        let Some(user) = self.user(identity) else {
            return;
        };
        if parts[1] != user.name {
            self.statistics.refused_rights += 1;
            return;
        }
        let is_short = parts[2].len() <= METADATA_BYTES_MAX;
        let said = match is_short.then(|| decode(&parts[2], PICKLE)) {
            Some(Ok(Value::Dict(said))) if said.len() + user.metadata.len() <= METADATA_MAX => said,
            Some(_) | None => {
                self.statistics.refused_messages += 1;
                return;
            }
        };
        // A pickle may name a key twice.
        let mut update = Dict::new();
        for (key, value) in &said {
            update.set(key.clone(), value.clone());
        }
        let size = |value: &Value| bytes(&Pieces::of(value));
        let (mut more, mut less) = (0, 0);
        for (key, value) in &update {
            more += size(key) + size(value);
            if let Some(old) = user.metadata.of_key(key) {
                less += size(key) + size(old);
            }
        }
        let own = user.metadata_bytes + more - less;
        if own > METADATA_BYTES_MAX || all - user.metadata_bytes + own > TABLE_BYTES_MAX {
            self.statistics.refused_messages += 1;
            return;
        }
        for (key, value) in &update {
            user.metadata.set(key.clone(), value.clone());
        }
        user.metadata_bytes = own;
        if self.generation_of(identity) == Generation::A {
            self.tell_users_soon(now);
            return;
        }
        let Some(user) = self.user(identity) else {
            return;
        };
        let message = Message::metadata(&user.name.clone(), update, parts);
        self.tell_others(Some(identity), &message);
    }

    /// Bytes of what all users say of themselves.
    pub(super) fn metadata_bytes(&self) -> usize {
        let users = self.users.iter();
        let users = users.filter_map(|identity| self.clients.get(identity)?.user.as_ref());
        users.map(|user| user.metadata_bytes).sum()
    }
}
