//! Our association with another implementation's at the other end, over a lossy link in virtual
//! time.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sctp_proto::{
    AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Payload,
    PayloadProtocolIdentifier as Kind, ReliabilityType, ServerConfig, StreamEvent, Transmit,
};

use super::tests::start;
use super::*;
use crate::base::prng::Prng;

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5000);

const DELAY: Duration = Duration::from_millis(20);

/// The other implementation.
struct Other {
    endpoint: Endpoint,
    inner: Option<(AssociationHandle, sctp_proto::Association)>,
    is_connected: bool,
    readable: BTreeSet<u16>,
    messages: Vec<(u16, Vec<u8>)>,
    finished: Vec<u16>,
}

impl Other {
    fn new(is_client: bool) -> Self {
        let server = Arc::new(ServerConfig::default());
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), Some(server));
        let inner = is_client.then(|| endpoint.connect(ClientConfig::default(), PEER).unwrap());
        Self {
            endpoint,
            inner,
            is_connected: false,
            readable: BTreeSet::new(),
            messages: Vec::new(),
            finished: Vec::new(),
        }
    }

    fn inner(&mut self) -> &mut sctp_proto::Association {
        &mut self.inner.as_mut().unwrap().1
    }

    fn input(&mut self, now: Instant, packet: Bytes) {
        match self.endpoint.handle(now, PEER, None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                self.inner.get_or_insert((handle, association));
            }
            Some((_, DatagramEvent::AssociationEvent(event))) => self.inner().handle_event(event),
            None => {}
        }
    }

    fn step(&mut self, now: Instant) -> Vec<Bytes> {
        let Some((handle, inner)) = &mut self.inner else {
            return Vec::new();
        };
        while let Some(event) = inner.poll_endpoint_event() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                inner.handle_event(event);
            }
        }
        while let Some(event) = inner.poll() {
            match event {
                sctp_proto::Event::Connected => self.is_connected = true,
                sctp_proto::Event::Stream(StreamEvent::Readable { id }) => {
                    self.readable.insert(id);
                }
                sctp_proto::Event::Stream(StreamEvent::Finished { id }) => self.finished.push(id),
                // What else there is, and what may come with another version.
                sctp_proto::Event::HandshakeFailed { .. }
                | sctp_proto::Event::AssociationLost { .. } => panic!("it has given up"),
                sctp_proto::Event::Stream(_)
                | sctp_proto::Event::DataChannelStatsFinal(_)
                | sctp_proto::Event::DatagramReceived
                | _ => {}
            }
        }
        for id in self.readable.clone() {
            while let Ok(Some(chunks)) = inner.stream(id).and_then(|mut it| it.read_sctp()) {
                let mut bytes = vec![0; chunks.len()];
                chunks.read(&mut bytes).unwrap();
                self.messages.push((id, bytes));
            }
        }
        let mut packets = Vec::new();
        while let Some(Transmit { payload, .. }) = inner.poll_transmit(now) {
            if let Payload::RawEncode(more) = payload {
                packets.extend(more);
            }
        }
        packets
    }
}

struct Pair {
    now: Instant,
    ours: Association,
    other: Other,
    events: Vec<Event>,
    /// Arrival, whether at us, what.
    link: Vec<(Instant, bool, Bytes)>,
    /// Percent.
    loss: u64,
    jitter: u64,
    prng: Prng,
}

impl Pair {
    fn new(we_begin: bool, both_begin: bool, seed: u64) -> Self {
        let now = start();
        let mut pair = Self {
            now,
            ours: Association::new(now, we_begin || both_begin, Options::default()),
            other: Other::new(!we_begin || both_begin),
            events: Vec::new(),
            link: Vec::new(),
            loss: 0,
            jitter: 0,
            prng: Prng::new(seed),
        };
        pair.run(Duration::from_secs(1));
        assert!(pair.ours.is_established() && pair.other.is_connected);
        pair
    }

    fn send(&mut self, to_us: bool, packet: Bytes) {
        if !self.prng.chance(self.loss) {
            let jitter = Duration::from_millis(self.prng.below(self.jitter + 1));
            self.link.push((self.now + DELAY + jitter, to_us, packet));
        }
    }

    fn flush(&mut self) {
        for packet in self.other.step(self.now) {
            self.send(true, packet);
        }
        while let Some(event) = self.ours.poll_event() {
            self.events.push(event);
        }
        while let Some(packet) = self.ours.poll_transmit() {
            self.send(false, packet);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.flush();
        loop {
            let arrival = self.link.iter().map(|(at, ..)| *at).min();
            let ours = self.ours.poll_timeout().map(|(at, _)| at);
            let theirs = self.other.inner.as_ref();
            let theirs = theirs.and_then(|(_, inner)| inner.poll_timeout());
            let Some(next) = arrival.into_iter().chain(ours).chain(theirs).min() else {
                break;
            };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            while let Some(index) = self.link.iter().position(|(at, ..)| *at <= self.now) {
                let (_, to_us, packet) = self.link.remove(index);
                if to_us {
                    self.ours.handle_input(self.now, packet);
                } else {
                    self.other.input(self.now, packet);
                }
            }
            if ours.is_some_and(|at| at <= self.now) {
                self.ours.handle_timeout(self.now);
            }
            if theirs.is_some_and(|at| at <= self.now) {
                let now = self.now;
                self.other.inner().handle_timeout(now);
            }
            self.flush();
        }
        self.now = end;
    }

    fn open(&mut self, id: u16, reliability: Reliability, ordered: bool) {
        let channel = ChannelId(id);
        self.ours
            .open_negotiated(self.now, channel, "", "", reliability, ordered)
            .unwrap();
        let kind = match reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::Retransmits(count) => (ReliabilityType::Rexmit, count),
            Reliability::Lifetime(time) => (ReliabilityType::Timed, time.as_millis() as u32),
        };
        let mut stream = self.other.inner().open_stream(id, Kind::Binary).unwrap();
        stream
            .set_reliability_params(!ordered, kind.0, kind.1)
            .unwrap();
        self.run(Duration::from_millis(100));
    }

    fn say(&mut self, id: u16, message: &[u8]) {
        let now = self.now;
        self.ours.send(now, ChannelId(id), false, message).unwrap();
    }

    fn hear(&mut self, id: u16, message: &[u8]) {
        let mut stream = self.other.inner().stream(id).unwrap();
        stream.write_with_ppi(message, Kind::Binary).unwrap();
    }

    fn heard(&self) -> Vec<(u16, Vec<u8>)> {
        let message = |event: &Event| match event {
            Event::Message { channel, bytes, .. } => Some((channel.0, bytes.to_vec())),
            Event::Opened { .. } | Event::Writable(_) | Event::Closed(_) | Event::Gone => None,
        };
        self.events.iter().filter_map(message).collect()
    }
}

/// A message whose size and contents follow from its number.
fn message(number: u32) -> Vec<u8> {
    let size = 4 + (number as usize * 577) % 5000;
    let mut bytes = vec![number as u8; size];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

#[test]
fn whoever_begins_and_even_both() {
    for (we_begin, both_begin) in [(true, false), (false, false), (true, true)] {
        let mut pair = Pair::new(we_begin, both_begin, 1);
        pair.open(0, Reliability::Reliable, true);
        pair.say(0, b"from us");
        pair.hear(0, b"from them");
        pair.run(Duration::from_secs(1));
        assert_eq!(pair.other.messages, [(0, b"from us".to_vec())]);
        assert_eq!(pair.heard(), [(0, b"from them".to_vec())]);
    }
}

#[test]
fn nothing_is_lost_or_out_of_order_where_that_was_asked_for() {
    for seed in 0..10 {
        let mut pair = Pair::new(seed % 2 == 0, false, seed);
        pair.open(3, Reliability::Reliable, true);
        (pair.loss, pair.jitter) = (8, 40);
        for number in 0..200 {
            pair.say(3, &message(number));
            pair.hear(3, &message(number));
            pair.run(Duration::from_millis(150));
        }
        pair.run(Duration::from_secs(200));
        let expected: Vec<_> = (0..200).map(|number| (3, message(number))).collect();
        assert!(pair.other.messages == expected, "seed {seed}, to them");
        assert!(pair.heard() == expected, "seed {seed}, to us");
        assert_eq!(pair.ours.buffered(ChannelId(3)), 0, "seed {seed}");
    }
}

#[test]
fn messages_that_are_given_up_hold_nobody_back() {
    for seed in 0..10 {
        let mut pair = Pair::new(seed % 2 == 1, false, seed);
        pair.open(0, Reliability::Retransmits(0), false);
        pair.open(1, Reliability::Lifetime(Duration::from_millis(100)), true);
        pair.open(2, Reliability::Reliable, true);
        (pair.loss, pair.jitter) = (10, 30);
        for number in 0..300_u32 {
            for stream in [0, 1] {
                pair.say(stream, &number.to_be_bytes());
                pair.hear(stream, &number.to_be_bytes());
            }
            if number % 10 == 0 {
                pair.say(2, &message(number));
                pair.hear(2, &message(number));
                pair.say(0, &message(number));
                pair.hear(0, &message(number));
            }
            pair.run(Duration::from_millis(20));
        }
        pair.loss = 0;
        pair.run(Duration::from_secs(100));
        for (to, all) in [("them", &pair.other.messages), ("us", &pair.heard())] {
            let of = |stream: u16| all.iter().filter(move |(id, _)| *id == stream);
            let whole: Vec<_> = of(2).map(|(_, bytes)| bytes.clone()).collect();
            let expected: Vec<_> = (0..300).step_by(10).map(message).collect();
            assert!(whole == expected, "seed {seed}");
            let count = of(0).count();
            assert!((240..330).contains(&count), "seed {seed} to {to}: {count}");
            let numbers: Vec<&Vec<u8>> = of(1).map(|(_, bytes)| bytes).collect();
            assert!(numbers.is_sorted(), "seed {seed}");
            // The other side drops more of these itself before it sends them.
            let least = if to == "them" { 250 } else { 10 };
            assert!(numbers.len() > least, "seed {seed}: {}", numbers.len());
        }
        for stream in 0..3 {
            assert_eq!(pair.ours.buffered(ChannelId(stream)), 0, "seed {seed}");
        }
    }
}

#[test]
fn streams_end_on_both_sides_and_begin_again() {
    for they_end in [false, true] {
        let mut pair = Pair::new(true, false, 5);
        pair.open(7, Reliability::Reliable, true);
        pair.say(7, b"before");
        pair.hear(7, b"before");
        pair.run(Duration::from_secs(1));
        if they_end {
            pair.other.inner().stream(7).unwrap().close().unwrap();
        } else {
            let now = pair.now;
            pair.ours.close(now, ChannelId(7));
        }
        pair.run(Duration::from_secs(3));
        assert!(pair.events.contains(&Event::Closed(ChannelId(7))));
        assert_eq!(pair.other.finished, [7], "{they_end}");
        assert_eq!(pair.heard(), [(7, b"before".to_vec())]);
        pair.open(7, Reliability::Reliable, true);
        pair.say(7, b"again");
        pair.hear(7, b"again");
        pair.run(Duration::from_secs(1));
        let last = Some((7, b"again".to_vec()));
        assert_eq!(pair.other.messages.last().cloned(), last, "{they_end}");
        assert_eq!(pair.heard().last().cloned(), last, "{they_end}");
    }
}
