//! Two associations with a lossy link between them, in virtual time.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::base::prng::Prng;

use super::*;

static START: LazyLock<Instant> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
    let now = <Instant>::now();
    now
});

const DELAY: Duration = Duration::from_millis(20);

/// When everything begins.
pub(super) fn start() -> Instant {
    *START
}

struct Pair {
    now: Instant,
    sides: [Association; 2],
    events: [Vec<Event>; 2],
    /// Arrival, to which side, what. Not in order: the earliest is looked for.
    link: Vec<(Instant, usize, Bytes)>,
    packets: u64,
    largest: usize,
    /// Percent.
    loss: u64,
    /// Up to this much later than others.
    jitter: Duration,
    prng: Prng,
}

impl Pair {
    fn new(options: [Options; 2]) -> Self {
        let now = *START;
        Self {
            now,
            sides: [
                Association::new(now, true, options[0]),
                Association::new(now, false, options[1]),
            ],
            events: [Vec::new(), Vec::new()],
            link: Vec::new(),
            packets: 0,
            largest: 0,
            loss: 0,
            jitter: Duration::ZERO,
            prng: Prng::new(1),
        }
    }

    fn established() -> Self {
        let mut pair = Self::new([Options::default(); 2]);
        pair.run(Duration::from_secs(1));
        assert!(pair.sides.iter().all(Association::is_established));
        pair
    }

    fn flush(&mut self) {
        for from in 0..2 {
            while let Some(packet) = self.sides[from].poll_transmit() {
                self.packets += 1;
                self.largest = self.largest.max(packet.len());
                if !self.prng.chance(self.loss) {
                    let jitter = self.prng.below(self.jitter.as_micros() as u64 + 1);
                    let at = self.now + DELAY + Duration::from_micros(jitter);
                    self.link.push((at, 1 - from, packet));
                }
            }
            self.events[from].extend(std::iter::from_fn(|| self.sides[from].poll_event()));
        }
    }

    /// Lets time go on.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.flush();
        loop {
            let arrival = self.link.iter().map(|(at, ..)| *at).min();
            let timer = self.sides.iter().filter_map(Association::poll_timeout);
            let Some(next) = timer.map(|(at, _)| at).chain(arrival).min() else {
                break;
            };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            while let Some(index) = self.link.iter().position(|(at, ..)| *at <= self.now) {
                let (_, to, packet) = self.link.remove(index);
                self.sides[to].handle_input(self.now, packet);
            }
            for side in &mut self.sides {
                if side.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                    side.handle_timeout(self.now);
                }
            }
            self.flush();
        }
        self.now = end;
    }

    fn open(&mut self, side: usize, reliability: Reliability, ordered: bool) -> ChannelId {
        let id = self.sides[side]
            .open(self.now, "chat", "json", reliability, ordered)
            .unwrap();
        self.run(Duration::from_secs(1));
        id
    }

    fn numbers(&self, side: usize) -> Vec<u32> {
        self.events[side]
            .iter()
            .filter_map(|event| match event {
                Event::Message { bytes, .. } => {
                    Some(u32::from_be_bytes(bytes[..4].try_into().unwrap()))
                }
                Event::Opened { .. } | Event::Writable(_) | Event::Closed(_) | Event::Gone => None,
            })
            .collect()
    }
}

fn opened(channel: ChannelId, ordered: bool, reliability: Reliability) -> Event {
    Event::Opened {
        channel,
        label: "chat".to_owned(),
        protocol: "json".to_owned(),
        ordered,
        reliability,
    }
}

#[test]
fn both_sides_open_channels_with_numbers_of_their_own() {
    let mut pair = Pair::established();
    let lifetime = Reliability::Lifetime(Duration::from_millis(300));
    let ours = pair.open(0, Reliability::Retransmits(2), false);
    let theirs = pair.open(1, lifetime, true);
    assert_eq!((ours, theirs), (ChannelId(0), ChannelId(1)));
    for side in 0..2 {
        assert_eq!(
            pair.events[side],
            [
                opened(ours, false, Reliability::Retransmits(2)),
                opened(theirs, true, lifetime)
            ]
        );
    }
}

#[test]
fn a_channel_may_be_asked_for_before_the_association_is_up() {
    let mut pair = Pair::new([Options::default(); 2]);
    let id = pair.open(0, Reliability::Reliable, true);
    assert!(pair.events[1].contains(&opened(id, true, Reliability::Reliable)));
}

#[test]
fn messages_keep_their_kind_even_if_empty() {
    let mut pair = Pair::established();
    let channel = pair.open(0, Reliability::Reliable, true);
    let large = vec![5; 60_000];
    let messages: [(bool, &[u8]); 5] = [
        (true, b"text"),
        (false, b"\0"),
        (true, b""),
        (false, b""),
        (false, &large),
    ];
    for (is_text, bytes) in messages {
        pair.sides[1]
            .send(pair.now, channel, is_text, bytes)
            .unwrap();
    }
    pair.run(Duration::from_secs(2));
    let expected = messages.map(|(is_text, bytes)| Event::Message {
        channel,
        is_text,
        bytes: Bytes::copy_from_slice(bytes),
    });
    assert_eq!(pair.events[0][1..], expected);
    assert_eq!(pair.sides[1].buffered(channel), 0);
    assert!(pair.largest <= 1160, "{} with DTLS around it", pair.largest);
}

#[test]
fn negotiated_channels_need_no_message() {
    let mut pair = Pair::established();
    let channel = ChannelId(0);
    for side in &mut pair.sides {
        side.open_negotiated(
            pair.now,
            channel,
            "",
            "",
            Reliability::Retransmits(0),
            false,
        )
        .unwrap();
        assert_eq!(
            side.open_negotiated(pair.now, channel, "", "", Reliability::Reliable, true),
            Err(OpenError::Taken)
        );
        assert!(matches!(side.poll_event(), Some(Event::Opened { .. })));
    }
    let before = pair.packets;
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.packets, before);
    pair.sides[0]
        .send(pair.now, channel, false, b"here")
        .unwrap();
    pair.run(Duration::from_secs(1));
    assert!(matches!(&pair.events[1][..], [Event::Message { bytes, .. }] if &bytes[..] == b"here"));
}

#[test]
fn messages_of_one_round_share_packets() {
    let mut pair = Pair::established();
    let channel = pair.open(0, Reliability::Reliable, true);
    let before = pair.packets;
    for _ in 0..9 {
        pair.sides[0]
            .send(pair.now, channel, false, &[1; 100])
            .unwrap();
    }
    let packets: Vec<_> = std::iter::from_fn(|| pair.sides[0].poll_transmit()).collect();
    assert_eq!(packets.len(), 1, "9 × (16 + 100) + 12 bytes");
    assert_eq!(pair.packets, before);
}

#[test]
fn a_reliable_ordered_channel_delivers_everything_in_order() {
    for seed in 0..8 {
        let mut pair = Pair::established();
        let channel = pair.open(0, Reliability::Reliable, true);
        pair.prng = Prng::new(seed);
        pair.loss = 10;
        pair.jitter = Duration::from_millis(30);
        for number in 0..300_u32 {
            let size = 4 + pair.prng.below(3000) as usize;
            let mut bytes = vec![0; size];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            while pair.sides[0].send(pair.now, channel, false, &bytes) == Err(SendError::Full) {
                pair.run(Duration::from_millis(50));
            }
            pair.run(Duration::from_millis(5));
        }
        pair.run(Duration::from_secs(120));
        let expected: Vec<_> = (0..300).collect();
        assert_eq!(pair.numbers(1), expected, "seed {seed}");
    }
}

#[test]
fn an_unreliable_channel_loses_some_and_waits_for_none() {
    for seed in 0..8 {
        let mut pair = Pair::established();
        let channel = pair.open(0, Reliability::Retransmits(0), false);
        pair.prng = Prng::new(seed);
        pair.loss = 10;
        for number in 0..500_u32 {
            pair.sides[0]
                .send(pair.now, channel, false, &number.to_be_bytes())
                .unwrap();
            pair.run(Duration::from_millis(20));
        }
        let got = pair.numbers(1);
        let distinct: BTreeSet<_> = got.iter().collect();
        assert_eq!(distinct.len(), got.len(), "seed {seed}: twice");
        assert!(
            (380..500).contains(&got.len()),
            "seed {seed}: {}",
            got.len()
        );
        // Nothing waits behind a loss: the last ones that were not lost are here already.
        assert!(*got.last().unwrap() >= 490, "seed {seed}");
        pair.loss = 0;
        pair.run(Duration::from_secs(20));
        assert_eq!(pair.sides[0].buffered(channel), 0, "seed {seed}");
    }
}

#[test]
fn a_flood_is_told_to_wait_and_when_to_go_on() {
    let mut pair = Pair::established();
    let channel = pair.open(0, Reliability::Reliable, true);
    let mut sent = 0;
    while pair.sides[0]
        .send(pair.now, channel, false, &[0; 1000])
        .is_ok()
    {
        sent += 1000;
    }
    assert_eq!(sent, 262_000);
    assert_eq!(pair.sides[0].buffered(channel), sent);
    assert_eq!(pair.sides[0].counters().full, 1);
    pair.run(Duration::from_secs(20));
    assert_eq!(pair.events[0][1..], [Event::Writable(channel)]);
    pair.sides[0]
        .send(pair.now, channel, false, &[0; 1000])
        .unwrap();
    assert_eq!(
        pair.sides[0].send(pair.now, channel, false, &[0; 70_000]),
        Err(SendError::TooLarge)
    );
    assert_eq!(
        pair.sides[0].send(pair.now, ChannelId(8), false, b"x"),
        Err(SendError::NotOpen)
    );
}

/// A caller that takes no events holds the peer back; nothing is lost and nothing piles up.
#[test]
fn messages_that_nobody_takes_stay_in_the_window() {
    let mut pair = Pair::established();
    let channel = pair.open(0, Reliability::Reliable, true);
    let mut sent = 0;
    for _ in 0..400 {
        while pair.sides[0]
            .send(pair.now, channel, false, &[0; 1000])
            .is_ok()
        {
            sent += 1;
        }
        pair.now += Duration::from_millis(50);
        while let Some(packet) = pair.sides[0].poll_transmit() {
            pair.sides[1].handle_input(pair.now, packet);
        }
        pair.sides[1].handle_timeout(pair.now);
        while let Some(packet) = pair.sides[1].poll_transmit() {
            pair.sides[0].handle_input(pair.now, packet);
        }
        pair.sides[0].handle_timeout(pair.now);
    }
    // 262 kB with the sender, 131 kB in the window, 66 kB of events.
    assert!((300..=470).contains(&sent), "{sent}");
    pair.run(Duration::from_secs(60));
    let got = pair.numbers(1).len();
    assert_eq!(got, sent);
}

#[test]
fn a_closed_channel_is_closed_on_both_sides_and_its_number_is_used_again() {
    for closer in 0..2 {
        let mut pair = Pair::established();
        let channel = pair.open(0, Reliability::Reliable, true);
        pair.sides[closer].close(pair.now, channel);
        pair.run(Duration::from_secs(3));
        for side in 0..2 {
            assert_eq!(pair.events[side][1..], [Event::Closed(channel)], "{closer}");
            assert_eq!(
                pair.sides[side].send(pair.now, channel, true, b"x"),
                Err(SendError::NotOpen)
            );
        }
        assert_eq!(pair.open(0, Reliability::Reliable, true), channel);
        pair.sides[1]
            .send(pair.now, channel, true, b"again")
            .unwrap();
        pair.run(Duration::from_secs(1));
        assert!(matches!(pair.events[0].last(), Some(Event::Message { .. })));
    }
}

#[test]
fn channels_are_bounded_and_bad_establishment_is_reset() {
    let few = Options {
        channels_max: 3,
        ..Options::default()
    };
    let mut pair = Pair::new([Options::default(), few]);
    for _ in 0..6 {
        pair.open(0, Reliability::Reliable, true);
    }
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.sides[1].counters().channels_refused, 3);
    let closed = |event: &&Event| matches!(event, Event::Closed(_));
    assert_eq!(pair.events[0].iter().filter(closed).count(), 3);
    assert_eq!(
        pair.sides[1].open(pair.now, "x", "", Reliability::Reliable, true),
        Err(OpenError::TooMany)
    );
    let long = "x".repeat(257);
    assert_eq!(
        pair.sides[0].open(pair.now, &long, "", Reliability::Reliable, true),
        Err(OpenError::TooLong)
    );
}

#[test]
fn data_of_no_channel_is_dropped_and_reset() {
    let mut pair = Pair::established();
    let channel = ChannelId(6);
    pair.sides[0]
        .open_negotiated(pair.now, channel, "", "", Reliability::Reliable, true)
        .unwrap();
    pair.sides[0]
        .send(pair.now, channel, false, b"who?")
        .unwrap();
    pair.run(Duration::from_secs(3));
    assert_eq!(pair.sides[1].counters().messages_dropped, 1);
    assert_eq!(pair.events[0].last(), Some(&Event::Closed(channel)));
    assert!(pair.events[1].is_empty());
}

#[test]
fn nobody_answers() {
    let mut pair = Pair::new([Options::default(); 2]);
    pair.loss = 100;
    pair.sides[0]
        .open(pair.now, "chat", "", Reliability::Reliable, true)
        .unwrap();
    pair.run(Duration::from_secs(200));
    assert_eq!(pair.events[0], [Event::Closed(ChannelId(0)), Event::Gone]);
    assert!(pair.sides[0].poll_timeout().is_none());
    assert_eq!(
        pair.sides[0].open(pair.now, "x", "", Reliability::Reliable, true),
        Err(OpenError::Gone)
    );
}
