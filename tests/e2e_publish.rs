//! Publishers that come back, that are second, that have no right to, and what their viewers see.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::watch::{self, Viewer};
use support::{Background, Said, Server, clips, ffmpeg, http, push_command, run, wait_for};

/// A publisher that is refused gives up by itself well within this.
const REFUSE_MAX: Duration = Duration::from_secs(10);

#[track_caller]
fn push_and_fail(url: &str) -> Said {
    let said = run(
        &mut push_command(&ffmpeg(), &clips::demo(), url),
        REFUSE_MAX,
    );
    assert!(!said.status.success(), "{url} was accepted");
    said
}

/// What an operator needs to shut out who guesses passwords, in a form that a file can hold.
#[test]
fn the_log_says_who_was_refused() {
    let server = Server::start(json!({
        "clip": { "name": "clip", "source": "push://@sesame" }
    }));
    push_and_fail(&server.push_url("clip"));
    wait_for("the log line", Duration::from_secs(5), || {
        let line = "a publisher is refused peer=127.0.0.1 reason=wrong password";
        server.process.log().contains(line).then_some(())
    });
    let log = server.process.log();
    assert!(!log.contains('\u{1b}'), "colours in a file: {log}");
}

/// The cable is pulled and put back: the stream lives on, and every viewer with it.
#[test]
fn a_publisher_that_comes_back_keeps_its_viewers() {
    let server = Server::start(json!({
        "clip": { "name": "clip", "source": "push://", "resume": 1 }
    }));
    let mut publisher = server.publish("clip", &clips::demo());
    let urls = [
        server.url("/clip.flv"),
        server.url("/clip.ts"),
        server.url("/clip.mp4"),
        server.play_url("clip"),
    ];
    let mut viewers: Vec<Viewer> = urls
        .iter()
        .map(|url| Viewer::start(&ffmpeg(), url))
        .collect();
    for viewer in &mut viewers {
        viewer.expect_pictures(60, Duration::from_secs(15));
    }

    publisher.kill();
    thread::sleep(Duration::from_millis(700));
    let _again = server.publish("clip", &clips::demo());

    for (viewer, url) in viewers.iter_mut().zip(&urls) {
        assert!(viewer.is_playing(), "{url} ended with its publisher");
        viewer.expect_pictures(75, Duration::from_secs(10));
    }
    for (viewer, url) in viewers.into_iter().zip(&urls) {
        let contents = viewer.stop();
        for kind in ["video", "audio"] {
            let track = contents.track(kind);
            track.assert_monotonic();
            // The pause is told as one, or closed up; the timeline does not jump by more.
            assert!(
                track.gap_max() < 5.0,
                "{url}: {kind} jumps {:.2} s",
                track.gap_max()
            );
        }
        assert!(
            !contents.complaints.contains("Non-monotonous")
                && !contents.complaints.contains("Invalid"),
            "{url}: {}",
            contents.complaints
        );
    }
}

/// What comes after the pause decodes as well as what came before.
#[test]
fn pictures_after_a_restart_decode() {
    let server = Server::start(json!({
        "clip": { "name": "clip", "source": "push://", "resume": 1 }
    }));
    let mut publisher = server.publish("clip", &clips::demo());
    for extension in ["flv", "ts", "mp4"] {
        let capture = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                watch::capture(
                    &server,
                    &format!("/clip.{extension}"),
                    Duration::from_secs(6),
                )
            });
            thread::sleep(Duration::from_secs(2));
            publisher.kill();
            publisher = server.publish("clip", &clips::demo());
            reader.join().expect("the viewer is served throughout")
        });
        let packets = watch::packets(&ffmpeg(), &capture.file);
        packets.track("video").assert_monotonic();
        packets.track("audio").assert_monotonic();
        let count = packets.track("video").packets.len();
        assert!(count > 120, "{extension}: {count} pictures in 6 s");
        let decoded = watch::decoded(&ffmpeg(), &capture.file);
        assert_eq!(decoded.complaints, "", "{extension}");
        assert!(
            decoded.track("video").packets.len() + 3 >= count,
            "{extension}"
        );
    }
}

/// Without `resume` the stream ends with its publisher, and a viewer is told so instead of waiting.
#[test]
fn a_stream_without_resume_ends() {
    let server = Server::open(&["clip"]);
    let mut publisher = server.publish("clip", &clips::demo());
    let mut viewer = Viewer::start(&ffmpeg(), &server.url("/clip.flv"));
    viewer.expect_pictures(30, Duration::from_secs(10));

    publisher.signal(libc::SIGINT);
    publisher.wait(Duration::from_secs(5));

    viewer.wait(Duration::from_secs(20));
    wait_for("the stream to be gone", Duration::from_secs(20), || {
        let status = http::status(server.http, "/clip.flv").expect("the server answers");
        (status >= 400).then_some(())
    });
}

#[test]
fn a_second_publisher_is_refused_and_the_first_stays() {
    let server = Server::open(&["clip"]);
    let mut first = server.publish("clip", &clips::demo());
    let mut viewer = Viewer::start(&ffmpeg(), &server.url("/clip.flv"));
    viewer.expect_pictures(30, Duration::from_secs(10));

    let said = push_and_fail(&server.push_url("clip"));

    assert!(
        said.stderr.contains("Server error") || said.stderr.contains("BadName"),
        "not told why: {}",
        said.stderr
    );
    assert!(
        first.ended().is_none(),
        "the first publisher was pushed out: {}",
        first.log()
    );
    viewer.expect_pictures(60, Duration::from_secs(5));
    let contents = viewer.stop();
    assert!(
        contents.track("video").gap_max() < 0.15,
        "the second left a gap"
    );
}

/// A name that is not configured is nobody's to publish or to play.
#[test]
fn an_unknown_name_is_refused() {
    let server = Server::open(&["clip"]);

    let said = push_and_fail(&server.push_url("other"));
    assert!(
        said.stderr.contains("Server error"),
        "not told why: {}",
        said.stderr
    );

    for path in ["/other.flv", "/other.ts", "/other.mp4"] {
        assert_eq!(
            http::get(server.http, path).expect("answered").status,
            404,
            "{path}"
        );
    }
    let said = run(
        Command::new(ffmpeg())
            .args(["-hide_banner", "-nostdin", "-i", &server.play_url("other")])
            .args(["-t", "1", "-f", "null", "-"]),
        REFUSE_MAX,
    );
    assert!(!said.status.success(), "an unknown stream played");
}

/// `push://@secret`: the application part of the address is the password.
#[test]
fn a_wrong_password_is_refused() {
    let server = Server::start(json!({
        "locked": { "name": "locked", "source": "push://@studio-pass" }
    }));
    let at = |password: &str| format!("rtmp://127.0.0.1:{}/{password}/locked", server.rtmp);
    for wrong in ["live", "studio", "STUDIO-PASS", "studio-pass0"] {
        let said = push_and_fail(&at(wrong));
        assert!(
            said.stderr.contains("Server error"),
            "{wrong}: {}",
            said.stderr
        );
    }
    let log = server.process.log();
    assert!(!log.contains("studio-pass"), "the password is in the log");
}

#[test]
fn the_right_password_publishes() {
    let server = Server::start(json!({
        "locked": { "name": "locked", "source": "push://@secret" }
    }));
    let publisher = Background::start(
        "publisher",
        &mut push_command(
            &ffmpeg(),
            &clips::demo(),
            &format!("rtmp://127.0.0.1:{}/secret/locked", server.rtmp),
        ),
    );
    server.wait_until_live("locked", &publisher);
    assert!(
        !server.process.log().contains("secret"),
        "the password is in the log"
    );
}

/// `push://10.0.0.0/8`: a publisher from elsewhere is refused.
#[test]
fn an_address_rule_is_kept() {
    let server = Server::start(json!({
        "far": { "name": "far", "source": "push://10.0.0.0/8" },
        "near": { "name": "near", "source": "push://127.0.0.0/8" },
    }));
    let said = push_and_fail(&server.push_url("far"));
    assert!(said.stderr.contains("Server error"), "{}", said.stderr);
    let _publisher = server.publish("near", &clips::demo());
}

/// A stream key is a secret name that lands in the stream whatever the stream's own rule says.
#[test]
fn a_stream_key_publishes() {
    let server = Server::start_with(
        json!({ "keyed": { "name": "keyed", "source": "push://@other" } }),
        json!({ "streamkeys": { "k3y-of-the-studio": "keyed" } }),
    );
    let publisher = Background::start(
        "publisher",
        &mut push_command(
            &ffmpeg(),
            &clips::demo(),
            &server.push_url("k3y-of-the-studio"),
        ),
    );
    server.wait_until_live("keyed", &publisher);
    assert!(
        !server.process.log().contains("k3y-of-the-studio"),
        "the key is in the log"
    );
}

/// `name+anything` is a stream of its own with the rules of `name`.
#[test]
fn wildcards_are_streams_of_their_own() {
    let server = Server::open(&["room"]);
    let _one = server.publish("room+one", &clips::demo());
    let _two = server.publish("room+two", &clips::h264_mp3());

    let one = watch::capture(&server, "/room+one.flv", Duration::from_secs(2));
    let two = watch::capture(&server, "/room+two.flv", Duration::from_secs(2));

    assert_eq!(
        watch::packets(&ffmpeg(), &one.file).codecs(),
        ["aac", "h264"]
    );
    assert_eq!(
        watch::packets(&ffmpeg(), &two.file).codecs(),
        ["h264", "mp3"]
    );
}

/// Names as old players and encoders write them (quirk 8).
#[test]
fn old_forms_of_a_name_play() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    for path in ["play/_definst_/clip", "play/mp4:clip", "anything/clip"] {
        let url = format!("rtmp://127.0.0.1:{}/{path}", server.rtmp);
        let took = watch::first_picture(&ffmpeg(), &url);
        assert!(took < Duration::from_secs(8), "{url}: {took:?}");
    }
}

/// A publisher that stops sending without closing: its viewers are neither fed nor dropped at once,
/// and the name is free again when it goes on holding it for too long.
#[test]
fn a_stalled_publisher_recovers() {
    let server = Server::open(&["clip"]);
    let publisher = server.publish("clip", &clips::demo());
    let mut viewer = Viewer::start(&ffmpeg(), &server.url("/clip.flv"));
    viewer.expect_pictures(30, Duration::from_secs(10));

    publisher.signal(libc::SIGSTOP);
    let start = Instant::now();
    thread::sleep(Duration::from_secs(2));
    publisher.signal(libc::SIGCONT);

    assert!(viewer.is_playing(), "dropped after {:?}", start.elapsed());
    viewer.expect_pictures(60, Duration::from_secs(10));
    viewer.stop().track("video").assert_monotonic();
}
