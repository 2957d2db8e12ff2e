//! Behind Debian's nginx with `deploy/nginx.conf`, as it is documented.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::http::{connect, get};
use support::rtc::report_of;
use support::spaces::{BROWSE_MAX, page_command};
use support::tls::{Files, curl};
use support::{Background, Server, clips, ffmpeg, free_port, repository, run, scratch, wait_for};

struct Nginx {
    _process: Background,
    port: u16,
    files: Files,
}

impl Nginx {
    /// The documented file, with these ports in the place of its own.
    #[track_caller]
    fn start(media: u16, api: u16, spaces: u16) -> Self {
        let (port, files) = (free_port(), Files::new(&["localhost"]));
        let folder = scratch().join(format!("nginx-{port}"));
        fs::create_dir_all(&folder).expect("the scratch folder is writable");
        let mut conf = fs::read_to_string(repository().join("deploy/nginx.conf"))
            .expect("the documented file is there");
        for (documented, ours) in [
            ("127.0.0.1:8080", format!("127.0.0.1:{media}")),
            ("127.0.0.1:4242", format!("127.0.0.1:{api}")),
            ("127.0.0.1:4000", format!("127.0.0.1:{spaces}")),
            ("listen 443 ", format!("listen 127.0.0.1:{port} ")),
            (
                "/etc/ssl/media.example/fullchain.pem",
                files.cert.display().to_string(),
            ),
            (
                "/etc/ssl/media.example/privkey.pem",
                files.key.display().to_string(),
            ),
        ] {
            assert_eq!(conf.matches(documented).count(), 1, "{documented}");
            conf = conf.replace(documented, &ours);
        }
        fs::write(folder.join("ringside.conf"), conf).expect("the scratch folder is writable");
        let place = folder.display();
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {place}/{name};\n"))
            .collect();
        // What Debian's /etc/nginx/nginx.conf has around it, in a folder of the test's own.
        let around = format!(
            "daemon off;\nuser root;\nworker_processes 1;\npid {place}/pid;\nerror_log stderr;\n\
             events {{}}\nhttp {{\naccess_log {place}/access.log;\n{paths}\
             include {place}/ringside.conf;\n}}\n"
        );
        let outer = folder.join("nginx.conf");
        fs::write(&outer, around).expect("the scratch folder is writable");
        let mut command = Command::new("/usr/sbin/nginx");
        command
            .args(["-e", "stderr", "-p"])
            .arg(&folder)
            .arg("-c")
            .arg(&outer);
        let process = Background::start("nginx", &mut command);
        wait_for("nginx", Duration::from_secs(10), || connect(port).ok());
        Self {
            _process: process,
            port,
            files,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    fn curl(&self, arguments: &[&str]) -> support::Said {
        curl(&self.files.cert, arguments)
    }
}

fn live() -> (Server, Background, Nginx) {
    let streams = json!({ "clip": { "source": "push://" } });
    let (server, nginx) = behind_nginx(streams);
    let publisher = server.publish("clip", &clips::demo());
    (server, publisher, nginx)
}

fn behind_nginx(streams: serde_json::Value) -> (Server, Nginx) {
    let spaces = free_port();
    let edit = move |all: &mut serde_json::Value| {
        all["config"]["trustedproxy"] = json!(["127.0.0.1"]);
        all["spaces"] = json!({"interface": "127.0.0.1", "port": spaces, "url": "/spaces/"});
    };
    let server = Server::start_edited(streams, edit, |_| {});
    let nginx = Nginx::start(server.http, server.control, spaces);
    (server, nginx)
}

fn accepted(server: &Server) -> u64 {
    let text = get(server.control, "/metrics")
        .expect("the status port answers")
        .text();
    text.lines()
        .filter_map(|line| line.strip_prefix("ringside_accepted_total{shard="))
        // The last shard is that of the status port, which these questions go to.
        .filter(|line| !line.starts_with(&format!("\"{}\"", shards(&text) - 1)))
        .map(|line| {
            line.rsplit(' ')
                .next()
                .expect("a value")
                .parse::<u64>()
                .expect("a number")
        })
        .sum()
}

fn shards(metrics: &str) -> usize {
    metrics
        .lines()
        .filter(|line| line.starts_with("ringside_accepted_total{"))
        .count()
}

#[test]
fn pages_and_live_media_pass_through() {
    let (_server, _publisher, nginx) = live();
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for path in ["/clip.html", "/json_clip.js", "/"] {
            let said = nginx
                .curl(&[
                    flag,
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code} %{http_version}",
                    &nginx.url(path),
                ])
                .success();
            assert_eq!(said.stdout, format!("200 {version}"), "{path}");
        }
    }
    for path in ["/clip.mp4", "/clip.flv", "/clip.ts"] {
        let said = run(
            Command::new(ffmpeg())
                .args([
                    "-hide_banner",
                    "-nostdin",
                    "-loglevel",
                    "error",
                    "-i",
                    &nginx.url(path),
                ])
                .args([
                    "-t", "2", "-map", "0:v", "-c", "copy", "-f", "framecrc", "-",
                ]),
            Duration::from_secs(20),
        );
        let frames = said
            .stdout
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count();
        assert!(
            frames >= 50,
            "{frames} frames in 2 s of {path}: {}",
            said.stderr
        );
    }
}

/// A proxy that gathers 8 kB before it passes anything on would make viewers wait for seconds.
#[test]
fn what_is_live_is_not_gathered() {
    let (_server, _publisher, nginx) = live();
    let start = Instant::now();
    let said = nginx.curl(&[
        "--http1.1",
        "-N",
        "-m",
        "4",
        "-o",
        "/dev/null",
        "-w",
        "%{time_starttransfer} %{size_download}",
        &nginx.url("/clip.ts"),
    ]);
    assert!(
        start.elapsed() >= Duration::from_secs(3),
        "it does not end by itself"
    );
    let (first, bytes) = said.stdout.split_once(' ').expect("two numbers");
    assert!(
        first.parse::<f64>().expect("seconds") < 1.0,
        "{}",
        said.stdout
    );
    assert!(
        bytes.parse::<u64>().expect("bytes") > 100_000,
        "{}",
        said.stdout
    );
}

#[test]
fn connections_to_the_server_are_kept() {
    let (server, _publisher, nginx) = live();
    let before = accepted(&server);
    let said = nginx
        .curl(&[
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}\n",
            &nginx.url("/json_clip.js?[1-100]"),
        ])
        .success();
    assert_eq!(said.stdout.matches("200").count(), 100);
    let more = accepted(&server) - before;
    assert!(more <= 8, "{more} connections for 100 requests");
}

/// Somebody who answers any head with 101 and sends back what comes behind it.
fn echo() -> (u16, Receiver<String>) {
    let port = free_port();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    let (tell, told) = channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    Ok(_) | Err(_) => break,
                }
            }
            let _ = tell.send(String::from_utf8_lossy(&head).into_owned());
            let _ = stream.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            );
            while let Ok(1) = stream.read(&mut byte) {
                if stream.write_all(&byte).is_err() {
                    break;
                }
            }
        }
    });
    (port, told)
}

#[test]
fn a_websocket_passes_and_claims_do_not() {
    let (upstream, heads) = echo();
    let nginx = Nginx::start(upstream, upstream, upstream);
    let mut client = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-connect",
            &format!("localhost:{}", nginx.port),
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl is installed");
    let mut stdin = client.stdin.take().expect("piped above");
    let mut stdout = client.stdout.take().expect("piped above");
    stdin
        .write_all(
            b"GET /socket HTTP/1.1\r\nHost: media.example\r\nUpgrade: websocket\r\n\
              Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: 1.1.1.1\r\n\
              X-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n\r\n",
        )
        .expect("it reads");
    let head = heads
        .recv_timeout(Duration::from_secs(10))
        .expect("it arrives");
    let fields: Vec<String> = head.lines().map(str::to_lowercase).collect();
    let has = |field: &str| fields.iter().any(|line| line == field);
    assert!(
        has("upgrade: websocket") && has("connection: upgrade"),
        "{head}"
    );
    assert!(has("host: media.example"), "{head}");
    assert!(has("x-forwarded-for: 1.1.1.1, 127.0.0.1"), "{head}");
    assert!(!head.to_lowercase().contains("x-real-ip"), "{head}");
    assert!(
        !fields.iter().any(|line| line.starts_with("forwarded:")),
        "{head}"
    );

    stdin.write_all(b"ping over the socket").expect("it reads");
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    while !answer.ends_with(b"ping over the socket") {
        let count = stdout.read(&mut buffer).expect("it writes");
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend(&buffer[..count]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    client.kill().expect("it runs");
    client.wait().expect("it was killed");
}

/// nginx runs on this machine, so its connections look local. What comes through it is not.
#[test]
fn the_local_bypass_is_not_had_through_it() {
    let (server, _publisher, nginx) = live();
    for path in ["/api", "/api2", "/api?command={}"] {
        for claim in [
            "",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-For;",
            "Forwarded: for=127.0.0.1",
        ] {
            let mut arguments = vec!["-w", "\n%{http_code}", "-H", "Host: localhost"];
            if !claim.is_empty() {
                arguments.extend(["-H", claim]);
            }
            let url = nginx.url(path);
            arguments.extend(["-g", &url]);
            let said = nginx.curl(&arguments).stdout;
            let (text, status) = said.rsplit_once('\n').expect("a status");
            let is_asked = text.contains("authorize") && !text.contains("\"OK\"");
            assert!(status == "403" || is_asked, "{path} {claim}: {said}");
        }
    }
    // The others are not there at all.
    for path in ["/metrics", "/healthz", "/readyz"] {
        let said = nginx.curl(&["-o", "/dev/null", "-w", "%{http_code}", &nginx.url(path)]);
        assert_eq!(said.stdout, "404", "{path}");
    }
    assert_eq!(
        get(server.control, "/healthz").expect("answered").status,
        200
    );
}

/// The page comes by HTTPS and finds its WebSocket at the same host, with TLS by nginx.
#[test]
fn a_space_is_entered_through_it() {
    let (server, nginx) = behind_nginx(json!({}));
    let mut command = page_command("solo", "chromium", &nginx.url("/space.html"));
    command.env("RINGSIDE_ANY_CERTIFICATE", "1");
    let report = report_of(&mut command, BROWSE_MAX);
    let address = format!("wss://localhost:{}/spaces/", nginx.port);
    assert_eq!(report["address"], address, "{report}");
    assert_eq!(report["isReachable"], true, "{report}");
    assert_eq!(report["failures"], json!([]), "{report}");
    let count = nginx.curl(&[&nginx.url("/spaces/player-count/nowhere")]);
    assert_eq!(count.stdout, "0", "{}", count.stderr);
    drop(server);
}
