//! The player page in real browsers: pictures move, sound is heard, the live edge is near.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::rtc::alone;
use support::tls::{Files, Secure};
use support::{
    Background, Server, clips, ffmpeg9, free_port, free_ports, repository, run, scratch, wait_for,
};

const BROWSE_MAX: Duration = Duration::from_secs(60);
/// From navigation to the first decoded picture.
const FIRST_PICTURE_MS_MAX: f64 = 1000.0;

/// What `tests/browser/player.mjs` saw, with a screenshot left in the scratch folder.
#[track_caller]
fn watch_page(browser: &str, name: &str, url: &str) -> Value {
    let _alone = alone();
    let screenshot = scratch().join(format!("{name}-{browser}.png"));
    let _ = fs::remove_file(&screenshot);
    let said = run(
        Command::new("node")
            .arg(repository().join("tests/browser/player.mjs"))
            .args([browser, url])
            .arg(&screenshot)
            .env("RINGSIDE_ANY_CERTIFICATE", "1")
            .env("RINGSIDE_SHOW_PANEL", "1"),
        BROWSE_MAX,
    );
    assert!(
        said.status.success(),
        "{browser}: {}\n{}",
        said.stdout,
        said.stderr
    );
    let report = screenshot.with_extension("json");
    fs::write(&report, &said.stdout).expect("the scratch folder is writable");
    assert!(
        fs::metadata(&screenshot).is_ok_and(|file| file.len() > 1000),
        "no screenshot"
    );
    serde_json::from_str(&said.stdout).expect("one line of JSON")
}

#[track_caller]
fn assert_plays(report: &Value) {
    let number = |key: &str| {
        report[key]
            .as_f64()
            .unwrap_or_else(|| panic!("no {key} in {report}"))
    };
    assert!(number("frames") > 120.0, "{report}");
    assert!(number("advanced") > 0.8, "{report}");
    // Without a graphics card a browser draws with the processor that decodes, encodes and serves, and
    // leaves pictures out where that is late.
    assert!(number("dropped") < number("frames") / 4.0, "{report}");
    assert!(number("ahead") < 3.0, "far behind the live edge: {report}");
    assert!(
        report["sound"]["peak"]
            .as_f64()
            .is_some_and(|peak| peak > 0.02),
        "silent: {report}"
    );
    assert_eq!(report["errors"], serde_json::json!([]), "{report}");
}

#[test]
fn chromium_plays_the_page() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    let report = watch_page("chromium", "page", &server.url("/clip.html"));
    assert_plays(&report);
    let first = report["first_picture_ms"].as_f64().expect("a time");
    assert!(
        first < FIRST_PICTURE_MS_MAX,
        "first picture after {first} ms"
    );
}

#[test]
fn chromium_plays_the_page_over_http2() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::open(&[&files]);
    let _publisher = secure.server.publish("clip", &clips::demo());
    let report = watch_page("chromium", "page-https", &secure.url("/clip.html"));
    assert_eq!(report["protocol"], "h2", "{report}");
    assert_plays(&report);
}

#[test]
fn firefox_plays_the_page() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    let report = watch_page("firefox", "page", &server.url("/clip.html"));
    assert_plays(&report);
    // Measured from the outside, with the driver's own round trips in it.
    let first = report["first_picture_ms"].as_f64().expect("a time");
    assert!(
        first < 2.0 * FIRST_PICTURE_MS_MAX,
        "first picture after {first} ms"
    );
}

/// B-frames and a publisher's composition offsets (quirk 33).
#[test]
fn chromium_plays_b_frames() {
    let server = Server::open(&["flash"]);
    let _publisher = server.publish("flash", &clips::flash_and_beep());
    assert_plays(&watch_page(
        "chromium",
        "b-frames",
        &server.url("/flash.html"),
    ));
}

/// Chromium has no decoder for AC-3; the picture moves all the same.
#[test]
fn sound_without_a_decoder_leaves_the_picture() {
    let server = Server::open(&["mute"]);
    let _publisher = server.publish_with(&ffmpeg9(), "mute", &clips::h264_ac3());
    // It ends with an error, as there is no sound.
    let said = run(
        Command::new("node")
            .arg(repository().join("tests/browser/player.mjs"))
            .args(["chromium", &server.url("/mute.html")])
            .arg(scratch().join("mute-chromium.png")),
        BROWSE_MAX,
    );
    let report: Value = serde_json::from_str(&said.stdout).expect("one line of JSON");
    assert!(report["frames"].as_f64() > Some(120.0), "{report}");
    assert!(report["advanced"].as_f64() > Some(0.8), "{report}");
}

#[test]
fn chromium_plays_av1_and_opus() {
    let server = Server::open(&["coded"]);
    let _publisher = server.publish_with(&ffmpeg9(), "coded", &clips::av1_opus());
    assert_plays(&watch_page("chromium", "av1", &server.url("/coded.html")));
}

/// The page that was open when the publisher was not there yet, or went away, plays when it is back.
#[test]
fn the_page_retries() {
    let server = Server::open(&["clip"]);
    let screenshot = scratch().join("retries-chromium.png");
    let mut browser = Background::start(
        "browser",
        Command::new("node")
            .arg(repository().join("tests/browser/player.mjs"))
            .args(["chromium", &server.url("/clip.html")])
            .arg(&screenshot),
    );
    std::thread::sleep(Duration::from_secs(4));
    let _publisher = server.publish("clip", &clips::demo());
    let status = browser.wait(BROWSE_MAX);
    assert!(status.success(), "{}", browser.log());
}

/// The README's first command, with nothing but the binary.
#[test]
fn the_demo_plays() {
    let demo = Background::start(
        "demo",
        Command::new(env!("CARGO_BIN_EXE_ringside"))
            .arg("demo")
            .args(["--http", &free_port().to_string()])
            .args(["--rtmp", &free_port().to_string()])
            .args(["--control", &free_port().to_string()])
            .args(["--webrtc", &free_port().to_string()])
            .args(["--spaces", &free_port().to_string()])
            .args(["--collab", &free_ports().to_string()]),
    );
    let url = wait_for(
        "the demo to print its page",
        Duration::from_secs(10),
        || {
            demo.log()
                .split_whitespace()
                .find(|word| word.starts_with("http://") && word.contains("/demo.html"))
                .map(|word| word.trim_end_matches(['.', ',', ')']).to_owned())
        },
    );
    // Its sound is there as Opus too, so it comes by WebRTC; Debian's Firefox has no H.264 for that.
    for (browser, player) in [("chromium", "webrtc"), ("firefox", "mse")] {
        let report = watch_page(browser, "demo", &url);
        assert_plays(&report);
        assert_eq!(report["player"], player, "{report}");
    }
}

#[track_caller]
fn assert_by_webrtc(report: &Value) {
    assert_plays(report);
    assert_eq!(report["player"], "webrtc", "{report}");
    let tracks = report["inbound"].as_array().expect("statistics");
    let of = |kind: &str| {
        let mut all = tracks.iter();
        all.find(|track| track["kind"] == kind)
            .unwrap_or_else(|| panic!("no {kind}: {report}"))
    };
    assert!(of("video")["decoded"].as_f64() > Some(120.0), "{report}");
    assert!(of("audio")["energy"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn the_page_prefers_webrtc() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish_with(&ffmpeg9(), "clip", &clips::h264_opus());
    let report = watch_page("chromium", "whep", &server.url("/clip.html"));
    assert_by_webrtc(&report);
    assert_eq!(report["notes"], serde_json::json!([]), "{report}");
    let first = report["first_picture_ms"].as_f64().expect("a time");
    assert!(
        first < FIRST_PICTURE_MS_MAX,
        "first picture after {first} ms"
    );
    let report = watch_page("chromium", "whep-not", &server.url("/clip.html?player=mse"));
    assert_plays(&report);
    assert_eq!(report["player"], "mse", "{report}");
}

#[test]
fn firefox_plays_the_page_by_webrtc() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish_with(&ffmpeg9(), "clip", &clips::vp9_opus());
    assert_by_webrtc(&watch_page("firefox", "whep", &server.url("/clip.html")));
}

/// Sound matters more than a second of delay, and the page says why it is not WebRTC.
#[test]
fn the_page_says_what_keeps_webrtc_away() {
    let server = Server::open(&["aac", "flash"]);
    let _aac = server.publish("aac", &clips::demo());
    let _flash = server.publish_with(&ffmpeg9(), "flash", &clips::b_frames_opus());
    for (name, why) in [("aac", "AAC"), ("flash", "B-frames")] {
        let report = watch_page(
            "chromium",
            &format!("note-{name}"),
            &server.url(&format!("/{name}.html")),
        );
        assert_plays(&report);
        assert_eq!(report["player"], "mse", "{report}");
        let note = report["notes"][0].as_str().expect("a note");
        assert!(note.contains(why), "{note}");
    }
}

/// A page that WebRTC does not reach, as behind a firewall, plays by HTTP.
#[test]
fn the_page_falls_back_where_no_packet_arrives() {
    let nowhere = serde_json::json!({ "webrtc": { "port": free_port(), "interface": "127.0.0.1", "announced": ["127.0.0.9"] } });
    let streams = serde_json::json!({ "clip": { "name": "clip", "source": "push://" } });
    let server = Server::start_with(streams, nowhere);
    let _publisher = server.publish_with(&ffmpeg9(), "clip", &clips::h264_opus());
    let report = watch_page("chromium", "whep-nowhere", &server.url("/clip.html"));
    assert_plays(&report);
    assert_eq!(report["player"], "mse", "{report}");
    let note = report["notes"][0].as_str().expect("a note");
    assert!(note.contains("nothing came through"), "{note}");
}

/// A viewer by WebRTC sees the publisher go and come back.
#[test]
fn the_page_comes_back_by_webrtc() {
    let server = Server::open(&["clip"]);
    let first = server.publish_with(&ffmpeg9(), "clip", &clips::h264_opus());
    let screenshot = scratch().join("whep-restart-chromium.png");
    let mut browser = Background::start(
        "browser",
        Command::new("node")
            .arg(repository().join("tests/browser/player.mjs"))
            .args(["chromium", &server.url("/clip.html")])
            .arg(&screenshot)
            .env("RINGSIDE_PLAY_MS", "22000"),
    );
    std::thread::sleep(Duration::from_secs(5));
    drop(first);
    std::thread::sleep(Duration::from_secs(2));
    let _second = server.publish_with(&ffmpeg9(), "clip", &clips::h264_opus());
    let status = browser.wait(BROWSE_MAX);
    let log = browser.log();
    assert!(status.success(), "{log}");
    let report: Value = serde_json::from_str(log.trim()).expect("one line of JSON");
    assert_eq!(report["player"], "webrtc", "{report}");
    assert_eq!(report["state"], "playing", "{report}");
}

#[test]
fn chromium_plays_the_pages_hls_by_itself() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    let said = run(
        Command::new("node")
            .arg(repository().join("tests/browser/native.mjs"))
            .arg(server.url("/clip.html?native"))
            .arg(scratch().join("native-chromium.png")),
        BROWSE_MAX,
    );
    assert!(said.status.success(), "{}\n{}", said.stdout, said.stderr);
    let report: Value = serde_json::from_str(&said.stdout).expect("one line of JSON");
    assert_eq!(report["state"], "playing", "{report}");
    let source = report["source"].as_str().expect("a source");
    assert!(source.contains("/cmaf/clip/index.m3u8"), "{report}");
    assert!(
        report["advanced"].as_f64().is_some_and(|s| s > 3.0),
        "{report}"
    );
    assert!(
        report["frames"].as_u64().is_some_and(|n| n > 60),
        "{report}"
    );
}
