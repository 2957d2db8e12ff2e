//! What is different with clients of generation A.
//!
//! A session has users of one generation: a node of generation A names a type that the later ones do
//! not know, and a change of the later ones is nothing that generation A understands. Whoever comes
//! first decides, and whoever has a scene.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::message::{Message, Subject, dict};
use super::session::{Client, Join, PICKLE, Session, State, User};
use crate::proto::pickle::{Dict, Value, decode};
use crate::proto::replication::{Channel, Generation, Kind, Wire, four_ports};

/// How soon after one another tables of users go out because of what users say of themselves.
const TABLE_EVERY: Duration = Duration::from_millis(50);

/// Bytes of a table that goes out as often as that, and how long one waits that is much bigger.
const TABLE_BYTES: u32 = 64 * 1024;
const TABLE_EVERY_MAX: Duration = Duration::from_secs(1);

/// How long an answer to who offers a scene waits. The thread that reads it dies of it if the one that
/// has made the offer has not noted that yet, which it does once the offer is sent.
const ANSWER_AFTER: Duration = Duration::from_millis(250);

/// A node that a client was sent while it fetches the scene. Commands overtake nodes, which come by
/// another connection: what happens to the node meanwhile is told once the client asks for more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Given {
    uuid: Bytes,
    owner: Bytes,
}

/// The five parts of a node that the first client gives.
pub(super) fn given(data: &Dict) -> Option<[Bytes; 5]> {
    let of = |key| data.of(key).and_then(Value::as_bytes).cloned();
    Some([
        of("type")?,
        of("uuid")?,
        of("owner")?,
        of("dependencies")?,
        of("data")?,
    ])
}

impl User {
    /// Whether a node is on its way to the user, who fetches the scene and waits for it.
    pub(super) fn is_given(&self, uuid: &Bytes) -> bool {
        self.given_uuid() == Some(uuid)
    }

    pub(super) fn given_uuid(&self) -> Option<&Bytes> {
        self.given.as_ref().map(|given| &given.uuid)
    }
}

impl Client {
    /// What the client speaks, with one more connection. `None` if that fits no client.
    ///
    /// The sockets at the first two ports are those of both generations that speak ZMTP.
    pub(super) fn wire_with(&self, wire: Wire, channel: Channel) -> Option<Wire> {
        match (self.wire, wire) {
            (Wire::Zmtp, Wire::Zmtp) | (Wire::Tcp, Wire::Tcp) => Some(wire),
            (Wire::FourPorts, Wire::FourPorts) => Some(wire),
            (Wire::FourPorts, Wire::Zmtp) if channel != Channel::Ttl => Some(Wire::FourPorts),
            (Wire::Zmtp, Wire::FourPorts) if self.is_undecided() => Some(Wire::FourPorts),
            (Wire::Zmtp | Wire::Tcp | Wire::FourPorts, _) => None,
        }
    }

    /// Whether a client that speaks ZMTP may turn out to be of generation A.
    fn is_undecided(&self) -> bool {
        let has_ttl = self.lanes[Channel::Ttl as usize].conn.is_some();
        self.wire == Wire::Zmtp && self.user.is_none() && !has_ttl
    }
}

impl Session {
    /// Whose session it is, if that is decided.
    pub(super) fn generation(&self) -> Option<Generation> {
        let first = self.users.first().and_then(|user| self.clients.get(user));
        first
            .map(|client| client.wire.generation())
            .or_else(|| self.repository.generation())
    }

    pub(super) fn generation_of(&self, identity: &Bytes) -> Generation {
        self.clients
            .get(identity)
            .map_or(Generation::Later, |client| client.wire.generation())
    }

    /// A command with its number first. The first one tells of which generation a client is, where
    /// its connections do not.
    pub(super) fn numbered(&mut self, identity: &Bytes, parts: &[Bytes]) -> Option<[Bytes; 3]> {
        let client = self.clients.get_mut(identity)?;
        let named = four_ports::command(parts);
        if named.is_some() && client.is_undecided() {
            client.wire = Wire::FourPorts;
        }
        match client.wire.generation() {
            Generation::A => named,
            Generation::Later => parts.to_vec().try_into().ok(),
        }
    }

    /// A scene without nodes is of any generation. Clients of generation A cannot fetch it, so that
    /// they bring another one.
    pub(super) fn forget_empty_scene(&mut self) {
        if self.state != State::Active || self.repository.len() > 0 {
            return;
        }
        let mut users = self.users.iter();
        let is_kept = match self.generation() {
            // Whoever waits for the scene would wait for ever.
            Some(Generation::A) => users.any(|identity| {
                let client = self.clients.get(identity);
                let user = client.and_then(|client| client.user.as_ref());
                user.is_some_and(|user| matches!(user.join, Join::Active | Join::Giving(_)))
            }),
            Some(Generation::Later) | None => users.next().is_some(),
        };
        if !is_kept {
            self.state = State::Waiting;
        }
    }

    /// Somebody offers a scene.
    pub(super) fn offer_scene(&mut self, now: Instant, identity: &Bytes, body: &Bytes) {
        match self.clients.get_mut(identity) {
            Some(client) if client.offered.is_none() => {
                client.offered = Some((now + ANSWER_AFTER, body.clone()));
            }
            Some(_) | None => self.statistics.refused_messages += 1,
        }
    }

    /// Whether a client's offer has not been answered: it dies of anything else before that.
    pub(super) fn has_offered(&self, identity: &Bytes) -> bool {
        let client = self.clients.get(identity);
        client.is_some_and(|client| client.offered.is_some())
    }

    /// Takes the offers whose time has come.
    pub(super) fn take_offers(&mut self, now: Instant) {
        for identity in self.due(now, |client| client.offered.as_ref()) {
            let client = self.clients.get_mut(&identity);
            let offered = client.and_then(|client| client.offered.take());
            if let Some((_, body)) = offered
                && let Ok(Value::Dict(asked)) = decode(&body, PICKLE)
            {
                self.begin_filling(&identity, &asked);
            }
        }
    }

    /// There is nothing in the catalogue: it is sent once there is.
    pub(super) fn offer_later(&mut self, identity: &Bytes) {
        if let Some(user) = self.user(identity) {
            user.join = Join::Lobby;
            user.hold_nothing();
        }
    }

    /// There is a node again: whoever waits for one may fetch it.
    pub(super) fn offer_first(&mut self, from: &Bytes) {
        for other in self.users.clone() {
            let is_waiting = self
                .user(&other)
                .is_some_and(|user| user.join == Join::Lobby && !user.will_ask)
                && !self.has_offered(&other);
            if other != *from && is_waiting && self.generation_of(&other) == Generation::A {
                self.offer(&other);
            }
        }
    }

    /// Sends one node to a user that fetches the scene.
    pub(super) fn give_node(&mut self, identity: &Bytes, id: &str) {
        let Some(node) = self.repository.node(id.as_bytes()) else {
            self.offer_rest(identity);
            return;
        };
        let owner = node.owner.clone();
        let uuid = Bytes::copy_from_slice(id.as_bytes());
        let message = Message::relayed(Subject::Node(uuid.clone()), &node.parts);
        let message = message.with_owner(&owner);
        if let Some(user) = self.user(identity) {
            user.given = Some(Given { uuid, owner });
        }
        self.send(identity, Channel::Data, &message);
    }

    /// A user has asked for a node that is gone, and waits for it until it gets another catalogue.
    fn offer_rest(&mut self, identity: &Bytes) {
        let all = self.repository.catalogue();
        let Some(Join::Fetching { missing }) = self.user(identity).map(|user| user.join.clone())
        else {
            return;
        };
        let mut rest: Vec<Bytes> = all
            .iter()
            .filter(|uuid| missing.contains(*uuid))
            .cloned()
            .collect();
        if rest.is_empty() {
            // It has all of them, and can only go on with one of them.
            rest.extend(all.first().cloned());
        }
        if rest.is_empty() {
            self.offer_later(identity);
            return;
        }
        // They are sent as they are when they are asked for.
        let missing = rest.iter().cloned().collect();
        self.forget_all(identity, &missing);
        if let Some(user) = self.user(identity) {
            user.join = Join::Fetching { missing };
        }
        self.send_catalogue(identity, &rest);
    }

    /// A user has what it was given last: now it can be told what has happened to it since.
    pub(super) fn correct_given(&mut self, identity: &Bytes) {
        let given = self.user(identity).and_then(|user| user.given.take());
        let Some(Given { uuid, owner }) = given else {
            return;
        };
        let text = Value::Text(String::from_utf8_lossy(&uuid).into_owned());
        let owner_now = self.repository.node(&uuid).map(|node| node.owner.clone());
        let message = match owner_now {
            None => Message::of_server(Kind::Delete, Subject::None, &text),
            Some(now) if now == owner => return,
            Some(now) => {
                let owner = String::from_utf8_lossy(&now).into_owned();
                let said = dict([("uuid", text), ("owner", Value::Text(owner))]);
                Message::of_server(Kind::Right, Subject::None, &said)
            }
        };
        self.send(identity, Channel::Command, &message);
    }

    /// Tells all users but one of the owner that nodes have, and not who waits for one of them: that is
    /// told once it has come. Told twice, the second time may undo what the user has done by then.
    pub(super) fn tell_owner(
        &mut self,
        but: Option<&Bytes>,
        uuids: &[Bytes],
        message: &Rc<Message>,
    ) {
        for identity in self.users.clone() {
            let is_told = self.user(&identity).is_some_and(|user| {
                let given = user.given_uuid();
                user.waits_for_data.is_none() && !given.is_some_and(|given| uuids.contains(given))
            });
            if is_told && Some(&identity) != but {
                self.send(&identity, Channel::Command, message);
            }
        }
    }

    /// Nodes come from somebody who has not logged in, and who is told so in the words of generation A
    /// even if nothing else has told that it is of that.
    pub(super) fn turn_away_pushing(&mut self, identity: &Bytes, address: IpAddr) {
        if let Some(client) = self.clients.get_mut(identity)
            && client.address == address
            && client.is_undecided()
        {
            client.wire = Wire::FourPorts;
        }
        self.turn_away(identity);
    }

    /// Tells all users what has changed in the table of users, which in generation A is the only way
    /// to tell: a user says something of itself ten times a second.
    pub(super) fn tell_users_soon(&mut self, now: Instant) {
        let weight = u32::try_from(self.metadata_bytes()).unwrap_or(u32::MAX) / TABLE_BYTES;
        let every = TABLE_EVERY_MAX.min(TABLE_EVERY * (1 + weight));
        let due = self.last_table.map_or(now, |last| last + every);
        if now < due {
            self.next_table = Some(due);
            return;
        }
        self.next_table = None;
        self.last_table = Some(now);
        self.tell_users();
    }
}
