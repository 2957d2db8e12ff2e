//! Packets of frames, and frames of packets: the codecs' RTP payload formats as the streams use
//! them.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::media::{Extras, Frame, Kind, MediaTime, Packet, Start, Track};

/// Bytes of payload of one packet. With the headers of RTP, SRTP, UDP and IPv6 it fits 1280 bytes,
/// which every path carries (RFC 8200 section 5).
const PAYLOAD_BYTES_MAX: usize = 1180;

/// The largest frame that is put together of packets. A keyframe of 50 Mbit/s video has less.
const FRAME_BYTES_MAX: usize = 8 << 20;

/// Cuts frames into packets.
#[derive(Debug, Default)]
pub(super) struct Packetizer {
    next: u64,
}

impl Packetizer {
    /// The packets of a frame, in order. Their numbers count from 0.
    pub(super) fn packetize(&mut self, track: &Track, frame: &Frame, out: &mut Vec<Packet>) {
        let mut rest = frame.data.clone();
        let mut start = match (frame.keyframe, track.kind()) {
            (true, Kind::Video) | (_, Kind::Audio) => Start::Keyframe,
            (false, Kind::Video) => Start::Frame,
        };
        while !rest.is_empty() {
            let payload = rest.split_to(rest.len().min(PAYLOAD_BYTES_MAX));
            out.push(Packet {
                track: frame.track,
                number: self.next,
                time: frame.pts,
                marker: rest.is_empty(),
                start,
                payload,
                extras: Extras::default(),
                received: frame.received,
            });
            start = Start::No;
            self.next += 1;
        }
    }
}

/// A frame, put together of packets. It has a presentation time only.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) time: MediaTime,
    pub(super) keyframe: bool,
    pub(super) data: Bytes,
    pub(super) received: Instant,
}

/// Puts frames together of packets that come in order.
#[derive(Debug, Default)]
pub(super) struct Depacketizer {
    pending: Option<(MediaTime, bool, BytesMut)>,
    ready: Option<Assembled>,
}

impl Depacketizer {
    /// The next packet.
    pub(super) fn push(&mut self, packet: &Packet) {
        if packet.start != Start::No {
            let is_key = packet.start == Start::Keyframe;
            self.pending = Some((packet.time, is_key, BytesMut::new()));
        }
        let Some((_, _, data)) = &mut self.pending else {
            return;
        };
        if data.len() + packet.payload.len() > FRAME_BYTES_MAX {
            self.pending = None;
            return;
        }
        data.extend_from_slice(&packet.payload);
        if packet.marker
            && let Some((time, keyframe, data)) = self.pending.take()
        {
            self.ready = Some(Assembled {
                time,
                keyframe,
                data: data.freeze(),
                received: packet.received,
            });
        }
    }

    /// Packets are missing between the last one and the next.
    pub(super) fn gap(&mut self) {
        self.pending = None;
    }

    /// The next frame that is whole.
    pub(super) fn poll(&mut self) -> Option<Assembled> {
        self.ready.take()
    }
}
