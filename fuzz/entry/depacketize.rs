//! Depacketizers and the finder of frame starts, on any packets.
//!
//! ```text
//! codec(8)  packets: marker(1) same time(1) numbers left out(2) length(12), payload
//! ```

use bytes::Bytes;
use ringside::base::bytes::{Reader, Short};
use ringside::media::{Codec, MediaTime, codec};
use ringside::proto::rtp::payload::{Depacketizer, FRAME_BYTES_MAX, PacketView, StartFinder};

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

/// Reads `data` as above.
pub(crate) fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Ok(first) = reader.u8() else {
        return;
    };
    let codec = CODECS[usize::from(first) % CODECS.len()];
    let mut depacketizer = Depacketizer::new(codec).expect("it has a payload format");
    let mut finder = StartFinder::new(codec);
    let (mut number, mut millis) = (u64::from(u16::MAX) - 3, 0);
    while let Ok((head, payload)) = read_packet(&mut reader) {
        number += 1 + u64::from(head >> 12 & 3);
        millis += i64::from(head & 0x4000 == 0) * 20;
        let time = MediaTime::from_millis(millis);
        finder.look(time, &payload);
        let _ = depacketizer.push(PacketView {
            number,
            time,
            marker: head & 0x8000 != 0,
            payload: &payload,
        });
        while let Some(unit) = depacketizer.poll() {
            assert!(!unit.data.is_empty() && unit.data.len() <= 2 * FRAME_BYTES_MAX);
            assert_eq!(unit.keyframe, codec::is_keyframe(codec, &unit.data));
            assert_canonical(codec, &unit.data);
        }
    }
}

fn read_packet(reader: &mut Reader<'_>) -> Result<(u16, Bytes), Short> {
    let head = reader.u16()?;
    let length = usize::from(head & 0x0fff).min(reader.remaining());
    Ok((head, Bytes::copy_from_slice(reader.take(length)?)))
}

fn assert_canonical(codec: Codec, data: &[u8]) {
    if matches!(codec, Codec::H264 | Codec::Hevc) {
        assert!(codec::nal::units(data).all(|unit| unit.is_ok()));
    }
    if codec == Codec::Av1 {
        for obu in codec::av1::obus(data) {
            let obu = obu.expect("OBUs come whole");
            assert!(obu.whole[0] & 2 != 0, "with a size");
        }
    }
}
