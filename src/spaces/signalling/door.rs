//! Connects players' WebSockets to the host of all spaces, and the host to the media shards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::admin::{Command, answer};
use super::metrics::{self, Family};
use super::place::{Place, may_come, place};
use crate::base::ids::{ConnId, ShardId};
use crate::config::Config;
use crate::drive::{Driver, ServerEvent, ServerSession};
use crate::io::fill_random;
use crate::proto::http::{self, Request, Response, client_address};
use crate::proto::unavi::{Dialect, Frame};
use crate::proto::websocket::{self, DeflateOptions, Shared};
use crate::shard::clock;
use crate::spaces::host::{Host, Output};
use crate::spaces::message::{Counted, Message, Order, Report};
use crate::spaces::options::{Interest, Options};

/// When the original asks whether a silent client is there, and when it gives it up: 60 s after the
/// last word.
const PING: Duration = Duration::from_secs(44);
const PONG: Duration = Duration::from_secs(16);

/// Bytes that may wait for a player who does not read: all that 255 others say at once when it enters.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// RFC 6455 section 7.4.1.
const CLOSE_GOING_AWAY: u16 = 1001;

/// Signalling.
pub struct Signalling {
    host: Host,
    socket_options: Arc<websocket::Options>,
    origins: Vec<String>,
    trusted: Vec<IpNet>,
    /// Connections of the spaces' port, and whether they are players.
    conns: HashMap<ConnId, bool, foldhash::fast::RandomState>,
    /// For the media shards.
    orders: Vec<Order>,
    /// What media shards have counted.
    counted: BTreeMap<ShardId, Counted>,
}

impl std::fmt::Debug for Signalling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signalling").finish_non_exhaustive()
    }
}

impl Signalling {
    /// Signalling for so many media shards.
    pub fn new(config: &Config, shards: u16) -> Self {
        let mut seed = [0; 8];
        fill_random(&mut seed).expect("the kernel has random bytes at the start");
        Self {
            host: Host::new(options(config), shards, u64::from_le_bytes(seed)),
            socket_options: Arc::new(socket_options(config)),
            origins: config.spaces.origins.clone(),
            trusted: config.general.trusted_proxies.clone(),
            conns: HashMap::default(),
            orders: Vec::new(),
            counted: BTreeMap::new(),
        }
    }

    /// Another configuration.
    pub fn set_config(&mut self, config: &Config) {
        self.host.set_options(options(config));
        self.socket_options = Arc::new(socket_options(config));
        self.origins.clone_from(&config.spaces.origins);
        self.trusted.clone_from(&config.general.trusted_proxies);
    }

    /// A connection has come to the spaces' port.
    pub fn opened(&mut self, conn: ConnId) {
        self.conns.insert(conn, false);
    }

    /// Whether a connection is one of these.
    pub fn has(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    /// A session has something to tell.
    pub fn event(&mut self, driver: &mut Driver<ServerSession>, conn: ConnId, event: ServerEvent) {
        match event {
            ServerEvent::Http(http::Event::Request(request)) => {
                self.request(driver, conn, &request);
            }
            ServerEvent::WebSocket(websocket::Event::Message(message)) => {
                let (now, unix_ms) = (driver.now(), clock::unix_millis().unsigned_abs());
                let (bytes, is_text) = match &message {
                    websocket::Message::Text(text) => (text.as_bytes(), true),
                    websocket::Message::Binary(bytes) => (bytes.as_slice(), false),
                };
                self.host.frame(now, unix_ms, conn, bytes, is_text);
            }
            ServerEvent::Http(http::Event::Closed(_))
            | ServerEvent::WebSocket(websocket::Event::Closed(_)) => {
                driver.close(conn);
                self.gone(driver.now(), conn);
            }
            ServerEvent::Rtmp(_)
            | ServerEvent::Http2(_)
            | ServerEvent::Frame(_)
            | ServerEvent::Replication(_) => {
                unreachable!("the spaces' port speaks HTTP/1 only")
            }
        }
        self.tell(driver);
    }

    fn request(&mut self, driver: &mut Driver<ServerSession>, conn: ConnId, request: &Request) {
        let response = match place(request) {
            Place::Socket => match self.upgrade(driver, conn, request) {
                Ok(()) => return,
                Err(response) => response,
            },
            Place::Count(worlds) => {
                let counts = worlds.iter().map(|world| self.host.count(world));
                let count = counts.max().unwrap_or(0).to_string();
                Response::new(200).with_body("text/plain", count)
            }
            Place::Nowhere => Response::text(404, "Spaces are entered by WebSocket."),
        };
        let now = driver.now();
        driver.with(conn, |session| {
            if let Some(session) = session.http() {
                session.respond(now, response);
            }
        });
    }

    fn upgrade(
        &mut self,
        driver: &mut Driver<ServerSession>,
        conn: ConnId,
        request: &Request,
    ) -> Result<(), Response> {
        let Some(peer) = driver.peer(conn) else {
            return Ok(());
        };
        if !may_come(&self.origins, request.header("origin")) {
            return Err(Response::text(403, "Pages of that site may not connect."));
        }
        let first = request
            .values("sec-websocket-protocol")
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .next();
        // The original takes the first subprotocol that is offered, whatever it is.
        let protocols: Vec<&str> = first.into_iter().collect();
        let accepted = websocket::accept(request, &self.socket_options, &protocols)
            .map_err(|error| error.response())?;
        let address = client_address(peer.ip(), &self.trusted, request);
        let token = request.parameter("token").map(|token| token.into_owned());
        let now = driver.now();
        if !self.host.connected(now, conn, address, token) {
            return Err(Response::text(503, "There is no room for another player."));
        }
        self.conns.insert(conn, true);
        driver.establish(conn);
        let options = Arc::clone(&self.socket_options);
        driver.with(conn, |session| session.upgrade(now, &options, accepted));
        Ok(())
    }

    /// A connection is gone.
    pub fn gone(&mut self, now: Instant, conn: ConnId) {
        if self.conns.remove(&conn) == Some(true) {
            self.host.gone(now, conn);
        }
    }

    /// A media shard has something to tell.
    pub fn report(&mut self, report: Report) {
        match report {
            Report::Counted(counted) => {
                self.counted.insert(counted.shard, *counted);
            }
            report @ (Report::Opened { .. }
            | Report::Refused { .. }
            | Report::Connected { .. }
            | Report::Gone { .. }
            | Report::Level { .. }) => self.host.report(report),
        }
    }

    /// When [`Signalling::flush`] has to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.host.deadline()
    }

    /// Lets the time go on, tells players what there is to tell, and gives orders to `send`.
    pub fn flush(
        &mut self,
        driver: &mut Driver<ServerSession>,
        mut send: impl FnMut(ShardId, Message),
    ) {
        let now = driver.now();
        if self.host.deadline().is_some_and(|due| due <= now) {
            self.host.handle_timeout(now);
        }
        self.tell(driver);
        for order in self.orders.drain(..) {
            send(order.transport().maker, Message::Order(order));
        }
    }

    /// Tells players what there is to tell. What goes to many is written once in each dialect.
    fn tell(&mut self, driver: &mut Driver<ServerSession>) {
        while let Some(output) = self.host.poll() {
            match output {
                Output::Order(order) => self.orders.push(order),
                Output::Tell { to, response } => {
                    let mut written: BTreeMap<Dialect, Option<Shared>> = BTreeMap::new();
                    for (conn, dialect) in to {
                        let frame = written.entry(dialect).or_insert_with(|| {
                            dialect.write(&response).map(|frame| match frame {
                                Frame::Text(text) => Shared::text(&text, None),
                                Frame::Binary(bytes) => Shared::binary(&bytes, None),
                            })
                        });
                        if let Some(frame) = frame {
                            driver.with(conn, |session| {
                                if let Some(session) = session.websocket() {
                                    session.send_shared(frame);
                                }
                            });
                        }
                    }
                }
            }
        }
    }

    /// Does what an operator asks for.
    pub fn command(&mut self, driver: &mut Driver<ServerSession>, command: Command) -> Response {
        let response = answer(&mut self.host, driver.now(), command);
        self.tell(driver);
        response
    }

    /// Tells all players that the server is about to end, and lets them go.
    pub fn drain(&mut self, driver: &mut Driver<ServerSession>) {
        self.host.drain();
        self.tell(driver);
        let now = driver.now();
        for conn in self.conns.keys() {
            driver.with(*conn, |session| {
                if let Some(session) = session.websocket() {
                    session.close(now, CLOSE_GOING_AWAY, "the server ends");
                }
            });
        }
    }

    /// Metrics.
    pub fn families(&self) -> Vec<Family> {
        metrics::families(&self.host, self.counted.values())
    }
}

fn options(config: &Config) -> Options {
    let spaces = &config.spaces;
    Options {
        players_max: spaces.players_max as usize,
        space_players_max: usize::from(spaces.space_players_max),
        grace: spaces.grace,
        join_key: spaces.join_key.expose().as_bytes().to_vec(),
        interest: (spaces.nearest > 0).then_some(Interest {
            nearest: spaces.nearest,
            others_every: spaces.others_every,
        }),
        ..Options::default()
    }
}

fn socket_options(config: &Config) -> websocket::Options {
    websocket::Options {
        frame_bytes_max: u64::from(config.spaces.frame_bytes_max),
        message_bytes_max: config.spaces.frame_bytes_max as usize,
        queue_bytes_max: QUEUE_BYTES_MAX,
        ping_interval: PING,
        pong_timeout: PONG,
        // Clients may compress; what they are sent is too short for it.
        deflate: Some(DeflateOptions::default()),
        ..websocket::Options::default()
    }
}
