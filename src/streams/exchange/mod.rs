//! One shard's streams, publishers and viewers. Pure: requests, media and messages come in,
//! [`Output`]s go out.

mod answers;
mod clients;
mod delivery;
mod home;
mod http;
mod packets;
mod publishers;
mod renditions;
mod rtc;
mod segmented;
mod sessions;
mod viewers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;
use slab::Slab;

use self::viewers::end_viewer;
use crate::base::ids::{ConnId, ShardId, StreamId, TrackId};
use crate::base::prng::Prng;
use crate::config::{Config, Merge, Stream as Settings};
use crate::hub::{Home, Pieces};
use crate::media::buffer::Pool;
use crate::media::{Packet, Track};
use crate::proto::http::Response;
use crate::streams::message::Message;
use crate::streams::name::StreamName;
use crate::streams::output::{Container, Selection};
use crate::streams::packets::PacketViewer;
use crate::streams::segment_request::SegmentRequest;
use crate::streams::segments::Key;
use crate::streams::snapshot::{Counters, ShardSnapshot};
use crate::streams::stream::{Role, Stream, Viewer};
use crate::streams::viewing::Sessions;

/// Size of the slabs that muxed bytes are kept in. A frame of 2 Mbit/s video has about 8 kB.
const SLAB_BYTES: usize = 64 * 1024;

/// How long a publisher may take to come back before its viewers are let go, unless the stream's
/// `resume` gives it the whole window. An encoder that was restarted by hand is back in less.
const RECONNECT: Duration = Duration::from_secs(10);

/// How long a mirror without viewers is kept up.
const MIRROR_LINGER: Duration = Duration::from_secs(5);

/// The share of a CPU from which an adaptive merge window begins to open, and at which it is open
/// to its full width.
const MERGE_FROM: f64 = 0.60;
const MERGE_FULL: f64 = 0.90;

/// What the shard's loop has to do.
#[derive(Debug)]
pub enum Output {
    /// Send shared bytes to a viewer.
    Send {
        /// The viewer.
        conn: ConnId,
        /// What goes before, once.
        header: Option<Bytes>,
        /// Runs of whole frames.
        pieces: Pieces,
        /// When the oldest frame of these was received, if they are sent because it was.
        received: Option<Instant>,
    },
    /// Answer an RTMP session.
    Rtmp(ConnId, RtmpReply),
    /// Answer an HTTP session.
    Http(ConnId, HttpReply),
    /// Answer a WebRTC session, or the request that begins one.
    Rtc(ConnId, RtcReply),
    /// Send packets to viewers.
    Packets {
        /// The stream.
        stream: StreamId,
        /// Its track, of which all of the packets are.
        track: TrackId,
        /// In the order they came: one that was late comes late. Numbers go on without a hole
        /// except for what is lost.
        packets: Arc<[Packet]>,
        /// Those who get them.
        viewers: Arc<[ConnId]>,
        /// They are what these viewers begin with, or go on with: a whole run since a keyframe, of
        /// which they may have had some already.
        is_backlog: bool,
    },
    /// Send to another shard.
    Mesh {
        /// The shard.
        to: ShardId,
        /// The message.
        message: Message,
        /// It may be lost.
        is_media: bool,
    },
    /// A connection does what connections come for.
    Establish(ConnId),
    /// Close once all is sent.
    Close(ConnId),
    /// Close now.
    Abort(ConnId),
}

/// An answer to an RTMP session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RtmpReply {
    /// It may publish.
    AcceptPublish,
    /// It may not: somebody else does.
    PublishBusy,
    /// It may not: wrong name, password or address.
    PublishDenied,
    /// It has to stop publishing.
    EndPublish,
    /// It is a viewer from here on.
    AcceptPlay,
    /// There is no such stream, or it is not live.
    PlayNotFound,
    /// The stream is over.
    EndPlay,
}

/// An answer to a WebRTC session, or to the request that begins one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RtcReply {
    /// It may publish.
    AcceptPublish,
    /// It may not: somebody else does, or there are too many streams.
    PublishBusy,
    /// It may not, for this reason. It says nothing of what would have been right.
    PublishDenied(String),
    /// It has to stop publishing.
    EndPublish,
    /// Viewers need a keyframe of this track, in the publisher's numbering.
    Keyframe(TrackId),
    /// The tracks that there are to choose from.
    Tracks(Vec<Track>),
    /// There is no such stream, or it is not live.
    NotFound,
    /// These are the tracks that there are from here on. Those of a viewer's that are there no
    /// more, or are of another codec, bring nothing that it can use.
    TracksChanged(Vec<Track>),
    /// The stream is over, or all tracks that the viewer watches.
    EndPlay,
}

/// An answer to an HTTP session.
#[derive(Debug)]
pub enum HttpReply {
    /// A whole response.
    Respond(Response),
    /// The head of a response whose body the exchange sends.
    Stream(Container),
    /// That head alone, in answer to HEAD.
    StreamHead(Container),
    /// A response without a body, and shared bytes that are its body.
    Shared(Response, Pieces),
    /// The head of a response whose body comes in runs, each by [`HttpReply::Run`].
    Begin(Response),
    /// A run of that body.
    Run(Pieces),
    /// The end of that body.
    EndStream,
}

/// What a connection is to the exchange.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Business {
    Publisher(u64),
    Viewer(usize),
    /// A viewer of packets.
    Packets(usize),
    /// Waits for a stream by this name.
    Waiting(StreamName),
    /// Waits for a part or a segment, or is sent one as it is made.
    Segmented(StreamId, Key),
}

/// How a publisher is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Via {
    /// An RTMP session, which sends frames.
    Rtmp,
    /// A WebRTC session, which sends packets, begun by this protocol.
    Rtc(&'static str),
}

impl Via {
    fn protocol(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Rtc(protocol) => protocol,
        }
    }

    fn is_packets(self) -> bool {
        match self {
            Self::Rtmp => false,
            Self::Rtc(_) => true,
        }
    }
}

/// A publisher whose connection is on this shard.
#[derive(Debug)]
struct Publisher {
    conn: ConnId,
    via: Via,
    name: StreamName,
    peer: IpAddr,
    home: Option<Home>,
    /// When it asked to publish.
    since: Instant,
    /// Frames that it has sent.
    frames: u64,
    /// Bytes of them.
    bytes: u64,
    /// When the newest of them came; at first, when it asked to publish.
    heard: Instant,
    /// Tracks that it has announced or changed since `changes_since`.
    changes: u32,
    changes_since: Instant,
}

/// A viewer that waits for its stream, or a request for what is known of one.
#[derive(Debug)]
struct Waiting {
    conn: ConnId,
    want: Want,
    until: Instant,
}

#[derive(Clone, Debug)]
enum Want {
    Play {
        container: Container,
        is_chunked: bool,
        selection: Selection,
    },
    Info {
        as_script: bool,
        host: String,
    },
    Segmented(Box<SegmentRequest>),
    /// The tracks, for an answer to an offer.
    Tracks,
    /// Packets of these tracks.
    Packets(Vec<TrackId>),
}

/// One shard's part of live streams.
#[derive(Debug)]
pub struct Exchange {
    me: ShardId,
    control: ShardId,
    config: Arc<Config>,
    now: Instant,
    unix_ms: i64,
    pool: Pool,
    scratch: Vec<u8>,
    streams: BTreeMap<StreamId, Stream>,
    by_name: BTreeMap<StreamName, StreamId>,
    /// The streams that were released last, whose late messages are not to bring them back.
    released: VecDeque<StreamId>,
    publishers: BTreeMap<u64, Publisher>,
    next_publisher: u64,
    viewers: Slab<Viewer>,
    packet_viewers: Slab<PacketViewer>,
    business: HashMap<ConnId, Business, foldhash::fast::RandomState>,
    waiting: BTreeMap<StreamName, Vec<Waiting>>,
    outputs: VecDeque<Output>,
    merge_window: Duration,
    /// The earliest `due` of all outlets.
    next_due: Option<Instant>,
    is_draining: bool,
    counters: Counters,
    /// Viewers of playlists.
    sessions: Sessions,
    /// Requests that wait for parts and segments.
    waiters: usize,
    /// For session tokens, which protect nothing.
    random: Prng,
}

impl Exchange {
    /// The exchange of shard `me`; the registrar is on shard `control`.
    pub fn new(me: ShardId, control: ShardId, config: Arc<Config>, now: Instant) -> Self {
        let mut exchange = Self {
            me,
            control,
            config,
            now,
            unix_ms: 0,
            pool: Pool::new(SLAB_BYTES),
            scratch: Vec::new(),
            streams: BTreeMap::new(),
            by_name: BTreeMap::new(),
            released: VecDeque::new(),
            publishers: BTreeMap::new(),
            next_publisher: 0,
            viewers: Slab::new(),
            packet_viewers: Slab::new(),
            business: HashMap::default(),
            waiting: BTreeMap::new(),
            outputs: VecDeque::new(),
            merge_window: Duration::ZERO,
            next_due: None,
            is_draining: false,
            counters: Counters::default(),
            sessions: Sessions::default(),
            waiters: 0,
            random: Prng::new(me.0.into()),
        };
        exchange.set_load(0.0);
        exchange
    }

    /// Tells the time of this round, monotonic and by the wall.
    pub fn set_time(&mut self, now: Instant, unix_ms: i64) {
        if self.unix_ms == 0 {
            self.random = Prng::new(unix_ms as u64 ^ (u64::from(self.me.0) << 48));
        }
        self.now = now;
        self.unix_ms = unix_ms;
    }

    /// Tells the share of its CPU that the shard has used lately, 0 to 1.
    pub fn set_load(&mut self, load: f64) {
        let delivery = &self.config.delivery;
        self.merge_window = match delivery.merge {
            Merge::Off => Duration::ZERO,
            Merge::Fixed => delivery.merge_ms_max,
            Merge::Adaptive => {
                let share = ((load - MERGE_FROM) / (MERGE_FULL - MERGE_FROM)).clamp(0.0, 1.0);
                // Half of the way at a time, so that it does not swing.
                let aim = delivery.merge_ms_max.mul_f64(share);
                (self.merge_window + aim) / 2
            }
        };
        if self.merge_window < Duration::from_millis(1) {
            self.merge_window = Duration::ZERO;
        }
    }

    fn stream_bytes_max(&self) -> usize {
        usize::try_from(self.config.limits.stream_bytes_max).unwrap_or(usize::MAX)
    }

    /// Peers that speak for others.
    pub fn trusted_proxies(&self) -> &[IpNet] {
        &self.config.general.trusted_proxies
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// There is something to do.
    pub fn has_outputs(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// When [`Exchange::tick`] has to be called at the latest, apart from once a second.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_due
    }

    /// Streams that are here, viewers and publishers, for the end of a drain.
    pub fn connections(&self) -> usize {
        self.business.len()
    }

    /// A connection is gone, whatever it was.
    pub fn connection_gone(&mut self, conn: ConnId) {
        match self.business.remove(&conn) {
            Some(Business::Publisher(publisher)) => self.publisher_gone(publisher),
            Some(Business::Viewer(key)) => self.remove_viewer(key),
            Some(Business::Packets(key)) => {
                self.remove_packet_viewer(key);
            }
            Some(Business::Segmented(id, key)) => self.segmented_gone(conn, id, &key),
            Some(Business::Waiting(name)) => {
                if let Some(waiting) = self.waiting.get_mut(&name) {
                    waiting.retain(|waiting| waiting.conn != conn);
                    if waiting.is_empty() {
                        self.waiting.remove(&name);
                    }
                }
            }
            None => {}
        }
    }

    /// A message from another shard.
    pub fn message(&mut self, from: ShardId, message: Message) {
        match message {
            Message::Claimed {
                name,
                publisher,
                claimed,
            } => self.claimed(&name, publisher, claimed),
            Message::Replaced { publisher } => self.replaced(publisher),
            Message::Released { stream, is_gone } => self.released(stream, is_gone),
            Message::Located { name, home } => self.located(&name, home),
            Message::Begin {
                stream,
                name,
                publisher,
                turn,
                protocol,
                is_packets,
            } => {
                self.make_home(&name, stream);
                self.begin(stream, turn, (from, publisher), (protocol, is_packets));
            }
            Message::IngestTrack {
                stream,
                publisher,
                track,
            } => self.home_track(stream, (from, publisher), *track),
            Message::Ingest {
                stream,
                publisher,
                number,
                frame,
            } => self.home_frame(stream, (from, publisher), number, frame),
            Message::IngestPackets {
                stream,
                publisher,
                packets,
            } => self.home_packets(stream, (from, publisher), packets),
            Message::KeyframeWanted { stream, track } => self.want_keyframe(stream, track),
            Message::AskKeyframe { publisher, track } => self.ask_publisher(publisher, track),
            Message::End { stream, publisher } => self.end(stream, from, publisher),
            Message::Subscribe { stream, wishes } => self.subscribe(from, stream, wishes),
            Message::Wish { stream, wishes } => self.wish(from, stream, wishes),
            Message::Unsubscribe { stream } => {
                if let Some(home) = self.streams.get_mut(&stream).and_then(Stream::home) {
                    home.mirrors.remove(&from);
                }
            }
            Message::Backlog { stream, backlog } => {
                if let Some(mirror) = self.streams.get_mut(&stream) {
                    for (number, frame, is_entry) in mirror.backlog(self.now, *backlog) {
                        self.mirror_frame(stream, number, &frame, is_entry);
                    }
                    self.backlog_of_packets(stream);
                    self.seat_waiting(stream);
                }
            }
            Message::MirrorTrack { stream, track } => {
                if let Some(mirror) = self.streams.get_mut(&stream)
                    && mirror.set_track((*track).clone())
                {
                    mirror.refresh_outputs(&mut self.pool, &track);
                    self.tell_tracks(stream);
                }
            }
            Message::MirrorRetired { stream, tracks } => {
                if let Some(mirror) = self.streams.get_mut(&stream) {
                    mirror.set_retired(&tracks);
                    mirror.drop_tracks(&mut self.pool, &tracks);
                    self.tell_tracks(stream);
                }
            }
            Message::MirrorFrame {
                stream,
                number,
                frame,
                entry,
            } => self.mirror_frame(stream, number, &frame, entry),
            Message::MirrorBegin {
                stream,
                is_packets,
                next,
            } => {
                if let Some(mirror) = self.streams.get_mut(&stream) {
                    mirror.mirror_begin(is_packets, next);
                }
            }
            Message::MirrorReady { stream } => {
                if let Some(mirror) = self.streams.get_mut(&stream) {
                    mirror.is_ready = true;
                    self.seat_waiting(stream);
                }
            }
            Message::MirrorPackets { stream, packets } => self.mirror_packets(stream, &packets),
            Message::MirrorEnd { stream } => self.remove_stream(stream),
            Message::SubscribeRendition { stream, key } => {
                self.subscribe_rendition(from, stream, key);
            }
            Message::UnsubscribeRendition { stream, key } => {
                self.unsubscribe_rendition(from, stream, &key);
            }
            Message::RenditionBacklog {
                stream,
                key,
                listing,
            } => self.rendition_backlog(stream, &key, listing),
            Message::RenditionUpdate {
                stream,
                key,
                update,
            } => self.take_updates(stream, &key, vec![*update]),
            Message::Config(config) => self.set_config(config),
            Message::Drain => self.drain(),
            Message::StopSessions(filter) => self.stop_sessions(&filter),
            Message::Nuke { name } => self.nuke(&name),
            Message::ClientsRequest { token, each } => {
                let clients = Box::new(self.clients(each));
                self.mesh(from, Message::Clients { token, clients });
            }
            Message::SnapshotRequest { token } => {
                let snapshot = Box::new(self.snapshot());
                self.mesh(from, Message::Snapshot { token, snapshot });
            }
            Message::Rtc(_) => unreachable!("the door takes these"),
            Message::Claim { .. }
            | Message::Unclaim { .. }
            | Message::Release { .. }
            | Message::Locate { .. }
            | Message::Clients { .. }
            | Message::Snapshot { .. } => {
                unreachable!("only the control shard is sent these");
            }
        }
    }

    /// Once in a while, at most a second: ends what has waited long enough. `taken` says how many
    /// bytes a connection's peer has taken so far.
    pub fn sweep(&mut self, taken: impl Fn(ConnId) -> u64) {
        self.sweep_waiting();
        self.sweep_viewers(taken);
        self.sweep_publishers();
        self.sweep_streams();
        self.sweep_packets();
        self.sweep_renditions();
    }

    fn sweep_streams(&mut self) {
        let now = self.now;
        let mut releases = Vec::new();
        let mut unsubscribes = Vec::new();
        let mut ready = Vec::new();
        let mut retired = Vec::new();
        for stream in self.streams.values_mut() {
            stream.drop_idle_outputs(now);
            let tracks = stream.retire(now);
            if !tracks.is_empty() {
                stream.drop_tracks(&mut self.pool, &tracks);
                retired.push((stream.id, tracks));
            }
            if stream.ready_at().is_some_and(|at| at <= now) {
                ready.push(stream.id);
            }
            let linger = stream
                .name
                .settings(&self.config)
                .map_or(Duration::ZERO, linger);
            let viewers = stream.viewers();
            match &mut stream.role {
                Role::Home(home) => {
                    if home.alone_since.is_some_and(|since| now >= since + linger)
                        && !home.is_releasing
                    {
                        home.is_releasing = true;
                        releases.push((stream.name.clone(), stream.id));
                    }
                }
                Role::Mirror(mirror) => {
                    if viewers > 0
                        || self.waiting.contains_key(&stream.name)
                        || !stream.renditions.is_empty()
                    {
                        mirror.idle_since = None;
                    } else if now >= *mirror.idle_since.get_or_insert(now) + MIRROR_LINGER {
                        unsubscribes.push((mirror.home, stream.id));
                    }
                }
            }
        }
        for (id, tracks) in retired {
            self.tell_tracks(id);
            self.tell_mirrors(id, |stream| Message::MirrorRetired {
                stream,
                tracks: tracks.clone(),
            });
        }
        for (name, stream) in releases {
            self.mesh(self.control, Message::Release { name, stream });
        }
        for (home, stream) in unsubscribes {
            self.mesh(home.shard, Message::Unsubscribe { stream });
            self.remove_stream(stream);
        }
        for stream in ready {
            self.seat_waiting(stream);
        }
    }

    /// What is here.
    pub fn snapshot(&mut self) -> ShardSnapshot {
        let mut viewers = [0; Container::ALL.len()];
        for (_, viewer) in &self.viewers {
            viewers[viewer.container as usize] += 1;
        }
        viewers[Container::WebRtc as usize] = self.packet_viewers.len() as u64;
        let mut snapshot = ShardSnapshot {
            shard: self.me,
            others: Vec::new(),
            counters: self.counters,
            viewers,
            publishers: self.publishers.len() as u64,
            waiting: self
                .waiting
                .values()
                .map(|waiting| waiting.len() as u64)
                .sum(),
            sessions: self.sessions.iter().cloned().collect(),
            sessions_total: self.sessions.total,
            segment_waiters: self.waiters as u64,
            merge_window_ms: self.merge_window.as_millis() as u64,
            slabs_in_use: self.pool.in_use() as u64,
            slabs: self.pool.blocks() as u64,
            streams: self.streams.values().map(Stream::snapshot).collect(),
            rtc: Default::default(),
            engine: crate::metrics::Engine::default(),
        };
        self.add_view_seconds(&mut snapshot);
        snapshot
    }

    /// The stream is over: its viewers are told, and it is forgotten.
    fn remove_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        if self.by_name.get(&stream.name) == Some(&id) {
            self.by_name.remove(&stream.name);
        }
        for (_, outlet) in &stream.outlets {
            for key in &outlet.viewers {
                let viewer = self.viewers.remove(*key);
                self.business.remove(&viewer.conn);
                end_viewer(&viewer, &mut self.outputs);
            }
        }
        for key in &stream.packets.viewers {
            let viewer = self.packet_viewers.remove(*key);
            self.business.remove(&viewer.conn);
            self.rtc(viewer.conn, RtcReply::EndPlay);
        }
        for mut rendition in stream.renditions.into_values() {
            self.dismiss(&mut rendition);
        }
        // Who waited for it waits for its next life.
        if self.waiting.contains_key(&stream.name) {
            let name = stream.name;
            self.mesh(self.control, Message::Locate { name });
        }
    }

    fn set_config(&mut self, config: Arc<Config>) {
        self.config = config;
        self.set_load(0.0);
        let mut unwanted = Vec::new();
        for stream in self.streams.values_mut() {
            match stream.name.settings(&self.config) {
                Some(settings) => {
                    stream.set_window(settings.window);
                    stream.cutter.set_length(settings.segment);
                }
                None => unwanted.push(stream.id),
            }
        }
        // Of streams at home elsewhere as well, of which nothing else may be here.
        let unwelcome: Vec<ConnId> = self
            .publishers
            .values()
            .filter(|publisher| publisher.name.settings(&self.config).is_none())
            .map(|publisher| publisher.conn)
            .collect();
        for conn in unwelcome {
            self.end_publisher(conn);
        }
        for id in unwanted {
            // The registrar hears of it by the release that follows the publisher's end; viewers
            // need not wait for that.
            if self
                .streams
                .get(&id)
                .is_some_and(|stream| stream.viewers() > 0)
            {
                self.dismiss_viewers(id);
            }
            self.dismiss_segmented(id);
        }
        let config = Arc::clone(&self.config);
        self.give_up_waiting(|name| name.settings(&config).is_none());
    }

    /// Lets everybody go.
    fn drain(&mut self) {
        self.is_draining = true;
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            self.dismiss_viewers(id);
            self.dismiss_segmented(id);
        }
        let publishers: Vec<ConnId> = self
            .publishers
            .values()
            .map(|publisher| publisher.conn)
            .collect();
        for conn in publishers {
            self.end_publisher(conn);
        }
        self.give_up_waiting(|_| true);
    }

    /// Nobody waits for these streams any more.
    fn give_up_waiting(&mut self, which: impl Fn(&StreamName) -> bool) {
        let names: Vec<StreamName> = self.waiting.keys().filter(|n| which(n)).cloned().collect();
        for name in names {
            for waiting in self.waiting.remove(&name).unwrap_or_default() {
                self.business.remove(&waiting.conn);
                self.give_up(waiting.conn, &name, &waiting.want);
            }
        }
    }

    fn rtmp(&mut self, conn: ConnId, reply: RtmpReply) {
        self.outputs.push_back(Output::Rtmp(conn, reply));
    }

    fn mesh(&mut self, to: ShardId, message: Message) {
        self.outputs.push_back(Output::Mesh {
            to,
            message,
            is_media: false,
        });
    }

    fn media(to: ShardId, message: Message) -> Output {
        Output::Mesh {
            to,
            message,
            is_media: true,
        }
    }
}

/// How long viewers are kept when their publisher is gone.
fn linger(settings: &Settings) -> Duration {
    if settings.resume {
        settings.window.max(RECONNECT)
    } else {
        RECONNECT
    }
}
