//! How far what a session has to keep is kept.

use std::time::{Duration, Instant};

/// How long messages wait for the log. A disk that takes longer holds up nobody: clients would take
/// the server for lost.
const LATE_AFTER: Duration = Duration::from_secs(3);

/// What happens to a session's changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Nothing: the session ends with the server.
    Off,
    /// They go to a keeper, which writes files now and then.
    File,
    /// They are logged before anybody hears of them.
    Log,
}

/// The state of that.
#[derive(Clone, Debug)]
pub struct Keeping {
    mode: Mode,
    /// Records that were given away.
    position: u64,
    /// Records that are logged.
    logged: u64,
    /// Since when the log has not moved although it should.
    waits_since: Option<Instant>,
    /// Messages do not wait: the log is too late, or lost.
    is_open: bool,
    /// The keeper has lost the thread and gets nothing until it has the whole scene.
    is_lost: bool,
}

impl Keeping {
    /// Nothing was kept so far.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            position: 0,
            logged: 0,
            waits_since: None,
            is_open: false,
            is_lost: false,
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.mode != Mode::Off && !self.is_lost
    }

    /// Counts one more record. False if it is not to be kept.
    pub(super) fn count(&mut self) -> bool {
        let is_kept = self.is_kept();
        self.position += u64::from(is_kept);
        is_kept
    }

    /// What a message of now waits for.
    pub(super) fn position(&self) -> u64 {
        match self.mode {
            Mode::Log => self.position,
            Mode::Off | Mode::File => 0,
        }
    }

    /// What need not wait any more.
    pub(super) fn logged(&self) -> u64 {
        if self.is_open { u64::MAX } else { self.logged }
    }

    pub(super) fn is_behind(&self) -> bool {
        self.mode == Mode::Log && self.logged < self.position
    }

    /// The log has got somewhere. True if that is news.
    pub(super) fn advance(&mut self, now: Instant, logged: u64) -> bool {
        if logged <= self.logged {
            return false;
        }
        self.logged = logged;
        self.waits_since = self.is_behind().then_some(now);
        if !self.is_behind() && !self.is_lost {
            self.is_open = false;
        }
        true
    }

    /// Whether messages have begun to go out without waiting for the log.
    pub(super) fn is_late(&mut self, now: Instant) -> bool {
        if self.is_open || !self.is_behind() {
            self.waits_since = None;
            return false;
        }
        let since = *self.waits_since.get_or_insert(now);
        self.is_open = now.saturating_duration_since(since) >= LATE_AFTER;
        self.is_open
    }

    pub(super) fn lose(&mut self, now: Instant) {
        self.is_lost = true;
        self.is_open = true;
        self.waits_since = Some(now);
    }

    pub(super) fn find(&mut self) {
        self.is_lost = false;
        self.is_open = self.is_behind();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs some time to begin at"
    )]
    fn start() -> Instant {
        <Instant>::now()
    }

    #[test]
    fn messages_wait_for_a_log_but_not_for_ever() {
        let mut now = start();
        let mut keeping = Keeping::new(Mode::Log);
        assert!(keeping.count());
        assert_eq!((keeping.position(), keeping.logged()), (1, 0));
        assert!(!keeping.is_late(now));
        assert!(keeping.advance(now, 1));
        assert!(!keeping.advance(now, 1));
        keeping.count();
        assert!(!keeping.is_late(now));
        now += LATE_AFTER;
        assert!(keeping.is_late(now));
        assert!(!keeping.is_late(now), "it is said once");
        assert_eq!(keeping.logged(), u64::MAX);
        keeping.count();
        assert!(keeping.advance(now, 2));
        assert_eq!(keeping.logged(), u64::MAX, "it is still behind");
        assert!(keeping.advance(now, 3));
        assert_eq!(keeping.logged(), 3);
    }

    #[test]
    fn a_lost_keeper_gets_nothing_until_it_is_found() {
        let now = start();
        let mut keeping = Keeping::new(Mode::Log);
        keeping.count();
        keeping.lose(now);
        assert!(!keeping.count());
        assert_eq!((keeping.position(), keeping.logged()), (1, u64::MAX));
        keeping.find();
        assert!(keeping.count());
        keeping.advance(now, 2);
        assert_eq!(keeping.logged(), 2);
        let mut none = Keeping::new(Mode::Off);
        assert!(!none.count());
        assert_eq!(none.position(), 0);
    }
}
