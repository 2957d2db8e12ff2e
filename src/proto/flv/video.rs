//! Video tags: FLV 10.1 section E.4.3, Enhanced RTMP `ExVideoTagHeader`.

use bytes::Bytes;

use super::packet::{Body, Content, Multitrack, Packet, Packets, read_tracks};
use super::{Error, Foreign, fourcc, mod_ex};
use crate::base::bytes::Reader;
use crate::media::Codec;

const FRAME_KEY: u8 = 1;
const FRAME_COMMAND: u8 = 5;
const CODEC_AVC: u8 = 7;
/// Chinese CDNs and their encoders used it before there was a FourCC.
const CODEC_HEVC: u8 = 12;

/// `AVCPacketType`.
mod avc_packet {
    pub(super) const SEQUENCE_HEADER: u8 = 0;
    pub(super) const NALU: u8 = 1;
    pub(super) const END_OF_SEQUENCE: u8 = 2;
}

/// `VideoPacketType`.
mod packet_type {
    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    pub(super) const SEQUENCE_END: u8 = 2;
    pub(super) const CODED_FRAMES_X: u8 = 3;
    pub(super) const METADATA: u8 = 4;
    pub(super) const MULTITRACK: u8 = 6;
}

/// The packets of a tag, and what was wrong with the part of it that is missing from them.
pub(super) fn read(payload: &Bytes) -> (Packets, Result<(), Error>) {
    let mut body = Body::new(payload);
    let read = match body.reader.u8() {
        Ok(first) if first & 0x80 != 0 => return read_enhanced(first, &mut body),
        Ok(first) => read_legacy(first, &mut body),
        Err(short) => Err(short.into()),
    };
    match read {
        Ok(packet) => (packet.into_iter().collect(), Ok(())),
        Err(error) => (Packets::new(), Err(error)),
    }
}

/// ```text
/// frame type (4)  codec (4)  packet type (8)  composition time (24, signed)  payload
/// ```
fn read_legacy(first: u8, body: &mut Body<'_>) -> Result<Option<Packet>, Error> {
    if first >> 4 == FRAME_COMMAND {
        return Ok(None);
    }
    let codec = match first & 0x0f {
        CODEC_AVC => Codec::H264,
        CODEC_HEVC => Codec::Hevc,
        other => return Err(Error::UnsupportedCodec(Foreign::Video(other))),
    };
    let packet_type = body.reader.u8()?;
    let composition_ms = signed_24(&mut body.reader)?;
    let content = match packet_type {
        avc_packet::SEQUENCE_HEADER => Content::Config,
        avc_packet::NALU => Content::Frame {
            keyframe: first >> 4 == FRAME_KEY,
            composition_ms,
            offset_ns: 0,
        },
        avc_packet::END_OF_SEQUENCE => return Ok(None),
        other => return Err(Error::PacketType(other)),
    };
    Ok(packet(0, codec, content, body.rest()))
}

/// ```text
/// 1 (1)  frame type (3)  packet type (4)  [ModEx ...]
///     command frame: command (8)
///     multitrack:    multitrack type (4)  packet type (4)  tracks
///     else:          FourCC  body
/// ```
fn read_enhanced(first: u8, body: &mut Body<'_>) -> (Packets, Result<(), Error>) {
    let frame_type = (first >> 4) & 0x07;
    let header = match Header::read(frame_type, first & 0x0f, body) {
        Ok(Some(header)) => header,
        Ok(None) => return (Packets::new(), Ok(())),
        Err(error) => return (Packets::new(), Err(error)),
    };
    if let Some(multitrack) = header.multitrack {
        return read_tracks(body, multitrack, fourcc::video, |track, codec, part| {
            header.packet(track, codec, &mut Body::new(part))
        });
    }
    let code = body.reader.array().map_err(Error::from);
    let packet = code
        .and_then(fourcc::video)
        .and_then(|codec| header.packet(0, codec, body));
    match packet {
        Ok(packet) => (packet.into_iter().collect(), Ok(())),
        Err(error) => (Packets::new(), Err(error)),
    }
}

/// What all tracks of a tag have in common.
struct Header {
    keyframe: bool,
    packet_type: u8,
    multitrack: Option<Multitrack>,
    offset_ns: u32,
}

impl Header {
    /// `None` for a command frame, which has no packet.
    fn read(frame_type: u8, packet_type: u8, body: &mut Body<'_>) -> Result<Option<Self>, Error> {
        let (mut packet_type, offset_ns) = mod_ex::read(&mut body.reader, packet_type)?;
        if frame_type == FRAME_COMMAND && packet_type != packet_type::METADATA {
            return Ok(None);
        }
        let mut multitrack = None;
        if packet_type == packet_type::MULTITRACK {
            let byte = body.reader.u8()?;
            multitrack = Some(Multitrack::from_number(byte >> 4)?);
            packet_type = byte & 0x0f;
        }
        Ok(Some(Self {
            keyframe: frame_type == FRAME_KEY,
            packet_type,
            multitrack,
            offset_ns,
        }))
    }

    fn packet(
        &self,
        track: u8,
        codec: Codec,
        body: &mut Body<'_>,
    ) -> Result<Option<Packet>, Error> {
        let content = match self.packet_type {
            packet_type::SEQUENCE_START => Content::Config,
            packet_type::CODED_FRAMES if matches!(codec, Codec::H264 | Codec::Hevc) => {
                self.frame(signed_24(&mut body.reader)?)
            }
            packet_type::CODED_FRAMES | packet_type::CODED_FRAMES_X => self.frame(0),
            packet_type::SEQUENCE_END | packet_type::METADATA => return Ok(None),
            other => return Err(Error::PacketType(other)),
        };
        Ok(packet(track, codec, content, body.rest()))
    }

    fn frame(&self, composition_ms: i32) -> Content {
        Content::Frame {
            keyframe: self.keyframe,
            composition_ms,
            offset_ns: self.offset_ns,
        }
    }
}

/// A packet without payload says nothing; encoders send one as a keep-alive.
fn packet(track: u8, codec: Codec, content: Content, payload: Bytes) -> Option<Packet> {
    (!payload.is_empty()).then_some(Packet {
        track,
        codec,
        content,
        payload,
    })
}

fn signed_24(reader: &mut Reader<'_>) -> Result<i32, Error> {
    // The shift up and back copies the sign bit into the byte above.
    Ok(((reader.u24()? << 8) as i32) >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(keyframe: bool, composition_ms: i32, offset_ns: u32) -> Content {
        Content::Frame {
            keyframe,
            composition_ms,
            offset_ns,
        }
    }

    fn read_ok(bytes: &[u8]) -> Vec<(u8, Codec, Content, Vec<u8>)> {
        let (packets, result) = read(&Bytes::copy_from_slice(bytes));
        assert_eq!(result, Ok(()));
        let fields = |p: Packet| (p.track, p.codec, p.content, p.payload.to_vec());
        packets.into_iter().map(fields).collect()
    }

    fn read_err(bytes: &[u8]) -> Error {
        read(&Bytes::copy_from_slice(bytes)).1.unwrap_err()
    }

    #[test]
    fn legacy_headers() {
        assert_eq!(
            read_ok(&[0x17, 0, 0, 0, 0, 9]),
            [(0, Codec::H264, Content::Config, vec![9])]
        );
        assert_eq!(
            read_ok(&[0x27, 1, 0xff, 0xff, 0xfe, 9]),
            [(0, Codec::H264, frame(false, -2, 0), vec![9])]
        );
        assert_eq!(
            read_ok(&[0x1c, 1, 0, 0, 40, 9]),
            [(0, Codec::Hevc, frame(true, 40, 0), vec![9])]
        );
        assert_eq!(read_ok(&[0x17, 2, 0, 0, 0]), []);
        assert_eq!(read_ok(&[0x57, 0]), []);
        assert_eq!(read_ok(&[0x17, 1, 0, 0, 0]), []);
    }

    #[test]
    fn enhanced_headers() {
        assert_eq!(
            read_ok(b"\x90hvc1\x01\x02"),
            [(0, Codec::Hevc, Content::Config, vec![1, 2])]
        );
        assert_eq!(
            read_ok(b"\x91hvc1\x00\x00\x28\x09"),
            [(0, Codec::Hevc, frame(true, 40, 0), vec![9])]
        );
        assert_eq!(
            read_ok(b"\xa3avc1\x09"),
            [(0, Codec::H264, frame(false, 0, 0), vec![9])]
        );
        assert_eq!(
            read_ok(b"\xa1av01\x09"),
            [(0, Codec::Av1, frame(false, 0, 0), vec![9])]
        );
        assert_eq!(read_ok(b"\xa2av01"), []);
        assert_eq!(read_ok(b"\xd4av01\x09"), []);
        assert_eq!(
            read_ok(b"\x97\x02\x00\x00\x07\x01vp09\x09"),
            [(0, Codec::Vp9, frame(true, 0, 7), vec![9])]
        );
    }

    #[test]
    fn multitrack_headers() {
        assert_eq!(
            read_ok(b"\x96\x01avc1\x05\x00\x00\x00\x09"),
            [(5, Codec::H264, frame(true, 0, 0), vec![9])]
        );
        assert_eq!(
            read_ok(b"\x96\x13avc1\x00\x00\x00\x01\x08\x01\x00\x00\x01\x09"),
            [
                (0, Codec::H264, frame(true, 0, 0), vec![8]),
                (1, Codec::H264, frame(true, 0, 0), vec![9]),
            ]
        );
        assert_eq!(
            read_ok(b"\x96\x20avc1\x00\x00\x00\x01\x08av01\x01\x00\x00\x01\x09"),
            [
                (0, Codec::H264, Content::Config, vec![8]),
                (1, Codec::Av1, Content::Config, vec![9]),
            ]
        );
    }

    #[test]
    fn a_bad_track_keeps_the_others() {
        let bytes = b"\x96\x23xxxx\x00\x00\x00\x01\x08av01\x01\x00\x00\x01\x09";
        let (packets, result) = read(&Bytes::from_static(bytes));
        assert_eq!(packets.len(), 1);
        let foreign = Foreign::VideoFourCc(*b"xxxx");
        assert_eq!(result, Err(Error::UnsupportedCodec(foreign)));
    }

    #[test]
    fn errors() {
        assert_eq!(read_err(&[]), Error::Short);
        assert_eq!(read_err(&[0x17, 1, 0]), Error::Short);
        assert_eq!(read_err(&[0x17, 3, 0, 0, 0]), Error::PacketType(3));
        assert_eq!(
            read_err(&[0x12, 0]),
            Error::UnsupportedCodec(Foreign::Video(2))
        );
        assert_eq!(read_err(b"\x95hvc1"), Error::PacketType(5));
        assert_eq!(read_err(b"\x96\x31avc1"), Error::PacketType(3));
        assert_eq!(read_err(b"\x96\x11avc1\x00\x00\x00\x05\x01"), Error::Short);
        let many = [b"\x96\x11avc1".as_slice(), &[0; 4 * 200]].concat();
        assert_eq!(read_err(&many), Error::TooManyTracks);
    }
}
