//! The control shard: the registrar, health and metrics, and what the operator asks for.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use signal_hook::consts::SIGTERM;
use signal_hook::low_level::raise;

use crate::admin::{Family, metrics_text};
use crate::base::ids::{ConnId, ShardId};
use crate::collab::{self, AdminMessage};
use crate::config::{Config, Environment, Notice};
use crate::drive::{Driver, Inner, Limits, Occurrence, ServerEvent, ServerSession};
use crate::io::{ListenerIndex, Options, Waker};
use crate::metrics::Engine;
use crate::proto::http::{self, Method, Request, Response};
use crate::proto::{http2, websocket};
use crate::server::api_host::{self, ApiHost, Errand};
use crate::server::certificates::Order;
use crate::server::collab_asks::CollabAsks;
use crate::server::engine;
use crate::server::log_layer::Log;
use crate::server::media_shard::Flow;
use crate::server::message::Message;
use crate::server::opening::Opening;
use crate::shard::clock;
use crate::shard::mesh::{Class, Mesh};
use crate::spaces;
use crate::spaces::signalling::door::Signalling;
use crate::streams::api::Caller;
use crate::streams::door::http_session;
use crate::streams::{self, Registrar, ShardSnapshot, families};

/// How long the shards may take to say what they have.
const SNAPSHOT_MAX: Duration = Duration::from_secs(2);

/// Requests for metrics that may wait at once.
const SCRAPES_MAX: usize = 64;

/// Connections of the control port.
const CONNECTIONS_MAX: usize = 1024;

/// RFC 6455 section 7.4.1.
const CLOSE_POLICY: u16 = 1008;

/// What is to be found here.
const PLACES: &str = "ringside's control port. There is no page to administer it by in this version.\n\
    Here are MistServer's API at /api, /api2 and /ws, /spaces, /collab, and /metrics, /healthz and /readyz.";

/// What the operator asks for, by signal.
#[derive(Debug)]
pub(super) enum Command {
    /// Read the configuration again.
    Reload,
    /// Let everybody go and end.
    Drain,
}

/// A port of spaces.
#[derive(Debug)]
pub(super) struct SpacesPlan {
    pub(super) listening: OwnedFd,
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// What the control shard is made with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) mesh: Mesh<Message>,
    pub(super) listening: OwnedFd,
    /// Where players come; nowhere if no spaces are served.
    pub(super) spaces: Vec<SpacesPlan>,
    pub(super) config: Arc<Config>,
    pub(super) config_path: Option<PathBuf>,
    pub(super) notices: Vec<Notice>,
    pub(super) environment: Environment,
    pub(super) certificates: Option<Sender<Order>>,
    pub(super) log: Log,
    pub(super) ring: Options,
    pub(super) commands: Receiver<Command>,
}

/// The control shard.
pub(super) struct ControlShard {
    driver: Driver<ServerSession>,
    mesh: Mesh<Message>,
    registrar: Registrar,
    http_options: Arc<http::Options>,
    commands: Receiver<Command>,
    spaces: Option<SpacesPort>,
    scrapes: HashMap<u64, Scrape>,
    collab: CollabAsks,
    next_token: u64,
    api: ApiHost,
    /// The watch over certificates, if there is one.
    certificates: Option<Sender<Order>>,
    opening: Opening,
    /// The addresses that connections came to.
    own: HashMap<ConnId, IpAddr>,
    is_finished: bool,
}

/// Where players come.
struct SpacesPort {
    listeners: Vec<(ListenerIndex, Option<Arc<ServerConfig>>)>,
    signalling: Signalling,
}

/// Where the numbers of the API's questions begin; those of scrapes are below.
const API_TOKENS: u64 = 1 << 32;

/// A request for metrics that waits for the shards.
struct Scrape {
    conn: ConnId,
    snapshots: BTreeMap<ShardId, ShardSnapshot>,
    until: Instant,
}

impl ControlShard {
    /// Makes the shard's ring. Called on its own thread.
    pub(super) fn new(plan: Plan) -> io::Result<Self> {
        // Players are established; whoever only connects makes room for the next.
        let players_max = match plan.spaces.is_empty() {
            true => 0,
            false => plan.config.spaces.players_max as usize,
        };
        let limits = Limits {
            connections_max: CONNECTIONS_MAX + players_max,
            unestablished_max: CONNECTIONS_MAX,
            ..Limits::default()
        };
        let mut driver = Driver::new(plan.ring, limits)?;
        driver.adopt_listener(plan.listening);
        let shards = plan.mesh.me().0;
        let listeners = plan.spaces.into_iter();
        let listeners: Vec<_> = listeners
            .map(|port| (driver.adopt_listener(port.listening), port.tls))
            .collect();
        let spaces = (!listeners.is_empty()).then(|| SpacesPort {
            listeners,
            signalling: Signalling::new(&plan.config, shards),
        });
        plan.mesh.publish_ring(driver.ring_fd());
        let api = ApiHost::new(api_host::Options {
            config: Arc::clone(&plan.config),
            config_path: plan.config_path.as_deref(),
            notices: plan.notices,
            environment: plan.environment,
            log: plan.log,
            media_shards: usize::from(plan.mesh.me().0),
            waker: driver.waker(),
            now: clock::now(),
            first_token: API_TOKENS,
        })?;
        Ok(Self {
            driver,
            mesh: plan.mesh,
            registrar: Registrar::new(plan.config.limits.streams_max as usize),
            http_options: Arc::new(plan.config.http_options()),
            commands: plan.commands,
            spaces,
            opening: Opening::new(&plan.config),
            scrapes: HashMap::new(),
            collab: CollabAsks::default(),
            next_token: 0,
            api,
            certificates: plan.certificates,
            own: HashMap::new(),
            is_finished: false,
        })
    }

    /// Wakes the shard after a command was sent.
    pub(super) fn waker(&self) -> Waker {
        self.driver.waker()
    }

    /// One round: waits for something to do, and does it.
    pub(super) fn round(&mut self) -> io::Result<Flow> {
        let some_wait = self.mesh.flush();
        while let Some(sleeper) = self.mesh.take_sleepers() {
            if let Some(ring) = self.mesh.ring(sleeper) {
                self.driver.wake_ring(ring);
            }
        }
        let may_sleep = !some_wait && self.mesh.fall_asleep();
        let deadline = self
            .scrapes
            .values()
            .map(|scrape| scrape.until)
            .chain([self.api.deadline()])
            .chain(self.collab.deadline())
            .chain(
                self.spaces
                    .as_ref()
                    .and_then(|port| port.signalling.deadline()),
            )
            .min();
        self.driver.turn(may_sleep, deadline)?;
        self.mesh.wake_up();
        let now = self.driver.now();
        self.obey();
        while let Some(occurrence) = self.driver.poll() {
            match occurrence {
                Occurrence::Accepted { listener, fd, peer } => {
                    let ports = self.spaces.iter().flat_map(|port| &port.listeners);
                    match ports.into_iter().find(|port| port.0 == listener) {
                        Some((_, tls)) => self.accept_player(now, fd, peer, tls.clone()),
                        None => self.accept(now, fd, peer),
                    }
                }
                Occurrence::Event(conn, event) => self.handle_event(conn, event),
                Occurrence::Datagram(_, received) => self.driver.give_back_datagram(received),
                Occurrence::Gone(conn, _) => {
                    if let Some(port) = &mut self.spaces {
                        port.signalling.gone(now, conn);
                    }
                    self.own.remove(&conn);
                    self.api.connection_gone(conn);
                }
                Occurrence::Drained(_) => {}
            }
        }
        while let Some((from, message)) = self.mesh.receive() {
            match message {
                Message::Streams(message) => self.message(from, message),
                Message::Spaces(message) => match (message, &mut self.spaces) {
                    (spaces::Message::Report(report), Some(port)) => {
                        port.signalling.report(report);
                    }
                    // Shards count without spaces as well.
                    (spaces::Message::Report(spaces::Report::Counted(_)), None) => {}
                    (message, _) => {
                        tracing::error!(?from, ?message, "a message that is not for control");
                    }
                },
                Message::Collab(message) => match *message {
                    AdminMessage::Answer { token, answer } => {
                        if let Some((conn, response)) = self.collab.answer(token, answer) {
                            self.respond(conn, response);
                        }
                    }
                    AdminMessage::Ask { .. } => {
                        tracing::error!(?from, "a question that is not for control");
                    }
                },
                Message::Peers(message) => {
                    tracing::error!(?from, ?message, "a datagram for the control shard");
                }
            }
        }
        self.expire_scrapes(now);
        for (conn, response) in self.collab.expire(now) {
            self.respond(conn, response);
        }
        self.api.receive_reports(now);
        self.api.tick(now);
        self.run_errands();
        if let Some(port) = &mut self.spaces {
            let mesh = &mut self.mesh;
            port.signalling.flush(&mut self.driver, |to, message| {
                mesh.send(to, Class::Control, message.into());
            });
        }
        while let Some((to, message)) = self.registrar.poll() {
            self.mesh.send(to, Class::Control, message.into());
        }
        self.driver.resume_listeners();
        Ok(if self.is_finished {
            Flow::Finished
        } else {
            Flow::Continue
        })
    }

    fn obey(&mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Reload) => self.api.read_again(),
                Ok(Command::Drain) => {
                    if let Some(port) = &mut self.spaces {
                        port.signalling.drain(&mut self.driver);
                    }
                    self.broadcast(|| streams::Message::Drain);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    // The media shards have ended, and the main thread let go of its end.
                    self.api.finish(self.driver.now());
                    self.is_finished = true;
                    return;
                }
            }
        }
    }

    fn run_errands(&mut self) {
        for errand in self.api.take_errands() {
            match errand {
                Errand::Respond(conn, response) => self.respond(conn, response),
                Errand::Upgrade(conn, accepted) => {
                    let now = self.driver.now();
                    let options = Arc::clone(self.api.websocket_options());
                    self.driver
                        .with(conn, |session| session.upgrade(now, &options, *accepted));
                }
                Errand::Send(conn, text) => {
                    self.driver.with(conn, |session| {
                        if let Some(session) = session.websocket() {
                            session.send_text(&text);
                        }
                    });
                }
                Errand::Close(conn) => {
                    let now = self.driver.now();
                    self.driver.with(conn, |session| {
                        if let Some(session) = session.websocket() {
                            session.close(now, CLOSE_POLICY, "not logged in");
                        }
                    });
                }
                Errand::AskSnapshots { token } => {
                    self.broadcast(|| streams::Message::SnapshotRequest { token });
                }
                Errand::AskClients { token, each } => {
                    self.broadcast(|| streams::Message::ClientsRequest { token, each });
                }
                Errand::StopSessions(filter) => {
                    self.broadcast(|| streams::Message::StopSessions(Box::new(filter.clone())));
                }
                Errand::Nuke(name) => {
                    self.broadcast(|| streams::Message::Nuke { name: name.clone() })
                }
                Errand::Use(config) => {
                    if let Some(port) = &mut self.spaces {
                        port.signalling.set_config(&config);
                    }
                    self.opening.configure(&config);
                    self.http_options = Arc::new(config.http_options());
                    self.registrar
                        .set_streams_max(config.limits.streams_max as usize);
                    self.broadcast(|| streams::Message::Config(Arc::clone(&config)));
                    self.tell_certificates(Order::Config(config));
                }
                Errand::LookAtCertificates => self.tell_certificates(Order::Look),
                Errand::Shutdown => {
                    tracing::info!("the API asks for the end");
                    if let Err(error) = raise(SIGTERM) {
                        tracing::error!(%error, "the server cannot be ended");
                    }
                }
            }
        }
    }

    fn tell_certificates(&self, order: Order) {
        if let Some(certificates) = &self.certificates {
            // The watch ends after this sender only.
            let _ = certificates.send(order);
        }
    }

    fn accept(&mut self, now: Instant, fd: OwnedFd, peer: SocketAddr) {
        let own = socket2::SockRef::from(&fd)
            .local_addr()
            .ok()
            .and_then(|address| address.as_socket());
        let session = http_session(now, &self.http_options);
        let conn = self.driver.open(fd, peer, session);
        self.own
            .extend(conn.zip(own).map(|(conn, own)| (conn, own.ip())));
    }

    fn accept_player(
        &mut self,
        now: Instant,
        fd: OwnedFd,
        peer: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
    ) {
        let Some(port) = &mut self.spaces else {
            return;
        };
        let http2_options = Arc::new(http2::Options::default());
        let http_options = Arc::new(http::Options {
            opaque_paths: true,
            ..http::Options::clone(&self.http_options)
        });
        let inner = Inner::Http(http_options, http2_options);
        let session = self.opening.begin_for(now, peer, tls.as_ref(), inner);
        if let Some(conn) = session.and_then(|session| self.driver.open(fd, peer, session)) {
            port.signalling.opened(conn);
        }
    }

    fn broadcast(&mut self, message: impl Fn() -> streams::Message) {
        for shard in self.media_shards() {
            self.mesh.send(shard, Class::Control, message().into());
        }
    }

    fn media_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.mesh.me().0).map(ShardId)
    }

    fn message(&mut self, from: ShardId, message: streams::Message) {
        match self.registrar.handle(from, message) {
            Some(streams::Message::Clients { token, clients }) => {
                let now = self.driver.now();
                self.api.clients(now, from, token, *clients);
            }
            Some(streams::Message::Snapshot { token, snapshot }) if self.api.has_asked(token) => {
                let now = self.driver.now();
                self.api.snapshot(now, from, token, *snapshot);
            }
            Some(streams::Message::Snapshot { token, snapshot }) => {
                let media_shards = self.media_shards().count();
                let Some(scrape) = self.scrapes.get_mut(&token) else {
                    return;
                };
                scrape.snapshots.insert(from, *snapshot);
                if scrape.snapshots.len() == media_shards
                    && let Some(scrape) = self.scrapes.remove(&token)
                {
                    self.answer_scrape(scrape);
                }
            }
            Some(other) => tracing::error!(?from, ?other, "a message that is not for control"),
            None => {}
        }
    }

    fn handle_event(&mut self, conn: ConnId, event: ServerEvent) {
        if let Some(port) = &mut self.spaces
            && port.signalling.has(conn)
        {
            return port.signalling.event(&mut self.driver, conn, event);
        }
        match event {
            ServerEvent::Http(http::Event::Request(request)) => self.request(conn, &request),
            ServerEvent::Http(http::Event::Closed(_)) => self.driver.close(conn),
            ServerEvent::WebSocket(websocket::Event::Message(message)) => {
                if let websocket::Message::Text(text) = message {
                    let now = self.driver.now();
                    self.api.heard(now, conn, &text);
                }
            }
            ServerEvent::WebSocket(websocket::Event::Closed(_)) => self.driver.close(conn),
            ServerEvent::Rtmp(_)
            | ServerEvent::Http2(_)
            | ServerEvent::Frame(_)
            | ServerEvent::Replication(_) => {
                unreachable!("the control port speaks HTTP/1 only")
            }
        }
    }

    fn request(&mut self, conn: ConnId, request: &Request) {
        let now = self.driver.now();
        let Some(peer) = self.driver.peer(conn).map(|peer| peer.ip()) else {
            return;
        };
        let own = self.own.get(&conn).copied();
        if self.api.request(now, conn, (peer, own), request)
            || self.api.listen(now, conn, (peer, own), request)
        {
            return;
        }
        if !Caller::of(request, peer, own, &[]).is_local {
            let text = "Apart from /api and /api2, this port answers callers of this machine only.";
            self.respond(conn, Response::text(403, text));
            return;
        }
        if let Some(command) = spaces::signalling::Command::read(request) {
            let response = match (command, &mut self.spaces) {
                (Err(response), _) => response,
                (Ok(command), Some(port)) => port.signalling.command(&mut self.driver, command),
                (Ok(_), None) => Response::text(404, "No spaces are served here."),
            };
            return self.respond(conn, response);
        }
        match collab::Command::read(request) {
            None => {}
            Some(Err(response)) => return self.respond(conn, response),
            Some(Ok(command)) => return self.ask_collab(now, conn, &command),
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            self.respond(
                conn,
                Response::text(405, "Only GET and HEAD are answered here."),
            );
            return;
        }
        match request.path.as_str() {
            "/healthz" => self.respond(conn, Response::text(200, "ok")),
            "/readyz" => {
                let is_ready = self
                    .media_shards()
                    .all(|shard| self.mesh.ring(shard).is_some());
                let response = if is_ready {
                    Response::text(200, "ready")
                } else {
                    Response::text(503, "starting")
                };
                self.respond(conn, response);
            }
            "/metrics" => self.begin_scrape(conn),
            "/" => self.respond(conn, Response::text(200, PLACES)),
            _ => self.respond(conn, Response::text(404, PLACES)),
        }
    }

    fn ask_collab(&mut self, now: Instant, conn: ConnId, command: &collab::Command) {
        let shards = self.media_shards().count();
        let Some(token) = self.collab.ask(now, conn, command, shards) else {
            let response = Response::text(503, "Too many questions at once.");
            return self.respond(conn, response);
        };
        for shard in self.media_shards() {
            let command = command.clone();
            let message = Box::new(AdminMessage::Ask { token, command });
            self.mesh
                .send(shard, Class::Control, Message::Collab(message));
        }
    }

    fn begin_scrape(&mut self, conn: ConnId) {
        if self.scrapes.len() >= SCRAPES_MAX {
            self.respond(conn, Response::text(503, "Too many requests for metrics."));
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        self.scrapes.insert(
            token,
            Scrape {
                conn,
                snapshots: BTreeMap::new(),
                until: self.driver.now() + SNAPSHOT_MAX,
            },
        );
        self.broadcast(|| streams::Message::SnapshotRequest { token });
    }

    fn answer_scrape(&mut self, scrape: Scrape) {
        let mut engines: BTreeMap<u16, Engine> = scrape
            .snapshots
            .iter()
            .map(|(shard, snapshot)| (shard.0, snapshot.engine.clone()))
            .collect();
        engines.insert(self.mesh.me().0, engine(&self.driver, &self.mesh));
        let snapshots: Vec<ShardSnapshot> = scrape.snapshots.into_values().collect();
        let spaces = self.spaces.iter();
        let spaces = spaces.flat_map(|port| port.signalling.families());
        let families: Vec<Family> = families(&snapshots)
            .into_iter()
            .chain(spaces)
            .map(|(name, help, is_counter, samples)| Family {
                name,
                help,
                is_counter,
                samples,
            })
            .collect();
        let text = metrics_text(&engines, &families);
        let response = Response::new(200).with_body("text/plain; version=0.0.4", text);
        self.respond(scrape.conn, response);
    }

    fn expire_scrapes(&mut self, now: Instant) {
        let late: Vec<u64> = self
            .scrapes
            .iter()
            .filter(|(_, scrape)| scrape.until <= now)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            if let Some(scrape) = self.scrapes.remove(&token) {
                self.respond(scrape.conn, Response::text(503, "A shard does not answer."));
            }
        }
    }

    fn respond(&mut self, conn: ConnId, response: Response) {
        let now = self.driver.now();
        self.driver.with(conn, |session| {
            if let Some(session) = session.http() {
                session.respond(now, response);
            }
        });
    }
}
