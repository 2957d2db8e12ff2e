//! Where the packets of tracks land in one outgoing RTP stream.
//!
//! A receiver sees one stream with sequence numbers and timestamps that go on, whichever simulcast
//! layer it is given, wherever it came in. Nothing here is kept for each packet: a *run* maps all
//! numbers of a track from one entry on, and few runs are remembered, so that a packet that the
//! receiver asks for again is found.

use std::collections::VecDeque;

use crate::base::ids::TrackId;
use crate::media::{MediaTime, Packet, Start};
use crate::proto::srtp::Window;

/// Runs that are remembered. A run ends when the layer changes or the receiver has skipped; who
/// asks for something older than the last eight of those asks in vain.
const RUNS_MAX: usize = 8;

/// A packet may be as late as the receiver's own window allows: 512 packets.
const SENT_WORDS: usize = 8;

/// How much faster than it was taken the part before a viewer's entry is shown: 33 ms between two
/// pictures become 1 ms, so that the receiver shows the newest at once and not the past at length.
const SQUEEZE: i64 = 32;

/// A packet's place in the outgoing stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The sequence number, extended; the lower 16 bits go out.
    pub(super) sequence: u64,
    /// The RTP timestamp.
    pub(super) timestamp: u32,
    /// The time is not the packet's own: it is part of an entry that is shown faster.
    pub(super) is_squeezed: bool,
}

/// Numbers of one outgoing stream.
#[derive(Debug)]
pub(super) struct Numbering {
    clock_rate: u32,
    timestamp_offset: u32,
    needs_keyframe: bool,
    /// The track that is to be sent as soon as it can be.
    wanted: TrackId,
    /// The next run begins at the next keyframe even if the track stays.
    is_lost: bool,
    runs: VecDeque<Run>,
    /// Sequence numbers that were given out, and the one before the first. Two packets sealed under
    /// one number would give the key away, whoever hands the same packet over twice.
    sent: Window<SENT_WORDS>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    track: TrackId,
    /// The first of the track's numbers, and where it landed.
    number: u64,
    sequence: u64,
    squeezed: Option<Squeezed>,
}

/// Packets before `until` are shown in less time than they were taken in; the last at `end`.
#[derive(Clone, Copy, Debug)]
struct Squeezed {
    until: u64,
    end: MediaTime,
}

impl Numbering {
    /// Numbers for `track`. Video begins at a keyframe. `seed` gives the first sequence number
    /// (below 2^15, RFC 3711 section 3.3.1) and the timestamps' offset.
    pub(super) fn new(track: TrackId, clock_rate: u32, needs_keyframe: bool, seed: u64) -> Self {
        Self {
            clock_rate,
            timestamp_offset: (seed >> 32) as u32,
            needs_keyframe,
            wanted: track,
            is_lost: true,
            runs: VecDeque::new(),
            sent: Window::new(1 + (seed & 0x3fff)),
        }
    }

    /// The track that is sent, once one is.
    pub(super) fn track(&self) -> Option<TrackId> {
        self.runs.back().map(|run| run.track)
    }

    /// The track that is to be sent.
    pub(super) fn wanted(&self) -> TrackId {
        self.wanted
    }

    /// Sends another track from its next keyframe on.
    pub(super) fn want(&mut self, track: TrackId) {
        self.wanted = track;
    }

    /// The receiver has missed something: goes on with the next keyframe.
    pub(super) fn skip(&mut self) {
        self.is_lost = true;
    }

    /// The packets of a viewer's entry follow: those before `until` are older than the stream's
    /// newest picture, which was taken at `end`. They begin a run of their own.
    pub(super) fn enter(&mut self, first: &Packet, until: u64, end: MediaTime) {
        self.begin(first, Some(Squeezed { until, end }));
    }

    /// Where a packet lands. `None` if it does not go out: it is of another track, from before the
    /// entry, the stream waits for a keyframe, or it has gone out.
    pub(super) fn place(&mut self, packet: &Packet) -> Option<Place> {
        let is_entry = !self.needs_keyframe || packet.start == Start::Keyframe;
        let is_other = self.track() != Some(packet.track);
        if (is_other || self.is_lost) && packet.track == self.wanted && is_entry {
            self.begin(packet, None);
        } else if self.is_lost {
            return None;
        }
        let run = self.runs.back().filter(|run| run.track == packet.track)?;
        let sequence = run.sequence + packet.number.checked_sub(run.number)?;
        let place = self.place_in(run, packet, sequence);
        self.sent.check(sequence).ok()?;
        self.sent.mark(sequence);
        Some(place)
    }

    fn begin(&mut self, first: &Packet, squeezed: Option<Squeezed>) {
        self.is_lost = false;
        self.wanted = first.track;
        if self.runs.len() == RUNS_MAX {
            self.runs.pop_front();
        }
        self.runs.push_back(Run {
            track: first.track,
            number: first.number,
            sequence: self.sent.newest() + 1,
            squeezed,
        });
    }

    /// The track and number that went out, or would have, with these 16 bits. `None` if that is
    /// longer ago than the runs reach, or has not been reached.
    pub(super) fn source(&self, sequence: u16) -> Option<(TrackId, u64, u64)> {
        let behind = u64::from((self.sent.newest() as u16).wrapping_sub(sequence));
        let sequence = self.sent.newest().checked_sub(behind)?;
        let run = self
            .runs
            .iter()
            .rev()
            .find(|run| run.sequence <= sequence)?;
        let number = run.number + (sequence - run.sequence);
        Some((run.track, number, sequence))
    }

    /// The timestamp that a packet went out with, for sending it again.
    pub(super) fn place_again(&self, packet: &Packet, sequence: u64) -> Option<Place> {
        let run = self
            .runs
            .iter()
            .rev()
            .find(|run| run.sequence <= sequence)?;
        Some(self.place_in(run, packet, sequence))
    }

    fn place_in(&self, run: &Run, packet: &Packet, sequence: u64) -> Place {
        let squeezed = run
            .squeezed
            .filter(|squeezed| packet.number < squeezed.until);
        let time = squeezed.map_or(packet.time, |squeezed| {
            let before = (squeezed.end - packet.time).as_micros() / SQUEEZE;
            squeezed.end - MediaTime::from_micros(before)
        });
        Place {
            sequence,
            timestamp: self.timestamp_at(time),
            is_squeezed: squeezed.is_some(),
        }
    }

    /// The timestamp of a point of the stream's timeline.
    pub(super) fn timestamp_at(&self, time: MediaTime) -> u32 {
        (time.as_ticks(self.clock_rate) as u32).wrapping_add(self.timestamp_offset)
    }
}

#[cfg(test)]
mod tests {
    use crate::media::samples;

    use super::*;

    fn packet(track: u16, number: u64, millis: i64, start: Start) -> Packet {
        samples::packet(track, number, millis, start, 10)
    }

    fn video() -> Numbering {
        Numbering::new(TrackId(0), 90_000, true, 7)
    }

    #[test]
    fn video_begins_at_a_keyframe_and_gaps_stay_gaps() {
        let mut numbering = video();
        assert_eq!(numbering.place(&packet(0, 10, 0, Start::Frame)), None);
        let first = numbering
            .place(&packet(0, 11, 33, Start::Keyframe))
            .unwrap();
        assert_eq!(first.sequence, 9);
        assert_eq!(first.timestamp, 33 * 90);
        let later = numbering.place(&packet(0, 14, 66, Start::Frame)).unwrap();
        assert_eq!(later.sequence, 12, "two are missing");
        let late = numbering.place(&packet(0, 12, 33, Start::No)).unwrap();
        assert_eq!(late.sequence, 10, "one of them comes late");
        assert_eq!(
            numbering.place(&packet(0, 10, 0, Start::No)),
            None,
            "from before the entry"
        );
    }

    #[test]
    fn no_packet_goes_out_twice_under_one_number() {
        let mut numbering = video();
        let first = packet(0, 11, 0, Start::Keyframe);
        assert!(numbering.place(&first).is_some());
        assert_eq!(numbering.place(&first), None);
        numbering.place(&packet(0, 13, 33, Start::Frame));
        assert!(numbering.place(&packet(0, 12, 33, Start::Frame)).is_some());
        assert_eq!(numbering.place(&packet(0, 12, 33, Start::Frame)), None);
        numbering.place(&packet(0, 2000, 900, Start::Frame));
        let late = packet(0, 14, 40, Start::Frame);
        assert_eq!(numbering.place(&late), None, "nobody could tell");
    }

    #[test]
    fn another_layer_is_joined_at_its_keyframe_and_the_numbers_go_on() {
        let mut numbering = video();
        numbering.place(&packet(0, 1, 0, Start::Keyframe));
        numbering.want(TrackId(1));
        assert_eq!(numbering.place(&packet(1, 500, 30, Start::Frame)), None);
        let old = numbering.place(&packet(0, 2, 33, Start::Frame)).unwrap();
        let new = numbering
            .place(&packet(1, 501, 66, Start::Keyframe))
            .unwrap();
        assert_eq!(new.sequence, old.sequence + 1);
        assert_eq!(new.timestamp, old.timestamp + 33 * 90);
        assert_eq!(numbering.place(&packet(0, 3, 66, Start::Keyframe)), None);
        assert_eq!(numbering.track(), Some(TrackId(1)));
        let asked = numbering.source(old.sequence as u16).unwrap();
        assert_eq!(asked, (TrackId(0), 2, old.sequence));
        let asked = numbering.source(new.sequence as u16).unwrap();
        assert_eq!(asked, (TrackId(1), 501, new.sequence));
        assert_eq!(numbering.source(new.sequence as u16 + 1), None, "not yet");
    }

    #[test]
    fn the_part_before_the_entry_is_shown_in_no_time() {
        let mut numbering = video();
        let first = packet(0, 1, 0, Start::Keyframe);
        numbering.enter(&first, 4, MediaTime::from_millis(2000));
        let times: Vec<u32> = [(1, 0), (2, 33), (3, 2000), (4, 2033)]
            .into_iter()
            .map(|(number, millis)| {
                let packet = packet(0, number, millis, Start::Frame);
                numbering.place(&packet).unwrap().timestamp
            })
            .collect();
        assert_eq!(times[2], 2000 * 90);
        assert_eq!(times[3], 2033 * 90, "live from here");
        assert!(times[0] < times[1] && times[1] < times[2]);
        assert!(times[2] - times[0] <= 2000 * 90 / 32 + 1);
        let again = numbering.place_again(&first, numbering.runs[0].sequence);
        assert_eq!(again.unwrap().timestamp, times[0]);
    }

    #[test]
    fn who_skipped_goes_on_at_a_keyframe_without_a_gap() {
        let mut numbering = video();
        let before = numbering.place(&packet(0, 1, 0, Start::Keyframe)).unwrap();
        numbering.skip();
        assert_eq!(numbering.place(&packet(0, 50, 500, Start::Frame)), None);
        let after = numbering
            .place(&packet(0, 90, 900, Start::Keyframe))
            .unwrap();
        assert_eq!(after.sequence, before.sequence + 1);
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut numbering = video();
        numbering.place(&packet(0, 0, 0, Start::Keyframe));
        let place = numbering
            .place(&packet(0, 70_000, 0, Start::Frame))
            .unwrap();
        assert_eq!(place.sequence, 70_009);
        let found = numbering.source(place.sequence as u16).unwrap();
        assert_eq!(found.1, 70_000);
        let found = numbering
            .source((place.sequence as u16).wrapping_sub(6000))
            .unwrap();
        assert_eq!(found.1, 64_000);
    }
}
