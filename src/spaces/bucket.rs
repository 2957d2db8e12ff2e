//! How often something may be done.

use std::time::Instant;

/// A bucket of tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    per_second: f64,
    at_once: f64,
    tokens: f64,
    since: Instant,
}

impl Bucket {
    pub(super) fn new(now: Instant, (per_second, at_once): (f64, f64)) -> Self {
        Self {
            per_second,
            at_once,
            tokens: at_once,
            since: now,
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        self.since = now;
        let tokens = self.tokens + elapsed.as_secs_f64() * self.per_second;
        self.tokens = tokens.min(self.at_once);
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test has to begin at some time"
    )]
    fn as_many_as_come() {
        let begin = <Instant>::now();
        let mut bucket = Bucket::new(begin, (2.0, 3.0));
        let taken = (0..5).filter(|_| bucket.take(begin)).count();
        assert_eq!(taken, 3);
        let later = begin + Duration::from_secs(1);
        let taken = (0..5).filter(|_| bucket.take(later)).count();
        assert_eq!(taken, 2);
    }
}
