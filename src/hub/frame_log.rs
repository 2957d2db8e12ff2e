//! The frames of a stream that are kept: the current group of pictures and a DVR window.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::ids::TrackId;
use crate::media::{Frame, MediaTime};

/// Frames in the order they arrived, of all tracks.
#[derive(Debug)]
pub struct FrameLog {
    frames: VecDeque<Frame>,
    /// Number of the first frame in `frames` since the stream began.
    first: u64,
    /// Numbers of the frames at which a viewer can begin.
    entries: VecDeque<u64>,
    /// A track has changed since the newest entry: who begins there cannot decode it.
    is_closed: bool,
    bytes: usize,
    window: Duration,
    bytes_max: usize,
}

impl FrameLog {
    /// A log that keeps `window` of media, at most `bytes_max` bytes of it.
    pub fn new(window: Duration, bytes_max: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            first: 0,
            entries: VecDeque::new(),
            is_closed: false,
            bytes: 0,
            window,
            bytes_max,
        }
    }

    /// Changes how much is kept, from the next frame on.
    pub fn set_window(&mut self, window: Duration) {
        self.window = window;
    }

    /// Adds a frame and lets go of what is older than the window, except the newest group.
    pub fn push(&mut self, frame: Frame, entry: bool) {
        if entry {
            self.is_closed = false;
            self.entries
                .push_back(self.first + self.frames.len() as u64);
        }
        self.bytes += frame.data.len();
        let newest = frame.dts;
        self.frames.push_back(frame);
        while let Some(oldest) = self.frames.front() {
            let is_current = self.entries.back().is_none_or(|entry| self.first >= *entry);
            let in_window = newest.since(oldest.dts) <= self.window;
            if (in_window || is_current) && self.bytes <= self.bytes_max {
                break;
            }
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.data.len();
            if self.entries.front() == Some(&self.first) {
                self.entries.pop_front();
            }
            self.first += 1;
        }
    }

    /// Lets go of all frames.
    pub fn clear(&mut self) {
        self.first += self.frames.len() as u64;
        self.frames.clear();
        self.entries.clear();
        self.bytes = 0;
        self.is_closed = false;
    }

    /// Nobody begins at the newest entry from here on: a track's configuration has changed.
    pub fn close_group(&mut self) {
        self.is_closed = true;
    }

    /// The frames from the newest entry on, each with whether it is an entry; all if there is
    /// no entry, and none if the group is closed.
    pub fn since_entry(&self) -> impl Iterator<Item = (&Frame, bool)> {
        let entry = self.entries.back().copied();
        let skip = match entry {
            _ if self.is_closed => self.frames.len(),
            Some(entry) => (entry - self.first) as usize,
            None => 0,
        };
        self.frames
            .range(skip.min(self.frames.len())..)
            .enumerate()
            .map(move |(index, frame)| (frame, index == 0 && entry.is_some()))
    }

    /// All frames, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }

    /// Bytes of payload kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames kept.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// True when nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Decoding times of the oldest and newest frame kept.
    pub fn span(&self) -> Option<(MediaTime, MediaTime)> {
        Some((self.frames.front()?.dts, self.frames.back()?.dts))
    }

    /// Decoding times of the oldest and newest frame kept of one track.
    pub fn span_of(&self, track: TrackId) -> Option<(MediaTime, MediaTime)> {
        let first = self.frames.iter().find(|frame| frame.track == track)?;
        let last = self.frames.iter().rfind(|frame| frame.track == track)?;
        Some((first.dts, last.dts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;

    fn frame(millis: i64) -> Frame {
        samples::frame(0, millis, millis % 1000 == 0, 100)
    }

    fn log(window: Duration, bytes_max: usize) -> FrameLog {
        let mut log = FrameLog::new(window, bytes_max);
        for millis in (0..5000).step_by(100) {
            log.push(frame(millis), millis % 1000 == 0);
        }
        log
    }

    #[test]
    fn keeps_the_window() {
        let log = log(Duration::from_secs(2), 1 << 20);
        let (oldest, newest) = log.span().expect("there are frames");
        assert_eq!(newest.since(oldest), Duration::from_secs(2));
        assert_eq!(log.bytes(), log.len() * 100);
    }

    #[test]
    fn keeps_the_current_group_when_the_window_is_shorter() {
        let log = log(Duration::ZERO, 1 << 20);
        assert_eq!(log.len(), 10);
        let mut group = log.since_entry();
        assert!(
            group
                .next()
                .is_some_and(|(frame, entry)| entry && frame.keyframe)
        );
        assert_eq!(group.count(), 9);
    }

    #[test]
    fn nobody_begins_in_a_closed_group() {
        let mut log = log(Duration::ZERO, 1 << 20);
        log.close_group();
        assert_eq!(log.since_entry().count(), 0);
        log.push(frame(5000), true);
        log.push(frame(5100), false);
        assert_eq!(log.since_entry().count(), 2);
    }

    #[test]
    fn the_byte_bound_is_stronger_than_the_window() {
        let log = log(Duration::from_secs(60), 550);
        assert_eq!(log.len(), 5);
        assert!(
            log.since_entry().all(|(_, entry)| !entry),
            "the keyframe is gone"
        );
    }
}
