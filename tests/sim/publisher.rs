//! An encoder, a good one or a bad one.

use std::time::{Duration, Instant};

use ringside::base::prng::Prng;
use ringside::media::{Frame, Track};

use super::media::{Stamp, Tracks, frame};
use super::packets::Cutter;

const VIDEO_US: i64 = 40_000;
const AUDIO_US: i64 = 50_000;

const CHANGES_APART: Duration = Duration::from_millis(1500);

/// ADTS has 13 bits for the size of a frame.
const AUDIO_BYTES_MAX: u64 = 8000;

/// A datagram holds as much sound.
const PACKET_BYTES_MAX: u64 = 1000;

/// What the server has told it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Asked,
    /// The number that it stamps its frames with.
    Accepted(u32),
}

#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) name: usize,
    pub(crate) standing: Standing,
    has_video: bool,
    has_audio: bool,
    is_opus: bool,
    is_rough: bool,
    /// B-frames: presentation is up to so many frames behind.
    reorder: i64,
    group: u32,
    version: u8,
    changed_at: Duration,
    has_announced: bool,
    /// It sends packets, not frames.
    pub(crate) cutter: Option<Cutter>,
    /// It was asked for a keyframe.
    pub(crate) is_asked: bool,
    /// Its clock less the world's, in microseconds.
    offset: i64,
    next_video: Duration,
    next_audio: Duration,
    videos: u32,
    audios: u32,
}

/// A frame, and the track if that changed just before.
pub(crate) struct Made {
    pub(crate) track: Option<Track>,
    /// The track that it is of.
    pub(crate) of: Track,
    pub(crate) frame: Frame,
}

impl Publisher {
    pub(crate) fn new(rng: &mut Prng, name: usize, now: Duration) -> Self {
        let tracks = rng.below(10);
        Self {
            name,
            standing: Standing::Asked,
            has_video: true,
            has_audio: tracks != 0,
            is_opus: rng.chance(30),
            is_rough: true,
            reorder: if rng.chance(50) { 2 } else { 0 },
            group: 1 + rng.below(60) as u32,
            version: 1,
            changed_at: now,
            has_announced: false,
            cutter: None,
            is_asked: false,
            offset: rng.below(8_000_000_000) as i64,
            next_video: now,
            next_audio: now,
            videos: 0,
            audios: 0,
        }
    }

    /// As a WebRTC session.
    pub(crate) fn cut(&mut self) {
        self.cutter = Some(Cutter::new());
        self.is_opus = true;
    }

    /// As an encoder ought to be.
    pub(crate) fn smooth(&mut self) {
        self.is_rough = false;
    }

    /// As one that plays to a viewer who waits for a keyframe.
    pub(crate) fn quick(&mut self) {
        self.smooth();
        self.has_audio = true;
        self.group = 10;
    }

    pub(crate) fn is_live(&self) -> bool {
        match self.standing {
            Standing::Asked | Standing::Accepted(_) => true,
        }
    }

    /// It was accepted.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.next_video = now;
        self.next_audio = now;
    }

    /// Tracks to be announced before the first frame.
    pub(crate) fn tracks_due(&mut self, rng: &mut Prng, tracks: &Tracks) -> Vec<Track> {
        if self.has_announced {
            return Vec::new();
        }
        self.has_announced = true;
        self.version = 1 + rng.below(200) as u8;
        let mut due = Vec::new();
        if self.has_video {
            due.push(tracks.video(0, self.version));
        }
        if self.has_audio {
            due.push(tracks.audio(1, self.is_opus));
        }
        due
    }

    /// What it has made until now.
    pub(crate) fn media_due(
        &mut self,
        rng: &mut Prng,
        tracks: &Tracks,
        now: Duration,
        received: Instant,
    ) -> Vec<Made> {
        let mut made = Vec::new();
        if self.is_rough {
            self.misbehave(rng, now);
        }
        while self.has_video && self.next_video <= now {
            made.push(self.picture(rng, tracks, received));
            self.next_video += Duration::from_micros(VIDEO_US as u64);
        }
        while self.has_audio && self.next_audio <= now {
            made.push(self.sound(rng, tracks, received));
            self.next_audio += Duration::from_micros(AUDIO_US as u64);
        }
        made
    }

    fn misbehave(&mut self, rng: &mut Prng, now: Duration) {
        match rng.below(3000) {
            0 => self.offset += 3_600_000_000,
            1 => self.offset -= 3_600_000_000,
            2 => self.offset += rng.below(12_000_000) as i64,
            3 => self.offset -= rng.below(3_000_000) as i64,
            4 => {
                let until = now + Duration::from_millis(rng.below(4000));
                self.next_video = until;
                self.next_audio = until;
            }
            // Only the camera hangs.
            5 => self.next_video = now + Duration::from_millis(rng.below(4000)),
            6 => self.group = 1 + rng.below(100) as u32,
            _ => {}
        }
    }

    fn stamp(&self, rng: &mut Prng, number: u32, is_key: bool, size_max: u64) -> Stamp {
        let Standing::Accepted(publisher) = self.standing else {
            unreachable!("it waits until it is accepted");
        };
        let size = match rng.below(50) {
            0 => rng.below(size_max),
            _ => rng.below(2_000),
        };
        Stamp {
            stream: self.name as u8,
            publisher,
            number,
            version: self.version,
            is_key,
            size: size as u32,
        }
    }

    fn jitter(&self, rng: &mut Prng) -> i64 {
        if self.is_rough {
            rng.below(30_000) as i64 - 15_000
        } else {
            0
        }
    }

    fn picture(&mut self, rng: &mut Prng, tracks: &Tracks, received: Instant) -> Made {
        let is_key = self.videos.is_multiple_of(self.group) || self.is_asked;
        self.is_asked &= !is_key;
        // Each change begins a segment, and their numbers are not to overtake the clock.
        let may_change = is_key && self.next_video >= self.changed_at + CHANGES_APART;
        let changes = may_change && self.videos > 0 && self.cutter.is_none() && rng.below(10) == 0;
        if changes {
            self.version = 1 + self.version % 200;
            self.changed_at = self.next_video;
        }
        let track = tracks.video(0, self.version);
        let stamp = self.stamp(rng, self.videos, is_key, 100_000);
        self.videos += 1;
        let dts = self.next_video.as_micros() as i64 + self.offset + self.jitter(rng);
        let ahead = rng.below(self.reorder as u64 + 1) as i64;
        let frame = frame(&track, stamp, dts, dts + ahead * VIDEO_US, received);
        Made {
            track: changes.then(|| track.clone()),
            of: track,
            frame,
        }
    }

    fn sound(&mut self, rng: &mut Prng, tracks: &Tracks, received: Instant) -> Made {
        let track = tracks.audio(1, self.is_opus);
        let mut stamp = self.stamp(rng, self.audios, false, AUDIO_BYTES_MAX);
        if self.cutter.is_some() {
            stamp.size = stamp.size.min(PACKET_BYTES_MAX as u32);
        }
        self.audios += 1;
        let dts = self.next_audio.as_micros() as i64 + self.offset + self.jitter(rng);
        Made {
            track: None,
            frame: frame(&track, stamp, dts, dts, received),
            of: track,
        }
    }
}
