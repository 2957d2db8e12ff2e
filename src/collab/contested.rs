//! Which locks of generation A are echoed.
//!
//! Its clients lock and give back at once, without the echo that the later ones wait for. Where two do so
//! with one node before they have heard of each other, each ends with what it has heard last: the other's.
//! Whoever hears of what it did itself as well, in the order of the server, ends with what all end with.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Longer than what somebody has said is on its way to the others.
const RECENT: Duration = Duration::from_secs(5);

/// What was said of so many nodes is remembered.
const SAID_MAX: usize = 256;

/// What was said of nodes lately.
#[derive(Debug, Default)]
pub(super) struct Contested(VecDeque<Said>);

/// The last that was said of a node.
#[derive(Debug)]
struct Said {
    at: Instant,
    uuid: Bytes,
    by: Bytes,
    is_echoed: bool,
}

impl Contested {
    /// Somebody says whose a node is, which is somebody else's if it `is_taken`. Whether it hears of that
    /// as well: others have said something of the node lately, or what it said last was echoed.
    pub(super) fn is_echoed(
        &mut self,
        now: Instant,
        by: &Bytes,
        uuid: &Bytes,
        is_taken: bool,
    ) -> bool {
        let said = &mut self.0;
        while said.len() >= SAID_MAX || said.front().is_some_and(|first| now > first.at + RECENT) {
            said.pop_front();
        }
        let last = said.iter().position(|said| said.uuid == *uuid);
        let last = last.and_then(|place| said.remove(place));
        let is_echoed = is_taken || last.is_some_and(|last| last.is_echoed || last.by != *by);
        said.push_back(Said {
            at: now,
            uuid: uuid.clone(),
            by: by.clone(),
            is_echoed,
        });
        is_echoed
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
        let mut contested = Contested::default();
        let mut says = |now, by: &str, uuid: &str, is_taken| {
            let [by, uuid] = [by, uuid].map(|text| Bytes::copy_from_slice(text.as_bytes()));
            contested.is_echoed(now, &by, &uuid, is_taken)
        };
        assert!(!says(now, "alice", "cube", false));
        assert!(!says(now, "alice", "cube", false));
        assert!(!says(now, "bob", "lamp", false));
        assert!(says(now, "bob", "cube", false));
        assert!(says(now, "bob", "cube", false), "an echo is on its way");
        let later = now + RECENT + Duration::from_millis(1);
        assert!(!says(later, "bob", "cube", false));
        assert!(says(later, "alice", "mesh", true));
        // Of many the oldest is forgotten.
        for number in 0..SAID_MAX {
            says(later, "bob", &number.to_string(), false);
        }
        assert!(!says(later, "alice", "cube", false));
        assert_eq!(contested.0.len(), SAID_MAX);
    }
}
