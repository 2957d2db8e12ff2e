//! What a collaborative session refuses: it counts it, says so where the protocol has a way to, and
//! nobody else notices.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "virtual time needs some instant to start from"
)]

mod collab_sim;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use collab_sim::client::{Client, Node, State, commit_parts, dict, hello, node_parts};
use collab_sim::stage::Stage;
use collab_sim::{CUBE, LAMP, options};
use ringside::collab::Statistics;
use ringside::proto::pickle::{Value, encode};
use ringside::proto::replication::{Channel, Kind, Port, Wire, frame};

fn node(number: i64) -> Node {
    Node {
        owner: Bytes::from_static(b"COMMON"),
        dependencies: Vec::new(),
        data: encode(&dict([("n", number.into())])).into(),
    }
}

/// A session with clients that stand side by side.
struct Table {
    stage: Stage,
    clients: Vec<Client>,
    next: u64,
}

impl Table {
    fn new() -> Self {
        Self {
            stage: Stage::new(Instant::now(), options()),
            clients: Vec::new(),
            next: 0,
        }
    }

    /// Somebody comes, and is as far as it gets.
    fn come(&mut self, name: &str, wire: Wire, is_admin: bool) -> usize {
        let number = self.next;
        self.next += 1;
        let client = Client::new(&mut self.stage, number, name.to_owned(), wire, is_admin);
        self.clients.push(client);
        self.settle();
        self.clients.len() - 1
    }

    /// alice, an administrator, has given a cube and a lamp; bob and carol have them.
    fn laid() -> Self {
        let mut table = Self::new();
        let alice = table.come("alice", Wire::Zmtp, true);
        for (number, uuid) in [CUBE, LAMP].iter().enumerate() {
            let uuid = Bytes::from_static(uuid.as_bytes());
            table.clients[alice].scene.insert(uuid, node(number as i64));
        }
        table.clients[alice].init();
        table.settle();
        table.come("bob", Wire::Tcp, false);
        table.come("carol", Wire::Zmtp, false);
        table.wait(Duration::from_secs(5));
        assert!(table.clients.iter().all(|c| c.state == State::Active));
        table
    }

    fn settle(&mut self) {
        loop {
            for client in &mut self.clients {
                for channel in 0..3 {
                    client.flush(&mut self.stage, channel, usize::MAX);
                }
                client.listen(&mut self.stage);
            }
            if self.clients.iter().all(Client::is_quiet) {
                return;
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.stage.now + time;
        while self.stage.now < end {
            self.stage
                .advance(self.stage.now + Duration::from_millis(200));
            self.settle();
        }
    }

    fn statistics(&self) -> Statistics {
        self.stage.session.statistics()
    }

    /// Sends something that is refused, and whose refusal is counted by `count`; all others keep
    /// what they have.
    #[track_caller]
    fn refuses(
        &mut self,
        who: usize,
        channel: Channel,
        parts: &[Bytes],
        count: fn(&Statistics) -> u64,
    ) {
        let before = count(&self.statistics());
        let scenes: Vec<_> = self
            .clients
            .iter()
            .map(|c| (c.scene.clone(), c.users.clone()))
            .collect();
        let nodes = self.statistics().node_bytes;
        self.clients[who].send(channel, parts);
        self.settle();
        let statistics = self.statistics();
        assert_eq!(count(&statistics), before + 1, "{statistics:?}");
        assert_eq!(statistics.node_bytes, nodes);
        let after: Vec<_> = self
            .clients
            .iter()
            .map(|c| (c.scene.clone(), c.users.clone()))
            .collect();
        assert!(after == scenes, "somebody noticed");
    }
}

fn command(kind: Kind, owner: &str, said: &Value) -> [Bytes; 3] {
    raw_command(kind, owner, encode(said).into())
}

fn raw_command(kind: Kind, owner: &str, said: Bytes) -> [Bytes; 3] {
    [
        Bytes::copy_from_slice(&kind.part()),
        Bytes::copy_from_slice(owner.as_bytes()),
        said,
    ]
}

fn right(owner: &str, to: &str) -> [Bytes; 3] {
    let uuids = Value::List(vec![CUBE.into()]);
    command(
        Kind::Right,
        owner,
        &dict([("uuid", uuids), ("owner", to.into())]),
    )
}

#[test]
fn a_second_initialisation_is_rejected() {
    let mut table = Table::new();
    let alice = table.come("alice", Wire::Zmtp, true);
    let bob = table.come("bob", Wire::Tcp, true);
    for (who, uuid) in [(alice, CUBE), (bob, LAMP)] {
        table.clients[who].scene.insert(uuid.into(), node(1));
        table.clients[who].init();
    }
    table.settle();
    table.wait(Duration::from_secs(1));
    // Who was too late has the scene of who was not.
    assert_eq!(table.clients[bob].state, State::Active);
    assert_eq!(table.clients[bob].scene, table.clients[alice].scene);
    assert_eq!(table.statistics().nodes, 1);

    let mut table = Table::laid();
    let asked = dict([
        ("STATE", "INIT".into()),
        ("SIZE", 1.into()),
        ("NODES", Value::List(vec!["x".into()])),
    ]);
    let link = table.clients[0].links[0];
    let parts = command(Kind::ServerSnapshot, "alice", &asked);
    table.clients[0].send(Channel::Command, &parts);
    table.clients[0].flush(&mut table.stage, 0, usize::MAX);
    let answers = table.stage.received(link);
    let rejected = encode(&dict([("STATE", "REJECTED".into())]));
    assert_eq!(answers.last().unwrap()[2], rejected);
    assert_eq!(table.statistics().refused_messages, 1);
}

#[test]
fn a_session_whose_initialiser_vanishes_waits_for_another() {
    let mut table = Table::new();
    let alice = table.come("alice", Wire::Zmtp, true);
    let bob = table.come("bob", Wire::Zmtp, true);
    table.clients[alice].scene.insert(CUBE.into(), node(1));
    table.clients[alice].scene.insert(LAMP.into(), node(2));
    table.clients[alice].init();
    table.clients[alice].flush(&mut table.stage, 0, usize::MAX);
    table.clients[alice].listen(&mut table.stage);
    // Half of the first node.
    table.clients[alice].flush(&mut table.stage, 0, 100);
    for link in table.clients.remove(alice).links {
        table.stage.drop_link(link);
    }
    let bob = bob - 1;
    table.wait(Duration::from_secs(1));
    table.clients[bob].scene.insert(LAMP.into(), node(3));
    table.clients[bob].init();
    table.settle();
    assert_eq!(table.clients[bob].state, State::Active);
    assert_eq!(table.statistics().nodes, 1);
}

#[test]
fn nobody_speaks_for_others() {
    let mut table = Table::laid();
    let rights = |s: &Statistics| s.refused_rights;
    let (bob, carol) = (1, 2);
    table.refuses(bob, Channel::Command, &right("carol", "carol"), rights);
    table.refuses(bob, Channel::Command, &right("bob", "nobody"), rights);
    let said = dict([("color", 1.into())]);
    let parts = command(Kind::UpdateUserMetadata, "carol", &said);
    table.refuses(bob, Channel::Command, &parts, rights);
    let parts = command(Kind::Kick, "bob", &dict([("user", "carol".into())]));
    table.refuses(bob, Channel::Command, &parts, rights);
    assert_eq!(table.clients[carol].state, State::Active);
    let owner = Bytes::from_static(b"nobody");
    let parts = node_parts(&"new".into(), &Node { owner, ..node(5) });
    table.refuses(bob, Channel::Data, &parts, rights);
    // What only an administrator may do, one does.
    let parts = command(Kind::Kick, "alice", &dict([("user", "carol".into())]));
    table.clients[0].send(Channel::Command, &parts);
    table.settle();
    let reason = "kicked by admin".to_owned();
    assert_eq!(table.clients[carol].state, State::Out(reason));
    assert_eq!(table.statistics().users, 2);
}

#[test]
fn messages_at_the_wrong_time_or_about_nothing_are_refused() {
    let mut table = Table::laid();
    let messages = |s: &Statistics| s.refused_messages;
    let bob = 1;
    let set = |uuid: &str| {
        let parts = node_parts(&Bytes::copy_from_slice(uuid.as_bytes()), &node(9));
        let parts = Value::List(parts.map(Value::Bytes).into());
        command(
            Kind::ServerSnapshot,
            "server",
            &dict([("STATE", "SET".into()), ("DATA", parts)]),
        )
    };
    table.refuses(bob, Channel::Command, &set("unknown"), messages);
    table.refuses(bob, Channel::Command, &set(CUBE), messages);
    let delta = dict([("values_changed", dict([]))]);
    let parts = commit_parts(&"unknown".into(), &node(0), &delta);
    table.refuses(bob, Channel::Data, &parts, messages);
    let unknown = Value::List(vec!["unknown".into()]);
    let said = dict([("uuid", unknown), ("owner", "bob".into())]);
    table.refuses(
        bob,
        Channel::Command,
        &command(Kind::Right, "bob", &said),
        messages,
    );
    let parts = command(Kind::Snapshot, "bob", &dict([("STATE", "what".into())]));
    table.refuses(bob, Channel::Command, &parts, messages);
    // Parts that no message has.
    let node = node_parts(&"new".into(), &node(1));
    table.refuses(bob, Channel::Data, &node[..4], messages);
    table.refuses(bob, Channel::Data, &[], messages);
    table.refuses(bob, Channel::Command, &right("bob", "bob")[..2], messages);
    // Only the server says that somebody is let go, or who is there.
    for kind in [Kind::Disconnect, Kind::UpdateClientsState] {
        let parts = command(kind, "server", &dict([("reason", "away with you".into())]));
        table.refuses(bob, Channel::Command, &parts, messages);
    }

    // A SET for what was not announced, while somebody else gives the scene.
    let mut table = Table::new();
    let alice = table.come("alice", Wire::Zmtp, true);
    table.come("bob", Wire::Tcp, false);
    table.clients[alice]
        .scene
        .insert(CUBE.into(), self::node(1));
    table.clients[alice].init();
    table.clients[alice].flush(&mut table.stage, 0, usize::MAX);
    for (who, uuid) in [(alice, LAMP), (1, CUBE)] {
        let before = table.statistics().refused_messages;
        table.clients[who].send(Channel::Command, &set(uuid));
        table.clients[who].flush(&mut table.stage, 0, usize::MAX);
        assert_eq!(table.statistics().refused_messages, before + 1);
    }
    table.settle();
    assert_eq!(table.clients[alice].state, State::Active);
    assert_eq!(table.statistics().nodes, 1);
}

#[test]
fn strangers_may_ask_and_log_in_and_nothing_else() {
    for wire in [Wire::Zmtp, Wire::Tcp] {
        let mut table = Table::laid();
        let sizes = table.statistics().node_bytes;
        let link = table.stage.connect(Port::First, wire);
        table
            .stage
            .input(link, &hello(wire, Channel::Command, b"stranger"));
        let get = dict([("STATE", "GET".into()), ("ID", CUBE.into())]);
        let init = dict([("STATE", "INIT".into()), ("NODES", Value::List(Vec::new()))]);
        let commands = [
            command(Kind::Delete, "client", &CUBE.into()),
            command(Kind::Kick, "alice", &dict([("user", "bob".into())])),
            command(Kind::Snapshot, "alice", &get),
            command(Kind::ServerSnapshot, "alice", &init),
            command(Kind::UpdateUserMetadata, "alice", &dict([])),
            right("alice", "alice"),
        ];
        let count = commands.len();
        for parts in commands {
            say(&mut table.stage, link, wire, &parts);
        }
        let answers = table.stage.received(link);
        assert_eq!(answers.len(), count, "each is told why");
        let reason = encode(&dict([("reason", "you are not logged in".into())]));
        assert!(answers.iter().all(|parts| parts[2] == reason));

        let port = [Port::Second, Port::First][usize::from(wire == Wire::Tcp)];
        let data = table.stage.connect(port, wire);
        table
            .stage
            .input(data, &hello(wire, Channel::Data, b"stranger"));
        let parts = node_parts(&CUBE.into(), &node(66));
        say(&mut table.stage, data, wire, &parts);
        table.settle();
        assert_eq!(table.statistics().refused_strangers, count as u64 + 1);
        assert_eq!(table.statistics().node_bytes, sizes);
        assert!(
            table
                .clients
                .iter()
                .all(|c| c.state == State::Active && c.scene.len() == 2)
        );

        let parts = command(Kind::RequestServerInfo, "guest", &"RQ_INFO".into());
        table.stage.received(link);
        say(&mut table.stage, link, wire, &parts);
        assert_eq!(table.stage.received(link).len(), 1);
    }
}

fn say(stage: &mut Stage, link: ringside::base::ids::ConnId, wire: Wire, parts: &[Bytes]) {
    let parts: Vec<Vec<Bytes>> = parts.iter().map(|part| vec![part.clone()]).collect();
    for piece in frame(wire, &parts) {
        stage.input(link, &piece);
    }
}

#[test]
fn an_identity_belongs_to_one_client() {
    let mut table = Table::laid();
    let identity = [0_u64.to_be_bytes(), [7; 8]].concat();
    let far = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
    // Somebody else who says that it is alice.
    let link = table.stage.connect(Port::First, Wire::Zmtp);
    table
        .stage
        .input_from(far, link, &hello(Wire::Zmtp, Channel::Command, &identity));
    assert!(table.stage.links[&link].is_closed);
    // The same from alice's computer by the other wire.
    let link = table.stage.connect(Port::First, Wire::Tcp);
    table
        .stage
        .input(link, &hello(Wire::Tcp, Channel::Command, &identity));
    assert!(table.stage.links[&link].is_closed);
    assert_eq!(table.statistics().refused_connections, 2);
    table.wait(Duration::from_secs(2));
    assert_eq!(table.statistics().users, 3);
    assert!(table.clients[0].is_connected(&table.stage));

    // A name belongs to one user, until it has left.
    let other = table.come("bob", Wire::Tcp, false);
    let taken = State::Out("FAILED: client already logged in".to_owned());
    assert_eq!(table.clients[other].state, taken);
    for link in table.clients[1].links.clone() {
        table.stage.drop_link(link);
    }
    table.clients.truncate(3);
    table.clients.remove(1);
    table.wait(Duration::from_secs(1));
    let again = table.come("bob", Wire::Zmtp, false);
    assert_eq!(table.clients[again].state, State::Active);
}

#[test]
fn messages_have_bounds() {
    let big = Bytes::from(vec![0; 65 * 1024]);
    let many = vec![Bytes::from_static(b"x"); 17];
    for wire in [Wire::Zmtp, Wire::Tcp] {
        let mut table = Table::laid();
        // Before a login, little is taken.
        for parts in [vec![big.clone()], many[..9].to_vec()] {
            let link = table.stage.connect(Port::First, wire);
            table
                .stage
                .input(link, &hello(wire, Channel::Command, b"stranger"));
            assert!(!table.stage.links[&link].is_closed);
            say(&mut table.stage, link, wire, &parts);
            assert!(table.stage.links[&link].is_closed);
        }
        assert_eq!(table.statistics().refused_connections, 2);
        // A user's connection is closed for what no message of the protocol has; it is gone then.
        let who = usize::from(wire == Wire::Tcp);
        table.clients[who].send(Channel::Data, &many);
        table.clients[who].flush(&mut table.stage, Channel::Data as usize, usize::MAX);
        assert!(!table.clients[who].is_connected(&table.stage));
        table
            .stage
            .advance(table.stage.now + Duration::from_secs(1));
        assert_eq!(table.statistics().users, 2);
    }
}

#[test]
fn a_server_that_was_held_up_takes_nobody_for_lost() {
    let mut table = Table::laid();
    // It asks nobody for a sign of life meanwhile, and so hears none.
    table.stage.now += Duration::from_secs(20);
    table.stage.advance(table.stage.now);
    table.settle();
    table.wait(Duration::from_secs(2));
    let statistics = table.statistics();
    assert_eq!((statistics.users, statistics.lost), (3, 0));
    assert!(table.clients.iter().all(|c| c.state == State::Active));
    // Somebody who does not answer is lost as before.
    for channel in 0..3 {
        table
            .stage
            .links
            .get_mut(&table.clients[1].links[channel])
            .unwrap()
            .is_reading = false;
    }
    table.wait(Duration::from_secs(5));
    let statistics = table.statistics();
    assert_eq!((statistics.users, statistics.lost), (2, 1));
}

/// Pickles that no client may be sent.
fn bombs() -> Vec<Bytes> {
    let call = b"\x80\x04cos\nsystem\n(X\x04\0\0\0truetR.".to_vec();
    let deep = [
        b"\x80\x04".to_vec(),
        vec![b']'; 5000],
        vec![b'a'; 4999],
        b".".to_vec(),
    ]
    .concat();
    // A list that holds the one before twice, 40 times over.
    let mut wide = b"\x80\x04]\x94".to_vec();
    for number in 0..40 {
        wide.extend(*b"]\x94(");
        wide.extend([b'h', number, b'h', number]);
        wide.push(b'e');
    }
    wide.push(b'.');
    let mut memo = b"\x80\x04".to_vec();
    memo.extend(b"Nr\xff\xff\xff\x7f.");
    [call, deep, wide, memo, b"\x80\x04(".to_vec(), Vec::new()]
        .into_iter()
        .map(Bytes::from)
        .collect()
}

/// A pickle that names one text again and again. As a value it takes half a gigabyte, and one in a
/// login was made before anybody had shown a password.
#[test]
fn commands_are_no_bigger_as_values_than_as_pickles() {
    let mut table = Table::laid();
    let text = [&b"X\0\x78\0\0"[..], &[b'a'; 0x7800], &[0x94]].concat();
    let bomb = |count| {
        let names = b"h\0".repeat(count);
        Bytes::from([&b"\x80\x04]("[..], &text, &names, b"e."].concat())
    };
    let pickles = |s: &Statistics| s.refused_pickles;
    let bob = 1;
    for kind in [Kind::Auth, Kind::Right, Kind::UpdateUserMetadata] {
        let parts = raw_command(kind, "bob", bomb(1000));
        table.refuses(bob, Channel::Command, &parts, pickles);
    }
    let mut parts = node_parts(&CUBE.into(), &node(1));
    parts[3] = bomb(1000);
    table.refuses(bob, Channel::Data, &parts, pickles);
    parts[3] = bomb(10);
    table.clients[bob].send(Channel::Data, &parts);
    table.settle();
    assert_eq!(pickles(&table.statistics()), 4);
}

/// What depends on a node that goes is written anew, shorter or longer than it was. The bytes of it
/// were counted as they had been and taken away as they were then, which ended below nothing.
#[test]
fn bytes_are_counted_as_they_are_when_a_node_goes() {
    let mut table = Table::laid();
    let bob = 1;
    let text = [&b"X\0\x10\0\0"[..], &[b'a'; 0x1000], &[0x94]].concat();
    let lamp = [&b"\x8c\x24"[..], LAMP.as_bytes()].concat();
    let names = b"h\0".repeat(12);
    let long: Bytes = [&b"\x80\x04]("[..], &text, &names, &lamp, b"e."]
        .concat()
        .into();
    let commit = |table: &mut Table| {
        let new = dict([("new_value", 2.into())]);
        let delta = dict([("values_changed", dict([("root['n']", new)]))]);
        let mut parts = commit_parts(&CUBE.into(), &node(1), &delta);
        parts[2] = long.clone();
        table.clients[bob].send(Channel::Data, &parts);
        table.settle();
        table.statistics()
    };
    commit(&mut table);
    let before = commit(&mut table);
    let gone = command(Kind::Delete, "bob", &LAMP.into());
    table.clients[bob].send(Channel::Command, &gone);
    table.settle();
    let grown = table.statistics();
    assert_eq!((before.folded, grown.nodes), (0, 1));
    assert!(grown.node_bytes > 2 * before.node_bytes, "{grown:?}");
    let folded = (0..64).map(|_| commit(&mut table)).find(|s| s.folded > 0);
    let folded = folded.expect("a long chain is folded");
    assert!(folded.node_bytes < 10_000, "{folded:?}");
}

/// Everybody gets a table with what all users say of themselves, each second. One who said a lot,
/// message after message, made it so big that nobody could take it, and all were let go.
#[test]
fn what_users_say_of_themselves_does_not_add_up() {
    let mut table = Table::laid();
    let (bob, carol) = (1, 2);
    let bytes = Value::Bytes(vec![7; (1 << 20) - 1000].into());
    for n in 0..80 {
        let said = dict([(format!("key {n}").as_str(), bytes.clone())]);
        let parts = command(Kind::UpdateUserMetadata, "bob", &said);
        table.clients[bob].send(Channel::Command, &parts);
        table.settle();
    }
    table.wait(Duration::from_secs(3));
    for client in &table.clients {
        assert_eq!(client.state, State::Active, "{}", client.name);
    }
    assert_eq!(table.statistics().overfull, 0);
    // Who says something else of the same kind may do so all day long.
    for n in 0..80 {
        let said = dict([("key 0", n.into())]);
        let parts = command(Kind::UpdateUserMetadata, "bob", &said);
        table.clients[bob].send(Channel::Command, &parts);
        table.settle();
    }
    let seen = &table.clients[carol].users["bob"];
    assert_eq!(seen.of("key 0"), Some(&79.into()));
    // A key that stands twice in a pickle is one.
    let half = encode(&Value::Bytes(vec![7; 400_000].into()));
    let half = &half[2..half.len() - 1];
    for small in [half, b"N"] {
        let key = b"\x8c\x01k";
        let body = [&b"\x80\x04}("[..], key, half, key, small, b"u."].concat();
        let parts = raw_command(Kind::UpdateUserMetadata, "bob", body.into());
        table.clients[bob].send(Channel::Command, &parts);
        table.settle();
    }
    let seen = &table.clients[carol].users["bob"];
    assert_eq!(seen.of("k"), Some(&Value::None));
}

#[test]
fn pickles_that_could_harm_a_client_go_to_none() {
    let pickles = |s: &Statistics| s.refused_pickles;
    for (number, bomb) in bombs().into_iter().enumerate() {
        eprintln!("bomb {number}");
        let mut table = Table::laid();
        let bob = 1;
        for kind in [
            Kind::UpdateUserMetadata,
            Kind::Right,
            Kind::Delete,
            Kind::Snapshot,
        ] {
            let parts = raw_command(kind, "bob", bomb.clone());
            table.refuses(bob, Channel::Command, &parts, pickles);
        }
        for place in [3, 4] {
            let mut parts = node_parts(&CUBE.into(), &node(1));
            parts[place] = bomb.clone();
            table.refuses(bob, Channel::Data, &parts, pickles);
        }
        for place in [2, 3] {
            let delta = dict([("values_changed", dict([]))]);
            let mut parts = commit_parts(&CUBE.into(), &node(1), &delta);
            parts[place] = bomb.clone();
            table.refuses(bob, Channel::Data, &parts, pickles);
        }
        // Before a login as well.
        let link = table.stage.connect(Port::First, Wire::Tcp);
        table
            .stage
            .input(link, &hello(Wire::Tcp, Channel::Command, b"stranger"));
        let before = pickles(&table.statistics());
        say(
            &mut table.stage,
            link,
            Wire::Tcp,
            &raw_command(Kind::Auth, "eve", bomb.clone()),
        );
        assert_eq!(pickles(&table.statistics()), before + 1);

        // Inside the scene that somebody gives: whoever does that is let go, and another may.
        let mut table = Table::new();
        let eve = table.come("eve", Wire::Zmtp, true);
        let data = bomb.clone();
        table.clients[eve]
            .scene
            .insert(CUBE.into(), Node { data, ..node(1) });
        table.clients[eve].init();
        table.settle();
        assert!(
            matches!(table.clients[eve].state, State::Out(_)),
            "{:?}",
            table.clients[eve].state
        );
        assert_eq!(table.statistics().nodes, 0);
        assert_eq!(pickles(&table.statistics()), 1);
    }
}
