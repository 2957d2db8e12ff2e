//! Media time: one unit for all containers.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on a stream's timeline, in microseconds.
///
/// A microsecond is finer than a tick of every clock met here (90 kHz: 11.1 µs, 48 kHz: 20.8 µs),
/// so a tick converted to it and back is the same tick. Negative values occur before a stream's
/// timeline has been anchored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The timeline's start.
    pub const ZERO: Self = Self(0);

    /// From microseconds.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis * 1000)
    }

    /// From ticks of a clock of `rate` Hz, rounded to the nearest microsecond.
    pub fn from_ticks(ticks: i64, rate: u32) -> Self {
        let (scaled, rate) = (i128::from(ticks) * 1_000_000, i128::from(rate));
        Self((scaled + rate / 2).div_euclid(rate) as i64)
    }

    /// Microseconds.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Ticks of a clock of `rate` Hz, rounded to the nearest tick.
    pub fn as_ticks(self, rate: u32) -> i64 {
        let scaled = i128::from(self.0) * i128::from(rate);
        (scaled + 500_000).div_euclid(1_000_000) as i64
    }

    /// The duration since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

impl Add for MediaTime {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for MediaTime {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_survive_the_round_trip() {
        for rate in [90_000, 48_000, 44_100, 1000] {
            for ticks in [0, 1, 2, 3, 12_345, 8_589_934_591, -7] {
                assert_eq!(MediaTime::from_ticks(ticks, rate).as_ticks(rate), ticks);
            }
        }
    }

    #[test]
    fn since_never_underflows() {
        let (early, late) = (MediaTime::from_millis(5), MediaTime::from_millis(9));
        assert_eq!(late.since(early), Duration::from_millis(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
