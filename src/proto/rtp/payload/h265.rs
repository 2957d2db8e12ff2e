//! H.265 in RTP (RFC 7798).
//!
//! ```text
//! unit header:  F (1)  type (6)  layer (6)  temporal id (3)
//! single unit:  header, type 0-47   ...
//! AP:           header, type 48     { size (16)  unit } ...
//! FU:           header, type 49     S|E|type (6)   a piece of the unit without its header
//! ```

use smallvec::SmallVec;

use super::Error;
use super::nal::{self as units, Assembly, Headers, Role};
use super::payloads::Payloads;
use crate::base::bytes::Reader;
use crate::media::codec::{hevc, nal};
use crate::media::{Frame, Track};

pub(super) const AP: u8 = 48;
pub(super) const FU: u8 = 49;
pub(super) const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;
pub(super) const FU_TYPE: u8 = 0x3f;
const NAL_FILLER: u8 = 38;
/// The type in the first byte of a unit's header.
const TYPE: u8 = 0x7e;

struct H265;

impl Headers for H265 {
    const UNIT: usize = 2;

    /// The layer and the temporal id are the lowest of the units (RFC 7798 section 4.4.2).
    fn push_aggregate(units: &[&[u8]], out: &mut Vec<u8>) {
        let (mut forbidden, mut layer, mut temporal) = (0, 0x3f, 7);
        for unit in units {
            let [a, b] = [unit[0], unit[1]];
            forbidden |= a & 0x80;
            layer = layer.min((a & 1) << 5 | b >> 3);
            temporal = temporal.min(b & 7);
        }
        out.push(forbidden | AP << 1 | layer >> 5);
        out.push(layer << 3 | temporal);
    }

    fn push_fragment(unit: &[u8], is_first: bool, is_last: bool, out: &mut Vec<u8>) {
        let start = if is_first { FU_START } else { 0 };
        let end = if is_last { FU_END } else { 0 };
        out.extend_from_slice(&[
            unit[0] & !TYPE | FU << 1,
            unit[1],
            start | end | hevc::nal_type(unit),
        ]);
    }
}

/// Writes a frame.
pub(super) fn write(track: &Track, frame: &Frame, max: usize, payloads: &mut Payloads) {
    let sent: SmallVec<[&[u8]; 16]> = nal::units(&frame.data)
        .map_while(Result::ok)
        .filter(|unit| match hevc::nal_type(unit) {
            hevc::NAL_AUD | NAL_FILLER => false,
            // 48 and above mean something else in RTP.
            kind => kind < AP && unit.len() >= 2,
        })
        .collect();
    if sent.is_empty() {
        return;
    }
    let mut all: SmallVec<[&[u8]; 16]> = SmallVec::new();
    let has = |kind| sent.iter().any(|unit| hevc::nal_type(unit) == kind);
    if frame.keyframe
        && !(has(hevc::NAL_VPS) && has(hevc::NAL_SPS) && has(hevc::NAL_PPS))
        && let Ok(config) = hevc::parse_config(&track.init)
    {
        let sets = config.vps.into_iter().chain(config.sps).chain(config.pps);
        all.extend(sets.filter(|unit| {
            unit.len() >= 2
                && matches!(
                    hevc::nal_type(unit),
                    hevc::NAL_VPS | hevc::NAL_SPS | hevc::NAL_PPS
                )
        }));
    }
    all.extend_from_slice(&sent);
    let bytes: usize = all.iter().map(|unit| unit.len() + 4).sum();
    payloads.reserve(bytes + bytes / max.saturating_sub(3).max(1) * 3 + 6);
    units::write::<H265>(&all, max, payloads);
}

/// Reads a payload, which is not empty.
pub(super) fn read(payload: &[u8], assembly: &mut Assembly) -> Result<(), Error> {
    let mut reader = Reader::new(payload);
    let [first, second] = reader.array()?;
    match hevc::nal_type(payload) {
        0..AP => assembly.unit(payload, role(payload)),
        AP => assembly.aggregate(&mut reader, role),
        FU => {
            let fragment = reader.u8()?;
            if fragment & FU_START != 0 {
                let header = [first & !TYPE | (fragment & FU_TYPE) << 1, second];
                let next = reader.rest().first().copied().unwrap_or_default();
                assembly.open(&header, role(&[header[0], header[1], next]))?;
            }
            assembly.piece(reader.rest(), fragment & FU_END != 0)
        }
        other => Err(Error::Structure(other)),
    }
}

fn role(unit: &[u8]) -> Role {
    match hevc::nal_type(unit) {
        // first_slice_segment_in_pic_flag is the first bit of a slice.
        0..=31 if unit.get(2).is_some_and(|byte| byte & 0x80 != 0) => Role::FirstSlice,
        0..=31 => Role::Slice,
        hevc::NAL_AUD | NAL_FILLER => Role::Dropped,
        _ => Role::Other,
    }
}
