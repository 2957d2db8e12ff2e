//! `ringside-load collab` on a real server: it counts what it sends, and notices what is wrong.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::rtc::alone;
use support::{Said, Server, free_ports, http, run};

const LOAD_MAX: Duration = Duration::from_secs(60);
/// The load is another package's program, which may have to be built.
const BUILD_MAX: Duration = Duration::from_secs(1200);

/// The load of this build's profile.
fn load() -> PathBuf {
    let server = Path::new(env!("CARGO_BIN_EXE_ringside"));
    let folder = server.parent().expect("programs are in a folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let built = run(
        Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--package", "ringside-load"])
            .args(["--bin", "ringside-load", "--profile", profile])
            .arg("--target-dir")
            .arg(folder.parent().expect("folders of profiles are in one"))
            .current_dir(support::repository()),
        BUILD_MAX,
    );
    assert!(built.status.success(), "{}", built.stderr);
    folder.join("ringside-load")
}

fn server(port: u16) -> Server {
    let edit = move |all: &mut Value| {
        let session = json!({"port": port, "server_password": "pw", "admin_password": "adm",
            "versions": ["0.1.26", "0.9.11", "0.10.2"]});
        all["collab"] = json!({"interface": "127.0.0.1", "sessions": [session]});
    };
    Server::start_edited(json!({"live": {"source": "push://"}}), edit, |_| {})
}

fn work(load: &Path, server: &Server, port: u16, arguments: &[&str]) -> Said {
    run(
        Command::new(load)
            .args(["collab", "--session", &format!("127.0.0.1:{port}")])
            .args(["--control", &format!("127.0.0.1:{}", server.control)])
            .args(["--pid", &server.process.id().to_string()])
            .args(["--server-password", "pw", "--warmup", "0.5"])
            .args(arguments),
        LOAD_MAX,
    )
}

/// The line of a run that went well.
#[track_caller]
fn result(said: &Said) -> Value {
    assert!(said.status.success(), "{}{}", said.stdout, said.stderr);
    serde_json::from_str(&said.stdout).expect("one line of JSON")
}

#[test]
fn both_generations_get_all_that_is_sent_at_a_rate_and_through_a_window() {
    let _alone = alone();
    let load = load();
    let port = free_ports();
    let server = server(port);
    let clients = ["--generation-b", "3", "--generation-c", "2"];
    let more = [
        "--admin-password",
        "adm",
        "--senders",
        "2",
        "--seconds",
        "1",
        "--joins",
        "2",
    ];
    let base: Vec<&str> = clients.into_iter().chain(more).collect();

    let rate = [&base[..], &["--rate", "100"]].concat();
    let told = result(&work(&load, &server, port, &rate));
    let number = |name: &str| {
        let value = told.get(name).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("no {name} in {told}"))
    };
    // Two senders, and four who hear each; a slow machine sends less.
    let sent = number("sent");
    assert!((100.0..=202.0).contains(&sent), "{told}");
    assert_eq!(number("delivered"), 4.0 * sent, "{told}");
    assert_eq!(number("lost"), 0.0);
    assert_eq!(number("joins"), 2.0);
    assert_eq!(number("gets"), 2.0 * 4.0, "four nodes each");
    assert!(number("cpu_s_per_1000_delivered") > 0.0);
    assert!(number("cpu_us_per_get") > 0.0);
    assert!(told["latency_ms"]["p50"].as_f64().expect("a time") < 1000.0);
    let received = told["server"]["received"].as_f64().expect("a count");
    assert!(received >= sent, "the server has counted it: {told}");

    // The scene of the run before is still there, and this one brings nodes of its own.
    let window = [
        &base[..],
        &[
            "--window", "8", "--what", "node", "--seed", "2", "--nodes", "3",
        ],
    ]
    .concat();
    let told = result(&work(&load, &server, port, &window));
    assert!(told["sent"].as_u64().expect("a count") > 100, "{told}");
    assert_eq!(told["lost"], 0);
    assert_eq!(told["gets"], 2 * 7, "the nodes of both runs: {told}");
}

#[test]
fn generation_a_gets_all_that_is_sent_in_a_session_of_its_own() {
    let _alone = alone();
    let load = load();
    let port = free_ports();
    let server = server(port);
    let base = [
        &["--generation-a", "4", "--admin-password", "adm"][..],
        &["--senders", "2", "--seconds", "1", "--joins", "2"],
    ]
    .concat();
    let told = result(&work(
        &load,
        &server,
        port,
        &[&base[..], &["--rate", "100"]].concat(),
    ));
    let number = |name: &str| {
        let value = told.get(name).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("no {name} in {told}"))
    };
    let sent = number("sent");
    assert!((100.0..=202.0).contains(&sent), "{told}");
    assert_eq!(number("delivered"), 3.0 * sent, "{told}");
    assert_eq!((number("joined"), number("joins")), (4.0, 2.0));
    assert_eq!(number("gets"), 2.0 * 4.0, "four nodes each");
    assert_eq!((number("generation_a"), number("generation_c")), (4.0, 0.0));
    assert_eq!(told["what"], "node");
    assert!(number("bytes_delivered") > 2000.0 * number("delivered"));
    assert!(number("cpu_s_per_1000_delivered") > 0.0);
    assert!(number("cpu_us_per_get") > 0.0);
    assert!(told["latency_ms"]["p50"].as_f64().expect("a time") < 1000.0);
    let text = http::get(server.control, "/collab").expect("it answers");
    assert!(
        text.text().contains("\"generation\":\"A\""),
        "{}",
        text.text()
    );

    // The scene of the run before is still there, and this one brings nodes of its own.
    let window = ["--window", "8", "--seed", "2", "--nodes", "3"];
    let told = result(&work(&load, &server, port, &[&base[..], &window].concat()));
    assert!(told["sent"].as_u64().expect("a count") > 100, "{told}");
    assert_eq!(told["lost"], 0);
    assert_eq!(told["gets"], 2 * 7, "the nodes of both runs: {told}");

    for (wrong, reason) in [
        (&["--generation-c", "2"][..], "this session is of 0.1"),
        (
            &["--generation-a", "2", "--generation-b", "2"],
            "generation A, or of",
        ),
        (&["--generation-a", "2", "--what", "change"], "no changes"),
        (&["--generation-a", "2", "--version-a", "0.1.0"], "0.1.26"),
    ] {
        let all = [&["--admin-password", "adm"], wrong].concat();
        let refused = work(&load, &server, port, &all);
        assert!(!refused.status.success(), "{wrong:?}");
        assert!(refused.stderr.contains(reason), "{}", refused.stderr);
    }
}

#[test]
fn whoever_is_not_let_in_says_why() {
    let _alone = alone();
    let load = load();
    let port = free_ports();
    let server = server(port);
    let refused = work(&load, &server, port, &["--admin-password", "guess"]);
    assert!(!refused.status.success());
    assert!(
        refused.stderr.contains("wrong admin password"),
        "{}",
        refused.stderr
    );

    let wrong = ["--admin-password", "adm", "--version-c", "0.1.0"];
    let refused = work(&load, &server, port, &wrong);
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("0.9.11"), "{}", refused.stderr);
}
