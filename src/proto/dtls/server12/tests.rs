//! The server against the crate's client, by way of sessions; `tests/dtls_openssl.rs` has another
//! client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::base::bytes::Reader;
use crate::base::prng::Prng;

use super::REJECTIONS_MAX;
use crate::proto::dtls::record::{HANDSHAKE, next_record};
use crate::proto::dtls::{
    Certificate, CloseReason, Context, Event, Fingerprint, Options, Role, Session, SrtpKeys,
    Versions,
};

/// What a link does to datagrams, in percent, and for how long it keeps them.
#[derive(Clone, Copy, Debug)]
struct Link {
    lost: u64,
    doubled: u64,
    delay_max: u64,
}

struct Pair {
    now: Instant,
    /// Client and server.
    sides: [Session; 2],
    events: [Vec<Event>; 2],
    prng: Prng,
    link: Link,
    /// By the time of their arrival; to whom.
    under_way: BTreeMap<(Instant, usize), (usize, Bytes)>,
    count: usize,
}

impl Pair {
    fn new(seed: u64, datagram_bytes_max: [usize; 2], link: Link) -> Self {
        let now = crate::media::samples::now();
        let contexts = [0, 1].map(|side: usize| {
            let certificate = Arc::new(Certificate::generate().unwrap());
            let options = Options {
                versions: Versions::Dtls12,
                datagram_bytes_max: datagram_bytes_max[side],
                seed: Some(2 * seed + side as u64),
                ..Options::default()
            };
            Context::new(certificate, options).unwrap()
        });
        let session = |role, own: &Context, other: &Context| {
            let expected = Fingerprint::new("sha-256", other.certificate().fingerprint());
            Session::new(now, role, own, expected).unwrap()
        };
        Self {
            now,
            sides: [
                session(Role::Client, &contexts[0], &contexts[1]),
                session(Role::Server, &contexts[1], &contexts[0]),
            ],
            events: [Vec::new(), Vec::new()],
            prng: Prng::new(seed),
            link,
            under_way: BTreeMap::new(),
            count: 0,
        }
    }

    fn on_a_good_link() -> Self {
        let link = Link {
            lost: 0,
            doubled: 0,
            delay_max: 0,
        };
        Self::new(1, [1200; 2], link)
    }

    /// Takes what both sides have to say.
    fn collect(&mut self) {
        for side in 0..2 {
            while let Some(datagram) = self.sides[side].poll_transmit() {
                let copies = match () {
                    () if self.prng.chance(self.link.lost) => 0,
                    () if self.prng.chance(self.link.doubled) => 2,
                    () => 1,
                };
                for _ in 0..copies {
                    let delay = self.prng.below(self.link.delay_max + 1);
                    let at = self.now + Duration::from_millis(delay);
                    self.count += 1;
                    self.under_way
                        .insert((at, self.count), (1 - side, datagram.clone()));
                }
            }
            let events = std::iter::from_fn(|| self.sides[side].poll_event());
            self.events[side].extend(events);
        }
    }

    /// Lets time go on to whatever is next; false if that is nothing, or `end`.
    fn advance(&mut self, end: Instant) -> bool {
        self.collect();
        let arrival = self.under_way.first_key_value().map(|((at, _), _)| *at);
        let timers = self.sides.iter().filter_map(Session::poll_timeout);
        let Some(next) = timers.map(|(at, _)| at).chain(arrival).min() else {
            return false;
        };
        self.now = self.now.max(next);
        if let Some(entry) = self.under_way.first_entry()
            && entry.key().0 <= self.now
        {
            let (to, datagram) = entry.remove();
            self.sides[to].handle_input(self.now, &datagram);
        }
        for side in &mut self.sides {
            side.handle_timeout(self.now);
        }
        self.collect();
        self.now < end
    }

    fn are_connected(&self) -> bool {
        self.sides.iter().all(Session::is_connected)
    }

    fn connect(&mut self) {
        let end = self.now + Duration::from_secs(15);
        while !self.are_connected() && self.advance(end) {}
        assert!(self.are_connected(), "{:?} {:?}", self.link, self.events);
        assert!(keys(&self.events[0]) == keys(&self.events[1]));
    }

    /// The client's second flight, in plaintext records, with the server still without it.
    fn second_flight(&mut self) -> Vec<Bytes> {
        self.collect();
        for _ in 0..2 {
            for (_, (to, datagram)) in std::mem::take(&mut self.under_way) {
                self.sides[to].handle_input(self.now, &datagram);
            }
            self.collect();
        }
        let flight = std::mem::take(&mut self.under_way);
        assert!(flight.values().all(|(to, _)| *to == 1));
        flight.into_values().map(|(_, datagram)| datagram).collect()
    }
}

fn keys(events: &[Event]) -> &SrtpKeys {
    match events {
        [Event::Connected { srtp: Some(keys) }, ..] => keys,
        other => panic!("{other:?}"),
    }
}

fn plaintext(datagrams: &[Bytes]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for datagram in datagrams {
        let mut reader = Reader::new(datagram);
        while let Some(record) = next_record(&mut reader) {
            if matches!(record.plain, Some((HANDSHAKE, _))) {
                records.push(record.whole.to_vec());
            }
        }
    }
    records
}

#[test]
fn every_flight_may_be_lost_doubled_and_overtaken() {
    for seed in 0..80 {
        let link = Link {
            lost: 5 * (seed % 5),
            doubled: 10 * (seed / 3 % 3),
            delay_max: 40 * (seed % 4),
        };
        let size = [[1200, 128], [256, 400], [1200, 1200]][(seed % 3) as usize];
        let mut pair = Pair::new(seed, size, link);
        pair.connect();
        pair.link.lost = 0;
        let now = pair.now;
        pair.sides[0].write(now, b"to server").unwrap();
        pair.sides[1].write(now, b"to client").unwrap();
        let end = now + Duration::from_secs(1);
        while pair.events.iter().any(|events| events.len() < 2) && pair.advance(end) {}
        assert_eq!(
            (&pair.events[0][1..], &pair.events[1][1..]),
            (
                &[Event::Data("to client".into())][..],
                &[Event::Data("to server".into())][..]
            ),
            "seed {seed} {link:?} {size:?}"
        );
        assert_eq!(pair.sides[1].counters().restarts, 0, "seed {seed}");
    }
}

/// Nothing of it is authenticated, so anybody can send it; the client's own gets through.
#[test]
fn a_forged_second_flight_does_no_harm() {
    let forged = plaintext(&Pair::on_a_good_link().second_flight());
    assert!(forged.len() >= 3);
    for (place, piece) in (0..4).flat_map(|place| forged.iter().map(move |piece| (place, piece))) {
        let mut pair = Pair::on_a_good_link();
        let genuine = pair.second_flight();
        let mut records = plaintext(&genuine);
        records.insert(place.min(records.len()), piece.clone());
        for record in &records {
            pair.sides[1].handle_input(pair.now, record);
        }
        pair.connect();
        assert_eq!(pair.sides[1].counters().restarts, 0);
    }
    let mut pair = Pair::on_a_good_link();
    pair.second_flight();
    for record in &forged {
        pair.sides[1].handle_input(pair.now, record);
    }
    pair.connect();
}

#[test]
fn what_never_holds_ends_in_a_refusal() {
    let forged = plaintext(&Pair::on_a_good_link().second_flight());
    let mut pair = Pair::on_a_good_link();
    pair.second_flight();
    let mut said = Vec::new();
    for _ in 0..REJECTIONS_MAX {
        assert_eq!(pair.sides[1].counters().restarts, 0);
        for record in &forged {
            pair.sides[1].handle_input(pair.now, record);
        }
        said.extend(std::iter::from_fn(|| pair.sides[1].poll_transmit()));
    }
    // Then the server is one that has seen nothing.
    assert_eq!(pair.sides[1].counters().restarts, 1);
    let alert = said.last().unwrap();
    assert_eq!((alert[0], &alert[13..]), (21, &[2, 40][..]));
}

#[test]
fn a_record_counts_once() {
    let mut pair = Pair::on_a_good_link();
    pair.connect();
    let now = pair.now;
    pair.sides[0].write(now, b"once").unwrap();
    let record = pair.sides[0].poll_transmit().unwrap();
    for _ in 0..3 {
        pair.sides[1].handle_input(now, &record);
    }
    pair.collect();
    assert_eq!(pair.events[1][1..], [Event::Data("once".into())]);
}

/// The peer's hello, sent again and again, does not make the server send as often.
#[test]
fn a_repeated_hello_is_not_answered_each_time() {
    let mut pair = Pair::on_a_good_link();
    let hello = pair.sides[0].poll_transmit().unwrap();
    pair.sides[1].handle_input(pair.now, &hello);
    let flight = std::iter::from_fn(|| pair.sides[1].poll_transmit()).count();
    for _ in 0..100 {
        pair.sides[1].handle_input(pair.now, &hello);
    }
    assert!(pair.sides[1].poll_transmit().is_none());
    pair.now += Duration::from_millis(60);
    pair.sides[1].handle_input(pair.now, &hello);
    pair.sides[1].handle_input(pair.now, &hello);
    let again = std::iter::from_fn(|| pair.sides[1].poll_transmit()).count();
    assert_eq!(again, flight);
}

#[test]
fn both_sides_can_take_leave() {
    for (first, second) in [(0, 1), (1, 0)] {
        let mut pair = Pair::on_a_good_link();
        pair.connect();
        let now = pair.now;
        pair.sides[first].close(now);
        while pair.advance(now + Duration::from_secs(1)) {}
        let end = |side: usize| pair.events[side].last();
        assert_eq!(end(first), Some(&Event::Closed(CloseReason::Local)));
        assert_eq!(end(second), Some(&Event::Closed(CloseReason::Peer)));
    }
}
