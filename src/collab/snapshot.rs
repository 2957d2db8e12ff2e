//! The whole scene: from the first client, and to those who come late.

use std::collections::HashSet;
use std::mem;

use bytes::Bytes;

use super::message::{Message, Subject, dict};
use super::relay::is_uuid;
use super::repository::{Full, NODES_MAX};
use super::session::{Join, PICKLE, Session, State};
use crate::proto::pickle::{Dict, Value, decode};
use crate::proto::replication::{Channel, Kind};
use crate::proto::session_log::Record;

/// Stands in the catalogue of an empty scene: clients cannot deal with an empty one. Whoever
/// asks for it is told that it is gone.
const NOTHING: &str = "00000000-0000-4000-8000-000000000000";

impl Session {
    pub(super) fn server_snapshot(&mut self, identity: &Bytes, body: &Bytes) {
        let Ok(Value::Dict(asked)) = decode(body, PICKLE) else {
            self.statistics.refused_messages += 1;
            return;
        };
        match asked.of("STATE").and_then(Value::as_text) {
            Some("INIT") => self.begin_filling(identity, &asked),
            Some("SET") => self.fill(identity, &asked),
            Some("END") => self.end_filling(identity),
            _ => self.statistics.refused_messages += 1,
        }
    }

    fn begin_filling(&mut self, identity: &Bytes, asked: &Dict) {
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
        let parts: Option<Vec<Bytes>> = asked
            .of("DATA")
            .and_then(Value::as_items)
            .and_then(|items| items.iter().map(|item| item.as_bytes().cloned()).collect());
        let Some(parts) = parts.and_then(|parts| <[Bytes; 5]>::try_from(parts).ok()) else {
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
        if !self.may_pass(&parts) {
            self.disconnect(identity, "a node holds what no client may be sent");
            return;
        }
        let [_, kept @ ..] = parts.clone();
        let uuid = parts[1].clone();
        if self.repository.set(parts) == Err(Full) {
            self.disconnect(identity, "the scene is too big for the server");
            return;
        }
        self.keep(|| Record::Node(kept));
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
            user.join = Join::Active;
        }
        for other in self.users.clone() {
            if other != *identity {
                self.offer(&other);
            }
        }
    }

    fn end_filling(&mut self, identity: &Bytes) {
        if self.state == State::Active
            && self
                .user(identity)
                .is_some_and(|user| user.join == Join::Active)
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
        match (asked.of("STATE").and_then(Value::as_text), id) {
            (Some("REQUEST_INIT"), _) if self.state == State::Active => self.offer(identity),
            (Some("GET"), Some(id)) if self.state == State::Active => self.give(identity, id),
            (Some("DONE"), _) if self.state == State::Active => self.end_join(identity),
            _ => self.statistics.refused_messages += 1,
        }
    }

    /// Sends the catalogue.
    fn offer(&mut self, identity: &Bytes) {
        let catalogue = self.repository.catalogue();
        let Some(user) = self.user(identity) else {
            return;
        };
        user.join = Join::Catalogue {
            missing: catalogue.iter().cloned().collect(),
        };
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
        let Some(user) = self.user(identity) else {
            return;
        };
        match &mut user.join {
            Join::Catalogue { missing } => {
                let mut missing = mem::take(missing);
                missing.remove(id.as_bytes());
                user.join = Join::Fetching { missing };
                self.release(identity);
            }
            Join::Fetching { missing } => {
                missing.remove(id.as_bytes());
            }
            Join::Lobby | Join::Active => {
                self.statistics.refused_messages += 1;
                return;
            }
        }
        let mut data = Value::Bytes(Bytes::from_static(b"removed"));
        let mut commits = Vec::new();
        if let Some(node) = self.repository.node(id.as_bytes()) {
            let mut parts = node.parts.clone();
            parts[2] = node.owner.clone();
            data = Value::List(parts.into_iter().map(Value::Bytes).collect());
            commits.clone_from(&node.commits);
        }
        for commit in commits {
            let subject = Subject::Commit(commit[1].clone());
            self.send(identity, Channel::Data, &Message::relayed(subject, &commit));
        }
        let value = dict([("STATE", "SET".into()), ("DATA", data)]);
        let message = Message::of_server(Kind::Snapshot, Subject::None, &value);
        self.send(identity, Channel::Command, &message);
    }

    fn end_join(&mut self, identity: &Bytes) {
        let Some(user) = self.user(identity) else {
            return;
        };
        match &user.join {
            Join::Fetching { missing } if missing.is_empty() => {
                user.join = Join::Active;
                self.tell_users();
            }
            Join::Fetching { .. } | Join::Catalogue { .. } | Join::Lobby | Join::Active => {
                self.statistics.refused_messages += 1;
            }
        }
    }
}
