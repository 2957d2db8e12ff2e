//! A client as the original behaves: what it does with each message, and what it cannot deal with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::ids::ConnId;
use ringside::proto::deepdiff::fold;
use ringside::proto::pickle::{Dict, Limits, Value, encode};
use ringside::proto::replication::{Channel, Kind, Port, Wire, frame};

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
    pub(crate) links: [ConnId; 3],
    pub(crate) state: State,
    pub(crate) scene: BTreeMap<Bytes, Node>,
    /// What it knows of each user.
    pub(crate) users: BTreeMap<String, Dict>,
    /// What it has sent and has not arrived, by channel.
    pub(crate) outgoing: [VecDeque<u8>; 3],
    catalogue: Vec<Bytes>,
    current: Bytes,
    late: Vec<Vec<Bytes>>,
    removed: BTreeSet<Bytes>,
    /// When it last had a sign of life.
    heard: Instant,
}

/// How long a client waits for a sign of life: its timeout, and a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6);

const PORTS: [Port; 3] = [Port::First, Port::Second, Port::Third];

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
        let links = [0, 1, 2].map(|channel| match wire {
            Wire::Zmtp | Wire::FourPorts => stage.connect(PORTS[channel], wire),
            Wire::Tcp => stage.connect(Port::First, wire),
        });
        let mut client = Self {
            name,
            is_admin,
            wire,
            identity,
            links,
            state: State::Auth,
            scene: BTreeMap::new(),
            users: BTreeMap::new(),
            outgoing: [(); 3].map(|()| VecDeque::new()),
            catalogue: Vec::new(),
            current: Bytes::new(),
            late: Vec::new(),
            removed: BTreeSet::new(),
            heard: stage.now,
        };
        for channel in [Channel::Command, Channel::Data, Channel::Ttl] {
            client.greet(channel);
        }
        let login = dict([
            (
                "AUTH_TYPE",
                if is_admin { "ADMIN" } else { "CLIENT" }.into(),
            ),
            ("AUTH_ID", client.name.as_str().into()),
            ("S_PWD", "pw".into()),
            ("A_PWD", if is_admin { "adm".into() } else { Value::None }),
            ("VERSION", "0.9.11".into()),
        ]);
        client.say(Kind::Auth, &login);
        client.send(Channel::Ttl, &[Bytes::from_static(b"INIT")]);
        client
    }

    fn greet(&mut self, channel: Channel) {
        self.outgoing[channel as usize].extend(hello(self.wire, channel, &self.identity));
    }

    /// One of its connections breaks and is made again.
    pub(crate) fn reconnect(&mut self, stage: &mut Stage, channel: usize) {
        let port = match self.wire {
            Wire::Zmtp | Wire::FourPorts => PORTS[channel],
            Wire::Tcp => Port::First,
        };
        let old = std::mem::replace(&mut self.links[channel], stage.connect(port, self.wire));
        self.greet([Channel::Command, Channel::Data, Channel::Ttl][channel]);
        stage.drop_link(old);
    }

    /// Puts a message on its way.
    pub(crate) fn send(&mut self, channel: Channel, parts: &[Bytes]) {
        let parts: Vec<Vec<Bytes>> = parts.iter().map(|part| vec![part.clone()]).collect();
        for piece in frame(self.wire, &parts) {
            self.outgoing[channel as usize].extend(piece);
        }
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
        let outgoing = &mut self.outgoing[channel];
        let bytes: Vec<u8> = outgoing.drain(..count.min(outgoing.len())).collect();
        if !bytes.is_empty() {
            stage.input(self.links[channel], &bytes);
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.outgoing.iter().all(VecDeque::is_empty)
    }

    /// Whether the client still has its connections.
    pub(crate) fn is_connected(&self, stage: &Stage) -> bool {
        self.links
            .iter()
            .all(|link| stage.links.get(link).is_some_and(|link| !link.is_closed))
    }

    /// Takes what has arrived. Data come first: whatever commands came after them may concern them.
    pub(crate) fn listen(&mut self, stage: &mut Stage) {
        for _ in stage.received(self.links[Channel::Ttl as usize]) {
            self.send(Channel::Ttl, &[Bytes::from_static(b"PONG")]);
            self.heard = stage.now;
        }
        if stage.now - self.heard > PATIENCE {
            self.state = State::Out("Server lost".to_owned());
        }
        for parts in stage.received(self.links[Channel::Data as usize]) {
            match self.state {
                State::Syncing => self.late.push(parts),
                State::Active => self.apply(&parts, false),
                State::Auth | State::Lobby | State::Filling | State::Out(_) => {}
            }
        }
        for parts in stage.received(self.links[Channel::Command as usize]) {
            self.command(&parts);
        }
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
                for uuid in names(of("uuid").unwrap()) {
                    if let Some(node) = self.scene.get_mut(&uuid) {
                        node.owner = owner.clone();
                    }
                }
            }
            Kind::Delete => {
                let uuid = Bytes::copy_from_slice(said.as_text().unwrap().as_bytes());
                self.scene.remove(&uuid);
                for node in self.scene.values_mut() {
                    node.dependencies.retain(|other| *other != uuid);
                }
                self.removed.insert(uuid);
            }
            Kind::Disconnect => {
                self.state = State::Out(of("reason").unwrap().as_text().unwrap().to_owned());
            }
            Kind::RequestServerInfo => {}
            Kind::Node | Kind::Commit | Kind::Kick => panic!("{kind:?} on the command connection"),
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
            let parts = node_parts(&uuid, &node).map(Value::Bytes);
            let set = dict([("STATE", "SET".into()), ("DATA", Value::List(parts.into()))]);
            self.say(Kind::ServerSnapshot, &set);
        }
        self.say(Kind::ServerSnapshot, &dict([("STATE", "END".into())]));
    }

    fn snapshot(&mut self, said: &Value) {
        if self.state == State::Filling {
            // Its library takes that for a fault, and forgets it.
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
                self.scene.clear();
                self.state = State::Syncing;
                self.fetch();
            }
            Some("SET") => {
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
