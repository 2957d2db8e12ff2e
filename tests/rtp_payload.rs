//! Real streams through the RTP payload formats: recorded packets into frames, and frames into
//! packets and back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use ringside::base::bytes::Reader;
use ringside::base::ids::TrackId;
use ringside::media::{Codec, Frame, Kind, MediaTime, Packet, Start, Track, codec};
use ringside::proto::rtp::payload::{
    Depacketizer, Options, PAYLOAD_BYTES_MAX, PacketView, Packetizer, StartFinder, Unit, clock_rate,
};

#[allow(dead_code, reason = "one stream at a time is enough here")]
mod media_fixture;
use media_fixture::fixture;

/// What is used of a recorded packet.
struct Recorded {
    number: u64,
    time: MediaTime,
    marker: bool,
    payload: Bytes,
}

/// The packets of a recording, from its first timestamp on.
fn recorded(name: &str, codec: Codec) -> Vec<Recorded> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/rtp/{name}.rtp"));
    let bytes = std::fs::read(path).unwrap();
    let mut file = Reader::new(&bytes);
    let mut first = None;
    let mut packets = Vec::new();
    while !file.is_empty() {
        let length = file.u16().unwrap().into();
        let mut packet = Reader::new(file.take(length).unwrap());
        let [flags, second] = packet.array().unwrap();
        if matches!(second, 200..=204) {
            continue; // A sender report.
        }
        assert_eq!(flags, 0x80, "no extension, padding or contributing source");
        let number = packet.u16().unwrap();
        let timestamp = packet.u32().unwrap();
        packet.u32().unwrap();
        let (first_number, first_timestamp) = *first.get_or_insert((number, timestamp));
        let ticks = timestamp.wrapping_sub(first_timestamp) as i32;
        packets.push(Recorded {
            number: number.wrapping_sub(first_number).into(),
            time: MediaTime::from_ticks(ticks.into(), clock_rate(codec).unwrap()),
            marker: second & 0x80 != 0,
            payload: Bytes::copy_from_slice(packet.rest()),
        });
    }
    packets
}

fn units(codec: Codec, packets: &[Recorded]) -> Vec<Unit> {
    let mut depacketizer = Depacketizer::new(codec).unwrap();
    let mut units = Vec::new();
    for packet in packets {
        let view = PacketView {
            number: packet.number,
            time: packet.time,
            marker: packet.marker,
            payload: &packet.payload,
        };
        depacketizer.push(view).unwrap();
        units.extend(std::iter::from_fn(|| depacketizer.poll()));
    }
    assert_eq!(depacketizer.dropped(), 0);
    units
}

/// Sends frames and gets them back.
fn through(track: &Track, frames: &[Frame]) -> (Vec<Packet>, Vec<Unit>) {
    let mut packetizer = Packetizer::new(track.codec, Options::default()).unwrap();
    let mut packets = Vec::new();
    for frame in frames {
        packetizer.packetize(track, frame, &mut packets);
    }
    assert_eq!(packetizer.dropped(), 0);
    assert!(
        packets
            .iter()
            .all(|packet| packet.payload.len() <= PAYLOAD_BYTES_MAX)
    );
    let mut depacketizer = Depacketizer::new(track.codec).unwrap();
    let mut units = Vec::new();
    for packet in &packets {
        let view = PacketView {
            number: packet.number,
            time: packet.time,
            marker: packet.marker,
            payload: &packet.payload,
        };
        depacketizer.push(view).unwrap();
        units.extend(depacketizer.poll());
    }
    (packets, units)
}

const RECORDINGS: [(&str, Codec, usize, usize); 9] = [
    ("h264", Codec::H264, 30, 2),
    ("h264_separate", Codec::H264, 20, 2),
    ("h265", Codec::Hevc, 30, 2),
    ("vp8", Codec::Vp8, 30, 2),
    ("vp9", Codec::Vp9, 30, 2),
    ("vp9_gst", Codec::Vp9, 20, 2),
    ("opus", Codec::Opus, 101, 101),
    ("g722", Codec::G722, 50, 50),
    ("ulaw", Codec::Ulaw, 8, 8),
];

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a frame needs a time of receipt, and nothing here looks at it"
)]
fn recorded_packets_become_frames_and_packets_again() {
    for (name, codec, frames, keyframes) in RECORDINGS {
        let packets = recorded(name, codec);
        let units = units(codec, &packets);
        let found = units.iter().filter(|unit| unit.keyframe).count();
        assert_eq!((units.len(), found), (frames, keyframes), "{name}");
        assert!(units.windows(2).all(|pair| pair[0].time < pair[1].time));

        let mut finder = StartFinder::new(codec);
        let starts: Vec<_> = packets
            .iter()
            .map(|packet| finder.look(packet.time, &packet.payload))
            .collect();
        let told = starts.iter().filter(|start| **start == Start::Keyframe);
        assert_eq!(told.count(), keyframes, "{name}");

        let mut track = Track {
            id: TrackId(0),
            codec,
            init: Bytes::new(),
            video: None,
            audio: None,
            language: String::new(),
            rid: String::new(),
        };
        codec::learn(&mut track, &units[0].data);
        if codec.kind() == Kind::Video {
            let size = track.video.unwrap();
            assert!(matches!((size.width, size.height), (320, 180) | (160, 120)));
        }
        let sent: Vec<Frame> = units
            .iter()
            .map(|unit| Frame {
                track: track.id,
                dts: unit.time,
                pts: unit.time,
                keyframe: unit.keyframe,
                data: unit.data.clone(),
                received: Instant::now(),
            })
            .collect();
        let (_, again) = through(&track, &sent);
        assert_eq!(again.len(), units.len(), "{name}");
        for (again, unit) in again.iter().zip(&units) {
            assert!(again.data == unit.data, "{name}");
            if codec.kind() == Kind::Video {
                assert_eq!(again, unit, "{name}");
            }
        }
    }
}

#[test]
fn frames_of_publishers_travel_by_rtp() {
    for name in ["h264", "hevc", "vp8", "vp9", "av1", "opus"] {
        let fixture = fixture(name, 3);
        let (packets, units) = through(&fixture.track, &fixture.frames);
        assert_eq!(units.len(), fixture.frames.len(), "{name}");
        let mut finder = StartFinder::new(fixture.track.codec);
        for packet in &packets {
            let found = finder.look(packet.time, &packet.payload);
            assert_eq!(found, packet.start, "{name}");
        }
        for (unit, frame) in units.iter().zip(&fixture.frames) {
            assert_eq!((unit.time, unit.keyframe), (frame.pts, frame.keyframe));
            // In front of a keyframe stands what only the track has: its parameter sets.
            assert!(unit.data.ends_with(&frame.data), "{name}");
            assert!(unit.data == frame.data || unit.keyframe, "{name}");
        }
        if fixture.track.codec == Codec::H264 {
            let config = units[0].config.as_ref().unwrap();
            let (built, own) = (
                codec::h264::parse_config(config).unwrap(),
                codec::h264::parse_config(&fixture.track.init).unwrap(),
            );
            assert_eq!((built.sps, built.pps), (own.sps, own.pps));
        }
    }
}
