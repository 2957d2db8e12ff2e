//! Who gets what on one shard, and what waits to be sent to each receiver.
//!
//! What a producer sends reaches each shard with consumers once. There it is put into the form of
//! each kind of consumer once, and queued for each receiver. Messages of a few milliseconds leave a
//! queue together, so that they share packets. Of a queue that is full the oldest locations go:
//! newer ones make up for them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::location::{self, Bucket, LOCATION_BYTES, Place};
use super::message::{ByteOrder, ConsumerId, ProducerId, TransportId};
use crate::base::ids::ShardId;
use crate::proto::sctp::ChannelId;

/// Messages that wait for one receiver: two of each of 255 players.
const QUEUE_MESSAGES_MAX: usize = 512;

/// Bytes that wait for one receiver: four messages of the largest size.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Consumers of one transport: those of 256 players in four spaces.
const CONSUMERS_MAX: usize = 1024;

/// Messages of one sender in a second, and at once. A client sends 20 locations a second.
const MESSAGES_PER_S: f64 = 200.0;
const MESSAGES_BURST: f64 = 100.0;

/// Bytes of one sender in a second; two messages of the largest size at once.
const BYTES_PER_S: f64 = 128.0 * 1024.0;
const BYTES_BURST: f64 = 512.0 * 1024.0;

/// How long messages wait for others while there are many.
const GATHER: Duration = Duration::from_millis(4);

/// With fewer messages a second nobody waits: what is saved is not needed.
const GATHER_FROM_PER_S: f64 = 2000.0;

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

/// A message for one receiver's data channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// The channel.
    pub channel: ChannelId,
    /// Text, not bytes.
    pub is_text: bool,
    /// The message.
    pub bytes: Bytes,
    is_location: bool,
}

#[derive(Debug)]
struct Consumer {
    producer: ProducerId,
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
#[derive(Debug, Default)]
struct Receiver {
    consumers: BTreeMap<ConsumerId, Consumer>,
    interest: Option<Interest>,
    queue: VecDeque<Item>,
    queue_bytes: usize,
    /// In the list of those that have something to send.
    due: Option<Instant>,
}

/// A producer that consumers of this shard have.
#[derive(Debug, Default)]
struct Source {
    /// Of data.
    consumers: Vec<ConsumerId>,
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
    receivers: BTreeMap<TransportId, Receiver>,
    sources: HashMap<ProducerId, Source, foldhash::fast::RandomState>,
    locals: BTreeMap<ProducerId, Local>,
    /// Receivers that have something to send, in the order that it is due.
    due: VecDeque<(Instant, TransportId)>,
    /// Messages queued in the second that began at `since`, and those of the one before.
    rate: (Instant, f64, f64),
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
            receivers: BTreeMap::new(),
            sources: HashMap::default(),
            locals: BTreeMap::new(),
            due: VecDeque::new(),
            rate: (now, 0.0, 0.0),
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
        for id in source.consumers {
            if let Some(receiver) = self.receivers.get_mut(&id.transport)
                && let Some(consumer) = receiver.consumers.remove(&id)
            {
                ended.push((id, consumer.channel));
            }
        }
        ended
    }

    /// A player of this shard gets a producer's messages. `None` if it has too many or this one
    /// already; else whether the shard wants the producer since.
    pub fn consume(
        &mut self,
        id: ConsumerId,
        producer: ProducerId,
        (channel, player, byte_order): (ChannelId, u8, ByteOrder),
    ) -> Option<Option<Want>> {
        let receiver = self.receivers.entry(id.transport).or_default();
        let has_it = receiver.consumers.contains_key(&id)
            || receiver
                .consumers
                .values()
                .any(|consumer| consumer.channel == channel);
        if has_it || receiver.consumers.len() >= CONSUMERS_MAX {
            return None;
        }
        receiver.consumers.insert(
            id,
            Consumer {
                producer,
                channel,
                player,
                byte_order,
                is_paused: false,
                located: None,
            },
        );
        let is_new = !self.sources.contains_key(&producer);
        let source = self.sources.entry(producer).or_default();
        source.consumers.push(id);
        let is_wanted = true;
        Some(is_new.then_some(Want {
            producer,
            is_wanted,
        }))
    }

    /// Stops a consumer, or lets it go on.
    pub fn pause(&mut self, id: ConsumerId, is_paused: bool) {
        if let Some(receiver) = self.receivers.get_mut(&id.transport)
            && let Some(consumer) = receiver.consumers.get_mut(&id)
        {
            consumer.is_paused = is_paused;
        }
    }

    /// A consumer ends. Gives its channel, and what the shard does not want any more.
    pub fn end_consumer(&mut self, id: ConsumerId) -> Option<(ChannelId, Option<Want>)> {
        let receiver = self.receivers.get_mut(&id.transport)?;
        let consumer = receiver.consumers.remove(&id)?;
        receiver
            .queue
            .retain(|item| item.channel != consumer.channel);
        receiver.queue_bytes = receiver.queue.iter().map(|item| item.bytes.len()).sum();
        let producer = consumer.producer;
        if let Some(source) = self.sources.get_mut(&producer) {
            source.consumers.retain(|known| *known != id);
        }
        Some((consumer.channel, self.forget_unused(producer)))
    }

    fn forget_unused(&mut self, producer: ProducerId) -> Option<Want> {
        let source = self.sources.get(&producer)?;
        if source.watchers > 0 || !source.consumers.is_empty() {
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
        let receiver = self.receivers.entry(transport).or_default();
        let interest = Interest {
            own,
            nearest,
            others_every,
        };
        let before = receiver.interest.replace(interest);
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
        let Some(receiver) = self.receivers.remove(&transport) else {
            return Vec::new();
        };
        let mut wants = Vec::new();
        for (id, consumer) in receiver.consumers {
            if let Some(source) = self.sources.get_mut(&consumer.producer) {
                source.consumers.retain(|known| *known != id);
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
        let consumers = std::mem::take(&mut source.consumers);
        // A player has one number in a space, and there are two byte orders.
        let mut forms: Vec<(u8, ByteOrder, Bytes)> = Vec::new();
        for id in &consumers {
            let is_left_out = is_location && self.is_far(now, *id, producer, place);
            let Some(receiver) = self.receivers.get_mut(&id.transport) else {
                continue;
            };
            let Some(consumer) = receiver.consumers.get_mut(id) else {
                continue;
            };
            if is_left_out || consumer.is_paused {
                self.counters.far_left_out += u64::from(is_left_out);
                continue;
            }
            consumer.located = Some(now);
            let (player, to) = (consumer.player, consumer.byte_order);
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
                channel: consumer.channel,
                is_text,
                bytes,
                is_location,
            };
            receiver.push(item, &mut self.counters);
            self.rate.2 += 1.0;
            if receiver.due.is_none() && !receiver.queue.is_empty() {
                let at = match self.rate.1 >= GATHER_FROM_PER_S {
                    true => now + GATHER,
                    false => now,
                };
                receiver.due = Some(at);
                self.due.push_back((at, id.transport));
            }
        }
        if let Some(source) = self.sources.get_mut(&producer) {
            source.consumers = consumers;
        }
        self.note_rate(now);
    }

    fn note_rate(&mut self, now: Instant) {
        let (since, _, queued) = self.rate;
        let passed = now.saturating_duration_since(since);
        if passed >= Duration::from_secs(1) {
            self.rate = (now, queued / passed.as_secs_f64(), 0.0);
        }
    }

    /// Whether a location is of somebody far away who has been seen a moment ago.
    fn is_far(
        &self,
        now: Instant,
        id: ConsumerId,
        producer: ProducerId,
        place: Option<Place>,
    ) -> bool {
        let Some(receiver) = self.receivers.get(&id.transport) else {
            return false;
        };
        let (Some(interest), Some(place)) = (&receiver.interest, place) else {
            return false;
        };
        let own = self.sources.get(&interest.own);
        let Some(own) = own.and_then(|source| source.place) else {
            return false;
        };
        let seen = receiver.consumers.get(&id).and_then(|known| known.located);
        if seen.is_none_or(|seen| now >= seen + interest.others_every) {
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
        if let Some(receiver) = self.receivers.get_mut(&transport) {
            receiver.due = None;
            self.counters.flushes += 1;
        }
        Some(transport)
    }

    /// The next message for a receiver.
    pub fn take(&mut self, transport: TransportId) -> Option<Item> {
        let receiver = self.receivers.get_mut(&transport)?;
        let item = receiver.queue.pop_front()?;
        receiver.queue_bytes -= item.bytes.len();
        Some(item)
    }

    /// A receiver cannot take a message yet: it and those behind it wait until `at`.
    pub fn put_back(&mut self, transport: TransportId, item: Item, at: Instant) {
        if let Some(receiver) = self.receivers.get_mut(&transport) {
            receiver.queue_bytes += item.bytes.len();
            receiver.queue.push_front(item);
            if receiver.due.is_none() {
                receiver.due = Some(at);
                let place = self.due.partition_point(|(known, _)| *known <= at);
                self.due.insert(place, (at, transport));
            }
        }
    }

    /// Messages that wait for all receivers.
    pub fn queued(&self) -> usize {
        let all = self.receivers.values();
        all.map(|receiver| receiver.queue.len()).sum()
    }

    /// Consumers, producers that they have, and producers of this shard.
    pub fn census(&self) -> (usize, usize, usize) {
        let consumers = self.receivers.values();
        (
            consumers.map(|receiver| receiver.consumers.len()).sum(),
            self.sources.len(),
            self.locals.len(),
        )
    }
}

impl Receiver {
    fn push(&mut self, item: Item, counters: &mut Counters) {
        let is_full = |receiver: &Self| {
            receiver.queue.len() >= QUEUE_MESSAGES_MAX
                || receiver.queue_bytes + item.bytes.len() > QUEUE_BYTES_MAX
        };
        while is_full(self) {
            let Some(oldest) = self.queue.iter().position(|item| item.is_location) else {
                counters.messages_dropped += 1;
                return;
            };
            if let Some(dropped) = self.queue.remove(oldest) {
                self.queue_bytes -= dropped.bytes.len();
                counters.locations_dropped += 1;
            }
        }
        self.queue_bytes += item.bytes.len();
        self.queue.push_back(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(number: u64) -> TransportId {
        TransportId {
            maker: ShardId(0),
            number,
        }
    }

    fn producer(number: u64) -> ProducerId {
        ProducerId {
            transport: transport(number),
            number: 0,
        }
    }

    fn consumer(of: u64, number: u32) -> ConsumerId {
        ConsumerId {
            transport: transport(of),
            number,
        }
    }

    fn start() -> Instant {
        // The only point in time that a test without a clock can have.
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "tests may look at the clock")]
        *START.get_or_init(<Instant>::now)
    }

    fn drain(relay: &mut Relay, of: u64) -> Vec<Item> {
        std::iter::from_fn(|| relay.take(transport(of))).collect()
    }

    #[test]
    fn a_location_carries_its_senders_true_number_in_each_receivers_order() {
        let now = start();
        let mut relay = Relay::new(now);
        relay.produce(now, producer(1), ByteOrder::Little);
        for (of, order) in [(2, ByteOrder::Little), (3, ByteOrder::Big)] {
            let facts = (ChannelId(0), 77, order);
            let want = relay.consume(consumer(of, 0), producer(1), facts);
            assert_eq!(want.expect("there is room").is_some(), of == 2);
        }
        let mut bytes = vec![200]; // A lie.
        bytes.extend([100i32, -2, 3].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend([1i16, -2, 3, 10_000].iter().flat_map(|n| n.to_le_bytes()));
        let bytes = Bytes::from(bytes);
        assert!(relay.received(now, producer(1), bytes.len()).is_some());
        relay.deliver(now, producer(1), ByteOrder::Little, false, &bytes);
        let little = drain(&mut relay, 2).remove(0).bytes;
        assert_eq!((little[0], &little[1..]), (77, &bytes[1..]));
        let mut big = vec![77];
        big.extend([100i32, -2, 3].iter().flat_map(|n| n.to_be_bytes()));
        big.extend([1i16, -2, 3, 10_000].iter().flat_map(|n| n.to_be_bytes()));
        assert_eq!(drain(&mut relay, 3).remove(0).bytes, big);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_locations_and_nothing_else() {
        let now = start();
        let mut relay = Relay::new(now);
        let facts = (ChannelId(0), 1, ByteOrder::Big);
        let _ = relay.consume(consumer(2, 0), producer(1), facts);
        let other = Bytes::from_static(b"not a location");
        relay.deliver(now, producer(1), ByteOrder::Big, true, &other);
        for n in 0..2 * QUEUE_MESSAGES_MAX {
            let mut bytes = vec![0; LOCATION_BYTES];
            bytes[1..5].copy_from_slice(&(n as i32).to_be_bytes());
            relay.deliver(now, producer(1), ByteOrder::Big, false, &bytes.into());
        }
        let items = drain(&mut relay, 2);
        assert_eq!(items.len(), QUEUE_MESSAGES_MAX);
        assert_eq!(items[0].bytes, other);
        let newest = &items[items.len() - 1].bytes;
        assert_eq!(
            newest[1..5],
            (2 * QUEUE_MESSAGES_MAX as i32 - 1).to_be_bytes()
        );
        assert_eq!(
            relay.counters.locations_dropped,
            QUEUE_MESSAGES_MAX as u64 + 1
        );
        assert_eq!(relay.counters.messages_dropped, 0);
    }

    #[test]
    fn a_sender_beyond_its_rate_is_not_heard() {
        let now = start();
        let mut relay = Relay::new(now);
        relay.produce(now, producer(1), ByteOrder::Big);
        let heard = (0..1000)
            .filter(|_| relay.received(now, producer(1), 21).is_some())
            .count();
        assert_eq!(heard, MESSAGES_BURST as usize);
        assert_eq!(relay.counters.refused, 900);
        let later = now + Duration::from_millis(50);
        assert!(relay.received(later, producer(1), 21).is_some());
    }

    #[test]
    fn the_shard_wants_a_producer_as_long_as_somebody_does() {
        let now = start();
        let mut relay = Relay::new(now);
        let facts = (ChannelId(0), 1, ByteOrder::Big);
        let first = relay.consume(consumer(2, 0), producer(1), facts);
        assert_eq!(first.flatten().map(|want| want.is_wanted), Some(true));
        assert_eq!(
            relay.consume(consumer(3, 0), producer(1), facts),
            Some(None)
        );
        let taken = relay.consume(consumer(3, 1), producer(9), facts);
        assert_eq!(taken, None, "the channel is taken");
        assert_eq!(relay.end_receiver(transport(2)), []);
        let (channel, want) = relay.end_consumer(consumer(3, 0)).expect("it is there");
        assert_eq!(channel, ChannelId(0));
        assert_eq!(want.map(|want| want.is_wanted), Some(false));
        assert_eq!(relay.census(), (0, 0, 0));
    }

    #[test]
    fn those_who_are_far_away_are_seen_less_often() {
        let mut now = start();
        let mut relay = Relay::new(now);
        for number in 1..=3u8 {
            let facts = (ChannelId(number.into()), number, ByteOrder::Big);
            let id = consumer(9, number.into());
            let _ = relay.consume(id, producer(number.into()), facts);
        }
        let every = Duration::from_millis(500);
        let wants = relay.set_interest(transport(9), producer(8), 1, every);
        assert_eq!(wants.len(), 1, "its own location is needed here");
        let mut seen = [0; 4];
        for _ in 0..20 {
            for (number, x) in [(8u64, 0i32), (1, 100), (2, 200), (3, 300)] {
                let mut bytes = vec![0; LOCATION_BYTES];
                bytes[1..5].copy_from_slice(&x.to_be_bytes());
                relay.deliver(now, producer(number), ByteOrder::Big, false, &bytes.into());
            }
            now += Duration::from_millis(50);
        }
        for item in drain(&mut relay, 9) {
            seen[usize::from(item.channel.0)] += 1;
        }
        assert_eq!(seen[1], 20, "the nearest at the full rate");
        assert!((2..=4).contains(&seen[3]), "{seen:?}");
        assert!(relay.counters.far_left_out > 0);
    }

    #[test]
    fn under_load_messages_wait_for_each_other_and_not_for_long() {
        let mut now = start();
        let mut relay = Relay::new(now);
        for of in 0..200 {
            let facts = (ChannelId(0), 1, ByteOrder::Big);
            let _ = relay.consume(consumer(of, 0), producer(1000), facts);
        }
        let bytes = Bytes::from(vec![0; LOCATION_BYTES]);
        relay.deliver(now, producer(1000), ByteOrder::Big, false, &bytes);
        assert_eq!(relay.deadline(), Some(now), "at once");
        for _ in 0..40 {
            now += Duration::from_millis(50);
            relay.deliver(now, producer(1000), ByteOrder::Big, false, &bytes);
            while relay.take_due(now).is_some() {}
        }
        while let Some(at) = relay.deadline() {
            while relay.take_due(at).is_some() {}
        }
        relay.deliver(now, producer(1000), ByteOrder::Big, false, &bytes);
        assert_eq!(relay.deadline(), Some(now + GATHER));
        assert!(GATHER <= Duration::from_millis(5));
    }
}
