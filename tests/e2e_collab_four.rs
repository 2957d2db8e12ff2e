//! Collaborative sessions with the original client of generation A.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::rtc::alone;
use support::tls::Files;
use support::{Background, Server, cache, free_port, free_ports, http, repository, run, wait_for};

const WALK_MAX: Duration = Duration::from_secs(150);

/// A server with a session at these ports.
fn server(port: u16, more: &Value) -> Server {
    let more = more.clone();
    let edit = move |all: &mut Value| {
        let mut session = json!({"port": port, "server_password": "pw", "admin_password": "adm"});
        for (key, value) in more.as_object().expect("an object") {
            session[key].clone_from(value);
        }
        all["collab"] = json!({"interface": "127.0.0.1", "sessions": [session]});
    };
    Server::start_edited(json!({"live": {"source": "push://"}}), edit, |_| {})
}

/// Four users go through all that the client can, at ports of this computer.
#[track_caller]
fn walk_at(port: u16) {
    let python = cache().join("replication-0.1.26/bin/python");
    assert!(python.exists(), "tests/run.sh install makes {python:?}");
    let said = run(
        Command::new("python3")
            .arg(repository().join("tests/clients/replication_walk_four.py"))
            .arg(port.to_string())
            .arg(python)
            .args((0..6).map(|_| free_port().to_string())),
        WALK_MAX,
    );
    assert!(said.status.success(), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.ends_with("carol is out\n"), "{}", said.stdout);
}

#[test]
fn users_of_generation_a_go_through_all_that_their_client_can() {
    let _alone = alone();
    let port = free_ports();
    let server = server(port, &json!({}));
    walk_at(port);
    let metrics = http::get(server.control, "/metrics").expect("it answers");
    let counted = |name: &str, count: u32| {
        let row = format!("ringside_collab_{name}{{port=\"{port}\"}} {count}\n");
        assert!(metrics.text().contains(&row), "{row}{}", metrics.text());
    };
    counted("logins_total", 4);
    counted("refused_logins_total", 2);
    for nothing in ["messages", "pickles", "rights", "strangers", "connections"] {
        counted(&format!("refused_{nothing}_total"), 0);
    }
}

#[test]
fn users_of_generation_a_go_through_a_tunnel() {
    let _alone = alone();
    let files = Files::new(&["localhost"]);
    let secure = free_port();
    let more = json!({"tls_port": secure, "cert": files.cert, "key": files.key});
    let _server = server(free_ports(), &more);
    let port = free_ports();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringside"));
    command
        .args(["collab-tunnel", &format!("localhost:{secure}"), "--port"])
        .arg(port.to_string())
        .arg("--ca")
        .arg(&files.cert);
    let tunnel = Background::start("tunnel", &mut command);
    wait_for("the tunnel", Duration::from_secs(10), || {
        tunnel.log().contains("the tunnel is open").then_some(())
    });
    walk_at(port);
}

/// A session of later generations had that port's place to itself, and goes on without it.
#[test]
fn a_session_begins_where_something_else_has_the_fourth_port() {
    let port = free_ports();
    let address = (Ipv4Addr::LOCALHOST, port + 3);
    let other = TcpListener::bind(address).expect("it is free");
    let server = server(port, &json!({}));
    let listed = http::get(server.control, "/collab").expect("it answers");
    assert_eq!(listed.status, 200, "{}", listed.text());
    for port in port..port + 3 {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    }
    drop(other);
}
