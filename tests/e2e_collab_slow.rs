//! Collaborative sessions with clients that stop reading: the others do not notice, memory has its
//! bounds, and whoever stops is let go and told why, or goes on and gets everything.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::proto::pickle::{Limits, Value, decode};
use ringside::proto::replication::{Kind, Wire};
use serde_json::json;
use support::collab::{Channel, Client, change, dict, node, part, pickled};
use support::rtc::alone;
use support::{Server, established_at, free_ports, wait_for};

const MIB: u64 = 1 << 20;
const BIG_BYTES: usize = 100 << 20;
/// What the server may take besides the copy of a node that it stores: buffers of its ring and of its
/// allocator, and what waits for slow clients in small messages.
const SLACK_BYTES: u64 = 48 * MIB;
/// How long something may be on its way while a big node passes, in a test that shares its machine.
const LATENCY_P99_MAX: Duration = Duration::from_secs(2);
const ANSWER_MAX: Duration = Duration::from_secs(30);

const CUBE: &str = "00000000-0000-4000-8000-000000000001";
const BIG: &str = "00000000-0000-4000-8000-0000000000ff";

fn server(port: u16, stall_ms: u64) -> Server {
    let edit = move |all: &mut serde_json::Value| {
        let session = json!({"port": port, "admin_password": "adm", "stall_ms": stall_ms,
            "versions": ["0.9.11", "0.10.2"]});
        all["collab"] = json!({"interface": "127.0.0.1", "sessions": [session]});
    };
    Server::start_edited(json!({"live": {"source": "push://"}}), edit, |_| {})
}

/// The most memory that the server has had.
fn peak_bytes(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id()));
    let status = status.expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("a process has a VmHWM")
        * 1024
}

/// A client that has fetched the scene.
#[track_caller]
fn join(wire: Wire, port: u16, name: &str) -> Client {
    let (mut client, answer) = Client::log_in_by(wire, port, name);
    assert_eq!(answer, "RUNNING");
    client.fetch();
    client
}

/// What one client has heard: the numbers of changes with their times on the way, and big nodes.
#[derive(Default)]
struct Heard {
    numbers: Vec<i64>,
    ages: Vec<Duration>,
    nodes: Vec<Bytes>,
}

impl Heard {
    /// Adds a message. Changes are numbered by the microseconds since `start`.
    fn add(&mut self, start: Instant, message: &[Bytes]) {
        let data = message.last().expect("parts");
        if Kind::read(&message[0]) == Some(Kind::Node) {
            self.nodes.push(data.clone());
            return;
        }
        let number = number(data);
        self.numbers.push(number);
        let sent = Duration::from_micros(number as u64);
        self.ages.push(start.elapsed().saturating_sub(sent));
    }
}

/// The number that a change sets.
fn number(change: &Bytes) -> i64 {
    let value = decode(change, Limits::default()).expect("a pickle");
    let of = |value: &Value, key: &str| value.as_dict().and_then(|dict| dict.of(key)).cloned();
    let values = of(&value, "values_changed").expect("a change");
    let new = of(&values, "root['n']").expect("of n");
    let new = of(&new, "new_value").expect("to something");
    new.as_int().expect("a number")
}

/// Changes the cube 50 times a second until it is told to stop. Gives the numbers that it has sent.
fn work(start: Instant, mut data: Channel, is_over: &Arc<AtomicBool>) -> JoinHandle<Vec<i64>> {
    let is_over = Arc::clone(is_over);
    thread::spawn(move || {
        let mut sent = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let number = start.elapsed().as_micros() as i64;
            data.send(&change(CUBE, number)).expect("the server lives");
            sent.push(number);
            // Big nodes come meanwhile.
            let until = Instant::now() + Duration::from_millis(20);
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                data.receive(left).expect("the server lives");
            }
        }
        sent
    })
}

/// Reads until the work is over and nothing comes any more.
fn listen(start: Instant, mut data: Channel, is_over: &Arc<AtomicBool>) -> JoinHandle<Heard> {
    let is_over = Arc::clone(is_over);
    thread::spawn(move || {
        let mut heard = Heard::default();
        loop {
            let was_over = is_over.load(Ordering::Relaxed);
            match data.receive(Duration::from_secs(1)).expect("it is open") {
                Some(message) => heard.add(start, &message),
                None if was_over => return heard,
                None => {}
            }
        }
    })
}

/// A session in which everybody works, one gets a node of 100 MB half, and stops.
struct Stopped {
    server: Server,
    port: u16,
    start: Instant,
    before: u64,
    big: Bytes,
    is_over: Arc<AtomicBool>,
    worker: JoinHandle<Vec<i64>>,
    readers: Vec<JoinHandle<Heard>>,
    /// Commands of the others, who are there as long as these are.
    others: Vec<Channel>,
}

/// That, and the one who has stopped.
fn stop_in_the_middle(wire: Wire, stall_ms: u64) -> (Stopped, Client) {
    let port = free_ports();
    let server = server(port, stall_ms);
    let (mut alice, _) = Client::log_in(port, "alice");
    alice.initialise(&[node(CUBE, 0, 500)]);
    let mut bob = join(wire, port, "bob");
    let clients = [(Wire::Tcp, "carol"), (Wire::Zmtp, "dave")];
    let clients = clients.map(|(wire, name)| join(wire, port, name));
    let mut erin = join(Wire::Tcp, port, "erin");

    let start = Instant::now();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut others = vec![alice.command];
    let worker = work(start, alice.data, &is_over);
    let mut readers = Vec::new();
    for client in clients {
        readers.push(listen(start, client.data, &is_over));
        others.push(client.command);
    }
    let before = server.resident_bytes();
    let message = node(BIG, 1, BIG_BYTES);
    let big = message.last().expect("parts").clone();
    // Read by nobody until all of it is sent, erin's own connection has changes only.
    others.push(erin.command);
    let sender = thread::spawn(move || {
        erin.data.send(&message).expect("the server lives");
        erin.data
    });
    let mut taken = 0;
    while taken < 4 << 20 {
        let count = bob.data.read(ANSWER_MAX).expect("it is open");
        assert!(count > 0, "the node comes");
        taken += count;
    }
    readers.push(listen(start, sender.join().expect("all is sent"), &is_over));
    let stopped = Stopped {
        server,
        port,
        start,
        before,
        big,
        is_over,
        worker,
        readers,
        others,
    };
    (stopped, bob)
}

impl Stopped {
    /// Checks that nobody else has noticed. Gives the numbers of all changes, and what is left.
    #[track_caller]
    fn end(self) -> (Vec<i64>, Server, Vec<Channel>) {
        thread::sleep(Duration::from_millis(500));
        self.is_over.store(true, Ordering::Relaxed);
        let sent = self.worker.join().expect("it does not panic");
        let mut ages = Vec::new();
        for (place, reader) in self.readers.into_iter().enumerate() {
            let mut heard = reader.join().expect("it does not panic");
            assert_eq!(heard.numbers, sent, "all changes, in their order");
            // Erin is the last of them, and has sent it.
            let wanted = usize::from(place < 2);
            assert_eq!(heard.nodes.len(), wanted);
            assert!(heard.nodes.iter().all(|node| *node == self.big));
            ages.append(&mut heard.ages);
        }
        ages.sort_unstable();
        let quantile = |share: f64| ages[((ages.len() - 1) as f64 * share) as usize];
        let peak = peak_bytes(&self.server) - self.before;
        eprintln!(
            "{} changes, p50 {:?}, p99 {:?}, memory +{} MiB",
            sent.len(),
            quantile(0.5),
            quantile(0.99),
            peak / MIB
        );
        assert!(quantile(0.99) < LATENCY_P99_MAX, "{:?}", quantile(0.99));
        // One copy, whatever the number of those who have not got it.
        assert!(peak > BIG_BYTES as u64, "it is stored: {peak}");
        assert!(peak < BIG_BYTES as u64 + SLACK_BYTES, "{} MiB", peak / MIB);
        (sent, self.server, self.others)
    }
}

fn is_let_go(wire: Wire) {
    let _alone = alone();
    let (stopped, mut bob) = stop_in_the_middle(wire, 2000);
    let server = &stopped.server;
    let began = Instant::now();
    wait_for("the end of patience", ANSWER_MAX, || {
        (server.metric("collab_overfull_total") == 1).then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(8), "2 s and a tick");
    assert_eq!(server.metric("collab_users"), 4);
    assert_eq!(server.metric("collab_queued_bytes"), 0);
    assert!(
        server
            .process
            .log()
            .contains("you do not read what is sent")
    );
    let told = bob.until(Kind::Disconnect, |_| true);
    let reason = told.as_dict().and_then(|told| told.of("reason"));
    let wanted = Some("you do not read what is sent");
    assert_eq!(reason.and_then(Value::as_text), wanted);
    // Its connection is not flushed for ever either: the kernel has nothing of it any more.
    let ports = stopped.port..stopped.port + 3;
    let open = || -> usize { ports.clone().map(|port| established_at(port).len()).sum() };
    wait_for("the connection's end", ANSWER_MAX, || {
        // The others have two each.
        (open() == 8).then_some(())
    });
    let port = stopped.port;
    let (_, server, _others) = stopped.end();
    // The name is free, and whoever comes again finds everything.
    let (mut again, answer) = Client::log_in_by(wire, port, "bob");
    assert_eq!(answer, "RUNNING");
    assert_eq!(again.fetch().len(), 2);
    assert_eq!(server.metric("collab_overfull_total"), 1);
}

#[test]
fn generation_b_that_stops_in_the_middle_of_a_node_is_let_go() {
    is_let_go(Wire::Zmtp);
}

#[test]
fn generation_c_that_stops_in_the_middle_of_a_node_is_let_go() {
    is_let_go(Wire::Tcp);
}

fn goes_on(wire: Wire) {
    let _alone = alone();
    let (stopped, mut bob) = stop_in_the_middle(wire, 20_000);
    thread::sleep(Duration::from_secs(3));
    assert!(stopped.server.metric("collab_queued_bytes") > 0, "it waits");
    let mut heard = Heard::default();
    while heard.nodes.is_empty() {
        let message = bob.data.receive(ANSWER_MAX).expect("it is open");
        heard.add(stopped.start, &message.expect("the rest of the node"));
    }
    assert!(heard.nodes[0] == stopped.big, "whole");
    let rest = listen(stopped.start, bob.data, &stopped.is_over);
    let (sent, server, _others) = stopped.end();
    let rest = rest.join().expect("it does not panic");
    heard.numbers.extend(rest.numbers);
    assert_eq!(heard.numbers, sent, "nothing is lost");
    for (name, count) in [("overfull", 0), ("coalesced", 0), ("lost", 0)] {
        assert_eq!(server.metric(&format!("collab_{name}_total")), count);
    }
}

#[test]
fn generation_b_that_goes_on_gets_everything() {
    goes_on(Wire::Zmtp);
}

#[test]
fn generation_c_that_goes_on_gets_everything() {
    goes_on(Wire::Tcp);
}

#[test]
fn what_waits_for_clients_that_do_not_read_has_a_bound() {
    const CHANGES: usize = 120;
    let _alone = alone();
    let port = free_ports();
    // So patient that the bytes end it.
    let server = server(port, 600_000);
    let (mut alice, _) = Client::log_in(port, "alice");
    alice.initialise(&[node(CUBE, 0, 500)]);
    let stopped = [
        (Wire::Zmtp, "bob"),
        (Wire::Tcp, "carol"),
        (Wire::Tcp, "dave"),
    ];
    let mut stopped = stopped.map(|(wire, name)| join(wire, port, name));
    let mut erin = join(Wire::Zmtp, port, "erin");
    let before = server.resident_bytes();

    // No change makes another one needless.
    let noise = Bytes::from(vec![7; MIB as usize]);
    let reader = thread::spawn(move || {
        let mut count = 0;
        while count < CHANGES {
            let message = erin.data.receive(ANSWER_MAX).expect("it is open");
            assert!(message.expect("all come")[3].len() > MIB as usize);
            count += 1;
        }
        erin
    });
    for number in 0..CHANGES {
        let key = format!("root['new {number}']");
        let added = dict([(key.as_str(), Value::Bytes(noise.clone()))]);
        let message = [
            part(Kind::Commit),
            Bytes::from_static(CUBE.as_bytes()),
            pickled(&Value::List(Vec::new())),
            pickled(&dict([("dictionary_item_added", added)])),
        ];
        alice.data.send(&message).expect("the server lives");
    }
    let _erin = reader.join().expect("whoever reads gets all of it");
    assert_eq!(server.metric("collab_overfull_total"), 3);
    assert_eq!(server.metric("collab_users"), 2);
    for client in &mut stopped {
        let told = client.until(Kind::Disconnect, |_| true);
        let reason = told.as_dict().and_then(|told| told.of("reason"));
        let wanted = Some("you read too slowly");
        assert_eq!(reason.and_then(Value::as_text), wanted);
    }
    let peak = peak_bytes(&server) - before;
    eprintln!("memory +{} MiB", peak / MIB);
    // The changes once, as the node's, and once more while they are folded into it; those who do not read
    // wait for the same bytes.
    assert!(
        peak < 2 * CHANGES as u64 * MIB + SLACK_BYTES,
        "{}",
        peak / MIB
    );
}
