//! The newer FFmpeg pushes every codec RTMP can carry; each container gives what it can, and what
//! it cannot is named.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::watch::{self, Contents};
use support::{Server, clips, ffmpeg9};

const WATCH: Duration = Duration::from_secs(3);

/// Pushes the clip as stream `coded`.
fn publish(clip: &Path) -> (Server, support::Background) {
    let server = Server::open(&["coded"]);
    let publisher = server.publish_with(&ffmpeg9(), "coded", clip);
    (server, publisher)
}

#[track_caller]
fn assert_codecs(server: &Server, extension: &str, wanted: &[&str]) -> Contents {
    let capture = watch::capture(server, &format!("/coded.{extension}"), WATCH);
    assert_file(&capture.file, wanted)
}

#[track_caller]
fn assert_file(file: &Path, wanted: &[&str]) -> Contents {
    let packets = watch::packets(&ffmpeg9(), file);
    assert_eq!(
        packets.codecs(),
        wanted,
        "{}: {}",
        file.display(),
        packets.complaints
    );
    let decoded = watch::decoded(&ffmpeg9(), file);
    for track in &packets.tracks {
        track.assert_monotonic();
        assert!(
            track.span() > 2.0,
            "{} spans {:.2} s",
            track.kind,
            track.span()
        );
        assert!(
            track.gap_max() < 0.15,
            "a gap of {:.3} s in {}",
            track.gap_max(),
            track.kind
        );
        let whole = decoded.track(&track.kind).packets.len();
        assert!(
            whole + 6 >= track.packets.len(),
            "{whole} of {} {} packets decode",
            track.packets.len(),
            track.codec
        );
    }
    if let Some(video) = packets.tracks.iter().find(|track| track.kind == "video") {
        assert!(
            (video.rate() - 30.0).abs() < 0.7,
            "{:.2} pictures/s",
            video.rate()
        );
    }
    assert_eq!(decoded.complaints, "", "{}", file.display());
    packets
}

#[track_caller]
fn assert_rtmp(server: &Server, wanted: &[&str]) {
    // FFmpeg announces what it can read only when told to (quirk 10).
    let codecs = ["-rtmp_enhanced_codecs", "av01,hvc1,vp09,Opus,fLaC,ac-3"];
    let file = watch::capture_rtmp(&ffmpeg9(), &server.play_url("coded"), 3, &codecs);
    assert_file(&file, wanted);
}

/// The description's entry for one form over HTTP.
fn source(server: &Server, extension: &str) -> Option<Value> {
    let info = server.stream_info("coded");
    let sources = info["source"].as_array().expect("a list of sources");
    let ending = format!("/coded.{extension}");
    sources
        .iter()
        .find(|source| {
            source["url"]
                .as_str()
                .is_some_and(|url| url.contains(&ending))
        })
        .cloned()
}

#[test]
fn hevc_and_aac() {
    let (server, _publisher) = publish(&clips::hevc_aac());
    for extension in ["flv", "mp4", "ts"] {
        assert_codecs(&server, extension, &["aac", "hevc"]);
    }
    assert_rtmp(&server, &["aac", "hevc"]);
}

#[test]
fn av1_and_opus() {
    let (server, _publisher) = publish(&clips::av1_opus());
    for extension in ["flv", "mp4"] {
        assert_codecs(&server, extension, &["av1", "opus"]);
    }
    assert_rtmp(&server, &["av1", "opus"]);
}

/// TS has no common mapping of VP9 or FLAC: with neither track there is nothing to play there, and
/// the description does not offer it.
#[test]
fn vp9_and_flac() {
    let (server, _publisher) = publish(&clips::vp9_flac());
    assert_codecs(&server, "flv", &["flac", "vp9"]);
    assert_codecs(&server, "mp4", &["flac", "vp9"]);
    assert_rtmp(&server, &["flac", "vp9"]);
    assert!(source(&server, "flv").is_some());
    assert_eq!(source(&server, "ts"), None);
}

/// A track that a container cannot carry is left out and named; the others play.
#[test]
fn a_track_that_is_left_out_is_named() {
    let (server, _publisher) = publish(&clips::h264_flac());
    assert_codecs(&server, "ts", &["h264"]);
    assert_codecs(&server, "mp4", &["flac", "h264"]);
    let left_out = source(&server, "ts").expect("TS is offered")["left_out"].to_string();
    assert!(left_out.contains("FLAC"), "{left_out}");
    assert_eq!(
        source(&server, "flv").expect("FLV is offered")["left_out"],
        Value::Null
    );
    let log = server.process.log();
    assert!(
        log.contains("FLAC"),
        "the log does not name the track:\n{log}"
    );
}

#[test]
fn h264_and_mp3() {
    let (server, _publisher) = publish(&clips::h264_mp3());
    for extension in ["flv", "mp4", "ts"] {
        assert_codecs(&server, extension, &["h264", "mp3"]);
    }
    assert_rtmp(&server, &["h264", "mp3"]);
}

#[test]
fn h264_and_ac3() {
    let (server, _publisher) = publish(&clips::h264_ac3());
    for extension in ["flv", "ts"] {
        assert_codecs(&server, extension, &["ac3", "h264"]);
    }
    assert_rtmp(&server, &["ac3", "h264"]);
}

/// The description names each track's codec as MistServer does.
#[test]
fn codecs_are_described() {
    let (server, _publisher) = publish(&clips::av1_opus());
    let info = server.stream_info("coded");
    let tracks = info["meta"]["tracks"].as_object().expect("tracks by name");
    let mut codecs: Vec<_> = tracks
        .values()
        .map(|track| track["codec"].as_str().unwrap_or("").to_owned())
        .collect();
    codecs.sort_unstable();
    assert_eq!(codecs, ["AV1", "opus"], "{info}");
}
