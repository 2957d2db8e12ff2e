//! A small client of collaborative sessions: generation C, as much of it as the tests need.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::proto::deepdiff::fold;
use ringside::proto::pickle::{Dict, Limits, Value, decode, encode};
use ringside::proto::replication::Kind;

use super::{is_nothing, wait_for};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// A connection with what has come and is not a whole message yet.
#[derive(Debug)]
pub struct Channel {
    stream: TcpStream,
    input: Vec<u8>,
}

/// A client that has logged in.
#[derive(Debug)]
pub struct Client {
    pub name: String,
    pub command: Channel,
    pub data: Channel,
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
    #[track_caller]
    fn open(port: u16, identity: &[u8; 16], role: u8) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the session listens");
        stream.set_nodelay(true).expect("a socket option");
        let mut hello = vec![0, 0, 0, 16];
        hello.extend_from_slice(identity);
        hello.push(role);
        stream.write_all(&hello).expect("it is open");
        Self {
            stream,
            input: Vec::new(),
        }
    }

    pub fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let mut message = (parts.len() as u32).to_be_bytes().to_vec();
        for part in parts {
            message.extend_from_slice(&(part.len() as u32).to_be_bytes());
            message.extend_from_slice(part);
        }
        self.stream.write_all(&message)
    }

    /// The next message, if one comes in time; an error where the connection has ended.
    pub fn receive(&mut self, limit: Duration) -> io::Result<Option<Vec<Bytes>>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut piece = vec![0; 1 << 16];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.extend_from_slice(&piece[..count]),
                Err(error) if is_nothing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self) -> Option<Vec<Bytes>> {
        let number = |input: &[u8], at: usize| {
            let bytes = input.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().expect("four bytes")) as usize)
        };
        let count = number(&self.input, 0)?;
        let mut at = 4;
        let mut parts = Vec::new();
        for _ in 0..count {
            let length = number(&self.input, at)?;
            let bytes = self.input.get(at + 4..at + 4 + length)?;
            parts.push(Bytes::copy_from_slice(bytes));
            at += 4 + length;
        }
        self.input.drain(..at);
        Some(parts)
    }
}

impl Client {
    /// Logs in as an administrator. What the server has answered.
    #[track_caller]
    pub fn log_in(port: u16, name: &str) -> (Self, String) {
        let mut identity = [0; 16];
        ringside::io::fill_random(&mut identity).expect("the kernel gives random bytes");
        let mut client = Self {
            name: name.to_owned(),
            command: Channel::open(port, &identity, b'C'),
            data: Channel::open(port, &identity, b'D'),
        };
        let asked = dict([
            ("AUTH_TYPE", "ADMIN".into()),
            ("AUTH_ID", name.into()),
            ("S_PWD", "".into()),
            ("A_PWD", "adm".into()),
            ("VERSION", "0.10.2".into()),
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
            let parts = Value::List(node.iter().cloned().map(Value::Bytes).collect());
            self.command(
                Kind::ServerSnapshot,
                &dict([("STATE", "SET".into()), ("DATA", parts)]),
            );
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
            let set = self.until(Kind::Snapshot, |value| is_state(value, "SET"));
            let data = set.as_dict().and_then(|set| set.of("DATA"));
            if let Some([_, uuid, _, _, data]) = data.and_then(Value::as_items) {
                let uuid = uuid.as_bytes().expect("bytes");
                let data = data.as_bytes().expect("bytes").clone();
                bases.insert(String::from_utf8_lossy(uuid).into_owned(), data);
            }
        }
        self.command(Kind::Snapshot, &dict([("STATE", "DONE".into())]));
        // What has changed since came before each node.
        while let Some(message) = self
            .data
            .receive(Duration::from_millis(300))
            .expect("it is open")
        {
            if let [_, uuid, _, delta] = message.as_slice() {
                let uuid = String::from_utf8_lossy(uuid).into_owned();
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
