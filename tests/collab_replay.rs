//! The clients' side of captured sessions, replayed against a session: what it sends is what the
//! original sent, but for the differences that are named here and meant.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "a replay needs some instant to start from"
)]

mod collab_sim;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use collab_sim::reader::Reader;
use collab_sim::stage::Stage;
use collab_sim::{options, value};
use ringside::base::ids::ConnId;
use ringside::collab::{Options, Statistics};
use ringside::proto::deepdiff::fold;
use ringside::proto::pickle::{Limits, Value};
use ringside::proto::replication::{Kind, Port, Wire};

/// One record of a capture.
struct Record {
    at: Duration,
    conn: u8,
    offset: u8,
    is_server: bool,
    bytes: Bytes,
}

fn capture(name: &str) -> Vec<Record> {
    let bytes: Bytes = fs::read(format!("tests/data/collab/{name}.capture"))
        .unwrap()
        .into();
    let mut records = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let head = &bytes[at..at + 15];
        let count = u32::from_be_bytes(head[11..15].try_into().unwrap()) as usize;
        records.push(Record {
            at: Duration::from_micros(u64::from_be_bytes(head[..8].try_into().unwrap())),
            conn: head[8],
            offset: head[9],
            is_server: head[10] == 1,
            bytes: bytes.slice(at + 15..at + 15 + count),
        });
        at += 15 + count;
    }
    records
}

/// What one connection was sent, with the record that it was sent at.
type Sent = BTreeMap<u8, Vec<(usize, Vec<Bytes>)>>;

/// What both servers said.
struct Replay {
    theirs: Sent,
    ours: Sent,
    /// Bodies of ZMTP commands, by connection.
    their_commands: BTreeMap<u8, Vec<Bytes>>,
    our_commands: BTreeMap<u8, Vec<Bytes>>,
    statistics: Statistics,
}

fn replay(name: &str, options: Options) -> Replay {
    let records = capture(name);
    let begin = Instant::now();
    let mut stage = Stage::new(begin, options);
    let mut conns: BTreeMap<u8, ConnId> = BTreeMap::new();
    let mut readers: BTreeMap<u8, Reader> = BTreeMap::new();
    let (mut theirs, mut ours) = (Sent::new(), Sent::new());
    for (place, record) in records.iter().enumerate() {
        stage.advance(begin + record.at);
        // The original greets first, so that a client's first bytes say which wire it is.
        let wire = match name {
            "0.10.3" => Wire::Tcp,
            _ => Wire::Zmtp,
        };
        let port = [Port::First, Port::Second, Port::Third][usize::from(record.offset)];
        let conn = *conns
            .entry(record.conn)
            .or_insert_with(|| stage.connect(port, wire));
        if record.is_server {
            let reader = readers
                .entry(record.conn)
                .or_insert_with(|| Reader::new(wire));
            let messages = reader.read(&record.bytes);
            let sent = theirs.entry(record.conn).or_default();
            sent.extend(messages.into_iter().map(|message| (place, message)));
        } else {
            stage.input(conn, &record.bytes);
        }
        for (number, conn) in &conns {
            let sent = ours.entry(*number).or_default();
            let messages = stage.received(*conn).into_iter();
            sent.extend(messages.map(|message| (place, message)));
        }
    }
    let commands = |readers: &BTreeMap<u8, Reader>| {
        let bodies = readers.iter();
        bodies
            .map(|(number, reader)| (*number, reader.commands.clone()))
            .collect()
    };
    Replay {
        theirs,
        ours,
        their_commands: commands(&readers),
        our_commands: conns
            .iter()
            .map(|(number, conn)| (*number, stage.links[conn].commands().to_vec()))
            .collect(),
        statistics: stage.session.statistics(),
    }
}

/// Changes that have come for each node and have no node yet.
type Pending = BTreeMap<Bytes, Vec<[Bytes; 4]>>;

/// What a message says, without the way it says it. None for signs of life and the table of users,
/// which are sent again and again.
fn said(parts: &[Bytes], pending: &mut Pending) -> Option<String> {
    let kind = Kind::read(parts.first()?)?;
    match kind {
        Kind::UpdateClientsState => None,
        Kind::Node | Kind::Commit => Some(format!("{kind:?} {:?}", &parts[1..])),
        Kind::Snapshot => {
            let Value::Dict(said) = value(&parts[2]) else {
                panic!("no dict");
            };
            let Some(Value::List(node)) = said.of("DATA") else {
                return Some(format!("{kind:?} {said:?}"));
            };
            let node: Vec<Bytes> = node
                .iter()
                .map(|part| part.as_bytes().unwrap().clone())
                .collect();
            let [_, uuid, owner, dependencies, data] = node.as_slice() else {
                panic!("{} parts", node.len());
            };
            let changes = pending.remove(uuid).unwrap_or_default();
            let dependencies = changes.last().map_or(dependencies, |change| &change[2]);
            let deltas = changes.iter().map(|change| &change[3]);
            let data = fold(data, deltas, Limits::default()).unwrap();
            Some(format!(
                "{kind:?} {said:?} {uuid:?} {owner:?} {:?} {:?}",
                value(dependencies),
                value(&data.into()),
                said = said.of("STATE"),
            ))
        }
        Kind::Delete
        | Kind::Right
        | Kind::ServerSnapshot
        | Kind::Auth
        | Kind::Disconnect
        | Kind::Kick
        | Kind::UpdateUserMetadata
        | Kind::RequestServerInfo => {
            Some(format!("{kind:?} {:?} {:?}", parts[1], value(&parts[2])))
        }
    }
}

/// The tables of users that a connection was sent, without the latencies.
fn tables(sent: &[(usize, Vec<Bytes>)]) -> BTreeSet<String> {
    let tables = sent.iter().filter(|(_, parts)| {
        parts.first().and_then(|part| Kind::read(part)) == Some(Kind::UpdateClientsState)
    });
    tables
        .map(|(_, parts)| {
            let Value::Dict(table) = value(&parts[2]) else {
                panic!("no dict");
            };
            let rows = table.iter().map(|(name, row)| {
                let mut row = row.as_dict().unwrap().clone();
                assert!(row.remove(&"latency".into()), "a row without a latency");
                format!("{name:?}: {row:?}")
            });
            rows.collect::<Vec<_>>().join("\n")
        })
        .collect()
}

/// Whether the first table of users came before the answer to the login.
fn is_table_first(sent: &[(usize, Vec<Bytes>)]) -> Option<bool> {
    let place = |kind| {
        sent.iter()
            .position(|(_, parts)| parts.first().and_then(|part| Kind::read(part)) == Some(kind))
    };
    Some(place(Kind::UpdateClientsState)? < place(Kind::Auth)?)
}

/// What this server says and the original did not, by connection; or the other way round.
type Differences<'a> = &'a [(u8, &'a str)];

/// Compares all that was said. `command_of` gives the command connection of a data connection: what
/// a client is sent there while it asks for nodes are the changes of those.
fn compare(replay: &Replay, command_of: &[(u8, u8)], more: Differences<'_>, less: Differences<'_>) {
    let empty = Vec::new();
    let conns: BTreeSet<u8> = replay.ours.keys().copied().collect();
    let command_of: BTreeMap<u8, u8> = command_of.iter().copied().collect();
    // The records at which each command connection was given a node, and the changes before it.
    let mut pending: BTreeMap<u8, BTreeMap<usize, Pending>> = BTreeMap::new();
    let mut early: BTreeMap<u8, BTreeSet<usize>> = BTreeMap::new();
    for (data, command) in &command_of {
        let commands = replay.ours.get(command).unwrap_or(&empty);
        for (place, (record, parts)) in replay.ours.get(data).unwrap_or(&empty).iter().enumerate() {
            let is_given = commands.iter().any(|(given, parts)| {
                given == record
                    && parts.first().and_then(|part| Kind::read(part)) == Some(Kind::Snapshot)
            });
            if is_given {
                let parts = <[Bytes; 4]>::try_from(parts.clone()).unwrap();
                let pending = pending.entry(*command).or_default();
                let changes = pending.entry(*record).or_default();
                changes.entry(parts[1].clone()).or_default().push(parts);
                early.entry(*data).or_default().insert(place);
            }
        }
    }
    for conn in conns {
        let ours = replay.ours.get(&conn).unwrap_or(&empty);
        let theirs = replay.theirs.get(&conn).unwrap_or(&empty);
        let expected: Vec<String> = theirs
            .iter()
            .filter_map(|(_, parts)| said(parts, &mut Pending::new()))
            .filter(|said| !less.contains(&(conn, said)))
            .collect();
        let is_early = |place: usize| early.get(&conn).is_some_and(|set| set.contains(&place));
        let mut none = BTreeMap::new();
        let changes = pending.get_mut(&conn).unwrap_or(&mut none);
        let got: Vec<String> = ours
            .iter()
            .enumerate()
            .filter(|(place, _)| !is_early(*place))
            .filter_map(|(_, (record, parts))| said(parts, changes.entry(*record).or_default()))
            .filter(|said| !more.contains(&(conn, said)))
            .collect();
        assert_eq!(got, expected, "connection {conn}");
        let unused: Vec<_> = changes.values().filter(|left| !left.is_empty()).collect();
        assert!(unused.is_empty(), "changes without their node: {unused:?}");
        for table in tables(theirs) {
            assert!(
                tables(ours).contains(&table),
                "connection {conn} never sees {table}\nbut {:?}",
                tables(ours)
            );
        }
        assert_eq!(is_table_first(ours), is_table_first(theirs), "{conn}");
        // Bytes of READY and of what else ZMTP says.
        if let Some(commands) = replay.their_commands.get(&conn) {
            assert_eq!(&replay.our_commands[&conn], commands, "connection {conn}");
        }
    }
    for (conn, said_more) in more {
        let ours = replay.ours.get(conn).unwrap_or(&empty);
        let is_said = ours
            .iter()
            .any(|(_, parts)| said(parts, &mut Pending::new()).as_deref() == Some(*said_more));
        assert!(is_said, "connection {conn} is not told {said_more}");
    }
}

const REJECTED: &str =
    r#"ServerSnapshot b"server" Dict(Dict([(Text("STATE"), Text("REJECTED"))]))"#;
const LOST: &str =
    r#"Disconnect b"server" Dict(Dict([(Text("reason"), Text("nothing was heard of you"))]))"#;
/// What the original answers to a client that has the scene already, which the client's library
/// takes for a fault.
const REMOVED: &str =
    r#"Snapshot Dict([(Text("STATE"), Text("SET")), (Text("DATA"), Bytes(b"removed"))])"#;

fn info(version: &str) -> String {
    format!(
        r#"RequestServerInfo b"server" Dict(Dict([(Text("private"), Bool(true)), (Text("version"), Text("{version}"))]))"#
    )
}

fn of(version: &str) -> Options {
    Options {
        versions: vec![version.to_owned()],
        ..options()
    }
}

/// Replays three clients' day, with the commands of each data connection.
#[track_caller]
fn three_clients(name: &str, version: &str, command_of: &[(u8, u8)], lost: u8) {
    let replay = replay(name, of(version));
    let info = info(version);
    compare(
        &replay,
        command_of,
        &[(7, REJECTED), (lost, LOST), (18, &info)],
        &[(7, REMOVED)],
    );
    let statistics = replay.statistics;
    assert_eq!(
        (statistics.users, statistics.nodes, statistics.locks),
        (1, 2, 0)
    );
    assert_eq!((statistics.logins, statistics.refused_logins), (3, 4));
    assert_eq!(statistics.refused_pickles + statistics.refused_strangers, 0);
}

#[test]
fn three_clients_of_0_9_11() {
    three_clients("0.9.11", "0.9.11", &[(8, 7), (12, 11), (16, 15)], 11);
}

#[test]
fn three_clients_of_0_10_3() {
    three_clients("0.10.3", "0.10.2", &[(8, 7), (11, 12), (16, 15)], 12);
}

#[test]
fn two_blenders() {
    let replay = replay("blender", of("0.9.11"));
    compare(&replay, &[(1, 0), (4, 3)], &[], &[]);
    let statistics = replay.statistics;
    assert_eq!(
        (statistics.users, statistics.nodes, statistics.locks),
        (2, 10, 0)
    );
    assert_eq!(statistics.refused_pickles + statistics.refused_messages, 0);
}
