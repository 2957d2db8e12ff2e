//! What a stream does with packets: those of its publisher, and frames that are built from them.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::base::ids::{ShardId, TrackId};
use crate::hub::{Adjustment, Kept};
use crate::media::{Codec, Frame, Kind, Packet, Track, codec};
use crate::streams::packets::Wishes;
use crate::streams::stream::{READY_AFTER, Role, Stream, is_entry};
use crate::streams::track_builder::{BuiltFrame, TrackBuilder};

/// How long a stream of packets waits until its keyframes have shown what its pictures are like.
const CONFIGURE_MAX: Duration = Duration::from_secs(2);

/// A publisher's packets on the stream's timeline, by track.
#[derive(Debug, Default)]
pub(super) struct IngestedPackets {
    pub(super) batches: SmallVec<[(TrackId, Vec<Packet>); 4]>,
    /// Packets of tracks that were not announced.
    pub(super) unknown: u64,
    /// Frames whose time did not fit.
    pub(super) retimed: u64,
}

/// What came of a batch of packets while frames are built.
#[derive(Debug, Default)]
pub(super) struct Built {
    /// Frames, which are to be shown if `is_shown`.
    pub(super) frames: Vec<BuiltFrame>,
    pub(super) is_shown: bool,
    /// Tracks without which nothing can be decoded from here on.
    pub(super) needs_keyframe: SmallVec<[TrackId; 2]>,
}

impl Stream {
    /// A publisher's packets: finds their tracks, puts them on the timeline and keeps them.
    pub(super) fn ingest_packets(
        &mut self,
        now: Instant,
        unix_ms: i64,
        (shard, publisher): (ShardId, u64),
        packets: Vec<Packet>,
    ) -> Option<IngestedPackets> {
        let Role::Home(home) = &mut self.role else {
            return None;
        };
        let publication = home
            .publication
            .as_ref()
            .filter(|publication| publication.is_of_packets(shard, publisher))?;
        let mut ingested = IngestedPackets::default();
        for mut packet in packets {
            let known = publication.tracks.get(packet.track.index()).copied();
            let Some(track) = known.flatten().map(|id| &self.tracks[id.index()]) else {
                ingested.unknown += 1;
                continue;
            };
            let part = self.packets.track(track);
            let Some(number) = part.number(&packet) else {
                continue;
            };
            let (time, adjustment) =
                part.clock
                    .place(&mut home.timeline, track.id, number, packet.time);
            packet.track = track.id;
            packet.number = number;
            packet.time = time;
            let kept = part.log.push(packet.clone());
            if matches!(kept, Kept::Duplicate | Kept::TooOld) {
                continue;
            }
            ingested.retimed += u64::from(adjustment != Adjustment::Steady);
            if self.first_packet.is_none() {
                self.first_packet = Some(now);
                if self.first_frame.is_none() {
                    self.unix_zero_ms = unix_ms - time.as_millis();
                }
            }
            self.statistics[track.id.index()].count_packet(
                now,
                &packet,
                track.kind(),
                kept == Kept::Late,
            );
            let id = track.id;
            match ingested.batches.iter_mut().find(|(track, _)| *track == id) {
                Some((_, batch)) => batch.push(packet),
                None => ingested.batches.push((id, vec![packet])),
            }
        }
        Some(ingested)
    }

    /// A mirror's packets from the home shard, all of one track.
    pub(super) fn mirror_packets(&mut self, now: Instant, packets: &[Packet]) -> Vec<Packet> {
        let track = packets
            .first()
            .and_then(|first| self.tracks.get(first.track.index()));
        let Some(track) = track.filter(|_| self.is_packets) else {
            return Vec::new();
        };
        let statistics = &mut self.statistics[track.id.index()];
        for packet in packets {
            statistics.count_packet(now, packet, track.kind(), false);
        }
        self.packets.track(track).keep(packets)
    }

    /// Whether enough is known of a publisher that sends packets. Only home knows.
    pub(super) fn has_ready_packets(&self, now: Instant) -> bool {
        let Some(first) = self.first_packet else {
            return false;
        };
        let active = || {
            let tracks = self.tracks.iter();
            tracks.filter(|track| !self.retired.contains(&track.id))
        };
        let has = |kind| active().any(|track| track.kind() == kind);
        let has_both = has(Kind::Video) && has(Kind::Audio);
        let is_configured = !has(Kind::Video)
            || active()
                .filter(|track| track.kind() == Kind::Video)
                .filter_map(|track| self.packets.tracks.get(&track.id))
                .any(|part| part.is_configured);
        matches!(self.role, Role::Home(_))
            && (has_both || now >= first + READY_AFTER)
            && (is_configured || now >= first + CONFIGURE_MAX)
    }

    /// Whether anybody needs frames of a stream of packets.
    pub(super) fn needs_frames(&self) -> bool {
        let Role::Home(home) = &self.role else {
            return false;
        };
        !self.outlets.is_empty()
            || !self.renditions.is_empty()
            || home.mirrors.values().any(|wishes| wishes.frames)
    }

    /// Begins to build frames, or stops it, as somebody needs them or not. True if it begins.
    pub(super) fn review_building(&mut self) -> bool {
        let needs = self.needs_frames();
        if needs == self.packets.is_building {
            return false;
        }
        self.packets.is_building = needs;
        // What comes does not go on from what is kept.
        self.log.clear();
        self.cutter.rejoin();
        for part in self.packets.tracks.values_mut() {
            if needs || part.is_configured {
                part.builder = None;
            }
        }
        needs
    }

    /// Builds frames from a track's packets, if somebody needs them or its keyframes are to show
    /// what it is like.
    pub(super) fn build(&mut self, now: Instant, id: TrackId, packets: &[Packet]) -> Built {
        let begins = self.review_building();
        let mut built = Built {
            is_shown: self.packets.is_building,
            ..Built::default()
        };
        if begins {
            let videos = self.tracks.iter().filter(|it| it.kind() == Kind::Video);
            built.needs_keyframe.extend(videos.map(|track| track.id));
        }
        let Some(track) = self.tracks.get(id.index()) else {
            return built;
        };
        let part = self.packets.track(track);
        if !built.is_shown && part.is_configured {
            part.builder = None;
            return built;
        }
        if part.builder.is_none() {
            part.builder = TrackBuilder::new(track.codec).map(Box::new);
        }
        let Some(builder) = &mut part.builder else {
            return built;
        };
        for packet in packets {
            if builder.push(now, track, packet, &mut part.times, &mut built.frames)
                && !built.needs_keyframe.contains(&id)
            {
                built.needs_keyframe.push(id);
            }
        }
        built
    }

    /// A frame that was built is one of the stream: its number, and whether a viewer can begin
    /// there.
    pub(super) fn keep_built(&mut self, now: Instant, frame: &Frame) -> (u64, bool) {
        let is_entry = is_entry(&self.tracks, &self.retired, frame);
        let number = match &mut self.role {
            Role::Home(home) => {
                let number = home.next_number;
                home.next_number += 1;
                number
            }
            Role::Mirror(_) => 0,
        };
        self.keep(now, frame.clone(), is_entry);
        (number, is_entry)
    }

    /// What a keyframe tells of its track, if that is another than before.
    pub(super) fn learn_built(&mut self, built: &BuiltFrame) -> Option<Box<Track>> {
        let frame = &built.frame;
        let track = self.tracks.get_mut(frame.track.index())?;
        if !frame.keyframe || track.kind() == Kind::Audio {
            return None;
        }
        let before = track.clone();
        // A publisher of packets has its configuration in its keyframes, and may change it there.
        if let Some(init) = &built.config
            && *init != track.init
        {
            track.init = init.clone();
            codec::describe(track);
        }
        codec::learn(track, &frame.data);
        let learned = (*track != before).then(|| Box::new(track.clone()));
        let track = &self.tracks[frame.track.index()];
        self.packets.track(track).is_configured = true;
        learned
    }

    /// The packets of a frame, for those who watch packets here; nothing if nobody does.
    pub(super) fn packetize(&mut self, frame: &Frame) -> Vec<Packet> {
        if !self.packets.is_watched || self.is_packets {
            return Vec::new();
        }
        match self.tracks.get(frame.track.index()) {
            Some(track) => self.packets.track(track).packetize(track, frame),
            None => Vec::new(),
        }
    }

    /// Makes packets of what is kept of frames, for the first who watches a track.
    pub(super) fn packetize_backlog(&mut self, id: TrackId) {
        let Some(track) = self.tracks.get(id.index()) else {
            return;
        };
        let part = self.packets.track(track);
        // Where a publisher has just begun, those who watch have had what is kept already.
        if self.is_packets || part.is_packetizing() || part.is_watched() {
            return;
        }
        let frames = self.log.since_entry().map(|(frame, _)| frame);
        for frame in frames.filter(|frame| frame.track == id) {
            part.packetize(track, frame);
        }
    }

    /// Another publisher has begun at home.
    pub(super) fn mirror_begin(&mut self, is_packets: bool, next: u64) {
        self.packets.rejoin();
        self.is_packets = is_packets;
        if let Role::Mirror(mirror) = &mut self.role
            && !is_packets
            && mirror.next_number.is_none()
        {
            mirror.next_number = Some(next);
            mirror.is_broken = false;
        }
    }

    /// A mirror's frames are not wanted any more, and will not come.
    pub(super) fn release_frames(&mut self) {
        if let Role::Mirror(mirror) = &mut self.role
            && self.is_packets
            && mirror.next_number.take().is_some()
        {
            self.log.clear();
        }
    }

    /// What a mirror tells the home shard that it wants.
    pub(super) fn set_wishes(&mut self, wishes: Wishes) {
        if let Role::Mirror(mirror) = &mut self.role {
            mirror.wishes = wishes;
        }
    }

    /// The number of the stream's next frame.
    pub(super) fn next_number(&self) -> u64 {
        match &self.role {
            Role::Home(home) => home.next_number,
            Role::Mirror(mirror) => mirror.next_number.unwrap_or(0),
        }
    }

    /// The tracks of which packets can be had, as viewers know them.
    pub(super) fn identities(&self) -> Vec<(TrackId, Codec, String)> {
        self.tracks
            .iter()
            .filter(|track| !self.retired.contains(&track.id))
            .map(|track| (track.id, track.codec, track.rid.clone()))
            .collect()
    }
}
