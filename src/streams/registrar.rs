//! The control shard's part: which name is at home where, and who waits for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::ids::ShardId;
use crate::hub::{Claim, Claimed, Registry};
use crate::streams::message::Message;
use crate::streams::name::StreamName;

/// Names that shards wait for. Only configured streams are asked for, so peers reach this with
/// wildcards only; beyond it the oldest viewers time out without having been told.
const AWAITED_MAX: usize = 10_000;

/// Answers the shards' questions about names.
#[derive(Debug)]
pub struct Registrar {
    registry: Registry<StreamName>,
    awaited: BTreeMap<StreamName, BTreeSet<ShardId>>,
    outbox: VecDeque<(ShardId, Message)>,
}

impl Registrar {
    /// A registrar of at most `streams_max` live streams.
    pub fn new(streams_max: usize) -> Self {
        Self {
            registry: Registry::new(streams_max),
            awaited: BTreeMap::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Changes the bound; streams above it live on.
    pub fn set_streams_max(&mut self, streams_max: usize) {
        self.registry.set_streams_max(streams_max);
    }

    /// A message from a shard. Those that are not for the registrar come back.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what is not a question about names is for the caller"
    )]
    pub fn handle(&mut self, from: ShardId, message: Message) -> Option<Message> {
        match message {
            Message::Claim {
                name,
                publisher,
                takeover,
            } => self.claim(from, &name, publisher, takeover),
            Message::Unclaim { name, publisher } => {
                self.registry.unclaim(&name, from, publisher);
            }
            Message::Release { name, stream } => {
                let is_gone = self.registry.release(&name, stream);
                self.outbox
                    .push_back((from, Message::Released { stream, is_gone }));
            }
            Message::Locate { name } => {
                let home = self.registry.locate(&name);
                if home.is_none() {
                    if self.awaited.len() >= AWAITED_MAX && !self.awaited.contains_key(&name) {
                        self.awaited.pop_first();
                    }
                    self.awaited.entry(name.clone()).or_default().insert(from);
                }
                self.outbox
                    .push_back((from, Message::Located { name, home }));
            }
            other => return Some(other),
        }
        None
    }

    /// The next message to send.
    pub fn poll(&mut self) -> Option<(ShardId, Message)> {
        self.outbox.pop_front()
    }

    /// Live streams and whether each has a publisher.
    pub fn streams(&self) -> impl Iterator<Item = (&StreamName, bool)> {
        self.registry
            .iter()
            .map(|(name, _, has_publisher)| (name, has_publisher))
    }

    fn claim(&mut self, from: ShardId, name: &StreamName, publisher: u64, takeover: bool) {
        let claim = Claim {
            shard: from,
            publisher,
            takeover,
        };
        let claimed = self.registry.claim(name, claim);
        if let Claimed::Granted { replaced, .. } = claimed
            && let Some((shard, publisher)) = replaced
        {
            self.outbox
                .push_back((shard, Message::Replaced { publisher }));
        }
        let answer = Message::Claimed {
            name: name.clone(),
            publisher,
            claimed,
        };
        self.outbox.push_back((from, answer));
        if let Claimed::Granted { home, .. } = claimed {
            for shard in self.awaited.remove(name).unwrap_or_default() {
                let name = name.clone();
                self.outbox.push_back((
                    shard,
                    Message::Located {
                        name,
                        home: Some(home),
                    },
                ));
            }
        }
    }
}
