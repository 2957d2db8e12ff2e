//! Reads segments and parts strictly.

use std::collections::{BTreeMap, VecDeque};

use ringside::media::Kind;
use ringside::proto::mpegts::PACKET_SIZE;

use super::media::{LEVEL_OFFSET, Stamp};
use super::reader::{MAP_PID, Seen, Transport, find, split_box};

/// What is in a segment or a part.
#[derive(Debug, Default)]
pub(crate) struct Reel {
    pub(crate) frames: Vec<Shot>,
    /// Of each PID its first and its last continuity counter.
    pub(crate) counters: BTreeMap<u16, (u8, u8)>,
    /// The first and the last sequence number of a fragment.
    pub(crate) sequence: Option<(u32, u32)>,
}

/// A frame in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shot {
    pub(crate) kind: Kind,
    /// Decoding time, in units that differ between forms and tracks.
    pub(crate) time: u64,
    pub(crate) stamp: Stamp,
}

impl Reel {
    /// A whole segment, or a part of one.
    pub(crate) fn read(bytes: &[u8], is_cmaf: bool, is_segment: bool) -> Result<Self, String> {
        let mut out = Self::default();
        if is_cmaf {
            out.fragments(bytes)?;
        } else {
            out.transport(bytes, is_segment)?;
        }
        for kind in [Kind::Video, Kind::Audio] {
            let of_kind: Vec<&Shot> = out.of(kind).collect();
            for pair in of_kind.windows(2) {
                if pair[1].time <= pair[0].time {
                    return Err(format!("time falls: {pair:?}"));
                }
            }
        }
        Ok(out)
    }

    pub(crate) fn of(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &Shot> {
        self.frames.iter().filter(move |shot| shot.kind == kind)
    }

    fn transport(&mut self, bytes: &[u8], is_segment: bool) -> Result<(), String> {
        let mut seen = VecDeque::new();
        Transport::default().take(bytes, &mut seen)?;
        for what in seen {
            match what {
                Seen::Frame { kind, time, stamp } => self.frames.push(Shot { kind, time, stamp }),
                Seen::Discontinuity => return Err("a transport packet is missing".into()),
                Seen::Config(_) | Seen::Restart => {}
            }
        }
        let pid = |packet: &[u8]| u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
        for packet in bytes.chunks(PACKET_SIZE) {
            if packet[3] & 0x10 != 0 {
                let counter = packet[3] & 0xf;
                let known = self.counters.entry(pid(packet)).or_insert((counter, 0));
                known.1 = counter;
            }
        }
        let first: Vec<u16> = bytes.chunks(PACKET_SIZE).take(2).map(pid).collect();
        if is_segment && first != [0, MAP_PID] {
            return Err(format!("a segment begins with {first:x?} and not the tables"));
        }
        Ok(())
    }

    fn fragments(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (moof, after) = named(rest, b"moof")?;
            let moof_size = rest.len() - after.len();
            let (mdat, after) = named(after, b"mdat")?;
            rest = after;
            let (mfhd, traf) = named(moof, b"mfhd")?;
            let (traf, end) = named(traf, b"traf")?;
            let (tfhd, traf) = named(traf, b"tfhd")?;
            let (tfdt, traf) = named(traf, b"tfdt")?;
            let (trun, last) = named(traf, b"trun")?;
            if !end.is_empty() || !last.is_empty() || tfhd.len() != 8 || tfdt.len() != 12 {
                return Err("a moof is not as it should be".into());
            }
            let sequence = number(mfhd, 4)?;
            let (first, before) = self.sequence.unwrap_or((sequence, sequence - 1));
            if sequence != before + 1 {
                return Err(format!("fragment {sequence} follows {before}"));
            }
            self.sequence = Some((first, sequence));
            let time = u64::from(number(tfdt, 4)?) << 32 | u64::from(number(tfdt, 8)?);
            if number(trun, 8)? as usize != moof_size + 8 {
                return Err("the data is not where the trun says".into());
            }
            self.samples(time, trun, mdat)?;
        }
        Ok(())
    }

    fn samples(&mut self, mut time: u64, trun: &[u8], mdat: &[u8]) -> Result<(), String> {
        const VIDEO: u32 = 0xf00;
        const SYNC: u32 = 0x0200_0000;
        let is_video = number(trun, 0)? & VIDEO == VIDEO;
        let (kind, size) = if is_video {
            (Kind::Video, 16)
        } else {
            (Kind::Audio, 8)
        };
        let count = number(trun, 4)? as usize;
        if trun.len() != 12 + count * size || count == 0 {
            return Err(format!("a trun of {count} samples has {} bytes", trun.len()));
        }
        let mut rest = mdat;
        for sample in trun[12..].chunks(size) {
            let (data, after) = rest
                .split_at_checked(number(sample, 4)? as usize)
                .ok_or("an mdat is too short")?;
            rest = after;
            let stamp = Stamp::find(data)?;
            if is_video && stamp.is_key != (number(sample, 8)? == SYNC) {
                return Err(format!("the sync flag is wrong: {stamp:?}"));
            }
            self.frames.push(Shot { kind, time, stamp });
            time += u64::from(number(sample, 0)?);
        }
        if !rest.is_empty() {
            return Err("an mdat is too long".into());
        }
        Ok(())
    }
}

fn named<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Result<(&'a [u8], &'a [u8]), String> {
    let (found, split) = split_box(bytes)?;
    if found == *name {
        Ok(split)
    } else {
        Err(format!("{found:?} where {name:?} is expected"))
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, String> {
    let bytes = bytes.get(at..at + 4).ok_or("a box is cut short")?;
    Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The version in the avcC of an initialisation segment; `None` if that is of sound.
pub(crate) fn version(init: &[u8]) -> Result<Option<u8>, String> {
    let (_, rest) = named(init, b"ftyp")?;
    let (moov, rest) = named(rest, b"moov")?;
    if !rest.is_empty() {
        return Err("something follows the moov".into());
    }
    let at = find(moov, b"avcC").map(|at| at + 4 + LEVEL_OFFSET);
    Ok(at.and_then(|at| moov.get(at).copied()))
}
