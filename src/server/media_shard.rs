//! A media shard: sockets of the data plane, and the doors that serve them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use crate::base::ids::ShardId;
use crate::collab::{self, AdminMessage};
use crate::config::Config;
use crate::drive::{Driver, Framed, Inner, Limits, Occurrence, ServerEvent, ServerSession};
use crate::io::probe::{Resource, limit};
use crate::io::{ListenerIndex, Options};
use crate::metrics::Engine;
use crate::proto::replication::Port;
use crate::proto::{http, http2, rtmp};
use crate::server::collab_host::{CollabHost, Kept};
use crate::server::message::Message;
use crate::server::opening::Opening;
use crate::server::{engine, home};
use crate::shard::mesh::{Class, Mesh};
use crate::shard::{clock, thread_cpu_time};
use crate::spaces;
use crate::streams;
use crate::streams::door::{Door, rtmp_seed};
use crate::streams::rtc::door::Identity;

/// How often waiting viewers, stalled viewers and lone streams are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// How often the shard's load is taken while it is loaded.
const LOAD_EVERY: Duration = Duration::from_millis(100);

/// How long viewers have to go when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Mesh messages handled in one round, so that sockets get their turn.
const MESSAGES_PER_ROUND: usize = 256;

/// What a listener serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Service {
    /// The streams' HTTP port.
    Http,
    /// The same inside TLS.
    Https,
    /// RTMP, for publishers, players or both.
    Rtmp {
        /// Publishers are let in.
        publish: bool,
        /// Players are let in.
        play: bool,
    },
    /// The same inside TLS.
    Rtmps {
        /// Publishers are let in.
        publish: bool,
        /// Players are let in.
        play: bool,
    },
    /// A port of a collaborative session.
    Collab {
        /// Which session.
        place: collab::door::Place,
        /// Which of its ports.
        port: Port,
    },
}

/// WebRTC's part of a shard.
#[derive(Debug)]
pub(super) struct RtcPlan {
    pub(super) datagrams: OwnedFd,
    pub(super) connections: Option<OwnedFd>,
    pub(super) identity: Identity,
    pub(super) spaces: spaces::door::Identity,
}

/// A socket that listens, for one shard.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) service: Service,
    /// What it offers, if it speaks TLS.
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) fd: OwnedFd,
}

/// What a shard is made with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) mesh: Mesh<Message>,
    pub(super) control: ShardId,
    pub(super) listening: Vec<Listening>,
    pub(super) rtc: Option<RtcPlan>,
    pub(super) config: Arc<Config>,
    /// What was kept of the collaborative sessions that live here.
    pub(super) kept: Vec<Kept>,
    pub(super) ring: Options,
    pub(super) limits: Limits,
}

/// One media shard.
pub(super) struct MediaShard {
    driver: Driver<ServerSession>,
    door: Door,
    spaces: spaces::door::Door,
    collab: collab::door::Door,
    collab_host: CollabHost,
    mesh: Mesh<Message>,
    services: HashMap<u32, (Service, Option<Arc<ServerConfig>>)>,
    listeners: Vec<ListenerIndex>,
    /// Where WebRTC peers come by TCP.
    rtc_listener: Option<u32>,
    http_options: Arc<http::Options>,
    http2_options: Arc<http2::Options>,
    rtmp_options: rtmp::Options,
    opening: Opening,
    next_sweep: Instant,
    /// How long a peer may take nothing of an answer.
    stall: Duration,
    load: Load,
    draining_until: Option<Instant>,
}

/// Whether the shard goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    Continue,
    Finished,
}

impl MediaShard {
    /// Makes the shard's ring and takes its listeners. Called on the shard's own thread.
    pub(super) fn new(plan: Plan) -> io::Result<Self> {
        let mut driver = Driver::new(plan.ring, plan.limits)?;
        let mut services = HashMap::new();
        let mut listeners = Vec::new();
        for listening in plan.listening {
            let listener = driver.adopt_listener(listening.fd);
            services.insert(listener.0, (listening.service, listening.tls));
            listeners.push(listener);
        }
        let mut door = Door::new(plan.mesh.me(), plan.control, Arc::clone(&plan.config));
        let mut rtc_listener = None;
        let identity = plan.rtc.as_ref().map(|rtc| rtc.spaces.clone());
        let now = clock::now();
        let spaces = spaces::door::Door::new(now, plan.mesh.me(), plan.control, identity);
        if let Some(rtc) = plan.rtc {
            door.rtc().add_socket(driver.bind_datagram(rtc.datagrams)?);
            door.rtc().set_identity(rtc.identity);
            if let Some(fd) = rtc.connections {
                let listener = driver.adopt_listener(fd);
                rtc_listener = Some(listener.0);
                listeners.push(listener);
            }
        }
        plan.mesh.publish_ring(driver.ring_fd());
        let (me, shards) = (usize::from(plan.mesh.me().0), plan.mesh.shards() - 1);
        let is_here = |place| home(place, shards) == me;
        let scene = |place| {
            let mut kept = plan.kept.iter();
            kept.find(|kept| kept.place == place).map(Kept::begin)
        };
        let collab = plan.config.collab.as_ref();
        let collab = collab::door::Door::new(now, collab, is_here, scene);
        let collab_host = CollabHost::start(&collab, plan.kept, &driver.waker())?;
        Ok(Self {
            driver,
            door,
            spaces,
            collab,
            collab_host,
            rtc_listener,
            mesh: plan.mesh,
            services,
            listeners,
            http_options: Arc::new(plan.config.http_options()),
            http2_options: Arc::new(plan.config.http2_options()),
            rtmp_options: rtmp_options(&plan.config),
            opening: Opening::new(&plan.config),
            next_sweep: now + SWEEP_EVERY,
            stall: plan.config.delivery.viewer_stall_ms,
            load: Load::new(now),
            draining_until: None,
        })
    }

    /// One round: waits for something to do unless there is something, and does it.
    pub(super) fn round(&mut self, may_wait: bool) -> io::Result<Flow> {
        let some_wait = self.mesh.flush();
        while let Some(sleeper) = self.mesh.take_sleepers() {
            if let Some(ring) = self.mesh.ring(sleeper) {
                self.driver.wake_ring(ring);
            }
        }
        let may_sleep = may_wait && !some_wait && self.mesh.fall_asleep();
        let due = [
            self.door.deadline(),
            self.spaces.deadline(),
            self.collab.deadline(),
        ];
        let due = due.into_iter().flatten().min();
        let deadline = due.map_or(self.next_sweep, |due| due.min(self.next_sweep));
        self.driver.set_patience(self.spaces.patience());
        self.driver.turn(may_sleep, Some(deadline))?;
        self.mesh.wake_up();

        let now = self.driver.now();
        self.door.begin_round(now);
        while let Some(occurrence) = self.driver.poll() {
            self.handle(occurrence);
        }
        self.wait_for_pictures()?;
        for _ in 0..MESSAGES_PER_ROUND {
            let Some((from, message)) = self.mesh.receive() else {
                break;
            };
            match message {
                Message::Streams(message) => self.message(from, message),
                Message::Spaces(message) => {
                    let peers = self.door.rtc().peers_mut();
                    self.spaces.message(&mut self.driver, peers, message);
                }
                Message::Collab(message) => match *message {
                    AdminMessage::Ask { token, command } => {
                        let sessions = &mut self.collab;
                        self.collab_host.ask(sessions, from, token, &command);
                    }
                    AdminMessage::Answer { .. } => {
                        tracing::error!(?from, "an answer that is for control");
                    }
                },
                Message::Peers(message) => {
                    let peers = self.door.rtc().peers_mut();
                    peers.message(&mut self.driver, from, *message);
                }
            }
        }
        if let Some(load) = self.load.take(now) {
            self.door.exchange().set_load(load);
            self.spaces.note_load(load);
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            self.driver.resume_listeners();
            self.driver.close_stalled(self.stall);
            self.door.sweep(&mut self.driver);
            self.spaces.sweep(now);
        }
        self.collab_host.run(now, &mut self.collab);
        while let Some((to, message)) = self.collab_host.take_answer() {
            let message = Message::Collab(Box::new(message));
            self.mesh.send(to, Class::Control, message);
        }
        self.collab.flush(&mut self.driver);
        self.door.flush(&mut self.driver, &mut self.mesh);
        let peers = self.door.rtc().peers_mut();
        self.spaces.flush(&mut self.driver, peers, &mut self.mesh);
        self.send_strays();
        Ok(self.flow(now))
    }

    /// Passes on what has come for peers of other shards.
    fn send_strays(&mut self) {
        for (to, message) in self.door.rtc().peers_mut().take_messages() {
            let class = match message.may_be_lost() {
                true => Class::Media,
                false => Class::Control,
            };
            self.mesh.send(to, class, Message::Peers(Box::new(message)));
        }
    }

    /// Takes the rest of a picture that has begun to arrive, if it comes at once: its packets then
    /// go to each viewer in one send.
    fn wait_for_pictures(&mut self) -> io::Result<()> {
        let peers = self.door.rtc().peers_mut();
        let Some(hold) = peers.hold() else {
            peers.end_hold(false);
            return Ok(());
        };
        let before = peers.arrived();
        let until = clock::now() + hold;
        while self.door.rtc().peers().is_amid_picture() && self.driver.now() < until {
            self.driver.turn(true, Some(until))?;
            while let Some(occurrence) = self.driver.poll() {
                self.handle(occurrence);
            }
        }
        let peers = self.door.rtc().peers_mut();
        let in_vain = peers.arrived() == before;
        peers.end_hold(in_vain);
        Ok(())
    }

    fn handle(&mut self, occurrence: Occurrence<ServerEvent>) {
        match occurrence {
            Occurrence::Accepted { listener, fd, peer } => self.accept(listener, fd, peer),
            Occurrence::Event(conn, ServerEvent::Replication(event)) => {
                self.collab.handle_event(&mut self.driver, conn, event);
            }
            Occurrence::Event(conn, event) => {
                self.door.handle_event(&mut self.driver, conn, event);
            }
            Occurrence::Drained(conn) => {
                self.collab.drained(conn);
                self.door.drained(conn);
            }
            Occurrence::Datagram(socket, received) => {
                self.door.datagram(&mut self.driver, socket, received);
            }
            Occurrence::Gone(conn, reason) => {
                tracing::debug!(?conn, ?reason, "a connection is gone");
                self.collab.gone(self.driver.now(), conn);
                self.door.gone(conn);
            }
        }
    }

    fn accept(&mut self, listener: ListenerIndex, fd: OwnedFd, peer: SocketAddr) {
        if self.draining_until.is_some() {
            return; // Accepted just before the listener was closed.
        }
        let now = self.driver.now();
        if self.rtc_listener == Some(listener.0) {
            let session = ServerSession::Framed(Framed::new(now));
            self.driver.open(fd, peer, session);
            return;
        }
        let Some((service, tls)) = self.services.get(&listener.0) else {
            return;
        };
        let opening = &self.opening;
        let inner = match *service {
            Service::Collab { place, port } => {
                let session = opening.begin(now, tls.as_ref(), Inner::Replication(port));
                let conn = session.and_then(|session| self.driver.open(fd, peer, session));
                if let Some(conn) = conn {
                    self.collab.accepted(conn, place);
                }
                return;
            }
            Service::Http | Service::Https => Inner::Http(
                Arc::clone(&self.http_options),
                Arc::clone(&self.http2_options),
            ),
            Service::Rtmp { .. } | Service::Rtmps { .. } => {
                Inner::Rtmp(self.rtmp_options, rtmp_seed(peer))
            }
        };
        let Some(session) = opening.begin_for(now, peer, tls.as_ref(), inner) else {
            return;
        };
        let service = *service;
        let Some(conn) = self.driver.open(fd, peer, session) else {
            return;
        };
        if let Service::Rtmp { publish, play } | Service::Rtmps { publish, play } = service {
            self.door.restrict(conn, publish, play);
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what the loop has no part in is the door's"
    )]
    fn message(&mut self, from: ShardId, message: streams::Message) {
        match message {
            streams::Message::SnapshotRequest { token } => {
                let mut snapshot = Box::new(self.door.exchange().snapshot());
                snapshot.rtc = self.door.rtc().snapshot();
                snapshot.others = self.collab.rows();
                snapshot.others.extend(self.collab_host.rows());
                snapshot.engine = Engine {
                    latency: self.door.latency().clone(),
                    segments: self.door.rtc().peers().counters().segments,
                    tls_handshakes: self.opening.tls.handshakes.get(),
                    tls_failures: self.opening.tls.failures.get(),
                    tls_connections: self.opening.tls.connections.get(),
                    ..engine(&self.driver, &self.mesh)
                };
                let answer = streams::Message::Snapshot { token, snapshot };
                self.mesh.send(from, Class::Control, answer.into());
            }
            streams::Message::ClientsRequest { token, each } => {
                let clients = Box::new(self.door.clients(&self.driver, each));
                let answer = streams::Message::Clients { token, clients };
                self.mesh.send(from, Class::Control, answer.into());
            }
            streams::Message::Drain => {
                for listener in std::mem::take(&mut self.listeners) {
                    self.driver.close_listener(listener);
                }
                self.door
                    .message(&mut self.driver, from, streams::Message::Drain);
                self.spaces
                    .drain(&mut self.driver, self.door.rtc().peers_mut());
                self.door.flush(&mut self.driver, &mut self.mesh);
                self.driver.close_all();
                self.draining_until = Some(self.driver.now() + DRAIN_MAX);
            }
            streams::Message::Config(config) => {
                self.http_options = Arc::new(config.http_options());
                self.http2_options = Arc::new(config.http2_options());
                self.rtmp_options = rtmp_options(&config);
                self.opening.configure(&config);
                self.stall = config.delivery.viewer_stall_ms;
                self.collab.configure(config.collab.as_ref());
                self.collab_host.configure(config.collab.as_ref());
                self.driver
                    .set_limits(&limits(&config, self.mesh.shards() - 1));
                self.door
                    .message(&mut self.driver, from, streams::Message::Config(config));
            }
            other => self.door.message(&mut self.driver, from, other),
        }
    }

    fn flow(&mut self, now: Instant) -> Flow {
        let Some(until) = self.draining_until else {
            return Flow::Continue;
        };
        if now >= until || self.driver.connections() == 0 {
            return Flow::Finished;
        }
        // Look again soon.
        self.next_sweep = self.next_sweep.min(now + Duration::from_millis(50));
        Flow::Continue
    }
}

/// Descriptors that are not connections: rings, listeners, eventfds, files, the control port's.
const DESCRIPTORS_KEPT: u64 = 256;

/// The bounds of one of `shards` media shards. Connections are bounded before descriptors run
/// out, so that an idle one makes room for a newer one instead of nobody getting in.
pub(super) fn limits(config: &Config, shards: usize) -> Limits {
    let share = |total: u32| (total as usize).div_ceil(shards.max(1));
    let descriptors = limit(Resource::Descriptors)
        .map_or(u64::MAX, |limit| limit.soft)
        .saturating_sub(DESCRIPTORS_KEPT)
        .max(1);
    let connections_max = u64::from(config.limits.connections_max).min(descriptors) as u32;
    Limits {
        connections_max: share(connections_max),
        unestablished_max: share(config.limits.unauthenticated_max),
        ..Limits::default()
    }
}

fn rtmp_options(config: &Config) -> rtmp::Options {
    rtmp::Options {
        command_timeout: config.limits.unauthenticated_ms,
        // Each stream has its own `inputtimeout`, which the exchange keeps.
        publisher_idle_timeout: Duration::from_secs(86_400),
        ..rtmp::Options::default()
    }
}

/// The share of a CPU that the thread uses.
struct Load {
    since: Instant,
    cpu: Duration,
}

impl Load {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            cpu: thread_cpu_time(),
        }
    }

    fn take(&mut self, now: Instant) -> Option<f64> {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < LOAD_EVERY {
            return None;
        }
        let cpu = thread_cpu_time();
        let load = (cpu - self.cpu).as_secs_f64() / elapsed.as_secs_f64();
        self.since = now;
        self.cpu = cpu;
        Some(load)
    }
}
