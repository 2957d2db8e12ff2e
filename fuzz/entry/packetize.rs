//! Packetizers on any configuration and any frames; what they send is read back.
//!
//! ```text
//! codec(8)  largest payload(16)  init length(16)  init
//! frames: keyframe(1) length(15), time(16) in ms, payload
//! ```

use std::time::Instant;

use bytes::Bytes;
use ringside::base::bytes::{Reader, Short};
use ringside::base::ids::TrackId;
use ringside::media::{AudioFormat, Codec, Frame, MediaTime, Track, codec};
use ringside::proto::rtp::payload::{
    Depacketizer, H264Mode, Options, PAYLOAD_BYTES_MIN, PacketView, Packetizer, StartFinder,
};

const CODECS: [Codec; 9] = [
    Codec::H264,
    Codec::Hevc,
    Codec::Vp8,
    Codec::Vp9,
    Codec::Av1,
    Codec::Opus,
    Codec::Ulaw,
    Codec::Alaw,
    Codec::G722,
];

/// Reads `data` as above and sends it.
pub(crate) fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Ok((track, options)) = read_track(&mut reader) else {
        return;
    };
    let largest = options.payload_bytes_max.max(PAYLOAD_BYTES_MIN);
    let mut packetizer = Packetizer::new(track.codec, options).expect("it has a payload format");
    let mut depacketizer = Depacketizer::new(track.codec).expect("it has a payload format");
    let mut finder = StartFinder::new(track.codec);
    while let Ok(frame) = read_frame(&mut reader) {
        let mut packets = Vec::new();
        packetizer.packetize(&track, &frame, &mut packets);
        for packet in &packets {
            assert!((1..=largest).contains(&packet.payload.len()));
            finder.look(packet.time, &packet.payload);
            // Frames that are none may be refused, as the first slice missing.
            let _ = depacketizer.push(PacketView {
                number: packet.number,
                time: packet.time,
                marker: packet.marker,
                payload: &packet.payload,
            });
            while depacketizer.poll().is_some() {}
        }
    }
}

fn read_track(reader: &mut Reader<'_>) -> Result<(Track, Options), Short> {
    let first = usize::from(reader.u8()?);
    let largest = usize::from(reader.u16()?);
    let length = usize::from(reader.u16()?);
    let mut track = Track {
        id: TrackId(0),
        codec: CODECS[first % CODECS.len()],
        init: Bytes::copy_from_slice(reader.take(length)?),
        video: None,
        audio: Some(AudioFormat {
            rate: 8000,
            channels: 2,
            bits: 0,
        }),
        language: String::new(),
        rid: String::new(),
    };
    codec::describe(&mut track);
    let options = Options {
        payload_bytes_max: largest,
        h264_mode: if first & 0x80 != 0 {
            H264Mode::SingleUnit
        } else {
            H264Mode::NonInterleaved
        },
        ..Options::default()
    };
    Ok((track, options))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a frame needs a time of receipt, and nothing here looks at it"
)]
fn read_frame(reader: &mut Reader<'_>) -> Result<Frame, Short> {
    let head = reader.u16()?;
    let time = MediaTime::from_millis((reader.u16()? as i16).into());
    let length = usize::from(head & 0x7fff).min(reader.remaining());
    Ok(Frame {
        track: TrackId(0),
        dts: time,
        pts: time,
        keyframe: head & 0x8000 != 0,
        data: Bytes::copy_from_slice(reader.take(length)?),
        received: Instant::now(),
    })
}
