//! Collaborative sessions that outlive their server: files, logs, `kill -9` under load, and disks
//! that do not take what they are given.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]
#![allow(unsafe_code, reason = "limits of a process are set through raw calls")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ringside::proto::pickle::{Limits, Value, decode};
use ringside::proto::replication::{Generation, Kind, Wire};
use serde_json::json;
use support::collab::{Client, change, n, node};
use support::rtc::alone;
use support::{Server, free_port, free_ports, http, run, scratch, wait_for};

const NODES: usize = 20;

fn uuid(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// A folder of its own.
fn folder(name: &str) -> PathBuf {
    let path = scratch().join(format!("keep-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("the target folder is writable");
    path
}

fn server(port: u16, settings: &serde_json::Value, prepare: impl FnOnce(&mut Command)) -> Server {
    let versions = ["0.1.26", "0.10.2"];
    let mut session = json!({"port": port, "admin_password": "adm", "versions": versions});
    for (key, value) in settings.as_object().expect("an object") {
        session[key] = value.clone();
    }
    let edit = move |all: &mut serde_json::Value| {
        all["collab"] = json!({"interface": "127.0.0.1", "sessions": [session]});
    };
    // The kernel takes a ring of a process that was killed down after the process, listeners and all.
    wait_for(
        "the ports of a server before",
        Duration::from_secs(20),
        || {
            let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
            (port..port + 4).all(is_free).then_some(())
        },
    );
    Server::start_edited(json!({"live": {"source": "push://"}}), edit, prepare)
}

/// The value of a session's metric.
fn metric(server: &Server, name: &str) -> Option<u64> {
    let text = http::get(server.control, "/metrics").ok()?.text();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("ringside_{name}{{")))?;
    line.rsplit(' ')
        .next()?
        .parse::<f64>()
        .ok()
        .map(|value| value as u64)
}

fn scene() -> Vec<Vec<bytes::Bytes>> {
    (0..NODES).map(|at| node(&uuid(at), 0, 500)).collect()
}

/// What somebody has heard from the server, and when: the newest number of each node, and nodes that
/// are gone.
#[derive(Debug, Default)]
struct Heard {
    numbers: BTreeMap<String, Vec<(Instant, i64)>>,
    gone: Vec<(Instant, String)>,
}

/// Works on a scene until the server dies. What a second user heard of it, and the time of death.
fn work_until_killed(
    wire: Wire,
    port: u16,
    server: &mut Server,
    time: Duration,
) -> (Heard, Instant) {
    let (mut alice, _) = Client::log_in_by(wire, port, "alice");
    let (mut bob, _) = Client::log_in_by(wire, port, "bob");
    alice.initialise(&scene());
    bob.fetch_offered();
    let heard = Arc::new(Mutex::new(Heard::default()));
    let is_over = Arc::new(AtomicBool::new(false));

    let hears = Arc::clone(&heard);
    let Client {
        command: mut commands,
        data: mut received,
        ..
    } = bob;
    let ear = thread::spawn(move || {
        // Ends with the connection.
        while let Ok(message) = received.receive(Duration::from_secs(30)) {
            let message = message.expect("something comes all the time");
            let uuid = String::from_utf8_lossy(&message[1]).into_owned();
            let body = decode(message.last().expect("parts"), Limits::default());
            let body = body.expect("a plain pickle");
            let changed = body.as_dict().and_then(|body| body.of("values_changed"));
            let number = match changed.and_then(Value::as_dict) {
                Some(values) => {
                    let new = values.of("root['n']").and_then(Value::as_dict);
                    new.and_then(|new| new.of("new_value"))
                        .and_then(Value::as_int)
                        .expect("a number")
                }
                None => n(&body),
            };
            let mut heard = hears.lock().expect("nobody panics");
            let numbers = heard.numbers.entry(uuid).or_default();
            numbers.push((Instant::now(), number));
        }
    });
    let hears = Arc::clone(&heard);
    let watch = thread::spawn(move || {
        while let Ok(Some(message)) = commands.receive(Duration::from_secs(30)) {
            if Kind::read(&message[0]) == Some(Kind::Delete) {
                let uuid = decode(&message[2], Limits::default()).expect("a pickle");
                let uuid = uuid.as_text().expect("a text").to_owned();
                let mut heard = hears.lock().expect("nobody panics");
                heard.gone.push((Instant::now(), uuid));
            }
        }
    });
    let over = Arc::clone(&is_over);
    let worker = thread::spawn(move || {
        let mut number = 0;
        while !over.load(Ordering::Relaxed) {
            number += 1;
            let at = number as usize % NODES;
            let message = match number % 50 {
                // Now and then a whole node, a new node, and the end of one.
                7 => node(&uuid(at), number, 500),
                13 => node(&uuid(1000 + number as usize), number, 5000),
                29 => {
                    // The new node of the round before.
                    let old = uuid(1000 + (number - 50 - 16).max(0) as usize);
                    alice.command(Kind::Delete, &Value::Text(old));
                    continue;
                }
                _ if wire.generation() == Generation::A => node(&uuid(at), number, 500),
                _ => change(&uuid(at), number),
            };
            if alice.send(&message).is_err() {
                return; // The server is dead.
            }
            if number % 20 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
        }
    });
    thread::sleep(time);
    server.process.kill();
    let died = Instant::now();
    is_over.store(true, Ordering::Relaxed);
    for thread in [ear, watch] {
        thread.join().expect("it does not panic");
    }
    // A command that is sent to a dead server panics in the worker, which has done its work.
    let _ = worker.join();
    let heard = std::mem::take(&mut *heard.lock().expect("nobody panics"));
    (heard, died)
}

/// Checks that a scene has at least what was heard until a time.
#[track_caller]
fn has_all(scene: &BTreeMap<String, Value>, heard: &Heard, until: Instant) {
    let gone = |uuid: &String| heard.gone.iter().any(|(_, gone)| gone == uuid);
    let (mut checked, mut newest) = (0, 0);
    for (uuid, numbers) in &heard.numbers {
        let before = numbers.iter().rfind(|(when, _)| *when <= until);
        let Some((_, number)) = before.filter(|_| !gone(uuid)) else {
            continue;
        };
        // Alice may have removed it without anybody hearing of it.
        let Some(data) = scene.get(uuid) else {
            assert!(
                uuid.as_str() >= "00000000-0000-4000-8000-000000001000",
                "{uuid}"
            );
            continue;
        };
        assert!(n(data) >= *number, "{uuid}: {} < {number}", n(data));
        checked += 1;
        newest = newest.max(*number);
    }
    for (_, uuid) in heard.gone.iter().filter(|(when, _)| *when <= until) {
        assert!(!scene.contains_key(uuid), "{uuid} is back");
    }
    eprintln!(
        "{checked} nodes up to number {newest}, {} gone, {} in the scene",
        heard.gone.len(),
        scene.len()
    );
    assert!(checked >= NODES, "{checked}");
    assert!(heard.gone.len() > 3, "{}", heard.gone.len());
}

fn killed_with_a_log(wire: Wire, log: &str) {
    let _alone = alone();
    let folder = folder(&format!("{log}-{wire:?}"));
    let file = folder.join("scene.db");
    let settings = json!({"autosave": file, "autosave_s": 3600, "log": log});
    let port = free_ports();
    let mut first = server(port, &settings, |_| {});
    let (heard, died) = work_until_killed(wire, port, &mut first, Duration::from_secs(2));
    drop(first);
    assert!(!file.exists(), "all of it is in the log");
    let second = server(port, &settings, |_| {});
    let (mut carol, answer) = Client::log_in_by(wire, port, "carol");
    assert_eq!(answer, "RUNNING");
    let scene = carol.fetch();
    has_all(&scene, &heard, died);
    // Once more, with a log that goes on from a log.
    let message = node(&uuid(5000), 1, 10);
    let (mut dave, _) = Client::log_in_by(wire, port, "dave");
    dave.fetch();
    carol.send(&message).expect("the server lives");
    let came = dave.data.receive(Duration::from_secs(10)).expect("open");
    assert_eq!(came.expect("it comes")[1], message[1]);
    let mut second = second;
    second.process.kill();
    drop(second);
    let _third = server(port, &settings, |_| {});
    is_of_one_generation(wire, port);
    let (mut carol, _) = Client::log_in_by(wire, port, "carol");
    let again = carol.fetch();
    assert!(again.contains_key(&uuid(5000)));
    assert_eq!(again.len(), scene.len() + 1);
    assert!(
        scene
            .iter()
            .all(|(uuid, data)| again.get(uuid) == Some(data))
    );
}

/// Checks that the scene alone, with nobody there, says of which generation a session is.
#[track_caller]
fn is_of_one_generation(wire: Wire, port: u16) {
    let (other, reason) = match wire.generation() {
        Generation::A => (Wire::Tcp, "this session is of 0.1"),
        Generation::Later => (Wire::FourPorts, "this session is of 0.9"),
    };
    let (_, answer) = Client::log_in_by(other, port, "eve");
    assert!(answer.contains(reason), "{answer}");
}

#[test]
fn nothing_that_was_heard_is_lost_with_a_log() {
    killed_with_a_log(Wire::Tcp, "written");
}

#[test]
fn nothing_that_was_heard_is_lost_with_a_log_on_the_disk() {
    killed_with_a_log(Wire::Tcp, "synced");
}

#[test]
fn nothing_that_generation_a_has_heard_is_lost_with_a_log() {
    killed_with_a_log(Wire::FourPorts, "written");
}

#[test]
fn nothing_that_generation_a_has_heard_is_lost_with_a_log_on_the_disk() {
    killed_with_a_log(Wire::FourPorts, "synced");
}

#[test]
fn a_crash_loses_no_more_than_the_interval() {
    killed_with_a_file(Wire::Tcp);
}

#[test]
fn a_crash_loses_generation_a_no_more_than_the_interval() {
    killed_with_a_file(Wire::FourPorts);
}

fn killed_with_a_file(wire: Wire) {
    let _alone = alone();
    let folder = folder(&format!("interval-{wire:?}"));
    let file = folder.join("scene.db");
    let settings = json!({"autosave": file, "autosave_s": 1, "autosave_keep": 2});
    let port = free_ports();
    let mut first = server(port, &settings, |_| {});
    let (heard, died) = work_until_killed(wire, port, &mut first, Duration::from_millis(4700));
    drop(first);
    let names = |suffix: &str| -> Vec<String> {
        let entries = fs::read_dir(&folder).expect("it is there").flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("scene") && name.ends_with(suffix))
            .collect()
    };
    assert_eq!(
        names(".db").len(),
        3,
        "the file and two backups: {:?}",
        names("")
    );
    let _second = server(port, &settings, |_| {});
    is_of_one_generation(wire, port);
    let (mut carol, answer) = Client::log_in_by(wire, port, "carol");
    assert_eq!(answer, "RUNNING");
    // The machine may be busy with other things for a moment.
    let until = died - Duration::from_millis(1500);
    has_all(&carol.fetch(), &heard, until);
}

#[test]
fn the_original_reads_the_file_and_the_server_the_originals() {
    let _alone = alone();
    let folder = folder("original");
    let file = folder.join("scene.db");
    let settings = json!({"autosave": file});
    let first_port = free_ports();
    let mut first = server(first_port, &settings, |_| {});
    let (mut alice, answer) = Client::log_in(first_port, "alice");
    assert_eq!(answer, "LOBBY");
    alice.initialise(&scene());
    for number in 1..=30 {
        let message = change(&uuid(number as usize % 3), number);
        alice.data.send(&message).expect("the server lives");
    }
    wait_for("the changes", Duration::from_secs(10), || {
        (metric(&first, "collab_received_total")? >= 30 + NODES as u64).then_some(())
    });
    first.process.signal(libc::SIGTERM);
    drop(alice);
    assert!(first.process.wait(Duration::from_secs(20)).success());
    let python = support::cache().join("replication-0.9.11/bin/python");
    let said = run(
        Command::new(python)
            .arg(support::repository().join("tests/clients/session_file_peer.py"))
            .args([&file, &folder]),
        Duration::from_secs(60),
    )
    .success();
    let said: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    let nodes = said["nodes"].as_object().expect("an object");
    assert_eq!(nodes.len(), NODES);
    assert_eq!(nodes[&uuid(0)], json!(["COMMON", 30]));
    assert_eq!(nodes[&uuid(1)], json!(["COMMON", 28]));
    assert_eq!(nodes[&uuid(9)], json!(["COMMON", 0]));

    let second_port = free_ports();
    let _second = server(second_port, &json!({"preload": said["file"]}), |_| {});
    let (mut bob, answer) = Client::log_in(second_port, "bob");
    assert_eq!(answer, "RUNNING");
    let scene = bob.fetch();
    assert_eq!(scene.len(), NODES);
    assert_eq!(n(&scene[&uuid(2)]), 29);
}

/// Files of a process may not grow beyond so many bytes: what a full disk answers, for one process.
fn limit_files(command: &mut Command, bytes: u64) {
    // SAFETY: both calls are async-signal-safe and touch nothing of the parent.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit {
                rlim_cur: bytes,
                rlim_max: libc::RLIM_INFINITY,
            };
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
            Ok(())
        });
    }
}

fn lift_limit(process: u32) {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the structure outlives the call, and nothing is written back.
    let done = unsafe {
        libc::prlimit(
            process as i32,
            libc::RLIMIT_FSIZE,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(done, 0);
}

#[test]
fn a_full_disk_ends_nothing_and_is_made_good() {
    let _alone = alone();
    let folder = folder("full");
    let file = folder.join("scene.db");
    let settings = json!({"autosave": file, "autosave_s": 1, "log": "written"});
    let port = free_ports();
    let mut first = server(port, &settings, |command| limit_files(command, 4 << 20));
    let (mut alice, _) = Client::log_in(port, "alice");
    let (mut bob, _) = Client::log_in(port, "bob");
    alice.initialise(&scene());
    bob.fetch_offered();
    let big = node(&uuid(500), 1, 8 << 20);
    alice.data.send(&big).expect("the server lives");
    let came = bob.data.receive(Duration::from_secs(20)).expect("open");
    assert_eq!(came.expect("it comes nevertheless")[1], big[1]);
    wait_for("both failures", Duration::from_secs(10), || {
        let failing = metric(&first, "collab_log_failing")? == 1;
        (failing && metric(&first, "collab_save_failures_total")? > 0).then_some(())
    });
    assert!(first.process.log().contains("cannot be saved; it goes on"));
    // The session goes on as if nothing was.
    let small = change(&uuid(0), 77);
    alice.data.send(&small).expect("the server lives");
    assert!(
        bob.data
            .receive(Duration::from_secs(10))
            .expect("open")
            .is_some()
    );
    lift_limit(first.process.id());
    wait_for("the next save", Duration::from_secs(30), || {
        (metric(&first, "collab_log_failing")? == 0).then_some(())
    });
    let late = change(&uuid(1), 78);
    alice.data.send(&late).expect("the server lives");
    assert!(
        bob.data
            .receive(Duration::from_secs(10))
            .expect("open")
            .is_some()
    );
    first.process.kill();
    drop(first);
    let _second = server(port, &settings, |_| {});
    let (mut carol, _) = Client::log_in(port, "carol");
    let scene = carol.fetch();
    assert_eq!(scene.len(), NODES + 1);
    assert_eq!((n(&scene[&uuid(0)]), n(&scene[&uuid(1)])), (77, 78));
}

#[test]
fn a_folder_that_is_none_ends_nothing() {
    let _alone = alone();
    let port = free_ports();
    let settings = json!({"autosave": "/dev/null/scene.db", "autosave_s": 1, "log": "synced"});
    let first = server(port, &settings, |_| {});
    let (mut alice, _) = Client::log_in(port, "alice");
    let (mut bob, _) = Client::log_in(port, "bob");
    alice.initialise(&scene());
    bob.fetch_offered();
    alice
        .data
        .send(&change(&uuid(0), 1))
        .expect("the server lives");
    assert!(
        bob.data
            .receive(Duration::from_secs(10))
            .expect("open")
            .is_some()
    );
    wait_for("the failures", Duration::from_secs(10), || {
        let failing = metric(&first, "collab_log_failing")? == 1;
        (failing && metric(&first, "collab_save_failures_total")? > 0).then_some(())
    });
    assert_eq!(metric(&first, "collab_unsaved"), Some(1));
}

#[test]
fn two_servers_do_not_share_a_file() {
    let _alone = alone();
    let file = folder("shared").join("scene.db");
    let settings = json!({"autosave": file});
    let first = server(free_ports(), &settings, |_| {});
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs::read(&first.config).expect("it is there")).expect("JSON");
    config["config"]["controller"]["port"] = free_port().into();
    config["config"]["protocols"] = json!([]);
    config["webrtc"]["port"] = free_port().into();
    config["collab"]["sessions"][0]["port"] = free_ports().into();
    let path = scratch().join("keep-second.json");
    fs::write(&path, config.to_string()).expect("the target folder is writable");
    let said = run(
        Command::new(env!("CARGO_BIN_EXE_ringside"))
            .args(["serve", "-c"])
            .arg(&path),
        Duration::from_secs(20),
    );
    assert!(!said.status.success());
    assert!(
        said.stderr.contains("kept by another server"),
        "{}",
        said.stderr
    );
    assert!(Path::new(&file).with_extension("db.lock").exists());
}

/// One request about sessions: the status, and the answer where it is JSON.
fn ask(server: &Server, method: &str, path: &str) -> (u16, serde_json::Value) {
    let answer = http::request(server.control, method, path, &[]).expect("it answers");
    let value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status, value)
}

#[test]
fn an_operator_sees_saves_kicks_and_changes_passwords() {
    let _alone = alone();
    let file = folder("operator").join("scene.db");
    let settings = json!({"autosave": file, "autosave_s": 3600});
    let port = free_ports();
    let server = server(port, &settings, |_| {});
    let save = format!("/collab/save?port={port}");
    let (mut alice, _) = Client::log_in(port, "alice");
    let (mut bob, _) = Client::log_in(port, "bob");
    assert_eq!(ask(&server, "POST", &save).0, 500, "there is no scene");
    alice.initialise(&scene());
    bob.fetch_offered();
    let locked = Value::List(vec![Value::Text(uuid(3))]);
    let lock = support::collab::dict([("uuid", locked), ("owner", "bob".into())]);
    bob.command(Kind::Right, &lock);
    bob.until(Kind::Right, |_| true);

    let (status, list) = ask(&server, "GET", "/collab");
    assert_eq!(status, 200);
    let sessions = list["sessions"].as_array().expect("a list");
    assert_eq!(sessions.len(), 1);
    let expected = json!({"port": port, "state": "active", "users": 2, "nodes": NODES, "locks": 1});
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&sessions[0][name], value, "{name}");
    }
    assert_eq!(sessions[0]["kept"]["unsaved"], true);
    let (_, shown) = ask(&server, "GET", &format!("/collab?port={port}"));
    assert_eq!(shown["members"][1]["name"], "bob");
    assert_eq!(shown["members"][1]["transport"], "tcp");
    assert_eq!(shown["locked"], json!([{"uuid": uuid(3), "owner": "bob"}]));
    assert_eq!(shown["largest"].as_array().map(Vec::len), Some(NODES));
    assert!(shown["largest"][0]["bytes"].as_u64().expect("a number") > 500);

    assert_eq!(ask(&server, "GET", &save).0, 405);
    let (status, saved) = ask(&server, "POST", &save);
    assert_eq!((status, &saved["file"]), (200, &json!(file)));
    assert!(file.exists());
    assert_eq!(metric(&server, "collab_saves_total"), Some(1));
    assert_eq!(ask(&server, "POST", "/collab/save?port=1").0, 404);

    let kick = format!("/collab/kick?port={port}&user=bob&reason=tea");
    assert_eq!(ask(&server, "POST", &kick).0, 200);
    let told = bob.until(Kind::Disconnect, |_| true);
    let reason = told.as_dict().and_then(|told| told.of("reason"));
    assert_eq!(reason.and_then(Value::as_text), Some("tea"));
    assert_eq!(ask(&server, "POST", &kick).0, 404);
    assert_eq!(ask(&server, "GET", "/collab?port=x").0, 400);

    let command = json!({"collab_password": {"port": port, "admin": "new"}}).to_string();
    let answer = http::send(
        server.control,
        "POST",
        "/api2",
        &[("Content-Type", "application/json")],
        command.as_bytes(),
    );
    let answer = answer.expect("it answers").text();
    assert!(!answer.contains("errors"), "{answer}");
    wait_for("the new password", Duration::from_secs(10), || {
        let (_, answer) = Client::log_in(port, "carol");
        answer.contains("wrong admin password").then_some(())
    });
}
