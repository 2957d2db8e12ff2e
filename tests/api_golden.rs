//! The API's replies beside those of MistServer, recorded in `tests/data/mistserver/api`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test has to begin at some time"
)]

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::ids::{ConnId, ShardId, StreamId, TrackId};
use ringside::config::{Config, parse, read_document};
use ringside::media::{AudioFormat, Codec, Track, VideoFormat};
use ringside::proto::http;
use ringside::streams::api::accounts::Accounts;
use ringside::streams::api::{
    Api, Attempt, Call, Caller, Done, Effect, Listing, LogEntry, Machine, Reply, Verdict, World,
};
use ringside::streams::client::{Figures, Role, Tally};
use ringside::streams::name::StreamName;
use ringside::streams::{ClientSnapshot, ShardSnapshot, StreamSnapshot, TrackSnapshot};
use serde_json::{Map, Value, json};

/// When the calls are made.
const UNIX_MS: i64 = 1_795_192_072_000;

fn golden(name: &str) -> Value {
    let text = fs::read_to_string(format!("tests/data/mistserver/api/{name}.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A server with one live stream, its publisher and one viewer.
struct Scene {
    api: Api,
    config: Config,
    now: Instant,
    shards: Vec<ShardSnapshot>,
    clients: Vec<ClientSnapshot>,
    effects: Vec<Effect>,
    random: u8,
}

impl Scene {
    fn new(top_level: Value) -> Self {
        let text = fs::read_to_string("tests/data/mistserver/config_example.json").unwrap();
        let mut document: Map<String, Value> = serde_json::from_str(&text).unwrap();
        document.extend(top_level.as_object().unwrap().clone());
        let mut api = Api::new([7; 8]);
        for second in 0..20 {
            let figures = Figures {
                inputs: 1,
                down: second * 250_000,
                ..Figures::default()
            };
            let tally = Tally::from([("INPUT:RTMP", figures)]);
            let unix_s = UNIX_MS / 1000 - 19 + second as i64;
            api.history.add(unix_s, tally, &[]);
        }
        Self {
            api,
            config: read_document(document).unwrap().config,
            now: Instant::now(),
            shards: vec![shard()],
            clients: clients(),
            effects: Vec::new(),
            random: 0,
        }
    }

    /// As a caller with these fields would be answered.
    fn call(&mut self, path: &str, fields: &Map<String, Value>, commands: &Value) -> Reply {
        let body = commands.to_string();
        let mut text = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:4242\r\n");
        for (name, value) in fields {
            text += &format!("{name}: {}\r\n", value.as_str().unwrap());
        }
        let length = body.len();
        text +=
            &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        let mut session = http::Session::new(self.now, http::Options::default());
        session.handle_input(self.now, text.as_bytes());
        let Some(http::Event::Request(request)) = session.poll_event() else {
            panic!("{text}");
        };
        let peer: IpAddr = "127.0.0.1".parse().unwrap();
        let caller = Caller::of(&request, peer, None, &[]);
        let call = Call::read(&request).unwrap().unwrap();
        self.random += 1;
        let attempt = Attempt {
            now: self.now,
            conn: ConnId(1),
            caller: &caller,
            commands: &call.commands,
            authorization: request.header("authorization"),
            random: [self.random; 16],
        };
        let accounts = Accounts::open(&self.config, None);
        let authorize = match self.api.authorizer.decide(&attempt, &accounts) {
            Verdict::Granted(authorize) => authorize,
            Verdict::Refused(reply) => return reply,
            Verdict::Verify { .. } | Verdict::MakeAccount { .. } => panic!("not in these tests"),
        };
        let log = [LogEntry {
            number: 0,
            unix_s: 1,
            kind: "INFO",
            text: "a publisher begins".to_owned(),
            stream: "live".to_owned(),
            place: "a.rs:1".to_owned(),
        }];
        let listing = Ok(Listing {
            folders: Vec::new(),
            files: vec!["test60.mp4".to_owned()],
        });
        let machine = Machine {
            total_kib: 1000,
            threads: 2,
            ..Machine::default()
        };
        let world = World {
            config: &self.config,
            listening: &self.config.protocols,
            unix_ms: UNIX_MS,
            shards: &self.shards,
            clients: &self.clients,
            machine: Some(&machine),
            listing: Some(&listing),
            log: &log,
            pid: 1,
            host: "127.0.0.1:4242",
            is_local: caller.is_local,
        };
        let Done {
            reply,
            loaded,
            effects,
        } = self.api.execute(&call, authorize, &world);
        if let Some(loaded) = loaded {
            self.config = loaded.config;
        }
        self.effects.extend(effects);
        reply
    }

    /// Repeats a recorded call.
    fn replay(&mut self, name: &str) -> (Value, Reply) {
        let golden = golden(name);
        let fields = golden["request_headers"].as_object().unwrap();
        let path = golden["path"].as_str().unwrap();
        let reply = self.call(path, fields, &golden["request"]);
        assert_eq!(golden["status"], reply.status, "{name}");
        (golden["reply"].clone(), reply)
    }
}

fn shard() -> ShardSnapshot {
    let track = |id, codec, video, audio| TrackSnapshot {
        track: Track {
            id: TrackId(id),
            codec,
            init: Bytes::new(),
            video,
            audio,
            language: String::new(),
            rid: String::new(),
        },
        frames: 600,
        bytes: 1_000_000,
        bytes_per_s: 200_000,
        bytes_per_s_max: 250_000,
        first_ms: 180_000,
        last_ms: 231_000,
        keyframes: 10,
    };
    let video = VideoFormat {
        width: 1280,
        height: 720,
        frames_per_1000_s: 30_000,
    };
    let audio = AudioFormat {
        rate: 48_000,
        channels: 2,
        bits: 16,
    };
    ShardSnapshot {
        streams: vec![StreamSnapshot {
            renditions: 0,
            name: StreamName::parse("live").unwrap(),
            id: StreamId(1),
            is_home: true,
            publisher: Some("rtmp"),
            tracks: vec![
                track(1, Codec::H264, Some(video), None),
                track(2, Codec::Aac, None, Some(audio)),
            ],
            viewers: Default::default(),
            bytes_out: Default::default(),
            segment_bytes_out: Default::default(),
            skips: 0,
            views: 7,
            view_seconds: 12,
            log_bytes: 1,
            unix_zero_ms: 1,
        }],
        ..ShardSnapshot::default()
    }
}

fn clients() -> Vec<ClientSnapshot> {
    let client = |id, protocol, role| ClientSnapshot {
        id: (ShardId(0), id),
        conn: None,
        host: Some("127.0.0.1".parse().unwrap()),
        stream: StreamName::parse("live").unwrap(),
        protocol,
        role,
        age: Duration::from_secs(10),
        position_ms: 231_000,
        up: 1000,
        down: 6000,
    };
    vec![
        client(1, "INPUT:RTMP", Role::Input),
        client(2, "FLV", Role::Viewer),
    ]
}

/// Objects whose members are named by data, and what only MistServer has.
const LEFT_OUT: &[&str] = &[
    // Tracks that are not there, and the member that names each.
    ".meta_JSON__0",
    // A token of MistServer's own pages for its processes and pages.
    ".forward",
    ".push_urls",
    ".push_parameters",
    ".socket",
    ".exceptions",
    ".encryption",
    ".url_prefix",
    ".player_url",
    // Of the options, those that have an effect here are listed.
    ".optional",
    ".triggers",
    ".internal_writers",
    ".source_help",
    ".internal",
    ".RTMP.sort",
    // Which protocols are served.
    ".protocols[].online",
];

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a flag",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Notes where the form of `ours` is another than that of MistServer's reply: members that are
/// missing or more, and values of another kind.
fn compare(path: &str, theirs: &Value, ours: &Value, differences: &mut Vec<String>) {
    if LEFT_OUT.iter().any(|left_out| path.ends_with(left_out)) {
        return;
    }
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (name, value) in theirs {
                let path = format!("{path}.{name}");
                match ours.get(name) {
                    Some(own) => compare(&path, value, own, differences),
                    None if LEFT_OUT.iter().any(|left_out| path.ends_with(left_out)) => {}
                    None => differences.push(format!("{path} is missing")),
                }
            }
            let more = ours.keys().filter(|name| !theirs.contains_key(*name));
            differences.extend(more.map(|name| format!("{path}.{name} is new")));
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            for (index, own) in ours.iter().enumerate() {
                let theirs = theirs.get(index).or_else(|| theirs.first());
                if let Some(theirs) = theirs {
                    compare(&format!("{path}[]"), theirs, own, differences);
                }
            }
        }
        (Value::Null, _) => {}
        (theirs, ours) if kind(theirs) == kind(ours) => {}
        (theirs, ours) => {
            let (theirs, ours) = (kind(theirs), kind(ours));
            differences.push(format!("{path} is {ours} and not {theirs}"));
        }
    }
}

#[track_caller]
fn assert_same_form(name: &str, theirs: &Value, reply: &Reply) {
    let mut differences = Vec::new();
    let ours = Value::Object(reply.members.clone());
    compare(name, theirs, &ours, &mut differences);
    assert!(differences.is_empty(), "{differences:#?}\n{ours:#}");
}

#[test]
fn replies_with_fixed_values_are_the_same() {
    let mut scene = Scene::new(json!({
        "auto_push": golden("push_auto_list")["reply"]["auto_push"],
        "bandwidth": {"exceptions": ["::1", "127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12"]},
        "media": {"roots": ["/media/vod"]},
    }));
    for name in [
        "active_streams",
        "addprotocol",
        "addstream",
        "bandwidth",
        "browse",
        "deleteprotocol",
        "deletestream",
        "external_writers",
        "invalidate_sessions",
        "jwks",
        "nuke_stream",
        "proc_list",
        "push_auto_list",
        "push_auto_remove",
        "push_stop",
        "save",
        "stop_sessions",
        "stream_tags",
        "streamkeys",
        "streamkey_del",
        "tags",
        "tags_remove",
        "ui_settings",
        "update",
    ] {
        let (theirs, mut reply) = scene.replay(name);
        // That a changed port waits for the next start is said beside.
        reply.members.shift_remove("notice");
        assert_eq!(Value::Object(reply.members), theirs, "{name}");
    }
    let nosuch = StreamName::parse("nosuch").unwrap();
    assert!(scene.effects.contains(&Effect::Save));
    assert!(scene.effects.contains(&Effect::Nuke(nosuch)));
}

#[test]
fn replies_with_other_values_have_the_same_form() {
    let mut scene = Scene::new(json!({}));
    for name in [
        "active_streams_fields",
        "active_streams_obj",
        "active_streams_obj_short",
        "api_endpoint",
        "capabilities",
        "clients",
        "clients_time",
        "config",
        "load",
        "log",
        "stats_streams",
        "streams",
        "totals",
        "totals_fields",
        "version",
    ] {
        let (theirs, reply) = scene.replay(name);
        let mut theirs = theirs;
        let mut members = reply.members.clone();
        match name {
            "stats_streams" => {
                // MistServer counts what belongs to no stream under an empty name.
                theirs["stats_streams"]
                    .as_object_mut()
                    .unwrap()
                    .shift_remove("");
            }
            "streams" => {
                // Of sources that are not served, this server says so.
                for name in ["pull", "vod"] {
                    for streams in [&mut theirs["streams"], &mut members["streams"]] {
                        streams.as_object_mut().unwrap().shift_remove(name);
                    }
                }
            }
            "capabilities" => {
                let ours = members["capabilities"]["connectors"]
                    .as_object_mut()
                    .unwrap();
                for name in ["HTTPS", "MP4"] {
                    assert!(ours.shift_remove(name).is_some(), "not in that MistServer");
                }
                for connector in ours.values_mut() {
                    connector.as_object_mut().unwrap().shift_remove("url_rel");
                }
                for connector in theirs["capabilities"]["connectors"]
                    .as_object_mut()
                    .unwrap()
                    .values_mut()
                {
                    connector.as_object_mut().unwrap().shift_remove("url_rel");
                }
            }
            _ => {}
        }
        let reply = Reply { members, ..reply };
        assert_same_form(name, &theirs, &reply);
    }
}

#[test]
fn a_whole_reply_has_the_same_form() {
    let mut scene = Scene::new(json!({}));
    let (mut theirs, mut reply) = scene.replay("local_full");
    for streams in [&mut theirs["streams"], &mut reply.members["streams"]] {
        streams
            .as_object_mut()
            .unwrap()
            .retain(|name, _| name == "live");
    }
    assert_same_form("local_full", &theirs, &reply);
    let text = fs::read_to_string("tests/data/mistserver/api/jsonp.txt").unwrap();
    let theirs = text.rsplit("cb(").next().unwrap();
    let response = reply.into_response(Some("cb"));
    let ours = String::from_utf8(response.body.to_vec()).unwrap();
    assert_eq!(ours[..13], format!("cb({theirs}")[..13]);
    assert_eq!(ours[ours.len() - 4..], theirs[theirs.len() - 4..]);
}

#[test]
fn a_server_without_a_configuration_answers_as_mistserver_does() {
    let mut scene = Scene::new(json!({}));
    let text = fs::read_to_string("tests/data/mistserver/config_saved_from_empty.json").unwrap();
    scene.config = parse(&text, "c").unwrap().config;
    let reply = scene.call(
        "/api2",
        &Map::new(),
        &json!({"config": true, "streams": true}),
    );
    let theirs = golden("empty_config_local");
    assert_same_form("empty_config_local", &theirs, &reply);
    assert_eq!(reply.members["authorize"], theirs["authorize"]);

    let fields = Map::from_iter([("X-Forwarded-For".to_owned(), "127.0.0.1".into())]);
    let reply = scene.call("/api2", &fields, &json!({"config": true}));
    assert_eq!(reply.status, 403);
    let theirs = golden("empty_config_remote");
    assert_eq!(
        reply.members["authorize"]["status"],
        theirs["authorize"]["status"]
    );
    assert_eq!(reply.members.len(), 1);
}

#[test]
fn logins_go_as_with_mistserver() {
    let mut scene = Scene::new(json!({}));
    for name in ["auth_chall", "auth_bad"] {
        let (theirs, reply) = scene.replay(name);
        assert_same_form(name, &theirs, &reply);
        assert_eq!(reply.members["authorize"]["status"], "CHALL");
    }
    let recorded = golden("auth_header_bad");
    let fields = recorded["request_headers"].as_object().unwrap();
    let reply = scene.call("/api2", fields, &recorded["request"]);
    assert_eq!(recorded["status"], reply.status);
    assert!(
        reply
            .authenticate
            .unwrap()
            .starts_with("json {\"challenge\":\"")
    );

    // The recorded answer is to a challenge of another day; the same password answers ours.
    let challenge = reply.members["authorize"]["challenge"].as_str().unwrap();
    let md5 = ringside::streams::api::accounts::md5_hex("test");
    let password = ringside::streams::api::accounts::response(&md5, challenge);
    let login = json!({"username": "test", "password": password});
    let mut fields = fields.clone();
    fields.shift_remove("Authorization");
    let reply = scene.call(
        "/api2",
        &fields,
        &json!({"authorize": login, "version": true}),
    );
    let theirs = golden("auth_ok")["reply"].clone();
    assert_same_form("auth_ok", &theirs, &reply);
    assert_eq!(reply.members["authorize"], theirs["authorize"]);

    let (_, reply) = scene.replay("auth_chall");
    let challenge = reply.members["authorize"]["challenge"].as_str().unwrap();
    let password = ringside::streams::api::accounts::response(&md5, challenge);
    let field = format!("json {}", json!({"username": "test", "password": password}));
    fields.insert("Authorization".to_owned(), field.into());
    let reply = scene.call("/api2", &fields, &json!({"version": true}));
    assert_eq!(
        reply.members["authorize"],
        golden("auth_header_ok")["reply"]["authorize"]
    );
}

/// What is not built says so, and changes nothing.
#[test]
fn what_is_not_built_is_refused() {
    let mut scene = Scene::new(json!({}));
    for name in ["push_start", "push_auto_add", "push_settings", "variables"] {
        let before = scene.config.to_text();
        let (_, reply) = scene.replay(name);
        let errors = reply.members["errors"].to_string();
        assert!(errors.contains("not built yet"), "{name}: {errors}");
        assert_eq!(scene.config.to_text(), before, "{name}");
    }
    let (_, reply) = scene.replay("push_list");
    assert_eq!(reply.members["push_list"], Value::Null);
}

#[test]
fn a_rejected_value_changes_nothing_and_is_named() {
    let mut scene = Scene::new(json!({}));
    let before = scene.config.to_text();
    for (commands, named) in [
        (
            json!({"addstream": {"a": {"source": "push://", "DVR": "x"}}}),
            "streams.a.DVR",
        ),
        (
            json!({"addstream": {"/": {"source": "push://"}}}),
            "a stream's name",
        ),
        (json!({"addstream": {"a": 5}}), "streams.a"),
        (json!({"streams": {"a": {"DVR": -1}}}), "streams.a.DVR"),
        (
            json!({"config": {"sessionViewerMode": 99}}),
            "config.sessionViewerMode",
        ),
        (
            json!({"addprotocol": {"connector": "HTTP", "port": 1935, "interface": "127.0.0.1"}}),
            "port",
        ),
        (
            json!({"deleteprotocol": {"connector": "nosuch"}}),
            "no such protocol",
        ),
        (json!({"bandwidth": {"limit": "fast"}}), "bandwidth.limit"),
        (
            json!({"streamkey_add": {"s3cret": [1]}}),
            "an object of texts",
        ),
        (json!({"config_restore": {"streams": 5}}), "streams"),
        (json!({"deletestream": "nosuch"}), "no stream nosuch"),
        (json!({"nosuch": true}), "no such command"),
    ] {
        let reply = scene.call("/api2", &Map::new(), &commands);
        let errors = reply.members["errors"].to_string();
        assert!(errors.contains(named), "{commands}: {errors}");
        assert!(!errors.contains("s3cret"));
        assert_eq!(scene.config.to_text(), before, "{commands}");
    }
}

#[test]
fn a_backup_is_what_restore_takes() {
    let mut scene = Scene::new(json!({"unknown": {"kept": [1, 2.5]}}));
    let reply = scene.call("/api2", &Map::new(), &json!({"config_backup": true}));
    let backup = reply.members["config_backup"].clone();
    assert_eq!(backup["unknown"], json!({"kept": [1, 2.5]}));
    let before = scene.config.to_text();
    let empty = json!({"config_restore": {"streams": {}}});
    scene.call("/api2", &Map::new(), &empty);
    assert!(scene.config.streams.is_empty());
    assert!(!scene.config.accounts.is_empty(), "accounts stay");
    scene.call("/api2", &Map::new(), &json!({"config_restore": backup}));
    assert_eq!(scene.config.to_text(), before);
}
