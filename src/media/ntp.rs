//! Wall-clock time as RTP and RTCP write it.

use std::time::Duration;

/// Seconds since 1900 with 32 bits behind the point, modulo 2^32 s (RFC 3550 section 4). Zero
/// stands for a clock that a sender does not have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NtpTime(pub u64);

/// From 1900 to 1970, in seconds.
const UNIX_EPOCH_S: u64 = 2_208_988_800;

impl NtpTime {
    /// From the time since 1970.
    pub fn from_unix(since: Duration) -> Self {
        let seconds = since.as_secs().wrapping_add(UNIX_EPOCH_S) << 32;
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        Self(seconds | fraction)
    }

    /// The middle 32 bits: seconds modulo 2^16 with 16 bits behind the point.
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// Microseconds from `earlier` to here: negative if it is later. Right up to 68 years.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        let units = self.0.wrapping_sub(earlier.0) as i64;
        ((units as i128 * 1_000_000) >> 32) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_time_is_moved_to_1900() {
        let time = NtpTime::from_unix(Duration::from_millis(1500));
        assert_eq!(time.0, (2_208_988_801 << 32) | 1 << 31);
        assert_eq!(time.middle(), 0x7e81_8000);
    }

    #[test]
    fn differences_have_a_sign_and_survive_the_wrap() {
        let (early, late) = (NtpTime(u64::MAX - (1 << 32) + 1), NtpTime(1 << 32));
        assert_eq!(late.micros_since(early), 2_000_000);
        assert_eq!(early.micros_since(late), -2_000_000);
    }
}
