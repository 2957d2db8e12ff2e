//! A network that loses, delays and reorders, the same way for the same seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use ringside::base::prng::Prng;

/// How long a packet is held back for others to overtake it where nothing else delays them.
const HELD_BACK: Duration = Duration::from_millis(5);

/// What a network does to packets.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Harm {
    /// Percent that are lost.
    pub(super) loss: f64,
    /// How long the others take.
    pub(super) delay: Duration,
    /// Percent that overtake those before them or, without a delay, are overtaken.
    pub(super) reorder: f64,
}

impl Harm {
    /// It does anything at all.
    pub(super) fn is_some(self) -> bool {
        self.loss > 0.0 || self.delay > Duration::ZERO || self.reorder > 0.0
    }
}

/// One direction of a network.
#[derive(Debug)]
pub(super) struct Netem<T> {
    harm: Harm,
    prng: Prng,
    under_way: BinaryHeap<Reverse<Packet<T>>>,
    number: u64,
    pub(super) lost: u64,
}

/// Packets that arrive at one time keep their order.
#[derive(Debug)]
struct Packet<T> {
    at: Instant,
    number: u64,
    content: T,
}

impl<T> PartialEq for Packet<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Packet<T> {}

impl<T> PartialOrd for Packet<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Packet<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> Netem<T> {
    pub(super) fn new(harm: Harm, seed: u64) -> Self {
        Self {
            harm,
            prng: Prng::new(seed),
            under_way: BinaryHeap::new(),
            number: 0,
            lost: 0,
        }
    }

    /// Takes a packet in. What arrives, arrives by [`Netem::poll`].
    pub(super) fn push(&mut self, now: Instant, content: T) {
        let is_lost = self.chance(self.harm.loss);
        let is_reordered = self.chance(self.harm.reorder);
        if is_lost {
            self.lost += 1;
            return;
        }
        let delay = match (is_reordered, self.harm.delay.is_zero()) {
            (true, true) => HELD_BACK,
            (true, false) => Duration::ZERO,
            (false, _) => self.harm.delay,
        };
        self.number += 1;
        self.under_way.push(Reverse(Packet {
            at: now + delay,
            number: self.number,
            content,
        }));
    }

    /// The next packet that has arrived.
    pub(super) fn poll(&mut self, now: Instant) -> Option<T> {
        let Reverse(first) = self.under_way.peek()?;
        if first.at > now {
            return None;
        }
        self.under_way.pop().map(|Reverse(packet)| packet.content)
    }

    fn chance(&mut self, percent: f64) -> bool {
        percent > 0.0 && (self.prng.below(1_000_000) as f64) < percent * 10_000.0
    }
}

#[cfg(test)]
mod tests {
    use ringside::shard::clock;

    use super::*;

    fn sent(harm: Harm, seed: u64, count: u32) -> (Vec<u32>, Vec<u32>) {
        let now = clock::now();
        let mut netem = Netem::new(harm, seed);
        (0..count).for_each(|number| netem.push(now, number));
        let mut all = |at| std::iter::from_fn(|| netem.poll(at)).collect();
        (all(now), all(now + Duration::from_secs(1)))
    }

    #[test]
    fn nothing_happens_without_harm() {
        let (at_once, later) = sent(Harm::default(), 1, 100);
        assert_eq!(at_once, (0..100).collect::<Vec<_>>());
        assert!(later.is_empty());
        assert!(!Harm::default().is_some());
    }

    #[test]
    fn a_seed_loses_the_same_packets_again() {
        let harm = Harm {
            loss: 5.0,
            ..Harm::default()
        };
        let (first, _) = sent(harm, 7, 10_000);
        assert_eq!(first, sent(harm, 7, 10_000).0);
        assert_ne!(first, sent(harm, 8, 10_000).0);
        assert!((9400..9600).contains(&first.len()), "{}", first.len());
    }

    #[test]
    fn packets_overtake_others_that_are_delayed() {
        let harm = Harm {
            delay: Duration::from_millis(50),
            reorder: 10.0,
            ..Harm::default()
        };
        let (early, late) = sent(harm, 3, 1000);
        assert!((50..200).contains(&early.len()), "{}", early.len());
        assert_eq!(early.len() + late.len(), 1000);
        assert!(late.is_sorted(), "the others keep their order");
    }

    #[test]
    fn packets_are_held_back_where_nothing_is_delayed() {
        let harm = Harm {
            reorder: 10.0,
            ..Harm::default()
        };
        let (in_time, held_back) = sent(harm, 3, 1000);
        assert!((50..200).contains(&held_back.len()));
        assert_eq!(in_time.len() + held_back.len(), 1000);
    }
}
