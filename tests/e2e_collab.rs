//! Collaborative sessions with the original clients.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::rtc::alone;
use support::{Server, cache, free_ports, http, repository, run};

const WALK_MAX: Duration = Duration::from_secs(120);

/// The Python of the environment that `tests/run.sh` has made for a version of the client.
fn client(version: &str) -> PathBuf {
    let python = cache().join(format!("replication-{version}/bin/python"));
    assert!(python.exists(), "tests/run.sh install makes {python:?}");
    python
}

#[track_caller]
fn walk(versions: [&str; 3], accepted: &Value) {
    let _alone = alone();
    let port = free_ports();
    let accepted = accepted.clone();
    let edit = move |all: &mut Value| {
        let mut session = json!({"port": port, "server_password": "pw", "admin_password": "adm"});
        session["versions"].clone_from(&accepted);
        all["collab"] = json!({"interface": "127.0.0.1", "sessions": [session]});
    };
    let server = Server::start_edited(json!({"live": {"source": "push://"}}), edit, |_| {});
    let said = run(
        Command::new("python3")
            .arg(repository().join("tests/clients/replication_walk.py"))
            .arg(port.to_string())
            .args(versions.map(client)),
        WALK_MAX,
    );
    assert!(said.status.success(), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.ends_with("carol is out\n"), "{}", said.stdout);
    let metrics = http::get(server.control, "/metrics").expect("it answers");
    assert!(metrics.text().contains("ringside_collab_"));
}

#[test]
fn three_clients_of_generation_b() {
    // Without a list the first one's version is everybody's.
    walk(["0.9.11", "0.9.11", "0.9.11"], &json!([]));
}

#[test]
fn clients_of_generations_b_and_c_share_a_session() {
    // The package 0.10.3 says that it is 0.10.2.
    let accepted = json!(["0.9.11", "0.10.2"]);
    walk(["0.10.3", "0.9.11", "0.10.3"], &accepted);
}
