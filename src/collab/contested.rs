//! Which locks of generation A are echoed.
//!
//! Its clients lock and give back at once, without the echo that the later ones wait for. Where two do so
//! with one node before they have heard of each other, each ends with what it has heard last: the other's.
//! Whoever hears of what it did itself as well, in the order of the server, ends with what all end with.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::repository::COMMON;

/// Longer than what somebody has said is on its way to the others.
const RECENT: Duration = Duration::from_secs(5);

/// The last that was said of a node's owner.
#[derive(Clone, Debug)]
pub(super) struct Said {
    at: Instant,
    by: Bytes,
    /// Who has said it hears of it too.
    pub(super) is_echoed: bool,
}

impl Said {
    /// Somebody says whose a node is that is `owner`'s, after `last`. It is echoed where the node was
    /// somebody else's, where others have said something of it lately, and while an echo is on its way.
    pub(super) fn after(last: Option<&Self>, now: Instant, by: &Bytes, owner: &Bytes) -> Self {
        let is_taken = owner != COMMON && owner != by;
        let last = last.filter(|last| now <= last.at + RECENT);
        let is_contested = last.is_some_and(|last| last.is_echoed || last.by != *by);
        Self {
            at: now,
            by: by.clone(),
            is_echoed: is_taken || is_contested,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "a test needs some instant to start from"
    )]
    fn what_nobody_else_has_touched_lately_is_not_echoed() {
        let now = <Instant>::now();
        let mut last = None;
        let mut says = |now, by: &'static str, owner: &'static str| {
            let said = Said::after(last.as_ref(), now, &by.into(), &owner.into());
            last.insert(said).is_echoed
        };
        assert!(!says(now, "alice", "COMMON"));
        assert!(!says(now, "alice", "alice"));
        assert!(says(now, "bob", "COMMON"));
        assert!(says(now, "bob", "bob"), "an echo is on its way");
        let mut later = now + RECENT + Duration::from_millis(1);
        assert!(!says(later, "bob", "COMMON"));
        later += RECENT + Duration::from_millis(1);
        assert!(!says(later, "alice", "COMMON"));
        later += RECENT + Duration::from_millis(1);
        assert!(says(later, "bob", "alice"), "it is taken from her");
    }
}
