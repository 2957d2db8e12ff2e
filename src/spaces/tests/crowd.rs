//! Many players of all dialects who come, do anything and go, by seed.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::base::prng::Prng;

const WORLDS: [&str; 3] = ["a", "b", "c"];

fn act(stage: &mut Stage, prng: &mut Prng, conn: ConnId, dialect: Dialect) {
    let world = WORLDS[prng.below(3) as usize];
    let transport = ["producer", "consumer"][prng.below(2) as usize];
    let what = prng.below(9);
    if dialect == Dialect::Four {
        let text = match what {
            0 | 1 => join(dialect, world),
            2 => format!(r#"{{"leave":{{"world":"{world}"}}}}"#),
            3 => format!(r#"{{"createTransport":{{"type":"{}"}}}}"#, transport.to_uppercase()),
            4 => r#"{"produceData":{"sctpStreamParameters":{"ordered":false}}}"#.to_owned(),
            5 => r#"{"produce":{"rtpParameters":{"codecs":[{"mimeType":"audio/opus","payloadType":111}]}}}"#.to_owned(),
            6 => r#"{"setRtpCapabilities":{"rtpCapabilities":{"codecs":[{"mimeType":"audio/opus"}]}}}"#.to_owned(),
            7 => r#"{"pauseAudio":{"paused":false}}"#.to_owned(),
            _ => r#"{"sendChatMessage":{"message":"x"}}"#.to_owned(),
        };
        return stage.text(conn, &text);
    }
    let codec = json!({"mimeType": "audio/opus", "payloadType": 111});
    let (id, data) = match what {
        0 | 1 => return stage.text(conn, &join(dialect, world)),
        2 => (["leave", "world.leave"], json!(world)),
        3 if dialect == Dialect::Two => (["create_transport", ""], json!({"type": transport})),
        3 => (["", "webrtc.transport.create"], json!(transport)),
        4 => (
            ["produce_data", "webrtc.produceData"],
            json!({"streamId": 0}),
        ),
        5 => (["produce", "webrtc.produce"], json!({"codecs": [codec]})),
        6 => (
            ["set_rtp_capabilities", "webrtc.rtpCapabilities.set"],
            json!({"codecs": [codec]}),
        ),
        7 if dialect == Dialect::Two => (["resume_audio", ""], json!(null)),
        7 => (["", "webrtc.audio.pause"], json!(false)),
        _ => (["chat", "world.chat.send"], json!("x")),
    };
    let text = match dialect {
        Dialect::Two => two(id[0], data),
        Dialect::ThreeA => json!({"id": format!("xyz.unavi.{}", id[1]), "data": data}).to_string(),
        Dialect::ThreeB | Dialect::Four => {
            json!({"id": format!("com.wired-protocol.{}", id[1]), "data": data}).to_string()
        }
    };
    stage.text(conn, &text);
}

/// What holds after every step.
fn check(stage: &Stage) {
    let host = &stage.host;
    assert_eq!(host.transports(), stage.open.len());
    for (world, space) in &host.spaces {
        assert!(!space.members.is_empty(), "an empty space is none");
        for (number, key) in &space.members {
            assert_eq!(host.players[key].worlds.get(world), Some(number));
        }
    }
    for (key, player) in &host.players {
        let mut producers = BTreeSet::new();
        let mut streams = BTreeSet::new();
        for consumer in player.consumers.values() {
            assert_ne!(consumer.owner, *key, "nobody hears itself");
            assert!(producers.insert(consumer.producer), "nothing twice");
            assert!(consumer.stream.is_none_or(|stream| streams.insert(stream)));
            let owner = &host.players[&consumer.owner];
            let audio = owner.audio.as_ref().map(|known| known.id);
            let messages = owner.messages.as_ref().map(|known| known.id);
            assert!([audio, messages].contains(&Some(consumer.producer)));
            assert!(player.worlds.contains_key(&consumer.world));
            assert!(owner.worlds.contains_key(&consumer.world));
            let receiving = player.receiving.as_ref().map(|known| known.id);
            assert_eq!(receiving, Some(consumer.id.transport));
        }
    }
}

#[test]
fn a_crowd_leaves_nothing_behind() {
    for seed in 0..20 {
        let mut prng = Prng::new(seed);
        let mut stage = Stage::new(Options::default());
        let mut conns: Vec<(ConnId, Dialect)> = Vec::new();
        let mut next = 0;
        for _ in 0..1500 {
            match prng.below(20) {
                0 => {
                    let conn = stage.connect(next);
                    next += 1;
                    conns.push((conn, Dialect::ALL[prng.below(4) as usize]));
                }
                1 if !conns.is_empty() => {
                    let place = prng.below(conns.len() as u64) as usize;
                    stage.close(conns.swap_remove(place).0);
                }
                2 => stage.media(),
                3 if !stage.open.is_empty() => {
                    let place = prng.below(stage.open.len() as u64) as usize;
                    let transport = *stage.open.keys().nth(place).unwrap();
                    stage.open.remove(&transport);
                    let reason = crate::proto::webrtc::Gone::Silent;
                    stage.host.report(Report::Gone { transport, reason });
                    stage.collect();
                }
                4 => stage.wait(Duration::from_millis(500)),
                _ if !conns.is_empty() => {
                    let place = prng.below(conns.len() as u64) as usize;
                    let (conn, dialect) = conns[place];
                    act(&mut stage, &mut prng, conn, dialect);
                }
                _ => {}
            }
            check(&stage);
        }
        for (conn, _) in conns {
            stage.close(conn);
        }
        let host = &stage.host;
        let left = (host.players(), host.spaces(), host.transports());
        assert_eq!(left, (0, 0, 0), "seed {seed}");
        assert!(stage.open.is_empty());
    }
}
