//! The control shard: the registrar, health and metrics, and what the operator asks for.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use crate::admin::{Family, metrics_text};
use crate::base::ids::{ConnId, ShardId};
use crate::config::Config;
use crate::drive::{Driver, Limits, Occurrence, ServerEvent, ServerSession};
use crate::io::{Options, Waker};
use crate::metrics::Engine;
use crate::proto::http::{self, Method, Request, Response};
use crate::server::engine;
use crate::server::media_shard::Flow;
use crate::shard::clock;
use crate::shard::mesh::{Class, Mesh};
use crate::streams::door::http_session;
use crate::streams::{Message, Registrar, ShardSnapshot, families};

/// How long the shards may take to say what they have.
const SNAPSHOT_MAX: Duration = Duration::from_secs(2);

/// Requests for metrics that may wait at once.
const SCRAPES_MAX: usize = 64;

/// Connections of the control port.
const CONNECTIONS_MAX: usize = 1024;

/// How long the shard sleeps when nothing happens.
const IDLE: Duration = Duration::from_secs(1);

/// What the operator asks for, by signal.
#[derive(Debug)]
pub(super) enum Command {
    /// Use this configuration from here on.
    Reload(Arc<Config>),
    /// Let everybody go and end.
    Drain,
}

/// What the control shard is made with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) mesh: Mesh<Message>,
    pub(super) listening: OwnedFd,
    pub(super) config: Arc<Config>,
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
    scrapes: HashMap<u64, Scrape>,
    next_token: u64,
    is_finished: bool,
}

/// A request for metrics that waits for the shards.
struct Scrape {
    conn: ConnId,
    snapshots: BTreeMap<ShardId, ShardSnapshot>,
    until: Instant,
}

impl ControlShard {
    /// Makes the shard's ring. Called on its own thread.
    pub(super) fn new(plan: Plan) -> io::Result<Self> {
        let limits = Limits {
            connections_max: CONNECTIONS_MAX,
            unestablished_max: CONNECTIONS_MAX,
            ..Limits::default()
        };
        let mut driver = Driver::new(plan.ring, limits)?;
        driver.adopt_listener(plan.listening);
        plan.mesh.publish_ring(driver.ring_fd());
        Ok(Self {
            driver,
            mesh: plan.mesh,
            registrar: Registrar::new(plan.config.limits.streams_max as usize),
            http_options: Arc::new(plan.config.http_options()),
            commands: plan.commands,
            scrapes: HashMap::new(),
            next_token: 0,
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
            .min()
            .unwrap_or_else(|| clock::now() + IDLE);
        self.driver.turn(may_sleep, Some(deadline))?;
        self.mesh.wake_up();
        let now = self.driver.now();
        self.obey();
        while let Some(occurrence) = self.driver.poll() {
            match occurrence {
                Occurrence::Accepted { fd, peer, .. } => {
                    let session = http_session(now, &self.http_options);
                    self.driver.open(fd, peer, session);
                }
                Occurrence::Event(conn, event) => self.handle_event(conn, event),
                Occurrence::Datagram(_, received) => self.driver.give_back_datagram(received),
                Occurrence::Drained(_) | Occurrence::Gone(..) => {}
            }
        }
        while let Some((from, message)) = self.mesh.receive() {
            self.message(from, message);
        }
        while let Some((to, message)) = self.registrar.poll() {
            self.mesh.send(to, Class::Control, message);
        }
        self.expire_scrapes(now);
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
                Ok(Command::Reload(config)) => {
                    self.http_options = Arc::new(config.http_options());
                    self.registrar
                        .set_streams_max(config.limits.streams_max as usize);
                    self.broadcast(|| Message::Config(Arc::clone(&config)));
                }
                Ok(Command::Drain) => self.broadcast(|| Message::Drain),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    // The media shards have ended, and the main thread let go of its end.
                    self.is_finished = true;
                    return;
                }
            }
        }
    }

    fn broadcast(&mut self, message: impl Fn() -> Message) {
        for shard in self.media_shards() {
            self.mesh.send(shard, Class::Control, message());
        }
    }

    fn media_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.mesh.me().0).map(ShardId)
    }

    fn message(&mut self, from: ShardId, message: Message) {
        match self.registrar.handle(from, message) {
            Some(Message::Snapshot { token, snapshot }) => {
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
        match event {
            ServerEvent::Http(http::Event::Request(request)) => self.request(conn, &request),
            ServerEvent::Http(http::Event::Closed(_)) => self.driver.close(conn),
            ServerEvent::Rtmp(_) | ServerEvent::Http2(_) => {
                unreachable!("the control port speaks HTTP/1 only")
            }
        }
    }

    fn request(&mut self, conn: ConnId, request: &Request) {
        if !self.is_local(conn, request) {
            let text = "This port answers callers of this machine only.";
            self.respond(conn, Response::text(403, text));
            return;
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
            _ => {
                let text = "Here are /metrics, /healthz and /readyz.";
                self.respond(conn, Response::text(404, text));
            }
        }
    }

    /// A caller of this machine that does not speak for somebody else.
    fn is_local(&self, conn: ConnId, request: &Request) -> bool {
        let is_loopback = self
            .driver
            .peer(conn)
            .is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        is_loopback && !http::is_forwarded(request) && names_this_machine(request.host())
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
        self.broadcast(|| Message::SnapshotRequest { token });
    }

    fn answer_scrape(&mut self, scrape: Scrape) {
        let mut engines: BTreeMap<u16, Engine> = scrape
            .snapshots
            .iter()
            .map(|(shard, snapshot)| (shard.0, snapshot.engine.clone()))
            .collect();
        engines.insert(self.mesh.me().0, engine(&self.driver, &self.mesh));
        let snapshots: Vec<ShardSnapshot> = scrape.snapshots.into_values().collect();
        let families: Vec<Family> = families(&snapshots)
            .into_iter()
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

/// Whether a Host field is one that a caller of this machine would use. A page of another site whose
/// name was made to lead here (DNS rebinding) has that site's name in it.
fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in [
            "",
            "localhost",
            "LOCALHOST:4242",
            "127.0.0.1:4242",
            "[::1]:4242",
        ] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:4242",
            "localhost.evil.example",
        ] {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
