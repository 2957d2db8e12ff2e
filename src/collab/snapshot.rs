//! The whole scene: from the first client, and to those who come late.

use std::collections::HashSet;
use std::mem;
use std::time::Instant;

use bytes::Bytes;

use super::four_ports;
use super::message::{Message, Subject, dict};
use super::relay::{is_uuid, node_record};
use super::repository::{Full, NODES_MAX};
use super::session::{Join, PICKLE, Session, State};
use crate::proto::pickle::{Dict, Value, decode};
use crate::proto::replication::{Channel, Generation, Kind};
use crate::proto::session_log::Record;

/// Stands in the catalogue of an empty scene: clients cannot deal with an empty one. Whoever
/// asks for it is told that it is gone.
const NOTHING: &str = "00000000-0000-4000-8000-000000000000";

/// How long a client may take to read what it has been sent: it looks for messages many times a
/// second, but takes one at a time.
const GIVING_SECONDS: u8 = 3;

impl Session {
    pub(super) fn server_snapshot(&mut self, now: Instant, identity: &Bytes, body: &Bytes) {
        let Ok(Value::Dict(asked)) = decode(body, PICKLE) else {
            self.statistics.refused_messages += 1;
            return;
        };
        match asked.of("STATE").and_then(Value::as_text) {
            Some("INIT") if self.generation_of(identity) == Generation::A => {
                self.offer_scene(now, identity, body);
            }
            Some("INIT") => self.begin_filling(identity, &asked),
            Some("SET") => self.fill(identity, &asked),
            Some("END") => self.end_filling(identity),
            _ => self.statistics.refused_messages += 1,
        }
    }

    pub(super) fn begin_filling(&mut self, identity: &Bytes, asked: &Dict) {
        let uuids: Option<HashSet<Bytes>> = asked
            .of("NODES")
            .and_then(Value::as_items)
            .filter(|items| items.len() <= NODES_MAX)
            .and_then(|items| {
                let texts = items.iter().map(Value::as_text);
                texts
                    .map(|text| text.filter(|text| is_uuid(text.as_bytes())))
                    .map(|text| text.map(|text| Bytes::copy_from_slice(text.as_bytes())))
                    .collect()
            });
        let is_admin = self.user(identity).is_some_and(|user| user.is_admin);
        let Some(missing) = uuids.filter(|_| is_admin && self.state == State::Waiting) else {
            self.statistics.refused_messages += 1;
            self.answer_filling(identity, "REJECTED");
            let has_none = self.user(identity).is_some_and(|user| match user.join {
                Join::Lobby | Join::Catalogue { .. } => true,
                Join::Fetching { .. } | Join::Giving(_) | Join::Active => false,
            });
            if self.state == State::Active && has_none {
                // Somebody else was faster. A catalogue that came while it waited for this answer,
                // it could not take.
                self.offer(identity);
            }
            return;
        };
        let is_empty = missing.is_empty();
        self.state = State::Filling {
            identity: identity.clone(),
            missing,
        };
        self.keep(|| Record::Begin);
        self.answer_filling(identity, "ACCEPTED");
        if is_empty {
            self.fill_up(identity);
        }
    }

    fn answer_filling(&mut self, identity: &Bytes, state: &str) {
        let value = dict([("STATE", state.into())]);
        let message = Message::of_server(Kind::ServerSnapshot, Subject::None, &value);
        self.send(identity, Channel::Command, &message);
    }

    fn fill(&mut self, identity: &Bytes, asked: &Dict) {
        let generation = self.generation_of(identity);
        let data = asked.of("DATA");
        let parts = match generation {
            Generation::A => data.and_then(Value::as_dict).and_then(four_ports::given),
            Generation::Later => data.and_then(Value::as_items).and_then(given),
        };
        let Some(parts) = parts else {
            self.statistics.refused_messages += 1;
            return;
        };
        let is_awaited = matches!(
            &self.state,
            State::Filling { identity: filling, missing }
                if filling == identity && missing.contains(&parts[1])
        );
        if !is_awaited {
            self.statistics.refused_messages += 1;
            return;
        }
        if !self.may_pass(generation, &parts) {
            self.disconnect(identity, "a node holds what no client may be sent");
            return;
        }
        let record = node_record(generation, &parts);
        let uuid = parts[1].clone();
        if self.repository.set(parts) == Err(Full) {
            self.disconnect(identity, "the scene is too big for the server");
            return;
        }
        self.keep(|| record);
        if let State::Filling { missing, .. } = &mut self.state {
            missing.remove(&uuid);
            if missing.is_empty() {
                self.fill_up(identity);
            }
        }
    }

    /// The scene is there: whoever waits for it may fetch it.
    fn fill_up(&mut self, identity: &Bytes) {
        self.state = State::Active;
        self.keep(|| Record::Complete);
        tracing::info!(
            port = self.options.port,
            nodes = self.repository.len(),
            bytes = self.repository.bytes(),
            "the collaborative session has a scene"
        );
        self.answer_filling(identity, "DONE");
        if let Some(user) = self.user(identity) {
            // It has what it sent, and what others send from now on concerns it.
            user.join = Join::Giving(0);
        }
        for other in self.users.clone() {
            // Whoever has no answer to its login yet will ask, as the answer says that there is a
            // scene.
            let is_waiting = self
                .user(&other)
                .is_some_and(|user| user.waits_for_data.is_none() && !user.will_ask);
            if other != *identity && is_waiting && !self.has_offered(&other) {
                self.offer(&other);
            }
        }
    }

    /// All is sent to a user that may have given the scene.
    pub(super) fn told_giving(&mut self, identity: &Bytes) {
        if let Some(user) = self.user(identity)
            && user.join == Join::Giving(0)
        {
            user.join = Join::Giving(1);
        }
    }

    /// A second has passed.
    pub(super) fn age_giving(&mut self, identity: &Bytes) {
        match self.user(identity).map(|user| &mut user.join) {
            Some(Join::Giving(seconds)) if *seconds >= GIVING_SECONDS => self.end_giving(identity),
            Some(Join::Giving(seconds)) if *seconds > 0 => *seconds += 1,
            Some(_) | None => {}
        }
    }

    /// Whoever has given the scene knows that it is complete.
    pub(super) fn end_giving(&mut self, identity: &Bytes) {
        if let Some(user) = self.user(identity)
            && matches!(user.join, Join::Giving(_))
        {
            user.join = Join::Active;
            self.release(identity);
        }
    }

    fn end_filling(&mut self, identity: &Bytes) {
        if self.state == State::Active
            && self
                .user(identity)
                .is_some_and(|user| matches!(user.join, Join::Giving(_) | Join::Active))
        {
            self.tell_users();
        } else {
            self.statistics.refused_messages += 1;
        }
    }

    pub(super) fn snapshot(&mut self, identity: &Bytes, body: &Bytes) {
        let Ok(Value::Dict(asked)) = decode(body, PICKLE) else {
            self.statistics.refused_messages += 1;
            return;
        };
        let id = asked.of("ID").and_then(Value::as_text);
        if let Some(user) = self.user(identity) {
            user.will_ask = false;
        }
        match (asked.of("STATE").and_then(Value::as_text), id) {
            (Some("REQUEST_INIT"), _) if self.state == State::Active => self.offer(identity),
            (Some("GET"), Some(id)) if self.state == State::Active => self.give(identity, id),
            (Some("DONE"), _) if self.state == State::Active => self.end_join(identity),
            _ => self.statistics.refused_messages += 1,
        }
    }

    /// Sends the catalogue.
    pub(super) fn offer(&mut self, identity: &Bytes) {
        let catalogue = self.repository.catalogue();
        if catalogue.is_empty() && self.generation_of(identity) == Generation::A {
            self.offer_later(identity);
            return;
        }
        let Some(user) = self.user(identity) else {
            return;
        };
        user.join = Join::Catalogue {
            missing: catalogue.iter().cloned().collect(),
        };
        // All that there is comes with the catalogue.
        user.hold_nothing();
        self.send_catalogue(identity, &catalogue);
    }

    pub(super) fn send_catalogue(&mut self, identity: &Bytes, catalogue: &[Bytes]) {
        let mut names: Vec<Value> = catalogue
            .iter()
            .map(|uuid| Value::Text(String::from_utf8_lossy(uuid).into_owned()))
            .collect();
        if names.is_empty() {
            names.push(NOTHING.into());
        }
        let value = dict([("STATE", "INIT".into()), ("CATALOG", Value::List(names))]);
        let message = Message::of_server(Kind::Snapshot, Subject::None, &value);
        self.send(identity, Channel::Command, &message);
    }

    /// Sends one node as it was at first, and before it what has changed since on the data
    /// connection: a client keeps that until it has everything.
    fn give(&mut self, identity: &Bytes, id: &str) {
        let generation = self.generation_of(identity);
        if generation == Generation::A {
            self.correct_given(identity);
        }
        let Some(user) = self.user(identity) else {
            return;
        };
        match &mut user.join {
            Join::Catalogue { missing } => {
                let mut missing = mem::take(missing);
                missing.remove(id.as_bytes());
                user.join = Join::Fetching { missing };
            }
            Join::Fetching { missing } => {
                missing.remove(id.as_bytes());
            }
            Join::Lobby | Join::Giving(_) | Join::Active => {
                self.statistics.refused_messages += 1;
                return;
            }
        }
        if generation == Generation::A {
            self.give_node(identity, id);
            return;
        }
        let mut data = Value::Bytes(Bytes::from_static(b"removed"));
        let mut commits = Vec::new();
        if let Some(node) = self.repository.node(id.as_bytes()) {
            let mut parts = node.parts.clone();
            parts[2] = node.owner.clone();
            data = Value::List(parts.into_iter().map(Value::Bytes).collect());
            commits.clone_from(&node.commits);
        }
        let commits: Vec<_> = commits
            .iter()
            .map(|commit| Message::relayed(Subject::Commit(commit[1].clone()), commit))
            .collect();
        if !commits.is_empty() {
            self.send_stored(identity, Channel::Data, &commits);
        }
        let value = dict([("STATE", "SET".into()), ("DATA", data)]);
        let message = Message::of_server(Kind::Snapshot, Subject::None, &value);
        self.send_stored(identity, Channel::Command, &[message]);
    }

    /// A user has the whole scene. Its first data may tell that before its message does, which comes
    /// by another connection.
    pub(super) fn end_join(&mut self, identity: &Bytes) {
        if self.generation_of(identity) == Generation::A {
            self.correct_given(identity);
        }
        let Some(user) = self.user(identity) else {
            return;
        };
        match &user.join {
            Join::Fetching { missing } if missing.is_empty() => {
                user.join = Join::Active;
                self.release(identity);
                self.tell_users();
            }
            Join::Giving(_) | Join::Active => {}
            Join::Fetching { .. } | Join::Catalogue { .. } | Join::Lobby => {
                self.statistics.refused_messages += 1;
            }
        }
    }
}

/// The five parts of a node that is given.
fn given(items: &[Value]) -> Option<[Bytes; 5]> {
    let parts: Option<Vec<Bytes>> = items.iter().map(|item| item.as_bytes().cloned()).collect();
    parts?.try_into().ok()
}
