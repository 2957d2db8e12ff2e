//! A client as the original behaves: what it does with each message, and what it cannot deal with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::ids::ConnId;
use ringside::proto::deepdiff::fold;
use ringside::proto::pickle::{Dict, Limits, Value, encode};
use ringside::proto::replication::{Channel, Generation, Kind, Wire, frame};

use super::four::{self, PORTS};
use super::outgoing::Outgoing;
use super::stage::Stage;
use super::value;

/// How far a client is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Auth,
    Lobby,
    Filling,
    Syncing,
    Active,
    /// It has been told to go.
    Out(String),
}

/// A node as a client has it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Node {
    pub(crate) owner: Bytes,
    pub(crate) dependencies: Vec<Bytes>,
    pub(crate) data: Bytes,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) is_admin: bool,
    pub(crate) wire: Wire,
    identity: Bytes,
    /// By channel.
    pub(crate) links: Vec<ConnId>,
    pub(crate) state: State,
    pub(crate) scene: BTreeMap<Bytes, Node>,
    /// What it knows of each user.
    pub(crate) users: BTreeMap<String, Dict>,
    /// What it has sent and has not arrived, by channel.
    outgoing: Vec<Outgoing>,
    /// The first half of a node of generation A.
    half: Vec<Vec<Bytes>>,
    catalogue: Vec<Bytes>,
    current: Bytes,
    late: Vec<Vec<Bytes>>,
    removed: BTreeSet<Bytes>,
    /// When it last had a sign of life.
    heard: Instant,
}

/// How long a client waits for a sign of life: its timeout, and a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6);

/// What nodes of generation A are here.
const TYPE: &[u8] = b"Thing";

/// A dict of text keys.
pub(crate) fn dict<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.map(|(key, value)| (Value::from(key), value));
    Value::Dict(entries.into_iter().collect())
}

fn text(bytes: &Bytes) -> Value {
    Value::Text(String::from_utf8(bytes.to_vec()).unwrap())
}

fn names(value: &Value) -> Vec<Bytes> {
    let items = value.as_items().unwrap().iter();
    items
        .map(|item| Bytes::copy_from_slice(item.as_text().unwrap().as_bytes()))
        .collect()
}

/// What a client says first.
pub(crate) fn hello(wire: Wire, channel: Channel, identity: &[u8]) -> Vec<u8> {
    let count = identity.len() as u8;
    let mut hello = Vec::new();
    match wire {
        Wire::Tcp => {
            hello.extend([0, 0, 0, count]);
            hello.extend(identity);
            hello.push(b"CDT"[channel as usize]);
        }
        Wire::FourPorts if channel == Channel::Push => {
            hello = four::hello(PORTS[usize::from(wire.port(channel))], identity);
        }
        Wire::Zmtp | Wire::FourPorts => {
            hello.extend(b"\xff\0\0\0\0\0\0\0\x11\x7f\x03\x01NULL");
            hello.resize(64, 0);
            let mut ready = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0".to_vec();
            ready.push(count);
            ready.extend(identity);
            hello.extend([4, ready.len() as u8]);
            hello.extend(ready);
        }
    }
    hello
}

impl Client {
    /// A client that connects and logs in.
    pub(crate) fn new(
        stage: &mut Stage,
        number: u64,
        name: String,
        wire: Wire,
        is_admin: bool,
    ) -> Self {
        let identity: Bytes = [number.to_be_bytes(), [7; 8]].concat().into();
        let channels = wire.channels().iter();
        let links = channels.map(|channel| connect(stage, wire, *channel));
        let mut client = Self {
            name,
            is_admin,
            wire,
            identity,
            links: links.collect(),
            state: State::Auth,
            scene: BTreeMap::new(),
            users: BTreeMap::new(),
            outgoing: wire
                .channels()
                .iter()
                .map(|_| Outgoing::default())
                .collect(),
            half: Vec::new(),
            catalogue: Vec::new(),
            current: Bytes::new(),
            late: Vec::new(),
            removed: BTreeSet::new(),
            heard: stage.now,
        };
        for channel in wire.channels() {
            client.greet(*channel);
        }
        let login = match wire.generation() {
            Generation::A => {
                let password = ["pw", "adm"][usize::from(is_admin)];
                four::login(&client.name, Some(password), "0.1.26")
            }
            Generation::Later => dict([
                (
                    "AUTH_TYPE",
                    if is_admin { "ADMIN" } else { "CLIENT" }.into(),
                ),
                ("AUTH_ID", client.name.as_str().into()),
                ("S_PWD", "pw".into()),
                ("A_PWD", if is_admin { "adm".into() } else { Value::None }),
                ("VERSION", "0.9.11".into()),
            ]),
        };
        client.say(Kind::Auth, &login);
        client.send(Channel::Ttl, &[Bytes::from_static(b"INIT")]);
        client
    }

    fn greet(&mut self, channel: Channel) {
        let hello = hello(self.wire, channel, &self.identity);
        self.outgoing[channel as usize].begin(hello);
    }

    fn is_four(&self) -> bool {
        self.wire.generation() == Generation::A
    }

    /// One of its connections breaks and is made again.
    pub(crate) fn reconnect(&mut self, stage: &mut Stage, channel: usize) {
        let (place, channel) = (channel, self.wire.channels()[channel]);
        let new = connect(stage, self.wire, channel);
        let old = std::mem::replace(&mut self.links[place], new);
        self.greet(channel);
        stage.drop_link(old);
    }

    /// Puts a message on its way.
    pub(crate) fn send(&mut self, channel: Channel, parts: &[Bytes]) {
        if self.is_four() && channel == Channel::Data {
            let mut node: [Bytes; 5] = parts.to_vec().try_into().expect("whole nodes only");
            node[0] = Bytes::from_static(TYPE);
            let pushed = four::pushed(&self.identity, &node);
            self.outgoing[Channel::Push as usize].push(pushed);
            return;
        }
        let parts: Vec<Vec<Bytes>> = parts.iter().map(|part| vec![part.clone()]).collect();
        let message = frame(self.wire, &parts).concat();
        self.outgoing[channel as usize].push(message);
    }

    /// Whether all of its nodes and changes have arrived.
    pub(crate) fn has_sent_data(&self) -> bool {
        let channel = [Channel::Data, Channel::Push][usize::from(self.is_four())];
        self.outgoing[channel as usize].is_empty()
    }

    /// Puts a command on its way.
    pub(crate) fn say(&mut self, kind: Kind, said: &Value) {
        let parts = [
            Bytes::copy_from_slice(&kind.part()),
            Bytes::from(self.name.clone()),
            encode(said).into(),
        ];
        self.send(Channel::Command, &parts);
    }

    /// Up to so many of the bytes that it has sent arrive.
    pub(crate) fn flush(&mut self, stage: &mut Stage, channel: usize, count: usize) {
        let bytes = self.outgoing[channel].take(count);
        if !bytes.is_empty() {
            stage.input(self.links[channel], &bytes);
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.outgoing.iter().all(Outgoing::is_empty)
    }

    /// Whether the client still has its connections.
    pub(crate) fn is_connected(&self, stage: &Stage) -> bool {
        self.links
            .iter()
            .all(|link| stage.links.get(link).is_some_and(|link| !link.is_closed))
    }

    /// All that it has sent arrives.
    pub(crate) fn flush_all(&mut self, stage: &mut Stage) {
        for channel in 0..self.links.len() {
            self.flush(stage, channel, usize::MAX);
        }
    }

    /// Takes what has arrived. Data come first: whatever commands came after them may concern them.
    pub(crate) fn listen(&mut self, stage: &mut Stage) {
        self.listen_to_life(stage);
        self.listen_to_data(stage);
        self.listen_to_commands(stage);
    }

    /// Takes what has arrived with commands first, which have overtaken the data. Nothing makes good
    /// for an owner that was told of before the node came: data come before that.
    pub(crate) fn listen_overtaken(&mut self, stage: &mut Stage) {
        self.listen_to_life(stage);
        for parts in stage.received(self.links[Channel::Command as usize]) {
            let [kind, _, body] = self.numbered(&parts);
            if Kind::read(&kind) == Some(Kind::Right) {
                let said = value(&body);
                let uuid = said.as_dict().unwrap().of("uuid").unwrap();
                let uuid = Bytes::copy_from_slice(uuid.as_text().unwrap().as_bytes());
                if !self.scene.contains_key(&uuid) {
                    self.listen_to_data(stage);
                }
            }
            self.command(&parts);
        }
        self.listen_to_data(stage);
    }

    fn listen_to_life(&mut self, stage: &mut Stage) {
        for _ in stage.received(self.links[Channel::Ttl as usize]) {
            self.send(Channel::Ttl, &[Bytes::from_static(b"PONG")]);
            self.heard = stage.now;
        }
        if stage.now - self.heard > PATIENCE {
            self.state = State::Out("Server lost".to_owned());
        }
    }

    fn listen_to_data(&mut self, stage: &mut Stage) {
        for mut parts in stage.received(self.links[Channel::Data as usize]) {
            if self.is_four() {
                self.half.push(parts);
                if self.half.len() < 2 {
                    continue;
                }
                let node = four::pulled(&std::mem::take(&mut self.half));
                assert_eq!(node[0], TYPE);
                parts = node.to_vec();
                parts[0] = Bytes::copy_from_slice(&Kind::Node.part());
            }
            match self.state {
                State::Syncing if self.is_four() && parts[1] == self.current => {
                    self.apply(&parts, false);
                    self.fetch();
                }
                State::Syncing => self.late.push(parts),
                State::Active => self.apply(&parts, false),
                State::Auth | State::Lobby | State::Filling | State::Out(_) => {}
            }
        }
    }

    fn listen_to_commands(&mut self, stage: &mut Stage) {
        for parts in stage.received(self.links[Channel::Command as usize]) {
            self.command(&parts);
        }
    }

    /// A command with its number first.
    fn numbered(&self, parts: &[Bytes]) -> [Bytes; 3] {
        let [first, second, body] = parts else {
            panic!("{} parts", parts.len());
        };
        if !self.is_four() {
            return [first, second, body].map(Bytes::clone);
        }
        let kind = Kind::named(second).expect("a name");
        let kind = Bytes::copy_from_slice(&kind.part());
        [kind, first.clone(), body.clone()]
    }

    /// A node or a change.
    pub(crate) fn apply(&mut self, parts: &[Bytes], is_late: bool) {
        match Kind::read(&parts[0]) {
            Some(Kind::Node) => {
                let dependencies = names(&value(&parts[3]));
                let node = self.scene.entry(parts[1].clone()).or_insert(Node {
                    owner: parts[2].clone(),
                    dependencies: Vec::new(),
                    data: Bytes::new(),
                });
                node.dependencies = dependencies;
                node.data = parts[4].clone();
            }
            Some(Kind::Commit) => {
                let Some(node) = self.scene.get_mut(&parts[1]) else {
                    assert!(
                        is_late,
                        "{} {:?} gets a change of {:?}, removed {}",
                        self.name,
                        self.state,
                        parts[1],
                        self.removed.contains(&parts[1])
                    );
                    return;
                };
                node.dependencies = names(&value(&parts[2]));
                let folded = fold(&node.data, [&parts[3]], Limits::default()).unwrap();
                node.data = folded.into();
            }
            other => panic!("{other:?} on the data connection"),
        }
    }

    fn command(&mut self, parts: &[Bytes]) {
        let parts = self.numbered(parts);
        let kind = Kind::read(&parts[0]).expect("a known kind");
        let said = value(&parts[2]);
        let of = |key: &str| said.as_dict().and_then(|dict| dict.of(key));
        let state = || of("STATE").and_then(Value::as_text).unwrap();
        match kind {
            Kind::Auth => {
                assert_eq!(self.state, State::Auth);
                let answer = said.as_text().unwrap();
                self.state = match answer {
                    "LOBBY" | "RUNNING" => State::Lobby,
                    _ => State::Out(answer.to_owned()),
                };
                if answer == "RUNNING" {
                    self.say(Kind::Snapshot, &dict([("STATE", "REQUEST_INIT".into())]));
                }
            }
            Kind::UpdateClientsState => {
                let rows = said.as_dict().unwrap().iter();
                self.users = rows
                    .map(|(name, row)| {
                        let metadata = row.as_dict().unwrap().of("metadata").unwrap();
                        let metadata = metadata.as_dict().unwrap().clone();
                        (name.as_text().unwrap().to_owned(), metadata)
                    })
                    .collect();
            }
            Kind::UpdateUserMetadata => {
                assert!(!self.is_four(), "tables tell that");
                let name = str::from_utf8(&parts[1]).unwrap();
                let user = self.users.get_mut(name).expect("a user that a table named");
                for (key, value) in said.as_dict().unwrap() {
                    user.set(key.clone(), value.clone());
                }
            }
            Kind::Snapshot => self.snapshot(&said),
            Kind::ServerSnapshot => {
                assert_eq!(self.state, State::Filling);
                match state() {
                    "ACCEPTED" => self.fill(),
                    "DONE" => self.state = State::Active,
                    "REJECTED" => self.state = State::Lobby,
                    other => panic!("{other}"),
                }
            }
            Kind::Right => {
                let owner =
                    Bytes::copy_from_slice(of("owner").unwrap().as_text().unwrap().as_bytes());
                let uuids = of("uuid").unwrap();
                let uuids = match uuids.as_text() {
                    Some(uuid) => vec![Bytes::copy_from_slice(uuid.as_bytes())],
                    None => names(uuids),
                };
                for uuid in uuids {
                    self.owned(&uuid, &owner);
                }
            }
            Kind::Delete => {
                self.removed(&Bytes::copy_from_slice(said.as_text().unwrap().as_bytes()));
            }
            Kind::Disconnect => {
                self.state = State::Out(of("reason").unwrap().as_text().unwrap().to_owned());
            }
            Kind::RequestServerInfo => {}
            Kind::Node | Kind::Commit | Kind::Kick => panic!("{kind:?} on the command connection"),
        }
    }

    fn owned(&mut self, uuid: &Bytes, owner: &Bytes) {
        if let Some(node) = self.scene.get_mut(uuid) {
            node.owner = owner.clone();
        }
    }

    fn removed(&mut self, uuid: &Bytes) {
        self.scene.remove(uuid);
        for node in self.scene.values_mut() {
            node.dependencies.retain(|other| other != uuid);
        }
        self.removed.insert(uuid.clone());
    }

    /// Gives a node to somebody. Generation A does so at once, the later ones wait for the echo.
    pub(crate) fn own(&mut self, uuid: &Bytes, owner: &str) {
        let uuids = match self.wire.generation() {
            Generation::A => text(uuid),
            Generation::Later => Value::List(vec![text(uuid)]),
        };
        self.say(
            Kind::Right,
            &dict([("uuid", uuids), ("owner", owner.into())]),
        );
        if self.is_four() {
            self.owned(uuid, &Bytes::copy_from_slice(owner.as_bytes()));
        }
    }

    /// Removes a node, in the same manner.
    pub(crate) fn remove(&mut self, uuid: &Bytes) {
        self.say(Kind::Delete, &text(uuid));
        if self.is_four() {
            self.removed(uuid);
        }
    }

    /// Starts to give its scene.
    pub(crate) fn init(&mut self) {
        let uuids: Vec<Value> = self.scene.keys().map(text).collect();
        let size = uuids.len() as i64;
        let asked = dict([
            ("STATE", "INIT".into()),
            ("SIZE", size.into()),
            ("NODES", Value::List(uuids)),
        ]);
        self.say(Kind::ServerSnapshot, &asked);
        self.state = State::Filling;
    }

    fn fill(&mut self) {
        for (uuid, node) in self.scene.clone() {
            let mut parts = node_parts(&uuid, &node);
            let data = match self.wire.generation() {
                Generation::A => {
                    parts[0] = Bytes::from_static(TYPE);
                    let names = ["type", "uuid", "owner", "dependencies", "data"];
                    let names = names.map(Value::from).into_iter();
                    Value::Dict(names.zip(parts.map(Value::Bytes)).collect())
                }
                Generation::Later => Value::List(parts.map(Value::Bytes).into()),
            };
            let set = dict([("STATE", "SET".into()), ("DATA", data)]);
            self.say(Kind::ServerSnapshot, &set);
        }
        self.say(Kind::ServerSnapshot, &dict([("STATE", "END".into())]));
    }

    fn snapshot(&mut self, said: &Value) {
        if self.state == State::Filling && !self.is_four() {
            // Its library takes that for a fault, and forgets it. That of generation A dies of it.
            return;
        }
        assert!(
            matches!(self.state, State::Lobby | State::Syncing),
            "{} is {:?} and cannot take {said:?}",
            self.name,
            self.state
        );
        let said = said.as_dict().unwrap();
        match said.of("STATE").and_then(Value::as_text) {
            Some("INIT") => {
                self.catalogue = names(said.of("CATALOG").unwrap());
                assert!(!self.catalogue.is_empty(), "the client cannot take that");
                self.late.clear();
                if self.state == State::Lobby {
                    self.scene.clear();
                }
                self.state = State::Syncing;
                self.fetch();
            }
            Some("SET") => {
                assert!(!self.is_four(), "nodes come by the other connection");
                let data = said.of("DATA").unwrap();
                if let Some(parts) = data.as_items() {
                    let parts: Vec<Bytes> = parts
                        .iter()
                        .map(|part| part.as_bytes().unwrap().clone())
                        .collect();
                    assert_eq!(parts[1], self.current);
                    self.apply(&parts, false);
                }
                self.fetch();
            }
            other => panic!("{other:?}"),
        }
    }

    fn fetch(&mut self) {
        match self.catalogue.pop() {
            Some(uuid) => {
                let get = dict([("STATE", "GET".into()), ("ID", text(&uuid))]);
                self.current = uuid;
                self.say(Kind::Snapshot, &get);
            }
            None => {
                for parts in std::mem::take(&mut self.late) {
                    self.apply(&parts, true);
                }
                self.state = State::Active;
                self.say(Kind::Snapshot, &dict([("STATE", "DONE".into())]));
            }
        }
    }

    /// Whether it has seen that a node was removed.
    pub(crate) fn has_removed(&self, uuid: &Bytes) -> bool {
        self.removed.contains(uuid)
    }
}

fn connect(stage: &mut Stage, wire: Wire, channel: Channel) -> ConnId {
    stage.connect(PORTS[usize::from(wire.port(channel))], wire)
}

/// A whole node as a message.
pub(crate) fn node_parts(uuid: &Bytes, node: &Node) -> [Bytes; 5] {
    let dependencies = node.dependencies.iter().map(text).collect();
    [
        Bytes::copy_from_slice(&Kind::Node.part()),
        uuid.clone(),
        node.owner.clone(),
        encode(&Value::List(dependencies)).into(),
        node.data.clone(),
    ]
}

/// A change as a message.
pub(crate) fn commit_parts(uuid: &Bytes, node: &Node, delta: &Value) -> [Bytes; 4] {
    let dependencies = node.dependencies.iter().map(text).collect();
    [
        Bytes::copy_from_slice(&Kind::Commit.part()),
        uuid.clone(),
        encode(&Value::List(dependencies)).into(),
        encode(delta).into(),
    ]
}
