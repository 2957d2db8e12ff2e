//! From a publisher's packet numbers and times to a stream's.

use std::collections::VecDeque;
use std::time::Duration;

use super::timeline::{Adjustment, Timeline};
use crate::base::ids::TrackId;
use crate::media::MediaTime;

/// Changes of offset that are remembered for packets that come late.
const CHANGES_MAX: usize = 8;

/// A packet whose time is further behind its track than this, and whose number is not, comes of a
/// clock that has jumped; less, and it is a picture that is shown before others that it follows.
const BACK_MAX: Duration = Duration::from_secs(1);

/// A publisher's numbers that go on further ahead than this have begun anew: 3 s of 8 Mbit/s are
/// not lost without the sender having been away.
const AHEAD_MAX: u64 = 2048;

/// Packets in a row that are further behind than [`AHEAD_MAX`], after which the numbers have begun
/// anew. Fewer may be duplicates that were long under way.
const BEHIND_MAX: u32 = 16;

/// Maps one sender's numbers to those of a track, which go on without a hole where another sender
/// begins.
#[derive(Debug, Default)]
pub struct Renumbering {
    /// The sender's number and the track's that stand for the same packet.
    joined: Option<(u64, u64)>,
    /// The track's next number.
    next: u64,
    behind: u32,
    /// The number before the joined one was left out, and is for the packet before.
    has_gap: bool,
}

impl Renumbering {
    /// Another sender begins.
    pub fn rejoin(&mut self) {
        self.joined = None;
    }

    /// The track's next number, if nothing is lost.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes the number that was just given at a join, so that its packet has the next one and
    /// whoever receives it notices that it does not go on from the one before. Where the sender's
    /// first two packets have changed places, the first one fits in.
    pub fn leave_gap(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.has_gap = true;
        if let Some((_, to)) = &mut self.joined {
            *to = number;
        }
        number
    }

    /// The track's number for a sender's, and whether the numbers were joined here; `None` for a
    /// packet from before they were, or that is of no use to anybody.
    pub fn place(&mut self, number: u64) -> Option<(u64, bool)> {
        if let Some((from, to)) = self.joined {
            if number.checked_add(1) == Some(from) && std::mem::take(&mut self.has_gap) {
                self.behind = 0;
                return Some((to - 1, false));
            }
            let placed = if number >= from {
                to.checked_add(number - from)
            } else {
                to.checked_sub(from - number)
            };
            // What is older than the sender's first packet would take a place of the sender before.
            let placed = placed.filter(|_| number >= from);
            match placed {
                Some(placed) if placed >= self.next && placed - self.next < AHEAD_MAX => {
                    self.next = placed + 1;
                    self.behind = 0;
                    return Some((placed, false));
                }
                Some(placed) if placed < self.next && self.next - placed <= AHEAD_MAX => {
                    self.behind = 0;
                    return Some((placed, false));
                }
                Some(placed) if placed >= self.next => {}
                Some(_) | None => {
                    self.behind += 1;
                    if self.behind < BEHIND_MAX {
                        return None;
                    }
                }
            }
        }
        self.behind = 0;
        self.has_gap = false;
        let placed = self.next;
        self.joined = Some((number, placed));
        self.next = placed + 1;
        Some((placed, true))
    }
}

/// Maps one track's packet times to the stream's timeline. What is decided for the first packet of
/// a frame holds for all of them, however late they come.
#[derive(Debug, Default)]
pub struct PacketClock {
    /// From which packet on which offset holds.
    changes: VecDeque<Change>,
    /// Number and time, as the publisher has it, of the newest packet.
    newest: Option<u64>,
    /// The highest time, as the publisher has it, since the last change.
    highest: Option<MediaTime>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    number: u64,
    /// The packet's time, as the publisher has it.
    time: MediaTime,
    offset: MediaTime,
}

impl PacketClock {
    /// Another publisher begins.
    pub fn rejoin(&mut self) {
        self.highest = None;
    }

    /// The stream's time for a packet that has the stream's `number` and the publisher's `time`.
    pub fn place(
        &mut self,
        timeline: &mut Timeline,
        track: TrackId,
        number: u64,
        time: MediaTime,
    ) -> (MediaTime, Adjustment) {
        if self.newest.is_some_and(|newest| number <= newest) {
            return (time + self.offset_at(number, time), Adjustment::Steady);
        }
        self.newest = Some(number);
        if let Some(highest) = self.highest {
            let is_reordered = time <= highest && highest.since(time) <= BACK_MAX;
            if is_reordered {
                return (time + self.offset_at(number, time), Adjustment::Steady);
            }
        }
        self.highest = Some(time);
        let (placed, adjustment) = timeline.place_time(track, time);
        let offset = placed - time;
        if self.changes.back().map(|change| change.offset) != Some(offset) {
            if self.changes.len() == CHANGES_MAX {
                self.changes.pop_front();
            }
            self.changes.push_back(Change {
                number,
                time,
                offset,
            });
        }
        (placed, adjustment)
    }

    fn offset_at(&self, number: u64, time: MediaTime) -> MediaTime {
        // The first packet that arrived after a jump need not be the first of its frame.
        let is_of = |change: &&Change| change.number <= number || change.time == time;
        let known = self.changes.iter().rfind(is_of);
        known
            .or_else(|| self.changes.front())
            .map_or(MediaTime::ZERO, |change| change.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: TrackId = TrackId(0);

    fn millis(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    #[test]
    fn another_sender_goes_on_where_the_last_one_ended() {
        let mut numbers = Renumbering::default();
        assert_eq!(numbers.place(60_000), Some((0, true)));
        assert_eq!(numbers.place(60_002), Some((2, false)), "a loss is kept");
        assert_eq!(numbers.place(60_001), Some((1, false)), "and may be late");
        numbers.rejoin();
        assert_eq!(numbers.place(17), Some((3, true)));
        assert_eq!(numbers.place(16), None, "it would take another's place");
        assert_eq!(numbers.place(18), Some((4, false)));
    }

    #[test]
    fn a_sender_whose_first_packets_change_places_loses_none() {
        let mut numbers = Renumbering::default();
        numbers.place(5);
        numbers.rejoin();
        assert_eq!(numbers.place(101), Some((1, true)));
        assert_eq!(numbers.leave_gap(), 2);
        assert_eq!(numbers.place(100), Some((1, false)));
        assert_eq!(numbers.place(100), None, "once");
        assert_eq!(numbers.place(102), Some((3, false)));
    }

    #[test]
    fn numbers_that_jump_are_joined() {
        let mut numbers = Renumbering::default();
        numbers.place(0);
        assert_eq!(numbers.place(u64::MAX), Some((1, true)));
        assert_eq!(numbers.place(u64::MAX), Some((1, false)));
        let mut placed = Vec::new();
        for number in 0..40 {
            placed.extend(numbers.place(number));
        }
        assert_eq!(placed.first(), Some(&(2, true)));
        assert_eq!(placed.len(), 40 - BEHIND_MAX as usize + 1);
    }

    #[test]
    fn packets_of_a_frame_have_one_time_even_late_and_across_a_jump() {
        let (mut timeline, mut clock) = (Timeline::default(), PacketClock::default());
        let mut place = |number, time| clock.place(&mut timeline, VIDEO, number, millis(time));
        assert_eq!(place(0, 5000), (millis(0), Adjustment::Steady));
        assert_eq!(place(1, 5000), (millis(0), Adjustment::Steady));
        assert_eq!(place(4, 5080), (millis(80), Adjustment::Steady));
        assert_eq!(place(5, 3_605_080).1, Adjustment::Rejoined);
        assert_eq!(place(6, 3_605_080).0, millis(113));
        assert_eq!(place(3, 5040), (millis(40), Adjustment::Steady), "late");
        assert_eq!(place(7, 3_605_120).0, millis(153));
    }

    #[test]
    fn a_jump_holds_for_the_whole_frame_that_arrives_in_disorder() {
        let (mut timeline, mut clock) = (Timeline::default(), PacketClock::default());
        let mut place = |number, time| clock.place(&mut timeline, VIDEO, number, millis(time));
        place(0, 5000);
        let (second, adjustment) = place(2, 3_605_000);
        assert_eq!(adjustment, Adjustment::Rejoined);
        assert_eq!(place(1, 3_605_000), (second, Adjustment::Steady));
    }

    #[test]
    fn pictures_that_are_shown_out_of_order_keep_their_times() {
        let (mut timeline, mut clock) = (Timeline::default(), PacketClock::default());
        let times = [0, 120, 40, 80, 240, 160, 200];
        for (number, time) in times.into_iter().enumerate() {
            let placed = clock.place(&mut timeline, VIDEO, number as u64, millis(9000 + time));
            assert_eq!(placed, (millis(time), Adjustment::Steady));
        }
    }

    #[test]
    fn a_new_publisher_continues_the_timeline() {
        let (mut timeline, mut clock) = (Timeline::default(), PacketClock::default());
        clock.place(&mut timeline, VIDEO, 0, millis(1000));
        timeline.rejoin();
        clock.rejoin();
        let (time, _) = clock.place(&mut timeline, VIDEO, 1, millis(40));
        assert_eq!(time, millis(33));
        assert_eq!(
            clock.place(&mut timeline, VIDEO, 2, millis(80)).0,
            millis(73)
        );
    }
}
