//! One live stream on one shard: at home where its log is, or a mirror of that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;

use crate::base::ids::{ConnId, ShardId, StreamId, TrackId};
use crate::hub::{Adjustment, FrameLog, Timeline};
use crate::media::{Codec, Frame, Kind, MediaTime, Track, codec};
use crate::streams::info::{self, StreamInfo, TrackInfo};
use crate::streams::name::StreamName;
use crate::streams::outlet::Outlet;
use crate::streams::output::Container;
use crate::streams::packets::{Packets, Wishes};
use crate::streams::segment_request::SegmentRequest;
use crate::streams::segments::Key;
use crate::streams::segments::cutter::{Cut, Cutter};
use crate::streams::segments::playlists::Facts;
use crate::streams::segments::rendition::Rendition;
use crate::streams::snapshot::{StreamSnapshot, TrackSnapshot};
use crate::streams::stream_mirror::Mirror;
use crate::streams::track_statistics::TrackStatistics;

/// How long a stream that has only audio or only video so far waits for the other.
pub(super) const READY_AFTER: Duration = Duration::from_millis(500);

/// How long a publisher that takes a stream over may take to announce the tracks that it had.
const RETIRE_AFTER: Duration = Duration::from_secs(2);

/// A stream on one shard.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: StreamName,
    pub(super) id: StreamId,
    pub(super) role: Role,
    pub(super) tracks: Vec<Track>,
    pub(super) statistics: Vec<TrackStatistics>,
    /// Tracks that the publisher of now does not have; one before it had them.
    pub(super) retired: BTreeSet<TrackId>,
    pub(super) log: FrameLog,
    pub(super) outlets: Slab<Outlet>,
    pub(super) packets: Packets,
    /// The publisher of now sends packets, or the last one did.
    pub(super) is_packets: bool,
    /// At home: when the first packet came.
    pub(super) first_packet: Option<Instant>,
    /// At home: where segments begin.
    pub(super) cutter: Cutter,
    /// At home: what the frames that are kept are of.
    configurations: BTreeMap<TrackId, (Codec, Bytes)>,
    pub(super) renditions: BTreeMap<Key, Rendition<Box<SegmentRequest>>>,
    pub(super) segment_bytes_out: [u64; 2],
    pub(super) first_frame: Option<Instant>,
    pub(super) is_ready: bool,
    /// Bytes handed over for viewers, by container.
    pub(super) bytes_out: [u64; Container::ALL.len()],
    pub(super) skips: u64,
    /// Viewers seated on this shard so far.
    pub(super) views: u64,
    /// How long those of them that have left watched, together.
    pub(super) viewed: Duration,
    pub(super) unix_zero_ms: i64,
}

/// Where the stream's log is.
#[derive(Debug)]
pub(super) enum Role {
    /// Here.
    Home(AtHome),
    /// On another shard.
    Mirror(Mirror),
}

/// What only the home shard has.
#[derive(Debug)]
pub(super) struct AtHome {
    pub(super) timeline: Timeline,
    pub(super) publication: Option<Publication>,
    pub(super) mirrors: BTreeMap<ShardId, Wishes>,
    /// Since when there is no publisher.
    pub(super) alone_since: Option<Instant>,
    /// When the tracks that the publisher has not announced by then are retired.
    retire_at: Option<Instant>,
    /// The registrar has been asked to forget the name.
    pub(super) is_releasing: bool,
    pub(super) next_number: u64,
    /// The number of the newest grant that has begun.
    turn: u64,
}

/// A publisher of a stream.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) shard: ShardId,
    pub(super) publisher: u64,
    pub(super) protocol: &'static str,
    /// It sends packets, not frames.
    is_packets: bool,
    /// The stream's track for each of the publisher's.
    pub(super) tracks: Vec<Option<TrackId>>,
    /// The number of its next frame.
    next: u64,
    /// A frame was lost: nothing is shown until the next entry.
    is_broken: bool,
}

/// What became of a publisher's frame.
pub(super) enum Ingested {
    /// It is a frame of this stream, with this number.
    Frame {
        /// With the stream's track and time.
        frame: Frame,
        /// A viewer can begin here.
        is_entry: bool,
        /// Counts the stream's frames.
        number: u64,
        /// The publisher's time did not fit.
        is_retimed: bool,
        /// So many before it were lost between shards.
        lost: u64,
        /// What the frame told of its track that was not known before.
        learned: Option<Box<Track>>,
    },
    /// It may need one that was lost between shards.
    Broken {
        /// So many before it were lost.
        lost: u64,
    },
    /// It is of a track that was not announced.
    Unknown,
}

impl Stream {
    /// A stream at home, before its publisher begins.
    pub(super) fn at_home(
        name: StreamName,
        id: StreamId,
        now: Instant,
        (window, segment): (Duration, Duration),
        bytes_max: usize,
    ) -> Self {
        let role = Role::Home(AtHome {
            timeline: Timeline::default(),
            publication: None,
            mirrors: BTreeMap::new(),
            alone_since: Some(now),
            retire_at: None,
            is_releasing: false,
            next_number: 0,
            turn: 0,
        });
        let mut stream = Self::new(name, id, role, FrameLog::new(window, bytes_max));
        stream.cutter = Cutter::new(segment);
        stream
    }

    pub(super) fn new(name: StreamName, id: StreamId, role: Role, log: FrameLog) -> Self {
        Self {
            name,
            id,
            role,
            tracks: Vec::new(),
            statistics: Vec::new(),
            retired: BTreeSet::new(),
            log,
            outlets: Slab::new(),
            packets: Packets::default(),
            is_packets: false,
            first_packet: None,
            cutter: Cutter::new(Duration::ZERO),
            configurations: BTreeMap::new(),
            renditions: BTreeMap::new(),
            segment_bytes_out: [0; 2],
            first_frame: None,
            is_ready: false,
            bytes_out: [0; Container::ALL.len()],
            skips: 0,
            views: 0,
            viewed: Duration::ZERO,
            unix_zero_ms: 0,
        }
    }

    pub(super) fn home(&mut self) -> Option<&mut AtHome> {
        match &mut self.role {
            Role::Home(home) => Some(home),
            Role::Mirror(_) => None,
        }
    }

    pub(super) fn home_ref(&self) -> Option<&AtHome> {
        match &self.role {
            Role::Home(home) => Some(home),
            Role::Mirror(_) => None,
        }
    }

    /// The track that segments are cut by: the first with pictures, or else the first of all.
    pub(super) fn cut_track(&self) -> Option<TrackId> {
        let active = || {
            self.tracks
                .iter()
                .filter(|track| !self.retired.contains(&track.id))
        };
        active()
            .find(|track| track.kind() == Kind::Video)
            .or_else(|| active().next())
            .map(|track| track.id)
    }

    /// A track's configuration is another than that of the frames that are kept: what is made of
    /// these later would be wrong.
    pub(super) fn note_configuration(&mut self, track: &Track) {
        let known = self.configurations.get_mut(&track.id);
        if let Some(known) = known.filter(|known| **known != (track.codec, track.init.clone())) {
            *known = (track.codec, track.init.clone());
            self.cutter.change();
        }
    }

    /// A frame at home: whether a segment begins with it.
    pub(super) fn cut(&mut self, unix_ms: i64, frame: &Frame, is_entry: bool) -> Option<Cut> {
        if !self.configurations.contains_key(&frame.track)
            && let Some(track) = self.tracks.get(frame.track.index())
        {
            let configuration = (track.codec, track.init.clone());
            self.configurations.insert(frame.track, configuration);
        }
        let cut = if self.cut_track() == Some(frame.track) {
            self.cutter.frame(unix_ms, frame, is_entry)?
        } else {
            self.cutter.other_frame(unix_ms, frame)?
        };
        if let Some((oldest, _)) = self.log.span() {
            self.cutter.trim(oldest);
        }
        Some(cut)
    }

    /// All frames that are kept, oldest first.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Frame> {
        self.log.iter()
    }

    /// The tracks that viewers can have, with their bit rates.
    pub(super) fn facts(&self) -> Vec<Facts> {
        self.tracks
            .iter()
            .zip(&self.statistics)
            .filter(|(track, _)| !self.retired.contains(&track.id))
            .map(|(track, statistics)| {
                let (rate, rate_max) = statistics.bits_per_second();
                Facts {
                    track: track.clone(),
                    rate,
                    rate_max,
                }
            })
            .collect()
    }

    pub(super) fn set_window(&mut self, window: Duration) {
        if matches!(self.role, Role::Home(_)) {
            self.log.set_window(window);
        }
    }

    /// A publisher begins. Its clock is joined to the timeline. One on another shard may say so
    /// when the next one has begun, which stays: false then.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        turn: u64,
        (shard, publisher): (ShardId, u64),
        (protocol, is_packets): (&'static str, bool),
    ) -> bool {
        let Role::Home(home) = &mut self.role else {
            return false;
        };
        if home.turn >= turn {
            return false;
        }
        home.turn = turn;
        for (track, part) in &mut self.packets.tracks {
            if let Some(decoded) = part.times.rejoin() {
                home.timeline.advance(*track, decoded);
            }
        }
        home.timeline.rejoin();
        self.cutter.rejoin();
        let Some(home) = self.home() else {
            return false;
        };
        home.publication = Some(Publication {
            shard,
            publisher,
            protocol,
            is_packets,
            tracks: Vec::new(),
            next: 0,
            is_broken: false,
        });
        home.alone_since = None;
        home.is_releasing = false;
        home.retire_at = Some(now + RETIRE_AFTER);
        self.packets.rejoin();
        self.is_packets = is_packets;
        // What is kept of frames is let go of with the first packets, unless somebody needs it.
        self.packets.is_building = is_packets;
        true
    }

    /// Tracks that the publisher has not announced in time, once. Viewers that come would wait
    /// for their keyframes, and no keyframe would end a group of pictures.
    pub(super) fn retire(&mut self, now: Instant) -> Vec<TrackId> {
        let Role::Home(home) = &mut self.role else {
            return Vec::new();
        };
        let Some(publication) = &home.publication else {
            return Vec::new();
        };
        // A publisher that has announced nothing so far is only slow.
        if publication.tracks.iter().all(Option::is_none)
            || home.retire_at.is_none_or(|at| now < at)
        {
            return Vec::new();
        }
        home.retire_at = None;
        let missing: Vec<TrackId> = self
            .tracks
            .iter()
            .map(|track| track.id)
            .filter(|id| !publication.tracks.contains(&Some(*id)))
            .filter(|id| !self.retired.contains(id))
            .collect();
        self.set_retired(&missing);
        missing
    }

    pub(super) fn set_retired(&mut self, tracks: &[TrackId]) {
        self.retired.extend(tracks);
        if !tracks.is_empty() {
            self.log.close_group();
        }
    }

    /// The tracks that viewers can have.
    pub(super) fn active(&self) -> Vec<Track> {
        self.tracks
            .iter()
            .filter(|track| !self.retired.contains(&track.id))
            .cloned()
            .collect()
    }

    /// A publisher is gone. False if it was not the current one.
    pub(super) fn end(&mut self, now: Instant, shard: ShardId, publisher: u64) -> bool {
        let Some(home) = self.home() else {
            return false;
        };
        if !home.is_published_by(shard, publisher) {
            return false;
        }
        home.publication = None;
        home.alone_since = Some(now);
        true
    }

    /// A publisher's track. Returns the stream's track if it is new or has changed.
    pub(super) fn ingest_track(
        &mut self,
        (shard, publisher): (ShardId, u64),
        mut track: Track,
        tracks_max: usize,
    ) -> Option<Track> {
        codec::describe(&mut track);
        let Role::Home(home) = &mut self.role else {
            return None;
        };
        if !home.is_published_by(shard, publisher) {
            return None;
        }
        let publication = home.publication.as_mut()?;
        let index = track.id.index();
        if index >= tracks_max {
            return None;
        }
        if publication.tracks.len() <= index {
            publication.tracks.resize(index + 1, None);
        }
        let id = if let Some(id) = publication.tracks[index] {
            id
        } else {
            // A publisher that returns finds its tracks again by their order within a kind.
            let ordinal = publication.tracks[..]
                .iter()
                .flatten()
                .filter(|id| self.tracks[id.index()].kind() == track.kind())
                .count();
            let known = self
                .tracks
                .iter()
                .filter(|known| known.kind() == track.kind())
                .nth(ordinal)
                .map(|known| known.id);
            let id = known.unwrap_or(TrackId(self.tracks.len() as u16));
            if id.index() >= tracks_max {
                return None;
            }
            publication.tracks[index] = Some(id);
            id
        };
        track.id = id;
        if let Some(known) = self.tracks.get(id.index())
            && track.init.is_empty()
            && known.codec == track.codec
        {
            // What its frames told is not forgotten because the publisher does not tell it.
            track.init = known.init.clone();
            codec::describe(&mut track);
            track.video = track.video.or(known.video);
            track.audio = track.audio.or(known.audio);
        }
        self.set_track(track.clone()).then_some(track)
    }

    /// Adds or replaces a track. False if nothing changed.
    pub(super) fn set_track(&mut self, track: Track) -> bool {
        let index = track.id.index();
        let was_retired = self.retired.remove(&track.id);
        match self.tracks.get_mut(index) {
            Some(known) if *known == track => return was_retired,
            Some(known) => {
                if (known.codec, &known.init) != (track.codec, &track.init) {
                    self.log.close_group();
                }
                *known = track;
                self.statistics[index].has_learned = false;
            }
            None => {
                self.tracks.push(track);
                self.statistics.push(TrackStatistics::default());
            }
        }
        true
    }

    /// A publisher's frame: finds its track and puts it on the timeline.
    pub(super) fn ingest(
        &mut self,
        now: Instant,
        unix_ms: i64,
        (shard, publisher): (ShardId, u64),
        number: u64,
        mut frame: Frame,
    ) -> Ingested {
        let Role::Home(home) = &mut self.role else {
            return Ingested::Unknown;
        };
        let Some(publication) = home
            .publication
            .as_mut()
            .filter(|publication| publication.is(shard, publisher) && !publication.is_packets)
        else {
            return Ingested::Unknown;
        };
        let lost = number.saturating_sub(publication.next);
        publication.next = number + 1;
        publication.is_broken |= lost > 0;
        let known = publication.tracks.get(frame.track.index()).copied();
        let Some(track) = known.flatten() else {
            return Ingested::Unknown;
        };
        frame.track = track;
        let is_entry = is_entry(&self.tracks, &self.retired, &frame);
        publication.is_broken &= !is_entry;
        if publication.is_broken {
            return Ingested::Broken { lost };
        }
        let adjustment = home.timeline.place(&mut frame);
        let number = home.next_number;
        home.next_number += 1;
        let learned = self.learn(&frame);
        if self.first_frame.is_none() && self.first_packet.is_none() {
            self.unix_zero_ms = unix_ms - frame.dts.as_millis();
        }
        self.statistics[track.index()].count(now, &frame);
        self.keep(now, frame.clone(), is_entry);
        Ingested::Frame {
            frame,
            is_entry,
            number,
            is_retimed: adjustment != Adjustment::Steady,
            lost,
            learned,
        }
    }

    /// Some publishers leave a track's configuration to its first frame.
    fn learn(&mut self, frame: &Frame) -> Option<Box<Track>> {
        let index = frame.track.index();
        if !frame.keyframe || self.statistics[index].has_learned {
            return None;
        }
        self.statistics[index].has_learned = true;
        let track = &mut self.tracks[index];
        codec::learn(track, &frame.data).then(|| Box::new(track.clone()))
    }

    pub(super) fn keep(&mut self, now: Instant, frame: Frame, is_entry: bool) {
        self.first_frame.get_or_insert(now);
        self.log.push(frame, is_entry);
    }

    /// Whether viewers can be served: enough is known to choose their tracks.
    pub(super) fn is_ready(&mut self, now: Instant) -> bool {
        if self.is_ready {
            return true;
        }
        if self.is_packets {
            self.is_ready = self.has_ready_packets(now);
            return self.is_ready;
        }
        let Some(first_frame) = self.first_frame else {
            return false;
        };
        let active = self.active();
        let has = |kind| active.iter().any(|track| track.kind() == kind);
        let has_entry = self
            .log
            .since_entry()
            .next()
            .is_some_and(|(_, entry)| entry);
        let has_both = has(Kind::Video) && has(Kind::Audio);
        self.is_ready = has_entry && (has_both || now >= first_frame + READY_AFTER);
        self.is_ready
    }

    /// When [`Stream::is_ready`] may change without a frame.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        self.first_frame
            .or(self.first_packet)
            .filter(|_| !self.is_ready)
            .map(|first| first + READY_AFTER)
    }

    pub(super) fn viewers(&self) -> usize {
        let of_outlets = self.outlets.iter().map(|(_, outlet)| outlet.viewers.len());
        of_outlets.sum::<usize>() + self.packets.viewers.len()
    }

    /// What players are told of it.
    pub(super) fn info(&self, window: Duration, keep_away: Duration) -> StreamInfo {
        let window = MediaTime::from_micros(i64::try_from(window.as_micros()).unwrap_or(i64::MAX));
        let tracks = self
            .tracks
            .iter()
            .zip(&self.statistics)
            .filter(|(track, _)| !self.retired.contains(&track.id))
            .map(|(track, statistics)| {
                let (first, last) = self.log.span_of(track.id).unwrap_or_else(|| {
                    let last = MediaTime::from_millis(statistics.last_ms);
                    (last, last)
                });
                // A mirror keeps less than the home shard, and speaks for it.
                let oldest = statistics.oldest.map(|oldest| oldest.max(last - window));
                TrackInfo {
                    track: track.clone(),
                    codecs: codec::rfc6381(track),
                    first: oldest.unwrap_or(first).min(first),
                    last,
                    bytes_per_second: statistics.rate,
                    bytes_per_second_max: statistics.rate_max,
                    jitter: Duration::ZERO,
                }
            })
            .collect();
        let output = |format, container: Container| info::Output {
            format,
            left_out: self
                .tracks
                .iter()
                .filter(|track| !container.carries(track.codec))
                .map(|track| track.id)
                .collect(),
        };
        StreamInfo {
            name: self.name.clone(),
            tracks,
            bframes: self.statistics.iter().any(|track| track.is_reordered),
            unix_zero_ms: self.unix_zero_ms,
            keep_away,
            outputs: vec![
                output(info::Format::Mp4, Container::Mp4),
                output(info::Format::Flv, Container::Flv),
                output(info::Format::Ts, Container::Ts),
                output(info::Format::Hls, Container::Ts),
                output(info::Format::Cmaf, Container::Mp4),
                output(info::Format::Dash, Container::Mp4),
                output(info::Format::Rtmp, Container::Rtmp),
                output(info::Format::WebRtc, Container::WebRtc),
                output(info::Format::Whep, Container::WebRtc),
                output(info::Format::Page, Container::Mp4),
            ],
        }
    }

    /// Decoding time of the newest frame, in milliseconds.
    pub(super) fn newest_ms(&self) -> i64 {
        let newest = self.statistics.iter().map(|statistics| statistics.last_ms);
        newest.max().unwrap_or(0)
    }

    /// The oldest time that is kept, and the newest, in milliseconds.
    pub(super) fn span_ms(&self) -> (i64, i64) {
        let newest = self.newest_ms();
        let spans = self
            .tracks
            .iter()
            .filter_map(|track| self.log.span_of(track.id));
        let oldest = spans.map(|(first, _)| first.as_millis()).min();
        (oldest.unwrap_or(newest), newest)
    }

    pub(super) fn snapshot(&self) -> StreamSnapshot {
        let mut viewers = [0; Container::ALL.len()];
        for (_, outlet) in &self.outlets {
            viewers[outlet.container as usize] += outlet.viewers.len() as u64;
        }
        viewers[Container::WebRtc as usize] = self.packets.viewers.len() as u64;
        let publisher = match &self.role {
            Role::Home(home) => home
                .publication
                .as_ref()
                .map(|publication| publication.protocol),
            Role::Mirror(_) => None,
        };
        let tracks = self
            .tracks
            .iter()
            .zip(&self.statistics)
            .map(|(track, statistics)| TrackSnapshot {
                track: track.clone(),
                frames: statistics.frames,
                bytes: statistics.bytes,
                bytes_per_s: statistics.rate,
                bytes_per_s_max: statistics.rate_max,
                first_ms: self
                    .log
                    .span_of(track.id)
                    .map_or(statistics.last_ms, |(first, _)| first.as_millis()),
                last_ms: statistics.last_ms,
                keyframes: statistics.keyframes,
            })
            .collect();
        StreamSnapshot {
            name: self.name.clone(),
            id: self.id,
            is_home: matches!(self.role, Role::Home(_)),
            publisher,
            tracks,
            viewers,
            bytes_out: self.bytes_out,
            segment_bytes_out: self.segment_bytes_out,
            renditions: self.renditions.len() as u64,
            skips: self.skips,
            views: self.views,
            view_seconds: self.viewed.as_secs(),
            log_bytes: (self.log.bytes() + self.packets.bytes()) as u64,
            unix_zero_ms: self.unix_zero_ms,
        }
    }
}

impl AtHome {
    pub(super) fn is_published_by(&self, shard: ShardId, publisher: u64) -> bool {
        self.publication
            .as_ref()
            .is_some_and(|publication| publication.is(shard, publisher))
    }
}

impl Publication {
    /// The publisher's number for a track of the stream.
    pub(super) fn track(&self, id: TrackId) -> Option<TrackId> {
        let index = self.tracks.iter().position(|track| *track == Some(id))?;
        Some(TrackId(index as u16))
    }

    /// It is of this publisher, who sends packets.
    pub(super) fn is_of_packets(&self, shard: ShardId, publisher: u64) -> bool {
        self.is(shard, publisher) && self.is_packets
    }

    fn is(&self, shard: ShardId, publisher: u64) -> bool {
        self.shard == shard && self.publisher == publisher
    }
}

/// A viewer can begin at a keyframe of the first video track; without video, anywhere.
pub(super) fn is_entry(tracks: &[Track], retired: &BTreeSet<TrackId>, frame: &Frame) -> bool {
    let mut active = tracks.iter().filter(|track| !retired.contains(&track.id));
    match active.find(|track| track.kind() == Kind::Video) {
        Some(video) => frame.keyframe && frame.track == video.id,
        None => true,
    }
}

/// A viewer.
#[derive(Debug)]
pub(super) struct Viewer {
    pub(super) conn: ConnId,
    pub(super) stream: StreamId,
    pub(super) outlet: usize,
    pub(super) container: Container,
    /// Up to where it has read; `None` until there is a frame at which it can begin.
    pub(super) position: Option<u64>,
    /// It goes on at the newest entry, unless that is behind it.
    pub(super) seeks: bool,
    /// Nothing is on its way to it.
    pub(super) is_idle: bool,
    /// It wants nothing until it says so.
    pub(super) is_paused: bool,
    /// What it had taken when that was last looked at.
    pub(super) taken: u64,
    pub(super) taken_at: Instant,
    /// When it was seated.
    pub(super) since: Instant,
}
