//! One player, as signalling knows it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::bucket::Bucket;
use super::message::{ConsumerId, ProducerId, TransportId};
use super::options::{CHATS, CONSUMERS_MAX, DATA, EVENTS, REQUESTS};
use crate::base::ids::{ConnId, ShardId};
use crate::proto::unavi::{AudioParameters, Capabilities, Dialect, Side, StreamParameters, World};

/// Streams that channels take in turn, at least: an association keeps a place for each that was used.
const STREAMS_MIN: usize = 64;

/// Names a player. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct PlayerKey(pub(super) u64);

/// One of a player's two transports.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) id: TransportId,
    /// What the client calls it.
    pub(super) name: String,
    /// The client was told of it.
    pub(super) is_open: bool,
    /// The client's side is known.
    pub(super) is_connected: bool,
    /// The tag of the next stream of a consumer.
    pub(super) next_mid: u32,
}

/// What a player sends.
#[derive(Debug)]
pub(super) struct Producer<P> {
    pub(super) id: ProducerId,
    pub(super) name: String,
    pub(super) parameters: P,
}

/// What a player is sent of another one.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) id: ConsumerId,
    pub(super) name: String,
    pub(super) producer: ProducerId,
    pub(super) owner: PlayerKey,
    /// The space by which the two know each other.
    pub(super) world: World,
    /// Of messages: the channel. `None` for sound.
    pub(super) stream: Option<u16>,
    /// Of sound: the player does not want to hear it.
    pub(super) is_paused: bool,
}

/// A player.
#[derive(Debug)]
pub(super) struct Player {
    /// `None` while it is away.
    pub(super) conn: Option<ConnId>,
    pub(super) address: IpAddr,
    /// From its first frame on.
    pub(super) dialect: Option<Dialect>,
    /// Of its address' query.
    pub(super) token: Option<String>,
    /// What it may come back with.
    pub(super) resume: Option<String>,
    /// When it is given up, while it is away.
    pub(super) until: Option<Instant>,
    /// What others see, in the order it was said.
    pub(super) data: Vec<(String, String)>,
    pub(super) worlds: BTreeMap<World, u8>,
    pub(super) capabilities: Option<Capabilities>,
    /// Where its transports are made.
    pub(super) shard: ShardId,
    pub(super) sending: Option<Transport>,
    pub(super) receiving: Option<Transport>,
    pub(super) audio: Option<Producer<Box<AudioParameters>>>,
    pub(super) messages: Option<Producer<StreamParameters>>,
    /// Others were told that it talks.
    pub(super) is_talking: bool,
    pub(super) consumers: BTreeMap<ConsumerId, Consumer>,
    /// Of producers and consumers.
    pub(super) next_number: u32,
    /// Where to look for a free channel.
    next_stream: u16,
    pub(super) chats: Bucket,
    pub(super) changes: Bucket,
    pub(super) events: Bucket,
    pub(super) requests: Bucket,
}

impl Player {
    pub(super) fn new(
        now: Instant,
        conn: ConnId,
        address: IpAddr,
        token: Option<String>,
        shard: ShardId,
    ) -> Self {
        Self {
            conn: Some(conn),
            address,
            dialect: None,
            token,
            resume: None,
            until: None,
            data: Vec::new(),
            worlds: BTreeMap::new(),
            capabilities: None,
            shard,
            sending: None,
            receiving: None,
            audio: None,
            messages: None,
            is_talking: false,
            consumers: BTreeMap::new(),
            next_number: 0,
            next_stream: 0,
            chats: Bucket::new(now, CHATS),
            changes: Bucket::new(now, DATA),
            events: Bucket::new(now, EVENTS),
            requests: Bucket::new(now, REQUESTS),
        }
    }

    pub(super) fn transport_mut(&mut self, side: Side) -> &mut Option<Transport> {
        match side {
            Side::Producer => &mut self.sending,
            Side::Consumer => &mut self.receiving,
        }
    }

    pub(super) fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    /// A free channel, the one that was free for longest: a number whose channel has just ended is
    /// no good to either side until both have reset it (RFC 8831 section 6.7).
    pub(super) fn free_stream(&mut self) -> u16 {
        // One more than there can be consumers.
        let mut is_used = [false; CONSUMERS_MAX + 1];
        let mut used = 0;
        for stream in self.consumers.values().filter_map(|known| known.stream) {
            if let Some(is_used) = is_used.get_mut(usize::from(stream)) {
                *is_used = true;
                used += 1;
            }
        }
        let turns = (2 * used).clamp(STREAMS_MIN, CONSUMERS_MAX);
        let from = usize::from(self.next_stream).min(turns);
        let mut numbers = (from..turns).chain(0..is_used.len());
        let free = numbers.find(|number| !is_used[*number]);
        let free = free.expect("consumers are bounded") as u16;
        self.next_stream = free + 1;
        free
    }

    /// What it is called by `key`.
    pub(super) fn datum(&self, key: &str) -> Option<&str> {
        let mut all = self.data.iter();
        all.find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }
}
