//! The packets of one stream on one shard: what is kept of each track, and who gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::base::ids::{ConnId, StreamId, TrackId};
use crate::hub::{Kept, PacketClock, PacketLog, Renumbering};
use crate::media::{Codec, Frame, Kind, Packet, Start, Track};
use crate::proto::rtp::payload::{Options, Packetizer};
use crate::streams::track_builder::{DecodingTimes, TrackBuilder};

/// The longest run that somebody who joins is given: a second and a half of 8 Mbit/s. What is longer
/// would take longer to arrive than a new keyframe.
const BACKLOG_PACKETS_MAX: usize = 1024;

/// The longest run that somebody who joins is given while the publisher may be asked for a keyframe
/// instead. Browsers make one only when they are asked, so that a run may reach back for a minute.
const BACKLOG_TIME_MAX: Duration = Duration::from_secs(1);

/// How long the publisher may take to send the keyframe that somebody waits for. One that does not
/// (FFmpeg takes no feedback) is not waited for again: who joins gets the run that there is.
const KEYFRAME_WAIT: Duration = Duration::from_millis(400);

/// The least time between two requests for a keyframe of one track.
const KEYFRAME_APART: Duration = Duration::from_millis(500);

/// How long packets are kept, asked for and made without viewers.
const PACKETS_LINGER: Duration = Duration::from_secs(5);

/// A run of packets that all its receivers share.
pub(super) type Batch = Arc<[Packet]>;

/// The packets of a stream on one shard.
#[derive(Debug, Default)]
pub(super) struct Packets {
    pub(super) tracks: BTreeMap<TrackId, PacketTrack>,
    /// Keys of the viewers.
    pub(super) viewers: BTreeSet<usize>,
    /// Since when there are none.
    idle_since: Option<Instant>,
    /// Packets are asked for, or made of frames.
    pub(super) is_watched: bool,
    /// At home: frames are built from packets for somebody.
    pub(super) is_building: bool,
    /// The tracks that viewers know of.
    pub(super) told: Vec<(TrackId, Codec, String)>,
    /// It was said that pictures are out of order.
    pub(super) has_warned: bool,
    /// At home: mirrors know that the stream is ready.
    pub(super) has_told_ready: bool,
}

/// The packets of one track.
#[derive(Debug)]
pub(super) struct PacketTrack {
    codec: Codec,
    pub(super) log: PacketLog,
    pub(super) numbers: Renumbering,
    pub(super) clock: PacketClock,
    live: Vec<ConnId>,
    /// The same, for those who send to them; made anew when it has changed.
    shared: Option<Arc<[ConnId]>>,
    /// Viewers that wait for a run that they can begin with.
    pending: Vec<ConnId>,
    /// Since when the first of them waits.
    pending_since: Option<Instant>,
    /// The publisher was asked for a keyframe and sent none in time.
    is_deaf: bool,
    packetizer: Option<Packetizer>,
    pub(super) builder: Option<Box<TrackBuilder>>,
    pub(super) times: DecodingTimes,
    /// The publisher's keyframes have shown what the track is like.
    pub(super) is_configured: bool,
    asked_at: Option<Instant>,
    /// Somebody wants a keyframe, and the last request was too short a time ago.
    is_wanted: bool,
}

/// What a mirror wants of the home shard, apart from tracks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    /// Frames that are built from packets. Those that a publisher sent go to every mirror.
    pub frames: bool,
    /// Packets that a publisher sent.
    pub packets: bool,
}

/// A viewer of packets.
#[derive(Debug)]
pub(super) struct PacketViewer {
    pub(super) conn: ConnId,
    pub(super) stream: StreamId,
    pub(super) tracks: SmallVec<[TrackId; 4]>,
    /// The track that it watched before another one took its place: it may still ask for what it
    /// missed of that.
    pub(super) before: Option<TrackId>,
    /// When it was seated.
    pub(super) since: Instant,
    /// When it was last given a run again.
    pub(super) refreshed: Option<Instant>,
}

impl Packets {
    /// What is kept of a track. It begins anew if that is of another codec.
    pub(super) fn track(&mut self, track: &Track) -> &mut PacketTrack {
        let entry = self
            .tracks
            .entry(track.id)
            .or_insert_with(|| PacketTrack::new(track.codec));
        if entry.codec != track.codec {
            entry.codec = track.codec;
            entry.log.clear();
            entry.packetizer = None;
            entry.builder = None;
            entry.is_configured = false;
            // What they were sent up to here is of no use to go on with.
            if track.kind() == Kind::Video {
                entry.pending.append(&mut entry.live);
                entry.shared = None;
            }
        }
        entry
    }

    /// Another publisher begins: its numbers and clock have nothing to do with the last one's.
    pub(super) fn rejoin(&mut self) {
        for track in self.tracks.values_mut() {
            track.numbers.rejoin();
            track.clock.rejoin();
            track.packetizer = None;
            track.builder = None;
            track.is_configured = false;
            track.log.forget_keyframe();
            track.asked_at = None;
            track.is_deaf = false;
        }
    }

    /// Somebody came.
    pub(super) fn add_viewer(&mut self, key: usize) {
        self.viewers.insert(key);
        self.idle_since = None;
        self.is_watched = true;
    }

    /// Once in a while: true when what was kept for viewers is let go of.
    pub(super) fn rest(&mut self, now: Instant) -> bool {
        if !self.is_watched || !self.viewers.is_empty() {
            return false;
        }
        let since = *self.idle_since.get_or_insert(now);
        if now < since + PACKETS_LINGER {
            return false;
        }
        self.is_watched = false;
        true
    }

    /// Lets go of packets that come from elsewhere, or can be made again.
    pub(super) fn release(&mut self) {
        for track in self.tracks.values_mut() {
            track.log.clear();
            track.packetizer = None;
            track.numbers.rejoin();
        }
    }

    /// Bytes of payload kept.
    pub(super) fn bytes(&self) -> usize {
        self.tracks.values().map(|track| track.log.bytes()).sum()
    }
}

impl PacketTrack {
    fn new(codec: Codec) -> Self {
        Self {
            codec,
            log: PacketLog::default(),
            numbers: Renumbering::default(),
            clock: PacketClock::default(),
            live: Vec::new(),
            shared: None,
            pending: Vec::new(),
            pending_since: None,
            is_deaf: false,
            packetizer: None,
            builder: None,
            times: DecodingTimes::default(),
            is_configured: codec.kind() == Kind::Audio,
            asked_at: None,
            is_wanted: false,
        }
    }

    /// The number that a packet has here. Pictures that begin in the middle leave a number out:
    /// what comes does not go on from what was there.
    pub(super) fn number(&mut self, packet: &Packet) -> Option<u64> {
        let (number, is_joined) = self.numbers.place(packet.number)?;
        let is_decodable = packet.start == Start::Keyframe;
        Some(if is_joined && number > 0 && !is_decodable {
            self.numbers.leave_gap()
        } else {
            number
        })
    }

    /// Adds a viewer: of pictures, one that waits for a run that it can begin with.
    pub(super) fn add(&mut self, conn: ConnId) {
        if self.live.contains(&conn) || self.pending.contains(&conn) {
            return;
        }
        match self.codec.kind() {
            Kind::Video => self.pending.push(conn),
            Kind::Audio => {
                self.live.push(conn);
                self.shared = None;
            }
        }
    }

    pub(super) fn remove(&mut self, conn: ConnId) {
        self.pending.retain(|other| *other != conn);
        if let Some(at) = self.live.iter().position(|other| *other == conn) {
            self.live.swap_remove(at);
            self.shared = None;
        }
    }

    /// Those who get every batch.
    pub(super) fn live(&mut self) -> Option<Arc<[ConnId]>> {
        if self.live.is_empty() {
            return None;
        }
        let live = &self.live;
        let shared = self.shared.get_or_insert_with(|| live[..].into());
        Some(Arc::clone(shared))
    }

    /// Those who wait, and the run that they begin with; from here on they get every batch. Of a
    /// publisher that can be asked for a keyframe they wait for that, if the run is long.
    pub(super) fn start_pending(
        &mut self,
        now: Instant,
        can_ask: bool,
    ) -> Option<(Arc<[ConnId]>, Batch)> {
        if self.pending.is_empty() {
            self.pending_since = None;
            return None;
        }
        let since = *self.pending_since.get_or_insert(now);
        let is_long = can_ask && !self.is_deaf && self.reaches_back() > BACKLOG_TIME_MAX;
        if is_long && now < since + KEYFRAME_WAIT {
            return None;
        }
        let run = self.run()?;
        self.is_deaf |= is_long;
        let viewers: Arc<[ConnId]> = self.pending[..].into();
        self.live.append(&mut self.pending);
        self.pending_since = None;
        self.shared = None;
        Some((viewers, run))
    }

    /// How long ago the newest keyframe was, by the stream's time.
    fn reaches_back(&self) -> Duration {
        let first = self.log.since_keyframe().and_then(|mut run| run.next());
        let newest = self.log.newest().and_then(|number| self.log.get(number));
        first.zip(newest).map_or(Duration::ZERO, |(first, newest)| {
            newest.time.since(first.time)
        })
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What somebody can begin with.
    pub(super) fn run(&self) -> Option<Batch> {
        let run = self.log.since_keyframe()?;
        (run.len() <= BACKLOG_PACKETS_MAX).then(|| run.cloned().collect())
    }

    /// Somebody wants a keyframe. True if the publisher is to be asked now.
    pub(super) fn wants_keyframe(&mut self, now: Instant) -> bool {
        let is_early = self
            .asked_at
            .is_some_and(|at| now.saturating_duration_since(at) < KEYFRAME_APART);
        self.is_wanted = is_early;
        if !is_early {
            self.asked_at = Some(now);
        }
        !is_early
    }

    /// A batch has come. True if the publisher is to be asked for a keyframe now.
    pub(super) fn note_batch(&mut self, now: Instant, batch: &[Packet]) -> bool {
        if self.codec.kind() == Kind::Audio {
            return false;
        }
        if batch.iter().any(|packet| packet.start == Start::Keyframe) {
            self.is_wanted = false;
            // One that came when it was asked for.
            self.is_deaf &= self
                .asked_at
                .is_none_or(|at| now.saturating_duration_since(at) > KEYFRAME_WAIT);
        }
        (self.is_wanted || self.has_pending()) && self.wants_keyframe(now)
    }

    /// The packets of a frame, numbered and kept.
    pub(super) fn packetize(&mut self, track: &Track, frame: &Frame) -> Vec<Packet> {
        let mut packets = Vec::new();
        if self.packetizer.is_none() {
            self.packetizer = Packetizer::new(self.codec, Options::default());
        }
        let Some(packetizer) = &mut self.packetizer else {
            return packets; // WebRTC does not carry it.
        };
        packetizer.packetize(track, frame, &mut packets);
        packets.retain_mut(|packet| match self.numbers.place(packet.number) {
            Some((number, _)) => {
                packet.number = number;
                self.log.push(packet.clone());
                true
            }
            None => false,
        });
        packets
    }

    /// Packets of the home shard get the numbers of this one, and are kept.
    pub(super) fn keep(&mut self, batch: &[Packet]) -> Vec<Packet> {
        let packets = batch.iter().filter_map(|packet| {
            let number = self.number(packet)?;
            let packet = Packet {
                number,
                ..packet.clone()
            };
            match self.log.push(packet.clone()) {
                Kept::Newest | Kept::Late => Some(packet),
                Kept::Duplicate | Kept::TooOld => None,
            }
        });
        packets.collect()
    }

    /// Somebody gets its packets, or waits for them.
    pub(super) fn is_watched(&self) -> bool {
        !self.live.is_empty() || !self.pending.is_empty()
    }

    /// It has a packetizer that goes on.
    pub(super) fn is_packetizing(&self) -> bool {
        self.packetizer.is_some()
    }
}

#[cfg(test)]
pub(in crate::streams) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::samples;

    pub(in crate::streams) fn video() -> Track {
        Track {
            id: TrackId(0),
            codec: Codec::H264,
            init: Bytes::new(),
            video: None,
            audio: None,
            language: String::new(),
            rid: String::new(),
        }
    }

    #[test]
    fn a_viewer_of_pictures_begins_with_a_whole_run() {
        let mut track = PacketTrack::new(Codec::H264);
        let now = samples::now();
        track.add(ConnId(1));
        assert!(track.live().is_none());
        track.log.push(samples::packet(0, 0, 0, Start::Frame, 10));
        assert!(track.start_pending(now, true).is_none());
        track
            .log
            .push(samples::packet(0, 1, 0, Start::Keyframe, 10));
        track.log.push(samples::packet(0, 2, 0, Start::No, 10));
        let (viewers, run) = track.start_pending(now, true).unwrap();
        assert_eq!((viewers.len(), run.len()), (1, 2));
        assert!(track.start_pending(now, true).is_none(), "it has begun");
        let (first, second) = (track.live().unwrap(), track.live().unwrap());
        assert!(Arc::ptr_eq(&first, &second), "made once");
        track.remove(ConnId(1));
        assert!(track.live().is_none());
    }

    #[test]
    fn a_run_that_is_too_long_is_not_given() {
        let mut track = PacketTrack::new(Codec::H264);
        track
            .log
            .push(samples::packet(0, 0, 0, Start::Keyframe, 10));
        for number in 1..=BACKLOG_PACKETS_MAX as u64 {
            assert!(track.run().is_some());
            track.log.push(samples::packet(0, number, 0, Start::No, 10));
        }
        assert!(track.run().is_none());
    }

    fn long_run() -> PacketTrack {
        let mut track = PacketTrack::new(Codec::H264);
        let second = BACKLOG_TIME_MAX.as_millis() as i64;
        let run = [(0, 0, Start::Keyframe), (1, second + 1, Start::Frame)];
        for (number, time, start) in run {
            track.log.push(samples::packet(0, number, time, start, 10));
        }
        track
    }

    #[test]
    fn a_keyframe_is_better_than_a_run_of_seconds() {
        let mut track = long_run();
        let now = samples::now();
        track.add(ConnId(1));
        assert!(track.start_pending(now, true).is_none());
        assert!(track.has_pending() && track.wants_keyframe(now));
        let key = samples::packet(0, 2, 1100, Start::Keyframe, 10);
        track.log.push(key.clone());
        let later = now + KEYFRAME_WAIT / 2;
        assert!(!track.note_batch(later, &[key]));
        let (viewers, run) = track.start_pending(later, true).unwrap();
        assert_eq!((viewers.len(), run.len()), (1, 1));
    }

    #[test]
    fn who_cannot_be_asked_is_not_waited_for() {
        let mut track = long_run();
        track.add(ConnId(1));
        let (_, run) = track.start_pending(samples::now(), false).unwrap();
        assert_eq!(run.len(), 2);
    }

    #[test]
    fn who_does_not_heed_is_waited_for_once() {
        let mut track = long_run();
        let now = samples::now();
        track.add(ConnId(1));
        assert!(track.start_pending(now, true).is_none());
        assert!(track.start_pending(now + KEYFRAME_WAIT, true).is_some());
        track.add(ConnId(2));
        let later = now + 2 * KEYFRAME_WAIT;
        assert!(track.start_pending(later, true).is_some(), "at once");
        // It has learned to.
        assert!(track.wants_keyframe(later));
        let key = samples::packet(0, 2, 1100, Start::Keyframe, 10);
        track.note_batch(later + KEYFRAME_WAIT / 2, &[key]);
        track.add(ConnId(3));
        assert!(track.start_pending(later, true).is_none());
    }

    #[test]
    fn keyframes_are_asked_for_at_once_and_then_not_too_often() {
        let mut track = PacketTrack::new(Codec::H264);
        let now = samples::now();
        let at = |millis| now + Duration::from_millis(millis);
        let frame = [samples::packet(0, 0, 0, Start::Frame, 10)];
        let key = [samples::packet(0, 1, 0, Start::Keyframe, 10)];
        assert!(track.wants_keyframe(at(0)));
        assert!(!track.wants_keyframe(at(100)));
        assert!(!track.note_batch(at(200), &frame));
        assert!(track.note_batch(at(500), &frame), "it was not forgotten");
        assert!(!track.wants_keyframe(at(600)));
        assert!(!track.note_batch(at(700), &key));
        assert!(!track.note_batch(at(1200), &frame), "one has come since");
    }
}
