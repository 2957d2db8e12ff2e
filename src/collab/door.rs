//! The one part of collaborative sessions that touches sockets.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::{Value, json};

use super::admin::{Answer, Command};
use super::fold::{FoldJob, Folded};
use super::keeping::{Keeping, Mode};
use super::order::Order;
use super::scene::Scene;
use super::session::{Options, Session, Signs};
use super::statistics::{COLUMNS, Statistics};
use crate::base::ids::ConnId;
use crate::config::{Collab, CollabSession};
use crate::drive::{Driver, ServerSession};
use crate::io::Piece;
use crate::proto::replication::Event;

/// A quantity with its samples by session: name, help, whether it only grows.
pub type Row = (
    &'static str,
    &'static str,
    bool,
    Vec<(Vec<(&'static str, String)>, u64)>,
);

/// Where a session is in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place(pub usize);

/// The sessions of one shard.
#[derive(Debug, Default)]
pub struct Door {
    sessions: HashMap<Place, Session>,
    conns: HashMap<ConnId, Place>,
}

impl Door {
    /// The sessions that `is_here` says live on this shard.
    pub fn new(
        now: Instant,
        collab: Option<&Collab>,
        is_here: impl Fn(Place) -> bool,
        kept: impl Fn(Place) -> Option<(Scene, Mode)>,
    ) -> Self {
        let configured = collab
            .map(|collab| collab.sessions.as_slice())
            .unwrap_or_default();
        let sessions = configured
            .iter()
            .enumerate()
            .filter(|(place, _)| is_here(Place(*place)))
            .map(|(place, session)| {
                let (scene, mode) = kept(Place(place)).unzip();
                let keeping = Keeping::new(mode.unwrap_or(Mode::Off));
                let session = Session::new(now, options(session), scene, keeping);
                (Place(place), session)
            })
            .collect();
        Self {
            sessions,
            conns: HashMap::new(),
        }
    }

    /// Takes over what can change while sessions run: all but their ports.
    pub fn configure(&mut self, collab: Option<&Collab>) {
        let configured = collab
            .map(|collab| collab.sessions.as_slice())
            .unwrap_or_default();
        for session in self.sessions.values_mut() {
            let port = session.options.port;
            if let Some(new) = configured.iter().find(|new| new.port == port) {
                session.set_options(options(new));
            }
        }
    }

    /// A connection came to one of a session's ports.
    pub fn accepted(&mut self, conn: ConnId, place: Place) {
        self.conns.insert(conn, place);
    }

    /// Something that a connection has to tell.
    pub fn handle_event(&mut self, driver: &mut Driver<ServerSession>, conn: ConnId, event: Event) {
        let now = driver.now();
        let Some(session) = session(&mut self.sessions, &self.conns, conn) else {
            return;
        };
        match event {
            Event::Opened {
                wire,
                channel,
                identity,
            } => {
                let Some(peer) = driver.peer(conn) else {
                    return;
                };
                let address = peer.ip().to_canonical();
                if session.opened(now, conn, address, (wire, channel, identity)) {
                    driver.set_streaming(conn, true);
                } else {
                    self.conns.remove(&conn);
                    driver.close(conn);
                }
            }
            Event::Message(parts) => session.message(now, conn, parts),
            Event::Failed(error) => {
                session.failed();
                tracing::debug!(?conn, %error, "a client of a collaborative session is not understood");
                session.closed(now, conn);
                self.conns.remove(&conn);
                driver.close(conn);
            }
        }
    }

    /// All that was handed over to a connection is sent.
    pub fn drained(&mut self, conn: ConnId) {
        if let Some(session) = session(&mut self.sessions, &self.conns, conn) {
            session.drained(conn);
        }
    }

    /// A connection is gone.
    pub fn gone(&mut self, now: Instant, conn: ConnId) {
        if let Some(session) = session(&mut self.sessions, &self.conns, conn) {
            session.closed(now, conn);
        }
        self.conns.remove(&conn);
    }

    /// When the sessions have something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.sessions.values().filter_map(Session::deadline).min()
    }

    /// Hands over what the sessions have to send.
    pub fn flush(&mut self, driver: &mut Driver<ServerSession>) {
        let now = driver.now();
        for session in self.sessions.values_mut() {
            if session.deadline().is_some_and(|deadline| deadline <= now) {
                session.tick(now, |conn| signs(driver, conn));
            }
            while let Some(conn) = session.poll_trusted() {
                driver.establish(conn);
                driver.with(conn, |session| {
                    if let Some(connection) = session.replication() {
                        connection.trust();
                    }
                });
            }
            while let Some((conn, pieces)) = session.poll_send() {
                driver.send(conn, pieces.into_iter().map(Piece::Bytes));
            }
            while let Some(conn) = session.poll_close() {
                driver.close(conn);
                session.closed(now, conn);
                self.conns.remove(&conn);
            }
        }
    }

    /// True without sessions.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// What a session wants done elsewhere.
    pub fn poll_order(&mut self) -> Option<(Place, Order)> {
        let mut sessions = self.sessions.iter_mut();
        sessions.find_map(|(place, session)| Some((*place, session.poll_order()?)))
    }

    /// A node of a session was folded.
    pub fn folded(&mut self, place: Place, folded: Folded) {
        if let Some(session) = self.sessions.get_mut(&place) {
            session.folded(folded);
        }
    }

    /// A node of a session could not be handed over to be folded.
    pub fn not_folded(&mut self, place: Place, job: &FoldJob) {
        if let Some(session) = self.sessions.get_mut(&place) {
            session.not_folded(job);
        }
    }

    /// A session's log is as far as `position`.
    pub fn logged(&mut self, now: Instant, place: Place, position: u64) {
        if let Some(session) = self.sessions.get_mut(&place) {
            session.logged(now, position);
        }
    }

    /// A session's keeper cannot follow; all orders were polled.
    pub fn keeper_lost(&mut self, now: Instant, place: Place) {
        if let Some(session) = self.sessions.get_mut(&place) {
            session.keeper_lost(now);
        }
    }

    /// It can again.
    pub fn keeper_found(&mut self, place: Place) {
        if let Some(session) = self.sessions.get_mut(&place) {
            session.keeper_found();
        }
    }

    /// Does what an operator asks for, apart from saving. A session's own line is extended by `more`.
    pub fn answer(&mut self, command: &Command, more: impl Fn(Place, &mut Value)) -> Answer {
        let port = match command {
            Command::List => {
                let outline = |(place, session): (&Place, &Session)| {
                    let mut outline = session.outline();
                    more(*place, &mut outline);
                    outline
                };
                return Answer::Sessions(self.sessions.iter().map(outline).collect());
            }
            Command::Show(port) | Command::Kick { port, .. } | Command::Save(port) => *port,
        };
        let mut sessions = self.sessions.iter_mut();
        let found = sessions.find(|(_, session)| session.options.port == port);
        let Some((place, session)) = found else {
            return Answer::NotHere;
        };
        match command {
            Command::Kick { user, reason, .. } => match session.put_out(user, reason) {
                true => Answer::Done(json!({"done": true})),
                false => Answer::Refused(404, "There is no such user in the session.".to_owned()),
            },
            Command::List | Command::Show(_) | Command::Save(_) => {
                let mut shown = session.show();
                more(*place, &mut shown);
                Answer::Done(shown)
            }
        }
    }

    /// Where the session of a port is, if it is on this shard.
    pub fn place(&self, port: u16) -> Option<Place> {
        let mut sessions = self.sessions.iter();
        let found = sessions.find(|(_, session)| session.options.port == port);
        found.map(|(place, _)| *place)
    }

    /// What metrics tell of the sessions.
    pub fn rows(&self) -> Vec<Row> {
        let all: Vec<Statistics> = self.sessions.values().map(Session::statistics).collect();
        if all.is_empty() {
            return Vec::new();
        }
        COLUMNS
            .iter()
            .map(|(name, help, is_counter, value)| {
                let sample = |session: &Statistics| {
                    (vec![("port", session.port.to_string())], value(session))
                };
                (*name, *help, *is_counter, all.iter().map(sample).collect())
            })
            .collect()
    }
}

fn session<'a>(
    sessions: &'a mut HashMap<Place, Session>,
    conns: &HashMap<ConnId, Place>,
    conn: ConnId,
) -> Option<&'a mut Session> {
    sessions.get_mut(conns.get(&conn)?)
}

fn signs(driver: &Driver<ServerSession>, conn: ConnId) -> Option<Signs> {
    let connection = driver.session(conn)?.as_replication()?;
    Some(Signs {
        heard: connection.heard(),
        taken: driver.sent_bytes(conn),
    })
}

fn options(session: &CollabSession) -> Options {
    Options {
        port: session.port,
        admin_password: session.admin_password.clone(),
        server_password: session.server_password.clone(),
        versions: session.versions.clone(),
        timeout: session.timeout,
        stall: session.stall,
    }
}
