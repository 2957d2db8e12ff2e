//! GStreamer, VLC, rtmpdump and librtmp, each as its users run it.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use support::{Background, Server, clips, ffmpeg, run, scratch, vlc, watch};

const PLAY_MAX: Duration = Duration::from_secs(25);

fn live() -> (Server, Background) {
    let server = Server::open(&["clip"]);
    let publisher = server.publish("clip", &clips::demo());
    (server, publisher)
}

/// Decodes 60 pictures and 60 blocks of sound, then ends by itself; a pipeline without one of the
/// two never does.
#[track_caller]
fn gstreamer(source: &[&str]) {
    let mut arguments = vec!["-q"];
    arguments.extend(source);
    arguments.extend(["!", "flvdemux", "name=demux"]);
    arguments.extend([
        "demux.video",
        "!",
        "queue",
        "!",
        "h264parse",
        "!",
        "avdec_h264",
        "!",
    ]);
    arguments.extend(["fakesink", "num-buffers=60", "sync=false"]);
    arguments.extend([
        "demux.audio",
        "!",
        "queue",
        "!",
        "aacparse",
        "!",
        "avdec_aac",
        "!",
    ]);
    arguments.extend(["fakesink", "num-buffers=60", "sync=false"]);
    let said = run(Command::new("gst-launch-1.0").args(arguments), PLAY_MAX).success();
    assert!(!said.stderr.contains("ERROR"), "{}", said.stderr);
}

#[test]
fn gstreamer_plays_rtmp() {
    let (server, _publisher) = live();
    let location = format!("location={}", server.play_url("clip"));
    gstreamer(&["rtmp2src", &location]);
}

#[test]
fn gstreamer_plays_flv() {
    let (server, _publisher) = live();
    let location = format!("location={}", server.url("/clip.flv"));
    gstreamer(&["souphttpsrc", "is-live=true", &location]);
}

/// GStreamer finds out by itself what the address holds.
#[test]
fn gstreamer_plays_ts_and_mp4() {
    let (server, _publisher) = live();
    for extension in ["ts", "mp4"] {
        let location = format!("location={}", server.url(&format!("/clip.{extension}")));
        let said = run(
            Command::new("gst-launch-1.0").args([
                "-q",
                "souphttpsrc",
                "is-live=true",
                &location,
                "!",
                "decodebin",
                "!",
                "video/x-raw",
                "!",
                "fakesink",
                "num-buffers=60",
                "sync=false",
            ]),
            PLAY_MAX,
        )
        .success();
        assert!(
            !said.stderr.contains("ERROR"),
            "{extension}: {}",
            said.stderr
        );
    }
}

#[test]
fn vlc_plays_rtmp() {
    let (server, _publisher) = live();
    vlc::plays("rtmp", &server.play_url("clip"));
}

#[test]
fn vlc_plays_flv() {
    let (server, _publisher) = live();
    vlc::plays("flv", &server.url("/clip.flv"));
}

#[test]
fn rtmpdump_plays() {
    let (server, _publisher) = live();
    let file = scratch().join(format!("rtmpdump-{}.flv", std::process::id()));

    let mut player = Background::start(
        "rtmpdump",
        Command::new("rtmpdump")
            .args(["--live", "-r", &server.play_url("clip"), "-o"])
            .arg(&file),
    );
    support::wait_for("rtmpdump to write three seconds", PLAY_MAX, || {
        let bytes = fs::metadata(&file).map_or(0, |metadata| metadata.len());
        (bytes > 300_000).then_some(())
    });
    player.signal(libc::SIGINT);
    player.wait(Duration::from_secs(10));

    let packets = watch::packets(&ffmpeg(), &file);
    assert_eq!(packets.codecs(), ["aac", "h264"]);
    let video = packets.track("video");
    video.assert_monotonic();
    assert!(
        video.span() > 1.8,
        "{:.2} s: {}",
        video.span(),
        player.log()
    );
    let decoded = watch::decoded(&ffmpeg(), &file);
    assert!(decoded.track("video").packets.len() + 3 >= video.packets.len());
}

fn librtmp_publisher() -> PathBuf {
    let program = scratch().join(format!("rtmp_publish-{}", std::process::id()));
    run(
        Command::new("cc")
            .args(["-O1", "-Wall", "-o"])
            .arg(&program)
            .arg(support::repository().join("tests/clients/rtmp_publish.c"))
            .arg("-lrtmp"),
        Duration::from_secs(30),
    )
    .success();
    program
}

#[test]
fn librtmp_publishes() {
    let server = Server::open(&["clip"]);
    let publisher = Background::start(
        "librtmp",
        Command::new(librtmp_publisher())
            .arg(server.push_url("clip"))
            .arg(clips::demo())
            .arg("10"),
    );
    server.wait_until_live("clip", &publisher);

    let capture = watch::capture(&server, "/clip.flv", Duration::from_secs(3));

    let packets = watch::packets(&ffmpeg(), &capture.file);
    assert_eq!(packets.codecs(), ["aac", "h264"]);
    let video = packets.track("video");
    assert!(
        (video.rate() - 30.0).abs() < 0.5,
        "{:.2} pictures/s",
        video.rate()
    );
    assert_eq!(watch::decoded(&ffmpeg(), &capture.file).complaints, "");
}
