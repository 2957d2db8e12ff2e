//! A small client of collaborative sessions, of all generations: as much of it as the tests need.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::proto::deepdiff::fold;
use ringside::proto::pickle::{Dict, Limits, Value, decode, encode};
use ringside::proto::replication::{
    self, ClientConnection, Event, Generation, Kind, Wire, frame, frame_pushed,
};

use super::{is_nothing, wait_for};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What nodes are in generation A.
const TYPE: &[u8] = b"Object";

/// A connection, and messages that have come by it.
#[derive(Debug)]
pub struct Channel {
    stream: TcpStream,
    wire: Wire,
    connection: ClientConnection,
    is_open: bool,
    messages: VecDeque<Vec<Bytes>>,
}

/// A client that has logged in.
#[derive(Debug)]
pub struct Client {
    pub name: String,
    pub command: Channel,
    pub data: Channel,
    /// What generation A sends nodes by, and as whom.
    push: Option<(Channel, String)>,
}

/// A dict of text keys.
pub fn dict<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.map(|(key, value)| (Value::from(key), value));
    Value::Dict(entries.into_iter().collect::<Dict>())
}

pub fn pickled(value: &Value) -> Bytes {
    encode(value).into()
}

pub fn part(kind: Kind) -> Bytes {
    Bytes::copy_from_slice(&kind.part())
}

/// A node's parts, with `n` and some bytes that do not shrink.
pub fn node(uuid: &str, n: i64, bytes: usize) -> Vec<Bytes> {
    let mut state = n as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(bytes)
    .collect();
    vec![
        part(Kind::Node),
        Bytes::copy_from_slice(uuid.as_bytes()),
        Bytes::from_static(b"COMMON"),
        pickled(&Value::List(Vec::new())),
        pickled(&dict([
            ("type_id", "Object".into()),
            ("n", n.into()),
            ("noise", Value::Bytes(noise.into())),
        ])),
    ]
}

/// The change of a node's `n`.
pub fn change(uuid: &str, n: i64) -> Vec<Bytes> {
    let values = dict([("root['n']", dict([("new_value", n.into())]))]);
    vec![
        part(Kind::Commit),
        Bytes::copy_from_slice(uuid.as_bytes()),
        pickled(&Value::List(Vec::new())),
        pickled(&dict([("values_changed", values)])),
    ]
}

impl Channel {
    /// A connection to a session whose first port this is.
    #[track_caller]
    fn open(port: u16, wire: Wire, channel: replication::Channel, identity: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port + wire.port(channel)));
        let stream = stream.expect("the session listens");
        stream.set_nodelay(true).expect("a socket option");
        let mut channel = Self {
            stream,
            wire,
            connection: ClientConnection::new(wire, channel, identity),
            is_open: false,
            messages: VecDeque::new(),
        };
        channel.exchange(&[]).expect("it is open");
        wait_for("the handshake", ANSWER_MAX, || {
            if !channel.is_open {
                channel.read(ANSWER_MAX).expect("it is open");
            }
            channel.is_open.then_some(())
        });
        channel
    }

    pub fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let parts: Vec<_> = parts.iter().map(|part| vec![part.clone()]).collect();
        for piece in frame(self.wire, &parts) {
            self.stream.write_all(&piece)?;
        }
        Ok(())
    }

    /// Sends a node as generation A does, with a type in place of the number.
    fn send_pushed(&mut self, identity: &str, parts: &[Bytes]) -> io::Result<()> {
        let parts: Vec<_> = parts.iter().map(|part| vec![part.clone()]).collect();
        let mut node: [_; 5] = parts.try_into().expect("a node has five parts");
        node[0] = vec![Bytes::from_static(TYPE)];
        for piece in frame_pushed(identity, &node) {
            self.stream.write_all(&piece)?;
        }
        Ok(())
    }

    /// The next message, if one comes in time; an error where the connection has ended.
    pub fn receive(&mut self, limit: Duration) -> io::Result<Option<Vec<Bytes>>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(Some(message));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.read(left)?;
        }
    }

    /// Reads what has come, once. How many bytes that is; 0 where nothing comes in time.
    pub fn read(&mut self, limit: Duration) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(limit))?;
        let mut piece = vec![0; 1 << 16];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.exchange(&piece[..count]).map(|()| count),
            Err(error) if is_nothing(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Takes bytes that have come, and sends what the connection says to them.
    fn exchange(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.handle_input(bytes);
        while let Some(bytes) = self.connection.poll_transmit() {
            self.stream.write_all(&bytes)?;
        }
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Opened { .. } => self.is_open = true,
                Event::Message(parts) => self.messages.push_back(parts),
                Event::Failed(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(())
    }
}

impl Client {
    /// Logs in as an administrator of generation C. What the server has answered.
    #[track_caller]
    pub fn log_in(port: u16, name: &str) -> (Self, String) {
        Self::log_in_by(Wire::Tcp, port, name)
    }

    /// The same, of any generation.
    #[track_caller]
    pub fn log_in_by(wire: Wire, port: u16, name: &str) -> (Self, String) {
        let mut random = [0; 8];
        ringside::io::fill_random(&mut random).expect("the kernel gives random bytes");
        let identity = format!("{:016x}", u64::from_ne_bytes(random));
        let open = |channel| Channel::open(port, wire, channel, &identity);
        let mut client = Self {
            name: name.to_owned(),
            command: open(replication::Channel::Command),
            data: open(replication::Channel::Data),
            push: match wire {
                Wire::FourPorts => Some((open(replication::Channel::Push), identity.clone())),
                Wire::Zmtp | Wire::Tcp => None,
            },
        };
        let version = match wire {
            Wire::FourPorts => "0.1.26",
            Wire::Zmtp => "0.9.11",
            Wire::Tcp => "0.10.2",
        };
        // Each generation looks at its own.
        let asked = dict([
            ("AUTH_TYPE", "ADMIN".into()),
            ("AUTH_ID", name.into()),
            ("PWD", "adm".into()),
            ("S_PWD", "".into()),
            ("A_PWD", "adm".into()),
            ("VERSION", version.into()),
        ]);
        client.command(Kind::Auth, &asked);
        let answer = client.until(Kind::Auth, |_| true);
        let answer = answer.as_text().expect("a text").to_owned();
        (client, answer)
    }

    #[track_caller]
    pub fn command(&mut self, kind: Kind, value: &Value) {
        let name = Bytes::copy_from_slice(self.name.as_bytes());
        self.command
            .send(&[part(kind), name, pickled(value)])
            .expect("the connection is open");
    }

    /// Sends a node, or a change to whoever knows changes.
    pub fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        match &mut self.push {
            Some((push, identity)) => push.send_pushed(identity, parts),
            None => self.data.send(parts),
        }
    }

    fn generation(&self) -> Generation {
        self.command.wire.generation()
    }

    /// The next command of a kind of which something holds.
    #[track_caller]
    pub fn until(&mut self, kind: Kind, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("{kind:?}"), ANSWER_MAX, || {
            let parts = self.command.receive(ANSWER_MAX).expect("it is open")?;
            let value = decode(&parts[2], Limits::default()).expect("a pickle");
            (Kind::read(&parts[0]) == Some(kind) && holds(&value)).then_some(value)
        })
    }

    /// Brings a scene.
    #[track_caller]
    pub fn initialise(&mut self, nodes: &[Vec<Bytes>]) {
        let uuid = |node: &Vec<Bytes>| Value::Text(String::from_utf8_lossy(&node[1]).into_owned());
        let uuids = Value::List(nodes.iter().map(uuid).collect());
        self.command(
            Kind::ServerSnapshot,
            &dict([("STATE", "INIT".into()), ("NODES", uuids)]),
        );
        self.until(Kind::ServerSnapshot, |value| is_state(value, "ACCEPTED"));
        for node in nodes {
            let parts = node.iter().cloned().map(Value::Bytes);
            let data = match self.generation() {
                Generation::A => {
                    let names = ["type", "uuid", "owner", "dependencies", "data"];
                    let mut data: Dict = names.map(Value::from).into_iter().zip(parts).collect();
                    data.set("type", Value::Bytes(Bytes::from_static(TYPE)));
                    Value::Dict(data)
                }
                Generation::Later => Value::List(parts.collect()),
            };
            let set = dict([("STATE", "SET".into()), ("DATA", data)]);
            self.command(Kind::ServerSnapshot, &set);
        }
        self.until(Kind::ServerSnapshot, |value| is_state(value, "DONE"));
    }

    /// Fetches the scene: each node's data, with what has changed since.
    #[track_caller]
    pub fn fetch(&mut self) -> BTreeMap<String, Value> {
        self.command(Kind::Snapshot, &dict([("STATE", "REQUEST_INIT".into())]));
        self.fetch_offered()
    }

    /// The same, where the server offers it by itself.
    #[track_caller]
    pub fn fetch_offered(&mut self) -> BTreeMap<String, Value> {
        let offer = self.until(Kind::Snapshot, |value| is_state(value, "INIT"));
        let catalogue = offer.as_dict().and_then(|offer| offer.of("CATALOG"));
        let uuids = catalogue.and_then(Value::as_items).expect("a catalogue");
        let mut bases: BTreeMap<String, Bytes> = BTreeMap::new();
        for uuid in uuids.iter().rev() {
            let get = dict([("STATE", "GET".into()), ("ID", uuid.clone())]);
            self.command(Kind::Snapshot, &get);
            if self.generation() == Generation::A {
                let node = self.data.receive(ANSWER_MAX).expect("it is open");
                let node = node.expect("the node that was asked for");
                assert_eq!(uuid.as_text().map(str::as_bytes), Some(&node[1][..]));
                let uuid = String::from_utf8_lossy(&node[1]).into_owned();
                bases.insert(uuid, node[4].clone());
                continue;
            }
            let set = self.until(Kind::Snapshot, |value| is_state(value, "SET"));
            let data = set.as_dict().and_then(|set| set.of("DATA"));
            if let Some([_, uuid, _, _, data]) = data.and_then(Value::as_items) {
                let uuid = uuid.as_bytes().expect("bytes");
                let data = data.as_bytes().expect("bytes").clone();
                bases.insert(String::from_utf8_lossy(uuid).into_owned(), data);
            }
        }
        self.command(Kind::Snapshot, &dict([("STATE", "DONE".into())]));
        // What has changed since came before each node, but in generation A it comes now.
        while let Some(message) = self
            .data
            .receive(Duration::from_millis(300))
            .expect("it is open")
        {
            let uuid = String::from_utf8_lossy(&message[1]).into_owned();
            if let [_, _, _, _, data] = message.as_slice() {
                bases.insert(uuid, data.clone());
            } else if let [_, _, _, delta] = message.as_slice() {
                let base = bases.get_mut(&uuid).expect("a node of the catalogue");
                *base = fold(base, [delta], Limits::default())
                    .expect("a change that can be folded")
                    .into();
            }
        }
        bases
            .into_iter()
            .map(|(uuid, data)| (uuid, decode(&data, Limits::default()).expect("a pickle")))
            .collect()
    }
}

fn is_state(value: &Value, state: &str) -> bool {
    let of = value.as_dict().and_then(|dict| dict.of("STATE"));
    of.and_then(Value::as_text) == Some(state)
}

/// The number of a node's data.
pub fn n(data: &Value) -> i64 {
    let n = data.as_dict().and_then(|data| data.of("n"));
    n.and_then(Value::as_int).expect("a number")
}
