//! One timeline for a stream, whatever its publishers' clocks do.
//!
//! A publisher's clock may begin anywhere, jump, or be replaced by that of the next publisher.
//! The stream's timeline begins at zero, never falls within a track, and goes on without a hole.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::ids::TrackId;
use crate::media::{Frame, MediaTime};

/// A step back of less is a publisher's unevenness and is levelled out; a longer one is a jump.
const BACK_MAX: Duration = Duration::from_millis(1000);

/// A step ahead of less is a pause in the media; a longer one is a jump. Players wait through a
/// pause, so it is shorter than what makes them give up.
const AHEAD_MAX: Duration = Duration::from_secs(10);

/// What is put between the last frame before a jump or a new publisher and the first after it.
const SEAM: MediaTime = MediaTime::from_millis(33);

/// How long after one track's jump another track's jump is taken for the same one.
const SAME_JUMP: Duration = Duration::from_secs(3);

/// What was done to a frame's times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Adjustment {
    /// Moved by the offset in force.
    Steady,
    /// It would have fallen behind its track and was put just after the frame before it.
    Levelled,
    /// The publisher's clock jumped, and the offset was changed to go on without a hole.
    Rejoined,
}

/// Maps publishers' times to a stream's.
#[derive(Debug, Default)]
pub struct Timeline {
    tracks: BTreeMap<TrackId, Clock>,
    /// The newest decoding time of any track.
    newest: Option<MediaTime>,
    /// What a track without an offset of its own gets: the offset of the last join.
    joined: Option<MediaTime>,
    /// The newest jump's offset and where on the timeline it happened.
    jump: Option<(MediaTime, MediaTime)>,
}

#[derive(Clone, Copy, Debug)]
struct Clock {
    offset: MediaTime,
    last: Option<MediaTime>,
}

impl Timeline {
    /// The newest decoding time on the timeline.
    pub fn newest(&self) -> Option<MediaTime> {
        self.newest
    }

    /// A frame of a track was decoded at a time that was not placed here, as is the case with frames
    /// that are built from packets: what follows is not to be before it.
    pub fn advance(&mut self, track: TrackId, time: MediaTime) {
        if let Some(clock) = self.tracks.get_mut(&track) {
            clock.last = clock.last.max(Some(time));
        }
        self.newest = self.newest.max(Some(time));
    }

    /// A new publisher takes over: its clock is joined to the end of what there is.
    pub fn rejoin(&mut self) {
        for clock in self.tracks.values_mut() {
            // The last times stay, so that no track falls.
            clock.offset = MediaTime::ZERO;
        }
        self.joined = None;
        self.jump = None;
    }

    /// Moves a frame's times onto the timeline.
    pub fn place(&mut self, frame: &mut Frame) -> Adjustment {
        let composition = frame.pts - frame.dts;
        let (dts, adjustment) = self.place_time(frame.track, frame.dts);
        frame.dts = dts;
        frame.pts = dts + composition;
        adjustment
    }

    /// Moves a decoding time of a track onto the timeline.
    pub fn place_time(&mut self, track: TrackId, time: MediaTime) -> (MediaTime, Adjustment) {
        let joined = match self.joined {
            Some(joined) => joined,
            None => {
                let begin = self.newest.map_or(MediaTime::ZERO, |newest| newest + SEAM);
                let offset = begin - time;
                self.joined = Some(offset);
                for clock in self.tracks.values_mut() {
                    clock.offset = offset;
                }
                offset
            }
        };
        let clock = self.tracks.entry(track).or_insert(Clock {
            offset: joined,
            last: None,
        });
        let mut dts = time + clock.offset;
        let mut adjustment = Adjustment::Steady;
        // A track that has had no frame yet is held against the stream's newest time.
        if let Some(reference) = clock.last.or(self.newest) {
            // A track may pause, as a camera that shows a still does, while the others go on: it
            // comes back to where they are.
            let newest = self.newest.unwrap_or(reference).max(reference);
            let jumped =
                |dts: MediaTime| reference.since(dts) > BACK_MAX || dts.since(newest) > AHEAD_MAX;
            if jumped(dts) {
                // Another track may have jumped just before: the same offset keeps them in step.
                let same = self
                    .jump
                    .filter(|(_, at)| {
                        reference.since(*at) < SAME_JUMP && at.since(reference) < SAME_JUMP
                    })
                    .map(|(offset, _)| offset)
                    .filter(|offset| !jumped(time + *offset));
                let begin = match newest.since(reference) {
                    behind if behind > BACK_MAX => newest,
                    _ => reference,
                };
                clock.offset = same.unwrap_or_else(|| begin + SEAM - time);
                dts = time + clock.offset;
                self.jump = Some((clock.offset, dts));
                self.joined = Some(clock.offset);
                adjustment = Adjustment::Rejoined;
            }
        }
        if let Some(last) = clock.last
            && dts <= last
        {
            dts = last + MediaTime::from_millis(1);
            if adjustment == Adjustment::Steady {
                adjustment = Adjustment::Levelled;
            }
        }
        if dts < MediaTime::ZERO {
            dts = MediaTime::ZERO;
        }
        clock.last = Some(dts);
        self.newest = self.newest.max(Some(dts));
        (dts, adjustment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;

    fn frame(track: u16, millis: i64) -> Frame {
        let mut frame = samples::frame(track, millis, true, 0);
        frame.pts = MediaTime::from_millis(millis + 80);
        frame
    }

    fn place(timeline: &mut Timeline, track: u16, millis: i64) -> (i64, Adjustment) {
        let mut frame = frame(track, millis);
        let adjustment = timeline.place(&mut frame);
        assert_eq!((frame.pts - frame.dts).as_millis(), 80, "composition stays");
        (frame.dts.as_millis(), adjustment)
    }

    #[test]
    fn begins_at_zero_and_keeps_tracks_in_step() {
        let mut timeline = Timeline::default();
        assert_eq!(place(&mut timeline, 0, 5000), (0, Adjustment::Steady));
        assert_eq!(place(&mut timeline, 1, 5010), (10, Adjustment::Steady));
        assert_eq!(place(&mut timeline, 0, 5040), (40, Adjustment::Steady));
    }

    #[test]
    fn never_falls_within_a_track() {
        let mut timeline = Timeline::default();
        place(&mut timeline, 0, 1000);
        place(&mut timeline, 0, 1040);
        assert_eq!(place(&mut timeline, 0, 1030), (41, Adjustment::Levelled));
        assert_eq!(place(&mut timeline, 0, 1080), (80, Adjustment::Steady));
    }

    #[test]
    fn a_new_publisher_continues_the_timeline() {
        let mut timeline = Timeline::default();
        place(&mut timeline, 0, 1000);
        place(&mut timeline, 1, 1500);
        timeline.rejoin();
        assert_eq!(place(&mut timeline, 0, 900_000).0, 533);
        assert_eq!(place(&mut timeline, 1, 900_010).0, 543);
    }

    #[test]
    fn a_jump_back_and_an_hour_ahead_are_joined_with_tracks_in_step() {
        for jump in [-3_600_000, 3_600_000] {
            let mut timeline = Timeline::default();
            for millis in (0..1000).step_by(40) {
                place(&mut timeline, 0, 7_200_000 + millis);
                place(&mut timeline, 1, 7_200_000 + millis + 5);
            }
            let (video, adjustment) = place(&mut timeline, 0, 7_201_000 + jump);
            assert_eq!(adjustment, Adjustment::Rejoined);
            assert_eq!(video, 960 + 33);
            let (audio, adjustment) = place(&mut timeline, 1, 7_201_005 + jump);
            assert_eq!(adjustment, Adjustment::Rejoined);
            assert_eq!(audio - video, 5, "in step");
            assert_eq!(place(&mut timeline, 0, 7_201_040 + jump).0, video + 40);
        }
    }

    /// An encoder that sends a still seldom sent one 12 s after the one before. It was taken for a
    /// jump, and the pictures stayed 12 s behind the sound.
    #[test]
    fn a_track_that_pauses_comes_back_in_step() {
        let mut timeline = Timeline::default();
        place(&mut timeline, 0, 0);
        for millis in (0..12_000).step_by(20) {
            place(&mut timeline, 1, millis);
        }
        assert_eq!(
            place(&mut timeline, 0, 12_000),
            (12_000, Adjustment::Steady)
        );
        assert_eq!(
            place(&mut timeline, 1, 12_000),
            (12_000, Adjustment::Steady)
        );
    }

    #[test]
    fn a_pause_is_kept() {
        let mut timeline = Timeline::default();
        place(&mut timeline, 0, 0);
        assert_eq!(place(&mut timeline, 0, 9000), (9000, Adjustment::Steady));
    }
}
