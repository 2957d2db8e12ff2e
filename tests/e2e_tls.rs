//! HTTPS, HTTP/2 and RTMPS as curl and ffmpeg speak them; certificates that change; proxies.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::http::{Connection, connect, get};
use support::tls::{Files, Secure, curl, pem, proxy, replace};
use support::{Background, Server, clips, ffmpeg, free_port, push_command, run, wait_for};

/// The longest that a change of files may take to be seen: a look every 2 s, and some for a machine
/// that is busy.
const SEEN: Duration = Duration::from_secs(8);

fn publish(secure: &Secure) -> Background {
    let url = format!("rtmps://localhost:{}/live/clip", secure.rtmps);
    let publisher = Background::start("rtmps", &mut push_command(&ffmpeg(), &clips::demo(), &url));
    secure.server.wait_until_live("clip", &publisher);
    publisher
}

/// Plays for some seconds and counts the frames of video.
fn frames(url: &str) -> u64 {
    let said = run(
        Command::new(ffmpeg())
            .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-i", url])
            .args([
                "-t", "2", "-map", "0:v", "-c", "copy", "-f", "framecrc", "-",
            ]),
        Duration::from_secs(20),
    );
    said.stdout
        .lines()
        .filter(|line| !line.starts_with('#'))
        .count() as u64
}

#[test]
fn ffmpeg_publishes_and_plays_inside_tls() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::open(&[&files]);
    let _publisher = publish(&secure);
    let rtmps = format!("rtmps://localhost:{}/play/clip", secure.rtmps);
    for url in [
        secure.url("/clip.flv"),
        secure.url("/clip.mp4"),
        secure.url("/clip.ts"),
        rtmps,
    ] {
        let count = frames(&url);
        assert!(count >= 50, "{count} frames in 2 s of {url}");
    }
    assert!(secure.server.metric("tls_handshakes_total") >= 5);
    assert!(secure.server.metric("tls_connections") >= 1);
}

#[test]
fn both_versions_of_http_are_spoken() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::open(&[&files]);
    let _publisher = publish(&secure);
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in ["1.2", "1.3"] {
            let said = curl(
                &files.cert,
                &[
                    flag,
                    &format!("--tlsv{tls}"),
                    "--tls-max",
                    tls,
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code} %{http_version} %{ssl_verify_result}",
                    &secure.url("/json_clip.js"),
                ],
            )
            .success();
            assert_eq!(said.stdout, format!("200 {version} 0"), "TLS {tls}");
        }
        let head = curl(&files.cert, &[flag, "-I", &secure.url("/clip.mp4")]).success();
        assert!(head.stdout.contains("video/mp4"), "{}", head.stdout);
        let missing = curl(
            &files.cert,
            &[flag, "-w", "%{http_code}", &secure.url("/no.mp4")],
        );
        assert!(missing.stdout.ends_with("404"), "{}", missing.stdout);
    }
}

/// A segment is shared by all its viewers; what reaches them does not depend on how they ask.
#[test]
fn a_segment_is_the_same_by_every_way() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::open(&[&files]);
    let _publisher = publish(&secure);
    let fetch = |how: &[&str], base: &str, path: &str| {
        let out = files.cert.with_file_name("fetched");
        let url = format!("{base}{path}");
        let file = out.display().to_string();
        let mut arguments = vec!["-f", "-o", file.as_str()];
        arguments.extend(how);
        arguments.push(&url);
        let said = curl(&files.cert, &arguments);
        said.status
            .success()
            .then(|| fs::read(&out).expect("curl wrote it"))
    };
    let plain = format!("http://127.0.0.1:{}", secure.server.http);
    let https = format!("https://localhost:{}", secure.https);
    for (folder, ending) in [("/hls/clip/", ".ts"), ("/cmaf/clip/", ".m4s")] {
        let line = |text: &[u8], wanted: &dyn Fn(&str) -> bool| {
            let text = String::from_utf8_lossy(text).into_owned();
            text.lines().find(|line| wanted(line)).map(str::to_owned)
        };
        let is_address = |line: &str| !line.starts_with('#') && !line.is_empty();
        let path = wait_for("a segment", Duration::from_secs(20), || {
            let master = fetch(&[], &plain, &format!("{folder}index.m3u8"))?;
            let media = format!("{folder}{}", line(&master, &is_address)?);
            let playlist = fetch(&[], &plain, &media)?;
            let is_segment = |line: &str| {
                is_address(line)
                    && line
                        .split('?')
                        .next()
                        .is_some_and(|path| path.ends_with(ending))
            };
            let segment = line(&playlist, &is_segment)?;
            let (parent, _) = media.rsplit_once('/').expect("it begins with one");
            Some(format!("{parent}/{segment}"))
        });
        let expected = fetch(&[], &plain, &path).expect("it is there");
        assert!(expected.len() > 50_000, "{path}: {} bytes", expected.len());
        for how in [
            &["--http1.1"][..],
            &["--http2"],
            &["--http2", "--tls-max", "1.2"],
        ] {
            let got = fetch(how, &https, &path).expect("it is there");
            assert!(got == expected, "{path} by {how:?}: {} bytes", got.len());
            let part = fetch(&[how, &["-r", "1000-40999"]].concat(), &https, &path);
            assert!(
                part.as_deref() == expected.get(1000..41_000),
                "a range of {path} by {how:?}"
            );
        }
    }
}

/// Many requests at once on one connection, most of them while a live stream flows on it.
#[test]
fn streams_of_one_connection_do_not_disturb_each_other() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::open(&[&files]);
    let _publisher = publish(&secure);
    let said = run(
        Command::new("curl")
            .args([
                "-sS",
                "-m",
                "3",
                "--http2",
                "--parallel",
                "--parallel-max",
                "60",
            ])
            .arg("--cacert")
            .arg(&files.cert)
            .args([
                "-w",
                "%{http_version} %{http_code} %{size_download} %{urlnum}\n",
            ])
            .args(["-o", "/dev/null", &secure.url("/clip.mp4")])
            .args(["-o", "/dev/null", &secure.url("/clip.flv")])
            .args(["-o", "/dev/null", &secure.url("/json_clip.js?[1-150]")]),
        Duration::from_secs(20),
    );
    let lines: Vec<Vec<&str>> = said
        .stdout
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    let answered = lines
        .iter()
        .filter(|line| line[..2] == ["2", "200"])
        .count();
    assert_eq!(answered, 152, "{}", said.stdout);
    // The two that do not end were cut by the clock, with three seconds of media.
    let large = lines
        .iter()
        .filter(|line| line[2].parse().unwrap_or(0) > 100_000);
    assert_eq!(large.count(), 2, "{}", said.stdout);
    let connections = secure.server.metric("tls_handshakes_total");
    assert!(
        connections <= 4,
        "{connections} connections for 152 requests"
    );
}

#[test]
fn a_name_chooses_the_certificate() {
    let first = Files::new(&["localhost", "first.example"]);
    let second = Files::new(&["second.example", "*.wild.example"]);
    let secure = Secure::open(&[&first, &second]);
    let ask = |name: &str, root: &Files| {
        let resolve = format!("{name}:{}:127.0.0.1", secure.https);
        let url = format!("https://{name}:{}/", secure.https);
        let said = curl(
            &root.cert,
            &["--resolve", &resolve, "-o", "/dev/null", &url],
        );
        said.status.success()
    };
    assert!(ask("first.example", &first));
    assert!(ask("second.example", &second));
    assert!(ask("any.wild.example", &second));
    assert!(!ask("second.example", &first));
    assert!(!ask("other.example", &second), "the first is the default");
}

/// A renewal reaches new handshakes within seconds and cuts nobody off.
#[test]
fn a_renewal_disturbs_nobody() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::open(&[&files]);
    let _publisher = publish(&secure);
    let old = files.trust();
    let viewers: Vec<(Background, std::path::PathBuf)> = ["--http1.1", "--http2"]
        .iter()
        .map(|version| {
            let out = files.cert.with_file_name(format!("viewer{version}.mp4"));
            let mut command = Command::new("curl");
            command
                .args(["-sS", "--no-buffer", version, "--cacert"])
                .arg(&old)
                .arg("-o")
                .arg(&out)
                .arg(secure.url("/clip.mp4"));
            (Background::start("viewer", &mut command), out)
        })
        .collect();
    let length = |path: &std::path::PathBuf| fs::metadata(path).map_or(0, |file| file.len());
    for (_, out) in &viewers {
        wait_for("media", SEEN, || (length(out) > 10_000).then_some(()));
    }

    files.renew(&["localhost"]);
    let is_served = || {
        curl(&files.cert, &["-o", "/dev/null", &secure.url("/")])
            .status
            .success()
    };
    wait_for("the new certificate", SEEN, || is_served().then_some(()));
    let refused = curl(&old, &["-o", "/dev/null", &secure.url("/")]);
    assert!(!refused.status.success(), "the old one is gone");
    for (mut viewer, out) in viewers {
        let before = length(&out);
        wait_for("more media", SEEN, || {
            (length(&out) > before + 50_000).then_some(())
        });
        assert!(viewer.ended().is_none(), "{}", viewer.log());
    }

    // At once by signal, without waiting for the next look.
    files.renew(&["localhost"]);
    secure.server.process.signal(libc::SIGHUP);
    wait_for("the third", Duration::from_secs(2), || {
        is_served().then_some(())
    });
}

#[test]
fn files_that_cannot_be_used_change_nothing() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::open(&[&files]);
    let root = files.trust();
    let (cert, key) = (
        fs::read_to_string(&files.cert).expect("it was written"),
        fs::read_to_string(&files.key).expect("it was written"),
    );
    let (other_cert, other_key) = pem(&["localhost"]);
    let is_served = || {
        curl(&root, &["-o", "/dev/null", &secure.url("/")])
            .status
            .success()
    };
    let log = || secure.server.process.log();
    let said = |text: &str| log().matches(text).count();

    for (what, write) in [
        (
            "not yet written to its end",
            &(|| fs::write(&files.cert, &other_cert[..300])) as &dyn Fn() -> _,
        ),
        ("has no certificate in PEM form", &|| {
            fs::write(&files.cert, "")
        }),
        ("the key does not belong to the certificate", &|| {
            fs::write(&files.cert, &other_cert)
        }),
        ("key.pem cannot be read: No such file", &|| {
            fs::write(&files.cert, &cert)?;
            fs::remove_file(&files.key)
        }),
        ("the key file has no private key", &|| {
            fs::write(&files.key, &key[..60])
        }),
    ] {
        write().expect("the scratch folder is writable");
        wait_for(what, SEEN, || (said(what) > 0).then_some(()));
        assert!(is_served(), "{what}");
    }
    // Looked at again and again, and said once.
    thread::sleep(Duration::from_millis(4500));
    assert_eq!(said("the key file has no private key"), 1);

    replace(&files.key, &other_key);
    replace(&files.cert, &other_cert);
    wait_for("the new pair", SEEN, || (!is_served()).then_some(()));
    let new = files.trust();
    assert!(
        curl(&new, &["-o", "/dev/null", &secure.url("/")])
            .status
            .success()
    );
    let log = log();
    for key in [&key, &other_key] {
        let middle = key.lines().nth(1).expect("a key has several lines");
        assert!(!log.contains(&middle[..20]), "a key is in the log");
    }
    assert!(!log.contains("PRIVATE KEY"), "a key is in the log");
}

/// openssl writes keys in three forms, of two kinds.
#[test]
fn keys_of_every_form_are_read() {
    for (algorithm, form) in [
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"][..],
            "BEGIN PRIVATE KEY",
        ),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            "BEGIN EC PRIVATE KEY",
        ),
        (&["-newkey", "rsa:2048"], "BEGIN PRIVATE KEY"),
        (&["-newkey", "rsa:2048"], "BEGIN RSA PRIVATE KEY"),
    ] {
        let files = Files::new(&["localhost"]);
        run(
            Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=localhost",
                ])
                .args(["-addext", "subjectAltName=DNS:localhost"])
                .args(algorithm)
                .arg("-keyout")
                .arg(&files.key)
                .arg("-out")
                .arg(&files.cert),
            Duration::from_secs(30),
        )
        .success();
        if form != "BEGIN PRIVATE KEY" {
            let said = run(
                Command::new("openssl")
                    .args(["pkey", "-traditional", "-in"])
                    .arg(&files.key),
                Duration::from_secs(10),
            )
            .success();
            replace(&files.key, &said.stdout);
        }
        let text = fs::read_to_string(&files.key).expect("it was written");
        assert!(text.contains(form), "{text}");
        let secure = Secure::open(&[&files]);
        let said = curl(&files.cert, &["-o", "/dev/null", &secure.url("/")]);
        assert!(said.status.success(), "{form}: {}", said.stderr);
    }
}

/// A server that cannot use its certificate does not start, and says what mends it.
#[test]
fn a_bad_file_at_the_start_is_named() {
    let start = |protocols: serde_json::Value, tls: serde_json::Value| {
        let path = support::scratch().join(format!("refused-{}.json", free_port()));
        let config = json!({
            "webrtc": { "port": free_port() },
            "config": {
                "controller": { "interface": "127.0.0.1", "port": free_port() },
                "protocols": protocols,
            },
            "tls": tls,
        });
        support::write_config(&path, &config);
        let said = run(
            Command::new(env!("CARGO_BIN_EXE_ringside"))
                .args(["serve", "-c"])
                .arg(&path),
            Duration::from_secs(10),
        );
        assert!(!said.status.success());
        said.stderr
    };
    let https = || json!([{ "connector": "HTTPS", "interface": "127.0.0.1", "port": free_port() }]);
    let files = Files::new(&["localhost"]);
    let section = |files: &Files| json!({ "certificates": [files.json()] });

    let said = start(https(), json!({}));
    assert!(
        said.contains("has no certificate") && said.contains("\"certificates\""),
        "{said}"
    );

    let (_, key) = pem(&["localhost"]);
    replace(&files.key, &key);
    let said = start(https(), section(&files));
    assert!(
        said.contains("does not belong") && said.contains("openssl x509"),
        "{said}"
    );

    fs::remove_file(&files.key).expect("it was written");
    let said = start(https(), section(&files));
    assert!(
        said.contains("key.pem cannot be read") && said.contains("openssl req"),
        "{said}"
    );

    let mut rtmps = files.json();
    rtmps["connector"] = json!("RTMP");
    rtmps["interface"] = json!("127.0.0.1");
    rtmps["port"] = json!(free_port());
    let said = start(json!([rtmps]), json!({}));
    assert!(said.contains("key.pem cannot be read"), "{said}");
}

/// UNAVI's variables, with the file's protocols and without.
#[test]
fn the_environment_names_a_certificate() {
    let files = Files::new(&["localhost"]);
    let https = free_port();
    let edit = |all: &mut serde_json::Value| {
        let connectors = all["config"]["protocols"].as_array_mut().expect("a list");
        connectors.push(json!({ "connector": "HTTPS", "port": https, "interface": "127.0.0.1" }));
    };
    let _server = Server::start_edited(json!({}), edit, |command| {
        command
            .env("SSL_CERT", &files.cert)
            .env("SSL_KEY", &files.key);
    });
    let url = format!("https://localhost:{https}/");
    curl(&files.cert, &["-o", "/dev/null", &url]).success();
}

#[test]
fn a_slow_handshake_is_closed() {
    let files = Files::new(&["localhost"]);
    let limits =
        |all: &mut serde_json::Value| all["limits"] = json!({ "unauthenticated_ms": 1000 });
    let secure = Secure::start(json!({}), &[&files], limits);
    for (port, bytes) in [
        (secure.https, &b""[..]),
        (secure.https, b"\x16\x03\x01"),
        (
            secure.https,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ),
        (secure.rtmps, b"\x16"),
    ] {
        let start = Instant::now();
        let mut stream = connect(port).expect("open");
        stream.write_all(bytes).expect("sent");
        let mut connection = Connection::new(stream);
        assert!(
            connection.closed_within(Duration::from_secs(5)),
            "{bytes:?}"
        );
        assert!(start.elapsed() > Duration::from_millis(800), "{bytes:?}");
    }
    assert_eq!(secure.server.metric("tls_handshake_failures_total"), 4);
    assert_eq!(secure.server.metric("tls_handshakes_total"), 0);
    wait_for("the places to be free", SEEN, || {
        (secure.server.metric("tls_connections") == 0).then_some(())
    });
}

#[test]
fn who_speaks_no_tls_is_answered_or_closed_at_once() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::open(&[&files]);
    let answer = get(secure.https, "/clip.mp4").expect("answered");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("https://"), "{}", answer.text());
    for (port, bytes) in [
        (secure.https, &b"\x03garbage that is no handshake"[..]),
        (secure.rtmps, b"\x03an RTMP greeting without TLS"),
        (secure.rtmps, b"GET / HTTP/1.1\r\n\r\n"),
    ] {
        let mut stream = connect(port).expect("open");
        stream.write_all(bytes).expect("sent");
        let mut connection = Connection::new(stream);
        assert!(
            connection.closed_within(Duration::from_secs(2)),
            "{bytes:?}"
        );
    }
    // And the other way round.
    let said = curl(
        &files.cert,
        &[&format!("https://localhost:{}/", secure.server.http)],
    );
    assert!(!said.status.success() && said.took < Duration::from_secs(2));
}

/// Clients that go away in the middle of a record, a request or a download leave nothing behind.
#[test]
fn cut_connections_leave_nothing() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::open(&[&files]);
    let _publisher = publish(&secure);
    let before = secure.server.metric("tls_connections");
    let url = format!("localhost:{}", secure.https);
    for input in [
        "GET /json_clip.js HTT",
        "GET /clip.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &url, "-CAfile"])
            .arg(&files.cert)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let mut stdin = client.stdin.take().expect("piped above");
        stdin.write_all(input.as_bytes()).expect("it reads");
        wait_for("its connection", SEEN, || {
            (secure.server.metric("tls_connections") > before).then_some(())
        });
        thread::sleep(Duration::from_millis(500));
        client.kill().expect("it runs");
        client.wait().expect("it was killed");
        wait_for("its end", SEEN, || {
            (secure.server.metric("tls_connections") == before).then_some(())
        });
    }
    assert!(frames(&secure.url("/clip.mp4")) >= 50);
}

/// A body that ends with the connection ends with a goodbye, or a client could not tell its end from
/// a cut.
#[test]
fn the_end_of_a_connection_is_said() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::open(&[&files]);
    let publisher = publish(&secure);
    let viewer = {
        let (cert, url) = (files.cert, secure.url("/clip.flv"));
        // OpenSSL 3 makes an error of an end without close_notify, and curl tells it.
        thread::spawn(move || curl(&cert, &["--http1.0", "-m", "30", "-o", "/dev/null", &url]))
    };
    thread::sleep(Duration::from_secs(2));
    drop(publisher);
    let said = viewer.join().expect("it does not panic");
    assert!(said.status.success(), "{}", said.stderr);
}

#[test]
fn a_trusted_proxy_names_its_client() {
    let files = Files::new(&["localhost"]);
    let streams = json!({ "clip": { "source": "push://192.0.2.7" } });
    let secure = Secure::start(streams, &[&files], |all| {
        all["config"]["trustedproxy"] = json!(["127.0.0.0/8"]);
    });
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    v2.extend([192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 0x07, 0x8f]);
    let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 1935\r\n".to_vec();
    let other = b"PROXY TCP4 192.0.2.8 198.51.100.1 56324 1935\r\n".to_vec();
    let push = |scheme: &str, port: u16| {
        let url = format!("{scheme}://localhost:{port}/live/clip");
        Background::start("push", &mut push_command(&ffmpeg(), &clips::demo(), &url))
    };
    for (scheme, port) in [("rtmp", secure.server.rtmp), ("rtmps", secure.rtmps)] {
        for header in [&v1, &v2] {
            let publisher = push(scheme, proxy(port, header));
            secure.server.wait_until_live("clip", &publisher);
            drop(publisher);
            wait_for("the end of it", SEEN, || {
                (secure.server.metric("publishers") == 0).then_some(())
            });
        }
        // Another client, and the proxy itself, are not the one that may.
        for port in [proxy(port, &other), port] {
            let mut publisher = push(scheme, port);
            publisher.wait(Duration::from_secs(10));
        }
    }
    let ask = |port: u16, header: &[u8]| {
        let mut stream = connect(port).expect("open");
        stream.write_all(header).expect("sent");
        let mut connection = Connection::new(stream);
        connection.send("GET", "/", &[]).expect("sent");
        connection.answer("GET").map(|answer| answer.status)
    };
    assert_eq!(ask(secure.server.http, &v1).ok(), Some(200));
    assert_eq!(ask(secure.server.http, &v2).ok(), Some(200));
    assert_eq!(ask(secure.server.http, b"").ok(), Some(200));
    assert!(
        ask(secure.server.http, b"PROXY TCP4 nonsense\r\n").is_err(),
        "closed"
    );
    // Before TLS as well.
    for version in ["--http1.1", "--http2"] {
        let arguments = [
            "--haproxy-protocol",
            version,
            "-o",
            "/dev/null",
            &secure.url("/"),
        ];
        curl(&files.cert, &arguments).success();
    }
}

#[test]
fn nobody_else_is_believed() {
    let files = Files::new(&["localhost"]);
    let streams = json!({ "clip": { "source": "push://192.0.2.7" } });
    let secure = Secure::start(streams, &[&files], |all| {
        all["config"]["trustedproxy"] = json!(["192.0.2.0/24"]);
    });
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 1935\r\n";
    let mut stream = connect(secure.server.http).expect("open");
    stream.write_all(header).expect("sent");
    let mut connection = Connection::new(stream);
    connection.send("GET", "/", &[]).expect("sent");
    let status = connection.head().expect("answered").status;
    assert!(matches!(status, 400 | 505), "{status}");
    let said = curl(
        &files.cert,
        &["--haproxy-protocol", "-o", "/dev/null", &secure.url("/")],
    );
    assert!(!said.status.success());
    let url = format!(
        "rtmp://localhost:{}/live/clip",
        proxy(secure.server.rtmp, header)
    );
    let mut publisher =
        Background::start("push", &mut push_command(&ffmpeg(), &clips::demo(), &url));
    publisher.wait(Duration::from_secs(10));
    assert!(
        get(secure.server.http, "/json_clip.js")
            .expect("answered")
            .text()
            .contains("error")
    );
}

/// The status port answers this machine's own callers; what a proxy passes on is not one, whatever
/// it claims.
#[test]
fn the_status_port_is_not_reached_through_a_proxy() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::start(json!({}), &[&files], |all| {
        all["config"]["trustedproxy"] = json!(["127.0.0.1"]);
    });
    for field in ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Via"] {
        let mut connection = Connection::new(connect(secure.server.control).expect("open"));
        connection
            .send("GET", "/metrics", &[(field, "127.0.0.1")])
            .expect("sent");
        assert_eq!(connection.head().expect("answered").status, 403, "{field}");
    }
    let mut stream = connect(secure.server.control).expect("open");
    stream
        .write_all(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    // The server may close before all of it is read.
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
}
