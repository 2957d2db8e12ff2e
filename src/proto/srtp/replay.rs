//! Which packets of a stream have come (RFC 3711 section 3.3.2).

use super::Error;

/// Which packets of a stream have come, or gone: nothing may be sealed twice under one number.
///
/// The newest index and the `64 * WORDS` indexes up to it, as a ring of bits.
#[derive(Clone, Copy, Debug)]
pub struct Window<const WORDS: usize> {
    newest: u64,
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Window<WORDS> {
    const BITS: u64 = 64 * WORDS as u64;

    /// Of a stream whose first authentic packet is `index`.
    pub fn new(index: u64) -> Self {
        let mut window = Self {
            newest: index,
            seen: [0; WORDS],
        };
        window.set(index);
        window
    }

    /// The largest index that has come.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether a packet may be taken.
    ///
    /// # Errors
    ///
    /// It came before, or cannot be told from one that did.
    pub fn check(&self, index: u64) -> Result<(), Error> {
        if index > self.newest {
            return Ok(());
        }
        if self.newest - index >= Self::BITS {
            return Err(Error::TooOld);
        }
        let (word, bit) = Self::place(index);
        if self.seen[word] & bit == 0 {
            Ok(())
        } else {
            Err(Error::Replayed)
        }
    }

    /// Notes an authentic packet that has been checked.
    pub fn mark(&mut self, index: u64) {
        if index > self.newest {
            self.advance(index);
        }
        self.set(index);
    }

    /// Forgets the indexes whose bits those between the newest and `index` take.
    fn advance(&mut self, index: u64) {
        if index - self.newest >= Self::BITS {
            self.seen = [0; WORDS];
        } else {
            for skipped in self.newest + 1..index {
                let (word, bit) = Self::place(skipped);
                self.seen[word] &= !bit;
            }
        }
        self.newest = index;
    }

    fn set(&mut self, index: u64) {
        let (word, bit) = Self::place(index);
        self.seen[word] |= bit;
    }

    fn place(index: u64) -> (usize, u64) {
        let place = index % Self::BITS;
        ((place / 64) as usize, 1 << (place % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_each_index_of_the_window_once() {
        let mut window = Window::<2>::new(1000);
        assert_eq!(window.check(1000), Err(Error::Replayed));
        assert_eq!(window.check(873), Ok(()));
        assert_eq!(window.check(872), Err(Error::TooOld));
        window.mark(873);
        assert_eq!(window.check(873), Err(Error::Replayed));
        window.mark(1001);
        assert_eq!(window.check(873), Err(Error::TooOld));
        assert_eq!(window.check(999), Ok(()));
    }

    proptest! {
        /// The ring of bits agrees with a set of all that has come.
        #[test]
        fn agrees_with_a_set(steps in prop::collection::vec(-200_i64..400, 1..200)) {
            let mut window = Window::<2>::new(5000);
            let mut seen = BTreeSet::from([5000_u64]);
            for step in steps {
                let newest: u64 = *seen.last().unwrap();
                let index = newest.saturating_add_signed(step);
                let expected = if index + 128 <= newest {
                    Err(Error::TooOld)
                } else if seen.contains(&index) {
                    Err(Error::Replayed)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.check(index), expected);
                if expected.is_ok() {
                    window.mark(index);
                    seen.insert(index);
                }
                prop_assert_eq!(window.newest(), *seen.last().unwrap());
            }
        }
    }
}
