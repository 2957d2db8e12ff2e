//! One shard's streams, publishers and viewers. Pure: requests, media and messages come in,
//! [`Output`]s go out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;

use crate::base::ids::{ConnId, ShardId, StreamId};
use crate::config::{Config, Delivery, Merge, Stream as Settings};
use crate::hub::{Claimed, Home, Pieces};
use crate::media::buffer::Pool;
use crate::media::{Frame, Track};
use crate::proto::http::{Method, Request, Response};
use crate::streams::access::{self, PublishRequest};
use crate::streams::info;
use crate::streams::message::Message;
use crate::streams::name::StreamName;
use crate::streams::output::{Choice, Container, Selection};
use crate::streams::page;
use crate::streams::request::Target;
use crate::streams::snapshot::{Counters, ShardSnapshot};
use crate::streams::stream::{Ingested, Mirrored, Outlet, Role, Stream, Viewer};

/// Size of the slabs that muxed bytes are kept in. A frame of 2 Mbit/s video has about 8 kB.
const SLAB_BYTES: usize = 64 * 1024;

/// The most that is handed over for one viewer at once. It is what a slow viewer can hold on to
/// beyond the log itself; the kernel's socket buffer takes up to 4 MB by default.
const RUN_BYTES_MAX: u64 = 256 * 1024;

/// How long a viewer waits for a stream that is configured and not live, as in MistServer.
const WAIT_FOR_STREAM: Duration = Duration::from_secs(5);

/// How long a publisher may take to come back before its viewers are let go, unless the stream's
/// `resume` gives it the whole window. An encoder that was restarted by hand is back in less.
const RECONNECT: Duration = Duration::from_secs(10);

/// How long a mirror without viewers is kept up.
const MIRROR_LINGER: Duration = Duration::from_secs(5);

/// Tracks that a publisher may announce or change in a second: twice as many as it may have.
const TRACK_CHANGES_PER_S_MAX: u32 = 64;

/// Viewers of one shard that may wait for streams.
const WAITING_MAX: usize = 10_000;

/// Streams whose release is remembered. What comes late was under way for milliseconds.
const RELEASED_MAX: usize = 64;

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
    /// Send to another shard.
    Mesh {
        /// The shard.
        to: ShardId,
        /// The message.
        message: Message,
        /// It may be lost.
        is_media: bool,
    },
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

/// An answer to an HTTP session.
#[derive(Debug)]
pub enum HttpReply {
    /// A whole response.
    Respond(Response),
    /// The head of a response whose body the exchange sends.
    Stream(Container),
    /// The end of that body.
    EndStream,
}

/// What a connection is to the exchange.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Business {
    Publisher(u64),
    Viewer(usize),
    /// Waits for a stream by this name.
    Waiting(StreamName),
}

/// A publisher whose connection is on this shard.
#[derive(Debug)]
struct Publisher {
    conn: ConnId,
    name: StreamName,
    home: Option<Home>,
    /// Frames that it has sent.
    frames: u64,
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
    business: HashMap<ConnId, Business, foldhash::fast::RandomState>,
    waiting: BTreeMap<StreamName, Vec<Waiting>>,
    outputs: VecDeque<Output>,
    merge_window: Duration,
    /// The earliest `due` of all outlets.
    next_due: Option<Instant>,
    is_draining: bool,
    counters: Counters,
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
            business: HashMap::default(),
            waiting: BTreeMap::new(),
            outputs: VecDeque::new(),
            merge_window: Duration::ZERO,
            next_due: None,
            is_draining: false,
            counters: Counters::default(),
        };
        exchange.set_load(0.0);
        exchange
    }

    /// Tells the time of this round, monotonic and by the wall.
    pub fn set_time(&mut self, now: Instant, unix_ms: i64) {
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

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Exchange::tick`] has to be called at the latest, apart from once a second.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_due
    }

    /// Streams that are here, viewers and publishers, for the end of a drain.
    pub fn connections(&self) -> usize {
        self.business.len()
    }

    // ----- publishers

    /// An RTMP session wants to publish.
    pub fn rtmp_publish(&mut self, conn: ConnId, request: &PublishRequest<'_>) {
        let permitted = if self.is_draining {
            None
        } else {
            match access::may_publish(&self.config, request) {
                Ok(name) => Some(name),
                Err(denied) => {
                    tracing::info!(reason = %denied, "a publisher is refused");
                    None
                }
            }
        };
        let Some(name) = permitted else {
            self.counters.publish_refused += 1;
            self.rtmp(conn, RtmpReply::PublishDenied);
            return;
        };
        let takeover = name
            .settings(&self.config)
            .is_some_and(|settings| settings.takeover);
        let publisher = self.next_publisher;
        self.next_publisher += 1;
        self.business.insert(conn, Business::Publisher(publisher));
        self.publishers.insert(
            publisher,
            Publisher {
                conn,
                name: name.clone(),
                home: None,
                frames: 0,
                heard: self.now,
                changes: 0,
                changes_since: self.now,
            },
        );
        self.mesh(
            self.control,
            Message::Claim {
                name,
                publisher,
                takeover,
            },
        );
    }

    /// A publisher announced or changed a track.
    pub fn publisher_track(&mut self, conn: ConnId, track: Track) {
        let Some((publisher, home)) = self.publication_of(conn) else {
            return;
        };
        if self.changes_too_often(publisher) {
            tracing::info!("a publisher changes its tracks too often and is ended");
            self.counters.bad_media += 1;
            self.end_publisher(conn);
            return;
        }
        if home.shard == self.me {
            self.home_track(home.stream, (self.me, publisher), track);
        } else {
            self.mesh(
                home.shard,
                Message::IngestTrack {
                    stream: home.stream,
                    publisher,
                    track: Box::new(track),
                },
            );
        }
    }

    /// A change of a track is told to all shards and viewers, so it has a bound of its own.
    fn changes_too_often(&mut self, publisher: u64) -> bool {
        let Some(entry) = self.publishers.get_mut(&publisher) else {
            return false;
        };
        if self.now >= entry.changes_since + Duration::from_secs(1) {
            entry.changes_since = self.now;
            entry.changes = 0;
        }
        entry.changes += 1;
        entry.changes > TRACK_CHANGES_PER_S_MAX
    }

    /// Ends a publisher from this side.
    fn end_publisher(&mut self, conn: ConnId) {
        self.connection_gone(conn);
        self.rtmp(conn, RtmpReply::EndPublish);
    }

    /// A publisher sent a frame.
    pub fn publisher_frame(&mut self, conn: ConnId, frame: Frame) {
        let Some((publisher, home)) = self.publication_of(conn) else {
            return;
        };
        let Some(entry) = self.publishers.get_mut(&publisher) else {
            return;
        };
        let number = entry.frames;
        entry.frames += 1;
        entry.heard = self.now;
        self.counters.frames_in += 1;
        self.counters.bytes_in += frame.data.len() as u64;
        if home.shard == self.me {
            self.home_frame(home.stream, (self.me, publisher), number, frame);
        } else {
            self.outputs.push_back(Self::media(
                home.shard,
                Message::Ingest {
                    stream: home.stream,
                    publisher,
                    number,
                    frame,
                },
            ));
        }
    }

    /// A publisher's tag could not be read.
    pub fn bad_media(&mut self) {
        self.counters.bad_media += 1;
    }

    /// A publisher stopped; its connection may go on.
    pub fn publisher_ended(&mut self, conn: ConnId) {
        if matches!(self.business.get(&conn), Some(Business::Publisher(_))) {
            self.connection_gone(conn);
        }
    }

    // ----- viewers

    /// An RTMP session wants to play.
    pub fn rtmp_play(&mut self, conn: ConnId, name: &str) {
        if let Some(name) = self.playable(name) {
            self.want(
                conn,
                name,
                Want::Play {
                    container: Container::Rtmp,
                    is_chunked: false,
                    selection: Selection::default(),
                },
            );
        } else {
            self.counters.play_refused += 1;
            self.rtmp(conn, RtmpReply::PlayNotFound);
        }
    }

    /// A viewer stopped; its connection may go on.
    pub fn viewer_ended(&mut self, conn: ConnId) {
        if !matches!(self.business.get(&conn), Some(Business::Publisher(_))) {
            self.connection_gone(conn);
        }
    }

    /// A viewer paused or goes on; it goes on at the newest keyframe that it has not seen.
    pub fn viewer_paused(&mut self, conn: ConnId, is_paused: bool) {
        let Some(Business::Viewer(key)) = self.business.get(&conn) else {
            return;
        };
        let viewer = &mut self.viewers[*key];
        viewer.is_paused = is_paused;
        viewer.seeks = true;
        if viewer.is_idle {
            self.drained(conn);
        }
    }

    /// A request arrived on the streams' HTTP port.
    pub fn http_request(&mut self, conn: ConnId, request: &Request) {
        let is_head = match request.method {
            Method::Get => false,
            Method::Head => true,
            Method::Options => {
                self.respond(conn, Response::new(204).with_cors());
                return;
            }
            Method::Post | Method::Put | Method::Delete | Method::Patch => {
                let response = Response::text(405, "Only GET, HEAD and OPTIONS are answered here.")
                    .with_header("Allow", "GET, HEAD, OPTIONS");
                self.respond(conn, response.with_cors());
                return;
            }
        };
        match Target::of(&request.path) {
            Target::Index => self.respond(conn, html(page::INDEX)),
            Target::Page(name) => {
                self.respond(conn, html(page::player(&name, self.offline_text())))
            }
            Target::Info { name, as_script } => {
                let want = Want::Info {
                    as_script,
                    host: request.host().to_owned(),
                };
                if name.settings(&self.config).is_some() {
                    self.want(conn, name, want);
                } else {
                    self.respond(conn, info_response(&name, as_script, &unavailable()));
                }
            }
            Target::Media { name, container } => {
                self.http_media(conn, request, name, container, is_head);
            }
            Target::Unknown => {
                self.respond(
                    conn,
                    Response::text(404, "There is nothing by this name.").with_cors(),
                );
            }
        }
    }

    fn offline_text(&self) -> &str {
        self.config
            .protocols
            .http
            .first()
            .map_or("", |http| &http.no_stream_text)
    }

    /// Whether a container's connector is on.
    fn is_served(&self, container: Container) -> bool {
        let protocols = &self.config.protocols;
        match container {
            Container::Rtmp => true, // Its port would be closed.
            Container::Flv => protocols.flv,
            Container::Ts => protocols.ts,
            Container::Mp4 => protocols.mp4,
        }
    }

    fn http_media(
        &mut self,
        conn: ConnId,
        request: &Request,
        name: StreamName,
        container: Container,
        is_head: bool,
    ) {
        let choice = |parameter| {
            request
                .parameter(parameter)
                .map_or(Some(Choice::First), |text| Choice::parse(&text))
        };
        let (Some(video), Some(audio)) = (choice("video"), choice("audio")) else {
            let text = "video= and audio= take none, all, a track number or a codec's name.";
            self.respond(conn, Response::text(400, text).with_cors());
            return;
        };
        let is_offered = name.settings(&self.config).is_some() && self.is_served(container);
        if !is_offered || self.is_draining {
            self.counters.play_refused += 1;
            self.respond(conn, not_found());
            return;
        }
        if is_head {
            let response = Response::new(200).with_header("Content-Type", container.media_type());
            self.respond(conn, response.with_cors());
            return;
        }
        let want = Want::Play {
            container,
            is_chunked: request.takes_chunks(),
            selection: Selection { video, audio },
        };
        self.want(conn, name, want);
    }

    /// All that was handed over for a viewer is sent.
    pub fn drained(&mut self, conn: ConnId) {
        let Some(Business::Viewer(key)) = self.business.get(&conn) else {
            return;
        };
        let viewer = &mut self.viewers[*key];
        viewer.is_idle = true;
        let Some(stream) = self.streams.get_mut(&viewer.stream) else {
            return;
        };
        let outlet = &stream.outlets[viewer.outlet];
        let behind = viewer
            .position
            .is_none_or(|position| position < outlet.released);
        if behind {
            let delivery = &self.config.delivery;
            let handed = deliver(viewer, outlet, delivery, None, &mut None, &mut self.outputs);
            handed.count(stream, &mut self.counters);
        }
    }

    /// A connection is gone, whatever it was.
    pub fn connection_gone(&mut self, conn: ConnId) {
        match self.business.remove(&conn) {
            Some(Business::Publisher(publisher)) => self.publisher_gone(publisher),
            Some(Business::Viewer(key)) => self.remove_viewer(key),
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

    // ----- the mesh

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
            } => {
                self.make_home(&name, stream);
                self.begin(stream, turn, (from, publisher), protocol);
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
            Message::End { stream, publisher } => self.end(stream, from, publisher),
            Message::Subscribe { stream } => self.subscribe(from, stream),
            Message::Unsubscribe { stream } => {
                if let Some(home) = self.streams.get_mut(&stream).and_then(Stream::home) {
                    home.mirrors.remove(&from);
                }
            }
            Message::Backlog { stream, backlog } => {
                if let Some(mirror) = self.streams.get_mut(&stream) {
                    mirror.backlog(self.now, *backlog);
                    self.seat_waiting(stream);
                }
            }
            Message::MirrorTrack { stream, track } => {
                if let Some(mirror) = self.streams.get_mut(&stream)
                    && mirror.set_track((*track).clone())
                {
                    mirror.refresh_outputs(&mut self.pool, &track);
                }
            }
            Message::MirrorFrame {
                stream,
                number,
                frame,
                entry,
            } => self.mirror_frame(stream, number, &frame, entry),
            Message::MirrorEnd { stream } => self.remove_stream(stream),
            Message::Config(config) => self.set_config(config),
            Message::Drain => self.drain(),
            Message::SnapshotRequest { token } => {
                let snapshot = Box::new(self.snapshot());
                self.mesh(from, Message::Snapshot { token, snapshot });
            }
            Message::Claim { .. }
            | Message::Unclaim { .. }
            | Message::Release { .. }
            | Message::Locate { .. }
            | Message::Snapshot { .. } => {
                unreachable!("only the control shard is sent these");
            }
        }
    }

    // ----- time

    /// Releases what has been gathered long enough.
    pub fn tick(&mut self) {
        let now = self.now;
        if self.next_due.is_none_or(|next| next > now) {
            return;
        }
        let config = Arc::clone(&self.config);
        let delivery = &config.delivery;
        self.next_due = None;
        for stream in self.streams.values_mut() {
            let due: Vec<usize> = stream
                .outlets
                .iter()
                .filter(|(_, outlet)| outlet.due.is_some_and(|due| due <= now))
                .map(|(key, _)| key)
                .collect();
            for key in due {
                release(
                    stream,
                    key,
                    &mut self.viewers,
                    delivery,
                    &mut self.outputs,
                    &mut self.counters,
                );
            }
            let later = stream.outlets.iter().filter_map(|(_, outlet)| outlet.due);
            self.next_due = self.next_due.into_iter().chain(later).min();
        }
    }

    /// Once in a while, at most a second: ends what has waited long enough. `taken` says how many
    /// bytes a connection's peer has taken so far.
    pub fn sweep(&mut self, taken: impl Fn(ConnId) -> u64) {
        self.sweep_waiting();
        self.sweep_viewers(taken);
        self.sweep_publishers();
        self.sweep_streams();
    }

    /// Ends publishers that have been silent for longer than their stream allows.
    fn sweep_publishers(&mut self) {
        let silent: Vec<ConnId> = self
            .publishers
            .values()
            .filter(|publisher| {
                publisher
                    .name
                    .settings(&self.config)
                    .is_some_and(|settings| self.now >= publisher.heard + settings.input_timeout)
            })
            .map(|publisher| publisher.conn)
            .collect();
        for conn in silent {
            tracing::info!("a publisher has sent nothing for too long");
            self.end_publisher(conn);
        }
    }

    fn sweep_waiting(&mut self) {
        let now = self.now;
        let mut late = Vec::new();
        for waiting in self.waiting.values_mut() {
            waiting.retain(|waiting| {
                let stays = waiting.until > now;
                if !stays {
                    late.push((waiting.conn, waiting.want.clone()));
                }
                stays
            });
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        for (conn, want) in late {
            if let Some(Business::Waiting(name)) = self.business.remove(&conn) {
                self.give_up(conn, &name, &want);
            }
        }
    }

    fn sweep_viewers(&mut self, taken: impl Fn(ConnId) -> u64) {
        let now = self.now;
        let stall = self.config.delivery.viewer_stall_ms;
        let mut stalled = Vec::new();
        for (_, viewer) in &mut self.viewers {
            let taken = taken(viewer.conn);
            if viewer.is_idle || taken != viewer.taken {
                viewer.taken = taken;
                viewer.taken_at = now;
            } else if now >= viewer.taken_at + stall {
                stalled.push(viewer.conn);
            }
        }
        for conn in stalled {
            tracing::debug!(?conn, "a viewer took nothing for too long");
            self.counters.stalled += 1;
            self.connection_gone(conn);
            self.outputs.push_back(Output::Abort(conn));
        }
    }

    fn sweep_streams(&mut self) {
        let now = self.now;
        let mut releases = Vec::new();
        let mut unsubscribes = Vec::new();
        let mut ready = Vec::new();
        for stream in self.streams.values_mut() {
            stream.drop_idle_outputs(now);
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
                    if viewers > 0 || self.waiting.contains_key(&stream.name) {
                        mirror.idle_since = None;
                    } else if now >= *mirror.idle_since.get_or_insert(now) + MIRROR_LINGER {
                        unsubscribes.push((mirror.home, stream.id));
                    }
                }
            }
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
        ShardSnapshot {
            shard: self.me,
            counters: self.counters,
            viewers,
            publishers: self.publishers.len() as u64,
            waiting: self
                .waiting
                .values()
                .map(|waiting| waiting.len() as u64)
                .sum(),
            merge_window_ms: self.merge_window.as_millis() as u64,
            slabs_in_use: self.pool.in_use() as u64,
            slabs: self.pool.blocks() as u64,
            streams: self.streams.values().map(Stream::snapshot).collect(),
            engine: crate::metrics::Engine::default(),
        }
    }

    // ----- publishers, inside

    fn publication_of(&self, conn: ConnId) -> Option<(u64, Home)> {
        let Some(Business::Publisher(publisher)) = self.business.get(&conn) else {
            return None;
        };
        let home = self.publishers.get(publisher)?.home?;
        Some((*publisher, home))
    }

    fn claimed(&mut self, name: &StreamName, publisher: u64, claimed: Claimed) {
        if let Claimed::Granted { home, .. } = claimed
            && home.shard == self.me
        {
            // Also for a publisher that has gone since: the name stays taken until its home
            // releases it.
            self.make_home(name, home.stream);
        }
        let Some(entry) = self.publishers.get_mut(&publisher) else {
            return; // It has said so to the registrar.
        };
        let conn = entry.conn;
        match claimed {
            Claimed::Granted {
                home,
                turn,
                resumed,
                ..
            } => {
                entry.home = Some(home);
                self.counters.publishers_total += 1;
                tracing::info!(stream = %name, resumed, "a publisher begins");
                if home.shard == self.me {
                    self.begin(home.stream, turn, (self.me, publisher), "rtmp");
                } else {
                    self.mesh(
                        home.shard,
                        Message::Begin {
                            stream: home.stream,
                            name: name.clone(),
                            publisher,
                            turn,
                            protocol: "rtmp",
                        },
                    );
                }
                self.rtmp(conn, RtmpReply::AcceptPublish);
            }
            Claimed::Busy | Claimed::Full => {
                tracing::info!(stream = %name, "a second publisher is refused");
                self.counters.publish_refused += 1;
                self.publishers.remove(&publisher);
                self.business.remove(&conn);
                self.rtmp(conn, RtmpReply::PublishBusy);
            }
        }
    }

    fn replaced(&mut self, publisher: u64) {
        if let Some(entry) = self.publishers.get(&publisher) {
            let conn = entry.conn;
            tracing::info!(stream = %entry.name, "a publisher is replaced");
            self.connection_gone(conn);
            self.rtmp(conn, RtmpReply::EndPublish);
        }
    }

    fn publisher_gone(&mut self, publisher: u64) {
        let Some(entry) = self.publishers.remove(&publisher) else {
            return;
        };
        if let Some(home) = entry.home {
            tracing::info!(stream = %entry.name, "a publisher is gone");
            if home.shard == self.me {
                self.end(home.stream, self.me, publisher);
            } else {
                self.mesh(
                    home.shard,
                    Message::End {
                        stream: home.stream,
                        publisher,
                    },
                );
            }
        }
        self.mesh(
            self.control,
            Message::Unclaim {
                name: entry.name,
                publisher,
            },
        );
    }

    // ----- streams at home, inside

    /// Makes a stream at home here, unless it is there or has been released: a publisher on
    /// another shard may say that it begins before the registrar's answer to the first publisher
    /// has arrived, or long after.
    fn make_home(&mut self, name: &StreamName, id: StreamId) {
        if self.streams.contains_key(&id) || self.released.contains(&id) {
            return;
        }
        let window = name
            .settings(&self.config)
            .map_or(Duration::ZERO, |settings| settings.window);
        let bytes_max = self.stream_bytes_max();
        self.by_name.insert(name.clone(), id);
        self.streams.insert(
            id,
            Stream::at_home(name.clone(), id, self.now, window, bytes_max),
        );
    }

    fn begin(
        &mut self,
        stream: StreamId,
        turn: u64,
        publisher: (ShardId, u64),
        protocol: &'static str,
    ) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.begin(turn, publisher, protocol);
        }
    }

    fn end(&mut self, stream: StreamId, shard: ShardId, publisher: u64) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.end(self.now, shard, publisher);
        }
    }

    fn home_track(&mut self, id: StreamId, publisher: (ShardId, u64), track: Track) {
        let tracks_max = self.config.limits.tracks_max as usize;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(track) = stream.ingest_track(publisher, track, tracks_max) else {
            return;
        };
        self.track_changed(id, &track);
    }

    /// Tells viewers and mirrors of a track that is new or has changed.
    fn track_changed(&mut self, id: StreamId, track: &Track) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.refresh_outputs(&mut self.pool, track);
        let Role::Home(home) = &stream.role else {
            return;
        };
        for mirror in home.mirrors.clone() {
            let track = Box::new(track.clone());
            self.mesh(mirror, Message::MirrorTrack { stream: id, track });
        }
    }

    fn home_frame(&mut self, id: StreamId, publisher: (ShardId, u64), number: u64, frame: Frame) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match stream.ingest(self.now, self.unix_ms, publisher, number, frame) {
            Ingested::Frame {
                frame,
                is_entry,
                number,
                is_retimed,
                lost,
                learned,
            } => {
                self.counters.mirror_lost += lost;
                if let Some(track) = learned {
                    self.track_changed(id, &track);
                }
                let Some(stream) = self.streams.get_mut(&id) else {
                    return;
                };
                self.counters.retimed += u64::from(is_retimed);
                if let Role::Home(home) = &stream.role {
                    for mirror in &home.mirrors {
                        self.outputs.push_back(Self::media(
                            *mirror,
                            Message::MirrorFrame {
                                stream: id,
                                number,
                                frame: frame.clone(),
                                entry: is_entry,
                            },
                        ));
                    }
                }
                self.show(id, &frame);
            }
            Ingested::Broken { lost } => self.counters.mirror_lost += lost + 1,
            Ingested::Unknown => self.counters.bad_media += 1,
        }
    }

    fn subscribe(&mut self, from: ShardId, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            self.mesh(from, Message::MirrorEnd { stream: id });
            return;
        };
        if let Some(home) = stream.home() {
            home.mirrors.insert(from);
        }
        let backlog = Box::new(stream.to_backlog());
        self.mesh(
            from,
            Message::Backlog {
                stream: id,
                backlog,
            },
        );
    }

    fn released(&mut self, id: StreamId, is_gone: bool) {
        if is_gone {
            if let Some(home) = self.streams.get_mut(&id).and_then(Stream::home) {
                for mirror in std::mem::take(&mut home.mirrors) {
                    self.mesh(mirror, Message::MirrorEnd { stream: id });
                }
            }
            self.remove_stream(id);
            if self.released.len() == RELEASED_MAX {
                self.released.pop_front();
            }
            self.released.push_back(id);
        } else if let Some(home) = self.streams.get_mut(&id).and_then(Stream::home) {
            home.is_releasing = false;
        }
    }

    // ----- mirrors and viewers, inside

    fn mirror_frame(&mut self, id: StreamId, number: u64, frame: &Frame, is_entry: bool) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match stream.mirror_frame(self.now, number, frame, is_entry) {
            Mirrored::Shown { lost } => {
                self.counters.mirror_lost += lost;
                self.show(id, frame);
            }
            Mirrored::Broken { lost } => self.counters.mirror_lost += lost + 1,
            Mirrored::Useless => {}
        }
    }

    /// Muxes a frame for all outputs, and sends it to their viewers now or when it is due.
    fn show(&mut self, id: StreamId, frame: &Frame) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let config = Arc::clone(&self.config);
        let delivery = &config.delivery;
        let keys: smallvec::SmallVec<[usize; 8]> =
            stream.outlets.iter().map(|(key, _)| key).collect();
        for key in keys {
            let outlet = &mut stream.outlets[key];
            if !outlet.write(&mut self.pool, frame, &mut self.scratch) {
                continue;
            }
            outlet.trim(delivery);
            if self.merge_window == Duration::ZERO {
                release(
                    stream,
                    key,
                    &mut self.viewers,
                    delivery,
                    &mut self.outputs,
                    &mut self.counters,
                );
            } else {
                let due = *outlet.due.get_or_insert(self.now + self.merge_window);
                self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
            }
        }
        if self.waiting.contains_key(&stream.name) {
            self.seat_waiting(id);
        }
    }

    /// The name of a stream that may be played, by MistServer's rules.
    fn playable(&self, name: &str) -> Option<StreamName> {
        let name = StreamName::parse(name).ok()?;
        (!self.is_draining && name.settings(&self.config).is_some()).then_some(name)
    }

    fn want(&mut self, conn: ConnId, name: StreamName, want: Want) {
        let waiting: usize = self.waiting.values().map(Vec::len).sum();
        if waiting >= WAITING_MAX || self.business.contains_key(&conn) {
            self.give_up(conn, &name, &want);
            return;
        }
        self.business.insert(conn, Business::Waiting(name.clone()));
        self.waiting.entry(name.clone()).or_default().push(Waiting {
            conn,
            want,
            until: self.now + WAIT_FOR_STREAM,
        });
        if let Some(id) = self.by_name.get(&name) {
            self.seat_waiting(*id);
        } else {
            self.mesh(self.control, Message::Locate { name });
        }
    }

    fn located(&mut self, name: &StreamName, home: Option<Home>) {
        let Some(home) = home else {
            // Viewers wait for the stream; whoever asks what it is like does not.
            self.answer_offline(name);
            return;
        };
        if home.shard == self.me || self.streams.contains_key(&home.stream) {
            self.seat_waiting(home.stream);
            return;
        }
        if !self.waiting.contains_key(name) {
            return;
        }
        let bytes_max = self.stream_bytes_max();
        self.by_name.insert(name.clone(), home.stream);
        self.streams
            .insert(home.stream, Stream::mirror(name.clone(), home, bytes_max));
        self.mesh(
            home.shard,
            Message::Subscribe {
                stream: home.stream,
            },
        );
    }

    fn answer_offline(&mut self, name: &StreamName) {
        let Some(waiting) = self.waiting.get_mut(name) else {
            return;
        };
        let mut asking = Vec::new();
        waiting.retain(|waiting| match waiting.want {
            Want::Info { .. } => {
                asking.push((waiting.conn, waiting.want.clone()));
                false
            }
            Want::Play { .. } => true,
        });
        if waiting.is_empty() {
            self.waiting.remove(name);
        }
        for (conn, want) in asking {
            self.business.remove(&conn);
            self.give_up(conn, name, &want);
        }
    }

    /// Serves those that wait for a stream, if it is ready.
    fn seat_waiting(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !self.waiting.contains_key(&stream.name) || !stream.is_ready(self.now) {
            return;
        }
        let name = stream.name.clone();
        for waiting in self.waiting.remove(&name).unwrap_or_default() {
            self.business.remove(&waiting.conn);
            match waiting.want {
                Want::Info { as_script, host } => {
                    self.answer_info(waiting.conn, id, as_script, &host)
                }
                Want::Play {
                    container,
                    is_chunked,
                    ref selection,
                } => {
                    if !self.seat(waiting.conn, id, container, is_chunked, selection) {
                        self.give_up(waiting.conn, &name, &waiting.want);
                    }
                }
            }
        }
    }

    /// Makes a connection a viewer. False if the stream has too many outputs, or none of its
    /// tracks is left.
    fn seat(
        &mut self,
        conn: ConnId,
        id: StreamId,
        container: Container,
        is_chunked: bool,
        selection: &Selection,
    ) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        if selection.of(&stream.tracks, container).is_empty() {
            return false;
        }
        let Some(key) = stream.outlet(&mut self.pool, container, is_chunked, selection) else {
            return false;
        };
        let outlet = &mut stream.outlets[key];
        outlet.empty_since = None;
        let viewer = self.viewers.insert(Viewer {
            conn,
            stream: id,
            outlet: key,
            container,
            position: None,
            is_idle: false,
            is_paused: false,
            seeks: false,
            taken: 0,
            taken_at: self.now,
        });
        outlet.viewers.push(viewer);
        self.business.insert(conn, Business::Viewer(viewer));
        self.counters.viewers_total += 1;
        match container {
            Container::Rtmp => self.rtmp(conn, RtmpReply::AcceptPlay),
            Container::Flv | Container::Ts | Container::Mp4 => {
                self.http(conn, HttpReply::Stream(container));
            }
        }
        true
    }

    fn answer_info(&mut self, conn: ConnId, id: StreamId, as_script: bool, host: &str) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let (window, keep_away) = stream
            .name
            .settings(&self.config)
            .map_or((Duration::ZERO, Duration::ZERO), |settings| {
                (settings.window, settings.keep_away)
            });
        let addresses = info::Addresses::of(&self.config.protocols, host);
        let json = info::json(Ok(&stream.info(window, keep_away)), &addresses);
        let response = info_response(&stream.name, as_script, &json);
        self.respond(conn, response);
    }

    fn give_up(&mut self, conn: ConnId, name: &StreamName, want: &Want) {
        match want {
            Want::Play { container, .. } => {
                self.counters.play_refused += 1;
                match container {
                    Container::Rtmp => self.rtmp(conn, RtmpReply::PlayNotFound),
                    Container::Flv | Container::Ts | Container::Mp4 => {
                        self.respond(conn, not_found());
                    }
                }
            }
            Want::Info { as_script, .. } => {
                self.respond(conn, info_response(name, *as_script, &unavailable()))
            }
        }
    }

    fn remove_viewer(&mut self, key: usize) {
        let viewer = self.viewers.remove(key);
        if let Some(stream) = self.streams.get_mut(&viewer.stream) {
            let outlet = &mut stream.outlets[viewer.outlet];
            if let Some(at) = outlet.viewers.iter().position(|other| *other == key) {
                outlet.viewers.swap_remove(at);
            }
            if outlet.viewers.is_empty() {
                outlet.empty_since = Some(self.now);
            }
        }
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
        // Who waited for it waits for its next life.
        if self.waiting.contains_key(&stream.name) {
            let name = stream.name;
            self.mesh(self.control, Message::Locate { name });
        }
    }

    // ----- the whole shard, inside

    fn set_config(&mut self, config: Arc<Config>) {
        self.config = config;
        self.set_load(0.0);
        let mut unwanted = Vec::new();
        for stream in self.streams.values_mut() {
            match stream.name.settings(&self.config) {
                Some(settings) => stream.set_window(settings.window),
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
            self.connection_gone(conn);
            self.rtmp(conn, RtmpReply::EndPublish);
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
        }
    }

    fn dismiss_viewers(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        for (_, outlet) in &mut stream.outlets {
            for key in std::mem::take(&mut outlet.viewers) {
                let viewer = self.viewers.remove(key);
                self.business.remove(&viewer.conn);
                end_viewer(&viewer, &mut self.outputs);
            }
            outlet.empty_since = Some(self.now);
        }
    }

    /// Lets everybody go.
    fn drain(&mut self) {
        self.is_draining = true;
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            self.dismiss_viewers(id);
        }
        let publishers: Vec<ConnId> = self
            .publishers
            .values()
            .map(|publisher| publisher.conn)
            .collect();
        for conn in publishers {
            self.connection_gone(conn);
            self.rtmp(conn, RtmpReply::EndPublish);
        }
        for (name, waiting) in std::mem::take(&mut self.waiting) {
            for waiting in waiting {
                self.business.remove(&waiting.conn);
                self.give_up(waiting.conn, &name, &waiting.want);
            }
        }
    }

    fn respond(&mut self, conn: ConnId, response: Response) {
        self.http(conn, HttpReply::Respond(response));
    }

    fn http(&mut self, conn: ConnId, reply: HttpReply) {
        self.outputs.push_back(Output::Http(conn, reply));
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

fn html(page: impl Into<Bytes>) -> Response {
    Response::new(200)
        .with_body("text/html; charset=utf-8", page)
        .with_header("Cache-Control", "no-cache")
        .with_header("Content-Security-Policy", page::CONTENT_SECURITY_POLICY)
        .with_cors()
}

fn unavailable() -> serde_json::Value {
    let nowhere = info::Addresses {
        http: String::new(),
        rtmp: None,
    };
    info::json(Err(info::Unavailable::Offline), &nowhere)
}

fn info_response(name: &StreamName, as_script: bool, json: &serde_json::Value) -> Response {
    let response = Response::new(200);
    if as_script {
        response.with_body("text/javascript; charset=utf-8", info::script(name, json))
    } else {
        response.with_body("application/json", json.to_string())
    }
    .with_header("Cache-Control", "no-store")
    .with_cors()
}

fn not_found() -> Response {
    Response::text(404, "There is no such stream, or it is not live.").with_cors()
}

fn end_viewer(viewer: &Viewer, outputs: &mut VecDeque<Output>) {
    outputs.push_back(match viewer.container {
        Container::Rtmp => Output::Rtmp(viewer.conn, RtmpReply::EndPlay),
        Container::Flv | Container::Ts | Container::Mp4 => {
            Output::Http(viewer.conn, HttpReply::EndStream)
        }
    });
}

/// What was handed over for viewers.
#[derive(Clone, Copy)]
struct Handed {
    container: Container,
    bytes: u64,
    runs: u64,
    skips: u64,
}

impl Handed {
    fn nothing(container: Container) -> Self {
        Self {
            container,
            bytes: 0,
            runs: 0,
            skips: 0,
        }
    }

    fn count(self, stream: &mut Stream, counters: &mut Counters) {
        stream.bytes_out[self.container as usize] += self.bytes;
        stream.skips += self.skips;
        counters.bytes_out[self.container as usize] += self.bytes;
        counters.runs_out += self.runs;
        counters.skips += self.skips;
    }
}

/// Sends what an output has gathered to all viewers that are idle.
fn release(
    stream: &mut Stream,
    key: usize,
    viewers: &mut Slab<Viewer>,
    delivery: &Delivery,
    outputs: &mut VecDeque<Output>,
    counters: &mut Counters,
) {
    let outlet = &mut stream.outlets[key];
    outlet.released = outlet.feed.end();
    outlet.due = None;
    let received = outlet.gathered_since.take();
    let mut total = Handed::nothing(outlet.container);
    // Nearly all viewers read from the same position.
    let mut run = None;
    for viewer in &outlet.viewers {
        let viewer = &mut viewers[*viewer];
        if viewer.is_idle {
            let handed = deliver(viewer, outlet, delivery, received, &mut run, outputs);
            total.bytes += handed.bytes;
            total.runs += handed.runs;
            total.skips += handed.skips;
        }
    }
    total.count(stream, counters);
}

/// What was read of a feed for one viewer, for the next one at the same position.
struct Run {
    from: u64,
    pieces: Pieces,
    next: u64,
}

/// Hands over what a viewer has not seen yet.
fn deliver(
    viewer: &mut Viewer,
    outlet: &Outlet,
    delivery: &Delivery,
    received: Option<Instant>,
    run: &mut Option<Run>,
    outputs: &mut VecDeque<Output>,
) -> Handed {
    let feed = &outlet.feed;
    let mut handed = Handed::nothing(outlet.container);
    if viewer.is_paused {
        return handed;
    }
    let entry = feed
        .newest_entry()
        .filter(|entry| viewer.position.is_none_or(|position| *entry >= position));
    let kept = viewer.position.filter(|position| *position >= feed.start());
    let from = match (kept, entry) {
        (Some(position), None) => position,
        (Some(position), Some(_)) if !viewer.seeks && !is_late(position, outlet, delivery) => {
            position
        }
        (Some(_) | None, Some(entry)) => entry,
        (None, None) => return handed, // It begins at the next entry.
    };
    let header = match viewer.position {
        None => Some(outlet.entry_header.full.clone()),
        Some(position) if from > position => {
            handed.skips = 1;
            // It has not been told of changes between the two.
            (outlet.entry_header.since > position).then(|| outlet.entry_header.inline.clone())
        }
        Some(_) => None,
    };
    let run = match run {
        Some(run) if run.from == from => run,
        Some(_) | None => {
            let (pieces, next) = feed.read(from, RUN_BYTES_MAX);
            run.insert(Run { from, pieces, next })
        }
    };
    let pieces = run.pieces.clone();
    viewer.position = Some(run.next);
    viewer.seeks = false;
    let header = header.filter(|header| !header.is_empty());
    if pieces.is_empty() && header.is_none() {
        return handed;
    }
    handed.runs = 1;
    handed.bytes = header.as_ref().map_or(0, |header| header.len() as u64)
        + pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
    viewer.is_idle = false;
    outputs.push_back(Output::Send {
        conn: viewer.conn,
        header,
        pieces,
        received,
    });
    handed
}

/// Whether what a viewer would read next is so old that it had better skip.
fn is_late(position: u64, outlet: &Outlet, delivery: &Delivery) -> bool {
    let feed = &outlet.feed;
    let (Some(mark), Some(newest)) = (feed.mark_at(position), feed.newest_dts()) else {
        return false;
    };
    newest.since(mark.dts) > delivery.viewer_queue_ms
}
