//! What a video or audio tag says, before it is put into canonical form.

use bytes::Bytes;
use smallvec::SmallVec;

use super::Error;
use crate::base::bytes::{Reader, Short};
use crate::media::Codec;

/// A tag holds one packet, a multitrack tag several.
pub(super) type Packets = SmallVec<[Packet; 1]>;

/// How many packets one multitrack tag may hold: all tracks a demuxer knows.
const PACKETS_MAX: usize = super::TRACKS_MAX;

/// One packet of one track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Packet {
    /// The track's number in its kind, 0 unless the tag is a multitrack tag.
    pub(super) track: u8,
    pub(super) codec: Codec,
    pub(super) content: Content,
    pub(super) payload: Bytes,
}

/// What the payload of a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// A decoder configuration.
    Config,
    /// An access unit.
    Frame {
        keyframe: bool,
        /// Presentation time less decoding time, in milliseconds.
        composition_ms: i32,
        /// To be added to the presentation time, in nanoseconds below a millisecond.
        offset_ns: u32,
    },
}

/// A reader over a tag's body that can also give out shared parts of it.
pub(super) struct Body<'a> {
    all: &'a Bytes,
    pub(super) reader: Reader<'a>,
}

impl<'a> Body<'a> {
    pub(super) fn new(all: &'a Bytes) -> Self {
        Self {
            all,
            reader: Reader::new(all),
        }
    }

    /// The next `count` bytes, shared.
    pub(super) fn take(&mut self, count: usize) -> Result<Bytes, Short> {
        let start = self.all.len() - self.reader.remaining();
        self.reader.take(count)?;
        Ok(self.all.slice(start..start + count))
    }

    /// What has not been read, shared.
    pub(super) fn rest(&mut self) -> Bytes {
        let rest = self.all.slice(self.all.len() - self.reader.remaining()..);
        self.reader = Reader::new(&[]);
        rest
    }
}

/// `AvMultitrackType`: how a multitrack tag is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Multitrack {
    OneTrack,
    ManyTracks,
    ManyTracksManyCodecs,
}

impl Multitrack {
    pub(super) fn from_number(number: u8) -> Result<Self, Error> {
        match number {
            0 => Ok(Self::OneTrack),
            1 => Ok(Self::ManyTracks),
            2 => Ok(Self::ManyTracksManyCodecs),
            other => Err(Error::PacketType(other)),
        }
    }
}

/// Reads the tracks of a multitrack tag. `one` reads the packet of a track from its own body; a
/// track it cannot read does not affect the others.
///
/// ```text
/// [FourCC]  then for each track:  [FourCC]  track id (8)  [size (24)]  body
/// ```
///
/// The first FourCC is missing with many codecs, the second is there only then; the size is missing
/// with one track.
pub(super) fn read_tracks(
    body: &mut Body<'_>,
    multitrack: Multitrack,
    codec_of: fn([u8; 4]) -> Result<Codec, Error>,
    mut one: impl FnMut(u8, Codec, &Bytes) -> Result<Option<Packet>, Error>,
) -> (Packets, Result<(), Error>) {
    let mut packets = Packets::new();
    let mut result = Ok(());
    let mut read = || -> Result<(), Error> {
        let mut code = [0; 4];
        if multitrack != Multitrack::ManyTracksManyCodecs {
            code = body.reader.array()?;
        }
        for _ in 0..PACKETS_MAX {
            if multitrack == Multitrack::ManyTracksManyCodecs {
                code = body.reader.array()?;
            }
            let track = body.reader.u8()?;
            let part = if multitrack == Multitrack::OneTrack {
                body.rest()
            } else {
                let size = body.reader.u24()?;
                body.take(size as usize)?
            };
            match codec_of(code).and_then(|codec| one(track, codec, &part)) {
                Ok(packet) => packets.extend(packet),
                Err(error) => result = Err(error),
            }
            if body.reader.is_empty() {
                return Ok(());
            }
        }
        Err(Error::TooManyTracks)
    };
    let framing = read();
    (packets, framing.and(result))
}
