//! Which shard each live stream is at home on. Kept by the control shard, asked by the others.

use std::collections::BTreeMap;

use crate::base::ids::{ShardId, StreamId};

/// Where a stream lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Home {
    /// The shard that holds its log.
    pub shard: ShardId,
    /// Its number, which tells this life of the name from an earlier one.
    pub stream: StreamId,
}

/// A publisher asks for a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The shard of the publisher's connection.
    pub shard: ShardId,
    /// Tells the publishers of that shard apart.
    pub publisher: u64,
    /// It may replace another publisher.
    pub takeover: bool,
}

/// The answer to a [`Claim`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// The publisher may send to `home`.
    Granted {
        /// Where its frames go.
        home: Home,
        /// Counts the grants: what a later one says is in force, whichever arrives first.
        turn: u64,
        /// The stream existed, and its timeline goes on.
        resumed: bool,
        /// The publisher that has to go, and its shard.
        replaced: Option<(ShardId, u64)>,
    },
    /// Somebody else publishes.
    Busy,
    /// There are as many streams as may be.
    Full,
}

/// The live streams of the process by name.
#[derive(Debug)]
pub struct Registry<N> {
    streams: BTreeMap<N, Entry>,
    next: u64,
    turns: u64,
    streams_max: usize,
}

#[derive(Debug)]
struct Entry {
    home: Home,
    publisher: Option<(ShardId, u64)>,
}

impl<N: Ord + Clone> Registry<N> {
    /// An empty registry that holds at most `streams_max` live streams.
    pub fn new(streams_max: usize) -> Self {
        Self {
            streams: BTreeMap::new(),
            next: 1,
            turns: 0,
            streams_max,
        }
    }

    /// Changes the bound; streams above it live on.
    pub fn set_streams_max(&mut self, streams_max: usize) {
        self.streams_max = streams_max;
    }

    /// A publisher asks for `name`. A new stream is at home on the shard of its publisher; one
    /// that waits for its publisher to come back stays where it is.
    pub fn claim(&mut self, name: &N, claim: Claim) -> Claimed {
        let publisher = Some((claim.shard, claim.publisher));
        if let Some(entry) = self.streams.get_mut(name) {
            if entry.publisher.is_some() && !claim.takeover {
                return Claimed::Busy;
            }
            let replaced = std::mem::replace(&mut entry.publisher, publisher);
            self.turns += 1;
            return Claimed::Granted {
                home: entry.home,
                turn: self.turns,
                resumed: true,
                replaced,
            };
        }
        if self.streams.len() >= self.streams_max {
            return Claimed::Full;
        }
        let home = Home {
            shard: claim.shard,
            stream: StreamId(self.next),
        };
        self.next += 1;
        self.turns += 1;
        self.streams.insert(name.clone(), Entry { home, publisher });
        Claimed::Granted {
            home,
            turn: self.turns,
            resumed: false,
            replaced: None,
        }
    }

    /// A publisher is gone. False if it had been replaced before.
    pub fn unclaim(&mut self, name: &N, shard: ShardId, publisher: u64) -> bool {
        match self.streams.get_mut(name) {
            Some(entry) if entry.publisher == Some((shard, publisher)) => {
                entry.publisher = None;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The home shard asks to forget a stream whose publisher did not come back. False if one
    /// has come back meanwhile: the stream lives on.
    pub fn release(&mut self, name: &N, stream: StreamId) -> bool {
        match self.streams.get(name) {
            Some(entry) if entry.home.stream == stream => {
                if entry.publisher.is_some() {
                    return false;
                }
                self.streams.remove(name);
                true
            }
            Some(_) | None => true,
        }
    }

    /// Where a stream lives.
    pub fn locate(&self, name: &N) -> Option<Home> {
        self.streams.get(name).map(|entry| entry.home)
    }

    /// All live streams in the order of their names, with whether each has a publisher.
    pub fn iter(&self) -> impl Iterator<Item = (&N, Home, bool)> {
        self.streams
            .iter()
            .map(|(name, entry)| (name, entry.home, entry.publisher.is_some()))
    }

    /// How many streams live.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// True when no stream lives.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShardId = ShardId(0);
    const B: ShardId = ShardId(1);

    fn claim(shard: ShardId, publisher: u64, takeover: bool) -> Claim {
        Claim {
            shard,
            publisher,
            takeover,
        }
    }

    fn home(claimed: Claimed) -> Home {
        match claimed {
            Claimed::Granted { home, .. } => home,
            Claimed::Busy | Claimed::Full => panic!("refused"),
        }
    }

    #[test]
    fn a_second_publisher_is_refused_unless_takeover() {
        let mut registry = Registry::new(10);
        let first = home(registry.claim(&"live", claim(A, 1, false)));
        assert_eq!(registry.claim(&"live", claim(B, 2, false)), Claimed::Busy);
        assert_eq!(
            registry.claim(&"live", claim(B, 2, true)),
            Claimed::Granted {
                home: first,
                turn: 2,
                resumed: true,
                replaced: Some((A, 1))
            }
        );
        assert!(
            !registry.unclaim(&"live", A, 1),
            "the replaced one says goodbye"
        );
        assert!(registry.unclaim(&"live", B, 2));
    }

    #[test]
    fn a_publisher_that_returns_elsewhere_finds_the_same_home() {
        let mut registry = Registry::new(10);
        let first = home(registry.claim(&"live", claim(A, 1, false)));
        registry.unclaim(&"live", A, 1);
        assert_eq!(home(registry.claim(&"live", claim(B, 9, false))), first);
        assert!(
            !registry.release(&"live", first.stream),
            "it has a publisher"
        );
        registry.unclaim(&"live", B, 9);
        assert!(registry.release(&"live", first.stream));
        assert_ne!(
            home(registry.claim(&"live", claim(B, 10, false))).stream,
            first.stream
        );
    }

    #[test]
    fn the_number_of_streams_is_bounded() {
        let mut registry = Registry::new(1);
        registry.claim(&"a", claim(A, 1, false));
        assert_eq!(registry.claim(&"b", claim(A, 2, false)), Claimed::Full);
    }
}
