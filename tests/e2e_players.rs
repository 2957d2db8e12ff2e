//! HLS and DASH in real players: hls.js and dash.js in Chromium, FFmpeg, VLC, GStreamer.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::tls::{Files, Secure};
use support::{
    Background, Server, clips, ffmpeg, ffmpeg9, repository, run, scratch, vlc, wait_for, watch,
};

/// How long a page plays; `RINGSIDE_PLAY_SECONDS` makes it longer.
const PLAY_SECONDS: u64 = 20;
/// How far behind the live edge a player may be, by the stream's own dates.
const HLS_LATENCY_MAX: f64 = 3.0;
const DASH_LATENCY_MAX: f64 = 4.0;

fn live() -> (Server, Background) {
    let server = Server::open(&["clip"]);
    let publisher = server.publish("clip", &clips::demo());
    // A window to begin in: some players want three segments.
    thread::sleep(Duration::from_secs(7));
    (server, publisher)
}

/// What `tests/browser/segments.mjs` saw, with a screenshot left in the scratch folder.
#[track_caller]
fn watch_page(kind: &str, name: &str, url: &str) -> Value {
    let seconds = std::env::var("RINGSIDE_PLAY_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(PLAY_SECONDS);
    let screenshot = scratch().join(format!("{name}.png"));
    let said = run(
        Command::new("node")
            .arg(repository().join("tests/browser/segments.mjs"))
            .args([kind, url, &seconds.to_string()])
            .arg(&screenshot)
            .env("RINGSIDE_ANY_CERTIFICATE", "1"),
        Duration::from_secs(seconds + 60),
    );
    assert!(said.status.success(), "{}{}", said.stdout, said.stderr);
    fs::write(screenshot.with_extension("json"), &said.stdout).expect("the folder is writable");
    assert!(
        fs::metadata(&screenshot).is_ok_and(|file| file.len() > 1000),
        "no screenshot"
    );
    serde_json::from_str(&said.stdout).expect("one line of JSON")
}

#[track_caller]
fn assert_plays(report: &Value, latency_max: f64) {
    let number = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("no {pointer} in {report}"))
    };
    assert_eq!(number("/stalls"), 0.0, "{report}");
    assert_eq!(report["errors"], serde_json::json!([]), "{report}");
    let played = number("/advanced") / number("/seconds");
    assert!(
        (0.95..1.12).contains(&played),
        "at {played} of its speed: {report}"
    );
    assert!(number("/frames") > 25.0 * number("/seconds"), "{report}");
    assert!(number("/dropped") < 0.1 * number("/frames"), "{report}");
    assert!(number("/sound/peak") > 0.02, "silent: {report}");
    assert!(number("/latency/p50") < latency_max, "{report}");
    assert!(number("/latency/max") < latency_max + 1.0, "{report}");
    assert!(number("/latency/p50") > 0.1, "a clock is wrong: {report}");
}

#[test]
fn hls_js_plays_cmaf() {
    let (server, _publisher) = live();
    let report = watch_page("hls", "hls-cmaf", &server.url("/cmaf/clip/index.m3u8"));
    assert_plays(&report, HLS_LATENCY_MAX);
    assert_eq!(report["details"]["low"], true, "no parts: {report}");
}

#[test]
fn hls_js_plays_transport_streams() {
    let (server, _publisher) = live();
    let report = watch_page("hls", "hls-ts", &server.url("/hls/clip/index.m3u8"));
    assert_plays(&report, HLS_LATENCY_MAX);
    assert_eq!(report["details"]["low"], true, "no parts: {report}");
}

/// Safari asks for low latency by HTTPS and HTTP/2 only (quirk 34); Chromium stands in for it.
#[test]
fn hls_js_plays_over_http2() {
    let files = Files::new(&["localhost"]);
    let secure = Secure::open(&[&files]);
    let _publisher = secure.server.publish("clip", &clips::demo());
    thread::sleep(Duration::from_secs(7));
    let report = watch_page("hls", "hls-https", &secure.url("/cmaf/clip/index.m3u8"));
    assert_plays(&report, HLS_LATENCY_MAX);
    assert_eq!(report["details"]["low"], true, "no parts: {report}");
    // One connection carries what HTTP/1.1 takes several for.
    let handshakes = secure.server.metric("tls_handshakes_total");
    assert!((1..=3).contains(&handshakes), "{handshakes} handshakes");
}

/// As OBS sends it: B-frames, 44.1 kHz (quirk 33).
#[test]
fn hls_js_plays_b_frames() {
    let server = Server::open(&["flash"]);
    let _publisher = server.publish("flash", &clips::flash_and_beep());
    thread::sleep(Duration::from_secs(7));
    for form in ["cmaf", "hls"] {
        let url = server.url(&format!("/{form}/flash/index.m3u8"));
        let report = watch_page("hls", &format!("hls-b-frames-{form}"), &url);
        assert_plays(&report, HLS_LATENCY_MAX);
    }
}

#[test]
fn hls_js_plays_av1_and_opus() {
    let server = Server::open(&["coded"]);
    let _publisher = server.publish_with(&ffmpeg9(), "coded", &clips::av1_opus());
    thread::sleep(Duration::from_secs(7));
    let report = watch_page("hls", "hls-av1", &server.url("/cmaf/coded/index.m3u8"));
    assert_plays(&report, HLS_LATENCY_MAX);
}

#[test]
fn dash_js_plays() {
    let (server, _publisher) = live();
    let report = watch_page("dash", "dash", &server.url("/cmaf/clip/index.mpd"));
    assert_plays(&report, DASH_LATENCY_MAX);
}

/// A page that is open when the publisher goes and another one comes plays on.
#[test]
fn hls_js_plays_on_behind_a_restart() {
    let (server, first) = live();
    let url = server.url("/cmaf/clip/index.m3u8");
    let mut page = Background::start(
        "hls-restart",
        Command::new("node")
            .arg(repository().join("tests/browser/segments.mjs"))
            .args(["hls", &url, "25"])
            .arg(scratch().join("hls-restart.png")),
    );
    thread::sleep(Duration::from_secs(8));
    drop(first);
    thread::sleep(Duration::from_secs(2));
    let _second = server.publish("clip", &clips::demo());
    page.wait(Duration::from_secs(70));
    let log = page.log();
    let line = log.lines().find(|line| line.starts_with('{'));
    let report: Value = serde_json::from_str(line.expect("a report")).expect("JSON");
    // Two seconds without media, and what it takes to come back.
    assert!(report["advanced"].as_f64() > Some(15.0), "{report}");
    let last = report["latency"]["last"].as_f64().expect("a latency");
    assert!(last < 6.0, "{last} s behind in the end: {report}");
}

/// Plays three seconds of an address, decoding all of it.
#[track_caller]
fn ffmpeg_plays(tool: &Path, url: &str) {
    let said = run(
        Command::new(tool)
            .args(["-hide_banner", "-nostdin", "-loglevel", "warning"])
            .args(["-i", url, "-t", "4", "-fps_mode", "passthrough"])
            .args(["-map", "0:v:0", "-map", "0:a:0", "-f", "framecrc", "-"]),
        Duration::from_secs(40),
    )
    .success();
    let contents = watch::Contents::parse(&said.stdout, said.stderr);
    for kind in ["video", "audio"] {
        let track = contents.track(kind);
        let name = tool.display();
        assert!(
            track.span() > 3.0,
            "{name} {url}: {} s of {kind}",
            track.span()
        );
        assert!(
            track.gap_max() < 0.15,
            "{name} {url}: a gap of {}",
            track.gap_max()
        );
    }
    // FFmpeg takes the initialisation section of a playlist that it has read again for another one.
    let its_own = ["deprecated", "keepalive", "duplicated MOOV"];
    let complaints: Vec<&str> = contents
        .complaints
        .lines()
        .filter(|line| !its_own.iter().any(|known| line.contains(known)))
        .collect();
    assert!(complaints.is_empty(), "{url}: {complaints:?}");
}

#[test]
fn ffmpeg_plays_every_form() {
    let (server, _publisher) = live();
    for path in ["/hls/clip/index.m3u8", "/cmaf/clip/index.m3u8"] {
        ffmpeg_plays(&ffmpeg(), &server.url(path));
        ffmpeg_plays(&ffmpeg9(), &server.url(path));
    }
    let said = run(
        Command::new("ffprobe")
            .args(["-v", "error", "-show_streams", "-of", "json"])
            .arg(server.url("/cmaf/clip/index.m3u8")),
        Duration::from_secs(30),
    )
    .success();
    let probe: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let codecs: Vec<&str> = probe["streams"]
        .as_array()
        .expect("streams")
        .iter()
        .filter_map(|stream| stream["codec_name"].as_str())
        .collect();
    assert!(
        codecs.contains(&"h264") && codecs.contains(&"aac"),
        "{codecs:?}"
    );
}

#[test]
fn vlc_plays_transport_streams() {
    let (server, _publisher) = live();
    vlc::plays("hls-ts", &server.url("/hls/clip/index.m3u8"));
}

#[test]
fn vlc_plays_cmaf() {
    let (server, _publisher) = live();
    vlc::plays("hls-cmaf", &server.url("/cmaf/clip/index.m3u8"));
}

/// Decodes 60 pictures, then 60 blocks of sound. A live playlist has no end, and a sink that has
/// had its share does not end the pipeline, so it is ended from here.
#[track_caller]
fn gstreamer_plays(url: &str) {
    let location = format!("uri={url}");
    for caps in ["video/x-raw", "audio/x-raw"] {
        let mut player = Background::start(
            "gstreamer",
            Command::new("gst-launch-1.0")
                .args(["-v", "uridecodebin", &location, "!", caps, "!"])
                .args(["fakesink", "silent=false", "sync=false"]),
        );
        let what = format!("60 buffers of {caps} from {url}");
        wait_for(&what, Duration::from_secs(40), || {
            let log = player.log();
            assert!(!log.contains("ERROR"), "{url}: {log}");
            assert!(player.ended().is_none(), "{url}: it has ended: {log}");
            (log.matches("last-message = chain").count() > 60).then_some(())
        });
    }
}

#[test]
fn gstreamer_plays_every_form() {
    let (server, _publisher) = live();
    for path in [
        "/hls/clip/index.m3u8",
        "/cmaf/clip/index.m3u8",
        "/cmaf/clip/index.mpd",
    ] {
        gstreamer_plays(&server.url(path));
    }
}
