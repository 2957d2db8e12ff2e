//! Which packets of a stream were lost while a window was open.

/// What came of the packets between two points of a sequence.
///
/// A window begins behind the newest packet and ends with the newest one: what is under way at
/// either end is told by its number, so that a packet that comes late, or again, still counts where
/// it belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Gaps {
    newest: Option<u64>,
    /// Numbers above this are in the window.
    after: Option<u64>,
    /// Numbers up to this are.
    until: Option<u64>,
    received: u64,
}

impl Gaps {
    /// A packet that was not there before, with its extended number.
    pub(super) fn note(&mut self, number: u64) {
        self.newest = Some(self.newest.map_or(number, |newest| newest.max(number)));
        if self.after.is_some_and(|after| number > after)
            && self.until.is_none_or(|until| number <= until)
        {
            self.received += 1;
        }
    }

    /// The window begins.
    pub(super) fn open(&mut self) {
        self.after = self.newest;
        (self.until, self.received) = (None, 0);
    }

    /// The window ends.
    pub(super) fn close(&mut self) {
        self.until = self.newest;
    }

    /// How many packets were sent within the window, and how many of them came.
    pub(super) fn counts(&self) -> (u64, u64) {
        match (self.after, self.until.or(self.newest)) {
            (Some(after), Some(until)) => (until - after, self.received),
            (Some(_) | None, Some(_) | None) => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(gaps: &mut Gaps, numbers: impl IntoIterator<Item = u64>) {
        numbers.into_iter().for_each(|number| gaps.note(number));
    }

    #[test]
    fn what_is_missing_between_both_ends_is_lost() {
        let mut gaps = Gaps::default();
        noted(&mut gaps, [10, 11, 13]);
        gaps.open();
        noted(&mut gaps, [14, 16, 17]);
        gaps.close();
        assert_eq!(gaps.counts(), (4, 3));
    }

    #[test]
    fn what_comes_again_after_the_end_counts_and_what_is_newer_does_not() {
        let mut gaps = Gaps::default();
        noted(&mut gaps, [10]);
        gaps.open();
        noted(&mut gaps, [12, 13]);
        gaps.close();
        noted(&mut gaps, [11, 14, 15]);
        assert_eq!(gaps.counts(), (3, 3));
    }

    #[test]
    fn what_was_sent_before_the_window_does_not_count() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.counts(), (0, 0));
        noted(&mut gaps, [10, 12]);
        gaps.open();
        noted(&mut gaps, [11, 13]);
        gaps.close();
        assert_eq!(gaps.counts(), (1, 1));
    }

    #[test]
    fn a_stream_that_began_after_the_window_has_none() {
        let mut gaps = Gaps::default();
        gaps.open();
        noted(&mut gaps, [10, 11]);
        gaps.close();
        assert_eq!(gaps.counts(), (0, 0));
    }
}
