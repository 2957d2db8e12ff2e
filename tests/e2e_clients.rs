//! GStreamer, VLC, rtmpdump and librtmp, each as its users run it.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use support::{Background, Server, clips, ffmpeg, run, scratch, watch};

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

/// VLC plays for a few seconds and writes what it decoded.
#[track_caller]
fn vlc(name: &str, url: &str) {
    // Not under target/: an ordinary user may not be let into the folder above it.
    let home = std::env::temp_dir().join(format!("ringside-vlc-{name}-{}", std::process::id()));
    fs::create_dir_all(&home).expect("the temporary folder is writable");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).expect("a folder of ours");
    let file = home.join("played.ts");
    let sout = format!(
        "#transcode{{vcodec=mp2v,vb=2000,scale=0.5,acodec=mpga,ab=128,channels=2,samplerate=44100}}\
         :standard{{access=file,mux=ts,dst={}}}",
        file.display()
    );
    let mut command = Command::new("cvlc");
    command
        .env("HOME", &home)
        .env_remove("XDG_CACHE_HOME")
        .current_dir(&home)
        .args(["--verbose", "1", "--network-caching", "300"])
        .args(["--run-time", "5", "--play-and-exit"])
        .args(["--sout", &sout, url, "vlc://quit"]);
    as_ordinary_user(&mut command);
    let mut player = Background::start("vlc", &mut command);
    // A live address has no end, so it is told to stop once it has had its time.
    let played = support::wait_for("VLC to write three seconds", PLAY_MAX, || {
        let bytes = fs::metadata(&file).map_or(0, |metadata| metadata.len());
        (bytes > 150_000 || player.ended().is_some()).then_some(bytes)
    });
    if player.ended().is_none() {
        player.signal(libc::SIGINT);
        player.wait(Duration::from_secs(10));
    }
    assert!(played > 0, "VLC wrote nothing: {}", player.log());
    let decoded = watch::decoded(&ffmpeg(), &file);
    let pictures = decoded.track("video").packets.len();
    let sounds = decoded.track("audio").packets.len();
    assert!(pictures > 30, "{pictures} pictures: {}", player.log());
    assert!(sounds > 30, "{sounds} blocks of sound: {}", player.log());
    fs::remove_dir_all(&home).expect("a folder of ours");
}

/// VLC refuses to run as root, so tests that are root run it as nobody.
fn as_ordinary_user(command: &mut Command) {
    #[allow(unsafe_code, reason = "std has no geteuid")]
    // SAFETY: geteuid cannot fail and touches no memory.
    let root = unsafe { libc::geteuid() } == 0;
    if root {
        command.uid(65_534).gid(65_534);
    }
}

#[test]
fn vlc_plays_rtmp() {
    let (server, _publisher) = live();
    vlc("rtmp", &server.play_url("clip"));
}

#[test]
fn vlc_plays_flv() {
    let (server, _publisher) = live();
    vlc("flv", &server.url("/clip.flv"));
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
