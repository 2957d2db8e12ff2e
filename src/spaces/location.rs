//! A player's location on the wire (unavi-host.md section 3.4), and how often one may be sent.
//!
//! ```text
//! player (1)  x (4)  y (4)  z (4)  qx (2)  qy (2)  qz (2)  qw (2)
//! ```

use std::time::Instant;

use bytes::Bytes;

use super::message::ByteOrder;

/// Its size.
pub(super) const LOCATION_BYTES: usize = 21;

/// The sizes of the numbers behind the player's.
const NUMBERS: [usize; 7] = [4, 4, 4, 2, 2, 2, 2];

/// The same location in another byte order, and with the sender's true number.
pub(super) fn rewrite(bytes: &[u8], from: ByteOrder, to: ByteOrder, player: u8) -> Bytes {
    let mut out = bytes.to_vec();
    if let Some(first) = out.first_mut() {
        *first = player;
    }
    if from != to {
        let mut rest = out.get_mut(1..).unwrap_or_default();
        for size in NUMBERS {
            let Some((number, behind)) = rest.split_at_mut_checked(size) else {
                break;
            };
            number.reverse();
            rest = behind;
        }
    }
    out.into()
}

/// Where a player is, in hundred thousandths of a metre.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place([i32; 3]);

impl Place {
    pub(super) fn of(bytes: &[u8], order: ByteOrder) -> Self {
        let number = |at: usize| {
            let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
            let four: [u8; 4] = four.unwrap_or_default();
            match order {
                ByteOrder::Little => i32::from_le_bytes(four),
                ByteOrder::Big => i32::from_be_bytes(four),
            }
        };
        Self([number(1), number(5), number(9)])
    }

    /// The square of the distance.
    pub(super) fn distance(self, other: Self) -> f64 {
        let pairs = self.0.iter().zip(other.0);
        pairs
            .map(|(a, b)| (f64::from(*a) - f64::from(b)).powi(2))
            .sum()
    }
}

/// Gives out so much a second, and some of it at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    at: Instant,
    left: f64,
    per_s: f64,
    most: f64,
}

impl Bucket {
    pub(super) fn new(now: Instant, per_s: f64, most: f64) -> Self {
        Self {
            at: now,
            left: most,
            per_s,
            most,
        }
    }

    /// Takes some, if there is enough.
    pub(super) fn take(&mut self, now: Instant, amount: f64) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = (self.left + passed * self.per_s).min(self.most);
        let is_enough = self.left >= amount;
        if is_enough {
            self.left -= amount;
        }
        is_enough
    }
}
