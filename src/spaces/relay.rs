//! Who gets what on one shard, and what waits to be sent to each receiver.
//!
//! What a producer sends reaches each shard with consumers once. There it is put into the form of
//! each kind of consumer once, and queued for each receiver. Messages of a few milliseconds leave a
//! queue together, so that they share packets. Of a queue that is full the oldest locations go:
//! newer ones make up for them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;

use super::location::{self, Bucket, LOCATION_BYTES, Place};
use super::message::{ByteOrder, ConsumerId, ProducerId, TransportId};
use crate::base::ids::ShardId;
use crate::proto::sctp::{Association, ChannelId};

mod pace;
mod queue;

use pace::Pace;
use queue::{Item, Queue};

/// Consumers of one transport: those of 256 players in four spaces.
const CONSUMERS_MAX: usize = 1024;

/// Messages of one sender in a second, and at once. A client sends 20 locations a second.
const MESSAGES_PER_S: f64 = 200.0;
const MESSAGES_BURST: f64 = 100.0;

/// Bytes of one sender in a second; two messages of the largest size at once.
const BYTES_PER_S: f64 = 128.0 * 1024.0;
const BYTES_BURST: f64 = 512.0 * 1024.0;

/// How long a receiver waits that can take no more.
const FULL: Duration = Duration::from_millis(10);

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Messages of players.
    pub received: u64,
    /// Messages beyond a sender's rate.
    pub refused: u64,
    /// Messages handed to receivers' data channels.
    pub delivered: u64,
    /// Locations that were dropped since newer ones were waiting.
    pub locations_dropped: u64,
    /// Other messages that found no room.
    pub messages_dropped: u64,
    /// Orders that found no room while their transport waited for its player.
    pub orders_dropped: u64,
    /// Locations that were left out since their players are far away.
    pub far_left_out: u64,
    /// Times that a receiver's messages were sent.
    pub flushes: u64,
    /// Packets of sound of players.
    pub audio_received: u64,
    /// Packets of sound handed to receivers.
    pub audio_delivered: u64,
}

/// What a receiver has of one producer.
#[derive(Debug)]
struct Consumer {
    producer: ProducerId,
    channel: ChannelId,
}

/// The same, as it is looked at with each message of the producer.
#[derive(Debug)]
struct Listener {
    id: ConsumerId,
    /// In [`Relay::receivers`].
    receiver: usize,
    channel: ChannelId,
    player: u8,
    byte_order: ByteOrder,
    is_paused: bool,
    /// When it last had a location, for those that are far away.
    located: Option<Instant>,
}

#[derive(Debug)]
struct Interest {
    own: ProducerId,
    nearest: u16,
    others_every: Duration,
}

/// One transport that receives.
#[derive(Debug)]
struct Receiver {
    transport: TransportId,
    consumers: BTreeMap<ConsumerId, Consumer>,
    interest: Option<Interest>,
    queue: Queue,
    /// In the list of those that have something to send.
    due: Option<Instant>,
}

/// A producer that consumers of this shard have.
#[derive(Debug, Default)]
struct Source {
    /// Of data.
    listeners: Vec<Listener>,
    place: Option<Place>,
    /// Receivers that measure distances from it.
    watchers: usize,
}

/// A producer of this shard.
#[derive(Debug)]
struct Local {
    byte_order: ByteOrder,
    messages: Bucket,
    bytes: Bucket,
    /// Other shards with consumers.
    shards: Vec<ShardId>,
}

/// The relay of one shard.
#[derive(Debug)]
pub struct Relay {
    receivers: Slab<Receiver>,
    by_transport: BTreeMap<TransportId, usize>,
    sources: HashMap<ProducerId, Source, foldhash::fast::RandomState>,
    locals: BTreeMap<ProducerId, Local>,
    /// Receivers that have something to send, in the order that it is due.
    due: VecDeque<(Instant, TransportId)>,
    pace: Pace,
    /// What is counted.
    pub counters: Counters,
}

/// A change of what a shard wants of a producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    /// The producer.
    pub producer: ProducerId,
    /// From here on, or no longer.
    pub is_wanted: bool,
}

impl Relay {
    /// Nothing to relay.
    pub fn new(now: Instant) -> Self {
        Self {
            receivers: Slab::new(),
            by_transport: BTreeMap::new(),
            sources: HashMap::default(),
            locals: BTreeMap::new(),
            due: VecDeque::new(),
            pace: Pace::new(now),
            counters: Counters::default(),
        }
    }

    /// A player of this shard sends data.
    pub fn produce(&mut self, now: Instant, producer: ProducerId, byte_order: ByteOrder) {
        self.locals.entry(producer).or_insert_with(|| Local {
            byte_order,
            messages: Bucket::new(now, MESSAGES_PER_S, MESSAGES_BURST),
            bytes: Bucket::new(now, BYTES_PER_S, BYTES_BURST),
            shards: Vec::new(),
        });
    }

    /// Whether it is one of this shard's.
    pub fn produces(&self, producer: ProducerId) -> bool {
        self.locals.contains_key(&producer)
    }

    /// A shard wants a producer of this shard, or no longer does.
    pub fn subscribe(&mut self, producer: ProducerId, shard: ShardId, is_wanted: bool) {
        if let Some(local) = self.locals.get_mut(&producer) {
            local.shards.retain(|known| *known != shard);
            if is_wanted {
                local.shards.push(shard);
            }
        }
    }

    /// A producer of this shard has ended. Gives the shards that have to know.
    pub fn end_local(&mut self, producer: ProducerId) -> Vec<ShardId> {
        let local = self.locals.remove(&producer);
        local.map(|local| local.shards).unwrap_or_default()
    }

    /// A producer has ended: its consumers here do. Gives those consumers with their channels.
    pub fn end(&mut self, producer: ProducerId) -> Vec<(ConsumerId, ChannelId)> {
        let Some(source) = self.sources.remove(&producer) else {
            return Vec::new();
        };
        let mut ended = Vec::new();
        for listener in source.listeners {
            if let Some(receiver) = self.receivers.get_mut(listener.receiver)
                && let Some(consumer) = receiver.consumers.remove(&listener.id)
            {
                receiver.queue.forget(consumer.channel);
                ended.push((listener.id, consumer.channel));
            }
        }
        ended
    }

    fn receiver_mut(&mut self, transport: TransportId) -> Option<&mut Receiver> {
        self.receivers.get_mut(*self.by_transport.get(&transport)?)
    }

    /// Where a transport's receiver is, which may be a new one.
    fn receiver_index(&mut self, transport: TransportId) -> usize {
        let receivers = &mut self.receivers;
        *self.by_transport.entry(transport).or_insert_with(|| {
            receivers.insert(Receiver {
                transport,
                consumers: BTreeMap::new(),
                interest: None,
                queue: Queue::default(),
                due: None,
            })
        })
    }

    /// A player of this shard gets a producer's messages. `None` if it has too many or this one
    /// already; else whether the shard wants the producer since.
    pub fn consume(
        &mut self,
        id: ConsumerId,
        producer: ProducerId,
        (channel, player, byte_order): (ChannelId, u8, ByteOrder),
    ) -> Option<Option<Want>> {
        let index = self.receiver_index(id.transport);
        let receiver = &mut self.receivers[index];
        let has_it = receiver.consumers.contains_key(&id)
            || receiver
                .consumers
                .values()
                .any(|consumer| consumer.channel == channel);
        if has_it || receiver.consumers.len() >= CONSUMERS_MAX {
            return None;
        }
        receiver
            .consumers
            .insert(id, Consumer { producer, channel });
        let is_new = !self.sources.contains_key(&producer);
        let source = self.sources.entry(producer).or_default();
        source.listeners.push(Listener {
            id,
            receiver: index,
            channel,
            player,
            byte_order,
            is_paused: false,
            located: None,
        });
        let is_wanted = true;
        Some(is_new.then_some(Want {
            producer,
            is_wanted,
        }))
    }

    /// Stops a consumer, or lets it go on.
    pub fn pause(&mut self, id: ConsumerId, is_paused: bool) {
        let index = self.by_transport.get(&id.transport);
        let receiver = index.and_then(|index| self.receivers.get(*index));
        let consumer = receiver.and_then(|receiver| receiver.consumers.get(&id));
        if let Some(source) = consumer.and_then(|it| self.sources.get_mut(&it.producer))
            && let Some(listener) = source.listeners.iter_mut().find(|known| known.id == id)
        {
            listener.is_paused = is_paused;
        }
    }

    /// A consumer ends. Gives its channel, and what the shard does not want any more.
    pub fn end_consumer(&mut self, id: ConsumerId) -> Option<(ChannelId, Option<Want>)> {
        let receiver = self.receiver_mut(id.transport)?;
        let consumer = receiver.consumers.remove(&id)?;
        receiver.queue.forget(consumer.channel);
        let producer = consumer.producer;
        if let Some(source) = self.sources.get_mut(&producer) {
            source.listeners.retain(|known| known.id != id);
        }
        Some((consumer.channel, self.forget_unused(producer)))
    }

    fn forget_unused(&mut self, producer: ProducerId) -> Option<Want> {
        let source = self.sources.get(&producer)?;
        if source.watchers > 0 || !source.listeners.is_empty() {
            return None;
        }
        self.sources.remove(&producer);
        let is_wanted = false;
        Some(Want {
            producer,
            is_wanted,
        })
    }

    /// A receiver wants those that are far away less often. Gives what the shard wants since, and
    /// what it does not any more.
    pub fn set_interest(
        &mut self,
        transport: TransportId,
        own: ProducerId,
        nearest: u16,
        others_every: Duration,
    ) -> Vec<Want> {
        let mut wants = Vec::new();
        let index = self.receiver_index(transport);
        let interest = Interest {
            own,
            nearest,
            others_every,
        };
        let before = self.receivers[index].interest.replace(interest);
        if !self.sources.contains_key(&own) {
            let is_wanted = true;
            wants.push(Want {
                producer: own,
                is_wanted,
            });
        }
        self.sources.entry(own).or_default().watchers += 1;
        wants.extend(before.and_then(|before| self.unwatch(before.own)));
        wants
    }

    fn unwatch(&mut self, own: ProducerId) -> Option<Want> {
        let source = self.sources.get_mut(&own)?;
        source.watchers = source.watchers.saturating_sub(1);
        self.forget_unused(own)
    }

    /// A transport of this shard has ended. Gives what the shard does not want any more.
    pub fn end_receiver(&mut self, transport: TransportId) -> Vec<Want> {
        let Some(index) = self.by_transport.remove(&transport) else {
            return Vec::new();
        };
        let receiver = self.receivers.remove(index);
        let mut wants = Vec::new();
        for (id, consumer) in receiver.consumers {
            if let Some(source) = self.sources.get_mut(&consumer.producer) {
                source.listeners.retain(|known| known.id != id);
            }
            wants.extend(self.forget_unused(consumer.producer));
        }
        if let Some(interest) = receiver.interest {
            wants.extend(self.unwatch(interest.own));
        }
        wants
    }

    /// A player of this shard has sent a message. Gives the form of its locations, and the other
    /// shards that want it; nothing if it is beyond the sender's rate.
    pub fn received(
        &mut self,
        now: Instant,
        producer: ProducerId,
        bytes: usize,
    ) -> Option<(ByteOrder, &[ShardId])> {
        let local = self.locals.get_mut(&producer)?;
        self.counters.received += 1;
        if !local.messages.take(now, 1.0) || !local.bytes.take(now, bytes as f64) {
            self.counters.refused += 1;
            return None;
        }
        Some((local.byte_order, &local.shards))
    }

    /// A message of a producer of any shard, for the consumers of this one.
    pub fn deliver(
        &mut self,
        now: Instant,
        producer: ProducerId,
        from: ByteOrder,
        is_text: bool,
        bytes: &Bytes,
    ) {
        let is_location = !is_text && bytes.len() == LOCATION_BYTES;
        let place = is_location.then(|| Place::of(bytes, from));
        let Some(source) = self.sources.get_mut(&producer) else {
            return;
        };
        source.place = place.or(source.place);
        let mut listeners = std::mem::take(&mut source.listeners);
        // A player has one number in a space, and there are two byte orders.
        let mut forms: Vec<(u8, ByteOrder, Bytes)> = Vec::new();
        let at = now + self.pace.gather();
        for listener in &mut listeners {
            if listener.is_paused {
                continue;
            }
            if let Some(place) = place {
                if self.is_far(now, listener, producer, place) {
                    self.counters.far_left_out += 1;
                    continue;
                }
                listener.located = Some(now);
            }
            let Some(receiver) = self.receivers.get_mut(listener.receiver) else {
                continue;
            };
            let (player, to) = (listener.player, listener.byte_order);
            let bytes = if is_location {
                let known = forms.iter().find(|form| (form.0, form.1) == (player, to));
                match known {
                    Some(form) => form.2.clone(),
                    None => {
                        let form = location::rewrite(bytes, from, to, player);
                        forms.push((player, to, form.clone()));
                        form
                    }
                }
            } else {
                bytes.clone()
            };
            let item = Item {
                channel: listener.channel,
                is_text,
                bytes,
                is_location,
            };
            receiver.queue.push(item, &mut self.counters);
            self.pace.count();
            if receiver.due.is_none() && !receiver.queue.is_empty() {
                receiver.due = Some(at);
                let transport = receiver.transport;
                self.note_due(at, transport);
            }
        }
        if let Some(source) = self.sources.get_mut(&producer) {
            source.listeners = listeners;
        }
        self.note_time(now);
    }

    /// Counts the second that has passed.
    pub fn note_time(&mut self, now: Instant) {
        self.pace.note_time(now);
    }

    /// The share of a CPU that the shard takes: under load messages wait longer for each other.
    pub fn note_load(&mut self, load: f64) {
        self.pace.note_load(load);
    }

    /// A receiver's turn comes then. Almost always nobody's comes later.
    fn note_due(&mut self, at: Instant, transport: TransportId) {
        if self.due.back().is_none_or(|(last, _)| *last <= at) {
            self.due.push_back((at, transport));
        } else {
            let place = self.due.partition_point(|(known, _)| *known <= at);
            self.due.insert(place, (at, transport));
        }
    }

    /// Whether a location is of somebody far away who has been seen a moment ago.
    fn is_far(
        &self,
        now: Instant,
        listener: &Listener,
        producer: ProducerId,
        place: Place,
    ) -> bool {
        let Some(receiver) = self.receivers.get(listener.receiver) else {
            return false;
        };
        let Some(interest) = &receiver.interest else {
            return false;
        };
        let own = self.sources.get(&interest.own);
        let Some(own) = own.and_then(|source| source.place) else {
            return false;
        };
        let is_due = |seen: Instant| now >= seen + interest.others_every;
        if listener.located.is_none_or(is_due) {
            return false;
        }
        let distance = own.distance(place);
        let nearer = receiver.consumers.values().filter(|other| {
            let source = self.sources.get(&other.producer);
            let place = source.and_then(|source| source.place);
            other.producer != producer && place.is_some_and(|place| own.distance(place) < distance)
        });
        nearer.take(usize::from(interest.nearest)).count() >= usize::from(interest.nearest)
    }

    /// How long messages wait for each other; zero while there are few.
    pub fn gather(&self) -> Duration {
        self.pace.gather()
    }

    /// When [`Relay::take_due`] has something.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.front().map(|(at, _)| *at)
    }

    /// The next receiver whose messages are to be sent.
    pub fn take_due(&mut self, now: Instant) -> Option<TransportId> {
        let (at, transport) = *self.due.front()?;
        if at > now {
            return None;
        }
        self.due.pop_front();
        if let Some(receiver) = self.receiver_mut(transport) {
            receiver.due = None;
            self.counters.flushes += 1;
        }
        Some(transport)
    }

    /// Hands what waits for a receiver to its association. What that cannot take yet waits on,
    /// the oldest first; without an association nothing does.
    pub fn send(&mut self, now: Instant, transport: TransportId, data: Option<&mut Association>) {
        let counters = &mut self.counters;
        let index = self.by_transport.get(&transport);
        let Some(receiver) = index.and_then(|index| self.receivers.get_mut(*index)) else {
            return;
        };
        if receiver.queue.send(now, data, counters) || receiver.due.is_some() {
            return;
        }
        let at = now + FULL;
        receiver.due = Some(at);
        self.note_due(at, transport);
    }

    /// Messages that wait for all receivers.
    pub fn queued(&self) -> usize {
        let all = self.receivers.iter();
        all.map(|(_, receiver)| receiver.queue.len()).sum()
    }

    /// Consumers, producers that they have, and producers of this shard.
    pub fn census(&self) -> (usize, usize, usize) {
        let consumers = self.receivers.iter();
        (
            consumers
                .map(|(_, receiver)| receiver.consumers.len())
                .sum(),
            self.sources.len(),
            self.locals.len(),
        )
    }
}

#[cfg(test)]
mod tests;
