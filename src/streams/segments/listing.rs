//! The segments of one rendition that are kept, with their bytes: the same on the home shard, which
//! makes them, and on its mirrors, which are told.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::hub::Pieces;
use crate::media::MediaTime;
use crate::streams::segments::cutter::Epoch;

/// Segments that stay whatever the window is: players begin three target durations from the end,
/// and finish what they have begun.
const SEGMENTS_MIN: usize = 5;

/// A step in the life of a rendition.
#[derive(Clone, Debug)]
pub enum Update {
    /// The initialisation segment of the segments to come.
    Init {
        /// Counts them.
        version: u32,
        /// The whole of it.
        bytes: Bytes,
    },
    /// A segment begins.
    Open(Opening),
    /// Whole frames of the part that is being made.
    Chunk(Pieces),
    /// That part is complete.
    Part(Part),
    /// The segment is complete.
    Close {
        /// How long it lasts.
        duration: Duration,
        /// All of its bytes.
        pieces: Pieces,
    },
    /// A segment for which the track has nothing.
    Gap {
        /// Its beginning.
        opening: Opening,
        /// How long it lasts.
        duration: Duration,
    },
}

/// The beginning of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Its number.
    pub(in crate::streams) number: u64,
    /// Decoding time of its first frame.
    pub(in crate::streams) start: MediaTime,
    /// The wall clock at that time.
    pub(in crate::streams) unix_ms: i64,
    /// Decoders begin anew.
    pub(in crate::streams) is_discontinuity: bool,
    /// Discontinuities of the stream up to here, this one among them.
    pub(in crate::streams) discontinuities: u64,
    /// The initialisation segment it needs; 0 where there is none.
    pub(in crate::streams) init: u32,
    /// What it belongs to.
    pub(in crate::streams) epoch: Epoch,
}

/// A part of a segment.
#[derive(Clone, Debug)]
pub struct Part {
    /// How long it lasts.
    pub(in crate::streams) duration: Duration,
    /// It begins with a keyframe.
    pub(in crate::streams) is_independent: bool,
    /// Its bytes.
    pub(in crate::streams) pieces: Pieces,
}

/// A segment.
#[derive(Clone, Debug)]
pub(in crate::streams) struct Segment {
    /// Its beginning.
    pub(in crate::streams) opening: Opening,
    /// The parts that are complete.
    pub(in crate::streams) parts: Vec<Part>,
    /// What there is of the next part.
    pub(in crate::streams) open: Pieces,
    /// Its length and bytes once it is complete. A gap has no bytes.
    pub(in crate::streams) whole: Option<(Duration, Pieces)>,
    /// The track has nothing for it.
    pub(in crate::streams) is_gap: bool,
}

impl Opening {
    /// Discontinuities in front of the segment, its own not among them.
    pub(in crate::streams) fn discontinuities_before(&self) -> u64 {
        self.discontinuities - u64::from(self.is_discontinuity)
    }
}

impl Segment {
    fn bytes(&self) -> usize {
        let whole = self.whole.iter().flat_map(|(_, pieces)| pieces);
        let parts = self.parts.iter().flat_map(|part| &part.pieces);
        let length = |pieces: &mut dyn Iterator<Item = usize>| pieces.sum::<usize>();
        // The whole is the same bytes as its parts.
        length(&mut whole.map(|piece| piece.len())).max(
            length(&mut parts.map(|piece| piece.len()))
                + length(&mut self.open.iter().map(|piece| piece.len())),
        )
    }

    /// The bytes of its parts so far.
    pub(in crate::streams) fn so_far(&self) -> Pieces {
        let parts = self.parts.iter().flat_map(|part| &part.pieces);
        parts.chain(&self.open).cloned().collect()
    }
}

/// The segments of one rendition.
#[derive(Clone, Debug)]
pub struct Listing {
    segments: VecDeque<Segment>,
    inits: VecDeque<(u32, Bytes)>,
    /// The longest part.
    part_max: Duration,
    /// The longest segment.
    segment_max: Duration,
    complete_bytes: usize,
    complete: Duration,
    version: u64,
}

impl Listing {
    /// An empty one, for segments and parts of about these lengths.
    pub(in crate::streams) fn new(segment: Duration, part: Duration) -> Self {
        Self {
            segments: VecDeque::new(),
            inits: VecDeque::new(),
            part_max: part,
            segment_max: segment,
            complete_bytes: 0,
            complete: Duration::ZERO,
            version: 0,
        }
    }

    /// Takes a step. Whether playlists change by it.
    pub(in crate::streams) fn update(&mut self, update: Update) -> bool {
        match update {
            Update::Init { version, bytes } => self.inits.push_back((version, bytes)),
            Update::Open(opening) => self.segments.push_back(Segment {
                opening,
                parts: Vec::new(),
                open: Pieces::new(),
                whole: None,
                is_gap: false,
            }),
            Update::Chunk(pieces) => {
                if let Some(segment) = self.open_segment() {
                    segment.open.extend(pieces);
                }
                return false;
            }
            Update::Part(part) => {
                self.part_max = self.part_max.max(part.duration);
                if let Some(segment) = self.open_segment() {
                    segment.open.clear();
                    segment.parts.push(part);
                }
            }
            Update::Close { duration, pieces } => {
                if let Some(segment) = self.open_segment() {
                    segment.whole = Some((duration, pieces));
                    let bytes = segment.bytes();
                    self.count(duration, bytes);
                }
            }
            Update::Gap { opening, duration } => {
                self.segments.push_back(Segment {
                    opening,
                    parts: Vec::new(),
                    open: Pieces::new(),
                    whole: Some((duration, Pieces::new())),
                    is_gap: true,
                });
                self.count(duration, 0);
            }
        }
        self.version += 1;
        true
    }

    fn count(&mut self, duration: Duration, bytes: usize) {
        self.segment_max = self.segment_max.max(duration);
        self.complete += duration;
        self.complete_bytes += bytes;
    }

    fn open_segment(&mut self) -> Option<&mut Segment> {
        self.segments
            .back_mut()
            .filter(|segment| segment.whole.is_none())
    }

    /// Lets go of segments that are not in the window of the past, or for which there is no room.
    pub(in crate::streams) fn trim(&mut self, window: Duration, bytes_max: usize) {
        while self.segments.len() > SEGMENTS_MIN
            && let Some(front) = self.segments.front()
            && let Some((duration, _)) = front.whole
        {
            let stays = self.complete - duration < window.max(3 * self.segment_max);
            if stays && self.complete_bytes <= bytes_max {
                break;
            }
            self.complete -= duration;
            self.complete_bytes -= front.bytes();
            self.segments.pop_front();
            self.version += 1;
        }
        let needed = self.segments.front().map_or(0, |front| front.opening.init);
        while self
            .inits
            .front()
            .is_some_and(|(version, _)| self.inits.len() > 1 && *version < needed)
        {
            self.inits.pop_front();
        }
    }

    /// Changes whenever playlists do.
    pub(in crate::streams) fn version(&self) -> u64 {
        self.version
    }

    /// The segments, oldest first; only the last may be incomplete.
    pub(in crate::streams) fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.iter()
    }

    /// The segment of this number.
    pub(in crate::streams) fn segment(&self, number: u64) -> Option<&Segment> {
        let first = self.segments.front()?.opening.number;
        // Numbers have no holes: what the track has nothing for is a gap.
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        self.segments.get(index)
    }

    /// The initialisation segment of this version.
    pub(in crate::streams) fn init(&self, version: u32) -> Option<&Bytes> {
        let mut inits = self.inits.iter();
        Some(&inits.find(|(known, _)| *known == version)?.1)
    }

    /// The longest part.
    pub(in crate::streams) fn part_max(&self) -> Duration {
        self.part_max
    }

    /// The longest segment in seconds, as EXT-X-TARGETDURATION counts them: rounded (RFC 8216bis
    /// 4.4.3.1).
    pub(in crate::streams) fn target_s(&self) -> u32 {
        let rounded = (self.segment_max.as_millis() + 500) / 1000;
        u32::try_from(rounded).unwrap_or(u32::MAX).max(1)
    }

    /// The number of the newest segment and how many parts of it are complete; where a whole one is
    /// the newest, that is all.
    pub(in crate::streams) fn newest(&self) -> Option<(u64, usize)> {
        let newest = self.segments.back()?;
        Some((newest.opening.number, newest.parts.len()))
    }

    /// The number of the next part: its segment and its place in that.
    pub(in crate::streams) fn next_part(&self) -> Option<(u64, usize)> {
        let newest = self.segments.back()?;
        Some(match newest.whole {
            Some(_) => (newest.opening.number + 1, 0),
            None => (newest.opening.number, newest.parts.len()),
        })
    }

    /// The part that is most likely the next: a segment that is as long as the one before is taken
    /// to be complete, although only the next frame says so.
    pub(in crate::streams) fn likely_next_part(&self) -> Option<(u64, usize)> {
        let newest = self.segments.back()?;
        let so_far: Duration = newest.parts.iter().map(|part| part.duration).sum();
        let before = self
            .segments
            .iter()
            .rev()
            .filter_map(|segment| segment.whole.as_ref())
            .map(|(duration, _)| *duration)
            .next();
        let is_full = before.is_some_and(|before| so_far + self.part_max / 8 >= before);
        match newest.whole {
            None if is_full => Some((newest.opening.number + 1, 0)),
            Some(_) | None => self.next_part(),
        }
    }

    /// Whether a player could begin: there is a part.
    pub(in crate::streams) fn has_media(&self) -> bool {
        self.segments
            .iter()
            .any(|segment| !segment.parts.is_empty())
    }

    /// Whether this segment, or this part of it, is complete.
    pub(in crate::streams) fn has(&self, number: u64, part: Option<u32>) -> bool {
        let Some(newest) = self.segments.back() else {
            return false;
        };
        if newest.opening.number != number {
            return newest.opening.number > number;
        }
        newest.whole.is_some() || part.is_some_and(|part| (part as usize) < newest.parts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(number: u64) -> Opening {
        Opening {
            number,
            start: MediaTime::from_millis(number as i64 * 2000),
            unix_ms: 0,
            is_discontinuity: number == 3,
            discontinuities: u64::from(number >= 3),
            init: 1,
            epoch: Epoch {
                number: 1,
                start: MediaTime::ZERO,
                unix_ms: 0,
            },
        }
    }

    fn part() -> Part {
        Part {
            duration: Duration::from_millis(500),
            is_independent: true,
            pieces: Pieces::new(),
        }
    }

    fn listing(segments: std::ops::Range<u64>) -> Listing {
        let mut listing = Listing::new(Duration::from_secs(2), Duration::from_millis(500));
        for number in segments {
            listing.update(Update::Open(opening(number)));
            for _ in 0..4 {
                listing.update(Update::Part(part()));
            }
            listing.update(Update::Close {
                duration: Duration::from_secs(2),
                pieces: Pieces::new(),
            });
        }
        listing
    }

    #[test]
    fn what_is_complete_can_be_had() {
        let mut listing = listing(0..3);
        assert!(
            listing.has(2, None) && listing.has(2, Some(9)),
            "it is over"
        );
        assert!(!listing.has(3, None) && !listing.has(3, Some(0)));
        assert_eq!(listing.next_part(), Some((3, 0)));
        listing.update(Update::Open(opening(3)));
        listing.update(Update::Part(part()));
        assert!(listing.has(3, Some(0)) && !listing.has(3, Some(1)) && !listing.has(3, None));
        assert_eq!(listing.next_part(), Some((3, 1)));
    }

    #[test]
    fn the_window_is_kept_and_discontinuities_are_counted() {
        let mut listing = listing(0..20);
        listing.trim(Duration::from_secs(20), usize::MAX);
        assert_eq!(listing.segments().next().unwrap().opening.number, 10);
        let first = listing.segments().next().unwrap().opening;
        assert_eq!(first.discontinuities_before(), 1);
        assert!(listing.segment(9).is_none());
        assert_eq!(listing.segment(12).unwrap().opening.number, 12);
        listing.trim(Duration::ZERO, usize::MAX);
        assert_eq!(listing.segments().count(), SEGMENTS_MIN);
    }

    #[test]
    fn a_longer_segment_raises_the_target() {
        let mut listing = listing(0..1);
        assert_eq!(listing.target_s(), 2);
        listing.update(Update::Open(opening(1)));
        listing.update(Update::Close {
            duration: Duration::from_millis(3400),
            pieces: Pieces::new(),
        });
        assert_eq!(listing.target_s(), 3, "rounded");
    }
}
