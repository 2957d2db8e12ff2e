//! MistServer's API on the control port, called by curl as MistServer's documentation does.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Background, Server, clips, ffmpeg, run, wait_for};

const MD5_OF_TEST: &str = "098f6bcd4621d373cade4e832627b4f6";

/// What nginx would add: such a caller is not on this machine.
const REMOTE: &str = "X-Forwarded-For: 203.0.113.7";

fn curl(arguments: &[&str]) -> String {
    run(
        Command::new("curl")
            .args(["-s", "-S", "-m", "15"])
            .args(arguments),
        Duration::from_secs(20),
    )
    .success()
    .stdout
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

fn url(server: &Server, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", server.control)
}

/// As a program of this machine.
fn call(server: &Server, commands: &Value) -> Value {
    parsed(&curl(&[
        &url(server, "/api2"),
        "-H",
        "Content-Type: application/json",
        "-d",
        &commands.to_string(),
    ]))
}

/// As somebody else.
fn call_from_afar(server: &Server, commands: &Value) -> Value {
    parsed(&curl(&[
        &url(server, "/api2"),
        "-H",
        REMOTE,
        "-d",
        &commands.to_string(),
    ]))
}

fn server() -> Server {
    Server::start_with(
        json!({"clip": {"source": "push://"}}),
        json!({"account": {"test": {"password": MD5_OF_TEST}}, "kept": [1.5, {"a": null}]}),
    )
}

/// The login of MistServer's documentation, in the shell.
fn login_by_script(server: &Server, password: &str, commands: &str) -> Value {
    let script = format!(
        r#"set -e
        call() {{ curl -s -m 15 -H '{REMOTE}' --data-urlencode "command=$1" '{url}'; }}
        challenge=$(call '{{"authorize":{{"username":"test","password":""}}}}' |
            sed -n 's/.*"challenge":"\([0-9a-f]*\)".*/\1/p')
        md5=$(printf %s '{password}' | md5sum | cut -d' ' -f1)
        response=$(printf %s "$md5$challenge" | md5sum | cut -d' ' -f1)
        call "{{\"authorize\":{{\"username\":\"test\",\"password\":\"$response\"}},{commands}}}"
        "#,
        url = url(server, "/api2"),
    );
    let said = run(
        Command::new("sh").args(["-c", &script]),
        Duration::from_secs(30),
    );
    parsed(&said.success().stdout)
}

#[test]
fn every_form_of_a_call_is_answered() {
    let server = server();
    let get = curl(&[
        "-G",
        "--data-urlencode",
        r#"command={"version":true}"#,
        &url(&server, "/api2"),
    ]);
    assert!(get.ends_with("}\n\n"), "{get:?}");
    assert_eq!(
        parsed(&get)["version"]["version"],
        env!("CARGO_PKG_VERSION")
    );
    let form = curl(&[
        "--data-urlencode",
        r#"command={"version":true}"#,
        &url(&server, "/api2"),
    ]);
    assert_eq!(parsed(&form), parsed(&get));
    assert_eq!(call(&server, &json!({"version": true})), parsed(&get));

    let whole = parsed(&curl(&[&url(&server, "/api")]));
    for member in ["LTS", "authorize", "config", "log", "streams"] {
        assert!(whole.get(member).is_some(), "{member} in {whole}");
    }
    let jsonp = curl(&[
        "-i",
        "-G",
        "--data-urlencode",
        r#"command={"version":true}"#,
        "-d",
        "callback=cb",
        &url(&server, "/api2"),
    ]);
    assert!(jsonp.contains("Content-Type: text/javascript"), "{jsonp}");
    assert!(jsonp.contains("\r\n\r\ncb({\"LTS\":1,"), "{jsonp}");
    assert!(jsonp.ends_with("});\n\n"), "{jsonp}");

    let page = curl(&[&url(&server, "/")]);
    assert!(
        page.contains("/api2") && page.contains("/metrics"),
        "{page}"
    );
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let server = server();
    let before = call(&server, &json!({"config_backup": true}));
    let said = curl(&[
        "-i",
        &url(&server, "/api2"),
        "-d",
        "{\"addstream\":{\"new\":{\"source\":\"push://\"}},\n\"save\":}",
    ]);
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    assert!(said.contains("line 2 column 8"), "{said}");
    assert_eq!(call(&server, &json!({"config_backup": true})), before);
}

#[test]
fn the_login_script_of_mistservers_documentation_works() {
    let server = server();
    let refused = call_from_afar(&server, &json!({"version": true}));
    assert_eq!(refused["authorize"]["status"], "CHALL");
    assert_eq!(refused.get("version"), None);
    let reply = login_by_script(&server, "test", r#"\"version\":true"#);
    assert_eq!(reply["authorize"], json!({"status": "OK"}));
    assert!(reply["version"].is_object());
    // After a save, the file holds a hash and a sealed MD5, and the script works all the same.
    call(&server, &json!({"save": true}));
    let file = server.config().to_string();
    assert!(
        !file.contains(MD5_OF_TEST) && file.contains("$argon2id$"),
        "{file}"
    );
    let reply = login_by_script(&server, "test", r#"\"version\":true"#);
    assert_eq!(reply["authorize"]["status"], "OK");
    let log = server.process.log();
    for secret in [MD5_OF_TEST, "$argon2id$"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn the_field_and_the_password_are_other_ways_in() {
    let server = server();
    call(&server, &json!({"save": true}));
    let bad = curl(&[
        "-i",
        "-H",
        REMOTE,
        "-H",
        r#"Authorization: json {"username":"test","password":"x"}"#,
        &url(&server, "/api2"),
    ]);
    assert!(bad.starts_with("HTTP/1.1 403"), "{bad}");
    let challenge = bad
        .split("WWW-Authenticate: json {\"challenge\":\"")
        .nth(1)
        .and_then(|rest| rest.get(..32))
        .expect("a challenge");
    let response = md5(&format!("{MD5_OF_TEST}{challenge}"));
    let field = format!(r#"Authorization: json {{"username":"test","password":"{response}"}}"#);
    let arguments = [
        "-H",
        REMOTE,
        "-H",
        &field,
        &url(&server, "/api2?command={}"),
        "-g",
    ];
    assert_eq!(
        parsed(&curl(&arguments))["authorize"],
        json!({"status": "OK"})
    );
    assert_ne!(
        parsed(&curl(&arguments))["authorize"]["status"],
        "OK",
        "a challenge is answered once"
    );
    let with_password = |password: &str| {
        let account = format!("test:{password}");
        let target = url(&server, "/api2?command={}");
        parsed(&curl(&["-g", "-H", REMOTE, "-u", &account, &target]))
    };
    assert_eq!(with_password("test")["authorize"]["status"], "OK");
    assert_ne!(with_password("tset")["authorize"]["status"], "OK");
}

fn md5(text: &str) -> String {
    let script = format!("printf %s '{text}' | md5sum | cut -d' ' -f1");
    let said = run(
        Command::new("sh").args(["-c", &script]),
        Duration::from_secs(10),
    );
    said.success().stdout.trim().to_owned()
}

#[test]
fn wrong_passwords_make_a_caller_wait() {
    let server = server();
    let wrong = r#"{"authorize":{"username":"test","password":"00"}}"#;
    let status = || {
        curl(&[
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            REMOTE,
            "-d",
            wrong,
            &url(&server, "/api2"),
        ])
    };
    for _ in 0..4 {
        assert_eq!(status(), "200");
    }
    assert_eq!(status(), "429");
    let locked = login_by_script(&server, "test", r#"\"version\":true"#);
    assert_eq!(locked["authorize"]["status"], "CHALL");
    wait_for("the wait to end", Duration::from_secs(10), || {
        let reply = login_by_script(&server, "test", r#"\"version\":true"#);
        (reply["authorize"]["status"] == "OK").then_some(())
    });
}

/// A page that a browser on this machine shows must not be able to call.
#[test]
fn pages_of_other_sites_are_not_local() {
    let server = server();
    for field in [
        "Origin: https://evil.example",
        "Origin: http://203.0.113.9",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Referer: https://evil.example/page",
        "Host: evil.example",
    ] {
        let reply = parsed(&curl(&[
            "-H",
            field,
            "-d",
            r#"{"config_backup":true}"#,
            &url(&server, "/api2"),
        ]));
        assert_eq!(reply["authorize"]["status"], "CHALL", "{field}");
        assert_eq!(reply.get("config_backup"), None, "{field}");
    }
}

#[test]
fn the_first_account_is_made_on_the_machine() {
    let mut server = Server::open(&["clip"]);
    let new = json!({"authorize": {"new_username": "root", "new_password": "pa ss"}});
    let refused = call_from_afar(&server, &new);
    assert_eq!(refused["authorize"]["status"], "NOACC");
    assert_eq!(refused.get("LTS"), None);
    let open = call(&server, &json!({"version": true}));
    assert_eq!(open["authorize"], json!({"status": "NOACC"}));
    let made = call(&server, &new);
    assert_eq!(made["authorize"]["status"], "ACC_MADE");
    assert_eq!(call(&server, &json!({}))["authorize"]["status"], "OK");
    let with_password = |server: &Server| {
        let target = url(server, "/api2?command={}");
        parsed(&curl(&["-g", "-H", REMOTE, "-u", "root:pa ss", &target]))
    };
    assert_eq!(with_password(&server)["authorize"]["status"], "OK");
    wait_for("the account in the file", Duration::from_secs(5), || {
        let password = server.config()["account"]["root"]["password"].clone();
        password.as_str()?.starts_with("$argon2id$").then_some(())
    });
    server.process.signal(libc::SIGHUP);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(with_password(&server)["authorize"]["status"], "OK");
    restart(&mut server);
    assert_eq!(with_password(&server)["authorize"]["status"], "OK");
    assert_eq!(
        call_from_afar(&server, &json!({}))["authorize"]["status"],
        "CHALL"
    );
}

/// Ends the server as a service manager would, and starts it with its file again.
fn restart(server: &mut Server) {
    server.process.signal(libc::SIGTERM);
    let status = server.process.wait(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringside"));
    command.args(["serve", "-c"]).arg(&server.config);
    server.process = Background::start("ringside", &mut command);
    wait_for("the server", Duration::from_secs(10), || {
        let answer = support::http::get(server.control, "/readyz").ok()?;
        (answer.status == 200).then_some(())
    });
}

#[test]
fn an_account_can_be_given_at_the_start() {
    let mut server = Server::open(&["clip"]);
    server.process.signal(libc::SIGTERM);
    server.process.wait(Duration::from_secs(10));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringside"));
    command
        .args(["serve", "-a", "test:test", "-c"])
        .arg(&server.config);
    server.process = Background::start("ringside", &mut command);
    wait_for("the server", Duration::from_secs(10), || {
        support::http::get(server.control, "/readyz").ok()
    });
    let reply = login_by_script(&server, "test", r#"\"version\":true"#);
    assert_eq!(reply["authorize"]["status"], "OK");
    restart(&mut server);
    let reply = login_by_script(&server, "test", r#"\"version\":true"#);
    assert_eq!(reply["authorize"]["status"], "OK");
}

fn player(server: &Server, path: &str) -> Background {
    let mut command = Command::new(ffmpeg());
    command
        .args(["-hide_banner", "-nostdin", "-loglevel", "warning", "-i"])
        .arg(server.url(path))
        .args(["-f", "null", "-"]);
    Background::start("player", &mut command)
}

fn clients_of(server: &Server, stream: &str) -> Vec<Vec<Value>> {
    let fields = [
        "protocol", "host", "up", "down", "upbps", "downbps", "sessid", "conntime",
    ];
    let reply = call(
        server,
        &json!({"clients": {"streams": [stream], "fields": fields}}),
    );
    let rows = reply["clients"]["data"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut rows: Vec<Vec<Value>> = rows
        .into_iter()
        .map(|row| row.as_array().expect("a row").clone())
        .collect();
    rows.sort_by_key(|row| row[0].to_string());
    rows
}

#[test]
fn a_stream_is_added_published_watched_and_ended() {
    let server = server();
    let added = call(
        &server,
        &json!({"addstream": {"fresh": {"source": "push://"}}}),
    );
    assert_eq!(added["streams"]["fresh"]["source"], "push://");
    let mut publisher = server.publish("fresh", &clips::demo());
    let active = call(&server, &json!({"active_streams": true, "streams": true}));
    assert_eq!(active["active_streams"], json!(["fresh"]));
    assert_eq!(active["streams"]["fresh"]["online"], 1);
    assert_eq!(active["streams"]["clip"]["online"], 0);

    let mut players = [player(&server, "/fresh.flv"), player(&server, "/fresh.ts")];
    let rows = wait_for("three clients", Duration::from_secs(10), || {
        let rows = clients_of(&server, "fresh");
        (rows.len() == 3).then_some(rows)
    });
    let protocols: Vec<&Value> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(protocols, ["FLV", "HTTPTS", "INPUT:RTMP"]);
    assert!(rows.iter().all(|row| row[1] == "127.0.0.1"), "{rows:?}");
    // Rates after a second look.
    thread::sleep(Duration::from_secs(2));
    let rows = clients_of(&server, "fresh");
    let number = |value: &Value| value.as_u64().expect("a number");
    assert!(
        number(&rows[0][2]) > 10_000 && number(&rows[0][4]) > 1000,
        "{rows:?}"
    );
    assert!(
        number(&rows[2][3]) > 10_000 && number(&rows[2][5]) > 1000,
        "{rows:?}"
    );
    assert!(number(&rows[0][7]) >= 1, "{rows:?}");

    let totals = call(
        &server,
        &json!({"totals": {"start": -2, "fields": ["clients", "inputs", "upbps", "downbps"]}}),
    );
    let last = totals["totals"]["data"]
        .as_array()
        .expect("rows")
        .last()
        .expect("a row")
        .clone();
    assert_eq!((&last[0], &last[1]), (&json!(3), &json!(1)), "{totals}");
    assert!(
        number(&last[2]) > 1000 && number(&last[3]) > 1000,
        "{totals}"
    );
    let long = json!({"active_streams": {"stream": "fresh", "longform": true}});
    let stream = call(&server, &long)["active_streams"]["fresh"].clone();
    assert_eq!(
        (&stream["viewers"], &stream["inputs"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(stream["views"], 2);
    assert!(number(&stream["upbytes"]) > 10_000, "{stream}");

    // One by its id, the other by its protocol.
    let flv = rows[0][6].as_str().expect("an id").to_owned();
    call(&server, &json!({"stop_sessid": flv}));
    players[0].wait(Duration::from_secs(10));
    assert_eq!(clients_of(&server, "fresh").len(), 2);
    call(&server, &json!({"stop_sessions": {"fresh": "FLV"}}));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(clients_of(&server, "fresh").len(), 2, "another protocol");
    call(&server, &json!({"stop_sessions": "fresh"}));
    players[1].wait(Duration::from_secs(10));
    let rows = clients_of(&server, "fresh");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0][0], "INPUT:RTMP");

    call(&server, &json!({"nuke_stream": "fresh"}));
    publisher.wait(Duration::from_secs(10));
    wait_for("the stream to be gone", Duration::from_secs(3), || {
        let active = call(&server, &json!({"active_streams": true}));
        active["active_streams"].is_null().then_some(())
    });
    assert!(clients_of(&server, "fresh").is_empty());
    // It can be published again.
    let mut publisher = server.publish("fresh", &clips::demo());
    call(&server, &json!({"deletestream": "fresh"}));
    publisher.wait(Duration::from_secs(10));
}

#[test]
fn a_stream_key_counts_at_once() {
    let server = Server::start(json!({"clip": {"source": "push://@password"}}));
    let push = |key: &str| {
        let mut command = support::push_command(&ffmpeg(), &clips::demo(), &server.push_url(key));
        Background::start("publisher", &mut command)
    };
    push("s3cretkey").wait(Duration::from_secs(10));
    let reply = call(&server, &json!({"streamkey_add": {"s3cretkey": "clip"}}));
    assert_eq!(reply["streamkey_add"]["added"], json!(["s3cretkey"]));
    let publisher = push("s3cretkey");
    server.wait_until_live("clip", &publisher);
    drop(publisher);
    call(&server, &json!({"streamkey_del": "s3cretkey"}));
    push("s3cretkey").wait(Duration::from_secs(10));
    assert!(!server.process.log().contains("s3cretkey"));
}

#[test]
fn changes_are_saved_and_nothing_else_is_lost() {
    let mut server = server();
    let before = server.config();
    call(
        &server,
        &json!({"addstream": {"saved": {"source": "push://"}}, "save": true}),
    );
    let mut saved = server.config();
    assert_eq!(saved["streams"]["saved"]["name"], "saved");
    let text = fs::read_to_string(&server.config).expect("the file");
    assert!(!text.contains('\n'), "one line");
    saved["streams"]
        .as_object_mut()
        .expect("streams")
        .remove("saved");
    saved["account"] = before["account"].clone();
    assert_eq!(saved, before);
    // Without `save`, it is written when the server ends.
    call(
        &server,
        &json!({"addstream": {"later": {"source": "push://"}}}),
    );
    assert!(server.config()["streams"]["later"].is_null());
    restart(&mut server);
    assert_eq!(server.config()["streams"]["later"]["source"], "push://");
    let streams = call(&server, &json!({"streams": true}));
    for name in ["clip", "saved", "later"] {
        assert!(streams["streams"][name].is_object(), "{name} in {streams}");
    }
    let reply = login_by_script(&server, "test", r#"\"version\":true"#);
    assert_eq!(reply["authorize"]["status"], "OK");
}

#[test]
fn a_save_that_fails_is_told_and_loses_nothing() {
    let server = server();
    let before = fs::read_to_string(&server.config).expect("the file");
    // Where the new file would be written first, nothing can be: as on a disk without room.
    let draft = format!("{}.{}.draft", server.config.display(), server.process.id());
    fs::create_dir(&draft).expect("a folder");
    let reply = call(
        &server,
        &json!({"addstream": {"new": {"source": "push://"}}, "save": true}),
    );
    let errors = reply["errors"].to_string();
    assert!(errors.contains("not saved"), "{reply}");
    assert_eq!(
        fs::read_to_string(&server.config).expect("the file"),
        before
    );
    assert!(server.process.log().contains("was not saved"));
    fs::remove_dir(&draft).expect("the folder");
    let reply = call(&server, &json!({"save": true}));
    assert_eq!(reply.get("errors"), None);
    assert!(server.config()["streams"]["new"].is_object());
}

#[test]
fn a_file_that_somebody_else_changes_holds() {
    let server = server();
    let mut theirs = server.config();
    theirs["streams"]["theirs"] = json!({"source": "push://"});
    support::write_config(&server.config, &theirs);
    wait_for("the file to be read", Duration::from_secs(8), || {
        let streams = call(&server, &json!({"streams": true}));
        streams["streams"]["theirs"].is_object().then_some(())
    });
    call(
        &server,
        &json!({"addstream": {"ours": {"source": "push://"}}}),
    );
    theirs["streams"]["more"] = json!({"source": "push://"});
    support::write_config(&server.config, &theirs);
    let reply = call(&server, &json!({"save": true, "streams": true}));
    // Either the save met the change, or the file was looked at just before.
    let streams = call(&server, &json!({"streams": true}))["streams"].clone();
    assert!(
        streams["more"].is_object() && streams["ours"].is_null(),
        "{reply} {streams}"
    );
    assert!(server.config()["streams"]["more"].is_object());
    let unsaved = format!("{}.unsaved", server.config.display());
    let unsaved = wait_for("what was not saved", Duration::from_secs(5), || {
        fs::read_to_string(&unsaved).ok()
    });
    assert!(unsaved.contains("ours"), "{unsaved}");
    // A mistake is left to who makes it.
    fs::write(&server.config, "{\"streams\":").expect("the file");
    let reply = call(&server, &json!({"save": true}));
    assert!(reply["errors"].is_array(), "{reply}");
    let reply = call(&server, &json!({"save": true}));
    assert!(reply["errors"].to_string().contains("mistake"), "{reply}");
    assert_eq!(
        fs::read_to_string(&server.config).expect("the file"),
        "{\"streams\":"
    );
}

#[test]
fn only_media_roots_are_listed() {
    let folder = support::scratch().join(format!("media-{}", std::process::id()));
    fs::create_dir_all(folder.join("sub")).expect("a folder");
    fs::write(folder.join("a.mp4"), "").expect("a file");
    let root = folder.display().to_string();
    let server = Server::start_with(json!({}), json!({"media": {"roots": [root]}}));
    let listed = call(&server, &json!({"browse": root}))["browse"].clone();
    assert_eq!(
        listed,
        json!({"path": [root], "files": ["a.mp4"], "subdirectories": ["sub"]})
    );
    for path in [
        "/etc".to_owned(),
        format!("{root}/.."),
        format!("{root}/../.."),
        format!("{root}x"),
    ] {
        let reply = call(&server, &json!({"browse": path}));
        assert!(reply["browse"].get("files").is_none(), "{reply}");
        assert!(reply["errors"].is_array(), "{reply}");
    }
    let none = Server::open(&["clip"]);
    let reply = call(&none, &json!({"browse": "/"}));
    assert!(
        reply["errors"].to_string().contains("media.roots"),
        "{reply}"
    );
}

#[test]
fn shutdown_is_for_this_machine() {
    let mut server = server();
    let far = login_by_script(&server, "test", r#"\"shutdown\":true"#);
    assert!(far["errors"].is_array(), "{far}");
    assert_eq!(
        call(&server, &json!({"shutdown": true}))["authorize"]["status"],
        "OK"
    );
    assert!(server.process.wait(Duration::from_secs(10)).success());
}

/// A client of `/ws`, frame by frame.
struct Events(TcpStream);

impl Events {
    fn open(server: &Server, target: &str, field: &str) -> Self {
        let mut stream = support::http::connect(server.control).expect("open");
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n{field}\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            answer.push(byte[0]);
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        Self(stream)
    }

    /// The next text.
    fn next(&mut self) -> Value {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a frame");
        assert_eq!(head[0], 0x81, "a whole text: {head:?}");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).expect("a length");
                usize::from(u16::from_be_bytes(length))
            }
            length => usize::from(length),
        };
        let mut text = vec![0; length];
        self.0.read_exact(&mut text).expect("a text");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// The next text of this kind for which `fits` holds.
    fn wait(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..500 {
            let event = self.next();
            if event[0] == kind && fits(&event[1]) {
                return event[1].clone();
            }
        }
        panic!("500 events without {kind}");
    }

    /// With a mask of zeros, as nobody is in between.
    fn send(&mut self, value: &Value) {
        let text = value.to_string();
        let length = u16::try_from(text.len()).expect("a short text");
        let mut frame = vec![0x81];
        match u8::try_from(length).ok().filter(|length| *length < 126) {
            Some(length) => frame.push(0x80 | length),
            None => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.0.write_all(&frame).expect("sent");
    }
}

#[test]
fn events_are_told_as_they_happen() {
    let server = server();
    let mut events = Events::open(&server, "/ws?logs=100&accs=1&streams=1", "");
    assert_eq!(events.next(), json!(["auth", true]));
    events.wait("log", |line| {
        line[2]
            .as_str()
            .is_some_and(|text| text.contains("listening"))
    });
    let publisher = server.publish("clip", &clips::demo());
    events.wait("log", |line| {
        line[3] == "clip" && line[2].as_str().is_some_and(|t| t.contains("begins"))
    });
    events.wait("stream", |stream| {
        stream[0] == "clip" && stream[1] == "Online" && stream[3] == 1
    });
    let watcher = player(&server, "/clip.flv");
    events.wait("stream", |stream| stream[0] == "clip" && stream[2] == 1);
    thread::sleep(Duration::from_millis(1500));
    drop(watcher);
    let access = events.wait("access", |access| access[2] == "clip" && access[3] == "FLV");
    assert_eq!(access[4], "127.0.0.1");
    assert!(
        access[6].as_u64().is_some_and(|bytes| bytes > 1000),
        "{access}"
    );
    drop(publisher);
}

#[test]
fn who_listens_from_afar_logs_in() {
    let server = server();
    let field = format!("{REMOTE}\r\n");
    let mut events = Events::open(&server, "/ws?logs=1", &field);
    assert_eq!(events.next(), json!(["auth", false]));
    events.send(&json!(["auth", {"username": "test", "password": ""}]));
    let asked = events.next();
    let challenge = asked[1]["challenge"]
        .as_str()
        .expect("a challenge")
        .to_owned();
    events.send(&json!(["auth", {"username": "test", "password": "00"}]));
    assert_eq!(events.next()[1]["status"], "CHALL");
    let response = md5(&format!("{MD5_OF_TEST}{challenge}"));
    events.send(&json!(["auth", {"username": "test", "password": response}]));
    assert_eq!(events.next(), json!(["auth", true]));
    assert_eq!(events.next()[0], "log");
    // Who does not is told nothing, and let go.
    let mut silent = Events::open(&server, "/ws?logs=100", &field);
    assert_eq!(silent.next(), json!(["auth", false]));
    silent
        .0
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    let mut head = [0; 1];
    silent.0.read_exact(&mut head).expect("a frame");
    assert_eq!(head[0], 0x88, "the end of it");
}
