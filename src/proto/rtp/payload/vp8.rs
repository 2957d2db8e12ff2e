//! VP8 in RTP (RFC 7741 section 4.2).
//!
//! ```text
//! X|R|N|S|R|partition (3)   [I|L|T|K|0 (4)]  [picture id (8 or 16)]  [TL0PICIDX (8)]  [TID|Y|KEYIDX (8)]
//! ```

use super::Error;
use super::packetizer::PictureId;
use super::payloads::{Payloads, even};
use crate::base::bytes::{Reader, Short};

const EXTENDED: u8 = 0x80;
const START: u8 = 0x10;
const PARTITION: u8 = 0x07;
const HAS_PICTURE_ID: u8 = 0x80;
const HAS_TL0PICIDX: u8 = 0x40;
const HAS_TID_OR_KEYIDX: u8 = 0x30;
const LONG_PICTURE_ID: u8 = 0x80;
const DESCRIPTOR_BYTES: usize = 4;

/// Writes a frame.
pub(super) fn write(frame: &[u8], picture: &mut PictureId, max: usize, payloads: &mut Payloads) {
    if frame.is_empty() {
        return;
    }
    let [high, low] = picture.next();
    let piece_bytes = even(frame.len(), max - DESCRIPTOR_BYTES);
    payloads.reserve(frame.len() + frame.len().div_ceil(piece_bytes) * DESCRIPTOR_BYTES);
    for (index, piece) in frame.chunks(piece_bytes).enumerate() {
        let start = if index == 0 { START } else { 0 };
        payloads.push(&[&[EXTENDED | start, HAS_PICTURE_ID, high, low], piece]);
    }
}

/// A payload without its descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    /// The frame begins here.
    pub(super) starts_frame: bool,
    /// What belongs to the frame.
    pub(super) data: &'a [u8],
}

impl Part<'_> {
    /// True if a key frame begins here: the inverse of its first bit (RFC 7741 section 4.3).
    pub(super) fn starts_keyframe(&self) -> bool {
        self.starts_frame && self.data.first().is_some_and(|byte| byte & 1 == 0)
    }
}

/// Reads a payload.
pub(super) fn parse(payload: &[u8]) -> Result<Part<'_>, Short> {
    let mut reader = Reader::new(payload);
    let first = reader.u8()?;
    if first & EXTENDED != 0 {
        let extension = reader.u8()?;
        if extension & HAS_PICTURE_ID != 0 && reader.u8()? & LONG_PICTURE_ID != 0 {
            reader.u8()?;
        }
        if extension & HAS_TL0PICIDX != 0 {
            reader.u8()?;
        }
        if extension & HAS_TID_OR_KEYIDX != 0 {
            reader.u8()?;
        }
    }
    Ok(Part {
        starts_frame: first & START != 0 && first & PARTITION == 0,
        data: reader.rest(),
    })
}

/// Takes a payload into the frame that is being put together.
pub(super) fn read(payload: &[u8], frame: &mut Vec<u8>) -> Result<(), Error> {
    let part = parse(payload)?;
    if part.starts_frame != frame.is_empty() {
        return Err(Error::Fragment);
    }
    frame.extend_from_slice(part.data);
    Ok(())
}
