//! Port 8080 as browsers, players and people with bad intentions speak to it, and the status port.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::io::Write;
use std::time::Duration;

use support::http::{Connection, connect, get, request};
use support::{Background, Server, clips};

fn live() -> (Server, Background) {
    let server = Server::open(&["clip"]);
    let publisher = server.publish("clip", &clips::demo());
    (server, publisher)
}

#[test]
fn media_has_its_type_and_is_open_to_every_origin() {
    let (server, _publisher) = live();
    for (path, content_type) in [
        ("/clip.flv", "video/x-flv"),
        ("/clip.ts", "video/mp2t"),
        ("/clip.mp4", "video/mp4"),
        ("/clip.html", "text/html"),
    ] {
        let mut connection = Connection::new(connect(server.http).expect("open"));
        connection
            .send("GET", path, &[("Origin", "https://example.org")])
            .expect("sent");
        let head = connection.head().expect("answered");
        assert_eq!(head.status, 200, "{path}");
        let got = head.header("content-type").unwrap_or("none").to_lowercase();
        assert!(got.starts_with(content_type), "{path}: {got}");
        assert_eq!(
            head.header("access-control-allow-origin"),
            Some("*"),
            "{path}"
        );
    }
}

#[test]
fn head_answers_without_a_body() {
    let (server, _publisher) = live();
    let mut connection = Connection::new(connect(server.http).expect("open"));
    for path in ["/clip.flv", "/clip.mp4", "/json_clip.js"] {
        connection.send("HEAD", path, &[]).expect("sent");
        let answer = connection.answer("HEAD").expect("answered");
        assert_eq!(answer.status, 200, "{path}");
        // A live stream has no length, and 0 would tell a player that there is nothing.
        let is_media = !path.ends_with(".js");
        let length = answer.header("content-length");
        assert_eq!(length.is_none(), is_media, "{path}: {length:?}");
    }
    // Had any of them sent a body, this answer would begin with it.
    connection.send("GET", "/json_clip.js", &[]).expect("sent");
    assert_eq!(connection.answer("GET").expect("answered").status, 200);
}

/// With the private-network preflight of Chromium (quirk 28).
#[test]
fn options_answers_a_preflight() {
    let (server, _publisher) = live();
    let answer = request(
        server.http,
        "OPTIONS",
        "/clip.mp4",
        &[
            ("Origin", "https://example.org"),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "range"),
            ("Access-Control-Request-Private-Network", "true"),
        ],
    )
    .expect("answered");
    assert!(matches!(answer.status, 200 | 204), "{}", answer.status);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let methods = answer
        .header("access-control-allow-methods")
        .unwrap_or("none");
    assert!(methods.contains("GET"), "{methods}");
    assert!(answer.header("access-control-allow-headers").is_some());
    assert_eq!(
        answer.header("access-control-allow-private-network"),
        Some("true")
    );
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let (server, _publisher) = live();
    let mut connection = Connection::new(connect(server.http).expect("open"));
    for _ in 0..20 {
        connection.send("GET", "/json_clip.js", &[]).expect("sent");
        assert_eq!(connection.answer("GET").expect("answered").status, 200);
        connection.send("GET", "/nothing.flv", &[]).expect("sent");
        assert_eq!(connection.answer("GET").expect("answered").status, 404);
    }
    connection
        .send("GET", "/json_clip.js", &[("Connection", "close")])
        .expect("sent");
    assert_eq!(connection.answer("GET").expect("answered").status, 200);
    assert!(connection.closed_within(Duration::from_secs(2)));
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let (server, _publisher) = live();
    let mut connection = Connection::new(connect(server.http).expect("open"));
    for path in ["/json_clip.js", "/nothing.flv", "/json_clip.js"] {
        connection.send("GET", path, &[]).expect("sent");
    }
    for status in [200, 404, 200] {
        assert_eq!(connection.answer("GET").expect("answered").status, status);
    }
}

/// The oldest players speak 1.0: no chunks, and the end of the connection is the end of the body.
#[test]
fn http_1_0_gets_a_plain_body() {
    let (server, _publisher) = live();
    let mut stream = connect(server.http).expect("open");
    stream
        .write_all(b"GET /clip.flv HTTP/1.0\r\n\r\n")
        .expect("sent");
    let mut connection = Connection::new(stream);
    let head = connection.head().expect("answered");
    assert_eq!(head.status, 200);
    assert_eq!(head.header("transfer-encoding"), None);
    let body = connection
        .body_until(&head, Duration::from_secs(3), |body| body.len() > 4000)
        .expect("media");
    assert_eq!(&body[..3], b"FLV");
}

/// A name is looked up, never opened (Node-Media-Server#689).
#[test]
fn a_name_is_never_a_path() {
    let (server, _publisher) = live();
    let long = format!("/{}.flv", "a".repeat(3000));
    let names = [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd.flv",
        "/%2e%2e/%2e%2e/etc/passwd.mp4",
        "/json_..%2f..%2fetc%2fpasswd.js",
        "/json_/etc/passwd.js",
        "//etc/passwd.ts",
        "/clip%00.flv",
        "/clip+../../x.flv",
        "/C:%5cwindows%5cwin.ini.html",
        "/%ff%fe.flv",
        "/.flv",
        "/<script>alert(1)<%2fscript>.html",
        long.as_str(),
    ];
    for name in names {
        let answer = get(server.http, name).expect("answered");
        let body = answer.text();
        // The page of a name that is not live may be given, so that it can wait for the stream.
        assert!(
            (400..500).contains(&answer.status) || name.ends_with(".html") || name.ends_with(".js"),
            "{name}: {}",
            answer.status
        );
        assert!(!body.contains("root:"), "{name} is the password file");
        assert!(
            !body.contains("<script>alert"),
            "{name} comes back as a script"
        );
    }
    assert_eq!(
        get(server.http, "/json_clip.js").expect("answered").status,
        200
    );
}

#[test]
fn what_is_not_http_is_refused() {
    let (server, _publisher) = live();
    let header = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5000));
    let requests: [&[u8]; 7] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS greeting on a plain port\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET /clip.flv HTTP/9.9\r\n\r\n",
        b"GET /clip.flv HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /clip.flv HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        header.as_bytes(),
        many.as_bytes(),
    ];
    for bytes in requests {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let mut stream = connect(server.http).expect("open");
        // The server may close before all of it is sent.
        let _ = stream.write_all(bytes);
        let mut connection = Connection::new(stream);
        match connection.head() {
            Ok(answer) => assert!(
                (400..600).contains(&answer.status),
                "{shown:?}: {}",
                answer.status
            ),
            Err(error) => assert!(
                error.kind() != std::io::ErrorKind::WouldBlock
                    && error.kind() != std::io::ErrorKind::TimedOut,
                "{shown:?} is left waiting"
            ),
        }
    }
    assert_eq!(
        get(server.http, "/json_clip.js").expect("answered").status,
        200
    );
}

#[test]
fn the_status_port_tells_health_and_numbers() {
    let (server, _publisher) = live();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            get(server.control, path).expect("answered").status,
            200,
            "{path}"
        );
    }
    let mut viewer = Connection::new(connect(server.http).expect("open"));
    viewer.send("GET", "/clip.flv", &[]).expect("sent");
    let head = viewer.head().expect("answered");
    viewer
        .body_until(&head, Duration::from_secs(5), |body| body.len() > 100_000)
        .expect("media");

    let answer = get(server.control, "/metrics").expect("answered");

    assert_eq!(answer.status, 200);
    let text = answer.text();
    let mut samples = 0;
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(
            value.parse::<f64>().is_ok(),
            "{name} is not a number but {value:?}"
        );
        samples += 1;
    }
    assert!(samples > 20, "{samples} samples:\n{text}");
    for word in ["viewers", "publishers", "bytes", "stream=\"clip\""] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    // Media is not served there, nor status on the public port.
    assert_eq!(
        get(server.control, "/clip.flv").expect("answered").status,
        404
    );
    assert_eq!(get(server.http, "/metrics").expect("answered").status, 404);
}

#[test]
fn a_stream_that_is_not_live_is_said_to_be_so() {
    let server = Server::open(&["clip"]);
    let answer = get(server.http, "/json_clip.js").expect("answered");
    let info: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert!(info["error"].is_string(), "{info}");
}
