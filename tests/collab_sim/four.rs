//! A client of generation A, as much of it as tests of the server's answers need.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::ids::ConnId;
use ringside::collab::{Options, Statistics};
use ringside::config::Secret;
use ringside::proto::pickle::{Value, encode};
use ringside::proto::replication::{Kind, Port, Wire, frame};

use super::client::dict;
use super::stage::Stage;
use super::{CUBE, LAMP, options, value};

/// Commands, nodes to it, nodes from it, signs of life.
pub(crate) const PORTS: [Port; 4] = [Port::First, Port::Second, Port::Third, Port::Fourth];

/// One client.
pub(crate) struct Four {
    pub(crate) name: &'static str,
    pub(crate) links: [ConnId; 4],
}

/// A node: type, uuid, owner, dependencies, data.
pub(crate) fn node(uuid: &str, owner: &str, data: &Value) -> [Bytes; 5] {
    [
        Bytes::from_static(b"Thing"),
        Bytes::copy_from_slice(uuid.as_bytes()),
        Bytes::copy_from_slice(owner.as_bytes()),
        encode(&Value::List(Vec::new())).into(),
        encode(data).into(),
    ]
}

/// What a socket of these clients says first; only some types say an identity.
pub(crate) fn hello(port: Port, identity: &[u8]) -> Vec<u8> {
    let mut hello = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL".to_vec();
    hello.resize(64, 0);
    let mut ready = b"\x05READY\x0bSocket-Type\0\0\0".to_vec();
    if port == Port::Third {
        ready.extend(b"\x04PUSH");
    } else {
        ready.extend(b"\x06DEALER\x08Identity\0\0\0");
        ready.push(identity.len() as u8);
        ready.extend(identity);
    }
    hello.extend([4, ready.len() as u8]);
    hello.extend(ready);
    hello
}

/// A message's bytes.
pub(crate) fn wire(parts: &[Bytes]) -> Vec<u8> {
    let parts: Vec<Vec<Bytes>> = parts.iter().map(|part| vec![part.clone()]).collect();
    frame(Wire::Zmtp, &parts).concat()
}

/// The two messages of a node.
pub(crate) fn pushed(identity: impl AsRef<[u8]>, node: &[Bytes; 5]) -> Vec<u8> {
    let [kind, uuid, owner, dependencies, data] = node.clone();
    let sender = Bytes::copy_from_slice(identity.as_ref());
    let count = Bytes::from_static(b"\x80\x04K\x01.");
    let head = [sender, uuid, owner, kind, count, dependencies];
    [wire(&head), wire(&[data])].concat()
}

/// The node that two messages of the server are.
#[track_caller]
pub(crate) fn pulled(pair: &[Vec<Bytes>]) -> [Bytes; 5] {
    let [head, data] = pair else {
        panic!("half a node");
    };
    let [sender, uuid, owner, kind, count, dependencies] = head.as_slice() else {
        panic!("{} parts", head.len());
    };
    assert_eq!(
        (sender, count),
        (
            &"SERVER_PUSH".into(),
            &Bytes::from_static(b"\x80\x04K\x01.")
        )
    );
    let [data] = data.as_slice() else {
        panic!("{} parts", data.len());
    };
    [kind, uuid, owner, dependencies, data].map(Bytes::clone)
}

/// A login.
pub(crate) fn login(name: &str, password: Option<&str>, version: &str) -> Value {
    let kind = ["CLIENT", "ADMIN"][usize::from(password.is_some())];
    dict([
        ("AUTH_TYPE", kind.into()),
        ("AUTH_ID", name.into()),
        ("PWD", password.map_or(Value::None, Value::from)),
        ("VERSION", version.into()),
    ])
}

impl Four {
    /// A client that connects. Its name is its identity.
    pub(crate) fn new(stage: &mut Stage, name: &'static str) -> Self {
        let links = PORTS.map(|port| stage.connect(port, Wire::FourPorts));
        for (link, port) in links.into_iter().zip(PORTS) {
            stage.input(link, &hello(port, name.as_bytes()));
        }
        Self { name, links }
    }

    /// The same, and what its login is answered.
    pub(crate) fn come(
        stage: &mut Stage,
        name: &'static str,
        password: Option<&str>,
    ) -> (Self, String) {
        let client = Self::new(stage, name);
        client.say(stage, Kind::Auth, &login(name, password, "0.1.26"));
        let said = client.heard(stage);
        let answer = said.iter().find(|(kind, _)| *kind == Kind::Auth);
        let answer = answer.expect("an answer").1.as_text().unwrap().to_owned();
        (client, answer)
    }

    pub(crate) fn say(&self, stage: &mut Stage, kind: Kind, said: &Value) {
        self.say_raw(stage, kind, encode(said).into());
    }

    pub(crate) fn say_raw(&self, stage: &mut Stage, kind: Kind, said: Bytes) {
        let owner = Bytes::from_static(self.name.as_bytes());
        let name = Bytes::from_static(kind.name().unwrap().as_bytes());
        stage.input(self.links[0], &wire(&[owner, name, said]));
    }

    pub(crate) fn push(&self, stage: &mut Stage, node: &[Bytes; 5]) {
        stage.input(self.links[2], &pushed(self.name, node));
    }

    /// Offers a scene, and gives it when that is accepted.
    pub(crate) fn give(&self, stage: &mut Stage, nodes: &[[Bytes; 5]]) {
        self.offer(stage, nodes);
        stage.advance(stage.now + Duration::from_millis(300));
        assert_eq!(self.states(stage, Kind::ServerSnapshot), ["ACCEPTED"]);
        for node in nodes {
            self.set(stage, node);
        }
        let end = dict([("STATE", "END".into())]);
        self.say(stage, Kind::ServerSnapshot, &end);
        assert_eq!(self.states(stage, Kind::ServerSnapshot), ["DONE"]);
    }

    pub(crate) fn offer(&self, stage: &mut Stage, nodes: &[[Bytes; 5]]) {
        let uuid = |node: &[Bytes; 5]| str::from_utf8(&node[1]).unwrap().into();
        let init = dict([
            ("STATE", "INIT".into()),
            ("SIZE", (nodes.len() as i64).into()),
            ("NODES", Value::List(nodes.iter().map(uuid).collect())),
        ]);
        self.say(stage, Kind::ServerSnapshot, &init);
    }

    pub(crate) fn set(&self, stage: &mut Stage, node: &[Bytes; 5]) {
        let names = ["type", "uuid", "owner", "dependencies", "data"];
        let of = |n: usize| (names[n], Value::Bytes(node[n].clone()));
        let set = dict([
            ("STATE", "SET".into()),
            ("DATA", dict([of(0), of(1), of(2), of(3), of(4)])),
        ]);
        self.say(stage, Kind::ServerSnapshot, &set);
    }

    /// The commands that it has received, but for the tables of users.
    pub(crate) fn heard(&self, stage: &mut Stage) -> Vec<(Kind, Value)> {
        let commands = stage.received(self.links[0]).into_iter();
        let commands = commands.map(|parts| {
            let kind = Kind::named(&parts[1]).expect("a name");
            (kind, value(&parts[2]))
        });
        commands
            .filter(|(kind, _)| *kind != Kind::UpdateClientsState)
            .collect()
    }

    /// The states of those of a kind.
    pub(crate) fn states(&self, stage: &mut Stage, kind: Kind) -> Vec<String> {
        let heard = self.heard(stage).into_iter();
        let of_kind = heard.filter(|(other, _)| *other == kind);
        let state = |said: &Value| said.as_dict()?.of("STATE")?.as_text().map(str::to_owned);
        of_kind.map(|(_, said)| state(&said).unwrap()).collect()
    }

    /// The nodes that it has received: type, uuid, owner, dependencies, data.
    pub(crate) fn nodes(&self, stage: &mut Stage) -> Vec<[Bytes; 5]> {
        let messages = stage.received(self.links[1]);
        messages.chunks(2).map(pulled).collect()
    }

    /// Asks for one node.
    pub(crate) fn get(&self, stage: &mut Stage, uuid: &str) {
        let get = dict([("STATE", "GET".into()), ("ID", uuid.into())]);
        self.say(stage, Kind::Snapshot, &get);
    }

    /// Fetches what it is offered: the nodes.
    pub(crate) fn fetch(&self, stage: &mut Stage) -> Vec<[Bytes; 5]> {
        let mut nodes = Vec::new();
        for uuid in self.catalogue(stage).iter().rev() {
            self.get(stage, uuid);
            let given = self.nodes(stage);
            assert_eq!(given.len(), 1);
            nodes.extend(given);
        }
        self.say(stage, Kind::Snapshot, &dict([("STATE", "DONE".into())]));
        nodes
    }

    /// The catalogue that it has received.
    pub(crate) fn catalogue(&self, stage: &mut Stage) -> Vec<String> {
        let heard = self.heard(stage);
        let offers = heard.iter().filter(|(kind, _)| *kind == Kind::Snapshot);
        let catalogues: Vec<&Value> = offers
            .filter_map(|(_, said)| said.as_dict()?.of("CATALOG"))
            .collect();
        let [catalogue] = catalogues.as_slice() else {
            panic!("{} catalogues", catalogues.len());
        };
        let names = catalogue.as_items().unwrap().iter();
        names
            .map(|name| name.as_text().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn ask(&self, stage: &mut Stage) {
        let ask = dict([("STATE", "REQUEST_INIT".into())]);
        self.say(stage, Kind::Snapshot, &ask);
    }
}

/// A session without a password for users, that takes the version of whoever comes first.
pub(crate) fn public() -> Options {
    Options {
        server_password: Secret::new(""),
        versions: Vec::new(),
        ..options()
    }
}

pub(crate) fn thing(n: i64) -> Value {
    dict([("n", n.into())])
}

pub(crate) fn plain(uuid: &str, n: i64) -> [Bytes; 5] {
    node(uuid, "COMMON", &thing(n))
}

pub(crate) fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

pub(crate) fn done() -> Value {
    dict([("STATE", "DONE".into())])
}

pub(crate) fn right(uuid: &str, owner: &str) -> Value {
    dict([("uuid", uuid.into()), ("owner", owner.into())])
}

/// alice, an administrator, has given a cube and a lamp; bob has them.
pub(crate) fn laid() -> (Stage, Four, Four) {
    let mut stage = Stage::new(Instant::now(), public());
    let (alice, answer) = Four::come(&mut stage, "alice", Some("adm"));
    assert_eq!(answer, "LOBBY");
    let (bob, answer) = Four::come(&mut stage, "bob", None);
    assert_eq!(answer, "LOBBY");
    alice.give(&mut stage, &[plain(CUBE, 1), plain(LAMP, 2)]);
    assert_eq!(bob.fetch(&mut stage), [plain(LAMP, 2), plain(CUBE, 1)]);
    stage.advance(stage.now + Duration::from_secs(5));
    for client in [&alice, &bob] {
        client.heard(&mut stage);
        client.nodes(&mut stage);
    }
    (stage, alice, bob)
}

pub(crate) fn statistics(stage: &Stage) -> Statistics {
    stage.session.statistics()
}
