//! Timestamps as points on the publisher's timeline.
//!
//! Each stream of a publisher has a clock with a zero of its own. Until a sender report says how
//! it stands to the wall clock, the arrival of its first packet places it; from then on the wall
//! clock does, which is what brings audio and video into step (RFC 3550 section 6.4.1).
//!
//! What a report corrects is taken in slowly, so that a receiver sees no jump: at most 1 ms in
//! 100 ms. The first report of a stream, and an error above 500 ms, are taken in at once if
//! time goes ahead, and at half the pace of time if it would go back. A timestamp that was given a time
//! keeps it, so that all packets of a picture have the same.

use std::time::Instant;

use crate::media::{MediaTime, NtpTime};

/// A correction above this is not taken in slowly.
const ERROR_LARGE_US: i64 = 500_000;
/// Of the time that passes, how much a slow correction takes: 1 %.
const SLOW_PARTS: i64 = 100;
/// The same for a large one that would go back: half.
const FAST_PARTS: i64 = 2;
/// Beyond this, a report is nonsense, and a timestamp is one of a clock that began anew.
const NONSENSE_US: i64 = 10_000_000;
/// The last timestamps whose times are kept: 1 s of pictures with packets that are repeated.
const KEPT: usize = 32;

/// What all tracks of a publisher share.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    /// Where the timeline has its zero.
    origin: Instant,
    /// The wall clock at a point of the timeline, as the first report said.
    anchor: Option<(NtpTime, i64)>,
}

impl Timeline {
    /// A timeline that begins at `origin`: when the first packet of any track arrived.
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            anchor: None,
        }
    }

    fn at(&self, now: Instant) -> i64 {
        now.saturating_duration_since(self.origin).as_micros() as i64
    }
}

/// The clock of one track.
#[derive(Clone, Debug)]
pub struct Clock {
    rate: u32,
    state: Option<State>,
}

#[derive(Clone, Debug)]
struct State {
    /// The newest timestamp, extended.
    ticks: i64,
    /// What time it was given.
    time: i64,
    /// When it arrived, on the timeline.
    arrived: i64,
    /// In microseconds: what is added to ticks to have a point of the timeline.
    offset: i64,
    /// What is to be added to `offset` in the end.
    error: i64,
    /// The error is taken in fast.
    is_fast: bool,
    /// The last good report.
    report: Option<(NtpTime, i64)>,
    /// Timestamps, extended, and the times that they were given; the newest is at `kept_at - 1`.
    kept: [(i64, i64); KEPT],
    kept_at: usize,
}

impl Clock {
    /// A clock of `rate` ticks in a second, at least 1.
    pub fn new(rate: u32) -> Self {
        Self {
            rate: rate.max(1),
            state: None,
        }
    }

    /// The time of a packet that arrived `now`. Later timestamps never have an earlier time.
    pub fn time(&mut self, timeline: &Timeline, now: Instant, timestamp: u32) -> MediaTime {
        let arrived = timeline.at(now);
        let rate = self.rate;
        let Some(state) = &mut self.state else {
            let ticks = i64::from(timestamp);
            let state = State {
                ticks,
                time: arrived,
                arrived,
                offset: arrived - micros(ticks, rate),
                error: 0,
                is_fast: false,
                report: None,
                kept: [(i64::MIN, 0); KEPT],
                kept_at: 0,
            };
            let state = self.state.insert(state);
            return state.keep(ticks, arrived);
        };
        let ticks = state.extend(timestamp);
        if ticks == state.ticks {
            return MediaTime::from_micros(state.time);
        }
        let step = micros(ticks, rate) - micros(state.ticks, rate);
        let waited = arrived - state.arrived;
        if (step - waited).abs() > NONSENSE_US {
            return state.begin_anew(ticks, arrived, rate);
        }
        if ticks > state.ticks {
            state.take_in(step);
            (state.ticks, state.arrived) = (ticks, arrived);
            state.time = micros(ticks, rate) + state.offset;
            return state.keep(ticks, state.time);
        }
        let known = state.kept.iter().find(|(kept, _)| *kept == ticks);
        match known {
            Some((_, time)) => MediaTime::from_micros(*time),
            None => state.keep(ticks, micros(ticks, rate) + state.offset),
        }
    }

    /// Takes a sender report in that arrived `now`: `ntp` and `rtp_time` are of one moment.
    /// Returns false if it makes no sense and changes nothing: its wall clock is zero, or it is
    /// more than 10 s from the packets.
    pub fn sender_report(
        &mut self,
        timeline: &mut Timeline,
        now: Instant,
        ntp: NtpTime,
        rtp_time: u32,
    ) -> bool {
        let rate = self.rate;
        let Some(state) = &mut self.state else {
            return false;
        };
        if ntp == NtpTime(0) {
            return false;
        }
        let ticks = state.extend(rtp_time);
        let ahead = micros(ticks, rate) - micros(state.ticks, rate);
        let waited = timeline.at(now) - state.arrived;
        if (ahead - waited).abs() > NONSENSE_US {
            return false;
        }
        // Where the stream has this moment so far.
        let point = micros(ticks, rate) + state.offset;
        if let Some((last_ntp, last_ticks)) = state.report {
            let by_ntp = ntp.micros_since(last_ntp);
            let by_ticks = micros(ticks, rate) - micros(last_ticks, rate);
            if (by_ntp - by_ticks).abs() > ERROR_LARGE_US {
                // The publisher's wall clock was set; its streams are in step as they are.
                timeline.anchor = None;
                state.error = 0;
            }
        }
        let (anchor_ntp, anchor_point) = *timeline.anchor.get_or_insert((ntp, point));
        let wanted = anchor_point.saturating_add(ntp.micros_since(anchor_ntp));
        let error = wanted.saturating_sub(point);
        if error.saturating_abs() > NONSENSE_US {
            return false;
        }
        state.is_fast = state.report.is_none() || error.abs() > ERROR_LARGE_US;
        state.error = error;
        state.report = Some((ntp, ticks));
        true
    }
}

impl State {
    /// The extended timestamp that is nearest to the newest one.
    fn extend(&self, timestamp: u32) -> i64 {
        let distance = timestamp.wrapping_sub(self.ticks as u32) as i32;
        self.ticks + i64::from(distance)
    }

    /// Corrects the offset as far as `step` microseconds of progress allow.
    fn take_in(&mut self, step: i64) {
        let correction = match (self.is_fast, self.error) {
            (true, 0..) => self.error,
            (true, _) => self.error.max(-step / FAST_PARTS),
            (false, error) => error.clamp(-step / SLOW_PARTS, step / SLOW_PARTS),
        };
        self.offset += correction;
        self.error -= correction;
        self.is_fast &= self.error != 0;
    }

    /// The publisher's clock jumped: time goes on as far as it has passed.
    fn begin_anew(&mut self, ticks: i64, arrived: i64, rate: u32) -> MediaTime {
        let waited = (arrived - self.arrived).max(1);
        let time = micros(self.ticks, rate) + self.offset + waited;
        *self = Self {
            ticks,
            time,
            arrived,
            offset: time - micros(ticks, rate),
            error: 0,
            is_fast: false,
            report: None,
            kept: [(i64::MIN, 0); KEPT],
            kept_at: 0,
        };
        self.keep(ticks, time)
    }

    fn keep(&mut self, ticks: i64, time: i64) -> MediaTime {
        self.kept[self.kept_at % KEPT] = (ticks, time);
        self.kept_at = (self.kept_at + 1) % KEPT;
        MediaTime::from_micros(time)
    }
}

fn micros(ticks: i64, rate: u32) -> i64 {
    MediaTime::from_ticks(ticks, rate).as_micros()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::samples;

    /// A wall clock at so many milliseconds.
    fn ntp(millis: i64) -> NtpTime {
        let since = Duration::from_millis((1_700_000_000_000 + millis) as u64);
        NtpTime::from_unix(since)
    }

    fn millis(time: MediaTime) -> f64 {
        time.as_micros() as f64 / 1000.0
    }

    struct Publisher {
        start: Instant,
        timeline: Timeline,
    }

    impl Publisher {
        fn new() -> Self {
            let start = samples::now();
            Self {
                start,
                timeline: Timeline::new(start),
            }
        }

        fn at(&self, millis: i64) -> Instant {
            self.start + Duration::from_millis(millis as u64)
        }
    }

    #[test]
    fn the_first_packet_is_where_it_arrived() {
        let publisher = Publisher::new();
        let mut clock = Clock::new(90_000);
        let time = clock.time(&publisher.timeline, publisher.at(250), 12_345);
        assert_eq!(time, MediaTime::from_millis(250));
        // Later ones are where their timestamps say, however late they come.
        let time = clock.time(&publisher.timeline, publisher.at(900), 12_345 + 9000);
        assert_eq!(time, MediaTime::from_millis(350));
        let time = clock.time(&publisher.timeline, publisher.at(901), 12_345 + 4500);
        assert_eq!(time, MediaTime::from_millis(300), "pictures out of order");
    }

    #[test]
    fn timestamps_wrap() {
        let publisher = Publisher::new();
        let mut clock = Clock::new(90_000);
        let first = u32::MAX - 44_999;
        for index in 0..400_000i64 {
            let now = publisher.at(index * 500);
            let timestamp = first.wrapping_add((index * 45_000) as u32);
            let time = clock.time(&publisher.timeline, now, timestamp);
            assert_eq!(time, MediaTime::from_millis(index * 500));
        }
    }

    #[test]
    fn reports_bring_audio_and_video_into_step() {
        let mut publisher = Publisher::new();
        let (mut audio, mut video) = (Clock::new(48_000), Clock::new(90_000));
        // Both are of the wall clock's 0 ms, but video took 120 ms longer to come.
        audio.time(&publisher.timeline, publisher.at(0), 0);
        video.time(&publisher.timeline, publisher.at(120), 0);
        let mut last = MediaTime::from_micros(i64::MIN);
        for step in 1..100 {
            let now = publisher.at(120 + step * 20);
            if step == 10 {
                // Sent at 200 ms by the wall clock, at which both have that timestamp.
                assert!(audio.sender_report(&mut publisher.timeline, now, ntp(200), 200 * 48));
                assert!(video.sender_report(&mut publisher.timeline, now, ntp(200), 200 * 90));
            }
            let heard = audio.time(&publisher.timeline, now, step as u32 * 20 * 48);
            let seen = video.time(&publisher.timeline, now, step as u32 * 20 * 90);
            assert!(seen > last, "{step}");
            last = seen;
            if step < 10 {
                assert_eq!(millis(seen) - millis(heard), 120.0);
            } else if step > 25 {
                assert_eq!(millis(seen), millis(heard));
            }
        }
    }

    #[test]
    fn later_corrections_are_slow() {
        let mut publisher = Publisher::new();
        let mut clock = Clock::new(90_000);
        clock.time(&publisher.timeline, publisher.at(0), 0);
        let start = publisher.start;
        assert!(clock.sender_report(&mut publisher.timeline, start, ntp(0), 0));
        // The wall clock is 50 ms further than the timestamps.
        let at = publisher.at(1000);
        clock.time(&publisher.timeline, at, 90_000);
        assert!(clock.sender_report(&mut publisher.timeline, at, ntp(1050), 90_000));
        let mut last = 1000.0;
        for step in 1..=50 {
            let now = publisher.at(1000 + step * 100);
            let time = millis(clock.time(&publisher.timeline, now, 90_000 + step as u32 * 9000));
            assert!((time - last - 101.0).abs() < 0.01, "{time}");
            last = time;
        }
        let time = clock.time(&publisher.timeline, publisher.at(6100), 90_000 + 51 * 9000);
        assert!((millis(time) - 6150.0).abs() < 0.01, "{time:?}");
    }

    #[test]
    fn all_packets_of_a_picture_have_its_time() {
        let mut publisher = Publisher::new();
        let mut clock = Clock::new(90_000);
        clock.time(&publisher.timeline, publisher.at(0), 0);
        let (start, later) = (publisher.start, publisher.at(500));
        clock.sender_report(&mut publisher.timeline, start, ntp(0), 0);
        clock.sender_report(&mut publisher.timeline, later, ntp(540), 45_000);
        let mut times = Vec::new();
        for step in 1..30u32 {
            let now = publisher.at(i64::from(step) * 40);
            times.push(clock.time(&publisher.timeline, now, step * 3600));
        }
        for step in 1..30u32 {
            let now = publisher.at(1300);
            let time = clock.time(&publisher.timeline, now, step * 3600);
            assert_eq!(time, times[step as usize - 1], "{step}");
        }
    }

    #[test]
    fn nonsense_is_not_taken_in() {
        let mut publisher = Publisher::new();
        let (mut audio, mut video) = (Clock::new(48_000), Clock::new(90_000));
        let now = publisher.at(0);
        let timeline = &mut publisher.timeline;
        assert!(
            !audio.sender_report(timeline, now, ntp(0), 0),
            "no packet yet"
        );
        audio.time(timeline, now, 0);
        video.time(timeline, now, 0);
        assert!(!audio.sender_report(timeline, now, NtpTime(0), 0));
        assert!(!audio.sender_report(timeline, now, ntp(0), 11 * 48_000));
        assert!(audio.sender_report(timeline, now, ntp(0), 0));
        assert!(!video.sender_report(timeline, now, ntp(10_001), 0));
        assert!(!video.sender_report(timeline, now, NtpTime(1), 0));
        let time = video.time(timeline, now, 90);
        assert_eq!(millis(time), 1.0);
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_nothing() {
        let mut publisher = Publisher::new();
        let mut clock = Clock::new(90_000);
        let set = 3_600_000;
        for second in 0..10i64 {
            let now = publisher.at(second * 1000);
            let timestamp = second as u32 * 90_000;
            let time = clock.time(&publisher.timeline, now, timestamp);
            assert_eq!(time, MediaTime::from_millis(second * 1000));
            let wall = ntp(second * 1000 + if second > 4 { set } else { 0 });
            assert!(clock.sender_report(&mut publisher.timeline, now, wall, timestamp));
        }
    }

    #[test]
    fn a_clock_that_begins_anew_goes_on() {
        let publisher = Publisher::new();
        let mut clock = Clock::new(90_000);
        clock.time(&publisher.timeline, publisher.at(0), 1_000_000_000);
        let time = clock.time(&publisher.timeline, publisher.at(40), 5);
        assert_eq!(time, MediaTime::from_millis(40));
        let time = clock.time(&publisher.timeline, publisher.at(80), 3605);
        assert_eq!(time, MediaTime::from_millis(80));
        // Silence is not a new beginning.
        let time = clock.time(
            &publisher.timeline,
            publisher.at(60_080),
            3605 + 60 * 90_000,
        );
        assert_eq!(time, MediaTime::from_millis(60_080));
    }
}
