//! Messages between shards in orders that are rare in life: each test is a bug that was found.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::ids::{ConnId, ShardId, TrackId};
use ringside::config;
use ringside::media::{Codec, Frame, MediaTime, Track};
use ringside::streams::access::PublishRequest;
use ringside::streams::{Exchange, Message, Output, Registrar, RtmpReply};

const CONTROL: usize = 3;
const PUBLISHER: ConnId = ConnId(1);

/// Three shards and the registrar, whose messages are delivered by hand.
struct Hand {
    now: Instant,
    shards: Vec<Exchange>,
    registrar: Registrar,
    links: BTreeMap<(usize, usize), VecDeque<Message>>,
    replies: Vec<(usize, RtmpReply)>,
}

impl Hand {
    fn new() -> Self {
        let config = r#"{"streams":{"live":{"source":"push://"}}}"#;
        let config = Arc::new(config::parse(config, "test").unwrap().config);
        let now = ringside::shard::clock::now();
        Self {
            now,
            shards: (0..CONTROL as u16)
                .map(|me| {
                    Exchange::new(
                        ShardId(me),
                        ShardId(CONTROL as u16),
                        Arc::clone(&config),
                        now,
                    )
                })
                .collect(),
            registrar: Registrar::new(10_000),
            links: BTreeMap::new(),
            replies: Vec::new(),
        }
    }

    fn collect(&mut self) {
        for (index, shard) in self.shards.iter_mut().enumerate() {
            while let Some(output) = shard.poll() {
                match output {
                    Output::Mesh { to, message, .. } => {
                        let link = self.links.entry((index, to.index())).or_default();
                        link.push_back(message);
                    }
                    Output::Rtmp(_, reply) => self.replies.push((index, reply)),
                    Output::Send { .. }
                    | Output::Http(..)
                    | Output::Rtc(..)
                    | Output::Packets { .. }
                    | Output::Establish(_)
                    | Output::Close(_)
                    | Output::Abort(_) => panic!("nobody plays here"),
                }
            }
        }
        while let Some((to, message)) = self.registrar.poll() {
            let link = self.links.entry((CONTROL, to.index())).or_default();
            link.push_back(message);
        }
    }

    /// Delivers all that is under way between two.
    fn deliver(&mut self, from: usize, to: usize) {
        for message in self.links.remove(&(from, to)).unwrap_or_default() {
            let from = ShardId(from as u16);
            match self.shards.get_mut(to) {
                Some(shard) => shard.message(from, message),
                None => assert!(self.registrar.handle(from, message).is_none()),
            }
        }
        self.collect();
    }

    /// Delivers everything, and lets time pass.
    fn settle(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 500 {
            self.now += Duration::from_millis(500);
            for shard in &mut self.shards {
                shard.set_time(self.now, 0);
                shard.sweep(|_| 0);
            }
            self.collect();
            while let Some((from, to)) = self.links.keys().next().copied() {
                self.deliver(from, to);
            }
        }
    }

    fn publish(&mut self, shard: usize) {
        let request = PublishRequest::rtmp("app", "live", IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.shards[shard].rtmp_publish(PUBLISHER, &request);
        self.collect();
    }

    fn leave(&mut self, shard: usize) {
        self.shards[shard].connection_gone(PUBLISHER);
        self.collect();
    }

    /// Shards that say that their stream has a publisher.
    fn published_at(&mut self) -> Vec<usize> {
        let has_publisher = |shard: &mut Exchange| {
            let streams = shard.snapshot().streams;
            streams.iter().any(|stream| stream.publisher.is_some())
        };
        let shards = self.shards.iter_mut().enumerate();
        shards
            .filter_map(|(index, shard)| has_publisher(shard).then_some(index))
            .collect()
    }
}

/// The registrar made a stream for a publisher that left before the answer came, and the shard that
/// was to be its home never heard of it: whoever published by that name afterwards was accepted,
/// and its media went nowhere, for ever.
#[test]
fn a_publisher_that_leaves_before_its_answer_leaves_no_dead_name() {
    let mut hand = Hand::new();
    hand.publish(0);
    hand.leave(0);
    hand.deliver(0, CONTROL);
    hand.publish(1);
    hand.settle(Duration::from_secs(1));
    assert_eq!(hand.replies, [(1, RtmpReply::AcceptPublish)]);
    assert_eq!(
        hand.published_at(),
        [0],
        "the home is where the first one was"
    );
    hand.leave(1);
    hand.settle(Duration::from_secs(15));
    assert_eq!(hand.registrar.streams().count(), 0);
    assert!(
        hand.shards
            .iter_mut()
            .all(|shard| shard.snapshot().streams.is_empty())
    );
}

/// The message of a second publisher may overtake the answer to the first, which makes the stream.
#[test]
fn a_publisher_may_begin_before_its_home_has_heard_of_the_stream() {
    let mut hand = Hand::new();
    hand.publish(0);
    hand.leave(0);
    hand.publish(1);
    hand.deliver(0, CONTROL);
    hand.deliver(1, CONTROL);
    hand.deliver(CONTROL, 1);
    hand.deliver(1, 0);
    assert_eq!(hand.published_at(), [0]);
    hand.deliver(CONTROL, 0);
    assert_eq!(hand.published_at(), [0], "the late answer changes nothing");
}

/// A publisher came and went on one shard and returned on another. What the first shard said
/// arrived last, so the stream belonged to one that had gone and refused the other's media.
#[test]
fn what_an_earlier_publisher_says_late_does_not_displace_the_next() {
    let mut hand = Hand::new();
    hand.publish(0);
    hand.settle(Duration::from_millis(500));
    hand.leave(0);
    hand.settle(Duration::from_millis(500));

    hand.publish(1);
    hand.deliver(1, CONTROL);
    hand.deliver(CONTROL, 1);
    hand.leave(1);
    hand.deliver(1, CONTROL);
    hand.publish(2);
    hand.deliver(2, CONTROL);
    hand.deliver(CONTROL, 2);
    hand.deliver(2, 0);
    assert_eq!(hand.published_at(), [0]);
    hand.deliver(1, 0);
    assert_eq!(hand.published_at(), [0], "the last one still publishes");
}

/// What comes for a stream after its release does not bring it back.
#[test]
fn a_released_stream_stays_gone() {
    let mut hand = Hand::new();
    hand.publish(0);
    hand.settle(Duration::from_millis(500));
    hand.leave(0);
    hand.settle(Duration::from_secs(5));
    hand.publish(1);
    hand.deliver(1, CONTROL);
    hand.deliver(CONTROL, 1);
    hand.leave(1);
    let late = hand.links.remove(&(1, 0)).expect("it begins and ends");
    hand.settle(Duration::from_secs(15));
    hand.links.insert((1, 0), late);
    hand.deliver(1, 0);
    assert!(hand.shards[0].snapshot().streams.is_empty());
}

/// A stream was taken out of the configuration while its publisher's shard was not its home: that
/// shard had no stream by the name, and let the publisher go on.
#[test]
fn a_publisher_of_a_removed_stream_is_ended_wherever_it_is() {
    let mut hand = Hand::new();
    hand.publish(0);
    hand.settle(Duration::from_millis(500));
    hand.leave(0);
    hand.publish(1);
    hand.settle(Duration::from_millis(500));
    hand.replies.clear();
    let config = Arc::new(config::parse("{}", "test").unwrap().config);
    for shard in &mut hand.shards {
        shard.message(
            ShardId(CONTROL as u16),
            Message::Config(Arc::clone(&config)),
        );
    }
    hand.settle(Duration::from_secs(1));
    assert_eq!(hand.replies, [(1, RtmpReply::EndPublish)]);
    assert_eq!(hand.registrar.streams().count(), 0);
}

/// A publisher that came back without its camera left a stream that nobody new could watch: the
/// video track stayed, and viewers waited for a keyframe of it until they gave up.
#[test]
fn a_publisher_that_returns_with_sound_only_has_viewers() {
    let mut hand = Hand::new();
    hand.publish(0);
    hand.settle(Duration::from_millis(500));
    hand.track(0, 0, Codec::H264);
    hand.track(0, 1, Codec::Aac);
    hand.frame(0, 0, 0);
    hand.frame(0, 1, 10);
    hand.leave(0);
    hand.publish(1);
    hand.settle(Duration::from_millis(500));
    hand.track(1, 0, Codec::Aac);
    for millis in (0..4000).step_by(500) {
        hand.frame(1, 0, millis);
        hand.settle(Duration::from_millis(500));
    }
    hand.replies.clear();
    for shard in [0, 2] {
        hand.shards[shard].rtmp_play(ConnId(7), "live");
        hand.settle(Duration::from_secs(1));
        hand.frame(1, 0, 4500 + shard as i64);
        hand.settle(Duration::from_millis(500));
        assert_eq!(hand.replies, [(shard, RtmpReply::AcceptPlay)]);
        hand.replies.clear();
    }
}

impl Hand {
    fn track(&mut self, shard: usize, id: u16, codec: Codec) {
        let track = Track {
            id: TrackId(id),
            codec,
            init: Bytes::from_static(&[0x12, 0x10]),
            video: None,
            audio: None,
            language: String::new(),
            rid: String::new(),
        };
        self.shards[shard].publisher_track(PUBLISHER, track);
        self.collect();
    }

    fn frame(&mut self, shard: usize, track: u16, millis: i64) {
        let time = MediaTime::from_millis(millis);
        let frame = Frame {
            track: TrackId(track),
            dts: time,
            pts: time,
            keyframe: true,
            data: Bytes::from_static(&[0; 100]),
            received: self.now,
        };
        self.shards[shard].publisher_frame(PUBLISHER, frame);
        self.collect();
    }
}
