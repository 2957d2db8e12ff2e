//! Decode times and durations of a track's samples.

/// A sample's place on its track's timeline, in the track's ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    /// Decode time.
    pub(super) time: u64,
    pub(super) duration: u32,
}

/// Gives each frame its slot. Times rise by at least one tick.
#[derive(Clone, Debug)]
pub(super) enum Clock {
    /// Decode times as they come; the next one is not known yet, so a duration is the last
    /// distance.
    Video {
        last: Option<u64>,
        /// The last distance, at first one made from the frame rate.
        distance: u32,
        /// A distance above this is a gap and says nothing of the frame rate.
        distance_max: u32,
        /// A distance that is longer by no more than this is rounding: a millisecond, as RTMP
        /// tells times.
        rounding: u32,
    },
    /// Decode times that add up: each is the sum of the durations before it.
    Audio {
        last: Option<Slot>,
        /// What the last frame lasts by its codec, for one that cannot be read.
        nominal: u32,
        rate: u32,
    },
}

impl Clock {
    /// For video whose frames last about `distance` of `rate` ticks a second.
    pub(super) fn video(rate: u32, distance: u32) -> Self {
        const DISTANCE_SECONDS_MAX: u32 = 10;
        let rounding = rate.div_ceil(1000);
        Self::Video {
            last: None,
            distance: (distance / rounding * rounding).max(1),
            distance_max: rate.saturating_mul(DISTANCE_SECONDS_MAX),
            rounding,
        }
    }

    /// For audio with `rate` ticks a second.
    pub(super) fn audio(rate: u32) -> Self {
        Self::Audio {
            last: None,
            nominal: (rate / 50).max(1),
            rate,
        }
    }

    /// The slot of a frame that claims to be decoded at `told` and, where the codec says so, to
    /// last `nominal`. Times before zero become zero.
    pub(super) fn place(&mut self, told: i64, nominal: Option<u32>) -> Slot {
        let told = u64::try_from(told).unwrap_or(0);
        match self {
            Self::Video {
                last,
                distance,
                distance_max,
                rounding,
            } => {
                let time = last.map_or(told, |last| told.max(last.saturating_add(1)));
                if let Some(last) = *last
                    && let Ok(passed) = u32::try_from(time - last)
                    && passed <= *distance_max
                    // A duration that ends after the next frame's time is an overlap, one that ends
                    // before it is made longer by the player (ISO/IEC 14496-12 8.8.12.1).
                    && (passed < *distance || passed - *distance > *rounding)
                {
                    *distance = passed;
                }
                *last = Some(time);
                Slot {
                    time,
                    duration: *distance,
                }
            }
            Self::Audio {
                last,
                nominal: known,
                rate,
            } => {
                *known = nominal.unwrap_or(*known).max(1);
                let slot = match *last {
                    None => Slot {
                        time: told,
                        duration: *known,
                    },
                    Some(last) => place_audio(last, told, *known, *rate),
                };
                *last = Some(slot);
                slot
            }
        }
    }
}

/// RTMP tells milliseconds, so audio times jitter around the sum of durations; a player hears
/// every gap and overlap. A difference below `SNAP_MILLIS` is not followed at once: beyond what
/// rounding explains, durations stretch a little until it is gone. A larger one is a real gap,
/// or a real overlap, which a decode time can only follow as far as the frame before.
fn place_audio(last: Slot, told: u64, nominal: u32, rate: u32) -> Slot {
    const SNAP_MILLIS: i64 = 40;
    const ROUNDING_MILLIS: i64 = 2;
    /// A frame makes up for this part of the difference, ...
    const STRETCH_DIVISOR: i64 = 64;
    /// ... but for no more than this.
    const STRETCH_PER_FRAME_MAX: i64 = 200;

    let next = last.time.saturating_add(last.duration.into());
    let difference =
        (i128::from(told) - i128::from(next)).clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    let ticks = |millis: i64| millis * i64::from(rate) / 1000;
    if difference.unsigned_abs() >= ticks(SNAP_MILLIS).unsigned_abs() {
        return Slot {
            time: told.max(last.time.saturating_add(1)),
            duration: nominal,
        };
    }
    let stretch = if difference.unsigned_abs() <= ticks(ROUNDING_MILLIS).unsigned_abs() {
        0
    } else {
        let max = i64::from(nominal) / STRETCH_PER_FRAME_MAX;
        (difference / STRETCH_DIVISOR).clamp(-max, max)
    };
    Slot {
        time: next,
        duration: (i64::from(nominal) + stretch).clamp(1, u32::MAX.into()) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in milliseconds at 30 frames a second: no frame lasts into the next one.
    #[test]
    fn video_with_rounded_times_does_not_overlap() {
        let mut clock = Clock::video(90_000, 3000);
        let mut end = 0;
        for n in 0..1000i64 {
            let slot = clock.place(n * 1000 / 30 * 90, None);
            assert!(
                slot.time >= end,
                "frame {n} begins at {} before {end}",
                slot.time
            );
            end = slot.time + u64::from(slot.duration);
        }
        assert!(
            clock.place(end as i64 + 90_000, None).duration > 80_000,
            "a slower rate"
        );
    }

    #[test]
    fn audio_with_rounded_times_is_smooth() {
        let mut clock = Clock::audio(44_100);
        for n in 0..10_000i64 {
            let millis = n * 1024 * 1000 / 44_100;
            let slot = clock.place(millis * 44_100 / 1000, Some(1024));
            assert_eq!((slot.time, slot.duration), (n as u64 * 1024, 1024));
        }
    }

    #[test]
    fn audio_follows_a_slow_clock_without_gaps() {
        // The publisher's audio lasts 0.1 % longer than its times say.
        let mut clock = Clock::audio(48_000);
        let mut next = 0;
        for n in 0..10_000i64 {
            let told = n * 1023;
            let slot = clock.place(told, Some(1024));
            assert_eq!(slot.time, next, "contiguous");
            next = slot.time + u64::from(slot.duration);
            assert!(slot.time.abs_diff(told as u64) < 48 * 40);
        }
    }

    #[test]
    fn audio_follows_a_gap_at_once() {
        let mut clock = Clock::audio(48_000);
        clock.place(0, Some(960));
        assert_eq!(clock.place(48_000, Some(960)).time, 48_000);
        assert_eq!(
            clock.place(0, Some(960)).time,
            48_001,
            "but time never falls"
        );
    }

    /// A frame shortened to follow the clock, then a time set back: what was taken off the
    /// duration once put the next frame before it.
    #[test]
    fn time_rises_after_a_shortened_frame() {
        let mut clock = Clock::audio(48_000);
        clock.place(48_000, Some(2048));
        let shortened = clock.place(48_000 + 1000, Some(2048));
        assert!(shortened.duration < 2048);
        let after = clock.place(0, Some(2048));
        assert!(after.time > shortened.time);
    }

    #[test]
    fn video_lasts_as_long_as_the_frame_before() {
        let mut clock = Clock::video(90_000, 3600);
        assert_eq!(
            clock.place(-5, None),
            Slot {
                time: 0,
                duration: 3600
            }
        );
        assert_eq!(
            clock.place(3000, None),
            Slot {
                time: 3000,
                duration: 3000
            }
        );
        assert_eq!(clock.place(3000, None).time, 3001);
        let far = clock.place(i64::MAX, None);
        assert_eq!((far.time, far.duration), (i64::MAX as u64, 1));
    }
}
