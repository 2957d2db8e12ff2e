//! What is known of all segments, from whatever player asked for them on whatever shard: they must
//! agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringside::media::Kind;

use super::audience::Scene;
use super::playlist::{Listed, ListedPart, Media};
use super::segment::{Reel, version};

/// A stream, whether its segments are fragmented MP4, and the name of a rendition.
pub(crate) type Key = (usize, bool, String);

/// A rendition that nobody has asked for in this time may be made anew.
const REMADE_AFTER: Duration = Duration::from_secs(55);

/// The newest whole segment stays for this time at least, though media may come in bursts.
const STAYS: Duration = Duration::from_secs(1);

/// The longest segment, in ticks of 90 kHz, less a frame.
const LONG_TICKS: u64 = 90_000 * 119 / 10;

/// No stream of the world keeps more, in microseconds, and a playlist has few segments beyond that.
const WINDOW: u64 = 15_000_000;
const SEGMENTS_MIN: usize = 5;

/// No part is longer, in microseconds: a third of a second, and what times are rounded by. Where frames
/// are lost on their way, two in a row may be further apart than that.
const PART_MAX: u64 = 340_000;

/// Except where the first two frames that a rendition is made of are apart by a pause, which nothing
/// before them shows to be one. Longer ones are known to be pauses. It is seldom, and counted.
const FIRST_PAUSE_MAX: u64 = 1_000_000;

#[derive(Default)]
pub(crate) struct Shelf {
    renditions: BTreeMap<Key, Rendition>,
    /// How many discontinuities there were up to a segment of a stream.
    discontinuities: BTreeMap<(usize, u64), u64>,
    /// Segments whose frames were looked at, and those that were the same as their parts.
    pub(crate) read: u64,
    pub(crate) compared: u64,
    pub(crate) gaps: u64,
    /// Renditions that began with a pause.
    pub(crate) long_parted: BTreeSet<Key>,
}

#[derive(Default)]
struct Rendition {
    asked: Duration,
    volumes: BTreeMap<u64, Volume>,
    /// By the stream's number and the name.
    inits: BTreeMap<(u64, String), Vec<u8>>,
    shards: BTreeMap<usize, Shown>,
}

/// What a shard has said last.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    msn: u64,
    /// The first segment that is not complete.
    open: u64,
    life: Option<u64>,
    at: Duration,
}

/// A segment.
#[derive(Default)]
struct Volume {
    life: Option<u64>,
    listed: Option<Listed>,
    parts_listed: BTreeMap<usize, ListedPart>,
    part_count: Option<usize>,
    whole: Option<Vec<u8>>,
    parts: BTreeMap<usize, Vec<u8>>,
    parts_read: BTreeSet<usize>,
    spans: Vec<(usize, usize, Vec<u8>)>,
    reel: Option<Reel>,
    /// Its parts were held against the whole.
    is_compared: bool,
}

/// Bytes that were asked for.
pub(crate) enum Got<'a> {
    Whole(&'a [u8]),
    /// From this byte on, of so many.
    Span(usize, usize, &'a [u8]),
}

impl Shelf {
    /// Somebody asks for it: from here on it is made.
    pub(crate) fn ask(&mut self, key: &Key, now: Duration) {
        let rendition = self.renditions.entry(key.clone()).or_default();
        if now > rendition.asked + REMADE_AFTER {
            *rendition = Rendition::default();
        }
        rendition.asked = now;
    }

    /// All renditions were let go.
    pub(crate) fn forget(&mut self) {
        self.renditions.clear();
    }

    /// A shard has said that it has this segment, and has it for a while.
    pub(crate) fn is_offered(&self, scene: Scene, key: &Key, number: u64) -> bool {
        let Some(rendition) = self.renditions.get(key) else {
            return false;
        };
        let is_gap = rendition
            .volumes
            .get(&number)
            .and_then(|volume| volume.listed.as_ref())
            .is_none_or(|listed| listed.is_gap);
        rendition
            .shards
            .get(&scene.shard)
            .filter(|shown| shown.life == scene.life && scene.now < shown.at + STAYS)
            .filter(|_| !scene.is_closed && !is_gap)
            .is_some_and(|shown| number < shown.open && number + 1 >= shown.open)
    }

    /// A playlist.
    pub(crate) fn listing(
        &mut self,
        scene: Scene,
        key: &Key,
        media: &Media,
        is_clip: bool,
    ) -> Result<(), String> {
        let rendition = self.renditions.entry(key.clone()).or_default();
        let open = media
            .segments
            .iter()
            .filter(|segment| segment.is_complete)
            .map(|segment| segment.number + 1)
            .next_back()
            .unwrap_or(media.msn + media.skipped);
        if !is_clip {
            let shown = rendition.shards.entry(scene.shard).or_default();
            if media.msn < shown.msn || open < shown.open {
                return Err(format!("numbers fall: {shown:?}, {media:?}"));
            }
            *shown = Shown {
                msn: media.msn,
                open,
                life: scene.life,
                at: scene.now,
            };
        }
        let kept = media.segments.iter().skip(1);
        let kept: u64 = kept.map(|segment| segment.micros).sum();
        // Three of the longest segments stay.
        let most = WINDOW.max(3_000_000 * media.target_s + 1_500_000);
        if kept > most && media.segments.len() > SEGMENTS_MIN {
            return Err(format!("{kept} us are kept: {media:?}"));
        }
        let mut discontinuity = Some(media.discontinuity);
        for number in media.msn..media.msn + media.skipped {
            let listed = rendition.volumes.get(&number);
            let listed = listed.and_then(|volume| volume.listed.as_ref());
            discontinuity = discontinuity
                .zip(listed)
                .map(|(count, listed)| count + u64::from(listed.is_discontinuity));
        }
        for segment in &media.segments {
            discontinuity = discontinuity.map(|count| count + u64::from(segment.is_discontinuity));
            if let Some(count) = discontinuity {
                let at = (key.0, segment.number);
                let known = *self.discontinuities.entry(at).or_insert(count);
                if known != count {
                    let number = segment.number;
                    return Err(format!(
                        "discontinuity {count} at {number} was {known}: {media:?}"
                    ));
                }
            }
            if segment.micros > media.target_s * 1_000_000 + 500_000 {
                return Err(format!("longer than the target: {segment:?}"));
            }
            let part_target = media.part_target.unwrap_or(0);
            if part_target > PART_MAX && !scene.may_gap {
                self.long_parted.insert(key.clone());
            }
            if part_target > FIRST_PAUSE_MAX && !scene.may_gap {
                return Err(format!("parts of {part_target} us"));
            }
            for part in &segment.parts {
                if part.micros > part_target || part.micros == 0 {
                    return Err(format!("{part:?} with a target of {part_target}"));
                }
            }
            // Behind what a delta update leaves out, the map of that goes on.
            let mut segment = segment.clone();
            if key.1 && segment.map.is_none() {
                let before = rendition.volumes.get(&(segment.number - 1));
                let before = before.and_then(|volume| volume.listed.as_ref());
                match before {
                    Some(before) if media.skipped > 0 => segment.map.clone_from(&before.map),
                    None if media.skipped > 0 => continue,
                    Some(_) | None => return Err(format!("no map: {segment:?}")),
                }
            }
            let volume = rendition.volumes.entry(segment.number).or_default();
            self.gaps += u64::from(segment.is_gap && volume.listed.is_none());
            volume.list(&segment, scene.life)?;
        }
        for segment in &media.segments {
            self.audit(key, segment.number, scene.may_gap)?;
        }
        Ok(())
    }

    /// An initialisation segment.
    pub(crate) fn init(
        &mut self,
        life: Option<u64>,
        key: &Key,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), String> {
        version(bytes)?;
        let Some(life) = life else {
            return Ok(());
        };
        let rendition = self.renditions.entry(key.clone()).or_default();
        let known = rendition.inits.entry((life, name.to_owned()));
        if known.or_insert_with(|| bytes.to_vec()) != bytes {
            return Err(format!("{name} is another one"));
        }
        Ok(())
    }

    /// Bytes of a segment or a part.
    pub(crate) fn bytes(
        &mut self,
        key: &Key,
        (number, part): (u64, Option<usize>),
        got: &Got<'_>,
        may_gap: bool,
    ) -> Result<(), String> {
        let rendition = self.renditions.entry(key.clone()).or_default();
        let volume = rendition.volumes.entry(number).or_default();
        if volume.listed.as_ref().is_some_and(|listed| listed.is_gap) {
            return Err(format!("{number} is a gap and has bytes"));
        }
        match (got, part) {
            (Got::Whole([]), _) => return Err(format!("nothing in {number} {part:?}")),
            (Got::Whole(bytes), None) => {
                let known = volume.whole.get_or_insert_with(|| bytes.to_vec());
                same(known, bytes).map_err(|error| format!("{number}: {error}"))?;
            }
            (Got::Whole(bytes), Some(part)) => {
                let known = volume.parts.entry(part).or_insert_with(|| bytes.to_vec());
                same(known, bytes).map_err(|error| format!("{number}.{part}: {error}"))?;
            }
            (Got::Span(from, length, bytes), None) => {
                volume.spans.push((*from, *length, bytes.to_vec()));
            }
            (Got::Span(from, length, bytes), Some(part)) => {
                if let Some(known) = volume.parts.get(&part) {
                    span(known, *from, *length, bytes)?;
                }
            }
        }
        self.audit(key, number, may_gap)
    }

    /// Holds what is known of a segment against itself and its neighbours.
    fn audit(&mut self, key: &Key, number: u64, may_gap: bool) -> Result<(), String> {
        let Some(rendition) = self.renditions.get_mut(key) else {
            return Ok(());
        };
        let Some(volume) = rendition.volumes.get_mut(&number) else {
            return Ok(());
        };
        let error = |text: String| format!("{key:?} {number}: {text}");
        self.compared += u64::from(volume.compare().map_err(error)?);
        let is_new = volume.reel.is_none() && volume.whole.is_some();
        if is_new && let Some(whole) = &volume.whole {
            let reel = Reel::read(whole, key.1, true).map_err(error)?;
            volume.reel = Some(reel);
            self.read += 1;
        }
        let Some(reel) = &volume.reel else {
            return Ok(());
        };
        if let (Some(life), Some(map)) = (
            volume.life,
            volume.listed.as_ref().and_then(|l| l.map.clone()),
        ) && let Some(init) = rendition.inits.get(&(life, map))
            && let Some(version) = version(init)?
            && let Some(shot) = reel.of(Kind::Video).find(|s| s.stamp.version != version)
        {
            return Err(error(format!(
                "the decoder is set up for {version}: {shot:?}"
            )));
        }
        if !is_new {
            return Ok(());
        }
        for shot in &reel.frames {
            if usize::from(shot.stamp.stream) != key.0 {
                return Err(error(format!("a frame of another stream: {shot:?}")));
            }
        }
        for kind in [Kind::Video, Kind::Audio] {
            let shots: Vec<_> = reel.of(kind).collect();
            for pair in shots.windows(2) {
                follows(pair[0].stamp, pair[1].stamp, may_gap).map_err(error)?;
            }
        }
        for first in [number - 1, number] {
            let (before, after) = (
                rendition.volumes.get(&first),
                rendition.volumes.get(&(first + 1)),
            );
            if let (Some(before), Some(after)) = (before, after) {
                join(before, after, key.1, may_gap).map_err(error)?;
            }
        }
        Ok(())
    }
}

impl Volume {
    fn list(&mut self, segment: &Listed, life: Option<u64>) -> Result<(), String> {
        self.life = self.life.or(life);
        for (index, part) in segment.parts.iter().enumerate() {
            let known = self.parts_listed.entry(index);
            let known = known.or_insert_with(|| part.clone());
            if known != part {
                return Err(format!("part {index} was {known:?}: {segment:?}"));
            }
        }
        if !segment.is_complete {
            return Ok(());
        }
        if !segment.parts.is_empty() {
            let count = *self.part_count.get_or_insert(segment.parts.len());
            if count != segment.parts.len() || self.parts_listed.len() != count {
                return Err(format!("there were {count} parts: {segment:?}"));
            }
        }
        let segment = Listed {
            parts: Vec::new(),
            ..segment.clone()
        };
        let known = self.listed.get_or_insert_with(|| segment.clone());
        if *known != segment {
            return Err(format!("it was {known:?}: {segment:?}"));
        }
        Ok(())
    }

    /// Whether it could be seen that its parts are the whole.
    fn compare(&mut self) -> Result<bool, String> {
        for (part, bytes) in &self.parts {
            let Some(listed) = self.parts_listed.get(part) else {
                continue;
            };
            if !self.parts_read.insert(*part) {
                continue;
            }
            let is_cmaf = bytes[0] != 0x47;
            let reel = Reel::read(bytes, is_cmaf, false)?;
            let has_key = reel.of(Kind::Video).any(|shot| shot.stamp.is_key);
            let has_video = reel.of(Kind::Video).next().is_some();
            if has_video && has_key != listed.is_independent {
                return Err(format!("part {part} is {listed:?}, keyframe: {has_key}"));
            }
        }
        let Some(whole) = &self.whole else {
            return Ok(false);
        };
        for (from, length, bytes) in self.spans.drain(..) {
            span(whole, from, length, &bytes)?;
        }
        if self.is_compared || self.part_count != Some(self.parts.len()) {
            return Ok(false);
        }
        let parts: Vec<u8> = self.parts.values().flatten().copied().collect();
        same(whole, &parts).map_err(|error| format!("its parts are not the whole: {error}"))?;
        self.is_compared = true;
        Ok(true)
    }
}

fn span(whole: &[u8], from: usize, length: usize, bytes: &[u8]) -> Result<(), String> {
    if whole.len() != length || whole.get(from..from + bytes.len()) != Some(bytes) {
        return Err(format!("another range from {from}, of {length}"));
    }
    Ok(())
}

fn same(known: &[u8], bytes: &[u8]) -> Result<(), String> {
    if known == bytes {
        return Ok(());
    }
    let at = known.iter().zip(bytes).position(|(a, b)| a != b);
    Err(format!(
        "{} bytes are not the {} of before from {at:?} on",
        bytes.len(),
        known.len()
    ))
}

fn follows(
    before: super::media::Stamp,
    stamp: super::media::Stamp,
    may_gap: bool,
) -> Result<(), String> {
    if before.publisher != stamp.publisher {
        return Ok(());
    }
    let is_next = stamp.number == before.number + 1;
    if is_next || may_gap && stamp.number > before.number {
        return Ok(());
    }
    Err(format!("{stamp:?} follows {before:?}"))
}

/// What one segment leaves off the next goes on with.
fn join(before: &Volume, after: &Volume, is_cmaf: bool, may_gap: bool) -> Result<(), String> {
    let (Some(first), Some(second)) = (&before.reel, &after.reel) else {
        return Ok(());
    };
    if before.life != after.life || before.life.is_none() {
        return Ok(());
    }
    let map = |volume: &Volume| volume.listed.as_ref().and_then(|listed| listed.map.clone());
    for kind in [Kind::Video, Kind::Audio] {
        let (Some(last), Some(next)) = (first.of(kind).next_back(), second.of(kind).next()) else {
            continue;
        };
        follows(last.stamp, next.stamp, may_gap)?;
        if next.time <= last.time && map(before) == map(after) {
            return Err(format!("time falls: {last:?} {next:?}"));
        }
    }
    for (pid, (_, last)) in &first.counters {
        if let Some((next, _)) = second.counters.get(pid)
            && *next != (last + 1) & 0xf
        {
            return Err(format!("{pid:#x} goes on with {next} after {last}"));
        }
    }
    if let (Some((_, last)), Some((next, _))) = (first.sequence, second.sequence)
        && next != last + 1
    {
        return Err(format!("fragment {next} follows {last}"));
    }
    let main = if first.of(Kind::Video).next().is_some() {
        Kind::Video
    } else {
        return Ok(());
    };
    let (Some(begin), Some(last), Some(next)) = (
        first.of(main).next(),
        first.of(main).next_back(),
        second.of(main).next(),
    ) else {
        return Ok(());
    };
    let ticks = next.time - begin.time;
    if !next.stamp.is_key && ticks < LONG_TICKS && !may_gap {
        return Err(format!("it begins with {next:?} after {ticks} ticks"));
    }
    if let Some(listed) = &before.listed {
        let is_paused = next.time - last.time > 85_000;
        let slack = if is_cmaf { 120_000 } else { 20_000 };
        let fits = |begin: u64, end: u64| {
            let micros = end.saturating_sub(begin) * 1000 / 90;
            micros + slack >= listed.micros && (is_paused || listed.micros + slack >= micros)
        };
        // Where the pictures pause, a segment may begin with sound.
        let sound = |reel: &Reel| reel.of(Kind::Audio).next().map(|shot| shot.time);
        let begins = [Some(begin.time), sound(first)];
        let ends = [Some(next.time), sound(second)];
        let any = |begin: u64| ends.iter().flatten().any(|end| fits(begin, *end));
        if !begins.iter().flatten().any(|begin| any(*begin)) {
            return Err(format!(
                "it lasts {ticks} ticks and is listed as {listed:?}"
            ));
        }
    }
    Ok(())
}
