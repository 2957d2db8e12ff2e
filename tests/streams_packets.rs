//! Packets through the exchanges of several shards: publishers and viewers by WebRTC, and beside
//! them viewers and publishers of frames.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names the messages that it is about"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::ids::{ConnId, ShardId, TrackId};
use ringside::config;
use ringside::media::{AudioFormat, Codec, Extras, Frame, MediaTime, Packet, Start, Track};
use ringside::proto::http;
use ringside::streams::access::PublishRequest;
use ringside::streams::{
    Container, Counters, Exchange, HttpReply, Message, Output, Registrar, RtcReply, SessionFilter,
};

const CONTROL: usize = 3;
const VIDEO: TrackId = TrackId(0);
const AUDIO: TrackId = TrackId(1);
const STREAM: &str = "live";

/// What a viewer was handed.
#[derive(Clone, Debug)]
struct Handed {
    shard: usize,
    track: TrackId,
    numbers: Vec<u64>,
    packets: Arc<[Packet]>,
    viewers: Vec<u64>,
    is_backlog: bool,
}

/// Three shards, the registrar, and a mesh that delivers at once.
struct Hall {
    now: Instant,
    millis: i64,
    shards: Vec<Exchange>,
    registrar: Registrar,
    replies: Vec<(usize, u64, RtcReply)>,
    handed: Vec<Handed>,
    /// Media messages by name.
    media: BTreeMap<&'static str, usize>,
    bytes: BTreeMap<(usize, u64), usize>,
    http_ended: usize,
    /// Media messages that are lost from here on.
    loses: bool,
}

fn settings(streams: &str) -> Arc<config::Config> {
    let text = format!(r#"{{"streams":{{{streams}}},"delivery":{{"merge":"off"}}}}"#);
    Arc::new(config::parse(&text, "test").unwrap().config)
}

const LIVE: &str = r#""live":{"source":"push://","DVR":2000,"takeover":true}"#;

impl Hall {
    fn new() -> Self {
        let config = settings(LIVE);
        let now = ringside::shard::clock::now();
        let shards = (0..CONTROL as u16).map(|me| {
            let control = ShardId(CONTROL as u16);
            Exchange::new(ShardId(me), control, Arc::clone(&config), now)
        });
        let mut hall = Self {
            now,
            millis: 0,
            shards: shards.collect(),
            registrar: Registrar::new(100),
            replies: Vec::new(),
            handed: Vec::new(),
            media: BTreeMap::new(),
            bytes: BTreeMap::new(),
            http_ended: 0,
            loses: false,
        };
        hall.pass(0);
        hall
    }

    /// Lets time pass, and delivers all that is under way.
    fn pass(&mut self, millis: i64) {
        self.millis += millis;
        self.now += Duration::from_millis(millis as u64);
        for shard in &mut self.shards {
            shard.set_time(self.now, 1_700_000_000_000 + self.millis);
        }
        self.deliver();
    }

    fn sweep(&mut self) {
        for shard in &mut self.shards {
            shard.sweep(|_| 0);
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        let mut queue: VecDeque<(usize, usize, Message)> = VecDeque::new();
        loop {
            for index in 0..self.shards.len() {
                self.shards[index].tick();
                while let Some(output) = self.shards[index].poll() {
                    self.output(index, output, &mut queue);
                }
            }
            while let Some((to, message)) = self.registrar.poll() {
                queue.push_back((CONTROL, to.index(), message));
            }
            let Some((from, to, message)) = queue.pop_front() else {
                break;
            };
            let from = ShardId(from as u16);
            match self.shards.get_mut(to) {
                Some(shard) => shard.message(from, message),
                None => assert!(self.registrar.handle(from, message).is_none()),
            }
        }
    }

    fn output(
        &mut self,
        shard: usize,
        output: Output,
        queue: &mut VecDeque<(usize, usize, Message)>,
    ) {
        match output {
            Output::Mesh {
                to,
                message,
                is_media,
            } => {
                if is_media {
                    let name = match &message {
                        Message::IngestPackets { .. } => "IngestPackets",
                        Message::MirrorPackets { .. } => "MirrorPackets",
                        Message::Ingest { .. } => "Ingest",
                        Message::MirrorFrame { .. } => "MirrorFrame",
                        other => panic!("it may not be lost: {other:?}"),
                    };
                    *self.media.entry(name).or_default() += 1;
                }
                if !(is_media && self.loses) {
                    queue.push_back((shard, to.index(), message));
                }
            }
            Output::Rtc(conn, reply) => self.replies.push((shard, conn.0, reply)),
            Output::Packets {
                track,
                packets,
                viewers,
                is_backlog,
                ..
            } => {
                assert!(!packets.is_empty() && !viewers.is_empty());
                assert!(packets.iter().all(|packet| packet.track == track));
                self.handed.push(Handed {
                    shard,
                    track,
                    numbers: packets.iter().map(|packet| packet.number).collect(),
                    packets,
                    viewers: viewers.iter().map(|conn| conn.0).collect(),
                    is_backlog,
                });
            }
            Output::Send { conn, pieces, .. } => {
                let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
                *self.bytes.entry((shard, conn.0)).or_default() += bytes;
                self.shards[shard].drained(conn);
            }
            Output::Http(conn, HttpReply::Stream(_)) => self.shards[shard].drained(conn),
            Output::Http(_, HttpReply::EndStream) => self.http_ended += 1,
            Output::Http(..) | Output::Rtmp(..) | Output::Establish(_) => {}
            Output::Close(conn) | Output::Abort(conn) => panic!("{conn:?} is closed"),
        }
    }

    fn publish(&mut self, shard: usize, conn: u64) -> Publisher {
        let request = PublishRequest::rtmp("app", STREAM, IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.shards[shard].rtc_publish(ConnId(conn), &request, "whip");
        self.deliver();
        assert_eq!(
            self.replies.pop(),
            Some((shard, conn, RtcReply::AcceptPublish))
        );
        let publisher = Publisher::new(shard, conn);
        for track in [video(Codec::H264), opus()] {
            self.shards[shard].publisher_track(ConnId(conn), track);
        }
        self.deliver();
        publisher
    }

    /// A picture of three packets and two of sound, every 40 ms.
    fn run(&mut self, publisher: &mut Publisher, pictures: u64) {
        for _ in 0..pictures {
            self.pass(40);
            let packets = publisher.make(self.now);
            self.send(publisher, packets);
        }
    }

    fn send(&mut self, publisher: &Publisher, packets: Vec<Packet>) {
        self.shards[publisher.shard].publisher_packets(ConnId(publisher.conn), packets);
        self.deliver();
    }

    fn view(&mut self, shard: usize, conn: u64) {
        self.shards[shard].rtc_view(ConnId(conn), STREAM, vec![VIDEO, AUDIO]);
        self.deliver();
    }

    fn watch_flv(&mut self, shard: usize, conn: u64) {
        let mut session = http::Session::new(self.now, http::Options::default());
        session.handle_input(self.now, b"GET /live.flv HTTP/1.1\r\nHost: h\r\n\r\n");
        let Some(http::Event::Request(request)) = session.poll_event() else {
            panic!("a good request");
        };
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.shards[shard].http_request(ConnId(conn), from, &request);
        self.deliver();
    }

    fn counters(&mut self, shard: usize) -> Counters {
        self.shards[shard].snapshot().counters
    }

    /// What a viewer got of a track, run by run.
    fn of(&self, shard: usize, conn: u64, track: TrackId) -> Vec<&Handed> {
        let handed = self.handed.iter();
        handed
            .filter(|it| it.shard == shard && it.track == track && it.viewers.contains(&conn))
            .collect()
    }

    /// The numbers of these; they begin with a keyframe.
    fn numbers(&self, shard: usize, conn: u64, track: TrackId) -> Vec<u64> {
        let of = self.of(shard, conn, track);
        if let Some(first) = of.first() {
            assert_eq!(first.packets[0].start, Start::Keyframe);
        }
        of.into_iter().flat_map(|it| it.numbers.clone()).collect()
    }

    fn assert_whole(&self, shard: usize, conn: u64, track: TrackId) -> usize {
        let numbers = self.numbers(shard, conn, track);
        assert!(
            numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "holes: {numbers:?}"
        );
        numbers.len()
    }

    fn keyframes_asked(&self) -> usize {
        let replies = self.replies.iter();
        let asked = replies.filter(|(_, _, reply)| matches!(reply, RtcReply::Keyframe(_)));
        asked.count()
    }
}

struct Publisher {
    shard: usize,
    conn: u64,
    pictures: u64,
    next: [u64; 2],
    /// Pictures from one keyframe to the next.
    group: u64,
    offset_ms: i64,
    is_key: bool,
}

impl Publisher {
    fn new(shard: usize, conn: u64) -> Self {
        Self {
            shard,
            conn,
            pictures: 0,
            next: [60_000 * conn, 7],
            group: 10,
            offset_ms: conn as i64 * 1_000_000,
            is_key: false,
        }
    }

    fn make(&mut self, now: Instant) -> Vec<Packet> {
        let is_key = self.pictures.is_multiple_of(self.group);
        let millis = self.offset_ms + self.pictures as i64 * 40;
        self.pictures += 1;
        self.is_key = is_key;
        let mut packets = Vec::new();
        for index in 0..3 {
            let start = match (index, is_key) {
                (0, true) => Start::Keyframe,
                (0, false) => Start::Frame,
                (_, _) => Start::No,
            };
            packets.push(self.packet(VIDEO, millis, start, index == 2, now));
        }
        for half in [0, 20] {
            packets.push(self.packet(AUDIO, millis + half, Start::Keyframe, true, now));
        }
        packets
    }

    fn packet(
        &mut self,
        track: TrackId,
        millis: i64,
        start: Start,
        marker: bool,
        received: Instant,
    ) -> Packet {
        let number = self.next[track.index()];
        self.next[track.index()] += 1;
        Packet {
            track,
            number,
            time: MediaTime::from_millis(millis),
            marker,
            start,
            payload: payload(track, start, marker, self.is_key),
            extras: Extras::default(),
            received,
        }
    }
}

/// A slice of a picture in three parts (RFC 6184 section 5.8), or a packet of sound.
fn payload(track: TrackId, start: Start, marker: bool, is_key: bool) -> Bytes {
    const BODY: [u8; 30] = [0x95; 30]; // Its first bit begins a picture.
    if track == AUDIO {
        return [&[0xf8][..], &BODY].concat().into();
    }
    let flags = match (start, marker) {
        (Start::Keyframe | Start::Frame, _) => 0x80,
        (Start::No, true) => 0x40,
        (Start::No, false) => 0,
    };
    let kind = if is_key { 5 } else { 1 };
    [&[0x7c, flags | kind][..], &BODY].concat().into()
}

fn video(codec: Codec) -> Track {
    Track {
        id: VIDEO,
        codec,
        init: Bytes::new(),
        video: None,
        audio: None,
        language: String::new(),
        rid: String::new(),
    }
}

fn opus() -> Track {
    Track {
        id: AUDIO,
        codec: Codec::Opus,
        audio: Some(AudioFormat {
            rate: 48_000,
            channels: 2,
            bits: 0,
        }),
        ..video(Codec::Opus)
    }
}

#[test]
fn a_viewer_begins_with_the_run_since_the_keyframe_and_gets_everything_from_there() {
    let mut hall = Hall::new();
    let mut publisher = hall.publish(0, 1);
    hall.run(&mut publisher, 25);
    hall.view(0, 10);
    let first = hall.of(0, 10, VIDEO)[0].clone();
    assert!(first.is_backlog);
    assert_eq!(first.numbers.len(), 15, "five pictures since the keyframe");
    assert_eq!(first.numbers[0], 60, "numbers begin at zero");
    hall.run(&mut publisher, 20);
    assert_eq!(hall.assert_whole(0, 10, VIDEO), 75);
    assert_eq!(hall.assert_whole(0, 10, AUDIO), 40, "sound begins live");
    assert_eq!(hall.keyframes_asked(), 0);
}

#[test]
fn one_output_and_one_message_per_batch_however_many_viewers() {
    let mut hall = Hall::new();
    let mut publisher = hall.publish(0, 1);
    hall.run(&mut publisher, 25);
    for conn in 10..30 {
        hall.view(1, conn);
        hall.view(2, conn);
    }
    hall.handed.clear();
    hall.media.clear();
    hall.run(&mut publisher, 20);
    assert_eq!(hall.media, BTreeMap::from([("MirrorPackets", 2 * 2 * 20)]));
    assert_eq!(hall.handed.len(), 2 * 2 * 20);
    assert!(hall.handed.iter().all(|handed| handed.viewers.len() == 20));
    let counters = hall.counters(1);
    assert!(counters.bytes_out[Container::WebRtc as usize] > 0);
    assert_eq!(counters.viewers_total, 20);
}

#[test]
fn a_viewer_on_another_shard_begins_with_the_backlog_of_home() {
    let mut hall = Hall::new();
    // Published on shard 1, at home on shard 0.
    let publisher = hall.publish(0, 1);
    hall.shards[0].connection_gone(ConnId(publisher.conn));
    hall.deliver();
    let mut publisher = hall.publish(1, 2);
    hall.run(&mut publisher, 25);
    hall.view(2, 10);
    assert!(hall.of(2, 10, VIDEO)[0].is_backlog);
    hall.run(&mut publisher, 25);
    assert_eq!(hall.assert_whole(2, 10, VIDEO), 5 * 3 + 75);
    assert_eq!(hall.keyframes_asked(), 0);
}

#[test]
fn no_frame_is_built_while_nobody_needs_frames() {
    let mut hall = Hall::new();
    let mut publisher = hall.publish(0, 1);
    hall.run(&mut publisher, 30);
    hall.view(0, 10);
    hall.view(1, 10);
    hall.run(&mut publisher, 100);
    let built = hall.counters(0).frames_built;
    assert_eq!(built, 1, "the keyframe that shows what the track is like");
    assert_eq!(hall.media.get("MirrorFrame"), None);

    publisher.group = 1000; // Until it is asked.
    hall.watch_flv(1, 20);
    hall.run(&mut publisher, 10);
    assert_eq!(hall.keyframes_asked(), 1, "building begins with a keyframe");
    publisher.pictures = 0;
    publisher.offset_ms += 130 * 40 + 400;
    publisher.group = 10;
    hall.run(&mut publisher, 50);
    assert!(hall.bytes[&(1, 20)] > 50 * 90, "{:?}", hall.bytes);
    let built = hall.counters(0).frames_built - built;
    assert!(
        (150..=190).contains(&built),
        "{built}: 50 pictures, 100 of sound"
    );

    hall.shards[1].connection_gone(ConnId(20));
    for _ in 0..15 {
        hall.run(&mut publisher, 25);
        hall.sweep();
    }
    let built = hall.counters(0).frames_built;
    hall.run(&mut publisher, 100);
    assert_eq!(hall.counters(0).frames_built, built, "nobody is left");
    hall.assert_whole(1, 10, VIDEO);
}

#[test]
fn keyframes_are_asked_for_once_for_all_who_want_one() {
    let mut hall = Hall::new();
    let mut publisher = hall.publish(0, 1);
    hall.run(&mut publisher, 25);
    for shard in 0..3 {
        for conn in 10..15 {
            hall.view(shard, conn);
        }
    }
    publisher.group = 1000;
    for shard in 0..3 {
        for conn in 10..15 {
            hall.shards[shard].rtc_keyframe(ConnId(conn), VIDEO);
        }
    }
    hall.deliver();
    assert_eq!(hall.replies, [(0, 1, RtcReply::Keyframe(VIDEO))]);
    hall.run(&mut publisher, 12);
    assert_eq!(hall.keyframes_asked(), 1, "480 ms later");
    hall.run(&mut publisher, 2);
    assert_eq!(hall.keyframes_asked(), 2, "none has come");
    publisher.pictures = 1000;
    publisher.offset_ms -= (1000 - 39) * 40;
    hall.run(&mut publisher, 30);
    assert_eq!(hall.keyframes_asked(), 2, "one has come");
    let wanted: u64 = (0..3).map(|it| hall.counters(it).keyframes_wanted).sum();
    assert_eq!((wanted, hall.counters(0).keyframes_asked), (15, 2));
    // A publisher that is not at home is asked as well.
    let mut publisher = hall.publish(2, 3);
    hall.run(&mut publisher, 3);
    hall.replies.clear();
    hall.shards[1].rtc_keyframe(ConnId(10), VIDEO);
    hall.deliver();
    assert_eq!(hall.replies, [(2, 3, RtcReply::Keyframe(VIDEO))]);
    // It cannot be asked for by somebody who does not watch.
    hall.shards[1].rtc_keyframe(ConnId(99), VIDEO);
    hall.shards[1].rtc_keyframe(ConnId(10), TrackId(7));
    hall.deliver();
    assert_eq!(hall.keyframes_asked(), 1);
}

#[test]
fn who_comes_when_there_is_no_run_waits_for_a_keyframe() {
    let mut hall = Hall::new();
    let mut publisher = hall.publish(0, 1);
    publisher.group = 100_000;
    hall.run(&mut publisher, 400); // 1200 packets: too many to begin with.
    for shard in [0, 1] {
        hall.view(shard, 10);
        assert!(hall.of(shard, 10, VIDEO).is_empty());
    }
    assert_eq!(hall.keyframes_asked(), 1, "both want it");
    publisher.pictures = 0;
    publisher.offset_ms += 16_000;
    hall.run(&mut publisher, 20);
    for shard in [0, 1] {
        assert_eq!(hall.assert_whole(shard, 10, VIDEO), 60);
    }
}

#[test]
fn late_and_repeated_packets_reach_viewers_once() {
    let mut hall = Hall::new();
    let mut publisher = hall.publish(0, 1);
    hall.run(&mut publisher, 25);
    hall.view(0, 10);
    hall.view(1, 10);
    hall.handed.clear();
    hall.pass(40);
    let mut packets = publisher.make(hall.now);
    let late = packets.remove(1);
    hall.send(&publisher, packets.clone());
    hall.send(&publisher, packets);
    hall.send(&publisher, vec![late.clone()]);
    hall.send(&publisher, vec![late]);
    for shard in [0, 1] {
        let mut numbers: Vec<u64> = Vec::new();
        for handed in hall.of(shard, 10, VIDEO) {
            assert!(!handed.is_backlog);
            numbers.extend(&handed.numbers);
        }
        let first = numbers[0];
        assert_eq!(numbers, [first, first + 2, first + 1]);
        let found = hall.shards[shard].packet(ConnId(10), VIDEO, first + 1);
        assert_eq!(found.map(|packet| packet.number), Some(first + 1));
        let exchange = &hall.shards[shard];
        assert!(exchange.packet(ConnId(10), VIDEO, first + 3).is_none());
        assert!(exchange.packet(ConnId(11), VIDEO, first).is_none());
        assert!(exchange.packet(ConnId(10), TrackId(9), first).is_none());
    }
}

#[test]
fn viewers_stay_when_a_publisher_is_replaced_and_when_one_returns() {
    let mut hall = Hall::new();
    let mut first = hall.publish(0, 1);
    hall.run(&mut first, 25);
    hall.view(0, 10);
    hall.view(1, 10);
    hall.run(&mut first, 20);
    let mut second = hall.publish_over(2, 2);
    assert_eq!(hall.replies, [(0, 1, RtcReply::EndPublish)]);
    hall.replies.clear();
    hall.run(&mut second, 20);
    hall.shards[2].connection_gone(ConnId(2));
    hall.deliver();
    hall.pass(4000);
    hall.sweep();
    let mut third = hall.publish_over(1, 3);
    hall.run(&mut third, 20);
    assert_eq!(hall.replies, [], "nobody was told anything");
    for shard in [0, 1] {
        assert_eq!(hall.assert_whole(shard, 10, VIDEO), 15 + 60 + 60 + 60);
        let times: Vec<MediaTime> = hall
            .of(shard, 10, VIDEO)
            .iter()
            .flat_map(|handed| handed.packets.iter().map(|packet| packet.time))
            .collect();
        assert!(times.is_sorted(), "one timeline");
    }
}

impl Hall {
    /// As [`Hall::publish`], where there is a publisher, or was one.
    fn publish_over(&mut self, shard: usize, conn: u64) -> Publisher {
        let request = PublishRequest::rtmp("app", STREAM, IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.shards[shard].rtc_publish(ConnId(conn), &request, "whip");
        self.deliver();
        self.replies
            .retain(|reply| *reply != (shard, conn, RtcReply::AcceptPublish));
        for track in [video(Codec::H264), opus()] {
            self.shards[shard].publisher_track(ConnId(conn), track);
        }
        self.deliver();
        Publisher::new(shard, conn)
    }

    /// An RTMP publisher's frames: a picture every 40 ms, every tenth a keyframe.
    fn run_frames(&mut self, shard: usize, conn: u64, pictures: std::ops::Range<i64>) {
        for number in pictures {
            self.pass(40);
            let time = MediaTime::from_millis(number * 40);
            let is_key = number % 10 == 0;
            let mut unit = [0x95; 3000];
            unit[0] = if is_key { 0x65 } else { 0x41 };
            let frame = Frame {
                track: VIDEO,
                dts: time,
                pts: time,
                keyframe: is_key,
                data: [&3000_u32.to_be_bytes()[..], &unit].concat().into(),
                received: self.now,
            };
            self.shards[shard].publisher_frame(ConnId(conn), frame);
            self.deliver();
        }
    }

    fn publish_rtmp(&mut self, shard: usize, conn: u64) {
        let request = PublishRequest::rtmp("app", STREAM, IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.shards[shard].rtmp_publish(ConnId(conn), &request);
        self.deliver();
        self.shards[shard].publisher_track(ConnId(conn), video(Codec::H264));
        self.deliver();
    }
}

#[test]
fn frames_are_made_packets_where_somebody_watches() {
    let mut hall = Hall::new();
    hall.publish_rtmp(0, 1);
    hall.run_frames(0, 1, 0..25);
    for shard in [0, 1] {
        hall.view(shard, 10);
        hall.view(shard, 11);
        let first = hall.of(shard, 10, VIDEO)[0].clone();
        assert!(first.is_backlog);
        assert_eq!(first.packets[0].start, Start::Keyframe);
    }
    hall.run_frames(0, 1, 25..45);
    assert_eq!(hall.media.get("MirrorPackets"), None, "frames cross, once");
    for shard in [0, 1] {
        let count = hall.assert_whole(shard, 10, VIDEO);
        assert_eq!(hall.assert_whole(shard, 11, VIDEO), count);
        let markers = hall.of(shard, 10, VIDEO);
        let markers = markers.iter().flat_map(|handed| handed.packets.iter());
        assert_eq!(markers.filter(|packet| packet.marker).count(), 25);
    }
    // Who lost something cannot have a keyframe made, and gets what there is again.
    hall.handed.clear();
    hall.shards[1].rtc_keyframe(ConnId(11), VIDEO);
    hall.shards[1].rtc_keyframe(ConnId(11), VIDEO);
    hall.deliver();
    assert_eq!(hall.handed.len(), 1, "not as often as it asks");
    let again = &hall.handed[0];
    assert!(again.is_backlog && again.viewers == [11]);
    assert_eq!(again.packets[0].start, Start::Keyframe);
    // Nobody watches any more: nothing is made any more.
    for shard in [0, 1] {
        hall.shards[shard].connection_gone(ConnId(10));
        hall.shards[shard].connection_gone(ConnId(11));
    }
    hall.sweep();
    hall.pass(5000);
    hall.sweep();
    hall.handed.clear();
    hall.run_frames(0, 1, 45..65);
    hall.view(1, 12);
    assert_eq!(hall.of(1, 12, VIDEO).len(), 1);
    hall.run_frames(0, 1, 65..75);
    hall.assert_whole(1, 12, VIDEO);
}

#[test]
fn a_publisher_of_packets_takes_over_from_one_of_frames_and_back() {
    let mut hall = Hall::new();
    hall.publish_rtmp(0, 1);
    hall.run_frames(0, 1, 0..25);
    for shard in [0, 1] {
        hall.view(shard, 10);
        hall.watch_flv(shard, 20);
    }
    hall.run_frames(0, 1, 25..30);
    let mut publisher = hall.publish_over(2, 2);
    hall.run(&mut publisher, 30);
    let bytes = hall.bytes.clone();
    hall.run(&mut publisher, 30);
    for shard in [0, 1] {
        hall.assert_whole(shard, 10, VIDEO);
        assert!(hall.bytes[&(shard, 20)] > bytes[&(shard, 20)] + 2000);
    }
    hall.publish_rtmp(1, 3);
    hall.run_frames(1, 3, 0..20);
    let bytes = hall.bytes.clone();
    hall.run_frames(1, 3, 20..40);
    for shard in [0, 1] {
        hall.assert_whole(shard, 10, VIDEO);
        assert!(hall.bytes[&(shard, 20)] > bytes[&(shard, 20)] + 50_000);
    }
    assert_eq!(hall.http_ended, 0);
}

#[test]
fn an_offer_is_told_the_tracks_that_webrtc_carries() {
    let mut hall = Hall::new();
    hall.shards[1].rtc_offer_info(ConnId(10), STREAM);
    hall.shards[1].rtc_offer_info(ConnId(11), "other");
    hall.deliver();
    assert_eq!(hall.replies, [(1, 11, RtcReply::NotFound)]);
    hall.replies.clear();
    let mut publisher = hall.publish(0, 1);
    hall.run(&mut publisher, 3);
    let Some((1, 10, RtcReply::Tracks(tracks))) = hall.replies.pop() else {
        panic!("it waits until the stream is there");
    };
    assert_eq!((tracks[0].id, tracks[1].id), (VIDEO, AUDIO));
    assert_eq!(hall.shards[1].connections(), 0);
    assert_eq!(hall.media.get("MirrorPackets"), None, "nobody watches yet");
    // A stream that nobody publishes is not there after a while.
    hall.shards[0].connection_gone(ConnId(1));
    for _ in 0..60 {
        hall.pass(1000);
        hall.sweep();
    }
    hall.shards[2].rtc_offer_info(ConnId(12), STREAM);
    hall.shards[2].rtc_view(ConnId(13), STREAM, vec![VIDEO]);
    for _ in 0..6 {
        hall.pass(1000);
        hall.sweep();
    }
    assert_eq!(hall.replies.len(), 2);
    assert!(hall.replies.iter().all(|it| it.2 == RtcReply::NotFound));
}

#[test]
fn viewers_are_told_of_other_tracks_and_of_the_end() {
    let mut hall = Hall::new();
    let mut publisher = hall.publish(0, 1);
    hall.run(&mut publisher, 25);
    hall.view(1, 10);
    hall.shards[1].rtc_view(ConnId(11), STREAM, vec![AUDIO]);
    hall.deliver();
    hall.shards[0].publisher_track(ConnId(1), video(Codec::Vp8));
    hall.deliver();
    for conn in [10, 11] {
        let at = |reply: &&(usize, u64, RtcReply)| (reply.0, reply.1) == (1, conn);
        let told = hall.replies.iter().find(at).unwrap();
        let RtcReply::TracksChanged(tracks) = &told.2 else {
            panic!("told of something else: {told:?}");
        };
        assert_eq!(tracks[0].codec, Codec::Vp8);
    }
    hall.replies.clear();
    // The next publisher has no sound: who watches nothing else is let go.
    let request = PublishRequest::rtmp("app", STREAM, IpAddr::V4(Ipv4Addr::LOCALHOST));
    hall.shards[2].rtc_publish(ConnId(2), &request, "whip");
    hall.deliver();
    hall.shards[2].publisher_track(ConnId(2), video(Codec::Vp8));
    hall.deliver();
    hall.replies.clear();
    for _ in 0..3 {
        hall.pass(1000);
        hall.sweep();
    }
    assert_eq!(hall.replies.len(), 2);
    assert!(hall.replies.contains(&(1, 11, RtcReply::EndPlay)));
    hall.replies.clear();
    hall.shards[2].connection_gone(ConnId(2));
    for _ in 0..15 {
        hall.pass(1000);
        hall.sweep();
    }
    assert_eq!(hall.replies, [(1, 10, RtcReply::EndPlay)]);
    for shard in &mut hall.shards {
        let snapshot = shard.snapshot();
        assert_eq!((snapshot.streams.len(), shard.connections()), (0, 0));
    }
}

#[test]
fn a_viewer_changes_from_one_layer_to_another() {
    let mut hall = Hall::new();
    let request = PublishRequest::rtmp("app", STREAM, IpAddr::V4(Ipv4Addr::LOCALHOST));
    hall.shards[0].rtc_publish(ConnId(1), &request, "whip");
    hall.deliver();
    for (id, rid) in [(0, "h"), (1, "l")] {
        let track = Track {
            id: TrackId(id),
            rid: rid.to_owned(),
            ..video(Codec::H264)
        };
        hall.shards[0].publisher_track(ConnId(1), track);
    }
    let (high, low) = (TrackId(0), TrackId(1));
    let mut publisher = Publisher::new(0, 1);
    let mut run = |hall: &mut Hall, pictures| {
        for _ in 0..pictures {
            hall.pass(40);
            let mut packets = publisher.make(hall.now);
            packets.retain(|packet| packet.track == high);
            let mut layer = packets.clone();
            for packet in &mut layer {
                packet.track = low;
            }
            hall.send(&publisher, packets);
            hall.send(&publisher, layer);
        }
    };
    run(&mut hall, 25);
    hall.shards[1].rtc_view(ConnId(10), STREAM, vec![high]);
    hall.deliver();
    run(&mut hall, 15);
    assert!(hall.of(1, 10, low).is_empty());
    hall.shards[1].rtc_select(ConnId(10), high, low);
    hall.deliver();
    run(&mut hall, 5);
    hall.shards[1].rtc_unwatch(ConnId(10), high);
    hall.handed.retain(|handed| handed.track == low);
    run(&mut hall, 20);
    assert!(hall.of(1, 10, high).is_empty());
    assert!(hall.assert_whole(1, 10, low) >= 75);
    hall.shards[1].connection_gone(ConnId(10));
    hall.handed.clear();
    run(&mut hall, 1);
    assert!(hall.handed.is_empty());
}

#[test]
fn sessions_are_ended_like_others() {
    let mut hall = Hall::new();
    let mut publisher = hall.publish(0, 1);
    hall.run(&mut publisher, 25);
    for conn in 10..14 {
        hall.view(1, conn);
    }
    let clients = hall.shards[1].clients(true);
    assert_eq!(clients.tally["WebRTC"].viewers, 4);
    assert_eq!(clients.clients.len(), 4);
    assert!(clients.clients.iter().all(|it| it.protocol == "WebRTC"));
    let publishers = hall.shards[0].clients(true);
    assert_eq!(publishers.clients[0].protocol, "INPUT:WebRTC");
    assert!(publishers.tally["INPUT:WebRTC"].down > 0);
    let snapshot = hall.shards[1].snapshot();
    assert_eq!(snapshot.viewers[Container::WebRtc as usize], 4);
    assert_eq!(snapshot.streams[0].viewers[Container::WebRtc as usize], 4);

    let filter = SessionFilter {
        id: Some((ShardId(1), 10)),
        ..SessionFilter::default()
    };
    let control = ShardId(CONTROL as u16);
    hall.shards[1].message(control, Message::StopSessions(Box::new(filter)));
    hall.deliver();
    assert_eq!(hall.replies, [(1, 10, RtcReply::EndPlay)]);
    hall.replies.clear();
    let filter = SessionFilter {
        protocol: Some("INPUT:WebRTC".to_owned()),
        ..SessionFilter::default()
    };
    hall.shards[0].message(control, Message::StopSessions(Box::new(filter)));
    hall.deliver();
    assert_eq!(hall.replies, [(0, 1, RtcReply::EndPublish)]);
    hall.replies.clear();

    let mut publisher = hall.publish(0, 2);
    hall.run(&mut publisher, 5);
    hall.shards[1].message(control, Message::Drain);
    hall.deliver();
    assert_eq!(hall.replies.len(), 3, "all who are left");
    assert!(hall.replies.iter().all(|it| it.2 == RtcReply::EndPlay));
    hall.replies.clear();
    hall.view(1, 20);
    assert_eq!(hall.replies.pop(), Some((1, 20, RtcReply::NotFound)));

    hall.view(2, 20);
    hall.shards[2].message(control, Message::Config(settings("")));
    hall.shards[0].message(control, Message::Config(settings("")));
    hall.deliver();
    assert!(hall.replies.contains(&(2, 20, RtcReply::EndPlay)));
    assert!(hall.replies.contains(&(0, 2, RtcReply::EndPublish)));
}

#[test]
fn a_refused_publisher_is_told_why() {
    let mut hall = Hall::new();
    let request = PublishRequest::rtmp("app", "nosuch", IpAddr::V4(Ipv4Addr::LOCALHOST));
    hall.shards[0].rtc_publish(ConnId(1), &request, "whip");
    hall.deliver();
    let Some((0, 1, RtcReply::PublishDenied(reason))) = hall.replies.pop() else {
        panic!("it was let in");
    };
    assert_eq!(reason, "the stream is not configured");
}

#[test]
fn packets_lost_between_shards_cost_a_keyframe_and_not_the_stream() {
    let mut hall = Hall::new();
    let mut publisher = hall.publish(0, 1);
    hall.run(&mut publisher, 25);
    hall.view(1, 10);
    hall.watch_flv(1, 20);
    hall.run(&mut publisher, 25);
    hall.loses = true;
    hall.run(&mut publisher, 3);
    hall.loses = false;
    let bytes = hall.bytes[&(1, 20)];
    hall.handed.clear();
    hall.run(&mut publisher, 30);
    assert!(hall.bytes[&(1, 20)] > bytes + 20 * 90, "frames go on");
    let numbers: Vec<u64> = hall
        .of(1, 10, VIDEO)
        .iter()
        .flat_map(|handed| handed.numbers.clone())
        .collect();
    assert_eq!(numbers.len(), 90, "and packets");
    assert!(numbers.is_sorted());
}
