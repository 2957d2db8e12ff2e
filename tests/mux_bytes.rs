//! What viewers rely on in the muxers' output, byte for byte and without another program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bytes::Bytes;
use ringside::base::ids::TrackId;
use ringside::media::{AudioFormat, Codec, Frame, MediaTime, Track, codec};
use ringside::proto::{cmaf, mpegts};

mod media_fixture;
use media_fixture::{fixture, interleave};

const PID_VIDEO: u16 = 0x100;
const PID_MAP: u16 = 0x1000;

/// One transport stream packet, taken apart.
struct Packet<'a> {
    pid: u16,
    start: bool,
    continuity: u8,
    random_access: bool,
    /// In 90 kHz ticks.
    clock: Option<u64>,
    payload: &'a [u8],
}

fn packets(bytes: &[u8]) -> Vec<Packet<'_>> {
    assert_eq!(bytes.len() % mpegts::PACKET_SIZE, 0);
    bytes.chunks(mpegts::PACKET_SIZE).map(packet).collect()
}

fn packet(bytes: &[u8]) -> Packet<'_> {
    assert_eq!(bytes[0], 0x47);
    let control = bytes[3] >> 4;
    let (mut random_access, mut clock, mut at) = (false, None, 4);
    if control & 2 != 0 {
        let size = usize::from(bytes[4]);
        at += 1 + size;
        if size > 0 {
            random_access = bytes[5] & 0x40 != 0;
            if bytes[5] & 0x10 != 0 {
                let mut base = [0; 8];
                base[2..].copy_from_slice(&bytes[6..12]);
                clock = Some(u64::from_be_bytes(base) >> 15);
            }
        }
    }
    Packet {
        pid: u16::from_be_bytes([bytes[1], bytes[2]]) & 0x1fff,
        start: bytes[1] & 0x40 != 0,
        continuity: bytes[3] & 0xf,
        random_access,
        clock,
        payload: if control & 1 != 0 { &bytes[at..] } else { &[] },
    }
}

#[test]
fn transport_stream_counters_and_clock() {
    let (video, audio) = (fixture("h264", 0), fixture("aac", 1));
    let frames = interleave(&video.frames, &audio.frames);
    let mut muxer = mpegts::Muxer::new(&[video.track, audio.track]);
    let mut bytes = Vec::new();
    frames
        .iter()
        .for_each(|frame| muxer.write(frame, &mut bytes));

    let mut continuity = BTreeMap::new();
    let mut clock = None;
    for packet in packets(&bytes) {
        if !packet.payload.is_empty()
            && let Some(before) = continuity.insert(packet.pid, packet.continuity)
        {
            assert_eq!(packet.continuity, (before + 1) & 0xf, "PID {}", packet.pid);
        }
        if let Some(base) = packet.clock {
            assert_eq!(packet.pid, PID_VIDEO);
            let before = clock.replace(base).unwrap_or(base);
            assert!((before..=before + 9000).contains(&base), "within 100 ms");
        }
    }
}

#[test]
fn video_keyframes_begin_with_tables() {
    let video = fixture("h264", 0);
    let mut muxer = mpegts::Muxer::new(&[video.track]);
    for frame in &video.frames {
        let mut bytes = Vec::new();
        muxer.write(frame, &mut bytes);
        let packets = packets(&bytes);
        if frame.keyframe {
            assert_eq!((packets[0].pid, packets[1].pid), (0, PID_MAP));
            assert!(packets[2].start && packets[2].random_access);
            assert!(packets[2].clock.is_some());
            let unit_types = annex_b_types(packets[2].payload);
            assert_eq!(unit_types[..3], [9, 7, 8], "delimiter, SPS, PPS");
        }
    }
}

fn annex_b_types(pes: &[u8]) -> Vec<u8> {
    let header = 9 + usize::from(pes[8]);
    codec::nal::annex_b_units(&pes[header..])
        .map(codec::h264::nal_type)
        .collect()
}

#[test]
fn tables_and_clock_come_without_video_too() {
    let audio = fixture("aac", 0);
    let mut muxer = mpegts::Muxer::new(&[audio.track]);
    let (mut tables, mut clocks) = (Vec::new(), Vec::new());
    for frame in &audio.frames {
        let mut bytes = Vec::new();
        muxer.write(frame, &mut bytes);
        for packet in packets(&bytes) {
            if packet.pid == PID_MAP {
                tables.push(frame.dts.as_millis());
            }
            if packet.clock.is_some() {
                clocks.push(frame.dts.as_millis());
            }
        }
    }
    assert!(tables.len() >= 4);
    assert!(tables.is_sorted_by(|a, b| *b - *a <= 525));
    assert!(clocks.is_sorted_by(|a, b| *b - *a <= 100));
}

#[test]
fn the_clock_goes_on_when_video_pauses() {
    let (video, audio) = (fixture("h264", 0), fixture("aac", 1));
    let frames = interleave(&video.frames[..1], &audio.frames);
    let mut muxer = mpegts::Muxer::new(&[video.track, audio.track]);
    let mut bytes = Vec::new();
    frames
        .iter()
        .for_each(|frame| muxer.write(frame, &mut bytes));
    let clocks: Vec<_> = packets(&bytes)
        .iter()
        .filter_map(|packet| packet.clock)
        .collect();
    assert!(clocks.len() > 15);
    assert!(clocks.is_sorted_by(|a, b| a <= b && b - a <= 100 * 90 + 22 * 90));
}

#[test]
fn a_changed_track_changes_the_map_when_it_must() {
    let (video, audio) = (fixture("h264", 0), fixture("aac", 1));
    let mut muxer = mpegts::Muxer::new(&[video.track.clone(), audio.track.clone()]);
    let version = |bytes: &[u8]| packets(bytes)[1].payload[6] >> 1 & 0x1f;
    let mut header = Vec::new();
    muxer.header(&mut header);
    assert_eq!(version(&header), 0);

    let mut out = Vec::new();
    muxer.track_changed(&video.track, &mut out);
    assert!(out.is_empty(), "parameter sets are not in the map");

    let opus = Track {
        id: audio.track.id,
        ..fixture("opus", 1).track
    };
    muxer.track_changed(&opus, &mut out);
    assert_eq!(version(&out), 1);

    let vp9 = fixture("vp9", 0).track;
    out.clear();
    muxer.track_changed(&vp9, &mut out);
    assert_eq!(version(&out), 2);
    assert_eq!(muxer.left_out(), [TrackId(0)]);
}

#[test]
fn what_has_no_form_is_left_out() {
    let tracks: Vec<Track> = ["av1", "vp8", "vp9", "flac", "aac"]
        .iter()
        .zip(0..)
        .map(|(name, id)| fixture(name, id).track)
        .collect();
    let muxer = mpegts::Muxer::new(&tracks);
    assert_eq!(muxer.left_out(), [0, 1, 2, 3].map(TrackId));
    let mut muxer = cmaf::Muxer::new(&tracks);
    assert_eq!(muxer.left_out(), [TrackId(1)]);
    let mut out = Vec::new();
    muxer.write(&fixture("vp8", 1).frames[0], &mut out);
    assert!(out.is_empty());
}

/// Quirk 37: time stamps have 33 bits, and what a receiver makes of the wrap put sound hours off.
/// All of a frame's stamps wrap by themselves.
#[test]
fn stamps_wrap_at_33_bits() {
    let mut frame = fixture("h264", 0).frames.swap_remove(0);
    let track = fixture("h264", 0).track;
    frame.dts = MediaTime::from_ticks((1 << 33) - 90_000 - 10, 90_000);
    frame.pts = MediaTime::from_ticks((1 << 33) - 90_000 + 10, 90_000);
    let mut muxer = mpegts::Muxer::new(&[track]);
    let mut out = Vec::new();
    muxer.write(&frame, &mut out);
    let packets = packets(&out);
    let pes = packets[2].payload;
    let stamp = |at: usize| {
        u64::from(pes[at] >> 1 & 7) << 30
            | u64::from(pes[at + 1]) << 22
            | u64::from(pes[at + 2] >> 1) << 15
            | u64::from(pes[at + 3]) << 7
            | u64::from(pes[at + 4] >> 1)
    };
    assert_eq!((stamp(9), stamp(14)), (10, (1 << 33) - 10));
}

/// Explicit HE-AAC cannot be said in ADTS: the header names the core, and a decoder finds the
/// rest in the frames.
#[test]
fn high_efficiency_aac_is_told_by_its_core() {
    let mut track = fixture("aac", 0).track;
    // Object 5, core 24 kHz stereo, output 48 kHz, object 2.
    track.init = Bytes::from_static(&[0x2b, 0x11, 0x88, 0x00]);
    codec::describe(&mut track);
    assert_eq!(track.audio.unwrap().rate, 48_000);
    let mut muxer = mpegts::Muxer::new(&[track]);
    let mut out = Vec::new();
    muxer.write(&fixture("aac", 0).frames[0], &mut out);
    let packets = packets(&out);
    let pes = packets[2].payload;
    let adts = &pes[9 + usize::from(pes[8])..];
    assert_eq!(adts[..2], [0xff, 0xf1]);
    assert_eq!(adts[2] >> 6, 1, "AAC-LC");
    assert_eq!(adts[2] >> 2 & 0xf, 6, "24 kHz");
}

/// Quirk 33: Firefox cares for the order of boxes in a fragment.
#[test]
fn boxes_of_a_fragment_are_in_order() {
    let video = fixture("h264", 0);
    let mut muxer = cmaf::Muxer::new(&[video.track]);
    let mut out = Vec::new();
    muxer.write(&video.frames[0], &mut out);
    let top = boxes(&out);
    assert_eq!(names(&top), ["moof", "mdat"]);
    assert_eq!(top[1].1, &video.frames[0].data[..]);
    let moof = boxes(top[0].1);
    assert_eq!(names(&moof), ["mfhd", "traf"]);
    assert_eq!(names(&boxes(moof[1].1)), ["tfhd", "tfdt", "trun"]);
}

fn boxes(mut bytes: &[u8]) -> Vec<(String, &[u8])> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let size = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
        let name = String::from_utf8(bytes[4..8].to_vec()).unwrap();
        found.push((name, &bytes[8..size]));
        bytes = &bytes[size..];
    }
    found
}

fn names(boxes: &[(String, &[u8])]) -> Vec<String> {
    boxes.iter().map(|(name, _)| name.clone()).collect()
}

/// Decode time and duration of a fragment's first sample.
fn slot(fragment: &[u8]) -> (u64, u32) {
    let moof = boxes(boxes(fragment)[0].1);
    let traf = boxes(moof[1].1);
    let time = u64::from_be_bytes(traf[1].1[4..12].try_into().unwrap());
    let duration = u32::from_be_bytes(traf[2].1[12..16].try_into().unwrap());
    (time, duration)
}

#[test]
fn sound_with_rounded_times_has_no_gaps_in_mp4() {
    let audio = fixture("aac", 0);
    let mut muxer = cmaf::Muxer::new(&[audio.track]);
    let mut expected = None;
    for frame in &audio.frames {
        let millis = MediaTime::from_millis(frame.dts.as_millis());
        let frame = Frame {
            dts: millis,
            pts: millis,
            ..frame.clone()
        };
        let mut out = Vec::new();
        muxer.write(&frame, &mut out);
        let (time, duration) = slot(&out);
        assert_eq!(time, expected.unwrap_or(time));
        assert_eq!(duration, 1024);
        expected = Some(time + 1024);
    }
}

#[test]
fn times_before_zero_do_no_harm() {
    let video = fixture("h264", 0);
    let mut frame = video.frames[0].clone();
    frame.dts = MediaTime::from_millis(-100);
    frame.pts = MediaTime::from_millis(-20);
    let mut muxer = cmaf::Muxer::new(std::slice::from_ref(&video.track));
    let mut out = Vec::new();
    muxer.write(&frame, &mut out);
    assert_eq!(slot(&out).0, 0);
    frame.dts = MediaTime::from_micros(i64::MIN);
    frame.pts = MediaTime::from_micros(i64::MAX);
    muxer.write(&frame, &mut out);
    mpegts::Muxer::new(&[video.track]).write(&frame, &mut out);
}

#[test]
fn a_changed_track_goes_on_in_mp4() {
    let (video, audio) = (fixture("h264", 0), fixture("aac", 1));
    let mut muxer = cmaf::Muxer::new(&[video.track.clone(), audio.track.clone()]);
    let mut out = Vec::new();
    muxer.write(&video.frames[0], &mut out);
    let before = slot(&out);
    out.clear();
    muxer.track_changed(&video.track, &mut out);
    assert_eq!(names(&boxes(&out)), ["ftyp", "moov"]);
    let mut repeated = video.frames[0].clone();
    repeated.dts = MediaTime::ZERO;
    out.clear();
    muxer.write(&repeated, &mut out);
    assert_eq!(slot(&out).0, before.0 + 1, "time never falls");

    let slower = Track {
        init: Bytes::from_static(&[0x13, 0x10]),
        audio: Some(AudioFormat {
            rate: 24_000,
            channels: 2,
            bits: 0,
        }),
        ..audio.track
    };
    muxer.track_changed(&slower, &mut out);
    out.clear();
    muxer.write(&audio.frames[0], &mut out);
    let told = audio.frames[0].dts.as_ticks(24_000) as u64;
    assert_eq!(slot(&out), (told, 1024));
    assert_eq!(slower.codec, Codec::Aac);
}
