//! Who talks: from the levels that packets of sound carry (RFC 6464).

use std::time::{Duration, Instant};

/// Louder than this, in dB below the loudest, is talk.
const TALK: u8 = 50;

/// Quieter than this is silence.
const SILENCE: u8 = 60;

/// How long it has to be silent for a talk to have ended.
const PAUSE: Duration = Duration::from_millis(500);

/// The least time between two reports of one producer.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// Whether one producer talks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Talk {
    is_talking: bool,
    heard: Option<Instant>,
    reported: Option<Instant>,
}

impl Talk {
    /// A packet has come, with a level if it says one. Gives what has changed.
    pub(super) fn note(&mut self, now: Instant, level: Option<u8>) -> Option<bool> {
        let level = level.map_or(u8::MAX, |level| level & 0x7f);
        let bound = if self.is_talking { SILENCE } else { TALK };
        if level < bound {
            self.heard = Some(now);
        }
        let talks = self.heard.is_some_and(|heard| now < heard + PAUSE);
        let may_report = self.reported.is_none_or(|at| now >= at + REPORT_EVERY);
        if talks == self.is_talking || !may_report {
            return None;
        }
        self.is_talking = talks;
        self.reported = Some(now);
        Some(talks)
    }

    /// Nothing has come for a while, which is silence too: clients stop sending when they mute.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.is_talking && self.heard.is_none_or(|heard| now >= heard + PAUSE)
    }
}
