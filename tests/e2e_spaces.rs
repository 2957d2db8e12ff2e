//! Spaces with the original's own client library in real browsers.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use serde_json::{Value, json};
use support::http;
use support::rtc::alone;
use support::spaces::Spaces;

/// What players saw after a while, and after the last of them had gone.
#[track_caller]
fn play(browser: &str, name: &str, players: &Value) -> (Vec<Value>, Vec<Value>) {
    let spaces = Spaces::start(json!({}));
    let report = spaces.browse(browser, &format!("spaces-{name}"), players, 4);
    let list = |name: &str| report[name].as_array().expect("a list").clone();
    (list("first"), list("last"))
}

/// Everybody has seen everybody else: who they are, what they said and where they are.
#[track_caller]
fn everybody_sees_everybody(players: &[Value]) {
    for one in players {
        let me = one["id"].as_u64().expect("it is in");
        assert_eq!(one["errors"], json!([]), "{one}");
        assert_eq!(one["tcp"], true, "both kinds of candidates");
        assert_eq!(one["chats"].as_array().expect("chats").len(), players.len());
        for other in players {
            let id = other["id"].to_string();
            if other["id"] == me {
                assert!(one["locations"][&id].is_null(), "its own: {one}");
                continue;
            }
            let name = &other["name"];
            let known = [&one["joined"][&id], &one["names"][&id]];
            assert!(known.contains(&name), "{name} as {id} in {one}");
            // Each says another's number, which the server corrects.
            let seen = &one["locations"][&id];
            assert!(seen["count"].as_u64() > Some(20), "{name} in {one}");
            assert_eq!(seen["bytes"], 21);
            let at = seen["x"].as_f64().expect("a place").floor();
            assert_eq!(Some(at), other_place(other), "{name} in {one}");
        }
    }
}

fn other_place(player: &Value) -> Option<f64> {
    let places = [("alice", 1.0), ("bob", 2.0), ("carol", 3.0)];
    let name = player["name"].as_str()?;
    let known = places.iter().find(|(known, _)| *known == name);
    known.map(|(_, place)| *place)
}

/// Somebody hears each of these.
#[track_caller]
fn hears(player: &Value, others: &[&Value]) {
    for other in others {
        let sounds = player["sounds"].as_array().expect("a list");
        let sound = sounds.iter().find(|sound| sound["player"] == other["id"]);
        let sound = sound.unwrap_or_else(|| panic!("{} in {player}", other["name"]));
        assert!(sound["packets"].as_u64() > Some(50), "{sound}");
        assert!(sound["energy"].as_f64() > Some(0.01), "{sound}");
    }
}

#[test]
fn generations_two_and_three_share_a_space_in_chromium() {
    let _alone = alone();
    let players = json!([
        {"name": "alice", "dialect": "2", "library": "3.6.82", "voice": true, "at": 1},
        {"name": "bob", "dialect": "2", "library": "3.6.82", "voice": true, "at": 2},
        {"name": "carol", "dialect": "3b", "library": "3.6.84", "voice": false, "at": 3},
    ]);
    let (first, last) = play("chromium", "generations", &players);
    everybody_sees_everybody(&first);
    let [alice, bob, carol] = &first[..] else {
        panic!("three");
    };
    hears(alice, &[bob]);
    hears(bob, &[alice]);
    for one in &last[..2] {
        assert_eq!(one["left"], json!([carol["id"]]));
    }
}

#[test]
fn generation_four_is_among_them() {
    let _alone = alone();
    let players = json!([
        {"name": "alice", "dialect": "4", "library": "3.6.84", "voice": false, "at": 1},
        {"name": "bob", "dialect": "2", "library": "3.6.82", "voice": true, "at": 2},
        {"name": "carol", "dialect": "4", "library": "3.6.84", "voice": false, "at": 3},
    ]);
    let (first, last) = play("chromium", "four", &players);
    everybody_sees_everybody(&first);
    for one in &last[..2] {
        assert_eq!(one["left"], json!([first[2]["id"]]));
    }
}

#[test]
fn nobody_hears_who_is_not_listened_to_and_new_libraries_work() {
    let _alone = alone();
    let players = json!([
        {"name": "alice", "dialect": "2", "library": "3.24.1", "voice": true, "at": 1},
        {"name": "bob", "dialect": "2", "library": "3.24.1", "voice": true, "deaf": true, "at": 2},
    ]);
    let (first, _) = play("chromium", "new-library", &players);
    everybody_sees_everybody(&first);
    hears(&first[0], &[&first[1]]);
    let unheard = &first[1]["sounds"];
    let sounds = unheard.as_array().expect("a list");
    let is_silent = |sound: &Value| sound["packets"].as_u64().unwrap_or(0) == 0;
    assert!(
        sounds.iter().all(is_silent),
        "paused until it says so: {unheard}"
    );
}

#[test]
fn firefox_plays_as_well() {
    let _alone = alone();
    let players = json!([
        {"name": "alice", "dialect": "3a", "library": "3.6.84", "voice": false, "at": 1},
        {"name": "bob", "dialect": "3b", "library": "3.6.84", "voice": false, "at": 2},
    ]);
    let (first, last) = play("firefox", "firefox", &players);
    everybody_sees_everybody(&first);
    assert_eq!(last[0]["left"], json!([first[1]["id"]]));
}

#[test]
fn players_are_counted_and_strangers_are_told_where_they_are() {
    let spaces = Spaces::start(json!({"origins": ["https://example.com"]}));
    for path in [
        "/player-count/https://example.com/world.json",
        "/player-count/https%3A%2F%2Fexample.com%2Fworld.json",
        "/spaces/7/player-count",
    ] {
        let count = http::get(spaces.port, path).expect("it answers");
        assert_eq!(count.text(), "0", "{path}");
    }
    assert_eq!(http::get(spaces.port, "/").expect("it answers").status, 404);
    let listed = http::get(spaces.server.control, "/spaces").expect("it answers");
    assert_eq!(listed.text(), r#"{"spaces":[]}"#);
    assert_eq!(spaces.server.metric("spaces_players"), 0);
}
