//! MistServer's signalling over a WebSocket, and over a data channel, by a real browser.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::rtc::{alone, number};
use support::{Server, clips, ffmpeg9, repository, run, scratch};

const BROWSE_MAX: Duration = Duration::from_secs(90);

/// What a scenario of `tests/browser/rtc_ws.mjs` saw.
#[track_caller]
fn scenario(name: &str, urls: &[String]) -> Value {
    let said = run(
        Command::new("node")
            .arg(repository().join("tests/browser/rtc_ws.mjs"))
            .arg(name)
            .args(urls),
        BROWSE_MAX,
    );
    assert!(said.status.success(), "{name}: {}", said.stderr);
    let report = scratch().join(format!("websocket-{name}.json"));
    fs::write(report, &said.stdout).expect("the scratch folder is writable");
    serde_json::from_str(&said.stdout).expect("one line of JSON")
}

/// A server with one stream, and WebRTC among its protocols.
#[track_caller]
fn server(name: &str, source: &str) -> Server {
    let edit = |all: &mut Value| {
        let protocols = &mut all["config"]["protocols"];
        let protocols = protocols.as_array_mut().expect("a list");
        if !protocols.iter().any(|it| it["connector"] == "WebRTC") {
            protocols.push(json!({"connector": "WebRTC"}));
        }
    };
    Server::start_edited(json!({name: {"source": source}}), edit, |_| {})
}

#[test]
fn a_player_plays_holds_chooses_and_stops() {
    let _alone = alone();
    let server = server("clip", "push://");
    let _publisher = server.publish_with(&ffmpeg9(), "clip", &clips::h264_opus());
    // What the player is told of is what it then dials.
    let info = server.stream_info("clip");
    let sources = info["source"].as_array().expect("sources");
    let source = sources
        .iter()
        .find(|source| source["type"] == "webrtc")
        .unwrap_or_else(|| panic!("no webrtc in {info}"));
    let url = source["url"].as_str().expect("a URL");
    assert!(
        url.starts_with("ws://") && url.contains("/webrtc/clip"),
        "{url}"
    );
    assert_eq!(info["capa"]["datachannels"], true);

    let report = scenario("play", &[server.url("/webrtc/clip")]);
    assert_eq!(report["answer"], true, "{report}");
    assert!(number(&report, "/first") > 15.0, "{report}");
    assert!(number(&report, "/sound") > 20.0, "{report}");
    assert_eq!(report["hold"]["paused"], true, "{report}");
    assert_eq!(report["hold_time"]["paused"], true, "{report}");
    assert_eq!(number(&report, "/held"), 0.0, "held: {report}");
    assert_eq!(report["play"]["paused"], false, "{report}");
    assert!(number(&report, "/resumed") > 15.0, "{report}");
    assert_eq!(
        number(&report, "/lost"),
        0.0,
        "nothing was left out: {report}"
    );
    assert_eq!(report["seek"]["live_point"], true, "{report}");
    assert_eq!(number(&report, "/without"), 0.0, "without video: {report}");
    let count = |name: &str| report[name]["tracks"].as_array().map_or(0, Vec::len);
    assert_eq!((count("none"), count("all")), (1, 2), "{report}");
    assert_eq!(
        report["same"]["tracks"], report["all"]["tracks"],
        "{report}"
    );
    let errors = report["errors"].as_object().expect("errors");
    for (name, command) in [
        ("track", "tracks"),
        ("selector", "tracks"),
        ("past", "seek"),
        ("fast", "set_speed"),
        ("rtp", "rtp_props"),
        ("codec", "request_codec_data"),
        ("bitrate", "video_bitrate"),
        ("keyframes", "keyframe_interval"),
        ("dance", "dance"),
        ("text", ""),
        ("second", "offer_sdp"),
    ] {
        assert_eq!(errors[name]["command"], command, "{name}: {report}");
        assert!(
            errors[name]["message"]
                .as_str()
                .is_some_and(|it| it.len() > 10)
        );
    }
    assert_eq!(report["speed"]["play_rate_curr"], "auto", "{report}");
    let times = report["times"].as_array().expect("times");
    assert!((2..=4).contains(&times.len()), "{report}");
    let current: Vec<f64> = times.iter().map(|time| number(time, "/current")).collect();
    assert!(current.is_sorted_by(|a, b| a < b), "{report}");
    for time in times {
        let (begin, end) = (number(time, "/begin"), number(time, "/end"));
        assert!(
            begin <= number(time, "/current") && number(time, "/current") <= end,
            "{time}"
        );
        assert!(end - number(time, "/current") < 1000.0, "behind: {time}");
        assert_eq!(time["paused"], false, "{time}");
    }
    assert!(number(&report, "/playing") > 3.0, "{report}");
    assert_eq!(report["closed"], 1000, "{report}");
}

#[test]
fn a_session_ends_with_its_websocket() {
    let _alone = alone();
    let server = server("clip", "push://");
    let _publisher = server.publish_with(&ffmpeg9(), "clip", &clips::h264_opus());
    let report = scenario("leave", &[server.url("/webrtc/clip")]);
    assert_ne!(report["state"], "connected", "{report}");
    assert_eq!(
        report["refused"],
        json!({"type": "on_answer_sdp", "result": false})
    );
    assert_eq!(report["error"]["command"], "offer_sdp", "{report}");
    assert_eq!(report["closed"], Value::Null, "it may try again: {report}");
}

#[test]
fn a_data_channel_takes_commands() {
    let _alone = alone();
    let server = server("clip", "push://");
    let _publisher = server.publish_with(&ffmpeg9(), "clip", &clips::h264_opus());
    let report = scenario("channel", &[server.url("/webrtc/clip")]);
    assert_eq!(report["hold"]["data"]["paused"], true, "{report}");
    assert_eq!(number(&report, "/held"), 0.0, "{report}");
    assert_eq!(report["play"]["data"]["paused"], false, "{report}");
    assert_eq!(report["seek"]["data"]["live_point"], true, "{report}");
    assert_eq!(
        report["speed"]["data"]["play_rate_curr"], "auto",
        "{report}"
    );
    assert_eq!(report["dance"]["command"], "dance", "{report}");
    assert!(number(&report, "/time/data/current") > 0.0, "{report}");
    assert_eq!(report["noise"], json!([]), "{report}");
}

#[test]
fn a_publisher_needs_the_password_and_takes_limits() {
    let _alone = alone();
    let server = server("cam", "push://@secret");
    let report = scenario(
        "publish",
        &[
            server.url("/webrtc/cam?pass=secret"),
            server.url("/webrtc/cam"),
        ],
    );
    assert_eq!(report["refused"]["result"], false, "{report}");
    assert_eq!(report["reason"]["command"], "offer_sdp", "{report}");
    assert_eq!(report["answer"], true, "{report}");
    assert_eq!(report["bitrate"]["result"], true, "{report}");
    assert_eq!(report["bitrate"]["video_bitrate"], 300_000, "{report}");
    assert_eq!(report["interval"]["result"], 1000, "{report}");
    assert_eq!(report["hold"]["command"], "hold", "{report}");
    assert!(number(&report, "/keyframes") >= 2.0, "{report}");
    assert!(number(&report, "/bits_per_s") < 450_000.0, "{report}");
    assert_eq!(report["closed"], 1000, "{report}");
}
