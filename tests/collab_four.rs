//! Clients of generation A: what they are told, what they are refused, and that no client of another
//! generation comes to their session.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "virtual time needs some instant to start from"
)]

mod collab_sim;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use collab_sim::client::{Client, State, dict};
use collab_sim::four::{
    Four, hello, laid, login, node, plain, public, pushed, right, statistics, text, thing, wire,
};
use collab_sim::reader::Reader;
use collab_sim::stage::Stage;
use collab_sim::{CUBE, LAMP, MESH, options, value};
use ringside::base::ids::ConnId;
use ringside::collab::{Options, Scene};
use ringside::proto::pickle::Value;
use ringside::proto::replication::{Kind, Port, Wire};

/// What runs a program in whoever loads it.
const EVIL: &[u8] = b"\x80\x04cos\nsystem\n\x8c\x02id\x85R.";

#[test]
fn says_what_the_original_said() {
    let bytes: Bytes = fs::read("tests/data/collab/0.1.26.capture").unwrap().into();
    let begin = Instant::now();
    let mut stage = Stage::new(begin, public());
    let mut conns: BTreeMap<u8, ConnId> = BTreeMap::new();
    let mut readers: BTreeMap<u8, Reader> = BTreeMap::new();
    let (mut theirs, mut ours) = (BTreeMap::new(), BTreeMap::<u8, Vec<Vec<Bytes>>>::new());
    let (mut at, mut wait) = (0, Duration::ZERO);
    while at < bytes.len() {
        let head = &bytes[at..at + 15];
        let count = u32::from_be_bytes(head[11..15].try_into().unwrap()) as usize;
        let time = Duration::from_micros(u64::from_be_bytes(head[..8].try_into().unwrap()));
        let (number, offset, is_server) = (head[8], usize::from(head[9]), head[10] == 1);
        let sent = bytes.slice(at + 15..at + 15 + count);
        at += 15 + count;
        stage.advance(begin + time + wait);
        let conn = *conns.entry(number).or_insert_with(|| {
            let port = [Port::First, Port::Second, Port::Third, Port::Fourth][offset];
            stage.connect(port, Wire::FourPorts)
        });
        if is_server {
            let reader = readers
                .entry(number)
                .or_insert_with(|| Reader::new(Wire::FourPorts));
            let sent = reader.read(&sent);
            theirs.entry(number).or_insert_with(Vec::new).extend(sent);
        } else {
            stage.input(conn, &sent);
            if sent.windows(4).any(|bytes| bytes == b"INIT") && offset == 0 && number == 0 {
                // The answer to an offer waits, so that the client knows what it has offered.
                wait = Duration::from_millis(300);
            }
        }
    }
    stage.advance(stage.now + Duration::from_secs(1));
    for (number, conn) in &conns {
        ours.insert(*number, stage.received(*conn));
        let commands = stage.links[conn].commands();
        assert_eq!(commands, readers[number].commands, "connection {number}");
    }
    for (number, theirs) in &theirs {
        let said = |messages: &[Vec<Bytes>]| -> Vec<String> {
            messages.iter().filter_map(|parts| said(parts)).collect()
        };
        assert_eq!(said(&ours[number]), said(theirs), "connection {number}");
    }
    let statistics = statistics(&stage);
    assert_eq!((statistics.logins, statistics.nodes), (3, 2));
    assert_eq!(statistics.refused_messages + statistics.refused_pickles, 0);
}

/// What a message says, without the way it says it. None for signs of life and tables of users.
fn said(parts: &[Bytes]) -> Option<String> {
    match parts {
        [sender, uuid, owner, kind, count, dependencies] => {
            // The original says `None` for an empty list, where it is not the first client's.
            let none = Value::List(Vec::new());
            let dependencies = Some(value(dependencies)).filter(|it| *it != Value::None);
            let dependencies = dependencies.unwrap_or(none);
            Some(format!(
                "{sender:?} {uuid:?} {owner:?} {kind:?} {count:?} {dependencies:?}"
            ))
        }
        [_, name, _] if name == "RepUpdateClientsState" => None,
        [owner, name, said] => Some(format!("{owner:?} {name:?} {:?}", value(said))),
        [sign] if sign == "PING" => None,
        [data] => Some(format!("{data:?}")),
        _ => panic!("{} parts", parts.len()),
    }
}

#[test]
fn nodes_locks_and_removals_reach_the_others_and_are_kept() {
    let (mut stage, alice, bob) = laid();
    // More than a stranger may send, by a connection that nobody has known yet.
    let big = dict([("file", Value::Bytes(vec![7; 300_000].into()))]);
    let mesh = node(MESH, "bob", &big);
    bob.push(&mut stage, &mesh);
    assert_eq!(alice.nodes(&mut stage), std::slice::from_ref(&mesh));
    assert!(bob.nodes(&mut stage).is_empty(), "no echo");
    bob.say(&mut stage, Kind::Right, &right(CUBE, "bob"));
    assert_eq!(alice.heard(&mut stage), [(Kind::Right, right(CUBE, "bob"))]);
    bob.say(&mut stage, Kind::Delete, &LAMP.into());
    assert_eq!(alice.heard(&mut stage), [(Kind::Delete, LAMP.into())]);
    assert!(bob.heard(&mut stage).is_empty(), "no echo");
    assert_eq!(statistics(&stage).locks, 2);
    for link in bob.links {
        stage.drop_link(link);
    }
    stage.advance(stage.now + Duration::from_secs(1));
    let freed: Vec<_> = [CUBE, MESH]
        .map(|uuid| (Kind::Right, right(uuid, "COMMON")))
        .into();
    assert_eq!(alice.heard(&mut stage), freed);
    assert_eq!(statistics(&stage).users, 1);
    // The scene as it is kept goes on with another server.
    let file = stage.kept.write(Vec::new(), None).unwrap();
    let (scene, _) = Scene::read(&file).unwrap();
    let mut stage = Stage::with_scene(stage.now, public(), Some(scene));
    let (carol, answer) = Four::come(&mut stage, "carol", None);
    assert_eq!(answer, "RUNNING");
    carol.ask(&mut stage);
    let common = node(MESH, "COMMON", &big);
    assert_eq!(carol.fetch(&mut stage), [common, plain(CUBE, 1)]);
}

#[test]
fn each_of_the_two_passwords_lets_in_and_one_makes_administrators() {
    let mut stage = Stage::new(
        Instant::now(),
        Options {
            versions: vec!["0.1.26".to_owned()],
            ..options()
        },
    );
    for password in [None, Some("wrong")] {
        let (_, answer) = Four::come(&mut stage, "eve", password);
        assert_eq!(answer, "FAILED: wrong password");
    }
    let (alice, _) = Four::come(&mut stage, "alice", Some("adm"));
    let (bob, answer) = Four::come(&mut stage, "bob", Some("pw"));
    assert_eq!(answer, "LOBBY");
    let other = Four::new(&mut stage, "carol");
    other.say(
        &mut stage,
        Kind::Auth,
        &login("carol", Some("pw"), "0.1.25"),
    );
    let wrong = "FAILED: wrong client version (0.1.25 != 0.1.26)";
    assert_eq!(other.heard(&mut stage), [(Kind::Auth, wrong.into())]);
    bob.offer(&mut stage, &[plain(CUBE, 1)]);
    stage.advance(stage.now + Duration::from_millis(300));
    assert_eq!(bob.states(&mut stage, Kind::ServerSnapshot), ["REJECTED"]);
    let kick = |name: &str| dict([("user", name.into())]);
    bob.say(&mut stage, Kind::Kick, &kick("alice"));
    assert_eq!(statistics(&stage).refused_rights, 1);
    alice.say(&mut stage, Kind::Kick, &kick("bob"));
    let reason = dict([("reason", "kicked by admin".into())]);
    assert_eq!(bob.heard(&mut stage), [(Kind::Disconnect, reason)]);
    assert_eq!(statistics(&stage).users, 1);
}

#[test]
fn a_session_has_clients_of_one_generation() {
    let any = Options {
        versions: ["0.1.26", "0.9.11"].map(str::to_owned).to_vec(),
        ..options()
    };
    let mut stage = Stage::new(Instant::now(), any.clone());
    let (alice, _) = Four::come(&mut stage, "alice", Some("adm"));
    alice.heard(&mut stage);
    for (number, wire) in [(1, Wire::Zmtp), (2, Wire::Tcp)] {
        let mut late = Client::new(&mut stage, number, "bob".to_owned(), wire, true);
        for _ in 0..3 {
            for channel in 0..3 {
                late.flush(&mut stage, channel, usize::MAX);
            }
            late.listen(&mut stage);
        }
        let State::Out(reason) = &late.state else {
            panic!("{:?}", late.state);
        };
        assert!(
            reason.starts_with("FAILED: wrong client version (0.9.11, but"),
            "{reason}"
        );
    }
    assert_eq!(statistics(&stage).refused_generations, 2);
    assert_eq!(stage.session.outline()["generation"], "A");

    let mut stage = Stage::new(Instant::now(), any);
    let mut first = Client::new(&mut stage, 1, "alice".to_owned(), Wire::Tcp, true);
    for channel in 0..3 {
        first.flush(&mut stage, channel, usize::MAX);
    }
    first.listen(&mut stage);
    assert_eq!(first.state, State::Lobby);
    let (_, answer) = Four::come(&mut stage, "bob", Some("adm"));
    let wrong = "FAILED: wrong client version (0.1.26, but this session is of 0.9 and later)";
    assert_eq!(answer, wrong);
    assert_eq!(statistics(&stage).refused_generations, 1);
    assert_eq!(stage.session.outline()["generation"], "B and C");
}

/// Its first words after its connections were away for too long may be a node: it was told in the
/// words of generation B, which it does not understand, that it has left.
#[test]
fn whoever_has_left_and_goes_on_is_told_so_in_its_own_words() {
    let (mut stage, _alice, bob) = laid();
    for link in bob.links {
        stage.drop_link(link);
    }
    stage.advance(stage.now + Duration::from_secs(1));
    let ports = [Port::First, Port::Second, Port::Third];
    let links = ports.map(|port| {
        let link = stage.connect(port, Wire::FourPorts);
        stage.input(link, &hello(port, b"bob"));
        link
    });
    stage.input(links[2], &pushed("bob", &plain(MESH, 1)));
    let said = stage.received(links[0]);
    let [said] = said.as_slice() else {
        panic!("{} messages", said.len());
    };
    assert_eq!(said[..2], [text("server"), text("RepDisconnectCommand")]);
    assert_eq!(statistics(&stage).nodes, 2);
}

/// A stranger's login decided of which version a session is for as long as the server ran.
#[test]
fn the_version_that_came_first_counts_while_somebody_is_there() {
    let mut stage = Stage::new(Instant::now(), public());
    let (alice, _) = Four::come(&mut stage, "alice", None);
    for link in alice.links {
        stage.drop_link(link);
    }
    stage.advance(stage.now + Duration::from_secs(1));
    assert_eq!(statistics(&stage).users, 0);
    let mut bob = Client::new(&mut stage, 1, "bob".to_owned(), Wire::Tcp, true);
    for channel in 0..3 {
        bob.flush(&mut stage, channel, usize::MAX);
    }
    bob.listen(&mut stage);
    assert_eq!(bob.state, State::Lobby);
}

#[test]
fn big_tables_of_users_come_less_often() {
    let (mut stage, alice, bob) = laid();
    let much = dict([("much", Value::Bytes(vec![1; 900_000].into()))]);
    bob.say(&mut stage, Kind::UpdateUserMetadata, &much);
    stage.advance(stage.now + Duration::from_secs(2));
    stage.received(alice.links[0]);
    let mut tables = 0;
    for n in 0..40 {
        let said = dict([("frame_current", n.into())]);
        bob.say(&mut stage, Kind::UpdateUserMetadata, &said);
        stage.advance(stage.now + Duration::from_millis(50));
        tables += stage.received(alice.links[0]).len();
    }
    // In two seconds, with one of each tick.
    assert!((2..=6).contains(&tables), "{tables}");
}

#[test]
fn what_users_say_of_themselves_comes_with_tables_but_not_with_all_too_many() {
    let (mut stage, alice, bob) = laid();
    let tables = |stage: &mut Stage| stage.received(alice.links[0]).len();
    tables(&mut stage);
    stage.advance(stage.now + Duration::from_millis(100));
    tables(&mut stage);
    for n in 0..20 {
        let said = dict([("frame_current", n.into())]);
        bob.say(&mut stage, Kind::UpdateUserMetadata, &said);
    }
    assert_eq!(tables(&mut stage), 1);
    stage.advance(stage.now + Duration::from_millis(50));
    let last = stage.received(alice.links[0]).pop().unwrap();
    let table = value(&last[2]);
    let of = |value: &Value, key: &str| value.as_dict().unwrap().of(key).unwrap().clone();
    let said = of(&of(&table, "bob"), "metadata");
    assert_eq!(of(&said, "frame_current"), 19.into());
}

#[test]
fn nothing_that_could_run_reaches_anybody() {
    let (mut stage, alice, bob) = laid();
    let evil = Bytes::from_static(EVIL);
    let mut data = plain(MESH, 1);
    data[4] = evil.clone();
    let mut dependencies = plain(MESH, 1);
    dependencies[3] = evil.clone();
    let mut kind = plain(MESH, 1);
    kind[0] = Bytes::from_static(b"\x80\x04K\x02.");
    for wrong in [data.clone(), dependencies, kind] {
        let before = statistics(&stage).refused_pickles;
        bob.push(&mut stage, &wrong);
        assert_eq!(statistics(&stage).refused_pickles, before + 1);
    }
    let commands = [
        Kind::Auth,
        Kind::Right,
        Kind::Delete,
        Kind::UpdateUserMetadata,
    ];
    for kind in commands.into_iter().chain([Kind::Kick, Kind::Snapshot]) {
        let before = statistics(&stage).refused_pickles;
        bob.say_raw(&mut stage, kind, evil.clone());
        assert_eq!(statistics(&stage).refused_pickles, before + 1, "{kind:?}");
    }
    assert!(alice.nodes(&mut stage).is_empty() && alice.heard(&mut stage).is_empty());

    let mut stage = Stage::new(Instant::now(), public());
    let (alice, _) = Four::come(&mut stage, "alice", Some("adm"));
    alice.offer(&mut stage, std::slice::from_ref(&data));
    stage.advance(stage.now + Duration::from_millis(300));
    alice.set(&mut stage, &data);
    assert_eq!(statistics(&stage).refused_pickles, 1);
    assert_eq!((statistics(&stage).users, statistics(&stage).nodes), (0, 0));
    assert_eq!(stage.session.outline()["state"], "waiting");
}

#[test]
fn strangers_and_what_makes_no_sense_are_refused_and_counted() {
    let (mut stage, alice, bob) = laid();
    // A connection for nodes that nobody who has logged in owns.
    for identity in ["eve", "carol"] {
        let link = stage.connect(Port::Third, Wire::FourPorts);
        stage.input(link, &hello(Port::Third, b""));
        stage.input(link, &pushed(identity, &plain(MESH, 1)));
        assert!(stage.links[&link].is_closed);
    }
    assert_eq!(statistics(&stage).refused_strangers, 2);
    let eve = Four::new(&mut stage, "eve");
    eve.say(&mut stage, Kind::Delete, &CUBE.into());
    let reason = dict([("reason", "you are not logged in".into())]);
    assert_eq!(eve.heard(&mut stage), [(Kind::Disconnect, reason)]);
    assert_eq!(statistics(&stage).refused_strangers, 3);

    // Another identity than the connection's, halves of nodes, and too many pieces.
    let head = wire(&["bob", MESH, "COMMON", "Thing", "x", "N."].map(text));
    let foreign = pushed("alice", &plain(MESH, 1));
    for wrong in [head, wire(&[Bytes::from_static(b"data")]), foreign] {
        let link = stage.connect(Port::Third, Wire::FourPorts);
        stage.input(link, &hello(Port::Third, b""));
        stage.input(link, &pushed("bob", &plain(CUBE, 7)));
        assert!(!stage.links[&link].is_closed);
        stage.input(link, &wrong);
        assert!(stage.links[&link].is_closed);
    }
    assert_eq!(statistics(&stage).refused_connections, 3);
    assert_eq!(alice.nodes(&mut stage).len(), 3);

    let before = statistics(&stage);
    stage.input(bob.links[1], &wire(&plain(MESH, 1)));
    for body in [
        dict([]),
        dict([
            ("uuid", Value::List(vec![CUBE.into()])),
            ("owner", "bob".into()),
        ]),
    ] {
        bob.say(&mut stage, Kind::Right, &body);
    }
    bob.say(&mut stage, Kind::UpdateClientsState, &dict([]));
    let unknown = ["bob", "RepConfigCommand", "N."].map(text);
    stage.input(bob.links[0], &wire(&unknown));
    alice.offer(&mut stage, &[plain(MESH, 1)]);
    alice.offer(&mut stage, &[plain(MESH, 1)]);
    stage.advance(stage.now + Duration::from_millis(300));
    assert_eq!(alice.states(&mut stage, Kind::ServerSnapshot), ["REJECTED"]);
    // An offer while there is a scene, and one while that waits.
    assert_eq!(
        statistics(&stage).refused_messages,
        before.refused_messages + 7
    );
    bob.push(&mut stage, &node(MESH, "nobody", &thing(1)));
    bob.say(&mut stage, Kind::Right, &right(CUBE, "nobody"));
    assert_eq!(statistics(&stage).refused_rights, before.refused_rights + 2);
    assert_eq!(statistics(&stage).nodes, 2);
}
