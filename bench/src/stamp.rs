//! Marks in frames that say when they were sent.
//!
//! ```text
//! magic (8 x 8)  sequence (8 hexadecimal digits)  nanoseconds (16 hexadecimal digits)
//! ```
//! Digits, because a mark inside a NAL unit must hold no two zero bytes in a row.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ringside::shard::clock;

/// What a mark begins with.
pub(crate) const MAGIC: [u8; 8] = *b"LoadMark";
/// Bytes of a mark.
pub(crate) const SIZE: usize = MAGIC.len() + 8 + 16;

/// The start of the process's time, and what the wall clock said then: so that two processes that
/// start together agree on the time.
static EPOCH: OnceLock<(Instant, u64)> = OnceLock::new();

/// The time of the mark that was written last.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The time of the mark that this process wrote last; `None` before the first.
pub(crate) fn last() -> Option<u64> {
    Some(LAST.load(Ordering::Relaxed)).filter(|last| *last > 0)
}

/// Nanoseconds, alike for all processes of a run.
pub(crate) fn nanoseconds() -> u64 {
    nanoseconds_at(clock::now())
}

/// The same for a time that was read before.
pub(crate) fn nanoseconds_at(now: Instant) -> u64 {
    let (epoch, wall) = EPOCH.get_or_init(read_clocks);
    // A time from before the epoch is that of the first connection.
    wall + now.saturating_duration_since(*epoch).as_nanos() as u64
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only clock that two processes share"
)]
fn read_clocks() -> (Instant, u64) {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    (clock::now(), wall.map_or(0, |wall| wall.as_nanos() as u64))
}

/// Writes a mark over the first [`SIZE`] bytes of `place`.
pub(crate) fn write(place: &mut [u8], sequence: u32, nanoseconds: u64) {
    LAST.store(nanoseconds, Ordering::Relaxed);
    place[..8].copy_from_slice(&MAGIC);
    write_digits(&mut place[8..16], u64::from(sequence));
    write_digits(&mut place[16..SIZE], nanoseconds);
}

/// The sequence and the time of a mark at the start of `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Option<(u32, u64)> {
    let mark = bytes.get(..SIZE)?.strip_prefix(&MAGIC)?;
    let (sequence, time) = mark.split_at(8);
    Some((read_digits(sequence)? as u32, read_digits(time)?))
}

/// The first mark in `bytes`.
pub(crate) fn find(bytes: &[u8]) -> Option<(u32, u64)> {
    let last = bytes.len().checked_sub(SIZE)?;
    (0..=last)
        .filter(|at| bytes[*at] == MAGIC[0])
        .find_map(|at| read(&bytes[at..]))
}

fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_where_it_was_written() {
        let mut bytes = vec![b'L'; 100];
        write(&mut bytes[37..], 0x1234, 0xfedc_ba98_7654_3210);
        assert_eq!(find(&bytes), Some((0x1234, 0xfedc_ba98_7654_3210)));
        assert_eq!(find(&bytes[38..]), None);
        assert_eq!(find(b"Load"), None);
    }
}
