//! What the original's clients said is said again, and the answers are compared with the original's.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Options, Stage};
use crate::base::ids::ConnId;
use crate::proto::unavi::{Frame, described};

/// One line of a transcript.
enum Line {
    Said(char, Vec<u8>, bool),
    Told(char, Vec<u8>),
    Closed(char),
}

fn lines(transcript: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for line in transcript.lines() {
        if line.starts_with("---") || line.trim().is_empty() {
            continue;
        }
        if line.contains("socket closed") {
            lines.push(Line::Closed(line.chars().next().unwrap()));
            continue;
        }
        let (from, rest) = line.split_once(" -> ").unwrap();
        let (to, rest) = rest.split_once("  ").unwrap();
        let (bytes, is_text) = match rest.strip_prefix("text ") {
            Some(text) => (text.as_bytes().to_vec(), true),
            None => (unhex(rest.rsplit_once("hex=").unwrap().1), false),
        };
        match from {
            "host" => lines.push(Line::Told(to.chars().next().unwrap(), bytes)),
            name => lines.push(Line::Said(name.chars().next().unwrap(), bytes, is_text)),
        }
    }
    lines
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// What each player was told.
type Frames = BTreeMap<char, Vec<Vec<u8>>>;

/// Says again what the clients said. The media shards answer when the original did: before the client
/// says something else than what it says at once.
fn replay(transcript: &str) -> (Frames, Frames) {
    let mut stage = Stage::new(Options::default());
    let mut conns = BTreeMap::new();
    let mut expected = Frames::new();
    let mut was_told = false;
    for line in lines(transcript) {
        match line {
            Line::Said(who, bytes, is_text) => {
                if was_told {
                    stage.media();
                }
                was_told = false;
                let conn = match conns.get(&who) {
                    Some(conn) => *conn,
                    None => {
                        let conn = stage.connect(u64::from(u32::from(who)));
                        conns.insert(who, conn);
                        conn
                    }
                };
                match is_text {
                    true => stage.text(conn, std::str::from_utf8(&bytes).unwrap()),
                    false => stage.binary(conn, &bytes),
                }
            }
            Line::Told(who, bytes) => {
                was_told = true;
                expected.entry(who).or_default().push(bytes);
            }
            Line::Closed(who) => {
                stage.media();
                stage.close(conns[&who]);
            }
        }
    }
    let heard = conns.iter().map(|(who, conn): (&char, &ConnId)| {
        let frames = stage.take_heard(*conn).into_iter();
        let frames = frames.map(|frame| match frame {
            Frame::Text(text) => text.into_bytes(),
            Frame::Binary(bytes) => bytes,
        });
        (*who, frames.collect())
    });
    let heard = heard.collect();
    assert_eq!(stage.host.players(), 0);
    assert_eq!(stage.host.spaces(), 0);
    assert!(stage.open.is_empty());
    (heard, expected)
}

/// Puts what is made up anew each time out of a message.
fn blank(value: &mut Value, players: &BTreeMap<u64, char>) {
    const MADE_UP: [&str; 12] = [
        "id",
        "consumerId",
        "producerId",
        "dataProducerId",
        "usernameFragment",
        "password",
        "foundation",
        "port",
        "priority",
        "ssrc",
        "timestamp",
        "value",
    ];
    match value {
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                if name == "playerId" {
                    let who = players[&value.as_u64().unwrap()];
                    *value = who.to_string().into();
                } else if MADE_UP.contains(&name.as_str()) && !value.is_object() {
                    let is_header_extension = name == "id" && value.is_number();
                    if !is_header_extension {
                        *value = Value::Null;
                    }
                } else {
                    blank(value, players);
                }
            }
            let subject = members.get("subject").and_then(Value::as_str);
            if matches!(subject, Some("producer_id" | "data_producer_id")) {
                members.insert("data".to_owned(), Value::Null);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| blank(item, players)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn two_of(all: &Frames) -> BTreeMap<char, Vec<Value>> {
    let parse = |bytes: &Vec<u8>| -> Value { serde_json::from_slice(bytes).unwrap() };
    let players: BTreeMap<u64, char> = all
        .iter()
        .flat_map(|(who, frames)| frames.iter().map(|frame| (*who, parse(frame))))
        .filter(|(_, frame)| frame["subject"] == "join_success")
        .map(|(who, frame)| (frame["data"]["playerId"].as_u64().unwrap(), who))
        .collect();
    assert_eq!(players.len(), 2);
    all.iter()
        .map(|(who, frames)| {
            let mut frames: Vec<Value> = frames.iter().map(parse).collect();
            frames.iter_mut().for_each(|frame| blank(frame, &players));
            (*who, frames)
        })
        .collect()
}

#[test]
fn two_players_of_generation_two() {
    let transcript = include_str!("../../../tests/data/unavi/transcript_gen2_two_players.txt");
    // That version of the original knew numbered spaces only, and ignored this; the next one did not.
    let is_known = |line: &&str| !line.ends_with(r#"{"subject":"join","data":"text"}"#);
    let transcript: Vec<&str> = transcript.lines().filter(is_known).collect();
    let (heard, expected) = replay(&transcript.join("\n"));
    let (heard, expected) = (two_of(&heard), two_of(&expected));
    for (who, expected) in expected {
        for (place, (heard, expected)) in heard[&who].iter().zip(&expected).enumerate() {
            assert_eq!(heard, expected, "{who}'s message {place}");
        }
        assert_eq!(heard[&who].len(), expected.len(), "{who}");
    }
}

fn four_of(all: &Frames) -> BTreeMap<char, Vec<String>> {
    let mut players = BTreeMap::new();
    let described: BTreeMap<char, Vec<String>> = all
        .iter()
        .map(|(who, frames)| (*who, frames.iter().map(|frame| described(frame)).collect()))
        .collect();
    for (who, frames) in &described {
        let joined = frames.iter().find(|frame| frame.contains("JoinSuccess"));
        let number = joined.unwrap().split("player_id: ").nth(1).unwrap();
        let number = number.split([',', ' ', '}']).next().unwrap();
        players.insert(format!("player_id: {number}"), format!("player_id: {who}"));
    }
    described
        .into_iter()
        .map(|(who, frames)| {
            let frames = frames.into_iter().filter(|frame| frame != "None");
            let frames = frames.map(|frame| {
                let found = players.iter().find(|(number, _)| {
                    let behind = frame.split(number.as_str()).nth(1);
                    behind.is_some_and(|behind| behind.starts_with([',', ' ', '}']))
                });
                match found {
                    Some((number, who)) => frame.replace(number, who),
                    None => frame,
                }
            });
            (who, frames.collect())
        })
        .collect()
}

#[test]
fn two_players_of_generation_four() {
    let transcript = include_str!("../../../tests/data/unavi/transcript_gen4_two_players.txt");
    let (heard, expected) = replay(transcript);
    let (heard, expected) = (four_of(&heard), four_of(&expected));
    for (who, expected) in expected {
        for (place, (heard, expected)) in heard[&who].iter().zip(&expected).enumerate() {
            assert_eq!(heard, expected, "{who}'s message {place}");
        }
        assert_eq!(heard[&who].len(), expected.len(), "{who}");
    }
}
