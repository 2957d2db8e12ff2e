//! Spaces with players that do what no client library does.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]
#![allow(
    clippy::unwrap_used,
    reason = "what is not there fails the test, wherever it is looked for"
)]

#[path = "support/rtc_client.rs"]
mod rtc_client;
#[path = "support/spaces_client.rs"]
mod spaces_client;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rtc_client::OPUS;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use spaces_client::{Player, tcp};
use support::spaces::{Spaces, WORLD};
use support::tls::Files;
use support::{Server, free_port, http, wait_for};

impl Spaces {
    fn event(&self, event: &str) -> u64 {
        let name = format!("spaces_events_total{{event=\"{event}\"}}");
        self.server.metric(&name)
    }

    #[track_caller]
    fn wait_for_metric(&self, name: &str, value: u64) {
        wait_for(&format!("{name} {value}"), Duration::from_secs(20), || {
            (self.server.metric(name) == value).then_some(())
        });
    }

    fn act(&self, act: &str, player: u8) {
        let path = format!("/spaces/{act}?space={WORLD}&player={player}");
        let answer = http::request(self.server.control, "POST", &path, &[]).expect("it answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// A player who is in and says where it is.
    fn player(&self, seed: u64) -> Player {
        let mut player = Player::connect(self.port, seed);
        player.enter();
        player.produce_data();
        player
    }

    fn two(&self) -> [Player; 2] {
        [100, 200].map(|seed| self.player(seed))
    }
}

/// Lets players do what they do for a while; each says where it is, 20 times a second if this
/// machine is fast enough. Gives how often each did.
fn play(players: &mut [Player], time: Duration, speaks: bool) -> usize {
    let (end, mut next) = (Instant::now() + time, Instant::now());
    let mut turn = 0;
    while Instant::now() < end {
        let is_due = Instant::now() >= next;
        for (index, player) in players.iter_mut().enumerate() {
            player.step();
            if is_due && let Some(producer) = &mut player.producer {
                if turn % 5 == 0 {
                    producer.locate(0, 100_000 * index as i32);
                }
                if speaks && producer.client.is_connected() {
                    producer.speak();
                }
            }
        }
        if is_due {
            next += Duration::from_millis(10);
            turn += 1;
        }
    }
    turn / 5
}

#[test]
fn a_player_with_another_certificate_than_it_said_is_not_connected() {
    let spaces = Spaces::start(json!({}));
    let mut liar = Player::connect(spaces.port, 1);
    liar.connects = false;
    liar.enter();
    liar.until("a transport", |it| it.producer.as_ref().map(|_| ()));
    liar.connect_transport_with("producer", &["AB"; 32].join(":"));
    // What another certificate has signed may be somebody else's: it is not heard, and others are
    // served.
    let mut two = spaces.two();
    play(&mut two, Duration::from_secs(2), false);
    assert!(two[0].locations().len() > 10);
    drop(two);
    let end = Instant::now() + Duration::from_secs(60);
    // It receives by its other transport, which is left.
    while spaces.server.metric("spaces_transports_running") > 1 {
        assert!(Instant::now() < end, "a handshake takes 30 s at most");
        liar.step();
    }
    let producer = liar.producer.as_ref().expect("it is there");
    assert!(!producer.client.is_connected());
    assert_eq!(liar.count("player_joined"), 2);
    assert_eq!(liar.count("closed"), 0, "it is still in");
}

#[test]
fn what_is_out_of_place_is_counted_and_nothing_else_happens() {
    let spaces = Spaces::start(json!({}));
    let mut early = Player::connect(spaces.port, 1);
    early.connects = false;
    // Nothing is there to produce by, to consume, to connect, to leave or to speak in.
    let stream = json!({"streamId": 0, "ordered": false, "maxRetransmits": 0});
    early.say("produce_data", stream.clone());
    early.produce_sound();
    early.say("resume_audio", Value::Null);
    early.connect_transport("producer");
    early.connect_transport("consumer");
    early.say("leave", json!(WORLD));
    early.say("chat", json!("into the void"));
    early.enter();
    let before = spaces.event("out_of_place");
    assert!(before >= 4, "{before}");
    assert_eq!(
        early.count("producer_id") + early.count("data_producer_id"),
        0
    );
    assert_eq!(early.count("player_chat"), 0);
    // Producing before connecting is answered: a client's library waits for it.
    early.until("a transport", |it| it.producer.as_ref().map(|_| ()));
    early.say("produce_data", stream);
    early.until("a producer", |it| {
        (it.count("data_producer_id") == 1).then_some(())
    });
    let other = spaces.player(2);
    early.connect_transport("producer");
    early.until("it is connected after all", |it| {
        it.producer.as_ref()?.client.is_connected().then_some(())
    });
    let mut both = [early, other];
    play(&mut both, Duration::from_secs(1), false);
    assert!(both[0].locations().len() > 5, "it is told of the other");
}

#[test]
fn thousands_of_transports_of_one_player_are_two() {
    let spaces = Spaces::start(json!({}));
    let mut player = Player::connect(spaces.port, 1);
    player.connects = false;
    player.say("join", json!(WORLD));
    for round in 0..1200 {
        let side = ["producer", "consumer"][round % 2];
        player.say("create_transport", json!({ "type": side }));
        player.step();
    }
    player.until("it is in", |it| it.number);
    // Made one after the other; each takes the place of the one before.
    spaces.wait_for_metric("spaces_transports", 2);
    wait_for("two are left", Duration::from_secs(20), || {
        player.step();
        (spaces.server.metric("spaces_transports_waiting") <= 2).then_some(())
    });
    assert!(player.count("transport_created") > 500);
    let resident = spaces.server.resident_bytes();
    assert!(resident < 200 << 20, "{resident}");
}

#[test]
fn thousands_of_sockets_that_never_join_are_bounded() {
    const PARTS: usize = 8;
    // As many as this process may open, and as come within the minute after which the server would
    // ask the first of them whether it is still there.
    let limits = fs::read_to_string("/proc/self/limits").expect("Linux");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    let count = soft.unwrap_or(1024).saturating_sub(300).min(10_000);
    let spaces = Spaces::start(json!({"players_max": count}));
    let before = spaces.server.resident_bytes();
    let connect = |seeds: Range<usize>| {
        let players = seeds.map(|seed| Player::connect(spaces.port, seed as u64));
        players.collect::<Vec<Player>>()
    };
    let sockets: Vec<Vec<Player>> = thread::scope(|scope| {
        let connect = &connect;
        let parts = (0..PARTS).map(|part| part * count / PARTS..(part + 1) * count / PARTS);
        let threads: Vec<_> = parts
            .map(|part| scope.spawn(move || connect(part)))
            .collect();
        let done = threads.into_iter().map(|it| it.join());
        done.collect::<Result<_, _>>().expect("all connect")
    });
    assert_eq!(spaces.server.metric("spaces_players_idle"), count as u64);
    let each = (spaces.server.resident_bytes() - before) / count as u64;
    assert!(each < 40_000, "{each} bytes each");
    let refused = Player::over(tcp(spaces.port), 1).err().expect("no room");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    drop(sockets);
    spaces.wait_for_metric("spaces_players", 0);
    let mut player = Player::connect(spaces.port, 1);
    player.enter();
}

#[test]
fn a_player_who_is_muted_is_not_heard() {
    let spaces = Spaces::start(json!({}));
    let mut two = spaces.two();
    for player in &mut two {
        player.produce_sound();
    }
    play(&mut two, Duration::from_secs(3), true);
    let number = two[0].number.expect("it is in");
    let heard = two[1].sounds();
    assert!(heard > 50, "{heard}");
    assert_eq!(
        two[1].consumer.as_ref().unwrap().client.rtp[0][1] & 0x7f,
        100
    );
    assert_eq!(OPUS, 111, "what it was sent with");
    spaces.act("mute", number);
    play(&mut two, Duration::from_millis(500), true);
    let (muted, other) = (two[1].sounds(), two[0].sounds());
    play(&mut two, Duration::from_secs(2), true);
    assert_eq!(two[1].sounds(), muted, "nothing of a muted player");
    assert!(two[0].sounds() > other + 50, "it hears all the same");
    two[0].say("chat", json!("nobody reads this"));
    spaces.act("unmute", number);
    play(&mut two, Duration::from_secs(2), true);
    assert!(two[1].sounds() > muted + 50);
    assert_eq!(two[1].count("player_chat"), 0);
    assert!(spaces.server.metric("spaces_audio_packets_delivered_total") > 100);
}

#[test]
fn one_space_spans_the_shards() {
    const SHARDS: u16 = 3;
    const PLAYERS: u64 = 6;
    let spaces = Spaces::start_on(SHARDS, json!({}));
    let mut players: Vec<Player> = (1..=PLAYERS).map(|it| spaces.player(100 * it)).collect();
    for player in &mut players {
        player.produce_sound();
    }
    let said = play(&mut players, Duration::from_secs(4), true);
    for shard in 0..SHARDS {
        let running = format!("spaces_transports_running{{shard=\"{shard}\"}}");
        assert!(spaces.server.metric(&running) > 0, "{shard} has nobody");
    }
    for player in &players {
        let own = player.number.expect("it is in");
        for other in players.iter().filter_map(|it| it.number) {
            let seen = player.locations().iter();
            let seen = seen.filter(|(_, bytes)| bytes[0] == other).count();
            match other == own {
                true => assert_eq!(seen, 0, "{own} sees itself"),
                false => assert!(seen * 2 > said, "{own} sees {other} {seen} times of {said}"),
            }
        }
        let mut heard = BTreeMap::new();
        for packet in &player.consumer.as_ref().unwrap().client.rtp {
            *heard.entry(&packet[8..12]).or_insert(0) += 1;
        }
        assert_eq!(heard.len() as u64, PLAYERS - 1, "{own} hears all others");
        // Five packets of sound for each location, from when all are connected.
        let is_clear = heard.values().all(|count| count * 2 > 5 * said);
        assert!(is_clear, "{own} hears {heard:?} while {said} locations");
    }
}

/// Clients of generation 3 and 4 do not say the SSRC of their voice, so that the original never heard
/// them.
#[test]
fn a_voice_whose_ssrc_nobody_said_is_heard() {
    let spaces = Spaces::start(json!({}));
    let mut two = spaces.two();
    two[0].produce_sound_as(&json!([]));
    play(&mut two, Duration::from_secs(3), true);
    let heard = two[1].sounds();
    assert!(heard > 50, "{heard}");
    assert_eq!(two[0].sounds(), 0, "the other one said nothing");
}

#[test]
fn those_who_are_far_away_are_seen_less_often() {
    let spaces = Spaces::start(json!({"nearest": 1, "others_every_ms": 500}));
    let mut players = [100, 200, 300].map(|seed| spaces.player(seed));
    play(&mut players, Duration::from_secs(2), false);
    let before = players[0].locations().len();
    let said = play(&mut players, Duration::from_secs(4), false);
    let mut seen = BTreeMap::new();
    for (_, location) in &players[0].locations()[before..] {
        *seen.entry(location[0]).or_insert(0) += 1;
    }
    // At 0, 1 and 2 metres.
    let [near, far] = [1, 2].map(|index: usize| seen[&players[index].number.unwrap()]);
    assert!(near * 4 > said * 3, "{seen:?}: all of {said}");
    assert!((4..=12).contains(&far), "{seen:?}: one each half second");
    assert!(spaces.server.metric("spaces_locations_left_out_total") > 10);
}

/// A player over TLS who trusts one certificate.
fn secure(port: u16, files: &Files) -> Result<Player, String> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = fs::read(&files.cert).expect("the certificate is there");
    let certificate = CertificateDer::from_pem_slice(&pem).expect("PEM");
    roots.add(certificate).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("TLS");
    let stream = tcp(port);
    // The handshake waits for the server.
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .map_err(|error| error.to_string())?;
    }
    let read = Some(Duration::from_millis(1));
    stream.sock.set_read_timeout(read).unwrap();
    Player::over(stream, 1)
}

#[test]
fn the_port_speaks_tls_and_takes_another_certificate_while_it_runs() {
    let files = Files::new(&["localhost"]);
    let spaces = Spaces::start(json!({"cert": files.cert, "key": files.key}));
    let mut first = secure(spaces.port, &files).expect("it trusts this one");
    first.say("join", json!(WORLD));
    first.until("it is in", |it| it.number);
    let plain = Player::over(tcp(spaces.port), 1);
    assert!(plain.is_err(), "only TLS is spoken here");
    files.renew(&["localhost"]);
    let mut second = wait_for("the new certificate", Duration::from_secs(20), || {
        secure(spaces.port, &files).ok()
    });
    second.say("join", json!(WORLD));
    second.until("it is in", |it| it.number);
    // Who was there before still is.
    first.until("it is told", |it| {
        (it.count("player_joined") == 1).then_some(())
    });
}

#[test]
fn spaces_have_the_ports_that_the_configuration_says() {
    // 8080 is the port of streams unless those have another one; here spaces get it.
    let port = free_port();
    let more = [free_port(), free_port()];
    let edit = |all: &mut Value| {
        let protocols = &mut all["config"]["protocols"];
        *protocols = json!([{"connector": "WebRTC"}]);
        all["spaces"] = json!({"interface": "127.0.0.1", "port": port, "more_ports": more});
    };
    let server = Server::start_edited(json!({}), edit, |_| {});
    let ports = [port, more[0], more[1]];
    let mut players = Vec::new();
    for (seed, port) in ports.into_iter().enumerate() {
        let mut player = Player::connect(port, seed as u64);
        player.enter();
        players.push(player);
        let count = http::get(port, &format!("/player-count/{WORLD}")).expect("it answers");
        assert_eq!(count.text(), (seed + 1).to_string());
    }
    let listed = http::get(server.control, "/spaces").expect("it answers");
    let listed: Value = serde_json::from_str(&listed.text()).expect("JSON");
    assert_eq!(listed["spaces"][0]["players"], 3);
}
