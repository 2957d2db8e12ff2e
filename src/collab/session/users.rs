//! Users come and go.

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;

use super::{Client, Join, Session, State, User};
use crate::base::ids::ConnId;
use crate::collab::message::{Message, Subject, dict};
use crate::collab::outbox::Outbox;
use crate::collab::repository::COMMON;
use crate::proto::pickle::Dict;
use crate::proto::replication::{Channel, Kind};
use crate::proto::session_log::Record;

impl Session {
    pub(in crate::collab) fn add_user(&mut self, identity: &Bytes, name: Bytes, is_admin: bool) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        client.user = Some(User {
            name,
            is_admin,
            join: Join::Lobby,
            held: Outbox::new(),
            held_nodes: HashSet::new(),
            metadata: Dict::new(),
            metadata_bytes: 0,
            latency: 999,
            waits_for_data: None,
            will_ask: false,
            given: None,
        });
        let conns = client.lanes.iter().filter_map(|lane| lane.conn);
        self.trusted.extend(conns);
        self.users.push(identity.clone());
    }

    /// The clients of which something that waits is to be taken.
    pub(in crate::collab) fn due(
        &self,
        now: Instant,
        waits: impl Fn(&Client) -> Option<&(Instant, Bytes)>,
    ) -> Vec<Bytes> {
        let is_due = |client| waits(client).is_some_and(|(due, _)| *due <= now);
        let clients = self.clients.iter();
        let clients = clients.filter(|(_, client)| is_due(client));
        clients.map(|(identity, _)| identity.clone()).collect()
    }

    pub(in crate::collab) fn user(&mut self, identity: &Bytes) -> Option<&mut User> {
        self.clients.get_mut(identity)?.user.as_mut()
    }

    /// The identity of a name.
    pub(in crate::collab) fn identity_of(&self, name: &[u8]) -> Option<Bytes> {
        let found = self.users.iter().find(|identity| {
            let user = self
                .clients
                .get(*identity)
                .and_then(|client| client.user.as_ref());
            user.is_some_and(|user| user.name == name)
        });
        found.cloned()
    }

    /// Lets a user go, who is told why.
    pub(in crate::collab) fn disconnect(&mut self, identity: &Bytes, reason: &str) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        // It is behind with everything else, and needs none of it any more.
        for lane in &mut client.lanes {
            lane.outbox = Outbox::new();
        }
        if client.user.is_none() {
            return;
        }
        let value = dict([("reason", reason.into())]);
        let message = Message::of_server(Kind::Disconnect, Subject::None, &value);
        let command = &mut client.lanes[Channel::Command as usize];
        if let Some(conn) = command.conn
            && command.outbox.push(&message, 0).is_ok()
        {
            command.is_busy = false;
            self.dirty.push(conn);
        }
        let conns: Vec<ConnId> = client.lanes.iter().filter_map(|lane| lane.conn).collect();
        self.closing.extend(conns);
        self.leave(identity, reason);
    }

    /// A user is no longer one.
    pub(in crate::collab) fn leave(&mut self, identity: &Bytes, reason: &str) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        let Some(user) = client.user.take() else {
            return;
        };
        let name = user.name;
        let generation = client.wire.generation();
        tracing::info!(
            port = self.options.port,
            user = %String::from_utf8_lossy(&name),
            reason,
            "a user has left the collaborative session"
        );
        self.users.retain(|other| other != identity);
        if client.lanes.iter().all(|lane| lane.conn.is_none()) {
            self.clients.remove(identity);
        }
        if matches!(&self.state, State::Filling { identity: filling, .. } if filling == identity) {
            // Nobody else could bring a scene otherwise, and all would wait for ever.
            self.state = State::Waiting;
            self.repository.clear();
            self.keep(|| Record::Begin);
        }
        if self.users.is_empty() {
            // Whoever comes next decides anew, and has seen nothing of what is gone.
            self.version = None;
            self.again.clear();
        }
        self.forget_empty_scene();
        let owned = self.repository.owned(&name);
        let common = Bytes::from_static(COMMON);
        for uuid in &owned {
            self.repository.own(uuid, &common);
        }
        if !owned.is_empty() && name != COMMON {
            self.tell_rights(generation, &owned, "COMMON");
        }
        self.tell_users();
    }
}
