//! The page of spaces in real browsers: people see, hear and read each other.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::rtc::{alone, number, report_of};
use support::spaces::{BROWSE_MAX, Spaces, WORLD, page_command};
use support::tls::{Files, Secure};
use support::{Background, Server, free_port, free_ports, http, repository, scratch, wait_for};

/// How fast one walks, in metres a second, as `src/streams/page/space/page.js` has it.
const WALK: f64 = 2.6;

#[track_caller]
fn scenario(name: &str, browser: &str, url: &str, variables: &[(&str, &str)]) -> Value {
    let mut command = page_command(name, browser, url);
    let report = report_of(command.envs(variables.iter().copied()), BROWSE_MAX);
    let path = scratch().join(format!("space-{name}-{browser}.json"));
    fs::write(path, report.to_string()).expect("the scratch folder is writable");
    report
}

/// Alice and Bob met, and she left and came back.
#[track_caller]
fn assert_met(report: &Value) {
    let at = |path: &str| number(report, path);
    assert_eq!(report["isInviting"], false, "{report}");
    // She went to the right, then down.
    let (right, down) = (
        at("/after/x") - at("/before/x"),
        at("/after/z") - at("/before/z"),
    );
    assert!((WALK * 0.4..WALK * 1.2).contains(&right), "{right}");
    assert!((WALK * 0.2..WALK).contains(&down), "{down}");
    assert_eq!(report["shown"]["name"], "Alice");
    for axis in ["x", "z"] {
        let path = format!("/{axis}");
        let far = at(&format!("/shown/place{path}")) - at(&format!("/after{path}"));
        assert!(far.abs() < 0.001, "Bob sees her elsewhere: {report}");
    }
    assert_eq!(report["still"], report["after"], "writing is not walking");
    let lines = report["gone"]["lines"].as_array().expect("lines");
    for line in [
        "Alicewas sagst du?",
        "BobHello <b>there</b>",
        "Alice leaves.",
    ] {
        assert!(lines.contains(&line.into()), "{line}: {report}");
    }
    assert_eq!(report["gone"]["entrance"], true, "{report}");
    for place in 0..2 {
        assert!(at(&format!("/received/{place}")) > 50.0, "{report}");
        assert!(at(&format!("/heard/{place}")) > 0.001, "{report}");
        assert_eq!(
            report["people"][place].as_array().map(Vec::len),
            Some(2),
            "{report}"
        );
    }
    assert_eq!(at("/deaf"), 0.0, "what one does not want to hear: {report}");
    assert!(at("/heardAgain") > 20.0, "{report}");
    assert_eq!(report["failures"], json!([[], []]), "{report}");
}

/// With nothing but the binary, as in the README.
#[test]
fn two_people_meet_in_the_demo() {
    let _alone = alone();
    let demo = demo(&demo_ports());
    let url = wait_for(
        "the demo to print the page of spaces",
        Duration::from_secs(10),
        || {
            demo.log()
                .split_whitespace()
                .find(|word| word.starts_with("http://") && word.ends_with("/space.html"))
                .map(str::to_owned)
        },
    );
    let report = scenario("pair", "chromium", &url, &[]);
    assert_met(&report);
    let invitation = report["invitation"].as_str().expect("a link");
    assert_eq!(invitation, format!("{url}?space=lobby"));
    // The fake microphone's beeps: loud at arm's length, faint at fourteen metres.
    let (near, far) = (number(&report, "/near/peak"), number(&report, "/far/peak"));
    assert!(near > 0.1 && far > 0.0, "{report}");
    assert!(far < near / 4.0, "{report}");
    assert!(
        number(&report, "/near/touched") > 0.5,
        "a finger walks: {report}"
    );
}

#[test]
fn two_people_meet_in_firefox() {
    let _alone = alone();
    let spaces = Spaces::start(json!({}));
    let report = scenario("pair", "firefox", &spaces.page(), &[]);
    assert_met(&report);
}

/// The page, and a player of generation 2 with its own library. What each saw of the other.
#[track_caller]
fn beside_generation_two(name: &str, variables: &[(&str, &str)]) -> (Value, Value) {
    let spaces = Spaces::start(json!({}));
    let url = format!("{}?space={WORLD}", spaces.page());
    let mut command = page_command("alone", "chromium", &url);
    command.envs(variables.iter().copied());
    let mut page = Background::start(name, &mut command);
    wait_for("the page to be in", Duration::from_secs(30), || {
        (spaces.players() == 1).then_some(())
    });
    let players = json!([
        {"name": "alice", "dialect": "2", "library": "3.6.82", "voice": true, "at": 1},
    ]);
    let player = spaces.browse("chromium", name, &players, 8);
    assert!(page.wait(BROWSE_MAX).success(), "{}", page.log());
    let page: Value = serde_json::from_str(&page.log()).expect("one line of JSON");
    let player = player["first"][0].clone();
    let paula = page["me"].to_string();
    assert_eq!(player["joined"][&paula], "Paula", "{player}");
    assert_eq!(player["errors"], json!([]), "{player}");
    assert_eq!(player["chats"][0], json!([page["me"], "hello from Paula"]));
    let seen = number(&player["locations"][&paula], "/x") - number(&page, "/after/x");
    assert!(seen.abs() < 0.001, "{player}");
    let alice = &page["others"][0];
    assert_eq!(alice["name"], "alice", "{page}");
    assert_eq!(number(alice, "/place/x").floor(), 1.0, "{page}");
    assert!(number(&page, "/heard") > 0.001, "{page}");
    assert!(number(&page, "/sound/peak") > 0.01, "{page}");
    assert_eq!(page["failures"], json!([]), "{page}");
    (page, player)
}

#[test]
fn the_page_and_generation_two_hear_each_other() {
    let _alone = alone();
    let (page, player) = beside_generation_two("space-two", &[]);
    assert_eq!(page["note"], "");
    let sounds = player["sounds"].as_array().expect("a list");
    let sound = sounds.iter().find(|sound| sound["player"] == page["me"]);
    let sound = sound.unwrap_or_else(|| panic!("nothing of the page: {player}"));
    assert!(number(sound, "/packets") > 50.0, "{sound}");
    assert!(number(sound, "/energy") > 0.01, "{sound}");
}

#[test]
fn without_a_microphone_one_walks_hears_and_writes() {
    let _alone = alone();
    let variables = [("RINGSIDE_NO_MICROPHONE", "1")];
    let (page, player) = beside_generation_two("space-mute", &variables);
    let note = page["note"].as_str().expect("a text");
    assert!(note.contains("microphone"), "{note}");
    assert!(note.contains("do not hear you"), "{note}");
    let up = number(&page, "/before/z") - number(&page, "/after/z");
    assert!(up > WALK * 0.2, "{page}");
    assert_eq!(player["sounds"], json!([]), "{player}");
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    let _alone = alone();
    let spaces = Spaces::start(json!({}));
    let address = format!("http://127.0.0.1:{}", spaces.port);
    let variables = [("RINGSIDE_SPACES", address.as_str())];
    let report = scenario("broken", "chromium", &spaces.page(), &variables);
    let banner = report["banner"].as_str().expect("a text");
    assert!(
        banner.starts_with("The server is gone. Trying again in"),
        "{banner}"
    );
    // The place was kept.
    assert_eq!(report["first"], report["second"], "{report}");
    assert_eq!(report["isClear"], true);
    let server = report["server"].as_str().expect("a text");
    assert!(server.contains("another server: 127.0.0.1:"), "{server}");
    assert_eq!(report["lines"], json!([]), "nobody came or went: {report}");
    assert_eq!(report["failures"], json!([]), "{report}");
}

/// `ringside demo` on these ports.
fn demo(ports: &[(&str, u16)]) -> Background {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringside"));
    command.arg("demo");
    for (name, port) in ports {
        command.args([(*name).to_owned(), port.to_string()]);
    }
    Background::start("space-demo", &mut command)
}

fn demo_ports() -> Vec<(&'static str, u16)> {
    let mut ports: Vec<_> = ["--http", "--rtmp", "--control", "--webrtc", "--spaces"]
        .map(|name| (name, free_port()))
        .into();
    ports.push(("--collab", free_ports()));
    ports
}

/// The new server knows nobody, and the page comes in all the same.
#[test]
fn a_server_that_is_restarted_is_found_again() {
    let _alone = alone();
    let ports = demo_ports();
    let (http, control) = (ports[0].1, ports[2].1);
    let mut first = demo(&ports);
    let is_up = || http::get(http, "/space.json").ok().map(|_| ());
    wait_for("the demo", Duration::from_secs(10), is_up);
    let url = format!("http://127.0.0.1:{http}/space.html");
    let mut page = Background::start(
        "space-restarted",
        &mut page_command("restarted", "chromium", &url),
    );
    wait_for("the page to be in", Duration::from_secs(30), || {
        let listed = http::get(control, "/spaces?space=lobby").ok()?.text();
        listed.contains(r#""voice":true"#).then_some(())
    });
    first.signal(libc::SIGTERM);
    first.wait(Duration::from_secs(10));
    std::thread::sleep(Duration::from_secs(3));
    let _second = demo(&ports);
    assert!(page.wait(BROWSE_MAX).success(), "{}", page.log());
    let report: Value = serde_json::from_str(&page.log()).expect("one line of JSON");
    let banner = report["banner"].as_str().expect("a text");
    assert!(
        banner.starts_with("The server is being restarted."),
        "{banner}"
    );
    assert_eq!(report["isClear"], true, "{report}");
    assert_eq!(report["failures"], json!([]), "{report}");
}

#[test]
fn where_media_have_no_way_the_page_says_so() {
    let _alone = alone();
    // RFC 5737: nobody has this address.
    let edit = |all: &mut Value| {
        all["webrtc"]["announced"] = json!(["192.0.2.1"]);
    };
    let spaces = Spaces::start_edited(json!({}), edit);
    let report = scenario("cut", "chromium", &spaces.page(), &[]);
    let banner = report["banner"].as_str().expect("a text");
    assert!(banner.contains("find no way to the server"), "{banner}");
    let port = spaces.server.media.to_string();
    assert!(banner.contains(&port), "{banner}");
    assert_eq!(report["state"], "in", "{report}");
    assert_eq!(report["failures"], json!([]), "{report}");
}

/// A page of another site imports the client from the server, and makes many of it.
#[test]
fn many_come_and_go() {
    let _alone = alone();
    let spaces = Spaces::start(json!({}));
    let report = scenario("crowd", "chromium", &spaces.page(), &[]);
    let reports = report["reports"].as_array().expect("a list");
    assert_eq!(reports.len(), 4);
    for one in reports {
        assert_eq!(one["names"].as_array().map(Vec::len), Some(7), "{one}");
        // One for data and one for each voice: those of who has left are used again.
        assert_eq!(one["sections"], 7, "{one}");
    }
    assert_eq!(report["isWide"], false, "at the width of a telephone");
    assert_eq!(report["isAtEnd"], true, "the newest lines are shown");
    assert_eq!(report["failures"], json!([]), "{report}");
}

#[test]
fn the_client_reads_and_writes_the_golden_messages() {
    let mut command = Command::new("node");
    command.arg(repository().join("tests/browser/wire.mjs"));
    let report = report_of(&mut command, BROWSE_MAX);
    assert_eq!(report, json!({"messages": 33, "locations": 3}));
}

/// Pages by HTTPS may connect to a server with a certificate only, and have a microphone everywhere.
#[test]
fn the_page_comes_by_https() {
    let _alone = alone();
    let files = Files::new(&["localhost"]);
    let port = free_port();
    let secure = Secure::start(json!({}), &[&files], |all| {
        all["spaces"] = files.json();
        all["spaces"]["interface"] = "127.0.0.1".into();
        all["spaces"]["port"] = port.into();
    });
    let variables = [("RINGSIDE_ANY_CERTIFICATE", "1")];
    let report = scenario("solo", "chromium", &secure.url("/space.html"), &variables);
    assert_eq!(report["address"], format!("wss://localhost:{port}/"));
    assert_eq!(report["isReachable"], true, "{report}");
    assert_eq!(report["failures"], json!([]), "{report}");
}

#[test]
fn the_page_says_why_one_may_not_enter() {
    let _alone = alone();
    let closed = Spaces::start(json!({"join_key": "a key that nobody knows"}));
    let report = scenario("refused", "chromium", &closed.page(), &[]);
    let words = report["words"].as_str().expect("a text");
    assert!(words.contains("takes an invitation"), "{words}");

    let full = Spaces::start(json!({"space_players_max": 1}));
    let variables = [("RINGSIDE_FULL", "1")];
    let report = scenario("refused", "chromium", &full.page(), &variables);
    let words = report["words"].as_str().expect("a text");
    assert!(words.contains("full"), "{words}");
}

#[test]
fn the_page_is_there_where_spaces_are() {
    let spaces = Spaces::start(json!({}));
    let port = spaces.server.http;
    let place = http::get(port, "/space.json").expect("it answers");
    let place: Value = serde_json::from_str(&place.text()).expect("JSON");
    assert_eq!(place, json!({"port": spaces.port, "tls": false}));
    let module = http::get(port, "/space/client.js").expect("it answers");
    assert_eq!(
        module.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );

    // Elsewhere the name is a stream's, as all are.
    let without = Server::open(&["space"]);
    let page = http::get(without.http, "/space.html").expect("it answers");
    assert!(page.text().contains("<video"), "the player");
    for path in ["/space.json", "/space/client.js"] {
        let answer = http::get(without.http, path).expect("it answers");
        assert_eq!(answer.status, 404, "{path}");
    }
}
