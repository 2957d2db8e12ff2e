//! What a session gives away to be kept and folded, and what waits for the log.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::message::dict;
use super::*;
use crate::base::ids::ConnId;
use crate::config::Secret;
use crate::proto::pickle::{self, Limits, Value};
use crate::proto::replication::{Channel, Kind, Wire};
use crate::proto::session_log::Record;

const NODE: &str = "00000000-0000-4000-8000-000000000001";

#[expect(
    clippy::disallowed_methods,
    reason = "a test needs some time to begin at"
)]
fn start() -> Instant {
    <Instant>::now()
}

fn pickled(value: &Value) -> Bytes {
    pickle::encode(value).into()
}

fn part(kind: Kind) -> Bytes {
    Bytes::copy_from_slice(&kind.part())
}

struct Stage {
    session: Session,
    now: Instant,
    conns: u64,
}

/// A client by its connections for commands and data.
#[derive(Clone, Copy)]
struct Client(ConnId, ConnId);

impl Stage {
    fn new(mode: Mode) -> Self {
        let now = start();
        let options = Options {
            port: 5555,
            admin_password: Secret::new("adm"),
            server_password: Secret::default(),
            versions: Vec::new(),
            timeout: Duration::from_secs(5),
            stall: Duration::from_secs(60),
        };
        Self {
            session: Session::new(now, options, None, Keeping::new(mode)),
            now,
            conns: 0,
        }
    }

    fn connect(&mut self, host: u8) -> Client {
        let identity = Bytes::from(vec![self.conns as u8 + 1; 16]);
        let [command, data] = [Channel::Command, Channel::Data].map(|channel| {
            self.conns += 1;
            let conn = ConnId(self.conns);
            let who = (Wire::Tcp, channel, identity.clone());
            let address = IpAddr::from([127, 0, 0, host]);
            assert!(self.session.opened(self.now, conn, address, who));
            conn
        });
        Client(command, data)
    }

    fn command(&mut self, client: Client, kind: Kind, owner: &'static str, value: &Value) {
        let parts = vec![
            part(kind),
            Bytes::from_static(owner.as_bytes()),
            pickled(value),
        ];
        self.session.message(self.now, client.0, parts);
    }

    fn log_in(&mut self, client: Client, name: &'static str, password: &str) {
        let value = dict([
            ("AUTH_TYPE", "ADMIN".into()),
            ("AUTH_ID", name.into()),
            ("S_PWD", "".into()),
            ("A_PWD", password.into()),
            ("VERSION", "0.10.2".into()),
        ]);
        self.command(client, Kind::Auth, name, &value);
    }

    /// Two users, who have one node.
    fn with_scene(mode: Mode) -> (Self, Client, Client) {
        let mut stage = Self::new(mode);
        let (alice, bob) = (stage.connect(1), stage.connect(2));
        stage.log_in(alice, "alice", "adm");
        stage.log_in(bob, "bob", "adm");
        let nodes = Value::List(vec![NODE.into()]);
        let value = dict([("STATE", "INIT".into()), ("NODES", nodes)]);
        stage.command(alice, Kind::ServerSnapshot, "server", &value);
        let parts = [
            part(Kind::Node),
            Bytes::from_static(NODE.as_bytes()),
            Bytes::from_static(b"COMMON"),
            pickled(&Value::List(Vec::new())),
            pickled(&dict([("x", 0.into())])),
        ];
        let parts = Value::List(parts.into_iter().map(Value::Bytes).collect());
        let value = dict([("STATE", "SET".into()), ("DATA", parts)]);
        stage.command(alice, Kind::ServerSnapshot, "server", &value);
        for value in [
            dict([("STATE", "GET".into()), ("ID", NODE.into())]),
            dict([("STATE", "DONE".into())]),
        ] {
            stage.command(bob, Kind::Snapshot, "bob", &value);
        }
        (stage, alice, bob)
    }

    fn move_to(&mut self, client: Client, x: i64) {
        let change = dict([("root['x']", dict([("new_value", x.into())]))]);
        let parts = vec![
            part(Kind::Commit),
            Bytes::from_static(NODE.as_bytes()),
            pickled(&Value::List(Vec::new())),
            pickled(&dict([("values_changed", change)])),
        ];
        self.session.message(self.now, client.1, parts);
    }

    /// What goes out, by connection.
    fn sent(&mut self) -> Vec<(ConnId, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some((conn, pieces)) = self.session.poll_send() {
            self.session.drained(conn);
            sent.push((conn, pieces.concat()));
        }
        sent
    }

    fn orders(&mut self) -> (Vec<Change>, Vec<FoldJob>) {
        let (mut changes, mut jobs) = (Vec::new(), Vec::new());
        while let Some(order) = self.session.poll_order() {
            match order {
                Order::Keep(change) => changes.push(change),
                Order::Fold(job) => jobs.push(job),
            }
        }
        (changes, jobs)
    }
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// A scene as it is read from its file: the value of x of each node.
fn read(scene: &Scene) -> (Vec<i64>, usize) {
    let file = scene.write(Vec::new(), None).unwrap();
    let (scene, _) = Scene::read(&file).unwrap();
    let nodes = scene.repository.nodes();
    let value = |data: &Bytes| {
        let data = pickle::decode(data, Limits::default()).unwrap();
        data.as_dict().unwrap().of("x").unwrap().as_int().unwrap()
    };
    (
        nodes.iter().map(|node| value(&node.parts[4])).collect(),
        nodes.iter().map(|node| node.commits.len()).sum(),
    )
}

#[test]
fn a_copy_follows_the_scene() {
    let (mut stage, alice, bob) = Stage::with_scene(Mode::File);
    let mut copy = Scene::default();
    let (changes, _) = stage.orders();
    for change in &changes {
        assert!(!copy.is_complete());
        copy.apply(change);
    }
    assert!(copy.is_complete());
    assert_eq!(read(&copy), (vec![0], 0));
    stage.move_to(bob, 7);
    for change in stage.orders().0 {
        copy.apply(&change);
    }
    assert_eq!(read(&copy), (vec![7], 0), "changes are folded into a file");
    assert_eq!(copy.bytes(), stage.session.scene().bytes());
    stage.command(alice, Kind::Delete, "alice", &NODE.into());
    for change in stage.orders().0 {
        copy.apply(&change);
    }
    assert_eq!((copy.nodes(), copy.bytes()), (0, 0));
}

#[test]
fn a_scene_that_is_not_whole_is_taken_back() {
    let mut stage = Stage::new(Mode::File);
    let alice = stage.connect(1);
    stage.log_in(alice, "alice", "adm");
    let nodes = Value::List(vec![NODE.into()]);
    let value = dict([("STATE", "INIT".into()), ("NODES", nodes)]);
    stage.command(alice, Kind::ServerSnapshot, "server", &value);
    stage.session.closed(stage.now, alice.0);
    stage.now += Duration::from_secs(1);
    stage.session.tick(stage.now, |_| None);
    let (changes, _) = stage.orders();
    let is_begin = |change: &Change| matches!(change, Change::Record(Record::Begin));
    assert_eq!(changes.len(), 2);
    assert!(changes.iter().all(is_begin));
}

#[test]
fn long_chains_are_folded_elsewhere() {
    let (mut stage, alice, bob) = Stage::with_scene(Mode::File);
    let mut copy = Scene::default();
    for x in 1..=64 {
        stage.move_to(alice, x);
    }
    let (changes, jobs) = stage.orders();
    assert!(jobs.is_empty());
    changes.iter().for_each(|change| copy.apply(change));
    stage.move_to(alice, 65);
    stage.move_to(bob, 66);
    let (changes, mut jobs) = stage.orders();
    changes.iter().for_each(|change| copy.apply(change));
    assert_eq!(jobs.len(), 1, "one job at a time");
    let bytes = stage.session.scene().bytes();
    stage.session.folded(jobs.remove(0).run());
    let scene = stage.session.scene();
    let node = scene.repository.node(NODE.as_bytes()).unwrap();
    assert_eq!(node.commits.len(), 1, "what came meanwhile stays");
    assert!(scene.bytes() < bytes / 30);
    let (changes, _) = stage.orders();
    assert_eq!(changes.len(), 1);
    copy.apply(&changes[0]);
    assert_eq!(copy.bytes(), scene.bytes(), "the copy folds as well");
    assert_eq!(read(&copy), (vec![66], 0));
    assert_eq!(stage.session.statistics().folded, 1);

    // Whoever comes now gets the folded node.
    let carol = stage.connect(3);
    stage.log_in(carol, "carol", "adm");
    stage.command(
        carol,
        Kind::Snapshot,
        "carol",
        &dict([("STATE", "REQUEST_INIT".into())]),
    );
    stage.sent();
    let value = dict([("STATE", "GET".into()), ("ID", NODE.into())]);
    stage.command(carol, Kind::Snapshot, "carol", &value);
    let sent = stage.sent();
    let of = |conn| sent.iter().filter(move |(to, _)| *to == conn);
    assert!(of(carol.0).any(|(_, bytes)| contains(bytes, &pickled(&dict([("x", 65.into())])))));
    assert_eq!(of(carol.1).count(), 1);
}

#[test]
fn what_cannot_be_folded_is_tried_ever_more_rarely_and_kept() {
    let (mut stage, alice, _) = Stage::with_scene(Mode::File);
    let odd = |stage: &mut Stage| {
        let added = dict([("root", Value::Set(vec![1.into()]))]);
        let parts = vec![
            part(Kind::Commit),
            Bytes::from_static(NODE.as_bytes()),
            pickled(&Value::List(Vec::new())),
            pickled(&dict([("set_item_added", added)])),
        ];
        stage.session.message(stage.now, alice.1, parts);
    };
    let mut copy = Scene::default();
    let mut tried = 0;
    for n in 0..1000 {
        if n == 10 {
            odd(&mut stage);
        }
        stage.move_to(alice, n);
        let (changes, jobs) = stage.orders();
        changes.iter().for_each(|change| copy.apply(change));
        for job in jobs {
            tried += 1;
            stage.session.folded(job.run());
        }
    }
    let (changes, _) = stage.orders();
    changes.iter().for_each(|change| copy.apply(change));
    assert!((3..10).contains(&tried), "{tried}");
    let (values, changes) = read(&copy);
    assert_eq!(
        (values, changes),
        (vec![9], 991),
        "the first ten are folded"
    );
    assert_eq!(copy.bytes(), stage.session.scene().bytes());
}

#[test]
fn nobody_hears_of_what_is_not_logged() {
    let (mut stage, alice, bob) = Stage::with_scene(Mode::Log);
    let (changes, _) = stage.orders();
    let before = changes.len() as u64;
    stage.session.logged(stage.now, before);
    stage.sent();
    stage.move_to(alice, 5);
    assert_eq!(stage.orders().0.len(), 1);
    assert!(stage.session.waits_for_log());
    assert!(stage.sent().is_empty());
    let lock = dict([
        ("uuid", Value::List(vec![NODE.into()])),
        ("owner", "bob".into()),
    ]);
    stage.move_to(bob, 6);
    stage.command(bob, Kind::Right, "bob", &lock);
    stage.session.logged(stage.now, before + 1);
    let sent = stage.sent();
    assert_eq!(sent.len(), 1, "bob hears of the first move, nobody of more");
    assert_eq!(sent[0].0, bob.1);
    stage.session.logged(stage.now, before + 2);
    let to: Vec<ConnId> = stage.sent().into_iter().map(|(conn, _)| conn).collect();
    assert!(to.contains(&alice.0) && to.contains(&bob.0), "{to:?}");
    assert!(!stage.session.waits_for_log());
}

#[test]
fn a_log_that_stands_still_holds_up_nobody() {
    let (mut stage, alice, bob) = Stage::with_scene(Mode::Log);
    stage.session.tick(stage.now, |_| None);
    stage.now += Duration::from_secs(4);
    stage.session.tick(stage.now, |_| None);
    assert_eq!(stage.session.statistics().log_late, 1);
    stage.move_to(alice, 5);
    assert!(stage.sent().iter().any(|(conn, _)| *conn == bob.1));
}

#[test]
fn a_keeper_that_lost_the_thread_gets_the_whole_scene() {
    let (mut stage, alice, bob) = Stage::with_scene(Mode::Log);
    stage.orders();
    stage.move_to(alice, 1);
    assert_eq!(stage.orders().0.len(), 1);
    stage.session.keeper_lost(stage.now);
    stage.move_to(alice, 2);
    assert!(stage.orders().0.is_empty());
    assert!(stage.sent().iter().any(|(conn, _)| *conn == bob.1));
    stage.session.keeper_found();
    stage.move_to(alice, 3);
    let (changes, _) = stage.orders();
    assert!(matches!(changes[0], Change::Whole(_)));
    let mut copy = Scene::default();
    changes.iter().for_each(|change| copy.apply(change));
    assert_eq!(read(&copy), (vec![3], 0));
}

#[test]
fn guesses_wait_and_users_of_other_addresses_do_not() {
    let mut stage = Stage::new(Mode::Off);
    for _ in 0..4 {
        let guess = stage.connect(9);
        stage.log_in(guess, "eve", "guess");
        assert!(contains(&stage.sent()[0].1, b"wrong admin password"));
    }
    let (patient, hasty) = (stage.connect(9), stage.connect(9));
    stage.log_in(patient, "eve", "adm");
    assert!(stage.sent().is_empty(), "the fifth login waits");
    stage.log_in(hasty, "mallory", "guess");
    assert!(contains(&stage.sent()[0].1, b"too many wrong passwords"));
    let alice = stage.connect(1);
    stage.log_in(alice, "alice", "adm");
    assert!(contains(&stage.sent()[0].1, b"LOBBY"));
    stage.now += Duration::from_millis(250);
    assert!(stage.session.deadline().is_some_and(|due| due <= stage.now));
    stage.session.tick(stage.now, |_| None);
    let sent = stage.sent();
    let heard = |conn| {
        sent.iter()
            .any(|(to, bytes)| *to == conn && contains(bytes, b"LOBBY"))
    };
    assert!(heard(patient.0));
}
