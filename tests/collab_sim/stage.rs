//! A session and the connections to it.

use std::collections::BTreeMap;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use bytes::Bytes;
use ringside::base::ids::ConnId;
use ringside::collab::{Keeping, Mode, Options, Order, Scene, Session, Signs};
use ringside::proto::replication::{Connection, Event, Port, Wire};

use super::reader::Reader;

/// One connection, seen from both ends.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    address: IpAddr,
    reader: Reader,
    /// The client reads. What is sent to it otherwise stays on its way.
    pub(crate) is_reading: bool,
    waiting: Vec<Bytes>,
    taken: u64,
    /// What the client has received and nobody has looked at.
    pub(crate) inbox: Vec<Vec<Bytes>>,
    /// Why the server has closed it, if it has.
    pub(crate) is_closed: bool,
}

impl Link {
    /// Bodies of the commands that the client has received.
    pub(crate) fn commands(&self) -> &[Bytes] {
        &self.reader.commands
    }
}

/// A session with its connections.
pub(crate) struct Stage {
    pub(crate) session: Session,
    /// The scene as its keeper has it.
    pub(crate) kept: Scene,
    pub(crate) now: Instant,
    pub(crate) links: BTreeMap<ConnId, Link>,
    next: u64,
}

impl Stage {
    pub(crate) fn new(now: Instant, options: Options) -> Self {
        Self::with_scene(now, options, None)
    }

    /// A session that begins with a scene.
    pub(crate) fn with_scene(now: Instant, options: Options, scene: Option<Scene>) -> Self {
        Self {
            kept: scene.clone().unwrap_or_default(),
            session: Session::new(now, options, scene, Keeping::new(Mode::File)),
            now,
            links: BTreeMap::new(),
            next: 1,
        }
    }

    /// A connection comes to one of the ports.
    pub(crate) fn connect(&mut self, port: Port, wire: Wire) -> ConnId {
        let conn = ConnId(self.next);
        self.next += 1;
        let link = Link {
            connection: Connection::new(self.now, port),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            reader: Reader::new(wire),
            is_reading: true,
            waiting: Vec::new(),
            taken: 0,
            inbox: Vec::new(),
            is_closed: false,
        };
        self.links.insert(conn, link);
        conn
    }

    /// Bytes of a client arrive.
    pub(crate) fn input(&mut self, conn: ConnId, bytes: &[u8]) {
        self.input_from(IpAddr::V4(Ipv4Addr::LOCALHOST), conn, bytes);
    }

    /// The same from an address.
    pub(crate) fn input_from(&mut self, address: IpAddr, conn: ConnId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&conn).filter(|link| !link.is_closed) else {
            return;
        };
        link.connection.handle_input(self.now, bytes);
        link.address = address;
        self.events(conn);
        self.pump();
    }

    /// What a connection has to tell.
    fn events(&mut self, conn: ConnId) {
        self.transmit(conn);
        let address = self.links[&conn].address;
        while let Some(event) = self
            .links
            .get_mut(&conn)
            .and_then(|link| link.connection.poll_event())
        {
            match event {
                Event::Opened {
                    wire,
                    channel,
                    identity,
                } => {
                    let may_stay =
                        self.session
                            .opened(self.now, conn, address, (wire, channel, identity));
                    if !may_stay {
                        self.close(conn);
                    }
                }
                Event::Message(parts) => self.session.message(self.now, conn, parts),
                Event::Failed(_) => {
                    self.session.failed();
                    self.session.closed(self.now, conn);
                    self.close(conn);
                }
            }
        }
    }

    /// A client closes a connection, or loses it.
    pub(crate) fn drop_link(&mut self, conn: ConnId) {
        if self.links.remove(&conn).is_some_and(|link| !link.is_closed) {
            self.session.closed(self.now, conn);
            self.pump();
        }
    }

    /// Time goes on, past all that the session wants to do until then.
    pub(crate) fn advance(&mut self, to: Instant) {
        while let Some(deadline) = self.session.deadline().filter(|deadline| *deadline <= to) {
            self.now = self.now.max(deadline);
            let links = &self.links;
            self.session.tick(self.now, |conn| {
                let link = links.get(&conn)?;
                Some(Signs {
                    heard: link.connection.heard(),
                    taken: link.taken,
                })
            });
            self.pump();
        }
        self.now = self.now.max(to);
    }

    /// A client reads again.
    pub(crate) fn resume(&mut self, conn: ConnId) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.is_reading = true;
            self.deliver(conn);
            self.session.drained(conn);
            self.pump();
        }
    }

    /// What a client has received since it was last asked.
    pub(crate) fn received(&mut self, conn: ConnId) -> Vec<Vec<Bytes>> {
        self.links
            .get_mut(&conn)
            .map(|link| mem::take(&mut link.inbox))
            .unwrap_or_default()
    }

    fn pump(&mut self) {
        loop {
            while let Some(conn) = self.session.poll_trusted() {
                if let Some(link) = self.links.get_mut(&conn) {
                    link.connection.trust();
                    self.events(conn);
                }
            }
            let mut is_idle = true;
            while let Some(order) = self.session.poll_order() {
                is_idle = false;
                match order {
                    Order::Keep(change) => self.kept.apply(&change),
                    Order::Fold(job) => self.session.folded(job.run()),
                }
            }
            while let Some((conn, pieces)) = self.session.poll_send() {
                is_idle = false;
                let link = self.links.get_mut(&conn).expect("a connection that exists");
                assert!(!link.is_closed);
                link.waiting.extend(pieces);
                if self.deliver(conn) {
                    self.session.drained(conn);
                }
            }
            while let Some(conn) = self.session.poll_close() {
                is_idle = false;
                self.deliver(conn);
                self.session.closed(self.now, conn);
                self.close(conn);
            }
            if is_idle {
                return;
            }
        }
    }

    fn transmit(&mut self, conn: ConnId) {
        let link = self.links.get_mut(&conn).expect("a connection that exists");
        while let Some(bytes) = link.connection.poll_transmit() {
            link.waiting.push(bytes);
        }
        self.deliver(conn);
    }

    /// Hands over what is on its way, if the client reads.
    fn deliver(&mut self, conn: ConnId) -> bool {
        let Some(link) = self.links.get_mut(&conn).filter(|link| link.is_reading) else {
            return false;
        };
        for piece in mem::take(&mut link.waiting) {
            link.taken += piece.len() as u64;
            link.inbox.extend(link.reader.read(&piece));
        }
        true
    }

    fn close(&mut self, conn: ConnId) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.is_closed = true;
        }
    }
}
