//! Where segments begin: decided once, at home, for all renditions.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::ids::TrackId;
use crate::media::{Frame, MediaTime};

/// The shortest segment, whatever the stream's settings say: a stream of keyframes only would
/// otherwise have a segment for each frame, and their numbers would overtake the clock.
pub(super) const SEGMENT_MIN: Duration = Duration::from_secs(1);

/// The longest segment. Where no keyframe comes in that time, one begins without.
const SEGMENT_MAX: Duration = Duration::from_secs(12);

/// Where no frame of the track comes by which segments are cut either, as when a camera hangs, one
/// begins with a frame of another track after this time more. Sound may be as much ahead.
const PAUSE: Duration = Duration::from_secs(1);

/// How much earlier than its length a segment may end, so that rounded times do not make every
/// segment a group of pictures longer than the stream's settings ask for.
pub(super) const EARLY: Duration = Duration::from_millis(20);

/// Cuts that are remembered, for renditions that are made later: 24 hours of 2 s segments.
const CUTS_MAX: usize = 43_200;

/// Segments without a discontinuity between them: a period of DASH, whose name and place must stay
/// the same when its first segments have left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epoch {
    /// The number of its first segment.
    pub(in crate::streams) number: u64,
    /// Decoding time of its first frame.
    pub(in crate::streams) start: MediaTime,
    /// The wall clock at that time.
    pub(in crate::streams) unix_ms: i64,
}

/// The beginning of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::streams) struct Cut {
    /// The segment's number. The first one of a stream is the Unix time in seconds, so that no
    /// name is used twice, even after a restart.
    pub(in crate::streams) number: u64,
    /// The track whose frame begins it.
    pub(in crate::streams) track: TrackId,
    /// Decoding time of the frame that begins it.
    pub(in crate::streams) dts: MediaTime,
    /// Presentation time of that frame: tracks without pictures are cut there.
    pub(in crate::streams) pts: MediaTime,
    /// The wall clock at `dts`.
    pub(in crate::streams) unix_ms: i64,
    /// Another publisher, or other configurations: decoders begin anew.
    pub(in crate::streams) is_discontinuity: bool,
    /// Discontinuities of the stream up to here, this one among them. Players match renditions by
    /// it (RFC 8216bis 6.2.4), whenever each of them was made.
    pub(in crate::streams) discontinuities: u64,
    /// It begins with a keyframe, or the stream has no pictures.
    pub(in crate::streams) is_independent: bool,
    /// What it belongs to.
    pub(in crate::streams) epoch: Epoch,
}

/// Decides where segments begin.
#[derive(Debug)]
pub(in crate::streams) struct Cutter {
    length: Duration,
    cuts: VecDeque<Cut>,
    next_number: Option<u64>,
    /// The wall clock at time zero of the stream, for the publisher of now.
    zero_unix_ms: Option<i64>,
    /// The next cut is a discontinuity, and comes with the next entry.
    breaks: bool,
    discontinuities: u64,
    /// Cuts from here on are of the configurations of now.
    valid_from: u64,
}

impl Cutter {
    /// For segments of at least `length`.
    pub(in crate::streams) fn new(length: Duration) -> Self {
        Self {
            length: length.max(SEGMENT_MIN),
            cuts: VecDeque::new(),
            next_number: None,
            zero_unix_ms: None,
            breaks: false,
            discontinuities: 0,
            valid_from: 0,
        }
    }

    /// Changes the length of the segments to come.
    pub(in crate::streams) fn set_length(&mut self, length: Duration) {
        self.length = length.max(SEGMENT_MIN);
    }

    /// Another publisher begins.
    pub(in crate::streams) fn rejoin(&mut self) {
        self.zero_unix_ms = None;
        self.breaks = !self.cuts.is_empty();
    }

    /// A track's configuration has changed: what was kept cannot be muxed any more.
    pub(in crate::streams) fn change(&mut self) {
        if let Some(number) = self.next_number {
            self.breaks = true;
            self.valid_from = number;
        }
    }

    /// Looks at a frame of the track that segments are cut by: the first video track, or the first
    /// audio track where there is no video. `is_entry` says that a viewer can begin with it.
    pub(in crate::streams) fn frame(
        &mut self,
        unix_ms: i64,
        frame: &Frame,
        is_entry: bool,
    ) -> Option<Cut> {
        self.zero_unix_ms
            .get_or_insert(unix_ms - frame.dts.as_millis());
        let is_due = match self.cuts.back() {
            None => is_entry,
            Some(_) if self.breaks && is_entry => true,
            Some(last) => {
                let length = frame.dts.since(last.dts);
                (is_entry && length + EARLY >= self.length) || length >= SEGMENT_MAX
            }
        };
        is_due.then(|| self.cut(unix_ms, frame, is_entry))
    }

    /// Looks at a frame of another track. What is kept of it would have no bound if the track pauses
    /// that segments are cut by.
    pub(in crate::streams) fn other_frame(&mut self, unix_ms: i64, frame: &Frame) -> Option<Cut> {
        let last = self.cuts.back()?;
        let is_due = frame.dts.since(last.dts) >= SEGMENT_MAX + PAUSE;
        is_due.then(|| self.cut(unix_ms, frame, false))
    }

    fn cut(&mut self, unix_ms: i64, frame: &Frame, is_independent: bool) -> Cut {
        let zero = *self
            .zero_unix_ms
            .get_or_insert(unix_ms - frame.dts.as_millis());
        let number = self
            .next_number
            .unwrap_or_else(|| (unix_ms / 1000).max(0) as u64);
        self.next_number = Some(number + 1);
        let unix_ms = zero + frame.dts.as_millis();
        let epoch = match self.cuts.back() {
            Some(last) if !self.breaks => last.epoch,
            Some(_) | None => Epoch {
                number,
                start: frame.dts,
                unix_ms,
            },
        };
        self.discontinuities += u64::from(self.breaks);
        let cut = Cut {
            number,
            track: frame.track,
            dts: frame.dts,
            pts: frame.pts,
            unix_ms,
            epoch,
            is_discontinuity: self.breaks,
            discontinuities: self.discontinuities,
            is_independent,
        };
        self.breaks = false;
        if self.cuts.len() == CUTS_MAX {
            self.cuts.pop_front();
        }
        self.cuts.push_back(cut);
        cut
    }

    /// Forgets cuts before `oldest`, the oldest frame that is kept.
    pub(in crate::streams) fn trim(&mut self, oldest: MediaTime) {
        while self.cuts.len() > 1 && self.cuts.front().is_some_and(|cut| cut.dts < oldest) {
            self.cuts.pop_front();
        }
    }

    /// The cuts that a rendition that is made now begins with, oldest first.
    pub(in crate::streams) fn cuts(&self) -> impl Iterator<Item = &Cut> {
        let valid_from = self.valid_from;
        self.cuts.iter().filter(move |cut| cut.number >= valid_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;

    const UNIX_MS: i64 = 1_700_000_000_000;

    fn cuts(cutter: &mut Cutter, millis: impl Iterator<Item = i64>, gop: i64) -> Vec<Cut> {
        millis
            .filter_map(|at| {
                let is_entry = at % gop == 0;
                let frame = samples::frame(0, at, is_entry, 100);
                cutter.frame(UNIX_MS + at, &frame, is_entry)
            })
            .collect()
    }

    #[test]
    fn segments_begin_with_the_first_keyframe_after_their_length() {
        let mut cutter = Cutter::new(Duration::from_millis(1900));
        let cuts = cuts(&mut cutter, (0..10_000).step_by(40), 1000);
        let at: Vec<i64> = cuts.iter().map(|cut| cut.dts.as_millis()).collect();
        assert_eq!(at, [0, 2000, 4000, 6000, 8000]);
        assert_eq!(cuts[0].number, 1_700_000_000);
        assert_eq!(cuts[4].number, 1_700_000_004);
        assert_eq!(cuts[2].unix_ms, UNIX_MS + 4000);
        assert!(
            cuts.iter()
                .all(|cut| !cut.is_discontinuity && cut.is_independent)
        );
    }

    #[test]
    fn a_long_group_of_pictures_is_cut_without_a_keyframe() {
        let mut cutter = Cutter::new(Duration::from_millis(1900));
        let cuts = cuts(&mut cutter, (0..30_000).step_by(40), 1_000_000);
        let at: Vec<i64> = cuts.iter().map(|cut| cut.dts.as_millis()).collect();
        assert_eq!(at, [0, 12_000, 24_000]);
        assert!(!cuts[1].is_independent);
    }

    #[test]
    fn another_publisher_is_a_discontinuity_with_a_clock_of_its_own() {
        let mut cutter = Cutter::new(Duration::from_millis(1900));
        cuts(&mut cutter, (0..5000).step_by(40), 1000);
        cutter.rejoin();
        // It comes 7 s later, and its media goes on without a hole.
        let frame = samples::frame(0, 5040, false, 100);
        assert_eq!(cutter.frame(UNIX_MS + 12_040, &frame, false), None);
        let frame = samples::frame(0, 5080, true, 100);
        let cut = cutter.frame(UNIX_MS + 12_080, &frame, true).unwrap();
        assert!(cut.is_discontinuity);
        assert_eq!(cut.unix_ms, UNIX_MS + 12_080);
        assert_eq!(cut.epoch.number, cut.number);
        assert_eq!(cut.epoch.unix_ms, cut.unix_ms);
        let before: Vec<u64> = cutter.cuts().map(|cut| cut.epoch.number).collect();
        let first = before[0];
        assert_eq!(before, [first, first, first, cut.number]);
        assert_eq!(cutter.cuts().count(), 4, "what came before stays");
    }

    #[test]
    fn what_is_of_another_configuration_is_not_muxed_again() {
        let mut cutter = Cutter::new(Duration::from_millis(1900));
        cuts(&mut cutter, (0..5000).step_by(40), 1000);
        cutter.change();
        assert_eq!(cutter.cuts().count(), 0);
        let frame = samples::frame(0, 5040, true, 100);
        assert!(
            cutter
                .frame(UNIX_MS + 5040, &frame, true)
                .unwrap()
                .is_discontinuity
        );
        assert_eq!(cutter.cuts().count(), 1);
    }
}
