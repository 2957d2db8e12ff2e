//! An unmodified ffmpeg pushes H.264 and AAC; every output is read back and measured.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::http::Connection;
use support::watch::{self, Contents};
use support::{Background, Server, clips, ffmpeg, http, run};

/// How long each output is read.
const WATCH: Duration = Duration::from_secs(4);
const OFFSET_MAX: f64 = 0.040;

/// A picture rate of 30, no gap, dts in order, nothing the decoder complains about.
#[track_caller]
fn assert_plays(file: &Path, sound_rate: f64) -> Contents {
    let packets = watch::packets(&ffmpeg(), file);
    let (video, audio) = (packets.track("video"), packets.track("audio"));
    assert_eq!(
        (video.codec.as_str(), audio.codec.as_str()),
        ("h264", "aac")
    );
    for track in [video, audio] {
        track.assert_monotonic();
        assert!(
            track.span() > 3.0,
            "{} spans {:.2} s",
            track.kind,
            track.span()
        );
        // The whole group of pictures comes at once, a second of it at most.
        assert!(
            track.span() < 6.0,
            "{} spans {:.2} s",
            track.kind,
            track.span()
        );
        assert!(
            track.gap_max() < 0.110,
            "a gap of {:.3} s in {}",
            track.gap_max(),
            track.kind
        );
    }
    // The clips loop, and the seam of one is up to 70 ms long: the longest pause does not count
    // into the rate. The bound on gaps above keeps it short.
    let rate_without_seam = |rate: f64, span: f64, pause: f64| {
        let seam = (pause - 1.0 / rate).max(0.0);
        rate * span / (span - seam)
    };
    let pictures = rate_without_seam(video.rate(), video.span(), video.gap_max());
    assert!((pictures - 30.0).abs() < 0.5, "{pictures:.2} pictures/s");
    let sounds = rate_without_seam(audio.rate(), audio.span(), audio.gap_max());
    assert!(
        (sounds - sound_rate).abs() < 1.0,
        "{sounds:.2} sound frames/s"
    );

    let decoded = watch::decoded(&ffmpeg(), file);
    let pictures = decoded.track("video").packets.len();
    assert!(
        pictures + 3 >= video.packets.len(),
        "{pictures} of {} pictures decode",
        video.packets.len()
    );
    assert_eq!(decoded.complaints, "", "{}", file.display());
    packets
}

#[track_caller]
fn assert_in_sync(file: &Path) {
    let offsets = watch::sound_offsets(file);
    assert!(offsets.len() >= 2, "{} flashes with a beep", offsets.len());
    for offset in &offsets {
        assert!(offset.abs() < OFFSET_MAX, "sound is off by {offsets:?} s");
    }
}

/// The measure itself: a clip that is in sync measures so, and one that is not does not.
#[test]
fn the_measure_sees_a_sound_that_is_late() {
    let clip = clips::flash_and_beep();
    assert_in_sync(&clip);

    let late = support::scratch().join("late.flv");
    run(
        Command::new(ffmpeg())
            .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-i"])
            .arg(&clip)
            .args(["-itsoffset", "0.08", "-i"])
            .arg(&clip)
            .args(["-map", "0:v", "-map", "1:a", "-c", "copy"])
            .arg(&late),
        Duration::from_secs(20),
    )
    .success();
    let offsets = watch::sound_offsets(&late);
    assert!(!offsets.is_empty());
    for offset in offsets {
        assert!((offset - 0.08).abs() < 0.02, "80 ms measured as {offset}");
    }
}

#[test]
fn every_output_plays_what_was_pushed() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());

    for extension in ["flv", "ts", "mp4"] {
        let capture = watch::capture(&server, &format!("/clip.{extension}"), WATCH);
        assert_plays(&capture.file, 46.875);
        assert!(
            capture.first_byte < Duration::from_secs(1),
            "{extension}: first byte after {:?}",
            capture.first_byte
        );
    }
    let file = watch::capture_rtmp(&ffmpeg(), &server.play_url("clip"), 4, &[]);
    assert_plays(&file, 46.875);
}

/// B-frames: dts and pts differ, and the composition offset survives every container.
#[test]
fn sound_and_picture_stay_together_with_b_frames() {
    let server = Server::open(&["flash"]);
    let _publisher = server.publish("flash", &clips::flash_and_beep());

    for extension in ["flv", "ts", "mp4"] {
        let capture = watch::capture(&server, &format!("/flash.{extension}"), WATCH);
        let packets = assert_plays(&capture.file, 43.066);
        let reordered = packets
            .track("video")
            .packets
            .iter()
            .filter(|packet| packet.pts > packet.dts + 0.001)
            .count();
        assert!(
            reordered > 30,
            "{extension}: {reordered} pictures keep an offset"
        );
        assert_in_sync(&capture.file);
    }
    let file = watch::capture_rtmp(&ffmpeg(), &server.play_url("flash"), 4, &[]);
    assert_plays(&file, 43.066);
    assert_in_sync(&file);
}

/// The usual command line, encoding while it pushes.
#[test]
fn a_live_encoder_plays() {
    let server = Server::open(&["live"]);
    let publisher = Background::start(
        "encoder",
        Command::new(ffmpeg())
            .args(["-hide_banner", "-nostdin", "-re"])
            .args(["-f", "lavfi", "-i", "testsrc2=s=320x180:r=30"])
            .args(["-f", "lavfi", "-i", "sine=f=440:r=44100"])
            .args([
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-tune",
                "zerolatency",
                "-g",
                "30",
            ])
            .args(["-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "flv"])
            .arg(server.push_url("live")),
    );
    server.wait_until_live("live", &publisher);

    let capture = watch::capture(&server, "/live.flv", WATCH);
    assert_plays(&capture.file, 43.066);
}

/// Keyframes are a second apart, so a viewer without a group of pictures to start from would wait
/// half a second on average; from the cache it starts at once.
#[test]
fn the_first_picture_comes_at_once() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    // A full group of pictures has come.
    let _warm = watch::capture(&server, "/clip.flv", Duration::from_millis(1500));

    for path in ["/clip.flv", "/clip.mp4", "/clip.ts"] {
        for _ in 0..3 {
            let start = Instant::now();
            let mut connection = Connection::new(http::connect(server.http).expect("open"));
            connection.send("GET", path, &[]).expect("sent");
            let head = connection.head().expect("answered");
            // The first keyframe of the clip is 12 kB; the headers before it are below 2 kB.
            connection
                .body_until(&head, Duration::from_secs(1), |body| body.len() > 16_000)
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            let took = start.elapsed();
            assert!(took < Duration::from_millis(500), "{path}: {took:?}");
        }
    }
    for url in [
        server.url("/clip.flv"),
        server.url("/clip.mp4"),
        server.play_url("clip"),
    ] {
        let took = watch::first_picture(&ffmpeg(), &url);
        assert!(took < Duration::from_secs(3), "{url}: {took:?}");
    }
}

#[test]
fn the_stream_is_described_as_mistserver_does() {
    let server = Server::open(&["clip"]);
    let _publisher = server.publish("clip", &clips::demo());
    let _warm = watch::capture(&server, "/clip.flv", Duration::from_secs(1));

    let info = server.stream_info("clip");
    assert_eq!(info["type"], "live");
    assert_eq!(
        (&info["width"], &info["height"]),
        (&640.into(), &360.into()),
        "{info}"
    );
    let tracks = info["meta"]["tracks"].as_object().expect("tracks by name");
    let mut codecs: Vec<_> = tracks.values().map(|track| &track["codec"]).collect();
    codecs.sort_by_key(|codec| codec.to_string());
    assert_eq!(codecs, ["AAC", "H264"], "{info}");
    let sources = info["source"].as_array().expect("a list of sources");
    for (kind, ending) in [
        ("flash/7", "/clip.flv"),
        ("html5/video/mp4", "/clip.mp4"),
        ("html5/video/mpeg", "/clip.ts"),
    ] {
        assert!(
            sources.iter().any(|source| source["type"] == kind
                && source["url"]
                    .as_str()
                    .is_some_and(|url| url.contains(ending))),
            "no {kind} in {info}"
        );
    }
}
