//! A log of muxed bytes that all viewers of one container read.
//!
//! A frame is muxed once and appended; a viewer is a position. What a viewer is sent is always a
//! run of whole frames, so that it can be moved to a keyframe between any two sends.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::media::MediaTime;
use crate::media::buffer::{Buffer, Pool, Slab};

/// Parts of slabs, in order.
pub type Pieces = SmallVec<[Buffer; 4]>;

/// Where a frame begins in a [`Feed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Bytes since the feed began.
    pub position: u64,
    /// The frame's decoding time.
    pub dts: MediaTime,
    /// A viewer can begin here.
    pub entry: bool,
}

/// A log of muxed bytes.
#[derive(Debug, Default)]
pub struct Feed {
    segments: VecDeque<Segment>,
    marks: VecDeque<Mark>,
    /// The end of the last whole frame.
    end: u64,
    /// Position of the newest entry mark, if it is still in the log.
    entry: Option<u64>,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    slab: Slab,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.slab.len() as u64
    }
}

impl Feed {
    /// An empty feed.
    pub fn new() -> Self {
        Self::default()
    }

    /// The position after the last frame.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The position of the oldest frame that is kept.
    pub fn start(&self) -> u64 {
        self.marks.front().map_or(self.end, |mark| mark.position)
    }

    /// Bytes kept.
    pub fn bytes(&self) -> u64 {
        self.end - self.start()
    }

    /// Where a viewer that arrives begins: the newest entry, or the end if there is none.
    pub fn live_entry(&self) -> u64 {
        self.entry.unwrap_or(self.end)
    }

    /// The newest entry mark, if the log has one.
    pub fn newest_entry(&self) -> Option<u64> {
        self.entry
    }

    /// The decoding time of the newest frame.
    pub fn newest_dts(&self) -> Option<MediaTime> {
        self.marks.back().map(|mark| mark.dts)
    }

    /// The mark at or after `position`.
    pub fn mark_at(&self, position: u64) -> Option<Mark> {
        let index = self.marks.partition_point(|mark| mark.position < position);
        self.marks.get(index).copied()
    }

    /// Appends the bytes of one frame.
    pub fn append(&mut self, pool: &mut Pool, dts: MediaTime, entry: bool, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let position = self.end;
        self.marks.push_back(Mark {
            position,
            dts,
            entry,
        });
        if entry {
            self.entry = Some(position);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let has_room = self
                .segments
                .back()
                .is_some_and(|segment| segment.slab.room() > 0);
            if !has_room {
                self.segments.push_back(Segment {
                    start: position + (bytes.len() - rest.len()) as u64,
                    slab: pool.take(),
                });
            }
            let segment = self.segments.back_mut().expect("one was just made sure of");
            let count = segment.slab.append(rest);
            rest = &rest[count..];
        }
        self.end = position + bytes.len() as u64;
    }

    /// The frames from `from` on, whole ones, of about `bytes_max` together and at least one;
    /// and the position after them. Empty if there is nothing after `from`.
    ///
    /// `from` must be the start or end of a frame that is still in the log.
    pub fn read(&self, from: u64, bytes_max: u64) -> (Pieces, u64) {
        let mut pieces = Pieces::new();
        if from >= self.end {
            return (pieces, self.end);
        }
        assert!(
            from >= self.start(),
            "a viewer that fell behind is moved first"
        );
        let to = if self.end - from <= bytes_max {
            self.end
        } else {
            let beyond = self
                .marks
                .partition_point(|mark| mark.position <= from + bytes_max);
            let last = self.marks[beyond - 1].position;
            if last > from {
                last
            } else {
                // The first frame alone is larger than what was asked for.
                self.marks
                    .get(beyond)
                    .map_or(self.end, |mark| mark.position)
            }
        };
        let first = self
            .segments
            .partition_point(|segment| segment.end() <= from);
        for segment in self.segments.range(first..) {
            if segment.start >= to {
                break;
            }
            let begin = from.max(segment.start) - segment.start;
            let end = to.min(segment.end()) - segment.start;
            pieces.push(segment.slab.view(begin as usize..end as usize));
        }
        (pieces, to)
    }

    /// Lets go of what nobody needs: frames older than both `keep_from` and the newest entry, and
    /// beyond `bytes_max` whatever is oldest.
    pub fn trim(&mut self, keep_from: MediaTime, bytes_max: u64) {
        while let Some(mark) = self.marks.front() {
            let is_needed =
                mark.dts >= keep_from || self.entry.is_none_or(|entry| mark.position >= entry);
            if is_needed && self.bytes() <= bytes_max {
                break;
            }
            if self.entry == Some(mark.position) {
                self.entry = None;
            }
            self.marks.pop_front();
        }
        let start = self.start();
        while self
            .segments
            .front()
            .is_some_and(|segment| segment.end() <= start && segment.slab.room() == 0)
        {
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn bytes_of(pieces: &Pieces) -> Vec<u8> {
        pieces.iter().flat_map(|piece| piece.to_vec()).collect()
    }

    fn feed(pool: &mut Pool) -> Feed {
        let mut feed = Feed::new();
        for n in 0..10u8 {
            feed.append(pool, ms(i64::from(n) * 40), n % 4 == 0, &[n; 5]);
        }
        feed
    }

    #[test]
    fn a_viewer_begins_at_the_newest_entry_and_reads_to_the_end() {
        let mut pool = Pool::new(8);
        let feed = feed(&mut pool);
        assert_eq!(feed.live_entry(), 40);
        let (pieces, next) = feed.read(40, 1000);
        assert_eq!(bytes_of(&pieces), [[8u8; 5], [9; 5]].concat());
        assert_eq!(next, 50);
        assert!(feed.read(next, 1000).0.is_empty());
    }

    #[test]
    fn a_read_ends_at_a_frame_and_takes_at_least_one() {
        let mut pool = Pool::new(8);
        let feed = feed(&mut pool);
        assert_eq!(feed.read(0, 12).1, 10, "two whole frames fit in 12 bytes");
        assert_eq!(feed.read(0, 1).1, 5, "one frame although it is larger");
        assert_eq!(feed.read(45, 1).1, 50, "the last one");
    }

    #[test]
    fn trim_keeps_the_window_and_the_newest_entry() {
        let mut pool = Pool::new(8);
        let mut feed = feed(&mut pool);
        feed.trim(ms(120), 1000);
        assert_eq!(feed.start(), 15);
        feed.trim(ms(1000), 1000);
        assert_eq!(feed.start(), 40, "the newest entry stays");
        let (pieces, _) = feed.read(40, 1000);
        assert_eq!(bytes_of(&pieces).len(), 10);
        feed.trim(ms(1000), 7);
        assert_eq!(feed.newest_entry(), None, "the bound is stronger");
        assert_eq!(feed.live_entry(), 50);
        drop(feed);
        assert_eq!(pool.in_use(), 2, "only the pieces hold slabs");
        drop(pieces);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn appending_after_trimming_all_goes_on() {
        let mut pool = Pool::new(8);
        let mut feed = feed(&mut pool);
        feed.trim(ms(1000), 0);
        assert_eq!(feed.start(), feed.end());
        feed.append(&mut pool, ms(400), true, b"next");
        assert_eq!(bytes_of(&feed.read(50, 100).0), b"next");
    }
}
