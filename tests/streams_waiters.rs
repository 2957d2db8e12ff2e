//! Thousands of players that wait for the same part, and what becomes of them when it does not come.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "other tests use the rest of it")]
mod media_fixture;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::ids::{ConnId, ShardId, TrackId};
use ringside::config;
use ringside::media::{Frame, MediaTime};
use ringside::proto::http;
use ringside::streams::access::PublishRequest;
use ringside::streams::{Exchange, HttpReply, Output, Registrar, ShardSnapshot};

use media_fixture::fixture;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PUBLISHER: ConnId = ConnId(1);
const FRAME: Duration = Duration::from_millis(40);

/// What a connection was sent.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// A whole response, with where its body is.
    Whole(u16, usize),
    Begin,
    Run,
    End,
    Abort,
}

/// One shard with one stream.
struct Hall {
    now: Instant,
    time: Duration,
    exchange: Exchange,
    registrar: Registrar,
    frames: u32,
    sent: BTreeMap<ConnId, Vec<Sent>>,
}

impl Hall {
    /// A stream that has been on for so many frames, and whose playlist somebody has asked for.
    fn new(frames: u32) -> Self {
        let config = r#"{"streams":{"live":{"source":"push://"}}}"#;
        let config = Arc::new(config::parse(config, "test").unwrap().config);
        let now = ringside::shard::clock::now();
        let mut hall = Self {
            now,
            time: Duration::ZERO,
            exchange: Exchange::new(ShardId(0), ShardId(1), config, now),
            registrar: Registrar::new(10),
            frames: 0,
            sent: BTreeMap::new(),
        };
        hall.pass(Duration::ZERO);
        let request = PublishRequest::rtmp("live", "live", LOCALHOST);
        hall.exchange.rtmp_publish(PUBLISHER, &request);
        hall.collect();
        hall.exchange
            .publisher_track(PUBLISHER, fixture("h264", 0).track);
        for _ in 0..frames {
            hall.frame();
        }
        hall.ask(ConnId(2), "index.m3u8");
        hall.frame();
        assert_eq!(hall.sent.remove(&ConnId(2)).unwrap().len(), 1);
        hall
    }

    fn pass(&mut self, time: Duration) {
        self.time += time;
        let unix_ms = 1_700_000_000_000 + self.time.as_millis() as i64;
        self.exchange.set_time(self.now + self.time, unix_ms);
    }

    fn sweep(&mut self) {
        self.pass(Duration::from_millis(500));
        self.exchange.sweep(|_| 0);
        self.collect();
    }

    fn frame(&mut self) {
        self.pass(FRAME);
        let is_key = self.frames.is_multiple_of(50);
        let unit = [
            &[0, 0, 0, 101, if is_key { 0x65 } else { 0x41 }][..],
            &[7; 100],
        ]
        .concat();
        let time = MediaTime::from_millis(i64::from(self.frames) * 40);
        self.frames += 1;
        let frame = Frame {
            track: TrackId(0),
            dts: time,
            pts: time,
            keyframe: is_key,
            data: Bytes::from(unit),
            received: self.now,
        };
        self.exchange.publisher_frame(PUBLISHER, frame);
        self.collect();
    }

    fn request(&self, path: &str) -> Box<http::Request> {
        let mut session = http::Session::new(self.now, http::Options::default());
        let head = format!("GET /hls/live/1/{path} HTTP/1.1\r\nHost: test\r\n\r\n");
        session.handle_input(self.now, head.as_bytes());
        match session.poll_event() {
            Some(http::Event::Request(request)) => request,
            other => panic!("a good request: {other:?}"),
        }
    }

    fn ask(&mut self, conn: ConnId, path: &str) {
        self.ask_all(conn.0..conn.0 + 1, path);
    }

    fn ask_all(&mut self, conns: std::ops::Range<u64>, path: &str) {
        let request = self.request(path);
        for conn in conns {
            self.exchange
                .http_request(ConnId(conn), LOCALHOST, &request);
        }
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(output) = self.exchange.poll() {
            let (conn, sent) = match output {
                Output::Rtc(..) | Output::Packets { .. } => unreachable!("nobody speaks WebRTC"),
                Output::Mesh { to, message, .. } => {
                    assert_eq!(to, ShardId(1));
                    assert!(self.registrar.handle(ShardId(0), message).is_none());
                    while let Some((_, message)) = self.registrar.poll() {
                        self.exchange.message(ShardId(1), message);
                    }
                    continue;
                }
                Output::Http(conn, HttpReply::Respond(response)) => {
                    let body = response.body.as_ptr() as usize;
                    (conn, Sent::Whole(response.status, body))
                }
                Output::Http(conn, HttpReply::Shared(response, pieces)) => (
                    conn,
                    Sent::Whole(response.status, pieces[0].as_ptr() as usize),
                ),
                Output::Http(conn, HttpReply::Begin(_)) => (conn, Sent::Begin),
                Output::Http(conn, HttpReply::Run(_)) => (conn, Sent::Run),
                Output::Http(conn, HttpReply::EndStream) => (conn, Sent::End),
                Output::Abort(conn) => (conn, Sent::Abort),
                Output::Rtmp(..) | Output::Establish(_) => continue,
                Output::Send { .. } | Output::Http(..) | Output::Close(_) => {
                    panic!("nobody plays here")
                }
            };
            self.sent.entry(conn).or_default().push(sent);
        }
    }

    fn snapshot(&mut self) -> ShardSnapshot {
        self.exchange.snapshot()
    }

    fn waiters(&mut self) -> u64 {
        self.snapshot().segment_waiters
    }
}

const CROWD: u64 = 5000;

/// The number of the segment that is open, and of the part that comes next.
fn next(hall: &Hall) -> (u64, u32) {
    // Segments of 50 frames, parts of 8 and a last one of 2.
    let number = 1_700_000_000 + u64::from((hall.frames - 1) / 50);
    (number, ((hall.frames - 1) % 50) / 8)
}

#[test]
fn five_thousand_are_answered_with_one_text_when_the_part_comes() {
    let mut hall = Hall::new(130);
    let (number, part) = next(&hall);
    let path = format!("index.m3u8?_HLS_msn={number}&_HLS_part={part}");
    hall.ask_all(10..10 + CROWD, &path);
    assert_eq!(hall.waiters(), CROWD);
    assert!(hall.sent.is_empty(), "{:?}", hall.sent.first_key_value());
    for _ in 0..8 {
        hall.frame();
    }
    assert_eq!(hall.waiters(), 0);
    assert_eq!(hall.sent.len() as u64, CROWD);
    let (_, first) = hall.sent.first_key_value().unwrap();
    assert!(matches!(first[..], [Sent::Whole(200, _)]), "{first:?}");
    // The same bytes for all: the text is made once.
    assert!(hall.sent.values().all(|sent| sent == first));
}

/// 5000 players wait, for a playlist, for a part, and for what is sent as it is made, and the
/// publisher dies.
#[test]
fn five_thousand_waiters_then_the_publisher_dies() {
    let mut hall = Hall::new(130);
    let (number, part) = next(&hall);
    hall.ask_all(
        10..2010,
        &format!("index.m3u8?_HLS_msn={number}&_HLS_part={part}"),
    );
    hall.ask_all(2010..4010, &format!("{}.0.ts", number + 1));
    hall.ask_all(4010..5010, &format!("{number}.ts"));
    assert_eq!(hall.waiters(), CROWD);
    hall.exchange.connection_gone(PUBLISHER);
    hall.collect();
    // Three target durations of 2 s, and what is between two sweeps.
    for _ in 0..13 {
        hall.sweep();
    }
    assert_eq!(hall.waiters(), 0);
    assert_eq!(hall.sent.len() as u64, CROWD);
    for (conn, sent) in &hall.sent {
        match (conn.0, &sent[..]) {
            (10..4010, [Sent::Whole(503, _)])
            // It was promised a segment and got a part of it: that is not the end of a body.
            | (4010..5010, [Sent::Begin, Sent::Run, Sent::Abort]) => {}
            _ => panic!("{conn:?} is sent {sent:?}"),
        }
    }
    // Whoever asks shortly before the stream is let go is told when it is.
    hall.sent.clear();
    hall.sweep();
    hall.sweep();
    hall.ask_all(
        10..10 + CROWD,
        &format!("index.m3u8?_HLS_msn={number}&_HLS_part={part}"),
    );
    assert_eq!(hall.waiters(), CROWD);
    while hall.snapshot().streams.len() == 1 {
        hall.sweep();
        assert!(hall.time < Duration::from_secs(30), "it is kept for ever");
    }
    assert_eq!(hall.sent.len() as u64, CROWD);
    let is_told = |sent: &Vec<Sent>| matches!(sent[..], [Sent::Whole(404, _)]);
    assert!(hall.sent.values().all(is_told));
    let snapshot = hall.snapshot();
    assert_eq!((snapshot.segment_waiters, snapshot.slabs_in_use), (0, 0));
    assert_eq!(hall.exchange.connections(), 0);
}

#[test]
fn so_many_wait_and_no_more() {
    const MOST: u64 = 50_000;
    let mut hall = Hall::new(130);
    let (number, part) = next(&hall);
    let path = format!("index.m3u8?_HLS_msn={number}&_HLS_part={part}");
    hall.ask_all(10..10 + MOST, &path);
    assert_eq!((hall.waiters(), hall.sent.len()), (MOST, 0));
    hall.ask_all(10 + MOST..20 + MOST, &path);
    hall.ask_all(20 + MOST..30 + MOST, &format!("{number}.ts"));
    assert_eq!(hall.waiters(), MOST);
    assert_eq!(hall.sent.len(), 20, "those who cannot wait are told");
    let is_told = |sent: &Vec<Sent>| matches!(sent[..], [Sent::Whole(503, _)]);
    assert!(hall.sent.values().all(is_told), "{:?}", hall.sent);
    assert_eq!(hall.snapshot().counters.waiters_refused, 20);
    // One leaves, and there is room for one.
    hall.exchange.connection_gone(ConnId(10));
    hall.ask_all(10..12, &path);
    assert_eq!(hall.waiters(), MOST);
    for _ in 0..8 {
        hall.frame();
    }
    assert_eq!(hall.waiters(), 0);
}
