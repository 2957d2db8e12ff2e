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
use support::tls::Files;
use support::{Background, Server, cache, free_ports, http, repository, run, wait_for};

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
    let server = server(port, accepted, &json!({}));
    walk_at(port, versions);
    let metrics = http::get(server.control, "/metrics").expect("it answers");
    assert!(metrics.text().contains("ringside_collab_"));
}

/// A server with a session at these ports.
fn server(port: u16, accepted: &Value, more: &Value) -> Server {
    let (accepted, more) = (accepted.clone(), more.clone());
    let edit = move |all: &mut Value| {
        let mut session = json!({"port": port, "server_password": "pw", "admin_password": "adm"});
        session["versions"].clone_from(&accepted);
        for (key, value) in more.as_object().expect("an object") {
            session[key].clone_from(value);
        }
        all["collab"] = json!({"interface": "127.0.0.1", "sessions": [session]});
    };
    Server::start_edited(json!({"live": {"source": "push://"}}), edit, |_| {})
}

/// The walk at ports of this computer.
#[track_caller]
fn walk_at(port: u16, versions: [&str; 3]) {
    let said = run(
        Command::new("python3")
            .arg(repository().join("tests/clients/replication_walk.py"))
            .arg(port.to_string())
            .args(versions.map(client)),
        WALK_MAX,
    );
    assert!(said.status.success(), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.ends_with("carol is out\n"), "{}", said.stdout);
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

/// A server with a TLS port, and its certificate.
fn secure_server() -> (Server, u16, Files) {
    let files = Files::new(&["localhost"]);
    let secure = support::free_port();
    let more = json!({"tls_port": secure, "cert": files.cert, "key": files.key});
    let server = server(free_ports(), &json!(["0.9.11", "0.10.2"]), &more);
    (server, secure, files)
}

/// A tunnel to a TLS port, and the first of its own ports.
fn tunnel(secure: u16, arguments: &[&str]) -> (Background, u16) {
    let port = free_ports();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringside"));
    command
        .args(["collab-tunnel", &format!("localhost:{secure}"), "--port"])
        .arg(port.to_string())
        .args(arguments);
    (Background::start("tunnel", &mut command), port)
}

fn fingerprint(files: &Files) -> String {
    let told = run(
        Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(&files.cert),
        Duration::from_secs(10),
    );
    let (_, digits) = told.stdout.trim().split_once('=').expect("NAME=DIGITS");
    digits.to_owned()
}

#[track_caller]
fn walk_through(secure: u16, arguments: &[&str], versions: [&str; 3]) {
    let (tunnel, port) = tunnel(secure, arguments);
    wait_for("the tunnel", Duration::from_secs(10), || {
        tunnel.log().contains("the tunnel is open").then_some(())
    });
    walk_at(port, versions);
}

#[test]
fn clients_of_generation_c_go_through_a_tunnel_to_a_pinned_certificate() {
    let _alone = alone();
    let (_server, secure, files) = secure_server();
    let digits = fingerprint(&files);
    walk_through(secure, &["--fingerprint", &digits], ["0.10.3"; 3]);
}

#[test]
fn clients_of_generation_b_go_through_a_tunnel_to_a_signed_certificate() {
    let _alone = alone();
    let (_server, secure, files) = secure_server();
    let authority = files.cert.to_str().expect("a name");
    walk_through(secure, &["--ca", authority], ["0.9.11", "0.10.3", "0.9.11"]);
}

#[test]
fn a_tunnel_goes_to_no_other_server() {
    let _alone = alone();
    let (_server, secure, files) = secure_server();
    let shown = fingerprint(&files);
    let other = match shown.strip_prefix("00") {
        Some(rest) => format!("11{rest}"),
        None => format!("00{}", &shown[2..]),
    };
    // Another certificate than the pinned one, and one that no authority of the system has signed.
    for arguments in [&["--fingerprint", &other][..], &[]] {
        let (mut refused, _) = tunnel(secure, arguments);
        let status = refused.wait(Duration::from_secs(10));
        assert!(!status.success());
        assert!(refused.log().contains(&shown), "{}", refused.log());
    }
}
