//! What the payload formats of H.264 and H.265 have in common: units that share a packet, units
//! that are cut, and the access unit that grows out of both.

use super::Error;
use super::payloads::{Payloads, even};
use crate::base::bytes::Reader;
use crate::media::codec::nal;

/// The headers of one of the two payload formats.
pub(super) trait Headers {
    /// Bytes of a NAL unit's header, and of the payload header of an aggregation packet.
    const UNIT: usize;
    /// Appends the payload header of a packet with these units, at least two.
    fn push_aggregate(units: &[&[u8]], out: &mut Vec<u8>);
    /// Appends the payload header and the fragmentation header of a piece of `unit`.
    fn push_fragment(unit: &[u8], is_first: bool, is_last: bool, out: &mut Vec<u8>);
}

/// Bytes of a unit's size in an aggregation packet.
const SIZE_BYTES: usize = 2;

/// Writes units in as few packets as their order allows: neighbours that fit share one, those that
/// do not are cut evenly. Each unit has its header and at least one byte more, or fits.
pub(super) fn write<H: Headers>(units: &[&[u8]], max: usize, payloads: &mut Payloads) {
    let (mut from, mut bytes) = (0, H::UNIT);
    for (index, unit) in units.iter().enumerate() {
        let more = SIZE_BYTES + unit.len();
        if bytes + more > max {
            write_group::<H>(&units[from..index], max, payloads);
            (from, bytes) = (index, H::UNIT);
        }
        bytes += more;
    }
    write_group::<H>(&units[from..], max, payloads);
}

fn write_group<H: Headers>(group: &[&[u8]], max: usize, payloads: &mut Payloads) {
    match group {
        [] => {}
        [unit] if unit.len() <= max => payloads.push(&[unit]),
        [unit] => write_fragments::<H>(unit, max, payloads),
        units => {
            H::push_aggregate(units, &mut payloads.bytes);
            for unit in units {
                let size = u16::try_from(unit.len()).expect("a unit that shares a packet fits it");
                payloads.bytes.extend_from_slice(&size.to_be_bytes());
                payloads.bytes.extend_from_slice(unit);
            }
            payloads.end();
        }
    }
}

fn write_fragments<H: Headers>(unit: &[u8], max: usize, payloads: &mut Payloads) {
    let content = &unit[H::UNIT..];
    let piece_bytes = even(content.len(), max - H::UNIT - 1);
    let last = content.len().div_ceil(piece_bytes) - 1;
    for (index, piece) in content.chunks(piece_bytes).enumerate() {
        H::push_fragment(unit, index == 0, index == last, &mut payloads.bytes);
        payloads.push(&[piece]);
    }
}

/// The access unit that is being put together, in canonical form.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    /// Where the length of the unit stands that is being put together from pieces.
    open: Option<usize>,
    has_slice: bool,
    capacity: usize,
}

/// What a unit is to its access unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// The first slice of a picture.
    FirstSlice,
    /// Another slice.
    Slice,
    /// Parameter sets, supplemental information.
    Other,
    /// Not worth keeping: delimiters and filler.
    Dropped,
}

impl Assembly {
    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what there is.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.open = None;
        self.has_slice = false;
    }

    /// Takes a whole unit.
    pub(super) fn unit(&mut self, unit: &[u8], role: Role) -> Result<(), Error> {
        if self.open.is_some() {
            return Err(Error::Fragment);
        }
        self.note(role)?;
        if role != Role::Dropped && !unit.is_empty() {
            self.reserve();
            nal::push_unit(unit, &mut self.bytes);
        }
        Ok(())
    }

    /// Takes the units of an aggregation packet.
    pub(super) fn aggregate(
        &mut self,
        reader: &mut Reader<'_>,
        role: impl Fn(&[u8]) -> Role,
    ) -> Result<(), Error> {
        // Padding inside the payload would be a size of 0; what cannot be a size is an error.
        while !reader.is_empty() {
            let size = reader.u16()?;
            let unit = reader.take(size.into())?;
            self.unit(unit, role(unit))?;
        }
        Ok(())
    }

    /// Begins a unit of pieces with its header.
    pub(super) fn open(&mut self, header: &[u8], role: Role) -> Result<(), Error> {
        if self.open.is_some() {
            return Err(Error::Fragment);
        }
        self.note(role)?;
        self.reserve();
        self.open = Some(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header);
        Ok(())
    }

    /// Takes a piece of the open unit.
    pub(super) fn piece(&mut self, piece: &[u8], is_last: bool) -> Result<(), Error> {
        let at = self.open.ok_or(Error::Fragment)?;
        self.bytes.extend_from_slice(piece);
        if is_last {
            let length = (self.bytes.len() - at - 4) as u32;
            self.bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
            self.open = None;
        }
        Ok(())
    }

    /// The access unit. Without a slice there is none, and what there is waits for the next: some
    /// senders give parameter sets a marker or a time of their own.
    pub(super) fn take(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.open.is_some() {
            self.clear();
            return Err(Error::Fragment);
        }
        if !self.has_slice {
            return Ok(None);
        }
        self.has_slice = false;
        self.capacity = self.bytes.len();
        Ok(Some(std::mem::take(&mut self.bytes)))
    }

    /// A picture whose first slice is missing is damaged even if no gap was seen.
    fn note(&mut self, role: Role) -> Result<(), Error> {
        match role {
            Role::Slice if !self.has_slice => return Err(Error::Fragment),
            Role::FirstSlice | Role::Slice => self.has_slice = true,
            Role::Other | Role::Dropped => {}
        }
        Ok(())
    }

    /// The next picture is often about as large as the one before it.
    fn reserve(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(self.capacity);
        }
    }
}
