//! A viewer that looks closely at what it is sent.

use std::fmt;
use std::time::Duration;

use ringside::base::prng::Prng;
use ringside::hub::Pieces;
use ringside::media::Kind;
use ringside::streams::Container;

use super::media::Stamp;
use super::reader::{Reader, Seen};

/// How fast it takes what it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// At once.
    Fast,
    /// About so many bytes a second.
    Slow(u64),
    /// It does not read.
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Asked,
    Playing,
    /// It has been answered, and may ask again.
    Over,
}

pub(crate) struct Viewer {
    pub(crate) name: usize,
    pub(crate) container: Container,
    pub(crate) is_chunked: bool,
    pub(crate) pace: Pace,
    pub(crate) stage: Stage,
    /// It asked for information and does not play.
    pub(crate) only_asks: bool,
    pub(crate) is_paused: bool,
    pub(crate) has_paused: bool,
    pub(crate) paused_at: Duration,
    /// Bytes that it has taken.
    pub(crate) taken: u64,
    /// What the kernel holds for it.
    pub(crate) pieces: Pieces,
    /// Skips of its shard when it was seated.
    pub(crate) skips: u64,
    pub(crate) seated_at: Duration,
    pub(crate) videos: u64,
    pub(crate) last_frame_at: Duration,
    /// Bytes on their way, and when they will have been taken.
    under_way: Option<(u64, Duration)>,
    reader: Reader,
    version: Option<u8>,
    last: [Option<Last>; 2],
}

/// The last frame of a kind.
#[derive(Clone, Copy, Debug)]
struct Last {
    stamp: Stamp,
    /// `None` once the container began anew.
    time: Option<u64>,
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer")
            .field("name", &self.name)
            .field("container", &self.container)
            .field("is_chunked", &self.is_chunked)
            .field("pace", &self.pace)
            .field("stage", &self.stage)
            .field("seated_at", &self.seated_at)
            .field("has_paused", &self.has_paused)
            .field("videos", &self.videos)
            .field("version", &self.version)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl Viewer {
    pub(crate) fn new(name: usize, container: Container, is_chunked: bool, pace: Pace) -> Self {
        Self {
            name,
            container,
            is_chunked,
            pace,
            stage: Stage::Asked,
            only_asks: false,
            is_paused: false,
            has_paused: false,
            paused_at: Duration::ZERO,
            taken: 0,
            pieces: Pieces::new(),
            skips: 0,
            seated_at: Duration::ZERO,
            videos: 0,
            last_frame_at: Duration::ZERO,
            under_way: None,
            reader: Reader::new(container, is_chunked),
            version: None,
            last: [None; 2],
        }
    }

    /// Whether the server owes it something.
    pub(crate) fn is_waiting(&self) -> bool {
        match self.stage {
            Stage::Asked | Stage::Playing => true,
            Stage::Over => false,
        }
    }

    /// True once when what was on its way has been taken.
    pub(crate) fn drains_by(&mut self, now: Duration) -> bool {
        match self.under_way {
            Some((bytes, at)) if at <= now => {
                self.taken += bytes;
                self.under_way = None;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Bytes are on their way to it.
    pub(crate) fn on_its_way(&mut self, bytes: u64, now: Duration, rng: &mut Prng) {
        let needs = match self.pace {
            Pace::Fast => Duration::from_micros(rng.below(3000)),
            Pace::Slow(rate) => Duration::from_secs_f64(bytes as f64 / rate as f64),
            Pace::Never if bytes == 0 => Duration::ZERO,
            Pace::Never => Duration::from_secs(1 << 30),
        };
        self.under_way = Some((bytes, now + needs));
    }

    /// Looks at a run of frames. Returns how many there were. With `may_gap`, frames may be
    /// missing; what follows a gap must be decodable all the same.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        now: Duration,
        may_gap: bool,
        rng: &mut Prng,
    ) -> Result<u64, String> {
        if self.stage != Stage::Playing {
            return Err("media for somebody who does not play".into());
        }
        if self.under_way.is_some() {
            return Err("media while more is on its way".into());
        }
        if self.is_paused && now > self.paused_at {
            return Err("media while paused".into());
        }
        if bytes.is_empty() {
            return Err("an empty run".into());
        }
        self.on_its_way(bytes.len() as u64, now, rng);
        self.reader.take(bytes)?;
        let mut frames = 0;
        while let Some(seen) = self.reader.next() {
            match seen {
                Seen::Config(version) => self.version = Some(version),
                Seen::Restart => {
                    for last in self.last.iter_mut().flatten() {
                        last.time = None;
                    }
                }
                Seen::Discontinuity if may_gap => {}
                Seen::Discontinuity => return Err("a transport packet is missing".into()),
                Seen::Frame { kind, time, stamp } => {
                    self.check(kind, time, stamp, may_gap)?;
                    self.last[kind as usize] = Some(Last {
                        stamp,
                        time: Some(time),
                    });
                    self.last_frame_at = now;
                    frames += 1;
                }
            }
        }
        Ok(frames)
    }

    fn check(&mut self, kind: Kind, time: u64, stamp: Stamp, may_gap: bool) -> Result<(), String> {
        let error = |what: &str| Err(format!("{what}: {stamp:?} at {time}"));
        if usize::from(stamp.stream) != self.name {
            return error("a frame of another stream");
        }
        let last = self.last[kind as usize];
        if let Some(before) = last.and_then(|last| last.time)
            && time < before
        {
            return error("time falls");
        }
        let follows = last.is_some_and(|last| {
            last.stamp.publisher == stamp.publisher && last.stamp.number + 1 == stamp.number
        });
        if let Some(Last { stamp: before, .. }) = last
            && before.publisher == stamp.publisher
        {
            if stamp.number <= before.number {
                return error("a frame comes again");
            }
            if !follows && !may_gap {
                return error("frames are missing");
            }
        }
        if kind == Kind::Video {
            self.videos += 1;
            if !stamp.is_key && !follows {
                return error("a picture without those that it needs");
            }
            // The configuration of transport streams stands in the keyframes.
            if self.container != Container::Ts && self.version != Some(stamp.version) {
                return error("the decoder is configured for something else");
            }
        }
        Ok(())
    }
}
