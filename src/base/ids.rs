//! Identifiers, each a type of its own so that two of them are never swapped.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A shard of this process; the control shard is the highest number.
    ShardId(u16)
);
id!(
    /// A connection of one shard. The upper half is a generation, so that an id is not
    /// mistaken for the one that had its slot before.
    ConnId(u64)
);
id!(
    /// A live stream of this process. Never reused.
    StreamId(u64)
);
id!(
    /// A track of one stream, numbered from 0 in the order the publisher announced them.
    TrackId(u16)
);

impl ShardId {
    /// The shard as an index into a list of all shards.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl TrackId {
    /// The track as an index into its stream's list of tracks.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
