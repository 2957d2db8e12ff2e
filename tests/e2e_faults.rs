//! Signals, and peers that are slow, silent or many: the others never notice.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, Socket, Type};
use support::http::{Connection, connect};
use support::watch::Viewer;
use support::{Server, clips, established_at, ffmpeg, run, wait_for, write_config};

/// SIGTERM: viewers have this long to be let go.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// A peer that has not finished saying what it wants.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);

#[test]
fn sigterm_drains_and_ends() {
    let mut server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    let mut viewers = [
        Viewer::start(&ffmpeg(), &server.url("/clip.flv")),
        Viewer::start(&ffmpeg(), &server.play_url("clip")),
    ];
    for viewer in &mut viewers {
        viewer.expect_pictures(30, Duration::from_secs(10));
    }

    let start = Instant::now();
    server.process.signal(libc::SIGTERM);
    let status = server.process.wait(DRAIN_MAX + Duration::from_secs(1));

    assert!(status.success(), "{status}");
    assert!(
        start.elapsed() < DRAIN_MAX + Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    assert!(connect(server.http).is_err(), "the port is still open");
    for viewer in &mut viewers {
        viewer.wait(Duration::from_secs(5));
    }
}

/// A supervisor's restart: nothing of the old server is in the way of the new one.
#[test]
fn sigterm_without_viewers_ends_at_once() {
    let mut server = Server::open(&["clip"]);
    server.process.signal(libc::SIGTERM);
    let status = server.process.wait(Duration::from_secs(2));
    assert!(status.success(), "{status}");
}

#[test]
fn sighup_takes_in_a_new_stream_and_drops_nobody() {
    let server = Server::open(&["clip"]);
    let mut publisher = server.publish("clip", &clips::demo());
    let mut viewer = Viewer::start(&ffmpeg(), &server.url("/clip.flv"));
    viewer.expect_pictures(30, Duration::from_secs(10));

    let mut config = server.config();
    config["streams"]["fresh"] = json!({ "name": "fresh", "source": "push://" });
    write_config(&server.config, &config);
    server.process.signal(libc::SIGHUP);
    wait_for("the new stream to be known", Duration::from_secs(5), || {
        let said = run(&mut short_push(&server), Duration::from_secs(10));
        said.status.success().then_some(())
    });

    assert!(publisher.ended().is_none(), "the publisher was dropped");
    viewer.expect_pictures(30, Duration::from_secs(5));
    assert!(viewer.stop().track("video").gap_max() < 0.2);
}

/// Half a second of the clip to `fresh`.
fn short_push(server: &Server) -> Command {
    let mut command = Command::new(ffmpeg());
    command
        .args([
            "-hide_banner",
            "-nostdin",
            "-loglevel",
            "error",
            "-re",
            "-i",
        ])
        .arg(clips::demo())
        .args(["-t", "0.5", "-c", "copy", "-f", "flv"])
        .arg(server.push_url("fresh"));
    command
}

#[test]
fn a_stream_that_is_gone_from_the_configuration_ends() {
    let server = Server::open(&["kept", "gone"]);
    let mut kept = server.publish("kept", &clips::demo());
    let mut gone = server.publish("gone", &clips::demo());

    let mut config = server.config();
    config["streams"]
        .as_object_mut()
        .expect("an object")
        .remove("gone");
    write_config(&server.config, &config);
    server.process.signal(libc::SIGHUP);

    gone.wait(Duration::from_secs(10));
    assert!(kept.ended().is_none(), "the other stream ended too");
}

#[test]
fn a_malformed_reload_keeps_the_running_configuration() {
    let server = Server::open(&["clip"]);
    let mut publisher = server.publish("clip", &clips::demo());
    let good = server.config();

    fs::write(
        &server.config,
        "{ \"streams\": {\n  \"clip\": nonsense\n} }",
    )
    .expect("writable");
    server.process.signal(libc::SIGHUP);

    wait_for(
        "the server to name the mistake",
        Duration::from_secs(5),
        || {
            let log = server.process.log();
            (log.contains("line 2") || log.contains(":2:")).then_some(())
        },
    );
    assert!(publisher.ended().is_none(), "the publisher was dropped");
    publisher.kill();
    // The stream is still configured.
    // A publisher that was cut off may come back for 10 s.
    wait_for("the name to be free", Duration::from_secs(20), || {
        server.stream_info("clip")["error"]
            .is_string()
            .then_some(())
    });
    let _again = server.publish("clip", &clips::demo());
    write_config(&server.config, &good);
}

/// It skips, then it is closed; its neighbours get every picture when it is due.
#[test]
fn a_viewer_that_never_reads_is_closed() {
    // A short window, so that what is measured is not the stream's own memory of itself.
    let server = Server::start(json!({
        "heavy": { "name": "heavy", "source": "push://", "DVR": 2000 }
    }));
    let _publisher = server.publish("heavy", &clips::heavy());
    let mut neighbour = Viewer::start(&ffmpeg(), &server.url("/heavy.flv"));
    neighbour.expect_pictures(150, Duration::from_secs(15));
    let before = server.resident_bytes();

    let stuck: Vec<Socket> = ["/heavy.flv", "/heavy.ts", "/heavy.mp4"]
        .iter()
        .map(|path| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            // Small, so that what the kernel holds is not what is measured.
            socket.set_recv_buffer_size(4096).expect("a size");
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], server.http));
            socket.connect(&address.into()).expect("the port is open");
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            (&socket).write_all(request.as_bytes()).expect("sent");
            socket
        })
        .collect();
    let own: Vec<_> = stuck
        .iter()
        .map(|socket| {
            let address = socket.local_addr().expect("bound");
            address.as_socket().expect("an IP address")
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    assert!(
        own.iter()
            .all(|address| established_at(server.http).contains(address)),
        "the viewers were not let in"
    );

    // 12 Mbit/s fill even 16 MiB of socket buffer within 12 s.
    wait_for(
        "the stuck viewers to be closed",
        Duration::from_secs(45),
        || {
            let open = established_at(server.http);
            own.iter()
                .all(|address| !open.contains(address))
                .then_some(())
        },
    );

    neighbour.expect_pictures(60, Duration::from_secs(5));
    let gap = neighbour.stop().track("video").gap_max();
    assert!(gap < 0.2, "the neighbour waited {gap:.3} s");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "{} KiB for three viewers", grown / 1024);
}

/// One byte a second is not a request.
#[test]
fn slow_headers_are_closed() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    let mut neighbour = Viewer::start(&ffmpeg(), &server.url("/clip.flv"));
    let mut slow: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = connect(server.http).expect("open");
            stream
                .write_all(b"GET /clip.flv HTTP/1.1\r\nX-A: ")
                .expect("sent");
            stream
        })
        .collect();
    let own: Vec<_> = slow
        .iter()
        .map(|stream| stream.local_addr().expect("bound"))
        .collect();

    let start = Instant::now();
    wait_for("slow headers to be closed", HANDSHAKE_MAX, || {
        for stream in &mut slow {
            // Fails once the server has closed it.
            let _ = stream.write_all(b"b");
        }
        thread::sleep(Duration::from_millis(900));
        let open = established_at(server.http);
        own.iter()
            .all(|address| !open.contains(address))
            .then_some(())
    });

    assert!(
        start.elapsed() > Duration::from_secs(1),
        "slow is not the same as wrong"
    );
    neighbour.expect_pictures(30, Duration::from_secs(5));
}

/// RTMP has three messages before anything is known of a peer; each of them may never come.
#[test]
fn a_handshake_that_stops_is_closed() {
    let server = Server::open(&["clip"]);
    let mut c0_c1 = vec![3];
    c0_c1.extend([0; 1536]);
    let stops: [&[u8]; 4] = [b"", &c0_c1[..1], &c0_c1[..700], &c0_c1];
    let mut connections: Vec<_> = stops
        .iter()
        .map(|bytes| {
            let mut stream = connect(server.rtmp).expect("open");
            stream.write_all(bytes).expect("sent");
            Connection::new(stream)
        })
        .collect();
    let start = Instant::now();
    for (connection, bytes) in connections.iter_mut().zip(stops) {
        let left = HANDSHAKE_MAX.saturating_sub(start.elapsed());
        assert!(
            connection.closed_within(left),
            "still open {:?} after {} bytes of handshake",
            start.elapsed(),
            bytes.len()
        );
    }
}

/// What is no RTMP at all is closed at once and disturbs nobody.
#[test]
fn garbage_on_the_rtmp_port_is_closed() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    let mut noise = vec![0_u8; 8192];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..200 {
        for byte in &mut noise {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        if round % 2 == 0 {
            // Through the handshake, so that the noise is read as chunks.
            noise[0] = 3;
        }
        let mut stream = connect(server.rtmp).expect("open");
        let _ = stream.write_all(&noise);
    }
    let mut viewer = Viewer::start(&ffmpeg(), &server.play_url("clip"));
    viewer.expect_pictures(60, Duration::from_secs(10));
}

/// Thousands that connect and say nothing: bounded in memory and in time, and nobody else is kept
/// out.
#[test]
fn idle_connections_are_bounded() {
    const COUNT: usize = 4000;
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    let before = server.resident_bytes();

    let idle: Vec<TcpStream> = (0..COUNT)
        .map(|index| {
            let port = if index % 2 == 0 {
                server.http
            } else {
                server.rtmp
            };
            connect(port).unwrap_or_else(|error| panic!("connection {index}: {error}"))
        })
        .collect();
    let mut viewer = Viewer::start(&ffmpeg(), &server.url("/clip.flv"));
    viewer.expect_pictures(60, Duration::from_secs(10));
    let each = server.resident_bytes().saturating_sub(before) / COUNT as u64;
    assert!(
        each < 24 * 1024,
        "{each} bytes for a connection that says nothing"
    );

    wait_for(
        "idle connections to be closed",
        Duration::from_secs(60),
        || {
            let open = established_at(server.http).len() + established_at(server.rtmp).len();
            (open < 50).then_some(())
        },
    );
    viewer.expect_pictures(30, Duration::from_secs(5));
    drop(idle);
}

/// Viewers that come and go leave nothing behind.
#[test]
fn coming_and_going_leaves_nothing_behind() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    let round = || {
        for index in 0..300 {
            let path = ["/clip.flv", "/clip.ts", "/clip.mp4", "/json_clip.js"][index % 4];
            let mut connection = Connection::new(connect(server.http).expect("open"));
            connection.send("GET", path, &[]).expect("sent");
            connection.head().expect("answered");
        }
    };
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", server.process.id()))
            .expect("the server runs")
            .count()
    };
    round();
    thread::sleep(Duration::from_secs(2));
    let (files, memory) = (descriptors(), server.resident_bytes());

    for _ in 0..5 {
        round();
    }

    wait_for(
        "every descriptor to be closed",
        Duration::from_secs(10),
        || (descriptors() <= files + 2).then_some(()),
    );
    let grown = server.resident_bytes().saturating_sub(memory);
    assert!(grown < 4 << 20, "{} KiB after 1500 viewers", grown / 1024);
}
