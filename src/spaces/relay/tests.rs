//! What the relay gives to whom, and what it drops.

use super::pace::{GATHER, GATHER_MAX};
use super::queue::{Item, QUEUE_MESSAGES_MAX};
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
    relay
        .receiver_mut(transport(of))
        .map_or_else(Vec::new, |it| it.queue.drain())
}

/// Its number may be another one's when the receiver's turn comes.
#[test]
fn what_waits_of_a_producer_goes_with_it() {
    let now = start();
    let mut relay = Relay::new(now);
    for of in [1, 2] {
        relay.produce(now, producer(of), ByteOrder::Little);
        let facts = (ChannelId(of as u16), 7, ByteOrder::Little);
        let taken = relay.consume(consumer(3, of as u32), producer(of), facts);
        assert!(taken.is_some());
        let bytes = Bytes::from_static(b"here");
        relay.deliver(now, producer(of), ByteOrder::Little, false, &bytes);
    }
    let ended = relay.end(producer(1));
    assert_eq!(ended, [(consumer(3, 1), ChannelId(1))]);
    let left = drain(&mut relay, 3);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].channel, ChannelId(2));
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
    while relay.take_due(now + GATHER).is_some() {}
    for _ in 0..20 {
        relay.note_load(0.95);
    }
    relay.deliver(now, producer(1000), ByteOrder::Big, false, &bytes);
    assert_eq!(relay.deadline(), Some(now + GATHER_MAX), "and no longer");
    // It is not too much any more, and would be with shorter waits.
    relay.note_load(0.7);
    assert_eq!(relay.gather(), GATHER_MAX);
    for _ in 0..100 {
        relay.note_load(0.2);
    }
    let facts = (ChannelId(0), 1, ByteOrder::Big);
    let _ = relay.consume(consumer(500, 0), producer(1001), facts);
    relay.deliver(now, producer(1001), ByteOrder::Big, false, &bytes);
    assert_eq!(
        relay.deadline(),
        Some(now + GATHER),
        "it is before the others"
    );
}
