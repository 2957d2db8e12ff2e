//! A stream on a shard that is not its home: what it has been told, and what it is sent.

use std::time::{Duration, Instant};

use crate::base::ids::TrackId;
use crate::hub::{FrameLog, Home};
use crate::media::{Frame, Track};
use crate::streams::name::StreamName;
use crate::streams::packets::{Batch, Wishes};
use crate::streams::stream::{Role, Stream};
use crate::streams::track_statistics::TrackStatistics;

/// What only a mirror has.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) home: Home,
    /// What the home shard has been told.
    pub(super) wishes: Wishes,
    /// The number of the next frame; `None` before the backlog, and while frames are not wanted.
    pub(super) next_number: Option<u64>,
    /// A frame was lost: nothing is shown until the next entry.
    pub(super) is_broken: bool,
    pub(super) idle_since: Option<Instant>,
}

/// Tracks, the current group of pictures and the number of the next frame, for a new mirror.
#[derive(Debug)]
pub struct Backlog {
    tracks: Vec<(Track, TrackStatistics)>,
    retired: Vec<TrackId>,
    frames: Vec<(Frame, bool)>,
    /// `None` if frames do not follow.
    next: Option<u64>,
    unix_zero_ms: i64,
    is_packets: bool,
    is_ready: bool,
    /// For each track, what somebody can begin with; `None` if packets do not follow.
    packets: Option<Vec<(TrackId, Batch)>>,
}

/// What became of a mirrored frame.
pub(super) enum Mirrored {
    /// Viewers get it; so many before it were lost.
    Shown { lost: u64 },
    /// It needs one that was lost.
    Broken { lost: u64 },
    /// There is no subscription that it belongs to.
    Useless,
}

impl Stream {
    /// A mirror of a stream, before its backlog.
    pub(super) fn mirror(name: StreamName, home: Home, bytes_max: usize) -> Self {
        let role = Role::Mirror(Mirror {
            home,
            wishes: Wishes::default(),
            next_number: None,
            is_broken: false,
            idle_since: None,
        });
        Self::new(
            name,
            home.stream,
            role,
            FrameLog::new(Duration::ZERO, bytes_max),
        )
    }

    /// A frame from the home shard. False if one before it was lost and it cannot be shown.
    pub(super) fn mirror_frame(
        &mut self,
        now: Instant,
        number: u64,
        frame: &Frame,
        is_entry: bool,
    ) -> Mirrored {
        let Role::Mirror(mirror) = &mut self.role else {
            return Mirrored::Useless;
        };
        let Some(next) = mirror.next_number else {
            return Mirrored::Useless;
        };
        mirror.next_number = Some(number + 1);
        let lost = number.saturating_sub(next);
        if lost > 0 {
            mirror.is_broken = true;
        }
        if is_entry {
            mirror.is_broken = false;
        }
        if mirror.is_broken {
            return Mirrored::Broken { lost };
        }
        if frame.track.index() < self.statistics.len() {
            self.statistics[frame.track.index()].count(now, frame);
        }
        self.keep(now, frame.clone(), is_entry);
        Mirrored::Shown { lost }
    }

    /// The home shard's answer to a subscription. Returns the frames, with their numbers, that go on
    /// from what those who watch here have seen: they are yet to be taken and shown.
    pub(super) fn backlog(&mut self, now: Instant, backlog: Backlog) -> Vec<(u64, Frame, bool)> {
        for (track, statistics) in backlog.tracks {
            let index = track.id.index();
            self.set_track(track);
            self.statistics[index] = statistics;
        }
        self.set_retired(&backlog.retired);
        self.unix_zero_ms = backlog.unix_zero_ms;
        let has_frames = !backlog.frames.is_empty();
        let known = match &self.role {
            Role::Mirror(mirror) => mirror.next_number,
            Role::Home(_) => None,
        };
        let mut further = Vec::new();
        match known.zip(backlog.next) {
            Some((known, next)) => {
                let numbers = next.saturating_sub(backlog.frames.len() as u64)..next;
                let numbered = numbers.zip(backlog.frames);
                let unseen = numbered.filter(|(number, _)| *number >= known);
                further.extend(unseen.map(|(number, (frame, entry))| (number, frame, entry)));
            }
            None => {
                for (frame, is_entry) in backlog.frames {
                    self.keep(now, frame, is_entry);
                }
            }
        }
        self.is_packets = backlog.is_packets;
        // Home has waited for all of this already.
        self.is_ready |= backlog.is_ready && (backlog.is_packets || has_frames);
        if let Role::Mirror(mirror) = &mut self.role
            && let Some(next) = backlog.next.filter(|_| known.is_none())
        {
            mirror.next_number = Some(next);
            mirror.is_broken = false;
        }
        for (track, batch) in backlog.packets.into_iter().flatten() {
            if let Some(track) = self.tracks.get(track.index()) {
                // Some of it may have come already, if the wish for it was taken back for a moment.
                self.packets.track(track).keep(&batch);
            }
        }
        further
    }

    /// What a mirror begins with that wants more than it did.
    pub(super) fn to_backlog(&self, gained: Wishes) -> Backlog {
        let has_frames = !self.is_packets || gained.frames;
        let tracks = self.tracks.iter().zip(&self.statistics);
        Backlog {
            tracks: tracks
                .map(|(track, statistics)| {
                    let statistics = TrackStatistics {
                        oldest: self.log.span_of(track.id).map(|(oldest, _)| oldest),
                        ..*statistics
                    };
                    (track.clone(), statistics)
                })
                .collect(),
            retired: self.retired.iter().copied().collect(),
            frames: self
                .log
                .since_entry()
                .filter(|_| has_frames)
                .map(|(frame, is_entry)| (frame.clone(), is_entry))
                .collect(),
            next: match &self.role {
                Role::Home(home) => Some(home.next_number),
                Role::Mirror(mirror) => mirror.next_number,
            }
            .filter(|_| has_frames),
            unix_zero_ms: self.unix_zero_ms,
            is_packets: self.is_packets,
            is_ready: self.is_ready,
            packets: (self.is_packets && gained.packets).then(|| {
                let tracks = self.packets.tracks.iter();
                tracks
                    .map(|(id, track)| (*id, track.run().unwrap_or_else(|| [].into())))
                    .collect()
            }),
        }
    }
}
