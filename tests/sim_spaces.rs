//! The relay of spaces with the associations of its receivers, over seeded lossy links in virtual
//! time.
#![allow(
    clippy::disallowed_methods,
    reason = "a simulation has to begin at some time"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::ids::ShardId;
use ringside::base::prng::Prng;
use ringside::proto::sctp::{Association, ChannelId, Event, Options, Reliability};
use ringside::spaces::{ByteOrder, ConsumerId, ProducerId, Relay, TransportId};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

const DELAY: Duration = Duration::from_millis(25);
const ROUND: Duration = Duration::from_millis(50);

/// Players whose locations come in one byte order or the other, by turns.
const PLAYERS: u64 = 12;

/// The channel of everybody's reliable messages, by sender: behind those of locations.
const WORDS: u16 = 100;

fn transport(number: u64) -> TransportId {
    TransportId {
        maker: ShardId(0),
        number,
    }
}

/// What a player sends: its locations, or its words.
fn producer(player: u64, number: u32) -> ProducerId {
    ProducerId {
        transport: transport(player),
        number,
    }
}

fn order(player: u64) -> ByteOrder {
    match player % 2 {
        0 => ByteOrder::Little,
        _ => ByteOrder::Big,
    }
}

fn location(player: u64, sequence: u32) -> Bytes {
    let mut bytes = vec![0xff]; // A lie.
    let words = [sequence as i32, player as i32, -1];
    for word in words {
        match order(player) {
            ByteOrder::Little => bytes.extend(word.to_le_bytes()),
            ByteOrder::Big => bytes.extend(word.to_be_bytes()),
        }
    }
    bytes.extend([0; 8]);
    bytes.into()
}

/// A receiving player.
struct Receiver {
    server: Association,
    client: Association,
    /// Percent.
    loss: u64,
    /// By sender: sequence and when it came.
    locations: BTreeMap<u8, Vec<(u32, Instant)>>,
    words: BTreeMap<u16, Vec<u32>>,
}

struct World {
    seed: u64,
    now: Instant,
    prng: Prng,
    relay: Relay,
    receivers: Vec<Receiver>,
    /// Arrival, receiver, whether at the server, packet.
    link: Vec<(Instant, usize, bool, Bytes)>,
    sequence: u32,
    sent: Vec<Instant>,
    digest: u64,
    queued_max: usize,
}

/// A world ends with its seed if it ends by a panic.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}", self.seed);
        }
    }
}

impl World {
    fn new(seed: u64, loss: u64) -> Self {
        let now = *START;
        let mut relay = Relay::new(now);
        for player in 0..PLAYERS {
            for number in 0..2 {
                relay.produce(now, producer(player, number), order(player));
            }
        }
        let options = Options {
            channels_max: 1024,
            ..Options::default()
        };
        let receivers = (0..PLAYERS).map(|_| Receiver {
            server: Association::new(now, false, options),
            client: Association::new(now, true, options),
            loss: 0,
            locations: BTreeMap::new(),
            words: BTreeMap::new(),
        });
        let mut world = Self {
            seed,
            now,
            prng: Prng::new(seed),
            relay,
            receivers: receivers.collect(),
            link: Vec::new(),
            sequence: 0,
            sent: Vec::new(),
            digest: 0,
            queued_max: 0,
        };
        world.open();
        world.run(Duration::from_secs(2));
        for receiver in &mut world.receivers {
            assert!(receiver.client.is_established());
            receiver.loss = loss;
        }
        world
    }

    fn open(&mut self) {
        let now = self.now;
        for of in 0..PLAYERS {
            let others: Vec<u64> = (0..PLAYERS).filter(|player| *player != of).collect();
            for player in others {
                for (number, channel) in [(0, player as u16), (1, WORDS + player as u16)] {
                    let (reliability, is_ordered) = match number {
                        0 => (Reliability::Retransmits(0), false),
                        _ => (Reliability::Reliable, true),
                    };
                    let receiver = &mut self.receivers[of as usize];
                    for side in [&mut receiver.server, &mut receiver.client] {
                        let id = ChannelId(channel);
                        side.open_negotiated(now, id, "", "", reliability, is_ordered)
                            .unwrap();
                    }
                    let consumer = ConsumerId {
                        transport: transport(of),
                        number: player as u32 * 2 + number,
                    };
                    let facts = (ChannelId(channel), player as u8, order(of));
                    self.relay
                        .consume(consumer, producer(player, number), facts)
                        .expect("there is room");
                }
            }
        }
    }

    fn say(&mut self, player: u64, number: u32, bytes: &Bytes) {
        let (now, from) = (self.now, producer(player, number));
        if self.relay.received(now, from, bytes.len()).is_some() {
            let is_text = number == 1;
            self.relay.deliver(now, from, order(player), is_text, bytes);
        }
    }

    /// One round: everybody says where it is, each a little later than the one before.
    fn round(&mut self, words: bool) {
        let step = ROUND / PLAYERS as u32;
        self.sent.push(self.now);
        for player in 0..PLAYERS {
            self.say(player, 0, &location(player, self.sequence));
            if words {
                let word = self.sequence.to_be_bytes();
                self.say(player, 1, &Bytes::copy_from_slice(&word));
            }
            self.run(step);
        }
        self.sequence += 1;
    }

    fn send(&mut self, receiver: usize, to_server: bool, packet: Bytes) {
        if !self.prng.chance(self.receivers[receiver].loss) {
            let jitter = Duration::from_micros(self.prng.below(10_000));
            let at = self.now + DELAY + jitter;
            self.link.push((at, receiver, to_server, packet));
        }
    }

    fn settle(&mut self) {
        while let Some(of) = self.relay.take_due(self.now) {
            let receiver = &mut self.receivers[of.number as usize];
            let data = Some(&mut receiver.server);
            self.relay.send(self.now, of, data);
        }
        self.queued_max = self.queued_max.max(self.relay.queued());
        for index in 0..self.receivers.len() {
            self.hear(index);
            while let Some(packet) = self.receivers[index].server.poll_transmit() {
                self.send(index, false, packet);
            }
            while let Some(packet) = self.receivers[index].client.poll_transmit() {
                self.send(index, true, packet);
            }
        }
    }

    fn hear(&mut self, index: usize) {
        let now = self.now;
        let receiver = &mut self.receivers[index];
        while receiver.server.poll_event().is_some() {}
        while let Some(event) = receiver.client.poll_event() {
            let Event::Message { channel, bytes, .. } = event else {
                continue;
            };
            for byte in &bytes {
                self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
            if channel.0 >= WORDS {
                let word = u32::from_be_bytes(bytes[..].try_into().unwrap());
                receiver.words.entry(channel.0).or_default().push(word);
                continue;
            }
            let number = |at: usize| {
                let four: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
                match order(index as u64) {
                    ByteOrder::Little => u32::from_le_bytes(four),
                    ByteOrder::Big => u32::from_be_bytes(four),
                }
            };
            let sender = bytes[0];
            assert_eq!(u16::from(sender), channel.0, "its true number");
            assert_eq!(number(5), u32::from(sender), "its own words, in our order");
            let seen = receiver.locations.entry(sender).or_default();
            seen.push((number(1), now));
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        loop {
            let arrival = self.link.iter().map(|(at, ..)| *at).min();
            let timers = self.receivers.iter().flat_map(|receiver| {
                [&receiver.server, &receiver.client].map(|side| side.poll_timeout())
            });
            let timers = timers.flatten().map(|(at, _)| at);
            let next = timers.chain(arrival).chain(self.relay.deadline()).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            while let Some(at) = self.link.iter().position(|(at, ..)| *at <= self.now) {
                let (_, index, to_server, packet) = self.link.remove(at);
                let receiver = &mut self.receivers[index];
                match to_server {
                    true => receiver.server.handle_input(self.now, packet),
                    false => receiver.client.handle_input(self.now, packet),
                }
            }
            for receiver in &mut self.receivers {
                for side in [&mut receiver.server, &mut receiver.client] {
                    if side.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                        side.handle_timeout(self.now);
                    }
                }
            }
            self.settle();
        }
        self.now = end;
    }

    /// Locations that a receiver had of each other player, none of them twice.
    fn seen(&self, receiver: usize) -> Vec<&Vec<(u32, Instant)>> {
        let all: Vec<_> = self.receivers[receiver].locations.values().collect();
        for one in &all {
            let distinct: BTreeSet<u32> = one.iter().map(|(sequence, _)| *sequence).collect();
            assert_eq!(distinct.len(), one.len(), "twice");
        }
        all
    }

    fn assert_words(&self, expected: &[u32]) {
        for receiver in &self.receivers {
            assert_eq!(receiver.words.len() as u64, PLAYERS - 1);
            for words in receiver.words.values() {
                assert_eq!(words, expected);
            }
        }
    }
}

/// Everybody says 100 locations and 20 words over links that lose some.
fn lossy(seed: u64) -> World {
    let mut world = World::new(seed, 5);
    for round in 0..100 {
        world.round(round % 5 == 0);
    }
    world.receivers.iter_mut().for_each(|it| it.loss = 0);
    world.run(Duration::from_secs(30));
    world
}

#[test]
fn lossy_links_cost_locations_and_no_words() {
    for seed in 0..6 {
        let world = lossy(seed);
        for receiver in 0..PLAYERS as usize {
            for seen in world.seen(receiver) {
                assert!((80..=100).contains(&seen.len()), "{}", seen.len());
                for (sequence, at) in seen {
                    let age = *at - world.sent[*sequence as usize];
                    assert!(age < Duration::from_millis(150), "{age:?}");
                }
            }
        }
        let expected: Vec<u32> = (0..100).step_by(5).collect();
        world.assert_words(&expected);
        let counters = world.relay.counters;
        assert_eq!(counters.messages_dropped, 0);
        assert_eq!(world.relay.queued(), 0);
    }
}

#[test]
fn a_receiver_that_was_away_gets_what_is_new_and_every_word() {
    for seed in 0..4 {
        let mut world = World::new(seed, 0);
        for _ in 0..20 {
            world.round(false);
        }
        world.receivers[3].loss = 100;
        for round in 0..80 {
            world.round(round % 10 == 0);
        }
        let others = PLAYERS as usize - 1;
        assert!(world.queued_max <= 10 * others, "{}", world.queued_max);
        assert!(world.relay.counters.locations_dropped > 0);
        world.receivers[3].loss = 0;
        let back = world.now;
        for _ in 0..100 {
            world.round(false);
        }
        world.run(Duration::from_secs(20));
        for seen in world.seen(3) {
            let after: Vec<_> = seen.iter().filter(|(_, at)| *at > back).collect();
            let (first, at) = after.first().expect("it is there again");
            let age = *at - world.sent[*first as usize];
            assert!(age < Duration::from_millis(200), "{age:?}: an old one");
            assert!(after.len() > 20, "{}", after.len());
        }
        let expected: Vec<u32> = (20..100).step_by(10).collect();
        world.assert_words(&expected);
        assert_eq!(world.relay.counters.messages_dropped, 0);
    }
}

#[test]
fn a_seed_repeats_a_run() {
    let (one, other) = (lossy(7), lossy(7));
    assert_eq!(one.digest, other.digest);
    assert_eq!(one.relay.counters, other.relay.counters);
    assert_ne!(one.digest, lossy(8).digest);
}
