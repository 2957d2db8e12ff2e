//! VP9 in RTP (RFC 9628 section 4.2).
//!
//! ```text
//! I|P|L|F|B|E|V|Z   [picture id (8 or 16)]  [TID (3)|U|SID (3)|D  [TL0PICIDX (8)]]
//!                   [{ P_DIFF (7)|N } ...]  [scalability structure]
//! ```
//!
//! TL0PICIDX is there in non-flexible mode (F = 0), the differences in flexible mode for pictures
//! that refer to others.

use smallvec::SmallVec;

use super::Error;
use super::packetizer::PictureId;
use super::payloads::{Payloads, even};
use crate::base::bytes::{Reader, Short};
use crate::media::codec::vp9 as codec;

const HAS_PICTURE_ID: u8 = 0x80;
const INTER: u8 = 0x40;
const HAS_LAYERS: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGINS: u8 = 0x08;
const ENDS: u8 = 0x04;
const HAS_STRUCTURE: u8 = 0x02;
const LONG_PICTURE_ID: u8 = 0x80;
const DESCRIPTOR_BYTES: usize = 3;
/// Differences that one picture may have.
const REFERENCES_MAX: usize = 3;
/// Frames that a superframe may have (VP9 bitstream specification, annex B).
const LAYERS_MAX: usize = 8;

/// Writes a frame or a superframe.
pub(super) fn write(
    frame: &[u8],
    keyframe: bool,
    picture: &mut PictureId,
    max: usize,
    payloads: &mut Payloads,
) {
    if frame.is_empty() {
        return;
    }
    let [high, low] = picture.next();
    let piece_bytes = even(frame.len(), max - DESCRIPTOR_BYTES);
    let count = frame.len().div_ceil(piece_bytes);
    payloads.reserve(frame.len() + count * DESCRIPTOR_BYTES);
    for (index, piece) in frame.chunks(piece_bytes).enumerate() {
        let mut flags = HAS_PICTURE_ID;
        if !keyframe {
            flags |= INTER;
        }
        if index == 0 {
            flags |= BEGINS;
        }
        if index + 1 == count {
            flags |= ENDS;
        }
        payloads.push(&[&[flags, high, low], piece]);
    }
}

/// A payload without its descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    flags: u8,
    /// The spatial layer.
    layer: u8,
    /// What belongs to the frame.
    pub(super) data: &'a [u8],
}

impl Part<'_> {
    /// A picture begins: the frame of its lowest layer does.
    pub(super) fn starts_picture(&self) -> bool {
        self.flags & BEGINS != 0 && self.layer == 0
    }

    /// A key frame begins. ffmpeg tells of no picture that it refers to others, so the frame's own
    /// header is asked as well.
    pub(super) fn starts_keyframe(&self) -> bool {
        self.starts_picture() && self.flags & INTER == 0 && codec::is_keyframe(self.data)
    }
}

/// Reads a payload.
pub(super) fn parse(payload: &[u8]) -> Result<Part<'_>, Error> {
    let mut reader = Reader::new(payload);
    let flags = reader.u8()?;
    if flags & HAS_PICTURE_ID != 0 && reader.u8()? & LONG_PICTURE_ID != 0 {
        reader.u8()?;
    }
    let mut layer = 0;
    if flags & HAS_LAYERS != 0 {
        layer = reader.u8()? >> 1 & 7;
        if flags & FLEXIBLE == 0 {
            reader.u8()?;
        }
    }
    if flags & FLEXIBLE != 0 && flags & INTER != 0 {
        let mut references = 1;
        while reader.u8()? & 1 != 0 {
            references += 1;
            if references > REFERENCES_MAX {
                return Err(Error::Malformed);
            }
        }
    }
    if flags & HAS_STRUCTURE != 0 {
        skip_structure(&mut reader)?;
    }
    Ok(Part {
        flags,
        layer,
        data: reader.rest(),
    })
}

/// ```text
/// N_S (3)|Y|G|0 (3)   Y: { width (16) height (16) } for N_S + 1 layers
///                     G: N_G (8)  { TID (3)|U|R (2)|0 (2)  R times P_DIFF (8) } for N_G pictures
/// ```
fn skip_structure(reader: &mut Reader<'_>) -> Result<(), Short> {
    const HAS_SIZES: u8 = 0x10;
    const HAS_GROUP: u8 = 0x08;
    let first = reader.u8()?;
    if first & HAS_SIZES != 0 {
        reader.take((usize::from(first >> 5) + 1) * 4)?;
    }
    if first & HAS_GROUP != 0 {
        for _ in 0..reader.u8()? {
            let references = reader.u8()? >> 2 & 3;
            reader.take(references.into())?;
        }
    }
    Ok(())
}

/// The picture that is being put together.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    /// Where the frame of each spatial layer begins.
    layers: SmallVec<[usize; LAYERS_MAX]>,
    /// The last frame's end was seen.
    ended: bool,
}

impl Assembly {
    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what there is.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a payload.
    pub(super) fn read(&mut self, payload: &[u8]) -> Result<(), Error> {
        let part = parse(payload)?;
        let begins = part.flags & BEGINS != 0;
        if self.layers.is_empty() && !part.starts_picture()
            || !self.layers.is_empty() && begins != self.ended
        {
            return Err(Error::Fragment);
        }
        if begins {
            if self.layers.len() == LAYERS_MAX {
                return Err(Error::Malformed);
            }
            self.layers.push(self.bytes.len());
        }
        self.ended = part.flags & ENDS != 0;
        self.bytes.extend_from_slice(part.data);
        Ok(())
    }

    /// The picture; the frames of several layers as a superframe.
    pub(super) fn take(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if !self.layers.is_empty() && !self.ended {
            self.clear();
            return Err(Error::Fragment);
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        if self.layers.len() > 1 {
            push_index(&self.layers, &mut bytes);
        }
        self.clear();
        Ok((!bytes.is_empty()).then_some(bytes))
    }
}

/// The index at the end of a superframe (VP9 bitstream specification, annex B): a marker with the
/// count of frames, their sizes in four little-endian bytes, the marker again.
fn push_index(starts: &[usize], bytes: &mut Vec<u8>) {
    const MARKER: u8 = 0xc0;
    const SIZES_OF_FOUR: u8 = 3 << 3;
    let marker = MARKER | SIZES_OF_FOUR | (starts.len() - 1) as u8;
    let end = bytes.len();
    bytes.push(marker);
    for (index, start) in starts.iter().enumerate() {
        let next = starts.get(index + 1).copied().unwrap_or(end);
        bytes.extend_from_slice(&((next - start) as u32).to_le_bytes());
    }
    bytes.push(marker);
}
