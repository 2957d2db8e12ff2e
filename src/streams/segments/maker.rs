//! Makes the segments and parts of one rendition from frames, once for all viewers.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::ids::TrackId;
use crate::hub::Pieces;
use crate::media::buffer::Pool;
use crate::media::{Frame, Kind, MediaTime, Track, codec};
use crate::proto::{cmaf, mpegts};
use crate::streams::segments::cutter::{Cut, EARLY, SEGMENT_MIN};
use crate::streams::segments::listing::{Opening, Part, Update};
use crate::streams::segments::store::Store;
use crate::streams::segments::{Form, Key};

/// How much a part may be longer than its length, so that times that were rounded to milliseconds
/// on their way do not cut it one frame short.
pub(super) const PART_SLACK: Duration = Duration::from_millis(3);

/// How much sound is gathered into one fragment. Each has a head of 100 bytes, and a frame of
/// sound 200 to 400.
const FRAGMENT_OF_SOUND: Duration = Duration::from_millis(100);

/// Frames of sound that wait for a picture, about a third of a second. After so many without one the
/// pictures pause, and what goes on is parted by itself.
const HELD_MAX: usize = 16;

/// Frames of another configuration that wait for their discontinuity: sound of 5 s.
const CHANGED_MAX: usize = 256;

/// How long a track waits for a keyframe of its own when a segment begins with one of another: it
/// has begun before the next one does.
const KEYFRAME_WAIT: Duration = Duration::from_millis(900);
const _: () = assert!(KEYFRAME_WAIT.as_millis() < SEGMENT_MIN.as_millis() - EARLY.as_millis());

/// Frames by which it is told how long one lasts.
const DISTANCES: usize = 4;

/// How long a video frame lasts as long as none has followed one.
const DISTANCE_DEFAULT: Duration = Duration::from_millis(33);

/// Makes one rendition.
#[derive(Debug)]
pub(in crate::streams) struct Maker {
    muxer: Muxer,
    /// The track that parts are measured by: the first video, or the first sound.
    main: TrackId,
    main_kind: Kind,
    tracks: Vec<Track>,
    part: Duration,
    /// The cuts that the main track has not reached.
    cuts: VecDeque<Cut>,
    open: Option<Open>,
    /// Where the last gap ends: segments do not overlap.
    gap_end: MediaTime,
    /// The frame of the main track before this one, how far apart those before it were, the newest
    /// last, and how long a frame is taken to last.
    last: Option<MediaTime>,
    apart: VecDeque<Duration>,
    distance: Duration,
    /// Frames of other tracks since.
    alone: usize,
    store: Store,
    init: u32,
    /// The tracks have changed; a new initialisation segment comes with the next segment.
    is_stale: bool,
    /// The main track's configuration has changed: its frames wait for the discontinuity, since the
    /// segment that is open has another initialisation segment.
    has_changed: bool,
    changed: Vec<Frame>,
    /// Sound that waits to be written with more.
    gathered: Vec<Frame>,
    /// Frames of other tracks that wait for the next one of the main track.
    held: Vec<Frame>,
    /// Tables that go before the next frame, in whatever segment that is.
    tables: Vec<u8>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
enum Muxer {
    Ts(mpegts::Muxer),
    Cmaf(cmaf::Muxer),
}

/// The segment that is being made.
#[derive(Debug)]
struct Open {
    start: MediaTime,
    from: u64,
    part_start: MediaTime,
    part_from: u64,
    /// Where what was told of the part ends.
    told: u64,
    part_is_independent: bool,
    /// A frame is in the part: of the main track, unless that pauses.
    part_has_frames: bool,
    /// When the newest frame ends by which parts are measured.
    end: MediaTime,
}

impl Maker {
    /// For these tracks of a stream; `None` if none of them has a form.
    pub(in crate::streams) fn new(key: &Key, tracks: &[Track], part: Duration) -> Option<Self> {
        let tracks: Vec<Track> = tracks
            .iter()
            .filter(|track| key.tracks.contains(&track.id))
            .cloned()
            .collect();
        let of_kind = |kind| tracks.iter().find(move |track| track.kind() == kind);
        let main = of_kind(Kind::Video).or_else(|| of_kind(Kind::Audio))?;
        Some(Self {
            muxer: Muxer::new(key.form, &tracks),
            main: main.id,
            main_kind: main.kind(),
            part,
            cuts: VecDeque::new(),
            open: None,
            gap_end: MediaTime::ZERO,
            last: None,
            apart: VecDeque::new(),
            alone: 0,
            distance: distance(main),
            store: Store::default(),
            init: 0,
            is_stale: key.form == Form::Cmaf,
            has_changed: false,
            changed: Vec::new(),
            gathered: Vec::new(),
            held: Vec::new(),
            tables: Vec::new(),
            scratch: Vec::new(),
            tracks,
        })
    }

    /// A track's configuration has changed.
    pub(in crate::streams) fn track_changed(
        &mut self,
        pool: &mut Pool,
        track: &Track,
        updates: &mut Vec<Update>,
    ) {
        let Some(known) = self.tracks.iter_mut().find(|known| known.id == track.id) else {
            return;
        };
        if known == track {
            return;
        }
        let is_other = (known.codec, &known.init) != (track.codec, &track.init);
        // What was gathered is of the configuration before.
        *known = track.clone();
        self.flush(pool, updates);
        match &mut self.muxer {
            Muxer::Ts(muxer) => muxer.track_changed(track, &mut self.tables),
            Muxer::Cmaf(muxer) => {
                self.scratch.clear();
                muxer.track_changed(track, &mut self.scratch);
                self.is_stale = true;
                self.has_changed |= is_other && track.id == self.main && self.open.is_some();
            }
        }
    }

    /// A segment of the stream begins; this rendition's does when its main track gets there.
    pub(in crate::streams) fn cut(
        &mut self,
        pool: &mut Pool,
        cut: &Cut,
        updates: &mut Vec<Update>,
    ) {
        // A track that has not reached the cut before by now has nothing for that segment.
        while let Some(missed) = self.cuts.pop_front() {
            // What waits for its discontinuity is not in the gap.
            let waiting = self.changed.first().map(|frame| frame.dts);
            let before = |time: MediaTime| waiting.map_or(time, |waiting| time.min(waiting));
            // The track may be ahead of the one that cuts, and pause.
            let ahead = self.open.as_ref().map_or(self.gap_end, |open| open.end);
            let start = before(self.at(&missed)).max(self.gap_end).max(ahead);
            let until = before(self.at(cut)).max(start);
            self.close(pool, start, updates);
            self.has_changed &= !missed.is_discontinuity;
            self.renew_init(updates);
            self.gap_end = until;
            updates.push(Update::Gap {
                opening: self.opening(&missed, start),
                duration: until.since(start),
            });
        }
        self.cuts.push_back(*cut);
        if cut.is_discontinuity {
            for frame in std::mem::take(&mut self.changed) {
                self.frame(pool, &frame, updates);
            }
        }
    }

    /// A frame of the stream.
    pub(in crate::streams) fn frame(
        &mut self,
        pool: &mut Pool,
        frame: &Frame,
        updates: &mut Vec<Update>,
    ) {
        if !self.tracks.iter().any(|track| track.id == frame.track) {
            return;
        }
        if frame.track != self.main {
            self.accompany(pool, frame, updates);
            return;
        }
        if let Some(last) = self.last.filter(|last| frame.dts > *last) {
            self.note_distance(frame.dts.since(last));
        }
        self.last = Some(frame.dts);
        self.alone = 0;
        if self.has_changed && !self.cuts.front().is_some_and(|cut| cut.is_discontinuity) {
            if self.changed.len() < CHANGED_MAX {
                self.changed.push(frame.clone());
            }
            return;
        }
        if let Some(cut) = self.cuts.front().copied()
            && self.begins_with(&cut, frame)
        {
            self.cuts.pop_front();
            self.close(pool, frame.dts, updates);
            self.begin(&cut, frame, updates);
        }
        let length = self.part + PART_SLACK;
        let Some(open) = &mut self.open else {
            return; // Before the first cut.
        };
        if open.part_has_frames && frame.dts.since(open.part_start) > length {
            self.end_part(pool, frame.dts, updates);
        }
        let Some(open) = &mut self.open else {
            return;
        };
        if !open.part_has_frames {
            open.part_has_frames = true;
            let off = frame.dts.since(open.part_start);
            let off = off.max(open.part_start.since(frame.dts));
            // Small differences are those of rounded times, and even out.
            if off > self.distance {
                open.part_start = frame.dts;
            }
        }
        open.part_is_independent |= frame.keyframe;
        let micros = i64::try_from(self.distance.as_micros()).unwrap_or(0);
        open.end = frame.dts + MediaTime::from_micros(micros);
        let is_full = (open.end + MediaTime::from_micros(micros)).since(open.part_start) > length;
        let end = open.end;
        self.write(pool, frame, updates);
        self.let_go(pool, updates);
        if is_full {
            self.end_part(pool, end, updates);
        }
    }

    /// A frame is taken to last as long as the shortest of the last few: a pause, or two of them,
    /// are no frame rate.
    fn note_distance(&mut self, apart: Duration) {
        if apart >= Duration::from_secs(1) {
            return;
        }
        if self.apart.len() == DISTANCES {
            self.apart.pop_front();
        }
        self.apart.push_back(apart);
        self.distance = self.apart.iter().copied().min().unwrap_or(apart);
    }

    fn begins_with(&self, cut: &Cut, frame: &Frame) -> bool {
        if self.has_changed {
            return true;
        }
        let at = self.at(cut);
        if frame.dts < at {
            return false;
        }
        let has_waited = self.open.is_some() && frame.dts.since(at) >= KEYFRAME_WAIT;
        match self.main_kind {
            Kind::Audio => true,
            Kind::Video => frame.keyframe || !cut.is_independent || has_waited,
        }
    }

    /// A frame of another track than that by which parts are measured. Between two parts it waits,
    /// since the part after may belong to the next segment.
    fn accompany(&mut self, pool: &mut Pool, frame: &Frame, updates: &mut Vec<Update>) {
        self.alone += 1;
        if let Some(cut) = self.cuts.front().copied()
            && cut.track == frame.track
            && frame.dts >= self.at(&cut)
        {
            // The main track pauses for so long that segments are cut without it.
            self.cuts.pop_front();
            self.close(pool, frame.dts, updates);
            self.begin(&cut, frame, updates);
            if let Some(open) = &mut self.open {
                open.part_has_frames = true;
            }
            self.let_go(pool, updates);
        }
        let is_alone = self.alone > HELD_MAX;
        let Some(open) = &mut self.open else {
            return;
        };
        if is_alone && frame.dts.since(open.part_start) >= self.part {
            self.end_part(pool, frame.dts, updates);
        }
        let Some(open) = &mut self.open else {
            return;
        };
        if is_alone && !open.part_has_frames {
            let first = self.held.first().unwrap_or(frame).dts;
            open.part_has_frames = true;
            open.part_start = open.part_start.max(first);
        }
        if !open.part_has_frames {
            self.held.push(frame.clone());
            return;
        }
        if is_alone {
            open.end = open.end.max(frame.dts);
        }
        self.let_go(pool, updates);
        self.write(pool, frame, updates);
    }

    fn let_go(&mut self, pool: &mut Pool, updates: &mut Vec<Update>) {
        for frame in std::mem::take(&mut self.held) {
            self.write(pool, &frame, updates);
        }
    }

    fn at(&self, cut: &Cut) -> MediaTime {
        match self.main_kind {
            Kind::Video => cut.dts,
            Kind::Audio => cut.pts,
        }
    }

    fn opening(&self, cut: &Cut, start: MediaTime) -> Opening {
        Opening {
            number: cut.number,
            start,
            unix_ms: cut.unix_ms + (start - cut.dts).as_millis(),
            is_discontinuity: cut.is_discontinuity,
            discontinuities: cut.discontinuities,
            init: self.init,
            epoch: cut.epoch,
        }
    }

    fn begin(&mut self, cut: &Cut, frame: &Frame, updates: &mut Vec<Update>) {
        self.store.forget();
        self.has_changed = false;
        self.renew_init(updates);
        let start = frame.dts.max(self.gap_end);
        updates.push(Update::Open(self.opening(cut, start)));
        let from = self.store.end();
        self.open = Some(Open {
            start: frame.dts,
            from,
            part_start: frame.dts,
            part_from: from,
            told: from,
            part_is_independent: false,
            part_has_frames: false,
            end: frame.dts,
        });
        if let Muxer::Ts(muxer) = &mut self.muxer
            && (frame.track != self.main || self.main_kind == Kind::Audio || !frame.keyframe)
        {
            muxer.write_tables(&mut self.tables);
        }
    }

    fn renew_init(&mut self, updates: &mut Vec<Update>) {
        if let (Muxer::Cmaf(muxer), true) = (&self.muxer, self.is_stale) {
            self.is_stale = false;
            self.init += 1;
            let mut bytes = Vec::new();
            muxer.header(&mut bytes);
            updates.push(Update::Init {
                version: self.init,
                bytes: bytes.into(),
            });
        }
    }

    fn write(&mut self, pool: &mut Pool, frame: &Frame, updates: &mut Vec<Update>) {
        self.scratch.clear();
        match &mut self.muxer {
            Muxer::Ts(muxer) => {
                self.scratch.append(&mut self.tables);
                muxer.write(frame, &mut self.scratch);
            }
            Muxer::Cmaf(muxer) if self.main_kind == Kind::Video => {
                muxer.write(frame, &mut self.scratch);
            }
            Muxer::Cmaf(_) => {
                self.gathered.push(frame.clone());
                let first = self.gathered.first().map_or(frame.dts, |first| first.dts);
                if frame.dts.since(first) + self.distance >= FRAGMENT_OF_SOUND {
                    self.flush(pool, updates);
                }
                return;
            }
        }
        self.store.append(pool, &self.scratch);
        self.tell(updates);
    }

    fn flush(&mut self, pool: &mut Pool, updates: &mut Vec<Update>) {
        if let (Muxer::Cmaf(muxer), false) = (&mut self.muxer, self.gathered.is_empty()) {
            self.scratch.clear();
            muxer.fragment(&self.gathered, &mut self.scratch);
            self.store.append(pool, &self.scratch);
            self.gathered.clear();
            self.tell(updates);
        }
    }

    fn tell(&mut self, updates: &mut Vec<Update>) {
        if let Some(open) = &mut self.open
            && self.store.end() > open.told
        {
            updates.push(Update::Chunk(self.store.since(open.told)));
            open.told = self.store.end();
        }
    }

    /// Ends the part, unless it is empty. A part that ends with a pause is not taken to last through
    /// it: players would keep further from the live edge from there on, by the longest part.
    fn end_part(&mut self, pool: &mut Pool, end: MediaTime, updates: &mut Vec<Update>) {
        self.flush(pool, updates);
        self.tell(updates);
        let longest = self.distance.max(self.part + PART_SLACK);
        let Some(open) = &mut self.open else {
            return;
        };
        let pieces = self.store.since(open.part_from);
        if pieces.is_empty() {
            return;
        }
        let duration = end.since(open.part_start);
        updates.push(Update::Part(Part {
            duration: duration.clamp(Duration::from_millis(1), longest),
            is_independent: open.part_is_independent,
            pieces,
        }));
        open.part_start = end.max(open.part_start);
        open.part_from = self.store.end();
        open.part_has_frames = false;
        open.part_is_independent = false;
    }

    /// Ends the segment. The next one begins at `end`, unless that is far from what is here.
    fn close(&mut self, pool: &mut Pool, end: MediaTime, updates: &mut Vec<Update>) {
        let Some(open) = &self.open else {
            return;
        };
        // After a pause, the last frame is not taken to last until the next.
        let end = if end.since(open.end) > Duration::from_secs(1) {
            open.end
        } else {
            end.max(open.start)
        };
        self.end_part(pool, end, updates);
        let Some(open) = self.open.take() else {
            return;
        };
        let pieces: Pieces = self.store.since(open.from);
        updates.push(Update::Close {
            duration: end.since(open.start),
            pieces,
        });
    }
}

impl Muxer {
    fn new(form: Form, tracks: &[Track]) -> Self {
        match form {
            Form::Ts => Self::Ts(mpegts::Muxer::new(tracks)),
            Form::Cmaf => Self::Cmaf(cmaf::Muxer::new(tracks)),
        }
    }
}

/// How long a frame of a track lasts, as far as that is known before the first.
fn distance(track: &Track) -> Duration {
    match track.kind() {
        Kind::Video => track
            .video
            .filter(|video| video.frames_per_1000_s > 0)
            .map_or(DISTANCE_DEFAULT, |video| {
                Duration::from_secs(1000) / video.frames_per_1000_s
            }),
        Kind::Audio => codec::frame_duration(track, &[])
            .map_or(Duration::from_millis(20), |time| {
                time.since(MediaTime::ZERO)
            }),
    }
}
