//! Shards, the registrar and the mesh between them, with publishers and viewers, in virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringside::base::ids::{ConnId, ShardId};
use ringside::base::prng::Prng;
use ringside::config::{self, Config};
use ringside::proto::http;
use ringside::streams::access::PublishRequest;
use ringside::streams::{
    Container, Exchange, HttpReply, Message, Output, Registrar, RtcReply, RtmpReply, StreamSnapshot,
};

use super::audience::{Asked, Audience, Scene, Then};
use super::media::Tracks;
use super::packets::{self, PacketViewer};
use super::player::Style;
use super::publisher::{Publisher, Standing};
use super::viewer::{Pace, Stage, Viewer};

/// A stream of the world: its name, its settings, and whether a publisher may replace another.
pub(crate) struct Name {
    pub(crate) name: &'static str,
    base: &'static str,
    settings: &'static str,
    pub(crate) takeover: bool,
}

pub(crate) const NAMES: [Name; 4] = [
    Name {
        name: "plain",
        base: "plain",
        settings: r#"{"source":"push://","DVR":2000}"#,
        takeover: false,
    },
    Name {
        name: "open",
        base: "open",
        settings: r#"{"source":"push://","DVR":0,"takeover":true}"#,
        takeover: true,
    },
    Name {
        name: "kept",
        base: "kept",
        settings: r#"{"source":"push://","DVR":15000,"resume":true}"#,
        takeover: false,
    },
    Name {
        name: "wild+card",
        base: "wild",
        settings: r#"{"source":"push://","DVR":500}"#,
        takeover: false,
    },
];

/// Messages under way between two shards before media is dropped.
const LINK_MESSAGES: usize = 200;

const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// What makes one run unlike another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Climate {
    pub(crate) shards: usize,
    pub(crate) merge: &'static str,
    /// Media messages that are lost, in 1000.
    pub(crate) loss_per_1000: u64,
    /// The longest that a message takes, in milliseconds.
    pub(crate) delay_ms_max: u64,
    /// Publishers' clocks jump, stall and jitter.
    pub(crate) rough_clocks: bool,
    pub(crate) reloads: bool,
    pub(crate) drain: bool,
    /// Some publishers leave before they are answered.
    pub(crate) flighty: bool,
}

#[derive(Default)]
struct Link {
    queue: VecDeque<(Duration, Message)>,
    /// Nothing arrives before what was sent before it.
    last_due: Duration,
}

struct Shard {
    exchange: Exchange,
    config: Arc<Config>,
    next_sweep: Duration,
    next_conn: u64,
    is_drained: bool,
    /// Connections that went in this round: what was on its way to them is let go.
    gone: BTreeSet<ConnId>,
}

pub(crate) struct World {
    pub(crate) rng: Prng,
    pub(crate) climate: Climate,
    tracks: Tracks,
    base: Instant,
    pub(crate) now: Duration,
    shards: Vec<Shard>,
    registrar: Registrar,
    /// By sender, then receiver; the control shard is the last.
    links: Vec<Vec<Link>>,
    pub(crate) publishers: BTreeMap<(usize, ConnId), Publisher>,
    pub(crate) viewers: BTreeMap<(usize, ConnId), Viewer>,
    pub(crate) packet_viewers: BTreeMap<(usize, ConnId), PacketViewer>,
    pub(crate) audience: Audience,
    /// Publishers that were accepted so far.
    accepted: u32,
    pub(crate) media_dropped: u64,
    pub(crate) frames_seen: u64,
    pub(crate) skips_seen: u64,
    /// Of frames that were put together of packets.
    pub(crate) unpacked_seen: u64,
    pub(crate) keyframes_asked: u64,
    pub(crate) frames_built: u64,
    pub(crate) runs_seen: u64,
}

impl World {
    pub(crate) fn new(seed: u64, climate: Climate, base: Instant, tracks: Tracks) -> Self {
        let mut rng = Prng::new(seed);
        let config = settings(climate.merge, &[true; NAMES.len()], &mut rng);
        let control = ShardId(climate.shards as u16);
        let shards = (0..climate.shards)
            .map(|index| Shard {
                exchange: Exchange::new(ShardId(index as u16), control, Arc::clone(&config), base),
                config: Arc::clone(&config),
                next_sweep: SWEEP_EVERY,
                next_conn: 1,
                is_drained: false,
                gone: BTreeSet::new(),
            })
            .collect();
        let count = climate.shards + 1;
        Self {
            rng,
            climate,
            tracks,
            base,
            now: Duration::ZERO,
            shards,
            registrar: Registrar::new(10_000),
            links: (0..count)
                .map(|_| (0..count).map(|_| Link::default()).collect())
                .collect(),
            publishers: BTreeMap::new(),
            viewers: BTreeMap::new(),
            packet_viewers: BTreeMap::new(),
            audience: Audience::default(),
            accepted: 0,
            media_dropped: 0,
            frames_seen: 0,
            skips_seen: 0,
            unpacked_seen: 0,
            keyframes_asked: 0,
            frames_built: 0,
            runs_seen: 0,
        }
    }

    fn control(&self) -> usize {
        self.climate.shards
    }

    /// Lets some time pass, with everything that happens in it.
    pub(crate) fn step(&mut self, time: Duration) {
        self.now += time;
        for shard in 0..self.shards.len() {
            self.round(shard);
        }
        self.registrar_round();
        self.move_players();
    }

    /// One round of a shard's loop, in the order of the real one.
    fn round(&mut self, shard: usize) {
        let instant = self.base + self.now;
        let unix_ms = 1_700_000_000_000 + self.now.as_millis() as i64;
        self.shards[shard].exchange.set_time(instant, unix_ms);
        self.move_viewers(shard);
        self.move_packet_viewers(shard);
        self.move_publishers(shard);
        for from in 0..self.links.len() {
            while let Some(message) = self.receive(from, shard) {
                self.deliver(shard, from, message);
            }
        }
        if self.rng.chance(2) {
            let load = self.rng.below(101) as f64 / 100.0;
            self.shards[shard].exchange.set_load(load);
        }
        if self.now >= self.shards[shard].next_sweep {
            self.shards[shard].next_sweep = self.now + SWEEP_EVERY;
            let viewers = &self.viewers;
            let taken = |conn| viewers.get(&(shard, conn)).map_or(0, |viewer| viewer.taken);
            self.shards[shard].exchange.sweep(taken);
        }
        self.flush(shard);
        self.shards[shard].gone.clear();
    }

    fn receive(&mut self, from: usize, to: usize) -> Option<Message> {
        let link = &mut self.links[from][to];
        let (due, _) = link.queue.front()?;
        if *due > self.now {
            return None;
        }
        link.queue.pop_front().map(|(_, message)| message)
    }

    fn deliver(&mut self, shard: usize, from: usize, message: Message) {
        let config = if let Message::Config(config) = &message {
            Some(Arc::clone(config))
        } else {
            None
        };
        let is_drain = matches!(message, Message::Drain);
        self.shards[shard]
            .exchange
            .message(ShardId(from as u16), message);
        if let Some(config) = config {
            self.shards[shard].config = config;
            self.flush(shard);
            let of_removed = self.publishers.iter().find(|((on, _), publisher)| {
                *on == shard && publisher.is_live() && !self.is_configured(shard, publisher.name)
            });
            assert!(
                of_removed.is_none(),
                "a publisher of a removed stream goes on: {of_removed:?}"
            );
            let of_removed = self.audience.asked.iter().find(|((on, _), asked)| {
                let name = self.audience.name_of(asked);
                *on == shard && name.is_some_and(|name| !self.is_configured(shard, name))
            });
            assert!(
                of_removed.is_none(),
                "somebody waits for a removed stream: {of_removed:?}"
            );
        }
        if is_drain {
            self.shards[shard].is_drained = true;
            self.audience.close_idle(shard);
            self.flush(shard);
            assert!(
                !self
                    .viewers
                    .iter()
                    .any(|((on, _), viewer)| *on == shard && viewer.is_waiting())
                    && !self
                        .publishers
                        .iter()
                        .any(|((on, _), it)| *on == shard && it.is_live())
                    && !self.packet_viewers.keys().any(|(on, _)| *on == shard)
                    && !self.audience.asked.keys().any(|(on, _)| *on == shard),
                "somebody is left on a drained shard"
            );
        }
    }

    fn is_configured(&self, shard: usize, name: usize) -> bool {
        self.shards[shard].config.stream(NAMES[name].base).is_some()
    }

    fn registrar_round(&mut self) {
        let control = self.control();
        for from in 0..control {
            while let Some(message) = self.receive(from, control) {
                let other = self.registrar.handle(ShardId(from as u16), message);
                assert!(other.is_none(), "not for the registrar: {other:?}");
                while let Some((to, message)) = self.registrar.poll() {
                    self.send(control, to.index(), message, false);
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message, is_media: bool) {
        let is_lost = is_media
            && (self.rng.below(1000) < self.climate.loss_per_1000
                || self.links[from][to].queue.len() >= LINK_MESSAGES);
        if is_lost {
            self.media_dropped += 1;
            return;
        }
        // Most messages are quick, and now and then a shard is busy for a while.
        let delay = match self.rng.below(20) {
            0 => self.rng.below(self.climate.delay_ms_max * 1000 + 1),
            _ => self.rng.below(2000),
        };
        let link = &mut self.links[from][to];
        link.last_due = link.last_due.max(self.now + Duration::from_micros(delay));
        link.queue.push_back((link.last_due, message));
    }

    /// Does what a shard's exchange wants done.
    fn flush(&mut self, shard: usize) {
        self.shards[shard].exchange.tick();
        while let Some(output) = self.shards[shard].exchange.poll() {
            match output {
                Output::Mesh {
                    to,
                    message,
                    is_media,
                } => {
                    assert_eq!(
                        is_media,
                        matches!(
                            message,
                            Message::Ingest { .. }
                                | Message::MirrorFrame { .. }
                                | Message::IngestPackets { .. }
                                | Message::MirrorPackets { .. }
                        ),
                        "what may be lost"
                    );
                    assert_ne!(to.index(), shard, "a message to itself");
                    self.send(shard, to.index(), message, is_media);
                }
                Output::Send {
                    conn,
                    header,
                    pieces,
                    received,
                } => {
                    assert!(
                        received.is_none_or(|received| received <= self.base + self.now),
                        "received in the future"
                    );
                    let mut bytes = header.map(|header| header.to_vec()).unwrap_or_default();
                    for piece in &pieces {
                        bytes.extend_from_slice(piece);
                    }
                    self.viewer_gets(shard, conn, &bytes);
                    // The kernel holds the pieces until the viewer has taken them.
                    if let Some(viewer) = self.viewers.get_mut(&(shard, conn)) {
                        viewer.pieces = pieces;
                    }
                }
                Output::Rtmp(conn, reply) => self.rtmp_reply(shard, conn, reply),
                Output::Http(conn, reply) => self.http_reply(shard, conn, &reply),
                Output::Rtc(conn, reply) => self.rtc_reply(shard, conn, reply),
                Output::Packets {
                    track,
                    packets,
                    viewers,
                    is_backlog,
                    ..
                } => {
                    self.runs_seen += u64::from(is_backlog);
                    for conn in viewers.iter() {
                        let Some(viewer) = self.packet_viewers.get_mut(&(shard, *conn)) else {
                            assert!(self.shards[shard].gone.contains(conn), "it is not there");
                            continue;
                        };
                        let may_gap = self.media_dropped > 0;
                        let seen = viewer.take(track, &packets, is_backlog, self.now, may_gap);
                        self.unpacked_seen += seen.unwrap_or_else(|error| {
                            panic!(
                                "shard {shard} {conn:?}: {error}, {} lost",
                                self.media_dropped
                            )
                        });
                    }
                }
                Output::Establish(_) => {}
                Output::Abort(conn) if self.audience.asked.contains_key(&(shard, conn)) => {
                    let seen = self.audience.aborted((shard, conn));
                    seen.unwrap_or_else(|error| panic!("shard {shard} {conn:?}: {error}"));
                }
                Output::Close(conn) | Output::Abort(conn) => {
                    self.viewers.remove(&(shard, conn));
                }
            }
        }
    }

    // ----- publishers

    /// Connects a publisher.
    pub(crate) fn publish(&mut self, shard: usize, name: usize) {
        let conn = self.connect(shard);
        let mut publisher = Publisher::new(&mut self.rng, name, self.now);
        if !self.climate.rough_clocks {
            publisher.smooth();
        }
        let sends_packets = self.rng.chance(40);
        if sends_packets {
            publisher.cut();
        }
        self.publishers.insert((shard, conn), publisher);
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let request = PublishRequest::rtmp("live", NAMES[name].name, peer);
        let exchange = &mut self.shards[shard].exchange;
        if sends_packets {
            exchange.rtc_publish(conn, &request, "whip");
        } else {
            exchange.rtmp_publish(conn, &request);
        }
        if self.climate.flighty && self.rng.chance(10) {
            self.end_publisher(shard, conn);
        }
    }

    pub(crate) fn end_publisher(&mut self, shard: usize, conn: ConnId) {
        if self.publishers.remove(&(shard, conn)).is_some() {
            let entry = &mut self.shards[shard];
            entry.gone.insert(conn);
            if self.rng.chance(50) {
                entry.exchange.publisher_ended(conn);
            }
            entry.exchange.connection_gone(conn);
        }
    }

    fn move_publishers(&mut self, shard: usize) {
        let now = self.now;
        let received = self.base + now;
        let here: Vec<ConnId> = conns(&self.publishers, shard);
        for conn in here {
            let Some(publisher) = self.publishers.get_mut(&(shard, conn)) else {
                continue;
            };
            if !matches!(publisher.standing, Standing::Accepted(_)) {
                continue;
            }
            let exchange = &mut self.shards[shard].exchange;
            for track in publisher.tracks_due(&mut self.rng, &self.tracks) {
                exchange.publisher_track(conn, track);
            }
            let due = publisher.media_due(&mut self.rng, &self.tracks, now, received);
            if let Some(cutter) = &mut publisher.cutter {
                let mut packets = Vec::new();
                for made in due {
                    packets.extend(cutter.cut(&mut self.rng, &made.of, &made.frame));
                }
                exchange.publisher_packets(conn, packets);
                continue;
            }
            for made in due {
                if let Some(track) = made.track {
                    exchange.publisher_track(conn, track);
                }
                exchange.publisher_frame(conn, made.frame);
            }
        }
    }

    // ----- viewers

    /// Connects a viewer, or lets one that has a connection ask for something else.
    pub(crate) fn play(&mut self, shard: usize, name: usize, container: Container, pace: Pace) {
        let conn = self.connect(shard);
        let is_chunked = container != Container::Rtmp && self.rng.chance(50);
        let viewer = Viewer::new(name, container, is_chunked, pace);
        self.viewers.insert((shard, conn), viewer);
        self.ask(shard, conn);
    }

    fn ask(&mut self, shard: usize, conn: ConnId) {
        let viewer = &self.viewers[&(shard, conn)];
        let exchange = &mut self.shards[shard].exchange;
        let name = NAMES[viewer.name].name;
        let version = if viewer.is_chunked { "1.1" } else { "1.0" };
        let path = match viewer.container {
            Container::Rtmp => {
                exchange.rtmp_play(conn, name);
                return;
            }
            Container::Flv => format!("/{name}.flv"),
            Container::Ts => format!("/{name}.ts"),
            Container::Mp4 => format!("/{name}.mp4"),
            Container::WebRtc => unreachable!("its viewers make offers"),
        };
        let request = request(&format!("GET {path} HTTP/{version}"), self.base);
        exchange.http_request(conn, IpAddr::V4(Ipv4Addr::LOCALHOST), &request);
    }

    /// Asks for what is known of a stream.
    pub(crate) fn inquire(&mut self, shard: usize, name: usize) {
        let conn = self.connect(shard);
        let mut viewer = Viewer::new(name, Container::Flv, false, Pace::Never);
        viewer.only_asks = true;
        self.viewers.insert((shard, conn), viewer);
        let request = request(
            &format!("GET /json_{}.js HTTP/1.1", NAMES[name].name),
            self.base,
        );
        self.shards[shard]
            .exchange
            .http_request(conn, IpAddr::V4(Ipv4Addr::LOCALHOST), &request);
    }

    pub(crate) fn end_viewer(&mut self, shard: usize, conn: ConnId) {
        if self.viewers.remove(&(shard, conn)).is_some() {
            let entry = &mut self.shards[shard];
            entry.gone.insert(conn);
            entry.exchange.connection_gone(conn);
        }
    }

    fn move_viewers(&mut self, shard: usize) {
        for conn in conns(&self.viewers, shard) {
            let Some(viewer) = self.viewers.get_mut(&(shard, conn)) else {
                continue;
            };
            if viewer.stage == Stage::Over {
                self.again_or_leave(shard, conn);
                continue;
            }
            if viewer.drains_by(self.now) {
                viewer.pieces.clear();
                self.shards[shard].exchange.drained(conn);
            }
            let Some(viewer) = self.viewers.get_mut(&(shard, conn)) else {
                continue;
            };
            let may_pause = viewer.container == Container::Rtmp && viewer.stage == Stage::Playing;
            if may_pause && viewer.pace != Pace::Fast && self.rng.below(400) == 0 {
                viewer.is_paused = !viewer.is_paused;
                viewer.has_paused = true;
                viewer.paused_at = self.now;
                let is_paused = viewer.is_paused;
                self.shards[shard].exchange.viewer_paused(conn, is_paused);
            }
        }
    }

    fn again_or_leave(&mut self, shard: usize, conn: ConnId) {
        let before = &self.viewers[&(shard, conn)];
        let may_stay = before.is_chunked && !before.only_asks;
        if may_stay && self.rng.chance(50) {
            let viewer = Viewer::new(before.name, before.container, true, before.pace);
            self.viewers.insert((shard, conn), viewer);
            self.ask(shard, conn);
        } else {
            self.end_viewer(shard, conn);
        }
    }

    fn viewer_gets(&mut self, shard: usize, conn: ConnId, bytes: &[u8]) {
        let Some(viewer) = self.viewers.get_mut(&(shard, conn)) else {
            assert!(
                self.shards[shard].gone.contains(&conn),
                "media for a connection that is not there: {conn:?}"
            );
            return;
        };
        let may_gap = viewer.has_paused
            || self.media_dropped > 0
            || self.shards[shard].exchange.snapshot().counters.skips > viewer.skips;
        let seen = viewer.take(bytes, self.now, may_gap, &mut self.rng);
        let what =
            seen.unwrap_or_else(|error| panic!("shard {shard} {conn:?}: {error}\n{viewer:?}"));
        self.frames_seen += what;
    }

    fn rtmp_reply(&mut self, shard: usize, conn: ConnId, reply: RtmpReply) {
        if self.shards[shard].gone.contains(&conn) {
            return;
        }
        match reply {
            RtmpReply::AcceptPublish => self.accept(shard, conn),
            RtmpReply::PublishBusy | RtmpReply::PublishDenied => {
                let publisher = self.publishers.remove(&(shard, conn));
                let publisher = publisher.expect("an answer to somebody who asked");
                assert_eq!(publisher.standing, Standing::Asked, "answered once");
            }
            RtmpReply::EndPublish => {
                let publisher = self.publishers.remove(&(shard, conn));
                assert!(publisher.is_some(), "somebody publishes");
            }
            RtmpReply::AcceptPlay => self.seated(shard, conn),
            RtmpReply::PlayNotFound => {
                let viewer = self.viewers.remove(&(shard, conn));
                let viewer = viewer.expect("an answer to somebody who asked");
                assert_eq!(viewer.stage, Stage::Asked, "answered once");
            }
            RtmpReply::EndPlay => {
                let viewer = self.viewers.remove(&(shard, conn));
                let viewer = viewer.expect("the end of somebody who plays");
                assert_eq!(viewer.stage, Stage::Playing, "ended once");
            }
        }
    }

    fn accept(&mut self, shard: usize, conn: ConnId) {
        let name = self.publishers[&(shard, conn)].name;
        let others = self
            .publishers
            .values()
            .filter(|other| other.name == name && matches!(other.standing, Standing::Accepted(_)))
            .count();
        assert!(
            others == 0 || NAMES[name].takeover,
            "{} has two publishers",
            NAMES[name].name
        );
        let publisher = self.publishers.get_mut(&(shard, conn));
        let publisher = publisher.expect("an answer to somebody who asked");
        assert_eq!(publisher.standing, Standing::Asked, "answered once");
        publisher.standing = Standing::Accepted(self.accepted);
        publisher.begin(self.now);
        self.accepted += 1;
    }

    fn seated(&mut self, shard: usize, conn: ConnId) {
        let skips = self.shards[shard].exchange.snapshot().counters.skips;
        let viewer = self.viewers.get_mut(&(shard, conn));
        let viewer = viewer.expect("an answer to somebody who asked");
        assert_eq!(viewer.stage, Stage::Asked, "answered once");
        viewer.stage = Stage::Playing;
        viewer.skips = skips;
        viewer.seated_at = self.now;
        // The head of the response is on its way.
        viewer.on_its_way(0, self.now, &mut self.rng);
    }

    fn http_reply(&mut self, shard: usize, conn: ConnId, reply: &HttpReply) {
        if self.shards[shard].gone.contains(&conn) {
            return;
        }
        if self.audience.asked.contains_key(&(shard, conn)) {
            self.player_gets(shard, conn, reply);
            return;
        }
        let stage = self.viewers.get(&(shard, conn)).map(|viewer| viewer.stage);
        let stage = stage.expect("an answer to somebody who is there");
        match reply {
            HttpReply::Stream(_) => self.seated(shard, conn),
            HttpReply::Respond(_) | HttpReply::StreamHead(_) => {
                assert_eq!(stage, Stage::Asked, "answered once");
            }
            HttpReply::EndStream => assert_eq!(stage, Stage::Playing, "ended once"),
            HttpReply::Shared(..) | HttpReply::Begin(_) | HttpReply::Run(_) => {
                unreachable!("it has not asked for segments")
            }
        }
        if !matches!(reply, HttpReply::Stream(_)) {
            let viewer = self.viewers.get_mut(&(shard, conn));
            viewer.expect("it is there").stage = Stage::Over;
        }
    }

    // ----- viewers of packets

    /// Connects a viewer of packets, which asks for the tracks first.
    pub(crate) fn offer(&mut self, shard: usize, name: usize) {
        let conn = self.connect(shard);
        let viewer = PacketViewer::new(name);
        self.packet_viewers.insert((shard, conn), viewer);
        let exchange = &mut self.shards[shard].exchange;
        exchange.rtc_offer_info(conn, NAMES[name].name);
    }

    pub(crate) fn end_packet_viewer(&mut self, shard: usize, conn: ConnId) {
        if self.packet_viewers.remove(&(shard, conn)).is_some() {
            let entry = &mut self.shards[shard];
            entry.gone.insert(conn);
            entry.exchange.connection_gone(conn);
        }
    }

    fn move_packet_viewers(&mut self, shard: usize) {
        for conn in conns(&self.packet_viewers, shard) {
            let Some(viewer) = self.packet_viewers.get_mut(&(shard, conn)) else {
                continue;
            };
            if let Some(track) = viewer.wants.take() {
                self.shards[shard].exchange.rtc_keyframe(conn, track);
            } else if let Some((track, number)) = viewer.newest() {
                let exchange = &mut self.shards[shard].exchange;
                if self.rng.below(1000) == 0 {
                    exchange.rtc_keyframe(conn, track);
                }
                if let Some(packet) = exchange.packet(conn, track, number) {
                    assert_eq!((packet.track, packet.number), (track, number));
                }
            }
        }
    }

    fn rtc_reply(&mut self, shard: usize, conn: ConnId, reply: RtcReply) {
        if self.shards[shard].gone.contains(&conn) {
            return;
        }
        match reply {
            RtcReply::AcceptPublish => self.accept(shard, conn),
            RtcReply::PublishBusy | RtcReply::PublishDenied(_) => {
                let publisher = self.publishers.remove(&(shard, conn));
                let publisher = publisher.expect("an answer to somebody who asked");
                assert_eq!(publisher.standing, Standing::Asked, "answered once");
            }
            RtcReply::EndPublish => {
                let publisher = self.publishers.remove(&(shard, conn));
                assert!(publisher.is_some(), "somebody publishes");
            }
            RtcReply::Keyframe(track) => {
                let publisher = self.publishers.get_mut(&(shard, conn));
                let publisher = publisher.expect("somebody publishes");
                publisher.is_asked = true;
                self.keyframes_asked += 1;
                let cutter = publisher.cutter.as_mut().expect("it sends packets");
                let (first, count) = cutter.asked.entry(track).or_insert((self.now, 0));
                *count += 1;
                // Requests that come over the mesh may be held up, and then not the next.
                let allowed = 2 + (self.now - *first).as_millis() / 500;
                assert!(u128::from(*count) <= allowed, "asked {count} times");
            }
            RtcReply::Tracks(tracks) => {
                let viewer = self.packet_viewers.get_mut(&(shard, conn));
                let viewer = viewer.expect("an answer to somebody who asked");
                assert_eq!(viewer.stage, packets::Stage::Offering, "answered once");
                let chosen = viewer.choose(&tracks);
                let name = NAMES[viewer.name].name;
                self.shards[shard].exchange.rtc_view(conn, name, chosen);
            }
            RtcReply::TracksChanged(_) => {
                let viewer = self.packet_viewers.get(&(shard, conn));
                let name = viewer.expect("it is told of what it watches").name;
                self.end_packet_viewer(shard, conn);
                // It makes another offer.
                self.offer(shard, name);
            }
            RtcReply::NotFound | RtcReply::EndPlay => {
                let viewer = self.packet_viewers.remove(&(shard, conn));
                assert!(viewer.is_some(), "an answer to somebody who is there");
            }
        }
    }

    // ----- players of playlists

    /// Somebody begins to play from playlists.
    pub(crate) fn watch(&mut self, name: usize, style: Style) {
        let is_cmaf = self.rng.chance(50);
        self.audience.join(name, style, is_cmaf, self.now);
    }

    fn move_players(&mut self) {
        let now = self.now;
        for (shard, conn) in self.audience.leaving(now) {
            self.leave(shard, conn);
        }
        if let Some((at, asked)) = self.audience.late(now) {
            panic!("{at:?} is not answered: {asked:?}");
        }
        let names = NAMES.map(|name| name.name);
        for wish in self.audience.wishes(&mut self.rng, now, &names) {
            // A player's connections are on any shards.
            let at = wish.conn.unwrap_or_else(|| {
                let mut shard = self.rng.below(self.climate.shards as u64) as usize;
                // A shard that lets everybody go is not asked for long.
                if self.is_drained(shard) && (!self.climate.flighty || self.rng.chance(80)) {
                    let others = (0..self.climate.shards).filter(|other| !self.is_drained(*other));
                    shard = others.last().unwrap_or(shard);
                }
                (shard, self.connect(shard))
            });
            self.put(at, &wish.head, wish.asked);
        }
    }

    fn put(&mut self, at: (usize, ConnId), head: &str, asked: Asked) {
        let request = request(head.trim_end(), self.base);
        self.audience.asked.insert(at, asked);
        let (shard, conn) = at;
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.shards[shard]
            .exchange
            .http_request(conn, from, &request);
    }

    /// A player's connection breaks.
    fn leave(&mut self, shard: usize, conn: ConnId) {
        self.audience.gone((shard, conn));
        let entry = &mut self.shards[shard];
        entry.gone.insert(conn);
        entry.exchange.connection_gone(conn);
    }

    /// The number of the stream that a shard has by this name.
    fn life(&mut self, shard: usize, name: usize) -> Option<u64> {
        let snapshot = self.shards[shard].exchange.snapshot();
        let mut streams = snapshot.streams.iter();
        let of_name = |stream: &&StreamSnapshot| stream.name.as_str() == NAMES[name].name;
        Some(streams.find(of_name)?.id.0)
    }

    fn player_gets(&mut self, shard: usize, conn: ConnId, reply: &HttpReply) {
        let asked = &self.audience.asked[&(shard, conn)];
        let name = self.audience.name_of(asked);
        let life = match reply {
            HttpReply::Run(_) | HttpReply::Begin(_) => None,
            HttpReply::Respond(_)
            | HttpReply::Shared(..)
            | HttpReply::Stream(_)
            | HttpReply::StreamHead(_)
            | HttpReply::EndStream => name.and_then(|name| self.life(shard, name)),
        };
        let scene = Scene {
            shard,
            now: self.now,
            life,
            may_gap: self.media_dropped > 0,
            is_closed: self.shards[shard].is_drained
                || name.is_none_or(|name| !self.is_configured(shard, name)),
        };
        let then = self.audience.reply(conn, reply, scene);
        let then = then.unwrap_or_else(|error| panic!("shard {shard} {conn:?}: {error}"));
        if then == Then::Free && self.rng.chance(30) {
            self.leave(shard, conn);
        }
    }

    // ----- the whole

    fn connect(&mut self, shard: usize) -> ConnId {
        let entry = &mut self.shards[shard];
        entry.next_conn += 1;
        ConnId(entry.next_conn)
    }

    /// Sends everybody a configuration in which only some streams are left.
    pub(crate) fn reload(&mut self, kept: &[bool; NAMES.len()]) {
        let config = settings(self.climate.merge, kept, &mut self.rng);
        for shard in 0..self.shards.len() {
            let message = Message::Config(Arc::clone(&config));
            self.send(self.control(), shard, message, false);
        }
    }

    pub(crate) fn drain(&mut self, shard: usize) {
        self.send(self.control(), shard, Message::Drain, false);
    }

    pub(crate) fn is_drained(&self, shard: usize) -> bool {
        self.shards[shard].is_drained
    }

    /// Everybody's connection breaks.
    pub(crate) fn clear(&mut self) {
        for (shard, conn) in self.publishers.keys().copied().collect::<Vec<_>>() {
            self.end_publisher(shard, conn);
        }
        for (shard, conn) in self.viewers.keys().copied().collect::<Vec<_>>() {
            self.end_viewer(shard, conn);
        }
        for (shard, conn) in self.packet_viewers.keys().copied().collect::<Vec<_>>() {
            self.end_packet_viewer(shard, conn);
        }
        self.stop_watching();
    }

    /// All players of playlists leave.
    pub(crate) fn stop_watching(&mut self) {
        self.audience.players.clear();
        for (shard, conn) in self.audience.asked.keys().copied().collect::<Vec<_>>() {
            self.leave(shard, conn);
        }
    }

    /// No shard has a rendition, waits for one or is told of one.
    pub(crate) fn assert_unwatched(&mut self) {
        for entry in &mut self.shards {
            let snapshot = entry.exchange.snapshot();
            let left = snapshot.streams.iter().find(|it| it.renditions > 0);
            assert!(
                left.is_none() && snapshot.segment_waiters == 0,
                "{} has renditions that nobody asks for: {left:?}, {} wait",
                snapshot.shard,
                snapshot.segment_waiters
            );
        }
    }

    /// Nothing is left anywhere.
    pub(crate) fn assert_empty(&mut self) {
        assert!(self.publishers.is_empty() && self.viewers.is_empty());
        assert!(self.packet_viewers.is_empty());
        assert_eq!(self.registrar.streams().count(), 0, "names are left");
        for entry in &mut self.shards {
            let snapshot = entry.exchange.snapshot();
            let left = (
                snapshot.streams.len(),
                snapshot.viewers,
                snapshot.publishers,
                snapshot.waiting,
                snapshot.slabs_in_use,
                entry.exchange.connections(),
                snapshot.segment_waiters,
            );
            assert_eq!(
                left,
                (0, [0; Container::ALL.len()], 0, 0, 0, 0, 0),
                "{} has something left",
                snapshot.shard
            );
            self.skips_seen += snapshot.counters.skips;
            self.frames_built += snapshot.counters.frames_built;
        }
        for link in self.links.iter().flatten() {
            assert!(link.queue.is_empty(), "messages are left: {:?}", link.queue);
        }
    }
}

fn conns<T>(map: &BTreeMap<(usize, ConnId), T>, shard: usize) -> Vec<ConnId> {
    map.range((shard, ConnId(0))..=(shard, ConnId(u64::MAX)))
        .map(|((_, conn), _)| *conn)
        .collect()
}

/// A request as the session of a connection makes it.
fn request(line: &str, now: Instant) -> Box<http::Request> {
    let mut session = http::Session::new(now, http::Options::default());
    session.handle_input(now, format!("{line}\r\nHost: sim\r\n\r\n").as_bytes());
    match session.poll_event() {
        Some(http::Event::Request(request)) => request,
        other => panic!("a good request: {other:?}"),
    }
}

fn settings(merge: &str, kept: &[bool; NAMES.len()], rng: &mut Prng) -> Arc<Config> {
    let streams: Vec<String> = NAMES
        .iter()
        .zip(kept)
        .filter(|(_, kept)| **kept)
        .map(|(name, _)| format!(r#""{}":{}"#, name.base, name.settings))
        .collect();
    let queue = [300, 1000, 4000][rng.below(3) as usize];
    let text = format!(
        r#"{{"streams":{{{}}},"delivery":{{"merge":"{merge}","merge_ms_max":60,
            "viewer_queue_ms":{queue},"viewer_stall_ms":3000}}}}"#,
        streams.join(",")
    );
    Arc::new(config::parse(&text, "sim").expect("well-formed").config)
}
