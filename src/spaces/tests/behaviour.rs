//! What the host does beyond what the transcripts have.

use serde_json::json;

use super::*;
use crate::proto::unavi::{World, described};
use crate::spaces::token::sign;

fn world(name: &str) -> World {
    World::Uri(name.to_owned())
}

/// Enters by generation 2, with both transports and everything that a client makes.
fn enter_with_media(stage: &mut Stage, conn: u64, name: &str) -> ConnId {
    let conn = stage.connect(conn);
    stage.text(conn, &two("get_router_rtp_capabilities", json!(null)));
    stage.text(conn, &two("join", name.into()));
    stage.text(conn, &two("create_transport", json!({"type": "producer"})));
    stage.text(conn, &two("create_transport", json!({"type": "consumer"})));
    let can = json!({"codecs": [{"mimeType": "audio/opus", "kind": "audio"}]});
    stage.text(conn, &two("set_rtp_capabilities", can));
    stage.media();
    let stream = json!({"streamId": 0, "ordered": false, "maxRetransmits": 0});
    stage.text(conn, &two("produce_data", stream));
    let codec = json!({"mimeType": "audio/opus", "payloadType": 111});
    stage.text(
        conn,
        &two(
            "produce",
            json!({"codecs": [codec], "encodings": [{"ssrc": 1}]}),
        ),
    );
    conn
}

fn subjects(frames: &[serde_json::Value]) -> Vec<&str> {
    let subjects = frames.iter().map(|frame| frame["subject"].as_str());
    subjects.map(|subject| subject.unwrap()).collect()
}

#[test]
fn nobody_is_offered_its_own_and_nothing_twice() {
    let mut stage = Stage::new(Options::default());
    let a = enter_with_media(&mut stage, 1, "w");
    let b = enter_with_media(&mut stage, 2, "w");
    let can = json!({"codecs": [{"mimeType": "audio/opus", "kind": "audio"}]});
    for conn in [a, b, a] {
        // The original offered everything anew, a player's own too.
        stage.text(conn, &two("set_rtp_capabilities", can.clone()));
    }
    for conn in [a, b] {
        let heard = stage.texts(conn);
        let count = |subject: &str| {
            let all = subjects(&heard);
            all.iter().filter(|known| **known == subject).count()
        };
        assert_eq!(
            (count("create_consumer"), count("create_data_consumer")),
            (1, 1)
        );
    }
}

#[test]
fn sound_is_paused_until_it_is_wanted_and_again() {
    let mut stage = Stage::new(Options::default());
    let a = enter_with_media(&mut stage, 1, "w");
    enter_with_media(&mut stage, 2, "w");
    let pauses = |stage: &mut Stage| -> Vec<bool> {
        let orders = std::mem::take(&mut stage.orders);
        let pauses = orders.iter().filter_map(|order| match order {
            Order::Pause { paused, .. } => Some(*paused),
            Order::ConsumeAudio { paused, .. } => {
                assert!(paused);
                None
            }
            _ => None,
        });
        pauses.collect()
    };
    assert!(pauses(&mut stage).is_empty());
    stage.text(a, &two("resume_audio", json!(null)));
    assert_eq!(pauses(&mut stage), [false]);
    stage.text(a, &two("resume_audio", json!(null)));
    assert!(pauses(&mut stage).is_empty());
    assert!(
        stage
            .host
            .mute(&world("w"), stage.host.seen(&world("w"))[1].player, true)
    );
    let number = stage.host.seen(&world("w"));
    assert!(number[1].is_muted);
    stage.collect();
    let muted = pauses(&mut stage);
    assert!(
        muted.len() <= 1,
        "one hears the muted one at most: {muted:?}"
    );
}

/// A page showed nobody's ring until somebody paused: who had been talking before it came was told to
/// those who were there then.
#[test]
fn who_comes_late_is_told_who_talks() {
    let mut stage = Stage::new(Options::default());
    let a = enter_with_media(&mut stage, 1, "w");
    let producer = stage.orders.iter().find_map(|order| match order {
        Order::ProduceAudio { producer, .. } => Some(*producer),
        _ => None,
    });
    let producer = producer.unwrap();
    stage.host.report(Report::Level {
        producer,
        talking: true,
    });
    let told = |stage: &mut Stage, conn: ConnId| {
        let heard = stage.take_heard(conn).into_iter();
        let described = heard.map(|frame| match frame {
            Frame::Binary(bytes) => described(&bytes),
            Frame::Text(text) => text,
        });
        let talking = described.filter(|text| text.contains("Talking"));
        talking
            .map(|text| text.contains("talking: true"))
            .collect::<Vec<bool>>()
    };
    let late = stage.connect(3);
    stage.text(late, &join(Dialect::Four, "w"));
    assert_eq!(told(&mut stage, late), [true]);
    // Without its transport nobody hears it.
    stage.text(a, &two("create_transport", json!({"type": "producer"})));
    assert_eq!(told(&mut stage, late), [false]);
    let later = stage.connect(4);
    stage.text(later, &join(Dialect::Four, "w"));
    assert!(told(&mut stage, later).is_empty());
}

#[test]
fn who_leaves_takes_its_streams_along() {
    let mut stage = Stage::new(Options::default());
    let a = enter_with_media(&mut stage, 1, "w");
    let b = enter_with_media(&mut stage, 2, "w");
    stage.orders.clear();
    stage.texts(a);
    stage.text(b, &two("leave", "w".into()));
    let closed = stage.orders.iter();
    let closed = closed.filter(|order| matches!(order, Order::CloseConsumer { .. }));
    assert_eq!(closed.count(), 4, "two of each");
    assert_eq!(subjects(&stage.texts(a)), ["player_left"]);
    // It is still there, and comes back.
    stage.orders.clear();
    stage.text(b, &two("join", "w".into()));
    let made = stage.orders.iter().filter(|order| {
        matches!(
            order,
            Order::ConsumeAudio { .. } | Order::ConsumeData { .. }
        )
    });
    assert_eq!(made.count(), 4);
}

/// A channel's number rests before it is used again, since both sides have to reset it first, and the
/// numbers stay low.
#[test]
fn channels_take_turns() {
    let mut stage = Stage::new(Options::default());
    let a = enter_with_media(&mut stage, 1, "w");
    let b = enter_with_media(&mut stage, 2, "w");
    let mut streams = Vec::new();
    for _ in 0..200 {
        let heard = stage.texts(a);
        let opened = heard
            .iter()
            .filter(|frame| frame["subject"] == "create_data_consumer");
        streams.extend(opened.map(|frame| {
            frame["data"]["sctpStreamParameters"]["streamId"]
                .as_u64()
                .unwrap()
        }));
        stage.text(b, &two("leave", "w".into()));
        stage.text(b, &two("join", "w".into()));
    }
    assert_eq!(streams.len(), 200);
    assert!(streams.iter().all(|stream| *stream < 64), "{streams:?}");
    for apart in 1..60 {
        let pairs = streams.iter().zip(&streams[apart..]);
        assert!(pairs.clone().all(|(one, other)| one != other), "{apart}");
    }
}

#[test]
fn a_full_space_says_so_and_numbers_are_used_again() {
    let options = Options {
        space_players_max: 3,
        ..Options::default()
    };
    let mut stage = Stage::new(options);
    for conn in 1..=3 {
        let conn = stage.connect(conn);
        stage.text(conn, &join(Dialect::Four, "w"));
    }
    let late = stage.connect(4);
    stage.text(late, &join(Dialect::Four, "w"));
    assert_eq!(stage.host.counters().full, 1);
    let heard = stage.take_heard(late);
    assert_eq!(
        heard,
        [Frame::Binary(b"\xa2\x01\x09\x0a\x01w\x12\x04full".to_vec())]
    );
    stage.close(ConnId(2));
    stage.text(late, &join(Dialect::Four, "w"));
    assert_eq!(stage.host.count(&world("w")), 3);
}

#[test]
fn all_numbers_of_a_space_are_given() {
    let mut stage = Stage::new(Options::default());
    for conn in 0..257 {
        let conn = stage.connect(conn);
        stage.text(conn, &join(Dialect::ThreeA, "w"));
    }
    let numbers: Vec<u8> = stage
        .host
        .seen(&world("w"))
        .iter()
        .map(|seen| seen.player)
        .collect();
    assert_eq!(numbers, (0..=255).collect::<Vec<u8>>());
    assert_eq!(stage.host.counters().full, 1);
}

#[test]
fn whoever_has_no_token_stays_out() {
    let options = Options {
        join_key: b"key".to_vec(),
        ..Options::default()
    };
    let mut stage = Stage::new(options);
    let a = stage.connect(1);
    stage.text(a, &join(Dialect::Four, "w"));
    assert_eq!(stage.host.counters().unauthorised, 1);
    let token = sign(b"key", r#"{"space":"w","exp":9999999999}"#);
    stage.text(
        a,
        &format!(r#"{{"join":{{"world":"w","token":"{token}"}}}}"#),
    );
    assert_eq!(stage.host.count(&world("w")), 1);
    // Clients of the other generations have it in their address.
    let b = ConnId(2);
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    assert!(stage.host.connected(stage.now, b, address, Some(token)));
    stage.text(b, &join(Dialect::Two, "w"));
    assert_eq!(stage.host.count(&world("w")), 2);
}

#[test]
fn whoever_asked_for_it_comes_back_with_its_number() {
    let mut stage = Stage::new(Options::default());
    let a = stage.connect(1);
    stage.text(a, &join(Dialect::Two, "w"));
    let b = stage.connect(2);
    stage.text(b, r#"{"setPlayerData":{"data":{"nickname":"bea"}}}"#);
    stage.text(b, r#"{"join":{"world":"w","resume":""}}"#);
    let resume = {
        let key = stage.host.players.keys().last().unwrap();
        stage.host.players[key].resume.clone().unwrap()
    };
    let number = stage
        .host
        .seen(&world("w"))
        .iter()
        .find(|seen| seen.name == "bea")
        .unwrap()
        .player;
    stage.texts(a);
    stage.close(b);
    stage.wait(Duration::from_secs(5));
    assert!(stage.texts(a).is_empty(), "nobody notices");
    assert_eq!(stage.host.count(&world("w")), 1);
    let again = stage.connect(3);
    stage.text(
        again,
        &format!(r#"{{"join":{{"world":"w","resume":"{resume}"}}}}"#),
    );
    let seen = stage.host.seen(&world("w"));
    let bea = seen.iter().find(|seen| seen.name == "bea").unwrap();
    assert_eq!((bea.player, bea.is_away), (number, false));
    assert!(stage.texts(a).is_empty());
    assert_eq!(stage.host.counters().resumed, 1);
    // This time it stays away.
    stage.close(again);
    stage.wait(Duration::from_secs(11));
    assert_eq!(subjects(&stage.texts(a)), ["player_left"]);
    assert_eq!(stage.host.players(), 1);
}

#[test]
fn who_is_banned_stays_out_for_the_time() {
    let mut stage = Stage::new(Options::default());
    let a = stage.connect(1);
    stage.text(a, &join(Dialect::ThreeB, "w"));
    let number = stage.host.seen(&world("w"))[0].player;
    let until = stage.now + Duration::from_secs(60);
    assert!(stage.host.ban(&world("w"), number, until, "noise"));
    assert!(!stage.host.kick(&world("w"), number, "noise"), "it is out");
    stage.text(a, &join(Dialect::ThreeB, "w"));
    assert_eq!(stage.host.counters().banned, 1);
    stage.wait(Duration::from_secs(61));
    stage.text(a, &join(Dialect::ThreeB, "w"));
    assert_eq!(stage.host.count(&world("w")), 1);
}

#[test]
fn dialects_share_a_space() {
    let mut stage = Stage::new(Options::default());
    let all = Dialect::ALL.map(|dialect| {
        let conn = stage.connect(dialect as u64);
        stage.text(conn, &join(dialect, "w"));
        conn
    });
    stage.heard.clear();
    stage.text(all[0], &two("set_name", "alice".into()));
    stage.text(all[0], &two("chat", "hi".into()));
    for conn in all {
        assert_eq!(stage.take_heard(conn).len(), 2, "{conn:?}");
    }
    // What only generation 4 knows reaches only generation 4; 3b's own goes to 3b.
    stage.text(all[3], r#"{"sendEvent":{"data":"AQID"}}"#);
    let counts = all.map(|conn| stage.take_heard(conn).len());
    assert_eq!(counts, [0, 0, 0, 1]);
    let other = stage.connect(9);
    stage.text(other, &join(Dialect::ThreeB, "w"));
    stage.heard.clear();
    stage.text(
        other,
        r#"{"id":"com.example.wave","data":1,"target":"client"}"#,
    );
    let counts = all.map(|conn| stage.take_heard(conn).len());
    assert_eq!(counts, [0, 0, 1, 0]);
    assert!(stage.take_heard(other).is_empty(), "not to the sender");
}

#[test]
fn what_is_out_of_place_changes_nothing() {
    let mut stage = Stage::new(Options::default());
    let a = stage.connect(1);
    let codec = json!({"mimeType": "audio/opus", "payloadType": 111});
    stage.text(a, &two("produce", json!({"codecs": [codec]})));
    stage.text(a, &two("produce_data", json!({"streamId": 0})));
    stage.text(a, &two("leave", "w".into()));
    stage.text(a, &two("resume_audio", json!(null)));
    let print = json!([{"algorithm": "sha-256", "value": "AA:BB"}]);
    let connect = json!({"type": "producer", "dtlsParameters": {"fingerprints": print}});
    stage.text(a, &two("connect_transport", connect));
    assert!(stage.orders.is_empty());
    assert_eq!(stage.host.counters().out_of_place, 4);
    stage.text(a, "nonsense that ended the original");
    stage.text(a, "");
    assert_eq!(stage.host.counters().malformed, 2);
    stage.text(a, &two("chat", "x".repeat(20_000).into()));
    assert_eq!(stage.host.counters().oversized, 1);
}

#[test]
fn a_new_transport_takes_the_place_of_the_old_one() {
    let mut stage = Stage::new(Options::default());
    let a = stage.connect(1);
    for _ in 0..900 {
        stage.text(a, &two("create_transport", json!({"type": "producer"})));
    }
    assert_eq!((stage.open.len(), stage.host.transports()), (1, 1));
    stage.close(a);
    assert!(stage.open.is_empty());
}

#[test]
fn floods_are_cut() {
    let mut stage = Stage::new(Options::default());
    let a = stage.connect(1);
    stage.text(a, &join(Dialect::Two, "w"));
    stage.heard.clear();
    for _ in 0..2000 {
        stage.text(a, &two("chat", "x".into()));
    }
    assert_eq!(stage.take_heard(a).len(), 20);
    assert_eq!(stage.host.counters().too_often, 1980);
    for key in 0..200 {
        stage.wait(Duration::from_secs(1));
        let data = format!(r#"{{"setPlayerData":{{"data":{{"k{key}":"v"}}}}}}"#);
        let b = ConnId(2);
        if key == 0 {
            stage.connect(2);
        }
        stage.text(b, &data);
    }
    let most = stage
        .host
        .players
        .values()
        .map(|player| player.data.len())
        .max();
    assert_eq!(most, Some(32));
}
