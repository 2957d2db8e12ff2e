//! What is queued for clients, and what is kept back for those who have not got the scene.

use std::collections::HashSet;
use std::mem;
use std::rc::Rc;

use bytes::Bytes;

use super::{Join, Session, User};
use crate::collab::message::{Message, Subject, dict};
use crate::collab::outbox::{Outbox, Overfull};
use crate::proto::pickle::{Dict, Value};
use crate::proto::replication::{Channel, Kind};

impl Session {
    /// Queues a message for a client.
    pub(in crate::collab) fn send(
        &mut self,
        identity: &Bytes,
        channel: Channel,
        message: &Rc<Message>,
    ) {
        let push = |outbox: &mut Outbox, after| outbox.push(message, after);
        self.send_by(identity, channel, 1, push);
    }

    /// Queues what the session stores of a node for one who has asked for it.
    pub(in crate::collab) fn send_stored(
        &mut self,
        identity: &Bytes,
        channel: Channel,
        messages: &[Rc<Message>],
    ) {
        let push = |outbox: &mut Outbox, after| outbox.push_stored(messages, after);
        self.send_by(identity, channel, messages.len() as u64, push);
    }

    fn send_by(
        &mut self,
        identity: &Bytes,
        channel: Channel,
        count: u64,
        push: impl FnOnce(&mut Outbox, u64) -> Result<usize, Overfull>,
    ) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        // Signs of life do not wait for a disk.
        let after = match channel {
            Channel::Ttl => 0,
            Channel::Command | Channel::Data | Channel::Push => self.keeping.position(),
        };
        let lane = &mut client.lanes[channel as usize];
        let was_idle = lane.outbox.is_empty() && !lane.is_busy;
        let pushed = push(&mut lane.outbox, after);
        if was_idle && let Some(conn) = lane.conn {
            self.dirty.push(conn);
        }
        self.statistics.sent += count;
        match pushed {
            Ok(replaced) => self.statistics.coalesced += replaced as u64,
            Err(Overfull) => {
                self.statistics.overfull += 1;
                self.disconnect(identity, "you read too slowly");
            }
        }
    }

    /// Keeps data back from a client that has not got the scene.
    pub(in crate::collab) fn hold(&mut self, identity: &Bytes, message: &Rc<Message>) {
        let client = self.clients.get_mut(identity);
        let Some(user) = client.and_then(|client| client.user.as_mut()) else {
            return;
        };
        if let Subject::Node(uuid) = &message.subject {
            user.held_nodes.insert(uuid.clone());
        }
        match user.held.push(message, 0) {
            Ok(replaced) => self.statistics.coalesced += replaced as u64,
            Err(Overfull) => {
                self.statistics.overfull += 1;
                self.disconnect(identity, "you do not fetch the scene");
            }
        }
    }

    /// Lets a client have what was kept back.
    pub(in crate::collab) fn release(&mut self, identity: &Bytes) {
        let client = self.clients.get_mut(identity);
        let Some(user) = client.and_then(|client| client.user.as_mut()) else {
            return;
        };
        user.held_nodes.clear();
        for message in mem::replace(&mut user.held, Outbox::new()).into_messages() {
            // Changes of owners went out meanwhile, and found nothing to change.
            let message = match &message.subject {
                Subject::Node(uuid) => self.repository.node(uuid).map_or_else(
                    || Rc::clone(&message),
                    |node| message.with_owner(&node.owner),
                ),
                Subject::Commit(_) | Subject::Users | Subject::Metadata(_) | Subject::None => {
                    message
                }
            };
            self.send(identity, Channel::Data, &message);
        }
    }

    /// Forgets what waits for a client about a node that is gone.
    pub(in crate::collab) fn forget(&mut self, identity: &Bytes, node: &Bytes) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        if !client.user.as_ref().is_some_and(|user| user.is_given(node)) {
            let data = &mut client.lanes[Channel::Data as usize];
            data.outbox.forget(|uuid| uuid == node);
        }
        if let Some(user) = &mut client.user {
            user.held.forget(|uuid| uuid == node);
            user.held_nodes.remove(node);
        }
    }

    /// Forgets what waits for a client about nodes that it fetches, in one go: there may be as many as
    /// messages that wait.
    pub(in crate::collab) fn forget_all(&mut self, identity: &Bytes, nodes: &HashSet<Bytes>) {
        let Some(client) = self.clients.get_mut(identity) else {
            return;
        };
        let given = client.user.as_ref().and_then(User::given_uuid);
        let data = &mut client.lanes[Channel::Data as usize];
        data.outbox
            .forget(|uuid| nodes.contains(uuid) && Some(uuid) != given);
        if let Some(user) = &mut client.user {
            user.held.forget(|uuid| nodes.contains(uuid));
            user.held_nodes.retain(|uuid| !nodes.contains(uuid));
        }
    }

    /// Queues a message for all users but one, and but those who have no answer to their login.
    pub(in crate::collab) fn tell_others(&mut self, but: Option<&Bytes>, message: &Rc<Message>) {
        for identity in self.users.clone() {
            let is_in = self
                .user(&identity)
                .is_some_and(|user| user.waits_for_data.is_none());
            if is_in && Some(&identity) != but {
                self.send(&identity, Channel::Command, message);
            }
        }
    }

    /// Tells all users who is there.
    pub(in crate::collab) fn tell_users(&mut self) {
        let mut table = Dict::new();
        for identity in &self.users {
            let Some(client) = self.clients.get(identity) else {
                continue;
            };
            if let Some(user) = &client.user {
                let name = String::from_utf8_lossy(&user.name).into_owned();
                let status = match (&user.join, user.waits_for_data) {
                    (_, Some(_)) => 11,
                    (Join::Active | Join::Giving(_), None) => 2,
                    (Join::Lobby | Join::Catalogue { .. } | Join::Fetching { .. }, None) => 10,
                };
                let entry = dict([
                    ("id", Value::Text(name.clone())),
                    ("admin", user.is_admin.into()),
                    ("latency", user.latency.into()),
                    ("status", status.into()),
                    ("metadata", user.metadata.clone().into()),
                ]);
                table.set(Value::Text(name), entry);
            }
        }
        let kind = Kind::UpdateClientsState;
        let message = Message::of_server(kind, Subject::Users, &Value::Dict(table));
        self.tell_others(None, &message);
    }
}
