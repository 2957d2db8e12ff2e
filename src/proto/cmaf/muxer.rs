//! Frames in, fragments out.

use crate::base::ids::TrackId;
use crate::media::{Codec, Frame, Kind, Track, codec};

use super::boxes::{push_u32, push_zeros};
use super::clock::{Clock, Slot};
use super::entry;
use super::init::{InitTrack, push_init};

const VIDEO_TIMESCALE: u32 = 90_000;

/// Used where a publisher does not tell its frame rate.
const FRAMES_PER_1000_S_DEFAULT: u32 = 30_000;

/// Sample flags (ISO/IEC 14496-12 8.8.3.1): depends on no other sample, ...
pub(super) const FLAGS_SYNC: u32 = 0x0200_0000;
/// ... or depends on others and is no place to start.
const FLAGS_NOT_SYNC: u32 = 0x0101_0000;

/// Tracks of one file. A stream's own bound is lower; this one keeps the header small.
const TRACKS_MAX: usize = 64;

/// Writes the frames of a stream as fragmented MP4. Its fragments are the same for all viewers:
/// one who has the header can join at any fragment that begins with a keyframe.
#[derive(Debug)]
pub struct Muxer {
    outputs: Vec<Output>,
    left_out: Vec<TrackId>,
    sequence: u32,
    /// Kept for its memory.
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Output {
    track: Track,
    timescale: u32,
    sample_entry: Vec<u8>,
    clock: Clock,
    /// Ticks of every frame, of codecs whose frames are all alike.
    constant_duration: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    slot: Slot,
    size: u32,
    flags: u32,
    /// Presentation time less decode time.
    offset: i32,
}

impl Muxer {
    /// A muxer for these tracks.
    pub fn new(tracks: &[Track]) -> Self {
        let mut muxer = Self {
            outputs: Vec::new(),
            left_out: Vec::new(),
            sequence: 0,
            samples: Vec::new(),
        };
        tracks.iter().for_each(|track| muxer.put_track(track));
        muxer
    }

    /// The tracks that are not in the output: their codec has no sample entry, or its
    /// configuration is missing or broken.
    pub fn left_out(&self) -> &[TrackId] {
        &self.left_out
    }

    /// Writes the initialisation segment, which comes first for every viewer.
    pub fn header(&self, out: &mut Vec<u8>) {
        let tracks: Vec<_> = self
            .outputs
            .iter()
            .map(|output| InitTrack {
                track: &output.track,
                id: file_id(&output.track),
                timescale: output.timescale,
                sample_entry: &output.sample_entry,
            })
            .collect();
        push_init(out, &tracks);
    }

    /// Takes a new configuration, or a new track, and writes a new initialisation segment. The
    /// track's timeline goes on.
    pub fn track_changed(&mut self, track: &Track, out: &mut Vec<u8>) {
        self.put_track(track);
        self.header(out);
    }

    /// Writes a frame as a fragment of its own. A frame of a track that is left out writes
    /// nothing.
    ///
    /// How long a picture is shown is not known before the next; it is given the distance of the
    /// two before, and the next fragment's decode time corrects it.
    pub fn write(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        self.fragment(std::slice::from_ref(frame), out);
    }

    /// Writes frames of one track, in decoding order, as one fragment. Frames of other tracks
    /// among them are passed over.
    pub fn fragment(&mut self, frames: &[Frame], out: &mut Vec<u8>) {
        let Some(output) = frames.first().and_then(|frame| {
            self.outputs
                .iter_mut()
                .find(|output| output.track.id == frame.track)
        }) else {
            return;
        };
        let track = output.track.id;
        let of_track = || frames.iter().filter(|frame| frame.track == track);
        let payload: usize = of_track().map(|frame| frame.data.len()).sum();
        if payload > MDAT_SIZE_MAX {
            return;
        }
        self.samples.clear();
        for frame in of_track() {
            let sample = output.sample(frame);
            if let Some(before) = self.samples.last_mut() {
                // Within a fragment decode times are sums of durations.
                before.slot.duration = (sample.slot.time - before.slot.time)
                    .try_into()
                    .unwrap_or(u32::MAX);
            }
            self.samples.push(sample);
        }
        self.sequence = self.sequence.wrapping_add(1);
        out.reserve(MOOF_FIXED_SIZE + self.samples.len() * 16 + 8 + payload);
        push_moof(output, self.sequence, &self.samples, out);
        push_u32(out, payload as u32 + 8);
        out.extend_from_slice(b"mdat");
        for frame in of_track() {
            out.extend_from_slice(&frame.data);
        }
    }

    fn put_track(&mut self, track: &Track) {
        self.left_out.retain(|left_out| *left_out != track.id);
        let known = self
            .outputs
            .iter()
            .position(|output| output.track.id == track.id);
        match (known, Output::new(track)) {
            (Some(index), Some(output)) => {
                let known = &mut self.outputs[index];
                if known.timescale == output.timescale {
                    let clock = known.clock.clone();
                    *known = Output { clock, ..output };
                } else {
                    *known = output;
                }
            }
            (None, Some(output)) if self.outputs.len() < TRACKS_MAX => self.outputs.push(output),
            (Some(index), None) => {
                self.outputs.remove(index);
                self.left_out.push(track.id);
            }
            (None, Some(_) | None) => self.left_out.push(track.id),
        }
    }
}

/// track_ID is never 0.
fn file_id(track: &Track) -> u32 {
    u32::from(track.id.0) + 1
}

impl Output {
    fn new(track: &Track) -> Option<Self> {
        let sample_entry = entry::sample_entry(track)?;
        let (timescale, clock) = match track.kind() {
            Kind::Video => {
                let told = track.video.map_or(0, |video| video.frames_per_1000_s);
                let rate = if told == 0 {
                    FRAMES_PER_1000_S_DEFAULT
                } else {
                    told
                };
                let distance = u64::from(VIDEO_TIMESCALE) * 1000 / u64::from(rate);
                let distance = u32::try_from(distance).unwrap_or(VIDEO_TIMESCALE).max(1);
                (VIDEO_TIMESCALE, Clock::video(VIDEO_TIMESCALE, distance))
            }
            Kind::Audio => {
                let rate = if track.codec == Codec::Opus {
                    codec::opus::RATE
                } else {
                    track.audio?.rate
                };
                if rate == 0 {
                    return None;
                }
                (rate, Clock::audio(rate))
            }
        };
        let mut output = Self {
            track: track.clone(),
            timescale,
            sample_entry,
            clock,
            constant_duration: None,
        };
        if track.codec == Codec::Aac {
            output.constant_duration = output.audio_duration(&[]);
        }
        Some(output)
    }

    /// Ticks an audio frame lasts, where it can be read.
    fn audio_duration(&self, frame: &[u8]) -> Option<u32> {
        let samples = codec::frame_samples(&self.track, frame)?;
        let ticks = u64::from(samples.count) * u64::from(self.timescale);
        u32::try_from(ticks / u64::from(samples.rate)).ok()
    }

    fn sample(&mut self, frame: &Frame) -> Sample {
        let told = frame.dts.as_ticks(self.timescale);
        let (slot, offset) = match self.track.kind() {
            Kind::Video => {
                let slot = self.clock.place(told, None);
                let shown = frame.pts.as_ticks(self.timescale);
                let offset = i128::from(shown) - i128::from(slot.time);
                (slot, offset.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
            }
            Kind::Audio => {
                let nominal = self
                    .constant_duration
                    .or_else(|| self.audio_duration(&frame.data));
                (self.clock.place(told, nominal), 0)
            }
        };
        Sample {
            slot,
            size: frame.data.len() as u32,
            flags: if frame.keyframe {
                FLAGS_SYNC
            } else {
                FLAGS_NOT_SYNC
            },
            offset,
        }
    }
}

/// Everything in a `moof` but its samples.
const MOOF_FIXED_SIZE: usize = 8 + MFHD_SIZE + 8 + TFHD_SIZE + TFDT_SIZE + TRUN_FIXED_SIZE;
const MFHD_SIZE: usize = 16;
const TFHD_SIZE: usize = 16;
const TFDT_SIZE: usize = 20;
const TRUN_FIXED_SIZE: usize = 20;

/// A sample in `trun`: duration and size; video also flags and offset.
const AUDIO_SAMPLE_SIZE: usize = 8;
const VIDEO_SAMPLE_SIZE: usize = 16;

/// Leaves room for box headers in 32-bit sizes.
const MDAT_SIZE_MAX: usize = 1 << 31;

/// ```text
/// moof
///   mfhd  sequence
///   traf
///     tfhd  track_ID; data offsets count from the moof
///     tfdt  decode time of the first sample, 64 bits
///     trun  count, data offset, samples; offsets of presentation are signed
/// ```
/// Firefox wants this order of boxes.
fn push_moof(output: &Output, sequence: u32, samples: &[Sample], out: &mut Vec<u8>) {
    const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
    const DATA_OFFSET: u32 = 0x001;
    const DURATION_AND_SIZE: u32 = 0x300;
    const FLAGS_AND_OFFSET: u32 = 0xc00;
    const VERSION_1: u32 = 1 << 24;
    let video = match output.track.kind() {
        Kind::Video => true,
        Kind::Audio => false,
    };
    let sample_size = if video {
        VIDEO_SAMPLE_SIZE
    } else {
        AUDIO_SAMPLE_SIZE
    };
    let trun_size = TRUN_FIXED_SIZE + samples.len() * sample_size;
    let traf_size = 8 + TFHD_SIZE + TFDT_SIZE + trun_size;
    let moof_size = 8 + MFHD_SIZE + traf_size;
    let start = out.len();

    push_name(out, moof_size, b"moof");
    push_name(out, MFHD_SIZE, b"mfhd");
    push_zeros(out, 4);
    push_u32(out, sequence);
    push_name(out, traf_size, b"traf");
    push_name(out, TFHD_SIZE, b"tfhd");
    push_u32(out, DEFAULT_BASE_IS_MOOF);
    push_u32(out, file_id(&output.track));
    push_name(out, TFDT_SIZE, b"tfdt");
    push_u32(out, VERSION_1);
    let first = samples.first().map_or(0, |sample| sample.slot.time);
    out.extend_from_slice(&first.to_be_bytes());
    push_name(out, trun_size, b"trun");
    let flags = DATA_OFFSET | DURATION_AND_SIZE | if video { FLAGS_AND_OFFSET } else { 0 };
    push_u32(out, VERSION_1 | flags);
    push_u32(out, samples.len() as u32);
    push_u32(out, moof_size as u32 + 8);
    for sample in samples {
        push_u32(out, sample.slot.duration);
        push_u32(out, sample.size);
        if video {
            push_u32(out, sample.flags);
            out.extend_from_slice(&sample.offset.to_be_bytes());
        }
    }
    debug_assert_eq!(out.len() - start, moof_size);
}

fn push_name(out: &mut Vec<u8>, size: usize, name: &[u8; 4]) {
    push_u32(out, size as u32);
    out.extend_from_slice(name);
}
