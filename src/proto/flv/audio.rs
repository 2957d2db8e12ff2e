//! Audio tags: FLV 10.1 section E.4.2, Enhanced RTMP `ExAudioTagHeader`.

use bytes::Bytes;

use super::packet::{Body, Content, Multitrack, Packet, Packets, read_tracks};
use super::{Error, Foreign, fourcc, mod_ex};
use crate::media::Codec;

const FORMAT_MP3: u8 = 2;
const FORMAT_ALAW: u8 = 7;
const FORMAT_ULAW: u8 = 8;
const FORMAT_EX_HEADER: u8 = 9;
const FORMAT_AAC: u8 = 10;
const FORMAT_MP3_8K: u8 = 14;

/// `AACPacketType`.
mod aac_packet {
    pub(super) const SEQUENCE_HEADER: u8 = 0;
    pub(super) const RAW: u8 = 1;
}

/// `AudioPacketType`.
mod packet_type {
    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    pub(super) const SEQUENCE_END: u8 = 2;
    pub(super) const MULTICHANNEL_CONFIG: u8 = 4;
    pub(super) const MULTITRACK: u8 = 5;
}

const FRAME: Content = Content::Frame {
    keyframe: true,
    composition_ms: 0,
    offset_ns: 0,
};

/// The packets of a tag, and what was wrong with the part of it that is missing from them.
pub(super) fn read(payload: &Bytes) -> (Packets, Result<(), Error>) {
    let mut body = Body::new(payload);
    let read = match body.reader.u8() {
        Ok(first) if first >> 4 == FORMAT_EX_HEADER => {
            return read_enhanced(first & 0x0f, &mut body);
        }
        Ok(first) => read_legacy(first, &mut body),
        Err(short) => Err(short.into()),
    };
    match read {
        Ok(packet) => (packet.into_iter().collect(), Ok(())),
        Err(error) => (Packets::new(), Err(error)),
    }
}

/// ```text
/// format (4)  rate (2)  size (1)  stereo (1)  AAC: packet type (8)  payload
/// ```
///
/// Rate, size and channels of the first byte are constants for AAC and often wrong for MP3, so the
/// payload is asked instead.
fn read_legacy(first: u8, body: &mut Body<'_>) -> Result<Option<Packet>, Error> {
    let (codec, content) = match first >> 4 {
        FORMAT_MP3 | FORMAT_MP3_8K => (Codec::Mp3, FRAME),
        FORMAT_ALAW => (Codec::Alaw, FRAME),
        FORMAT_ULAW => (Codec::Ulaw, FRAME),
        FORMAT_AAC => match body.reader.u8()? {
            aac_packet::SEQUENCE_HEADER => (Codec::Aac, Content::Config),
            aac_packet::RAW => (Codec::Aac, FRAME),
            other => return Err(Error::PacketType(other)),
        },
        other => return Err(Error::UnsupportedCodec(Foreign::Audio(other))),
    };
    Ok(packet(0, codec, content, body.rest()))
}

/// ```text
/// 9 (4)  packet type (4)  [ModEx ...]
///     multitrack:  multitrack type (4)  packet type (4)  tracks
///     else:        FourCC  body
/// ```
fn read_enhanced(packet_type: u8, body: &mut Body<'_>) -> (Packets, Result<(), Error>) {
    let header = match Header::read(packet_type, body) {
        Ok(header) => header,
        Err(error) => return (Packets::new(), Err(error)),
    };
    if let Some(multitrack) = header.multitrack {
        return read_tracks(body, multitrack, fourcc::audio, |track, codec, part| {
            header.packet(track, codec, &mut Body::new(part))
        });
    }
    let code = body.reader.array().map_err(Error::from);
    match code
        .and_then(fourcc::audio)
        .and_then(|codec| header.packet(0, codec, body))
    {
        Ok(packet) => (packet.into_iter().collect(), Ok(())),
        Err(error) => (Packets::new(), Err(error)),
    }
}

/// What all tracks of a tag have in common.
struct Header {
    packet_type: u8,
    multitrack: Option<Multitrack>,
    offset_ns: u32,
}

impl Header {
    fn read(packet_type: u8, body: &mut Body<'_>) -> Result<Self, Error> {
        let (mut packet_type, offset_ns) = mod_ex::read(&mut body.reader, packet_type)?;
        let mut multitrack = None;
        if packet_type == packet_type::MULTITRACK {
            let byte = body.reader.u8()?;
            multitrack = Some(Multitrack::from_number(byte >> 4)?);
            packet_type = byte & 0x0f;
        }
        Ok(Self {
            packet_type,
            multitrack,
            offset_ns,
        })
    }

    fn packet(
        &self,
        track: u8,
        codec: Codec,
        body: &mut Body<'_>,
    ) -> Result<Option<Packet>, Error> {
        let content = match self.packet_type {
            packet_type::SEQUENCE_START => Content::Config,
            packet_type::CODED_FRAMES => Content::Frame {
                keyframe: true,
                composition_ms: 0,
                offset_ns: self.offset_ns,
            },
            packet_type::SEQUENCE_END | packet_type::MULTICHANNEL_CONFIG => return Ok(None),
            other => return Err(Error::PacketType(other)),
        };
        Ok(packet(track, codec, content, body.rest()))
    }
}

/// A packet without payload says nothing: some encoders send one before their first frame.
fn packet(track: u8, codec: Codec, content: Content, payload: Bytes) -> Option<Packet> {
    (!payload.is_empty()).then_some(Packet {
        track,
        codec,
        content,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            read_ok(&[0xaf, 0, 0x12, 0x10]),
            [(0, Codec::Aac, Content::Config, vec![0x12, 0x10])]
        );
        assert_eq!(read_ok(&[0xaf, 1, 7]), [(0, Codec::Aac, FRAME, vec![7])]);
        assert_eq!(read_ok(&[0x2f, 7]), [(0, Codec::Mp3, FRAME, vec![7])]);
        assert_eq!(read_ok(&[0xee, 7]), [(0, Codec::Mp3, FRAME, vec![7])]);
        assert_eq!(read_ok(&[0x72, 7]), [(0, Codec::Alaw, FRAME, vec![7])]);
        assert_eq!(read_ok(&[0x82, 7]), [(0, Codec::Ulaw, FRAME, vec![7])]);
        assert_eq!(read_ok(&[0xaf, 1]), []);
    }

    #[test]
    fn enhanced_headers() {
        assert_eq!(
            read_ok(b"\x90Opus\x01"),
            [(0, Codec::Opus, Content::Config, vec![1])]
        );
        assert_eq!(read_ok(b"\x91ac-3\x01"), [(0, Codec::Ac3, FRAME, vec![1])]);
        assert_eq!(read_ok(b"\x94mp4a\x01\x02"), []);
        assert_eq!(
            read_ok(b"\x95\x21mp4a\x00\x00\x00\x01\x08fLaC\x02\x00\x00\x01\x09"),
            [
                (0, Codec::Aac, FRAME, vec![8]),
                (2, Codec::Flac, FRAME, vec![9]),
            ]
        );
    }

    #[test]
    fn errors() {
        assert_eq!(read_err(&[]), Error::Short);
        assert_eq!(read_err(&[0xaf]), Error::Short);
        assert_eq!(read_err(&[0xaf, 9]), Error::PacketType(9));
        let speex = Error::UnsupportedCodec(Foreign::Audio(11));
        assert_eq!(read_err(&[0xb2, 0]), speex);
        assert_eq!(read_err(b"\x93Opus\x01"), Error::PacketType(3));
        assert_eq!(read_err(b"\x91Op"), Error::Short);
    }
}
