//! H.264 in RTP (RFC 6184).
//!
//! ```text
//! single unit:  F|NRI|type 1-23   ...
//! STAP-A:       F|NRI|24          { size (16)  unit } ...
//! FU-A:         F|NRI|28   S|E|R|type   a piece of the unit without its header
//! ```

use smallvec::SmallVec;

use super::nal::{self as units, Assembly, Headers, Role};
use super::payloads::Payloads;
use super::{Error, H264Mode};
use crate::base::bytes::Reader;
use crate::media::codec::{h264, nal};
use crate::media::{Codec, Frame, Track};

pub(super) const STAP_A: u8 = 24;
pub(super) const FU_A: u8 = 28;
pub(super) const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;
const TYPE: u8 = 0x1f;
const FORBIDDEN: u8 = 0x80;
const REFERENCE: u8 = 0x60;
const NAL_FILLER: u8 = 12;

/// The profile, constraints and level of a track, as `profile-level-id` has them.
pub fn profile_level_id(track: &Track) -> Option<[u8; 3]> {
    if track.codec != Codec::H264 {
        return None;
    }
    let config = h264::parse_config(&track.init).ok()?;
    Some([config.profile, config.compatibility, config.level])
}

struct H264;

impl Headers for H264 {
    const UNIT: usize = 1;

    fn push_aggregate(units: &[&[u8]], out: &mut Vec<u8>) {
        let (mut forbidden, mut reference) = (0, 0);
        for first in units.iter().filter_map(|unit| unit.first()) {
            forbidden |= first & FORBIDDEN;
            reference = reference.max(first & REFERENCE);
        }
        out.push(forbidden | reference | STAP_A);
    }

    fn push_fragment(unit: &[u8], is_first: bool, is_last: bool, out: &mut Vec<u8>) {
        let start = if is_first { FU_START } else { 0 };
        let end = if is_last { FU_END } else { 0 };
        out.extend_from_slice(&[unit[0] & !TYPE | FU_A, start | end | unit[0] & TYPE]);
    }
}

/// Writes a frame. False if it cannot be written in this mode.
pub(super) fn write(
    track: &Track,
    frame: &Frame,
    mode: H264Mode,
    max: usize,
    payloads: &mut Payloads,
) -> bool {
    let sent: SmallVec<[&[u8]; 16]> = nal::units(&frame.data)
        .map_while(Result::ok)
        .filter(|unit| match h264::nal_type(unit) {
            h264::NAL_AUD | NAL_FILLER => false,
            // 0 and 24 to 31 mean something else in RTP.
            kind => (1..STAP_A).contains(&kind),
        })
        .collect();
    if sent.is_empty() {
        return true;
    }
    let mut all: SmallVec<[&[u8]; 16]> = SmallVec::new();
    let has = |kind| sent.iter().any(|unit| h264::nal_type(unit) == kind);
    if frame.keyframe
        && !(has(h264::NAL_SPS) && has(h264::NAL_PPS))
        && let Ok(config) = h264::parse_config(&track.init)
    {
        let sets = config.sps.into_iter().chain(config.pps);
        all.extend(
            sets.filter(|unit| matches!(h264::nal_type(unit), h264::NAL_SPS | h264::NAL_PPS)),
        );
    }
    all.extend_from_slice(&sent);
    let bytes: usize = all.iter().map(|unit| unit.len() + 3).sum();
    payloads.reserve(bytes + bytes / max.saturating_sub(2).max(1) * 2 + 4);
    match mode {
        H264Mode::NonInterleaved => units::write::<H264>(&all, max, payloads),
        H264Mode::SingleUnit if all.iter().any(|unit| unit.len() > max) => return false,
        H264Mode::SingleUnit => all.iter().for_each(|unit| payloads.push(&[unit])),
    }
    true
}

/// Reads a payload, which is not empty.
pub(super) fn read(payload: &[u8], assembly: &mut Assembly) -> Result<(), Error> {
    let mut reader = Reader::new(payload);
    let first = reader.u8()?;
    match first & TYPE {
        1..STAP_A => assembly.unit(payload, role(payload)),
        STAP_A => assembly.aggregate(&mut reader, role),
        FU_A => {
            let fragment = reader.u8()?;
            if fragment & FU_START != 0 {
                let header = first & !TYPE | fragment & TYPE;
                let next = reader.rest().first().copied().unwrap_or_default();
                assembly.open(&[header], role(&[header, next]))?;
            }
            assembly.piece(reader.rest(), fragment & FU_END != 0)
        }
        other => Err(Error::Structure(other)),
    }
}

fn role(unit: &[u8]) -> Role {
    match h264::nal_type(unit) {
        // first_mb_in_slice is the first number of a slice: a set bit is 0.
        1 | 2 | h264::NAL_IDR if unit.get(1).is_some_and(|byte| byte & 0x80 != 0) => {
            Role::FirstSlice
        }
        1..=h264::NAL_IDR => Role::Slice,
        h264::NAL_AUD | NAL_FILLER => Role::Dropped,
        _ => Role::Other,
    }
}
