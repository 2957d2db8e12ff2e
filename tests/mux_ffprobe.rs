//! The muxers' output, read by ffprobe and decoded by ffmpeg. Both must be installed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringside::media::{Frame, Kind, MediaTime, Track, codec};
use ringside::proto::{cmaf, mpegts};
use serde_json::Value;

mod media_fixture;
use media_fixture::{Fixture, fixture, interleave};

const IN_TRANSPORT_STREAMS: [(&str, &str); 7] = [
    ("h264", "h264"),
    ("hevc", "hevc"),
    ("aac", "aac"),
    ("mp3", "mp3"),
    ("opus", "opus"),
    ("ac3", "ac3"),
    ("eac3", "eac3"),
];

const IN_MP4: [(&str, &str); 10] = [
    ("h264", "h264"),
    ("hevc", "hevc"),
    ("av1", "av1"),
    ("vp9", "vp9"),
    ("aac", "aac"),
    ("mp3", "mp3"),
    ("opus", "opus"),
    ("ac3", "ac3"),
    ("eac3", "eac3"),
    ("flac", "flac"),
];

#[test]
fn every_codec_in_a_transport_stream() {
    for (name, expected) in IN_TRANSPORT_STREAMS {
        let Fixture { track, frames } = fixture(name, 0);
        let file = save(
            &format!("one-{name}.ts"),
            &transport_stream(&[track], &frames),
        );
        check(&file, &[(expected, &frames)], Container::TransportStream);
    }
}

#[test]
fn every_codec_in_mp4() {
    for (name, expected) in IN_MP4 {
        let Fixture { track, frames } = fixture(name, 0);
        let file = save(&format!("one-{name}.mp4"), &mp4(&[track], &frames));
        check(&file, &[(expected, &frames)], Container::Mp4);
    }
}

#[test]
fn picture_and_sound_keep_their_distance() {
    let (video, audio) = (fixture("h264", 0), fixture("aac", 1));
    let frames = interleave(&video.frames, &audio.frames);
    let tracks = [video.track, audio.track];
    let expected = [("h264", &video.frames[..]), ("aac", &audio.frames[..])];
    let file = save("both.ts", &transport_stream(&tracks, &frames));
    check(&file, &expected, Container::TransportStream);
    let file = save("both.mp4", &mp4(&tracks, &frames));
    check(&file, &expected, Container::Mp4);
}

#[test]
fn several_tracks_of_a_kind() {
    let fixtures = [
        fixture("h264", 0),
        fixture("hevc", 1),
        fixture("aac", 2),
        fixture("opus", 3),
    ];
    let frames = fixtures
        .iter()
        .fold(Vec::new(), |all, one| interleave(&all, &one.frames));
    let tracks: Vec<Track> = fixtures.iter().map(|one| one.track.clone()).collect();
    let expected = [
        ("h264", &fixtures[0].frames[..]),
        ("hevc", &fixtures[1].frames[..]),
        ("aac", &fixtures[2].frames[..]),
        ("opus", &fixtures[3].frames[..]),
    ];
    let file = save("four.ts", &transport_stream(&tracks, &frames));
    check(&file, &expected, Container::TransportStream);
    let file = save("four.mp4", &mp4(&tracks, &frames));
    check(&file, &expected, Container::Mp4);
}

#[test]
fn a_viewer_joins_at_a_later_keyframe() {
    for name in ["h264", "hevc"] {
        let (video, audio) = (fixture(name, 0), fixture("aac", 1));
        let tracks = [video.track.clone(), audio.track.clone()];
        let frames = interleave(&video.frames, &audio.frames);
        let later = frames
            .iter()
            .rposition(|frame| frame.keyframe && frame.track == video.track.id)
            .unwrap();
        assert!(later > 10, "the fixture has a second keyframe");
        let expected: Vec<_> = [(name, &video), ("aac", &audio)]
            .iter()
            .map(|(name, one)| {
                let of_track = frames[later..]
                    .iter()
                    .filter(|frame| frame.track == one.track.id);
                (*name, of_track.cloned().collect::<Vec<_>>())
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, frames)| (*name, &frames[..]))
            .collect();

        let mut muxer = mpegts::Muxer::new(&tracks);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        frames[..later]
            .iter()
            .for_each(|frame| muxer.write(frame, &mut before));
        frames[later..]
            .iter()
            .for_each(|frame| muxer.write(frame, &mut after));
        let file = save(&format!("joined-{name}.ts"), &after);
        check(&file, &expected, Container::TransportStream);

        let mut muxer = cmaf::Muxer::new(&tracks);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        frames[..later]
            .iter()
            .for_each(|frame| muxer.write(frame, &mut before));
        muxer.header(&mut after);
        frames[later..]
            .iter()
            .for_each(|frame| muxer.write(frame, &mut after));
        let file = save(&format!("joined-{name}.mp4"), &after);
        check(&file, &expected, Container::Mp4);
    }
}

#[test]
fn fragments_of_several_frames() {
    let Fixture { track, frames } = fixture("h264", 0);
    let mut muxer = cmaf::Muxer::new(&[track]);
    let mut bytes = Vec::new();
    muxer.header(&mut bytes);
    frames
        .chunks(7)
        .for_each(|chunk| muxer.fragment(chunk, &mut bytes));
    let file = save("fragments.mp4", &bytes);
    check(&file, &[("h264", &frames)], Container::Mp4);
}

#[test]
fn time_stamps_wrap_after_26_hours() {
    let (video, audio) = (fixture("h264", 0), fixture("aac", 1));
    let tracks = [video.track, audio.track];
    let mut frames = interleave(&video.frames, &audio.frames);
    // The 33 bits end in the middle of the fixture, a second of offset included.
    let shift = MediaTime::from_ticks((1 << 33) - 90_000 - 90_000, 90_000);
    for frame in &mut frames {
        frame.dts = frame.dts + shift;
        frame.pts = frame.pts + shift;
    }
    let file = save("wrapped.ts", &transport_stream(&tracks, &frames));
    let packets = packets(&file);
    assert_eq!(packets.len(), frames.len());
    assert_monotonic(&packets);
    decode(&file);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    TransportStream,
    Mp4,
}

fn transport_stream(tracks: &[Track], frames: &[Frame]) -> Vec<u8> {
    let mut muxer = mpegts::Muxer::new(tracks);
    assert_eq!(muxer.left_out(), []);
    let mut bytes = Vec::new();
    muxer.header(&mut bytes);
    frames
        .iter()
        .for_each(|frame| muxer.write(frame, &mut bytes));
    assert_eq!(bytes.len() % mpegts::PACKET_SIZE, 0);
    bytes
}

fn mp4(tracks: &[Track], frames: &[Frame]) -> Vec<u8> {
    let mut muxer = cmaf::Muxer::new(tracks);
    assert_eq!(muxer.left_out(), []);
    let mut bytes = Vec::new();
    muxer.header(&mut bytes);
    frames
        .iter()
        .for_each(|frame| muxer.write(frame, &mut bytes));
    bytes
}

fn save(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Compares a file with the frames of each of its tracks, in the order of the tracks.
fn check(file: &Path, tracks: &[(&str, &[Frame])], container: Container) {
    let streams = probe(file, &["-show_streams"]);
    let streams = streams["streams"].as_array().unwrap();
    assert_eq!(streams.len(), tracks.len(), "{}", file.display());
    let packets = packets(file);
    assert_monotonic(&packets);
    let mut distances = Vec::new();
    for (index, (codec_name, frames)) in tracks.iter().enumerate() {
        assert_eq!(streams[index]["codec_name"], *codec_name);
        let found: Vec<_> = packets
            .iter()
            .filter(|packet| packet["stream_index"] == index)
            .collect();
        assert_eq!(
            found.len(),
            frames.len(),
            "{}: packets of {codec_name}",
            file.display()
        );
        let is_video = streams[index]["codec_type"] == "video";
        for (packet, frame) in found.iter().zip(*frames) {
            if is_video {
                let flags = packet["flags"].as_str().unwrap();
                assert_eq!(flags.starts_with('K'), frame.keyframe, "{}", file.display());
            }
            let millis = |field: &str| {
                let seconds: f64 = packet[field].as_str().unwrap().parse().unwrap();
                seconds * 1000.0
            };
            distances.push(millis("pts_time") - frame.pts.as_micros() as f64 / 1000.0);
            distances.push(millis("dts_time") - frame.dts.as_micros() as f64 / 1000.0);
        }
    }
    // Every time is off by the same constant: 0 in MP4, the offset in a transport stream.
    let (low, high) = distances
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), distance| {
            (low.min(*distance), high.max(*distance))
        });
    let expected = match container {
        Container::TransportStream => 1000.0,
        Container::Mp4 => 0.0,
    };
    assert!(
        low >= expected - 2.0 && high <= expected + 2.0,
        "{}: times are off by {low} to {high} ms",
        file.display()
    );
    let decoded = decode(file);
    for (index, (_, frames)) in tracks.iter().enumerate() {
        if streams[index]["codec_type"] == "video" {
            assert_eq!(decoded[index], frames.len(), "{}: pictures", file.display());
        } else {
            assert!(
                decoded[index] + 1 >= frames.len(),
                "{}: sound",
                file.display()
            );
        }
    }
}

fn assert_monotonic(packets: &[Value]) {
    let mut last = Vec::new();
    for packet in packets {
        let index = packet["stream_index"].as_u64().unwrap() as usize;
        let dts = packet["dts"].as_i64().unwrap();
        last.resize(last.len().max(index + 1), i64::MIN);
        assert!(dts > last[index], "dts {dts} after {}", last[index]);
        last[index] = dts;
    }
}

fn packets(file: &Path) -> Vec<Value> {
    let found = probe(file, &["-show_packets"]);
    found["packets"].as_array().unwrap().clone()
}

fn probe(file: &Path, what: &[&str]) -> Value {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json"])
        .args(what)
        .arg(file)
        .output()
        .expect("ffprobe is installed");
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "",
        "{}",
        file.display()
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Decodes everything and counts the frames of each stream. Nothing may be complained about.
fn decode(file: &Path) -> Vec<usize> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(file)
        .args([
            "-map",
            "0",
            "-fps_mode",
            "passthrough",
            "-f",
            "framecrc",
            "-",
        ])
        .output()
        .expect("ffmpeg is installed");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "",
        "{}",
        file.display()
    );
    assert!(output.status.success());
    let mut counts = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        if let Some((index, _)) = line.split_once(',')
            && let Ok(index) = index.trim().parse::<usize>()
        {
            counts.resize(counts.len().max(index + 1), 0);
            counts[index] += 1;
        }
    }
    counts
}

#[test]
fn formats_and_names_of_the_fixtures() {
    let expected = [
        ("h264", "avc1.64000b", (160, 120), (0, 0)),
        ("hevc", "hvc1.1.6.L30.90", (160, 120), (0, 0)),
        ("av1", "av01.0.00M.08", (160, 120), (0, 0)),
        ("vp9", "vp09.00.10.08", (160, 120), (0, 0)),
        ("vp8", "vp8", (160, 120), (0, 0)),
        ("aac", "mp4a.40.2", (0, 0), (44_100, 2)),
        ("mp3", "mp4a.6B", (0, 0), (44_100, 1)),
        ("opus", "opus", (0, 0), (48_000, 2)),
        ("ac3", "ac-3", (0, 0), (48_000, 2)),
        ("eac3", "ec-3", (0, 0), (48_000, 2)),
        ("flac", "fLaC", (0, 0), (44_100, 1)),
    ];
    for (name, codec_name, size, sound) in expected {
        let Fixture { track, frames } = fixture(name, 0);
        assert_eq!(codec::rfc6381(&track), codec_name);
        match track.kind() {
            Kind::Video => {
                let video = track.video.unwrap();
                assert_eq!((video.width, video.height), size, "{name}");
                if matches!(name, "h264" | "hevc") {
                    assert_eq!(video.frames_per_1000_s, 25_000, "{name}");
                }
            }
            Kind::Audio => {
                let audio = track.audio.unwrap();
                assert_eq!((audio.rate, audio.channels), sound, "{name}");
                let total: i64 = frames
                    .iter()
                    .map(|frame| codec::frame_duration(&track, &frame.data).unwrap())
                    .map(MediaTime::as_micros)
                    .sum();
                assert!((1_950_000..2_150_000).contains(&total), "{name}: {total}");
            }
        }
        for frame in &frames {
            let keyframe = codec::is_keyframe(track.codec, &frame.data);
            assert_eq!(keyframe, frame.keyframe, "{name} at {:?}", frame.dts);
        }
    }
}
