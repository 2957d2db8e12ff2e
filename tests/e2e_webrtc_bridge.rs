//! What goes in by WebRTC comes out by everything else, and the other way round; FFmpeg, GStreamer
//! and aiortc as its clients. What ran, and what did not, is in `tests/WEBRTC.md`.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::rtc::{self, Camera, alone, assert_moves, assert_sounds, number, report_of, view};
use support::{Background, Server, clips, ffmpeg9, run, watch};

const CAPTURE: Duration = Duration::from_secs(5);

/// FFmpeg encodes a clip again and again to H.264 and Opus and publishes it by WHIP.
#[track_caller]
fn ffmpeg_whip(server: &Server, name: &str, clip: &Path) -> Background {
    let publisher = Background::start(
        "whip",
        Command::new(ffmpeg9())
            .args(["-hide_banner", "-nostdin", "-loglevel", "info", "-nostats"])
            .args(["-re", "-stream_loop", "-1", "-i"])
            .arg(clip)
            .args([
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-tune",
                "zerolatency",
            ])
            .args([
                "-profile:v",
                "baseline",
                "-pix_fmt",
                "yuv420p",
                "-bf",
                "0",
                "-g",
                "30",
            ])
            .args(["-c:a", "libopus", "-ar", "48000", "-ac", "2", "-f", "whip"])
            .arg(server.url(&format!("/whip/{name}"))),
    );
    server.wait_until_live(name, &publisher);
    publisher
}

/// A capture of a stream that came in by WebRTC: both tracks, in order, without holes.
#[track_caller]
fn assert_whole(what: &str, contents: &watch::Contents, codecs: &[&str], rate: f64) {
    assert_eq!(contents.codecs(), codecs, "{what}: {}", contents.complaints);
    let (video, audio) = (contents.track("video"), contents.track("audio"));
    for track in [video, audio] {
        track.assert_monotonic();
        assert!(
            track.span() > 2.0,
            "{what}: {} s of {}",
            track.span(),
            track.kind
        );
    }
    assert!(
        (rate - 2.0..rate + 2.0).contains(&video.rate()),
        "{what}: {}/s",
        video.rate()
    );
    assert!(
        video.gap_max() < 0.2,
        "{what}: a gap of {}",
        video.gap_max()
    );
    assert!(
        audio.gap_max() < 0.1,
        "{what}: a gap of {}",
        audio.gap_max()
    );
    let (first, second) = (video.packets[0].pts, audio.packets[0].pts);
    assert!((first - second).abs() < 3.0, "{what}: {first} and {second}");
}

/// Every form over HTTP and RTMP has both tracks.
#[track_caller]
fn assert_everywhere(server: &Server, name: &str, codecs: &[&str], in_ts: &[&str], rate: f64) {
    for extension in ["flv", "ts", "mp4"] {
        let got = watch::capture(server, &format!("/{name}.{extension}"), CAPTURE);
        let contents = watch::packets(&ffmpeg9(), &got.file);
        match extension {
            "ts" if in_ts.len() < 2 => assert_eq!(contents.codecs(), in_ts),
            _ => assert_whole(extension, &contents, codecs, rate),
        }
    }
    let enhanced = ["-rtmp_enhanced_codecs", "av01,vp09,hvc1,Opus"];
    let file = watch::capture_rtmp(&ffmpeg9(), &server.play_url(name), 4, &enhanced);
    assert_whole("rtmp", &watch::packets(&ffmpeg9(), &file), codecs, rate);
    let mut lists = vec!["cmaf"];
    if in_ts.len() == 2 {
        lists.push("hls");
    }
    for form in lists {
        let said = run(
            Command::new(ffmpeg9())
                .args(["-hide_banner", "-nostdin", "-loglevel", "warning", "-i"])
                .arg(server.url(&format!("/{form}/{name}/index.m3u8")))
                .args(["-t", "4", "-map", "0:v:0", "-map", "0:a:0", "-c", "copy"])
                .args(["-f", "framecrc", "-"]),
            Duration::from_secs(40),
        )
        .success();
        let contents = watch::Contents::parse(&said.stdout, said.stderr);
        assert_whole(form, &contents, codecs, rate);
    }
}

#[test]
fn ffmpeg_whip_goes_everywhere() {
    let _alone = alone();
    let server = Server::open(&["whip"]);
    let _publisher = ffmpeg_whip(&server, "whip", &clips::flash_and_beep());
    let seen = view("chromium", "ffmpeg-whip", &server.url("/whep/whip"));
    assert_moves(&seen, "H264", 27.0);
    assert_sounds(&seen);
    assert_everywhere(&server, "whip", &["h264", "opus"], &["h264", "opus"], 30.0);
}

/// A flash and its beep stay together from WHIP to files.
#[test]
fn sound_stays_with_its_picture() {
    let _alone = alone();
    let server = Server::open(&["whip"]);
    let _publisher = ffmpeg_whip(&server, "whip", &clips::flash_and_beep());
    for extension in ["mp4", "ts", "flv"] {
        let path = format!("/whip.{extension}");
        let got = watch::capture(&server, &path, Duration::from_secs(8));
        let offsets = watch::sound_offsets_with(&ffmpeg9(), &got.file);
        assert!(offsets.len() >= 3, "{path}: {offsets:?}");
        for offset in &offsets {
            assert!(offset.abs() < 0.06, "{path}: {offsets:?}");
        }
    }
}

/// What a browser sends: no parameter sets out of band, keyframes on request only.
#[test]
fn chromium_h264_goes_everywhere() {
    let _alone = alone();
    let server = Server::open(&["cam"]);
    let _camera = Camera::start(&server, "chromium", "cam", json!({ "video": "H264" }));
    assert_everywhere(&server, "cam", &["h264", "opus"], &["h264", "opus"], 30.0);
}

#[test]
fn chromium_vp9_goes_everywhere() {
    let _alone = alone();
    let server = Server::open(&["cam"]);
    let _camera = Camera::start(&server, "chromium", "cam", json!({ "video": "VP9" }));
    assert_everywhere(&server, "cam", &["opus", "vp9"], &["opus"], 30.0);
}

#[test]
fn chromium_av1_goes_everywhere() {
    let _alone = alone();
    let server = Server::open(&["cam"]);
    let _camera = Camera::start(&server, "chromium", "cam", json!({ "video": "AV1" }));
    assert_everywhere(&server, "cam", &["av1", "opus"], &["opus"], 30.0);
}

/// Pushes a clip by RTMP and watches it by WHEP in Chromium.
#[track_caller]
fn rtmp_to_chromium(name: &str, clip: &Path) -> (Server, Value) {
    let server = Server::open(&[name]);
    let _publisher = server.publish_with(&ffmpeg9(), name, clip);
    let seen = view(
        "chromium",
        &format!("rtmp-{name}"),
        &server.url(&format!("/whep/{name}")),
    );
    (server, seen)
}

#[test]
fn rtmp_h264_opus_to_chromium() {
    let _alone = alone();
    let (_server, seen) = rtmp_to_chromium("h264", &clips::h264_opus());
    assert_moves(&seen, "H264", 28.0);
    assert_sounds(&seen);
}

#[test]
fn rtmp_av1_opus_to_chromium() {
    let _alone = alone();
    let (_server, seen) = rtmp_to_chromium("av1", &clips::av1_opus());
    assert_moves(&seen, "AV1", 28.0);
    assert_sounds(&seen);
}

#[test]
fn rtmp_vp9_opus_to_chromium() {
    let _alone = alone();
    let (_server, seen) = rtmp_to_chromium("vp9", &clips::vp9_opus());
    assert_moves(&seen, "VP9", 28.0);
    assert_sounds(&seen);
}

/// Chromium leaves out a picture that is older than the one before it, and asks for keyframes: it
/// shows some of them each second. The log, `json_NAME.js` and the page say what is the matter.
#[test]
fn b_frames_are_said() {
    let _alone = alone();
    let server = Server::open(&["flash"]);
    let _publisher = server.publish_with(&ffmpeg9(), "flash", &clips::b_frames_opus());
    let seen = view("chromium", "b-frames", &server.url("/whep/flash"));
    let seconds = number(&seen, "/during/seconds");
    assert!(number(&seen, "/during/decoded") > seconds, "{seen}");
    assert_sounds(&seen);
    assert_eq!(server.stream_info("flash")["meta"]["bframes"], 1);
    let log = server.process.log();
    assert!(log.contains("B-frames"), "nothing in the log: {log}");
}

/// Debian's Chromium has no decoder for HEVC: the sound plays on, and the log says what is missing.
#[test]
fn rtmp_hevc_leaves_the_sound() {
    let _alone = alone();
    let server = Server::open(&["hevc"]);
    let _publisher = server.publish_with(&ffmpeg9(), "hevc", &clips::hevc_opus());
    let report = rtc::browse(
        "chromium",
        "rtmp-hevc",
        json!({ "play": [{ "url": server.url("/whep/hevc"), "silent_video": true }] }),
    );
    assert_sounds(&report["views"][0]);
    assert!(server.process.log().contains("a track is left out"));
}

/// AAC does not go by WebRTC.
#[test]
fn rtmp_aac_leaves_the_picture() {
    let _alone = alone();
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    let report = rtc::browse(
        "chromium",
        "rtmp-aac",
        json!({ "play": [{ "url": server.url("/whep/clip"), "no_sound": true }] }),
    );
    assert_moves(&report["views"][0], "H264", 28.0);
    assert!(server.process.log().contains("tracks are left out"));
}

/// A peer that publishes while others watch.
#[track_caller]
fn publishing(server: &Server, name: &str, command: &mut Command) -> Background {
    let publisher = Background::start("peer", command);
    server.wait_until_live(name, &publisher);
    publisher
}

#[track_caller]
fn assert_aiortc_plays(server: &Server, name: &str, rate: f64) {
    let mut player = rtc::aiortc("play", &server.url(&format!("/whep/{name}")), 6, &[]);
    let report = report_of(&mut player, Duration::from_secs(30));
    assert_eq!(report["state"], "connected", "{report}");
    assert_eq!(report["left"], 200, "{report}");
    for track in report["tracks"].as_array().expect("tracks") {
        let of_sound = track["kind"] == "audio";
        let rate = if of_sound { 45.0 } else { rate };
        assert!(number(track, "/frames") > 5.0 * rate, "{report}");
        assert_eq!(track["backwards"], 0, "{report}");
        assert!(
            !of_sound || number(track, "/peak") > 500.0,
            "silent: {report}"
        );
    }
    assert_eq!(
        report["tracks"].as_array().map(Vec::len),
        Some(2),
        "{report}"
    );
}

fn aiortc_both_ways(codec: &str) {
    let _alone = alone();
    let server = Server::open(&["peer"]);
    let mut command = rtc::aiortc("publish", &server.url("/whip/peer"), 60, &[codec, "opus"]);
    let _publisher = publishing(&server, "peer", &mut command);
    assert_aiortc_plays(&server, "peer", 20.0);
    let seen = view(
        "chromium",
        &format!("aiortc-{codec}"),
        &server.url("/whep/peer"),
    );
    assert_moves(&seen, codec, 20.0);
    // Python's clock is uneven where other work takes the processor, so holes are not judged.
    assert!(number(&seen, "/sound/peak") > 0.02, "silent: {seen}");
}

#[test]
fn aiortc_vp8() {
    aiortc_both_ways("VP8");
}

#[test]
fn aiortc_h264() {
    aiortc_both_ways("H264");
}

#[test]
fn chromium_to_aiortc() {
    let _alone = alone();
    let server = Server::open(&["VP8", "H264"]);
    for codec in ["VP8", "H264"] {
        let _camera = Camera::start(&server, "chromium", codec, json!({ "video": codec }));
        assert_aiortc_plays(&server, codec, 20.0);
    }
}

#[track_caller]
fn assert_gstreamer_plays(server: &Server, name: &str, codec: &str) {
    let url = server.url(&format!("/whep/{name}"));
    let mut player = rtc::gstreamer("play", &url, 6, codec);
    let report = report_of(&mut player, Duration::from_secs(40));
    assert_eq!(report["errors"], json!([]), "{report}");
    assert_eq!(report["left"], 200, "{report}");
    for (kind, rate) in [("video", 20.0), ("audio", 45.0)] {
        let track = &report["tracks"][kind];
        assert!(number(track, "/frames") > 5.0 * rate, "{report}");
        assert_eq!(track["backwards"], 0, "{report}");
    }
}

fn gstreamer_both_ways(codec: &str) {
    let _alone = alone();
    let server = Server::open(&["gst"]);
    let mut command = rtc::gstreamer("publish", &server.url("/whip/gst"), 60, codec);
    let _publisher = publishing(&server, "gst", &mut command);
    assert_gstreamer_plays(&server, "gst", codec);
    let seen = view(
        "chromium",
        &format!("gstreamer-{codec}"),
        &server.url("/whep/gst"),
    );
    assert_moves(&seen, codec, 20.0);
    assert_sounds(&seen);
}

#[test]
fn gstreamer_vp8() {
    gstreamer_both_ways("VP8");
}

#[test]
fn gstreamer_h264() {
    gstreamer_both_ways("H264");
}

#[test]
fn gstreamer_vp9() {
    gstreamer_both_ways("VP9");
}
