//! Browsers publish by WHIP and play by WHEP. What ran, and what did not, is in `tests/WEBRTC.md`.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use support::lossy::Lossy;
use support::rtc::{
    alone, assert_moves, assert_never_froze, assert_sounds, browse, inbound, number, view,
};
use support::{Server, clips, ffmpeg9, http, repository, rtc::Camera, watch};

/// From the offer to the first decoded picture, with other work on the machine.
const FIRST_PICTURE_MS_MAX: f64 = 1000.0;

/// A browser publishes and plays what it published in a second page.
#[track_caller]
fn there_and_back(browser: &str, codec: &str, rate: f64) -> Value {
    let _alone = alone();
    let server = Server::open(&["cam"]);
    let report = browse(
        browser,
        &format!("there-and-back-{codec}"),
        json!({
            "publish": { "url": server.url("/whip/cam"), "video": codec },
            "play": [{ "url": server.url("/whep/cam") }],
        }),
    );
    let view = &report["views"][0];
    assert_moves(view, codec, rate);
    assert_sounds(view);
    assert_eq!(view["protocol"], "udp", "{view}");
    assert_eq!(view["left"], 200, "{view}");
    assert_eq!(report["publisher"]["left"], 200, "{report}");
    let first = number(view, "/first_ms");
    assert!(
        first < FIRST_PICTURE_MS_MAX,
        "first picture after {first} ms"
    );
    report
}

#[test]
fn chromium_vp8() {
    there_and_back("chromium", "VP8", 25.0);
}

#[test]
fn chromium_h264() {
    there_and_back("chromium", "H264", 25.0);
}

#[test]
fn chromium_vp9() {
    there_and_back("chromium", "VP9", 25.0);
}

#[test]
fn chromium_av1() {
    there_and_back("chromium", "AV1", 25.0);
}

#[test]
fn firefox_vp8() {
    there_and_back("firefox", "VP8", 20.0);
}

#[test]
fn firefox_vp9() {
    there_and_back("firefox", "VP9", 20.0);
}

#[test]
fn firefox_av1() {
    there_and_back("firefox", "AV1", 15.0);
}

/// A picture that has moved for 30 s has moved beyond what any buffer holds.
fn plays_on(browser: &str) {
    let _alone = alone();
    let server = Server::open(&["cam"]);
    let report = browse(
        browser,
        "half-a-minute",
        json!({
            "publish": { "url": server.url("/whip/cam"), "video": "VP8" },
            "play": [{ "url": server.url("/whep/cam") }],
            "seconds": 30,
        }),
    );
    let view = &report["views"][0];
    assert!(number(view, "/during/seconds") > 29.0, "{view}");
    assert_moves(view, "VP8", 20.0);
    assert_sounds(view);
}

#[test]
fn chromium_plays_for_half_a_minute() {
    plays_on("chromium");
}

#[test]
fn firefox_plays_for_half_a_minute() {
    plays_on("firefox");
}

/// What one browser publishes, the other one plays.
#[test]
fn chromium_to_firefox_and_back() {
    let _alone = alone();
    let server = Server::open(&["one", "other"]);
    for (from, to, stream) in [
        ("chromium", "firefox", "one"),
        ("firefox", "chromium", "other"),
    ] {
        let _camera = Camera::start(&server, from, stream, json!({ "video": "VP8" }));
        let seen = view(
            to,
            &format!("across-{stream}"),
            &server.url(&format!("/whep/{stream}")),
        );
        assert_moves(&seen, "VP8", 20.0);
        assert_sounds(&seen);
    }
}

/// The layers of a simulcast publisher by name: number, width and height.
fn layers(info: &Value) -> Vec<(u64, u64, u64)> {
    let tracks = info["meta"]["tracks"].as_object().expect("tracks");
    let mut layers: Vec<_> = tracks
        .values()
        .filter(|track| track["type"] == "video")
        .filter_map(|track| {
            // One that has begun a moment ago has no size yet.
            let get = |key: &str| track[key].as_u64();
            Some((get("idx")?, get("width")?, get("height")?))
        })
        .collect();
    layers.sort_by_key(|(_, width, _)| *width);
    layers
}

/// Each layer is a track, and a viewer has the one it asks for; another one on request.
fn simulcast(browser: &str, rids: &[&str], size: (u64, u64)) {
    let _alone = alone();
    let server = Server::open(&["cam"]);
    let publish = json!({ "video": "VP8", "rids": rids, "size": [size.0, size.1] });
    let _camera = Camera::start(&server, browser, "cam", publish);
    let layers = support::wait_for("all layers", Duration::from_secs(20), || {
        let layers = layers(&server.stream_info("cam"));
        (layers.len() == rids.len() && layers.iter().all(|(_, width, _)| *width > 0))
            .then_some(layers)
    });
    let widths: BTreeSet<u64> = layers.iter().map(|(_, width, _)| *width).collect();
    assert_eq!(widths.len(), rids.len(), "{layers:?}");
    let url = |query: &str| server.url(&format!("/whep/cam{query}"));
    let smallest = rids.first().expect("layers have names");
    let biggest = layers.last().expect("a layer");
    let mut plays: Vec<Value> = layers
        .iter()
        .map(|(index, _, _)| json!({ "url": url(&format!("?video={index}")) }))
        .collect();
    // Who does not say gets the biggest.
    plays.push(json!({ "url": url("") }));
    // By name, then the biggest one from its next keyframe on.
    plays.push(json!({
        "url": url(&format!("?rid={smallest}")),
        "then": { "path": "/layer", "request": {
            "method": "POST",
            "headers": { "content-type": "application/json" },
            "body": json!({ "track": biggest.0 }).to_string(),
        }},
    }));
    let report = browse(browser, "simulcast", json!({ "play": plays, "seconds": 6 }));
    let views = report["views"].as_array().expect("views");
    for (seen, (index, width, height)) in views.iter().zip(&layers) {
        assert_moves(seen, "VP8", 10.0);
        let video = inbound(seen, "video");
        assert_eq!(
            (video["frameWidth"].as_u64(), video["frameHeight"].as_u64()),
            (Some(*width), Some(*height)),
            "track {index}: {seen}"
        );
    }
    let unsaid = inbound(&views[layers.len()], "video");
    assert_eq!(unsaid["frameWidth"], biggest.1, "{unsaid}");
    let switched = views.last().expect("a view");
    assert_eq!(switched["then"]["status"], 204, "{switched}");
    let width = |view: &Value| inbound(view, "video")["frameWidth"].as_u64();
    assert_eq!(width(&switched["before"]), Some(layers[0].1), "{switched}");
    assert_eq!(width(switched), Some(biggest.1), "{switched}");
    assert_never_froze(switched);
}

#[test]
fn chromium_simulcast() {
    simulcast("chromium", &["q", "h", "f"], (1280, 720));
}

#[test]
fn firefox_simulcast() {
    simulcast("firefox", &["q", "h", "f"], (640, 480));
}

/// Chromium publishes sound with older sound in front (RFC 2198): a viewer that puts that first gets
/// it as it is, one that does not gets plain Opus, and so does a player of frames.
#[test]
fn chromium_redundant_sound() {
    let _alone = alone();
    let server = Server::open(&["cam"]);
    let publish = json!({ "video": "VP8", "red": true });
    let _camera = Camera::start(&server, "chromium", "cam", publish);
    let url = server.url("/whep/cam");
    let plays = json!([{ "url": url, "red": true }, { "url": url }]);
    let report = browse("chromium", "red", json!({ "play": plays, "seconds": 6 }));
    let [wanted, plain] = [0, 1].map(|at| &report["views"][at]);
    for seen in [wanted, plain] {
        assert_moves(seen, "VP8", 20.0);
        assert!(number(seen, "/during/energy") > 0.0, "silent: {seen}");
        assert!(number(seen, "/sound/peak") > 0.02, "silent: {seen}");
    }
    let of = |seen: &Value, name: &str| inbound(seen, "audio")[name].as_f64().expect("a number");
    // Chromium counts an older block as discarded whose packet had come; nearly each has one.
    let (count, older) = (
        of(wanted, "packetsReceived"),
        of(wanted, "packetsDiscarded"),
    );
    assert!(older > 0.8 * count, "{older} of {count}: {wanted}");
    assert_sounds(plain);
    let (count, older) = (of(plain, "packetsReceived"), of(plain, "packetsDiscarded"));
    assert!(older < 0.2 * count, "{older} of {count}: {plain}");
    let bytes = |seen: &Value| of(seen, "bytesReceived") / of(seen, "packetsReceived");
    assert!(bytes(wanted) > 1.5 * bytes(plain), "{report}");
    let got = watch::capture(&server, "/cam.flv", Duration::from_secs(4));
    let contents = watch::packets(&ffmpeg9(), &got.file);
    let sound = contents.track("audio");
    assert_eq!(sound.codec, "opus");
    assert!(sound.rate() > 45.0, "{} a second", sound.rate());
    let all: u64 = sound.packets.iter().map(|packet| packet.bytes).sum();
    let mean = all as f64 / sound.packets.len() as f64;
    assert!(mean < 1.3 * bytes(plain), "{mean} bytes a frame");
}

/// Where UDP does not get through, both directions go by TCP (RFC 4571).
fn by_tcp(browser: &str) {
    let _alone = alone();
    let server = Server::open(&["cam"]);
    let report = browse(
        browser,
        "tcp",
        json!({
            "publish": { "url": server.url("/whip/cam"), "video": "VP8", "only": "tcp" },
            "play": [{ "url": server.url("/whep/cam"), "only": "tcp" }],
        }),
    );
    let seen = &report["views"][0];
    assert_eq!(seen["protocol"], "tcp", "{seen}");
    assert_eq!(report["publisher"]["protocol"], "tcp", "{report}");
    assert_moves(seen, "VP8", 20.0);
    assert_sounds(seen);
}

#[test]
fn chromium_by_tcp() {
    by_tcp("chromium");
}

#[test]
fn firefox_by_tcp() {
    by_tcp("firefox");
}

/// What is lost on the way is sent again, and the picture goes on. Firefox once threw away all that
/// was sent again, because it carried no tag (`mid`), and stood still for 3 s until it asked for a
/// keyframe.
fn recovers(browser: &str) {
    let _alone = alone();
    let server = Server::open(&["cam"]);
    let relay = Lossy::start(server.media, 4, 7);
    let _camera = Camera::start(&server, "chromium", "cam", json!({ "video": "VP8" }));
    let report = browse(
        browser,
        "lossy",
        json!({ "play": [{ "url": server.url("/whep/cam"), "via": relay.port }] }),
    );
    let seen = &report["views"][0];
    let (lost, passed) = relay.counts();
    assert!(lost > 20, "{lost} lost of {}", lost + passed);
    assert_moves(seen, "VP8", 20.0);
    let video = inbound(seen, "video");
    assert!(number(video, "/nackCount") > 0.0, "{seen}");
    // Others may be asked for where the first one was lost, or what was sent again was lost too, but
    // not for each loss.
    assert!(
        number(video, "/keyFramesDecoded") <= 3.0,
        "nothing but keyframes helped: {seen}"
    );
    // Firefox does not count them.
    if browser == "chromium" {
        let again = number(video, "/retransmittedPacketsReceived");
        assert!(again > 0.0, "{seen}");
    }
}

#[test]
fn chromium_recovers_what_was_lost() {
    recovers("chromium");
}

#[test]
fn firefox_recovers_what_was_lost() {
    recovers("firefox");
}

/// The kernel chooses a shard for each viewer by its address, so some of eight are on each of two.
#[test]
fn every_join_plays_on_any_shard() {
    let _alone = alone();
    let server = Server::open(&["clip"]);
    let _publisher = server.publish_with(&ffmpeg9(), "clip", &clips::h264_opus());
    let view = json!({ "url": server.url("/whep/clip"), "no_sound": true });
    let plan = json!({ "play": vec![view; 8], "seconds": 1 });
    let report = browse("chromium", "joins", plan);
    let views = report["views"].as_array().expect("views");
    assert_eq!(views.len(), 8);
    for seen in views {
        assert_moves(seen, "H264", 20.0);
        let first = number(seen, "/first_ms");
        assert!(
            first < FIRST_PICTURE_MS_MAX,
            "first picture after {first} ms"
        );
    }
    let metrics = http::get(server.control, "/metrics")
        .expect("metrics")
        .text();
    let is_busy = |line: &&str| {
        line.starts_with("ringside_media_out_bytes_total{")
            && line.contains("protocol=\"webrtc\"")
            && !line.ends_with(" 0")
    };
    let busy: Vec<&str> = metrics.lines().filter(is_busy).collect();
    assert!(busy.len() > 1, "all viewers were on one shard: {busy:?}");
}

/// As OBS sends it (quirks 12 to 15): no candidates, `group:LS`, credentials for the whole session.
#[test]
fn an_offer_of_obs_is_answered() {
    let server = Server::open(&["cam"]);
    let offer = fs::read(repository().join("tests/data/sdp/obs_whip.sdp")).expect("it is there");
    let post = || {
        let headers = [("Content-Type", "application/sdp")];
        http::send(server.http, "POST", "/whip/cam", &headers, &offer).expect("an answer")
    };
    let answer = post();
    let text = answer.text();
    assert_eq!(answer.status, 201, "{text}");
    let location = answer.header("location").expect("a Location").to_owned();
    assert!(
        answer
            .header("etag")
            .is_some_and(|etag| etag.starts_with('"'))
    );
    for kind in [" udp ", " tcp "] {
        let is_there = |line: &str| line.starts_with("a=candidate:") && line.contains(kind);
        assert!(text.lines().any(is_there), "no{kind}candidate in {text}");
    }
    assert!(
        text.contains("H264/90000") && text.contains("opus/48000/2"),
        "{text}"
    );
    let gone = http::request(server.http, "DELETE", &location, &[]).expect("an answer");
    assert_eq!(gone.status, 200, "{}", gone.text());
    // It left nothing behind.
    assert_eq!(post().status, 201);
}
