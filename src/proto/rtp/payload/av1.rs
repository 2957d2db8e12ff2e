//! AV1 in RTP ("RTP Payload Format For AV1", version 1.0, section 4).
//!
//! ```text
//! Z|Y|W (2)|N|0 (3)   { [size (leb128)]  OBU element } ...
//! ```
//!
//! Z: the first element goes on with an OBU of the packet before. Y: the last goes on in the next
//! packet. W: how many elements, the last of which has no size; 0 if all have one. N: a coded video
//! sequence begins. An element is an OBU without its size field, or a piece of one.

use smallvec::SmallVec;

use super::Error;
use super::payloads::{Payloads, even};
use crate::base::bytes::Reader;
use crate::media::codec::av1;
use crate::media::{Frame, Track};

const CONTINUES: u8 = 0x80;
const GOES_ON: u8 = 0x40;
const COUNT_SHIFT: u8 = 4;
const COUNT_MAX: usize = 3;
const NEW_SEQUENCE: u8 = 0x08;
/// In an OBU's header.
const EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
const FORBIDDEN: u8 = 0x80;
const OBU_TILE_LIST: u8 = 8;
const OBU_PADDING: u8 = 15;
const AV1C_HEADER_BYTES: usize = 4;
/// A size in a payload of at most 16 383 bytes; larger ones only cost a smaller element.
const SIZE_BYTES: usize = 2;

/// Whether an OBU travels (section 5): delimiters and tile lists do not.
fn travels(kind: u8) -> bool {
    !matches!(
        kind,
        av1::OBU_TEMPORAL_DELIMITER | OBU_TILE_LIST | OBU_PADDING
    )
}

/// An OBU without its size field, of which the first bytes are rewritten.
struct Unit<'a> {
    head: SmallVec<[u8; 2]>,
    payload: &'a [u8],
}

impl<'a> Unit<'a> {
    fn new(obu: &av1::Obu<'a>) -> Self {
        let first = obu.whole[0];
        let mut head = SmallVec::from_slice(&[first & !HAS_SIZE]);
        if first & EXTENSION != 0 {
            head.extend(obu.whole.get(1).copied());
        }
        Self {
            head,
            payload: obu.payload,
        }
    }

    fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    fn push_range(&self, from: usize, to: usize, out: &mut Vec<u8>) {
        let head = self.head.len();
        out.extend_from_slice(&self.head[from.min(head)..to.min(head)]);
        out.extend_from_slice(&self.payload[from.max(head) - head..to.max(head) - head]);
    }
}

/// A part of a unit that goes into a packet.
struct Element<'u, 'a> {
    unit: &'u Unit<'a>,
    from: usize,
    to: usize,
}

/// Writes a temporal unit.
pub(super) fn write(track: &Track, frame: &Frame, max: usize, payloads: &mut Payloads) {
    let mut units: SmallVec<[Unit<'_>; 8]> = SmallVec::new();
    let mut has_sequence = false;
    for obu in av1::obus(&frame.data).map_while(Result::ok) {
        has_sequence |= obu.kind == av1::OBU_SEQUENCE_HEADER;
        if travels(obu.kind) {
            units.push(Unit::new(&obu));
        }
    }
    if units.is_empty() {
        return;
    }
    if frame.keyframe && !has_sequence {
        let sequence = track.init.get(AV1C_HEADER_BYTES..).unwrap_or_default();
        let mut found = av1::obus(sequence)
            .map_while(Result::ok)
            .filter(|obu| obu.kind == av1::OBU_SEQUENCE_HEADER);
        if let Some(obu) = found.next() {
            units.insert(0, Unit::new(&obu));
            has_sequence = true;
        }
    }
    let total: usize = units.iter().map(|unit| unit.len() + SIZE_BYTES).sum();
    // What an element that is cut costs more.
    let room = (even(total, max - 1 - SIZE_BYTES) + SIZE_BYTES).min(max - 1);
    payloads.reserve(total + (total / (room - SIZE_BYTES) + 1) * (1 + SIZE_BYTES));
    let starts_sequence = frame.keyframe && has_sequence;
    write_units(&units, room, starts_sequence, payloads);
}

fn write_units(units: &[Unit<'_>], room: usize, starts_sequence: bool, payloads: &mut Payloads) {
    let new_sequence = if starts_sequence { NEW_SEQUENCE } else { 0 };
    let mut elements: SmallVec<[Element<'_, '_>; 8]> = SmallVec::new();
    let (mut left, mut flags) = (room, new_sequence);
    for unit in units {
        let mut from = 0;
        while from < unit.len() {
            if left <= SIZE_BYTES {
                let goes_on = if from > 0 { GOES_ON } else { 0 };
                write_packet(flags | goes_on, &elements, payloads);
                elements.clear();
                flags = if from > 0 { CONTINUES } else { 0 };
                left = room;
            }
            let to = unit.len().min(from + left - SIZE_BYTES);
            elements.push(Element { unit, from, to });
            left -= SIZE_BYTES + to - from;
            from = to;
        }
    }
    write_packet(flags, &elements, payloads);
}

fn write_packet(flags: u8, elements: &[Element<'_, '_>], payloads: &mut Payloads) {
    let count = elements.len();
    let counted = if count <= COUNT_MAX { count as u8 } else { 0 };
    let out = &mut payloads.bytes;
    out.push(flags | counted << COUNT_SHIFT);
    for (index, element) in elements.iter().enumerate() {
        if counted == 0 || index + 1 < count {
            av1::push_leb128(element.to - element.from, out);
        }
        element.unit.push_range(element.from, element.to, out);
    }
    payloads.end();
}

/// True if a coded video sequence begins with this payload.
pub(super) fn starts_sequence(payload: &[u8]) -> bool {
    payload
        .first()
        .is_some_and(|first| first & (NEW_SEQUENCE | CONTINUES) == NEW_SEQUENCE)
}

/// True if an OBU begins with this payload.
pub(super) fn starts_unit(payload: &[u8]) -> bool {
    payload.first().is_some_and(|first| first & CONTINUES == 0)
}

/// The temporal unit that is being put together, in canonical form.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    /// An OBU whose end is missing, without its size.
    piece: Vec<u8>,
    is_open: bool,
}

impl Assembly {
    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.piece.len()
    }

    /// Forgets what there is.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.piece.clear();
        self.is_open = false;
    }

    /// Takes a payload.
    pub(super) fn read(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut reader = Reader::new(payload);
        let first = reader.u8()?;
        let count = usize::from(first >> COUNT_SHIFT & 3);
        let mut continues = first & CONTINUES != 0;
        if continues != self.is_open {
            return Err(Error::Fragment);
        }
        let mut index = 0;
        while !reader.is_empty() {
            index += 1;
            let size = if index == count {
                reader.remaining()
            } else {
                av1::read_leb128(&mut reader).map_err(|_| Error::Malformed)?
            };
            let element = reader.take(size)?;
            let goes_on = reader.is_empty() && first & GOES_ON != 0;
            self.element(element, continues, goes_on)?;
            continues = false;
        }
        // An empty element may be missing, but not one that was counted.
        if index < count {
            return Err(Error::Short);
        }
        Ok(())
    }

    fn element(&mut self, element: &[u8], continues: bool, goes_on: bool) -> Result<(), Error> {
        self.is_open = goes_on;
        if !continues && !goes_on {
            return push_unit(element, &mut self.bytes);
        }
        if !continues {
            self.piece.clear();
        }
        self.piece.extend_from_slice(element);
        if !goes_on {
            push_unit(&self.piece, &mut self.bytes)?;
            self.piece.clear();
        }
        Ok(())
    }

    /// The temporal unit.
    pub(super) fn take(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.is_open {
            self.clear();
            return Err(Error::Fragment);
        }
        let bytes = std::mem::take(&mut self.bytes);
        Ok((!bytes.is_empty()).then_some(bytes))
    }
}

/// Appends an OBU that came without a size field, or against the rule with one.
fn push_unit(unit: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    if unit.is_empty() {
        return Ok(());
    }
    let obu = av1::obus(unit)
        .next()
        .and_then(Result::ok)
        .ok_or(Error::Malformed)?;
    if !travels(obu.kind) {
        return Ok(());
    }
    let first = unit[0];
    if first & FORBIDDEN != 0 {
        return Err(Error::Malformed);
    }
    out.push(first | HAS_SIZE);
    if first & EXTENSION != 0 {
        out.push(unit[1]);
    }
    av1::push_leb128(obu.payload.len(), out);
    out.extend_from_slice(obu.payload);
    Ok(())
}
