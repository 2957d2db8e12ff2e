//! Frame parsers, conversions and both muxers, on any configuration and any frames.
//!
//! ```text
//! codec(8)  init length(16)  init  frames: keyframe(1) length(15), dts(16) pts(16) in ms, payload
//! ```

use std::time::Instant;

use bytes::Bytes;
use ringside::base::bytes::{Reader, Short};
use ringside::base::ids::TrackId;
use ringside::media::codec::{av1, nal};
use ringside::media::{AudioFormat, Codec, Frame, MediaTime, Track, codec};
use ringside::proto::{cmaf, mpegts};

const CODECS: [Codec; 14] = [
    Codec::H264,
    Codec::Hevc,
    Codec::Av1,
    Codec::Vp8,
    Codec::Vp9,
    Codec::Aac,
    Codec::Mp3,
    Codec::Opus,
    Codec::Flac,
    Codec::Ac3,
    Codec::Eac3,
    Codec::Ulaw,
    Codec::Alaw,
    Codec::G722,
];

/// Reads `data` as above and writes it with both muxers.
pub(crate) fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Ok(mut track) = read_track(&mut reader) else {
        return;
    };
    let mut frames = Vec::new();
    while let Ok(frame) = read_frame(&mut reader) {
        frames.push(frame);
    }
    if let Some(first) = frames.first() {
        codec::learn(&mut track, &first.data);
    }
    frames.iter().for_each(|frame| read_units(&track, frame));
    mux(&track, &frames);
}

fn read_track(reader: &mut Reader<'_>) -> Result<Track, Short> {
    let codec = CODECS[usize::from(reader.u8()?) % CODECS.len()];
    let length = usize::from(reader.u16()?);
    let mut track = Track {
        id: TrackId(0),
        codec,
        init: Bytes::copy_from_slice(reader.take(length)?),
        video: None,
        audio: Some(AudioFormat {
            rate: 44_100,
            channels: 2,
            bits: 0,
        }),
        language: String::new(),
        rid: String::new(),
    };
    codec::describe(&mut track);
    Ok(track)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a frame needs a time of receipt, and nothing here looks at it"
)]
fn read_frame(reader: &mut Reader<'_>) -> Result<Frame, Short> {
    let head = reader.u16()?;
    let (dts, pts) = (reader.u16()? as i16, reader.u16()? as i16);
    let length = usize::from(head & 0x7fff).min(reader.remaining());
    Ok(Frame {
        track: TrackId(0),
        dts: MediaTime::from_millis(dts.into()),
        pts: MediaTime::from_millis(pts.into()),
        keyframe: head & 0x8000 != 0,
        data: Bytes::copy_from_slice(reader.take(length)?),
        received: Instant::now(),
    })
}

fn read_units(track: &Track, frame: &Frame) {
    let data = &frame.data[..];
    codec::is_keyframe(track.codec, data);
    if let Some(duration) = codec::frame_duration(track, data) {
        assert!(duration > MediaTime::ZERO);
    }
    let obus: usize = av1::obus(data)
        .map_while(Result::ok)
        .map(|obu| obu.whole.len())
        .sum();
    assert!(obus <= data.len());
    for length_size in [1, 2, 4] {
        let mut out = Vec::new();
        let whole = nal::widen_lengths(data, length_size, &mut out).is_ok();
        let units: Vec<_> = nal::units(&out).map_while(Result::ok).collect();
        if whole && length_size == 4 {
            let expected: Vec<_> = nal::units(data).map_while(Result::ok).collect();
            assert_eq!(units, expected);
        }
    }
    let mut stream = Vec::new();
    let _ = nal::to_annex_b(data, &mut stream);
    let size: usize = nal::annex_b_units(&stream).map(<[u8]>::len).sum();
    assert!(size <= stream.len());
    nal::annex_b_units(data).for_each(|unit| assert!(!unit.is_empty()));
}

fn mux(track: &Track, frames: &[Frame]) {
    let tracks = [track.clone()];
    let mut out = Vec::new();
    let mut muxer = mpegts::Muxer::new(&tracks);
    muxer.header(&mut out);
    frames.iter().for_each(|frame| muxer.write(frame, &mut out));
    muxer.track_changed(track, &mut out);
    assert!(
        out.chunks(mpegts::PACKET_SIZE)
            .all(|packet| { packet.len() == mpegts::PACKET_SIZE && packet[0] == 0x47 })
    );

    let mut out = Vec::new();
    let mut muxer = cmaf::Muxer::new(&tracks);
    muxer.header(&mut out);
    frames.iter().for_each(|frame| muxer.write(frame, &mut out));
    frames
        .chunks(3)
        .for_each(|chunk| muxer.fragment(chunk, &mut out));
    muxer.track_changed(track, &mut out);
    assert_boxes(&out);
}

fn assert_boxes(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let mut reader = Reader::new(bytes);
        let size = reader.u32().expect("a box has a size") as usize;
        assert!(size >= 8);
        bytes = bytes.get(size..).expect("a box ends within the output");
    }
}
