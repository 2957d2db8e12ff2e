//! Timestamps of 32 bits on a timeline that does not wrap.

/// How far from zero a timeline may get, in milliseconds (35 thousand years): far enough inside
/// `i64` for microseconds. Only a peer that jumps on purpose comes near.
const REACH_MS: i64 = 1 << 50;

/// Unwraps milliseconds modulo 2^32, each against the one before it. They wrap after 49.7 days.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    last: Option<i64>,
}

impl Timeline {
    /// The timestamp nearest to the one before it; the first is taken as it is.
    ///
    /// The result is within 2^51 of zero; past that the timeline starts again.
    pub fn unwrap(&mut self, timestamp: u32) -> i64 {
        let unwrapped = match self.last {
            Some(last) if last.abs() < REACH_MS => {
                last + i64::from(timestamp.wrapping_sub(last as u32) as i32)
            }
            Some(_) | None => i64::from(timestamp),
        };
        self.last = Some(unwrapped);
        unwrapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_past_the_wrap_and_back() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.unwrap(0xffff_fff0), 0xffff_fff0);
        assert_eq!(timeline.unwrap(0x10), 0x1_0000_0010);
        assert_eq!(timeline.unwrap(0xffff_ffff), 0xffff_ffff);
        assert_eq!(timeline.unwrap(5), 0x1_0000_0005);
    }

    #[test]
    fn a_step_back_at_the_start_is_negative() {
        let mut timeline = Timeline::default();
        timeline.unwrap(0);
        assert_eq!(timeline.unwrap(0xffff_ffff), -1);
    }
}
