//! Numbers, seconds and dates as text, for formats that are written often. `core::fmt` costs
//! several times as much for each number.

use std::time::Duration;

const MICROS_PER_SECOND: u128 = 1_000_000;
const MILLIS_PER_DAY: i64 = 86_400_000;

/// Appends `number` in decimal.
pub fn push_number(out: &mut String, number: u64) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let (mut at, mut rest) = (DIGITS_MAX, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits[at..]
        .iter()
        .for_each(|digit| out.push(char::from(*digit)));
}

/// Appends `duration` in seconds, rounded to the microsecond, without trailing zeros: `4`, `0.33`.
pub fn push_seconds(out: &mut String, duration: Duration) {
    let micros = (duration.as_nanos() + 500) / 1000;
    let seconds = u64::try_from(micros / MICROS_PER_SECOND).unwrap_or(u64::MAX);
    push_number(out, seconds);
    let mut fraction = (micros % MICROS_PER_SECOND) as u32;
    if fraction == 0 {
        return;
    }
    out.push('.');
    let mut place = 100_000;
    while fraction > 0 {
        push_digit(out, fraction / place);
        fraction %= place;
        place /= 10;
    }
}

/// Appends a moment as RFC 3339 and ISO/IEC 8601 write it in UTC, with milliseconds:
/// `2026-11-20T21:43:40.123Z`. `unix_ms` is the time since 1970 in milliseconds. What lies outside
/// the years 0 to 9999 is written as the nearest moment within them.
pub fn push_date(out: &mut String, unix_ms: i64) {
    /// 0000-01-01 and 9999-12-31 at its last millisecond.
    const RANGE: (i64, i64) = (-62_167_219_200_000, 253_402_300_799_999);
    let unix_ms = unix_ms.clamp(RANGE.0, RANGE.1);
    let (year, month, day) = civil(unix_ms.div_euclid(MILLIS_PER_DAY));
    let millis = unix_ms.rem_euclid(MILLIS_PER_DAY) as u32;
    let seconds = millis / 1000;
    push_padded(out, year, 4);
    out.push('-');
    push_padded(out, month, 2);
    out.push('-');
    push_padded(out, day, 2);
    out.push('T');
    push_padded(out, seconds / 3600, 2);
    out.push(':');
    push_padded(out, seconds / 60 % 60, 2);
    out.push(':');
    push_padded(out, seconds % 60, 2);
    out.push('.');
    push_padded(out, millis % 1000, 3);
    out.push('Z');
}

fn push_padded(out: &mut String, number: u32, width: u32) {
    for place in (0..width).rev() {
        push_digit(out, number / 10u32.pow(place) % 10);
    }
}

fn push_digit(out: &mut String, digit: u32) {
    out.push(char::from(b'0' + digit as u8));
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. A year is
/// taken to begin in March, so that a leap day is its last one; 400 years are 146 097 days.
fn civil(day: i64) -> (u32, u32, u32) {
    const DAYS_PER_ERA: i64 = 146_097;
    /// 1970-01-01 counted from 0000-03-01.
    const EPOCH: i64 = 719_468;
    let day = day + EPOCH;
    let (era, day_of_era) = (day.div_euclid(DAYS_PER_ERA), day.rem_euclid(DAYS_PER_ERA));
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March to July and August to December have 153 days each.
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year as u32, month as u32, day_of_month as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(unix_ms: i64) -> String {
        let mut out = String::new();
        push_date(&mut out, unix_ms);
        out
    }

    #[test]
    fn numbers_and_seconds() {
        let mut out = String::new();
        for number in [0, 7, 10, 1_789_000_000, u64::MAX] {
            push_number(&mut out, number);
            out.push(' ');
        }
        for nanos in [
            0,
            400,
            500,
            4_000_000_000,
            333_333_333,
            2_000_010_000,
            999_999_500,
        ] {
            push_seconds(&mut out, Duration::from_nanos(nanos));
            out.push(' ');
        }
        assert_eq!(
            out,
            "0 7 10 1789000000 18446744073709551615 0 0 0.000001 4 0.333333 2.00001 1 "
        );
    }

    #[test]
    fn dates_as_date_writes_them() {
        assert_eq!(date(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(date(1_789_000_000_123), "2026-09-10T00:26:40.123Z");
        assert_eq!(date(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(date(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(date(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(date(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(date(i64::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(date(i64::MIN), "0000-01-01T00:00:00.000Z");
    }
}
