//! Messages of all kinds to a session with a scene, from an administrator, a user, somebody who is
//! about to fetch the scene and a stranger. Whatever comes of it for others holds nothing that could
//! run, and the session stays consistent.
//!
//! Each message is: who (2 bits) and channel (the third bit), count of parts, then each part behind
//! two bytes with its length. The first one's highest bit says that the clients are of generation A,
//! whose nodes have a channel of their own.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::ids::ConnId;
use ringside::collab::{Keeping, Mode, Options, Order, Scene, Session};
use ringside::config::Secret;
use ringside::proto::pickle::{Dict, Rules, Scanner, Value, encode};
use ringside::proto::replication::{Channel, Kind, Wire};

const CUBE: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const NAMES: [&str; 4] = ["alice", "bob", "carol", "stranger"];

pub(crate) fn run(data: &[u8]) {
    let is_four = data.first().is_some_and(|first| first & 0x80 != 0);
    let wire = if is_four { Wire::FourPorts } else { Wire::Tcp };
    let mut world = World::new(wire);
    let mut rest = data;
    while let Some((head, after)) = rest.split_first_chunk::<2>() {
        rest = after;
        let mut parts = Vec::new();
        for _ in 0..head[1] & 15 {
            let Some((count, after)) = rest.split_first_chunk::<2>() else {
                break;
            };
            let (part, after) =
                after.split_at(usize::from(u16::from_be_bytes(*count)).min(after.len()));
            parts.push(Bytes::copy_from_slice(part));
            rest = after;
        }
        world.say(
            usize::from(head[0] & 3),
            match (head[0] >> 2 & 1, wire) {
                (0, _) => Channel::Command as usize,
                (_, Wire::FourPorts) => Channel::Push as usize,
                (_, Wire::Zmtp | Wire::Tcp) => Channel::Data as usize,
            },
            parts,
        );
    }
    world.end();
}

struct World {
    wire: Wire,
    session: Session,
    kept: Scene,
    scanner: Scanner,
    now: Instant,
}

fn dict<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.map(|(key, value)| (Value::from(key), value));
    Value::Dict(entries.into_iter().collect::<Dict>())
}

fn conn(who: usize, channel: usize) -> ConnId {
    ConnId((who * Channel::COUNT + channel) as u64)
}

impl World {
    fn new(wire: Wire) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "there is no driver to take the time from"
        )]
        let now = Instant::now();
        let options = Options {
            port: 5555,
            admin_password: Secret::new("adm"),
            server_password: Secret::new(""),
            versions: Vec::new(),
            timeout: Duration::from_secs(5),
            stall: Duration::from_secs(60),
        };
        let mut world = Self {
            wire,
            session: Session::new(now, options, None, Keeping::new(Mode::File)),
            kept: Scene::default(),
            scanner: Scanner::default(),
            now,
        };
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for (who, name) in NAMES.iter().enumerate() {
            for channel in [Channel::Command, Channel::Data, Channel::Ttl] {
                let identity = Bytes::from_static(name.as_bytes());
                let (peer, number) = ((wire, channel, identity), channel as usize);
                assert!(world.session.opened(now, conn(who, number), address, peer));
            }
        }
        for (who, name) in NAMES.iter().enumerate().take(3) {
            let (kind, password) = match who {
                0 => ("ADMIN", "adm".into()),
                _ => ("CLIENT", Value::None),
            };
            let login = dict([
                ("AUTH_TYPE", kind.into()),
                ("AUTH_ID", (*name).into()),
                ("PWD", password.clone()),
                ("A_PWD", password),
                ("VERSION", "0.10.2".into()),
            ]);
            world.command(who, Kind::Auth, &login);
            if wire == Wire::FourPorts {
                let peer = (wire, Channel::Push, Bytes::from_static(name.as_bytes()));
                let conn = conn(who, Channel::Push as usize);
                assert!(world.session.opened(now, conn, address, peer));
            }
            if who == 0 {
                world.give_scene();
            }
        }
        let request = dict([("STATE", "REQUEST_INIT".into())]);
        let get = dict([("STATE", "GET".into()), ("ID", CUBE.into())]);
        let done = dict([("STATE", "DONE".into())]);
        for said in [&request, &get, &done] {
            world.command(1, Kind::Snapshot, said);
        }
        assert_eq!(world.session.statistics().users, 3);
        assert_eq!(world.session.statistics().nodes, 1);
        world
    }

    fn give_scene(&mut self) {
        let uuids = Value::List(vec![CUBE.into()]);
        let node: [Bytes; 5] = [
            Bytes::copy_from_slice(&Kind::Node.part()),
            Bytes::from_static(CUBE.as_bytes()),
            Bytes::from_static(b"COMMON"),
            encode(&Value::List(Vec::new())).into(),
            encode(&dict([
                ("n", 1.into()),
                ("items", Value::Dict(Dict::new())),
            ]))
            .into(),
        ];
        let [_, uuid, owner, dependencies, data] = node.clone().map(Value::Bytes);
        let data = match self.wire {
            Wire::Tcp | Wire::Zmtp => Value::List(node.map(Value::Bytes).into()),
            Wire::FourPorts => dict([
                ("type", Value::Bytes(Bytes::from_static(b"Thing"))),
                ("uuid", uuid),
                ("owner", owner),
                ("dependencies", dependencies),
                ("data", data),
            ]),
        };
        let init = dict([("STATE", "INIT".into()), ("NODES", uuids)]);
        self.command(0, Kind::ServerSnapshot, &init);
        if self.wire == Wire::FourPorts {
            // An answer to that waits.
            self.now += Duration::from_millis(300);
            self.session.tick(self.now, |_| None);
            self.take();
        }
        let set = dict([("STATE", "SET".into()), ("DATA", data)]);
        self.command(0, Kind::ServerSnapshot, &set);
        self.command(0, Kind::ServerSnapshot, &dict([("STATE", "END".into())]));
    }

    fn command(&mut self, who: usize, kind: Kind, said: &Value) {
        let owner = Bytes::from_static(NAMES[who].as_bytes());
        let said = encode(said).into();
        let parts = match self.wire {
            Wire::Tcp | Wire::Zmtp => vec![Bytes::copy_from_slice(&kind.part()), owner, said],
            Wire::FourPorts => {
                let name = kind.name().expect("a name");
                vec![owner, Bytes::from_static(name.as_bytes()), said]
            }
        };
        self.say(who, Channel::Command as usize, parts);
    }

    fn say(&mut self, who: usize, channel: usize, parts: Vec<Bytes>) {
        self.session.message(self.now, conn(who, channel), parts);
        self.take();
    }

    /// Looks at all that goes out.
    fn take(&mut self) {
        while let Some(order) = self.session.poll_order() {
            match order {
                Order::Keep(change) => self.kept.apply(&change),
                Order::Fold(job) => self.session.folded(job.run()),
            }
        }
        while self.session.poll_trusted().is_some() {}
        while let Some((conn, pieces)) = self.session.poll_send() {
            self.examine(&pieces.concat());
            self.session.drained(conn);
        }
        while let Some(conn) = self.session.poll_close() {
            self.session.closed(self.now, conn);
        }
    }

    fn examine(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.wire == Wire::FourPorts {
            while !rest.is_empty() {
                let parts = take_message(&mut rest);
                self.examine_named(&parts);
            }
        }
        while !rest.is_empty() {
            let count = take_number(&mut rest);
            let parts: Vec<&[u8]> = (0..count)
                .map(|_| {
                    let size = take_number(&mut rest);
                    let (part, after) = rest.split_at(size);
                    rest = after;
                    part
                })
                .collect();
            self.examine_message(&parts);
        }
    }

    fn examine_message(&mut self, parts: &[&[u8]]) {
        let (pickles, delta): (&[usize], Option<usize>) = match Kind::read(parts[0]) {
            None => {
                assert_eq!(parts, [b"PING"]);
                return;
            }
            Some(Kind::Node) => (&[3, 4], None),
            Some(Kind::Commit) => (&[2], Some(3)),
            Some(_) => (&[2], None),
        };
        for place in pickles {
            assert!(self.scanner.scan(parts[*place], Rules::Plain).is_ok());
        }
        if let Some(place) = delta {
            assert!(self.scanner.scan(parts[place], Rules::Delta).is_ok());
        }
    }

    fn examine_named(&mut self, parts: &[&[u8]]) {
        let pickle = match parts {
            // The head of a node.
            [_, _, _, _, _, dependencies] => dependencies,
            [b"PING"] => return,
            [_, name, said] => {
                assert!(Kind::named(name).is_some());
                said
            }
            [data] => data,
            _ => panic!("{} parts", parts.len()),
        };
        assert!(self.scanner.scan(pickle, Rules::Plain).is_ok());
    }

    fn end(&mut self) {
        let statistics = self.session.statistics();
        assert_eq!(statistics.queued_bytes, 0);
        assert_eq!(self.kept.nodes() as u64, statistics.nodes);
        assert_eq!(self.kept.bytes() as u64, statistics.node_bytes);
        for who in 0..NAMES.len() {
            for channel in 0..Channel::COUNT {
                self.session.closed(self.now, conn(who, channel));
            }
        }
        while let Some(deadline) = self.session.deadline() {
            self.session.tick(deadline, |_| None);
            self.take();
        }
        let statistics = self.session.statistics();
        assert_eq!((statistics.users, statistics.locks), (0, 0));
        assert_eq!(statistics.connections, 0);
    }
}

fn take_number(rest: &mut &[u8]) -> usize {
    let (count, after) = rest.split_first_chunk::<4>().expect("four bytes");
    *rest = after;
    u32::from_be_bytes(*count) as usize
}

/// The parts of a message of ZMTP.
fn take_message<'a>(rest: &mut &'a [u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    loop {
        let flags = rest[0];
        let (count, after) = match flags & 2 {
            0 => (usize::from(rest[1]), &rest[2..]),
            _ => {
                let count = rest[1..9].try_into().expect("eight bytes");
                (u64::from_be_bytes(count) as usize, &rest[9..])
            }
        };
        let (part, after) = after.split_at(count);
        parts.push(part);
        *rest = after;
        if flags & 1 == 0 {
            return parts;
        }
    }
}
