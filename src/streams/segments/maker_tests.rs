//! What a [`Maker`] makes of frames at the rates and with the flaws that encoders have.

use std::time::Duration;

use bytes::Bytes;

use super::cutter::Cutter;
use super::listing::{Listing, Segment, Update};
use super::maker::{Maker, PART_SLACK};
use super::{Form, Key};
use crate::base::ids::TrackId;
use crate::hub::Pieces;
use crate::media::buffer::Pool;
use crate::media::{AudioFormat, Codec, Frame, MediaTime, Track, VideoFormat, codec, samples};

const PART: Duration = Duration::from_millis(333);
const SEGMENT: Duration = Duration::from_millis(1900);

/// A stream of which one rendition is made.
struct Bench {
    cutter: Cutter,
    /// The track that segments are cut by.
    first: TrackId,
    maker: Maker,
    pool: Pool,
    listing: Listing,
    inits: u32,
}

impl Bench {
    fn new(form: Form, of: &[u16], tracks: &[Track]) -> Self {
        let key = Key::new(form, of.iter().map(|id| TrackId(*id)));
        Self {
            cutter: Cutter::new(SEGMENT),
            first: TrackId(0),
            maker: Maker::new(&key, tracks, PART).expect("there are such tracks"),
            pool: Pool::new(4096),
            listing: Listing::new(SEGMENT, PART + PART_SLACK),
            inits: 0,
        }
    }

    fn feed(&mut self, frame: &Frame) {
        let unix_ms = 1_700_000_000_000 + frame.dts.as_millis();
        let cut = if frame.track == self.first {
            self.cutter.frame(unix_ms, frame, frame.keyframe)
        } else {
            self.cutter.other_frame(unix_ms, frame)
        };
        let mut updates = Vec::new();
        if let Some(cut) = cut {
            self.maker.cut(&mut self.pool, &cut, &mut updates);
        }
        self.maker.frame(&mut self.pool, frame, &mut updates);
        self.take(updates);
    }

    /// All frames, in the order of their times.
    fn feed_all(&mut self, mut frames: Vec<Frame>) {
        frames.sort_by_key(|frame| frame.received);
        frames.iter().for_each(|frame| self.feed(frame));
    }

    fn change(&mut self, track: &Track) {
        self.cutter.change();
        let mut updates = Vec::new();
        self.maker
            .track_changed(&mut self.pool, track, &mut updates);
        self.take(updates);
    }

    fn take(&mut self, updates: Vec<Update>) {
        for update in updates {
            self.inits += u32::from(matches!(update, Update::Init { .. }));
            self.listing.update(update);
        }
    }

    /// The segments that are complete and no gaps, which are what their parts are together.
    fn segments(&self) -> Vec<&Segment> {
        let complete = self.listing.segments().filter(|segment| {
            let Some((_, pieces)) = segment.whole.as_ref().filter(|_| !segment.is_gap) else {
                return false;
            };
            let parts = segment.parts.iter().flat_map(|part| part.pieces.to_vec());
            assert_eq!(
                bytes(pieces),
                bytes(&parts.collect()),
                "its parts are the whole"
            );
            true
        });
        complete.collect()
    }

    fn gaps(&self) -> usize {
        let segments = self.listing.segments();
        segments.filter(|segment| segment.is_gap).count()
    }

    /// Milliseconds of all parts, by segment.
    fn parts(&self) -> Vec<Vec<u128>> {
        let of = |segment: &&Segment| {
            let parts = segment.parts.iter();
            parts.map(|part| part.duration.as_millis()).collect()
        };
        self.segments().iter().map(of).collect()
    }

    /// Frames in all segments, the open one too.
    fn frames(&self, form: Form, pid: u16) -> usize {
        let all = self.listing.segments().map(Segment::so_far);
        all.map(|pieces| count(form, pid, &bytes(&pieces))).sum()
    }

    /// No part is longer than was said, and parts take as long as their segment within a
    /// millisecond each.
    fn assert_even(&self) {
        assert_eq!(self.listing.part_max(), PART + PART_SLACK);
        assert!(self.segments().len() > 2);
        for segment in self.segments() {
            let (duration, _) = segment.whole.as_ref().expect("it is complete");
            let sum: Duration = segment.parts.iter().map(|part| part.duration).sum();
            let off = duration.abs_diff(sum);
            assert!(
                off.as_millis() <= segment.parts.len() as u128,
                "{duration:?} {sum:?} {:?}",
                self.parts()
            );
            assert!(segment.parts[0].is_independent);
        }
    }
}

fn bytes(pieces: &Pieces) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece.to_vec()).collect()
}

/// Frames that begin in a run: samples of fragments, or units of a PID.
fn count(form: Form, pid: u16, bytes: &[u8]) -> usize {
    match form {
        Form::Cmaf => {
            let runs = bytes.windows(12).filter(|at| at[..4] == *b"trun");
            runs.map(|at| u32::from_be_bytes([at[8], at[9], at[10], at[11]]) as usize)
                .sum()
        }
        Form::Ts => {
            let of_pid =
                |packet: &&[u8]| u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]) == pid;
            let packets = bytes.chunks(188).filter(of_pid);
            packets.filter(|packet| packet[1] & 0x40 != 0).count()
        }
    }
}

fn video(id: u16) -> Track {
    Track {
        id: TrackId(id),
        codec: Codec::H264,
        // Its form does not matter here; that it has one does.
        init: Bytes::from_static(&[1, 100, 0, 11, 255, 0xe0, 0]),
        video: Some(VideoFormat {
            width: 160,
            height: 120,
            frames_per_1000_s: 0,
        }),
        audio: None,
        language: String::new(),
        rid: String::new(),
    }
}

fn aac(id: u16, rate: u32) -> Track {
    let init = codec::aac::build_config(rate, 2).expect("a usual rate");
    Track {
        id: TrackId(id),
        codec: Codec::Aac,
        init: Bytes::copy_from_slice(&init),
        video: None,
        audio: Some(AudioFormat {
            rate,
            channels: 2,
            bits: 16,
        }),
        language: String::new(),
        rid: String::new(),
    }
}

/// A frame at a time in microseconds that arrives `late` after that.
fn frame(track: u16, micros: i64, keyframe: bool, late: Duration) -> Frame {
    let mut frame = samples::frame(track, 0, keyframe, 0);
    // RTMP has milliseconds.
    let rounded = micros.div_euclid(1000) * 1000;
    frame.dts = MediaTime::from_micros(rounded);
    frame.pts = frame.dts;
    // A unit of 28 bytes.
    frame.data = Bytes::from(
        [
            &[0, 0, 0, 28, if keyframe { 0x65 } else { 0x41 }][..],
            &[7; 27],
        ]
        .concat(),
    );
    frame.received += Duration::from_secs(3600) + late;
    frame.received += Duration::from_micros(micros.unsigned_abs());
    frame
}

const ZERO: Duration = Duration::ZERO;

/// Pictures of so many in 1000 s, for so long, with a keyframe every so many, from so many on.
fn pictures(track: u16, rate: i64, seconds: i64, group: i64, first_key: i64) -> Vec<Frame> {
    (0..seconds * rate / 1000)
        .map(|index| {
            let is_key = (index - first_key).rem_euclid(group) == 0;
            frame(track, index * 1_000_000_000 / rate, is_key, ZERO)
        })
        .collect()
}

/// Frames of sound of 1024 samples.
fn sound(track: u16, rate: i64, seconds: i64, late: Duration) -> Vec<Frame> {
    (0..seconds * rate / 1024)
        .map(|index| frame(track, index * 1_024_000_000 / rate, true, late))
        .collect()
}

/// Frames of one clock begin at the same moment.
fn same_clock(frames: &mut [Frame]) {
    let base = frames[0].received;
    let zero = frames[0].dts;
    for frame in frames {
        frame.received = base + frame.dts.since(zero);
    }
}

#[test]
fn parts_hold_whole_frames_and_are_a_third_of_a_second() {
    for (rate, most) in [
        (25_000, 320),
        (30_000, 333),
        (60_000, 333),
        (15_000, 333),
        (29_970, 334),
    ] {
        let mut bench = Bench::new(Form::Cmaf, &[0], &[video(0)]);
        for frame in pictures(0, rate, 11, rate / 500, 0) {
            bench.feed(&frame);
        }
        bench.assert_even();
        for segment in bench.parts() {
            let (last, others) = segment.split_last().expect("it has parts");
            assert!(*last <= most + 3, "{rate}: {segment:?}");
            assert!(
                others
                    .iter()
                    .all(|part| (most - 17..=most + 3).contains(part)),
                "{rate}: {segment:?}"
            );
        }
        assert!(
            bench
                .segments()
                .iter()
                .all(|segment| { segment.parts[1..].iter().all(|part| !part.is_independent) })
        );
    }
}

#[test]
fn sound_alone_is_cut_by_itself() {
    for rate in [44_100, 48_000] {
        let mut bench = Bench::new(Form::Cmaf, &[0], &[aac(0, rate as u32)]);
        let frames = sound(0, rate, 11, ZERO);
        frames.iter().for_each(|frame| bench.feed(frame));
        bench.assert_even();
        for segment in bench.parts() {
            let (_, others) = segment.split_last().expect("it has parts");
            assert!(
                others.iter().all(|part| (300..=336).contains(part)),
                "{rate}: {segment:?}"
            );
        }
        let seen = bench.frames(Form::Cmaf, 0);
        assert!(frames.len() - seen < 16, "but for the part that is made");
    }
}

#[test]
fn reordered_pictures_do_not_change_parts() {
    let mut bench = Bench::new(Form::Ts, &[0, 1], &[video(0), aac(1, 48_000)]);
    let mut frames = pictures(0, 25_000, 11, 50, 0);
    for (index, frame) in frames.iter_mut().enumerate() {
        frame.pts = frame.dts + MediaTime::from_millis([80, 200, 40, 0][index % 4]);
    }
    frames.extend(sound(1, 48_000, 11, ZERO));
    same_clock(&mut frames);
    bench.feed_all(frames);
    bench.assert_even();
    assert_eq!(bench.parts()[1], [320, 320, 320, 320, 320, 320, 80]);
}

/// A screen is sent when it changes. What a part is said to last is bounded all the same, or
/// players would keep far from the live edge for ever.
#[test]
fn a_varying_rate_does_not_make_parts_longer() {
    let mut bench = Bench::new(Form::Cmaf, &[0], &[video(0)]);
    let apart = [33, 33, 100, 33, 250, 66, 33, 33, 16, 120];
    let mut at = 0;
    for index in 0..400 {
        bench.feed(&frame(0, at, index % 20 == 0, ZERO));
        at += apart[index % apart.len()] * 1000;
    }
    assert_eq!(bench.listing.part_max(), PART + PART_SLACK);
    assert_eq!(bench.frames(Form::Cmaf, 0), 400);
    assert!(bench.segments().len() > 8);
}

#[test]
fn a_slow_rate_makes_parts_of_one_frame() {
    let mut bench = Bench::new(Form::Cmaf, &[0], &[video(0)]);
    for frame in pictures(0, 2000, 20, 4, 0) {
        bench.feed(&frame);
    }
    let parts = bench.parts();
    assert!(
        parts[1..].iter().all(|segment| segment[..] == [500; 4]),
        "{parts:?}"
    );
}

#[test]
fn sound_may_come_late_or_early() {
    for (video_late, sound_late) in [(0, 0), (0, 300), (500, 0)] {
        let late = |ms| Duration::from_millis(ms);
        let mut bench = Bench::new(Form::Ts, &[0, 1], &[video(0), aac(1, 48_000)]);
        let mut frames = pictures(0, 25_000, 11, 50, 0);
        frames.extend(sound(1, 48_000, 11, ZERO));
        same_clock(&mut frames);
        for frame in &mut frames {
            frame.received += late(if frame.track.0 == 0 {
                video_late
            } else {
                sound_late
            });
        }
        let sounds_before = frames
            .iter()
            .filter(|frame| {
                frame.track.0 == 1 && frame.dts.as_millis() < video_late as i64 - sound_late as i64
            })
            .count();
        let sounds = frames.iter().filter(|frame| frame.track.0 == 1).count();
        bench.feed_all(frames);
        bench.assert_even();
        assert_eq!(bench.frames(Form::Ts, 0x100), 275);
        let seen = bench.frames(Form::Ts, 0x101);
        let lacking = sounds - sounds_before - seen;
        assert!(lacking <= 24, "{lacking} are held or lost");
        assert_eq!(bench.gaps(), 0);
    }
}

/// The camera hangs, and the sound goes on: it is sent in parts that are as long as others, and the
/// segment is cut although no picture comes.
#[test]
fn sound_goes_on_without_pictures() {
    let mut bench = Bench::new(Form::Ts, &[0, 1], &[video(0), aac(1, 48_000)]);
    let mut frames = pictures(0, 25_000, 60, 50, 0);
    frames.retain(|frame| !(5000..45_000).contains(&frame.dts.as_millis()));
    let pictures = frames.len();
    frames.extend(sound(1, 48_000, 60, ZERO));
    same_clock(&mut frames);
    bench.feed_all(frames);
    assert_eq!(bench.listing.part_max(), PART + PART_SLACK);
    assert_eq!(bench.gaps(), 0);
    assert_eq!(bench.frames(Form::Ts, 0x100), pictures);
    assert!(bench.frames(Form::Ts, 0x101) > 60 * 48_000 / 1024 - 16);
    let parts: usize = bench.parts().iter().map(Vec::len).sum();
    assert!(parts > 160, "{parts} in a minute");
    let longest = bench.listing.segments().filter_map(|it| it.whole.as_ref());
    let longest = longest.map(|(duration, _)| *duration).max();
    assert!(longest.is_some_and(|longest| longest < Duration::from_secs(14)));
}

/// For pictures alone that is a gap, and what comes after it is whole.
#[test]
fn pictures_that_pause_leave_gaps() {
    let mut bench = Bench::new(Form::Cmaf, &[0], &[video(0), aac(1, 48_000)]);
    let mut frames = pictures(0, 25_000, 60, 50, 0);
    frames.retain(|frame| !(5000..45_000).contains(&frame.dts.as_millis()));
    let pictures = frames.len();
    frames.extend(sound(1, 48_000, 60, ZERO));
    same_clock(&mut frames);
    bench.feed_all(frames);
    assert!(bench.gaps() >= 1, "{}", bench.gaps());
    assert_eq!(bench.frames(Form::Cmaf, 0), pictures);
    assert_eq!(bench.listing.part_max(), PART + PART_SLACK);
}

#[test]
fn sound_that_stops_leaves_gaps_without_holes() {
    let mut bench = Bench::new(Form::Cmaf, &[1], &[video(0), aac(1, 48_000)]);
    let mut frames = sound(1, 48_000, 20, ZERO);
    frames.retain(|frame| !(5000..13_000).contains(&frame.dts.as_millis()));
    let sounds = frames.len();
    frames.extend(pictures(0, 25_000, 20, 50, 0));
    same_clock(&mut frames);
    bench.feed_all(frames);
    assert_eq!(bench.gaps(), 3);
    assert!(
        sounds - bench.frames(Form::Cmaf, 0) < 16,
        "one part is made"
    );
    let all: Vec<&Segment> = bench.listing.segments().collect();
    for pair in all.windows(2) {
        assert_eq!(pair[1].opening.number, pair[0].opening.number + 1);
        assert!(pair[1].opening.start > pair[0].opening.start);
    }
    for gap in all.iter().filter(|segment| segment.is_gap) {
        let (duration, pieces) = gap.whole.as_ref().expect("it is complete");
        assert!(pieces.is_empty());
        assert_eq!(*duration, Duration::from_secs(2));
    }
}

/// The frames of a new configuration wait for the segment that begins with its initialisation.
#[test]
fn another_configuration_begins_a_segment() {
    let tracks = [video(0), aac(1, 48_000)];
    let mut bench = Bench::new(Form::Cmaf, &[1], &tracks);
    let mut frames = pictures(0, 25_000, 10, 50, 0);
    let sounds = sound(1, 48_000, 10, ZERO);
    let before = sounds.iter().filter(|it| it.dts.as_millis() < 5000);
    let before = before.count();
    frames.extend(sounds);
    same_clock(&mut frames);
    frames.sort_by_key(|frame| frame.received);
    let mut has_changed = false;
    for frame in &frames {
        if frame.dts.as_millis() >= 5000 && !has_changed {
            has_changed = true;
            bench.change(&aac(1, 44_100));
        }
        bench.feed(frame);
    }
    assert_eq!(bench.inits, 2);
    let segments: Vec<&Segment> = bench.listing.segments().collect();
    let of_first: usize = segments
        .iter()
        .filter(|segment| segment.opening.init == 1)
        .map(|segment| count(Form::Cmaf, 0, &bytes(&segment.so_far())))
        .sum();
    assert_eq!(of_first, before);
    let second = segments.iter().find(|it| it.opening.init == 2);
    let second = second.expect("there is one of the second");
    assert!(second.opening.is_discontinuity);
    assert_eq!(second.opening.start.as_millis() / 100, 50);
}

/// Tables that are written because a track has changed belong to a part as well.
#[test]
fn a_change_between_parts_is_in_one() {
    let mut tracks = [video(0), aac(1, 48_000)];
    let mut bench = Bench::new(Form::Ts, &[0, 1], &tracks);
    let frames = pictures(0, 25_000, 8, 50, 0);
    for frame in &frames {
        if frame.dts.as_millis() == 2000 + 1920 + 40 || frame.dts.as_millis() == 4000 {
            tracks[1].language = format!("a{}x", frame.dts.as_millis() % 7);
            let mut updates = Vec::new();
            bench
                .maker
                .track_changed(&mut bench.pool, &tracks[1], &mut updates);
            bench.take(updates);
        }
        bench.feed(frame);
    }
    assert_eq!(bench.segments().len(), 3, "each is what its parts are");
}

#[test]
fn a_second_video_track_begins_with_keyframes_of_its_own() {
    let tracks = [video(0), video(1)];
    let mut bench = Bench::new(Form::Cmaf, &[1], &tracks);
    let mut frames = pictures(0, 25_000, 12, 50, 0);
    frames.extend(pictures(1, 25_000, 12, 50, 10));
    same_clock(&mut frames);
    bench.feed_all(frames);
    bench.assert_even();
    assert_eq!(bench.gaps(), 0);
    let starts = bench
        .listing
        .segments()
        .map(|it| it.opening.start.as_millis());
    assert_eq!(
        starts.collect::<Vec<_>>(),
        [400, 2400, 4400, 6400, 8400, 10_400]
    );
}

/// Its groups are longer than the first's segments: some begin without a keyframe, and no frame is
/// lost.
#[test]
fn a_second_video_track_with_long_groups_loses_nothing() {
    let tracks = [video(0), video(1)];
    let mut bench = Bench::new(Form::Cmaf, &[1], &tracks);
    let mut frames = pictures(0, 25_000, 30, 50, 0);
    frames.extend(pictures(1, 25_000, 30, 220, 0));
    same_clock(&mut frames);
    bench.feed_all(frames);
    assert_eq!(bench.gaps(), 0);
    assert_eq!(bench.frames(Form::Cmaf, 0), 750);
    assert_eq!(bench.listing.part_max(), PART + PART_SLACK);
    let is_independent = |segment: &&Segment| segment.parts[0].is_independent;
    assert!(
        bench
            .segments()
            .iter()
            .any(|segment| !is_independent(segment))
    );
}

/// Everything stops for a while, as when a network does: the pause is in the segment's length and in
/// no part's.
#[test]
fn a_pause_of_both_is_in_no_part() {
    for pause in [700, 4000] {
        let mut bench = Bench::new(Form::Ts, &[0, 1], &[video(0), aac(1, 48_000)]);
        let mut frames = pictures(0, 25_000, 14, 50, 0);
        frames.extend(sound(1, 48_000, 14, ZERO));
        frames.retain(|frame| !(5000..5000 + pause).contains(&frame.dts.as_millis()));
        same_clock(&mut frames);
        bench.feed_all(frames);
        assert_eq!(bench.listing.part_max(), PART + PART_SLACK, "{pause}");
        assert_eq!(bench.gaps(), 0);
        let pictures = 350 - pause as usize / 40;
        assert!(bench.frames(Form::Ts, 0x100).abs_diff(pictures) <= 1);
    }
}
