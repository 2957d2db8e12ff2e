//! Many clients of one session, who come, go, edit, lock, stall and misbehave as a seed says.
//!
//! The protocol orders nothing between two who edit one node at once, or between a client's two
//! connections. So that all can end with one scene, a node is edited by one client at a time, who
//! has locked it, and commands about nodes wait until the client's data have arrived. That is what
//! the add-on's users do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::prng::Prng;
use ringside::collab::Options;
use ringside::proto::pickle::{Dict, Value, encode};
use ringside::proto::replication::{Channel, Generation, Kind, Port, Wire};

use super::client::{Client, Node, State, commit_parts, dict, hello, node_parts};
use super::options;
use super::stage::Stage;

const CLIENTS_MAX: usize = 9;
const NODES_MAX: usize = 30;

pub(crate) struct World {
    generation: Generation,
    pub(crate) stage: Stage,
    pub(crate) clients: BTreeMap<u64, Client>,
    prng: Prng,
    next: u64,
    /// Who edits a node, or wants to.
    holders: BTreeMap<Bytes, u64>,
    /// Nodes that somebody has asked to remove.
    dying: BTreeSet<Bytes>,
    stalled: BTreeSet<u64>,
    /// What has happened, by name.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub(crate) fn new(now: Instant, seed: u64, generation: Generation) -> Self {
        let versions = ["0.1.26", "0.9.11"].map(str::to_owned).to_vec();
        let options = Options {
            versions,
            ..options()
        };
        Self {
            generation,
            stage: Stage::new(now, options),
            clients: BTreeMap::new(),
            prng: Prng::new(seed),
            next: 1,
            holders: BTreeMap::new(),
            dying: BTreeSet::new(),
            stalled: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// One thing happens, and what is on its way gets on.
    pub(crate) fn step(&mut self) {
        match self.prng.below(100) {
            0..4 => self.come(),
            4..6 => self.vanish(),
            6..8 => self.reconnect(),
            8..9 => self.kick(),
            9..11 => self.stranger(),
            11..12 => self.intrude(),
            12..16 => self.stall(),
            16..22 => self.resume(),
            22..26 => self.init(),
            _ => self.edit(),
        }
        let ids: Vec<u64> = self.clients.keys().copied().collect();
        for id in ids {
            let channels = self.clients.get(&id).map_or(0, |client| client.links.len());
            for channel in 0..channels {
                if self.prng.chance(60) {
                    let most = [7, 200, 100_000][self.prng.below(3) as usize];
                    let count = 1 + self.prng.below(most) as usize;
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.flush(&mut self.stage, channel, count);
                    }
                }
            }
            self.listen();
        }
        let elapsed = Duration::from_millis(self.prng.below(60));
        self.stage.advance(self.stage.now + elapsed);
        self.listen();
    }

    /// All that is on its way arrives.
    pub(crate) fn settle(&mut self) {
        for id in std::mem::take(&mut self.stalled) {
            self.wake(id);
        }
        for _ in 0..1000 {
            for client in self.clients.values_mut() {
                client.flush_all(&mut self.stage);
            }
            self.listen();
            if self.clients.values().all(Client::is_quiet) {
                return;
            }
        }
        panic!("clients and server do not come to rest");
    }

    fn listen(&mut self) {
        let mut gone = Vec::new();
        for (id, client) in &mut self.clients {
            client.listen(&mut self.stage);
            let is_out = matches!(client.state, State::Out(_));
            if is_out || !client.is_connected(&self.stage) {
                gone.push(*id);
            }
        }
        for id in gone {
            self.remove(id);
        }
        // A node is free once its last editor has seen that it gave it back, or that it is gone.
        let clients = &self.clients;
        self.holders.retain(|uuid, holder| {
            clients.get(holder).is_some_and(|client| {
                !client.has_removed(uuid)
                    && (client.state == State::Active || client.state == State::Filling)
            })
        });
    }

    fn remove(&mut self, id: u64) {
        if let Some(client) = self.clients.remove(&id) {
            for link in client.links {
                self.stage.drop_link(link);
            }
        }
        self.stalled.remove(&id);
    }

    fn come(&mut self) {
        if self.clients.len() >= CLIENTS_MAX {
            return;
        }
        let id = self.next;
        self.next += 1;
        let is_admin = self.prng.chance(40);
        let wire = self.wire(self.generation);
        // Sometimes a name that is taken, or that was somebody's a moment ago.
        let name = match self.prng.chance(15) {
            true => format!("user{}", 1 + self.prng.below(id)),
            false => format!("user{id}"),
        };
        self.clients
            .insert(id, Client::new(&mut self.stage, id, name, wire, is_admin));
        self.count("come");
    }

    /// Somebody comes last: what it gets is what the server has.
    pub(crate) fn come_last(&mut self) {
        let wire = self.wire(self.generation);
        let last = Client::new(&mut self.stage, self.next, "last".to_owned(), wire, false);
        self.clients.insert(self.next, last);
        self.next += 1;
        self.settle();
    }

    fn wire(&mut self, generation: Generation) -> Wire {
        match generation {
            Generation::A => Wire::FourPorts,
            Generation::Later => [Wire::Zmtp, Wire::Tcp][self.prng.below(2) as usize],
        }
    }

    fn somebody(&mut self, is_wanted: impl Fn(&Client) -> bool) -> Option<u64> {
        let wanted: Vec<u64> = self
            .clients
            .iter()
            .filter(|(id, client)| is_wanted(client) && !self.stalled.contains(id))
            .map(|(id, _)| *id)
            .collect();
        let place = self.prng.below(wanted.len() as u64) as usize;
        wanted.get(place).copied()
    }

    /// A client is gone without a word, with all that it has on its way.
    fn vanish(&mut self) {
        if self.clients.len() > 2
            && let Some(id) = self.somebody(|_| true)
        {
            self.remove(id);
            self.count("vanish");
        }
    }

    fn reconnect(&mut self) {
        if let Some(id) = self.somebody(|client| client.wire != Wire::Tcp)
            && let Some(client) = self.clients.get_mut(&id)
        {
            let channel = self.prng.below(client.links.len() as u64) as usize;
            let what = ["cut", "reconnect"][usize::from(client.is_quiet())];
            client.reconnect(&mut self.stage, channel);
            if channel == Channel::Data as usize {
                // Owners of nodes that come meanwhile would be told of too early.
                client.flush(&mut self.stage, channel, usize::MAX);
            }
            self.count(what);
        }
    }

    fn kick(&mut self) {
        let names: Vec<String> = self.clients.values().map(|c| c.name.clone()).collect();
        let place = self.prng.below(names.len() as u64) as usize;
        let Some(name) = names.get(place) else {
            return;
        };
        if let Some(id) = self.somebody(|client| client.state == State::Active)
            && let Some(client) = self.clients.get_mut(&id)
        {
            client.say(Kind::Kick, &dict([("user", name.as_str().into())]));
            let what = ["kick refused", "kick"][usize::from(client.is_admin)];
            self.count(what);
        }
    }

    /// Somebody who has not logged in says what only users may say, or nothing that makes sense.
    fn stranger(&mut self) {
        let wire = [Wire::Zmtp, Wire::Tcp][self.prng.below(2) as usize];
        let channel = [Channel::Command, Channel::Data][self.prng.below(2) as usize];
        let port = match (wire, channel) {
            (Wire::Zmtp, Channel::Data) => Port::Second,
            (Wire::Tcp | Wire::Zmtp | Wire::FourPorts, _) => Port::First,
        };
        let link = self.stage.connect(port, wire);
        let mut bytes = hello(wire, channel, &self.prng.next_u64().to_be_bytes());
        let uuid = self.uuid().unwrap_or_default();
        let node = Node {
            owner: Bytes::from_static(b"COMMON"),
            dependencies: Vec::new(),
            data: encode(&dict([("n", 66.into())])).into(),
        };
        let parts = match self.prng.below(3) {
            0 => node_parts(&uuid, &node).to_vec(),
            1 => vec![
                Bytes::copy_from_slice(&Kind::Delete.part()),
                Bytes::from_static(b"client"),
                encode(&Value::Text(String::from_utf8_lossy(&uuid).into_owned())).into(),
            ],
            _ => vec![Bytes::from(self.prng.next_u64().to_be_bytes().to_vec())],
        };
        let parts: Vec<Vec<Bytes>> = parts.into_iter().map(|part| vec![part]).collect();
        for piece in ringside::proto::replication::frame(wire, &parts) {
            bytes.extend(piece);
        }
        if self.prng.chance(30) {
            let place = self.prng.below(bytes.len() as u64) as usize;
            bytes[place] ^= 1 << self.prng.below(8);
        }
        self.stage.input(link, &bytes);
        self.stage.drop_link(link);
        self.count("stranger");
    }

    /// Somebody of another generation wants to come in: nothing comes of it for others.
    fn intrude(&mut self) {
        let generation = match self.stage.session.outline()["generation"].as_str() {
            Some("A") => Generation::Later,
            Some(_) => Generation::A,
            None => return,
        };
        let before = self.seen();
        let wire = self.wire(generation);
        let is_admin = self.prng.chance(50);
        let name = match self.prng.chance(20) {
            true => format!("user{}", 1 + self.prng.below(self.next)),
            false => format!("intruder{}", self.next),
        };
        let uuid = self.uuid().unwrap_or_default();
        let mut other = Client::new(&mut self.stage, self.next, name, wire, is_admin);
        self.next += 1;
        let is_whole = self.prng.chance(70);
        for channel in 0..other.links.len() {
            let count = match is_whole {
                true => usize::MAX,
                false => self.prng.below(300) as usize,
            };
            other.flush(&mut self.stage, channel, count);
        }
        other.listen(&mut self.stage);
        if is_whole {
            let State::Out(reason) = &other.state else {
                panic!("{:?}", other.state);
            };
            let is_known = ["FAILED: wrong client version", "FAILED: client already"];
            assert!(
                is_known.iter().any(|known| reason.starts_with(known)),
                "{reason}"
            );
            // It does not listen to that.
            let (_, node) = self.node(&[]);
            other.send(Channel::Data, &node_parts(&uuid, &node));
            other.remove(&uuid);
            other.flush_all(&mut self.stage);
            self.count("intrude");
        }
        for link in other.links {
            self.stage.drop_link(link);
        }
        assert_eq!(self.seen(), before);
    }

    /// What everybody has, and what is on its way to them.
    fn seen(&self) -> (String, [usize; 2], Vec<usize>) {
        let clients = self.clients.values();
        let links = clients.flat_map(|client| &client.links);
        let inboxes = links.map(|link| self.stage.links[link].inbox.len());
        let kept = [self.stage.kept.nodes(), self.stage.kept.bytes()];
        (
            self.stage.session.show().to_string(),
            kept,
            inboxes.collect(),
        )
    }

    fn stall(&mut self) {
        if let Some(id) = self.somebody(|_| true)
            && let Some(client) = self.clients.get(&id)
        {
            for link in &client.links[..2] {
                if let Some(link) = self.stage.links.get_mut(link) {
                    link.is_reading = false;
                }
            }
            self.stalled.insert(id);
            self.count("stall");
        }
    }

    fn resume(&mut self) {
        let place = self.prng.below(self.stalled.len() as u64) as usize;
        if let Some(id) = self.stalled.iter().nth(place).copied() {
            self.stalled.remove(&id);
            self.wake(id);
        }
    }

    fn wake(&mut self, id: u64) {
        if let Some(client) = self.clients.get_mut(&id) {
            let (command, data) = (client.links[0], client.links[1]);
            if self.generation == Generation::A && self.prng.chance(50) {
                self.stage.resume(command);
                self.stage.resume(data);
                client.listen_overtaken(&mut self.stage);
                self.count("overtake");
                return;
            }
            // All data first, as if the client's library had read them first.
            self.stage.resume(data);
            client.listen(&mut self.stage);
            self.stage.resume(command);
            client.listen(&mut self.stage);
        }
    }

    fn init(&mut self) {
        let nodes = 1 + self.prng.below(6);
        let Some(id) = self.somebody(|client| client.state == State::Lobby && client.is_admin)
        else {
            return;
        };
        let scene: Vec<(Bytes, Node)> = (0..nodes).map(|_| self.node(&[])).collect();
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        // An offer of generation A that is on its way while somebody else's scene becomes complete
        // kills its client, with the original too: it arrives at once.
        let is_four = self.generation == Generation::A;
        if is_four {
            client.flush_all(&mut self.stage);
            client.listen(&mut self.stage);
        }
        if client.state == State::Lobby {
            client.scene = scene.into_iter().collect();
            client.init();
            if is_four {
                client.flush_all(&mut self.stage);
            }
            self.count("init");
        }
    }

    fn uuid(&mut self) -> Option<Bytes> {
        let scene = self.clients.values().find(|c| c.state == State::Active)?;
        let place = self.prng.below(scene.scene.len() as u64) as usize;
        scene.scene.keys().nth(place).cloned()
    }

    fn node(&mut self, others: &[Bytes]) -> (Bytes, Node) {
        let uuid = format!(
            "{:08x}-0000-4000-8000-{:012x}",
            self.next,
            self.prng.next_u64() >> 16
        );
        self.next += 1;
        let items: Dict = (0..self.prng.below(4))
            .map(|key| (Value::Text(format!("k{key}")), Value::Int(key as i64)))
            .collect();
        let data = dict([
            ("type_id", "Object".into()),
            ("uuid", uuid.as_str().into()),
            ("n", 0.into()),
            ("items", Value::Dict(items)),
        ]);
        let place = self.prng.below(others.len() as u64 + 1) as usize;
        let node = Node {
            owner: Bytes::from_static(b"COMMON"),
            dependencies: others.get(place).cloned().into_iter().collect(),
            data: encode(&data).into(),
        };
        (uuid.into(), node)
    }

    /// Somebody who has the scene does something with it.
    fn edit(&mut self) {
        let Some(id) = self.somebody(|client| client.state == State::Active) else {
            return;
        };
        let what = self.prng.below(100);
        let size = self.clients[&id].scene.len();
        match what {
            0..10 if size < NODES_MAX => self.create(id),
            0..10 => {}
            10..20 => self.describe(id),
            20..45 => self.lock(id),
            _ => self.change(id),
        }
    }

    fn create(&mut self, id: u64) {
        let others: Vec<Bytes> = self.clients[&id].scene.keys().cloned().collect();
        let (uuid, mut node) = self.node(&others);
        let is_own = self.prng.chance(50);
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if is_own {
            node.owner = Bytes::from(client.name.clone());
            self.holders.insert(uuid.clone(), id);
        }
        client.send(Channel::Data, &node_parts(&uuid, &node));
        client.scene.insert(uuid, node);
        self.count("create");
    }

    fn describe(&mut self, id: u64) {
        let number = self.prng.below(100) as i64;
        let key = ["color", "frame_current", "scene_current"][self.prng.below(3) as usize];
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let said = dict([(key, number.into())]);
        client.say(Kind::UpdateUserMetadata, &said);
        self.count("describe");
    }

    fn lock(&mut self, id: u64) {
        let client = &self.clients[&id];
        // In generation A nobody waits for the echo of a lock, and nodes that are still on their way to
        // the client would undo what it does: it has what others have sent once it is quiet.
        let is_ready = match self.generation {
            Generation::A => client.is_quiet(),
            Generation::Later => client.has_sent_data(),
        };
        if !is_ready {
            return;
        }
        let free = client.scene.iter().find(|(uuid, node)| {
            node.owner == "COMMON"
                && !self.holders.contains_key(*uuid)
                && !self.dying.contains(*uuid)
        });
        let Some(uuid) = free.map(|(uuid, _)| uuid.clone()) else {
            return;
        };
        self.holders.insert(uuid.clone(), id);
        self.own(id, &uuid, true);
        self.count("lock");
    }

    fn own(&mut self, id: u64, uuid: &Bytes, is_own: bool) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let owner = match is_own {
            true => client.name.clone(),
            false => "COMMON".to_owned(),
        };
        client.own(uuid, &owner);
    }

    /// Changes a node that the client has locked, replaces it, gives it back or removes it.
    fn change(&mut self, id: u64) {
        let client = &self.clients[&id];
        let name = client.name.clone();
        let mine: Vec<Bytes> = client
            .scene
            .iter()
            .filter(|(uuid, node)| {
                node.owner == name
                    && self.holders.get(*uuid) == Some(&id)
                    && !self.dying.contains(*uuid)
            })
            .map(|(uuid, _)| uuid.clone())
            .collect();
        let place = self.prng.below(mine.len() as u64) as usize;
        let Some(uuid) = mine.get(place).cloned() else {
            return;
        };
        let is_sent = client.has_sent_data();
        let number = self.prng.next_u64() as i64 >> 40;
        let what = match (self.prng.below(100), self.generation) {
            // There are no changes.
            (0..50, Generation::A) => 50,
            (what, _) => what,
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let Some(node) = client.scene.get(&uuid).cloned() else {
            return;
        };
        match what {
            0..50 => {
                let key = format!("root['items']['x{number}']");
                let delta = match what {
                    0..30 => change(
                        "values_changed",
                        "root['n']",
                        dict([("new_value", number.into())]),
                    ),
                    _ => change("dictionary_item_added", &key, number.into()),
                };
                let parts = commit_parts(&uuid, &node, &delta);
                client.send(Channel::Data, &parts);
                client.apply(&parts, false);
                self.count("change");
            }
            50..70 => {
                let data = dict([
                    ("type_id", "Object".into()),
                    ("n", number.into()),
                    ("items", Value::Dict(Dict::new())),
                ]);
                let data = encode(&data).into();
                let parts = node_parts(&uuid, &Node { data, ..node });
                client.send(Channel::Data, &parts);
                client.apply(&parts, false);
                self.count("replace");
            }
            70..85 if is_sent => {
                // It is somebody else's turn when this client has seen the answer.
                self.own(id, &uuid, false);
                self.dying.insert(uuid.clone());
                self.settle_one(id);
                self.dying.remove(&uuid);
                self.holders.remove(&uuid);
                self.count("unlock");
            }
            85..92 if is_sent => {
                client.remove(&uuid);
                self.dying.insert(uuid);
                self.count("delete");
            }
            _ => {}
        }
    }

    /// All that a client has sent arrives.
    fn settle_one(&mut self, id: u64) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.flush_all(&mut self.stage);
        }
        self.listen();
    }
}

fn change(kind: &str, path: &str, value: Value) -> Value {
    dict([(kind, dict([(path, value)]))])
}
