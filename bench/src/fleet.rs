//! Threads of viewers: each has a driver on a ring of its own.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use ringside::base::ids::ConnId;
use ringside::drive::{Driver, Gone, Limits, Occurrence};
use ringside::io::Options;
use ringside::shard::clock;

use crate::publisher::{LOOK_EVERY, connect};
use crate::tally::Tally;
use crate::viewer::{Failed, Kind, STALL, Shared, Viewer};

/// Receive buffers of a thread: a burst for many viewers fits, and 2 MiB stay in the cache that
/// the server shares.
pub(crate) const RING: Options = Options {
    sq_entries: 1024,
    cq_entries: 16_384,
    receive_buffers: 128,
    receive_buffer_bytes: 16 * 1024,
    registered_max: 16 * 1024,
    udp_buffers: 16,
    udp_buffer_bytes: 2048,
};

/// As many connections as there are descriptors, since their number is what is measured.
pub(crate) fn limits(gather: Duration) -> Limits {
    Limits {
        connections_max: usize::MAX,
        unestablished_max: usize::MAX,
        gather,
        ..Limits::default()
    }
}

const _: () = assert!(RING.sq_entries < RING.cq_entries);

/// The viewers of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) viewers: Vec<Wanted>,
    /// New connections of this thread in a second.
    pub(crate) connect_rate: f64,
    /// One viewer in so many is read; the others are counted.
    pub(crate) sample: usize,
    /// How long to wait for more than one delivery before handling them.
    pub(crate) gather: Duration,
}

/// One viewer that is to connect.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    pub(crate) stream: Arc<str>,
    pub(crate) address: SocketAddr,
}

/// What a thread's viewers have measured, by kind.
pub(crate) type Tallies = Vec<(Kind, Tally)>;

/// Watches until the run is over.
pub(crate) fn spawn(
    plan: Plan,
    shared: &Arc<Shared>,
) -> io::Result<JoinHandle<io::Result<Tallies>>> {
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || Fleet::new(plan, shared)?.run())
}

struct Fleet {
    driver: Driver<Viewer>,
    plan: Plan,
    shared: Arc<Shared>,
    tallies: Vec<(Kind, Rc<RefCell<Tally>>)>,
    conns: Vec<(ConnId, usize)>,
    /// Viewers that were made, for each tally.
    made: Vec<usize>,
    started: Instant,
    /// Viewers that were connected, or could not be.
    begun: usize,
}

impl Fleet {
    fn new(plan: Plan, shared: Arc<Shared>) -> io::Result<Self> {
        let limits = limits(plan.gather);
        let kinds = Kind::CONTAINERS.into_iter().chain([Kind::Raw]);
        let tallies = kinds.map(|kind| (kind, Rc::new(RefCell::new(Tally::default()))));
        let tallies: Vec<_> = tallies.collect();
        Ok(Self {
            driver: Driver::new(RING, limits)?,
            plan,
            shared,
            made: vec![0; tallies.len()],
            tallies,
            conns: Vec::new(),
            started: clock::now(),
            begun: 0,
        })
    }

    fn run(mut self) -> io::Result<Tallies> {
        while !self.shared.is_over() {
            let next = self.connect_due();
            self.driver.turn(true, Some(next))?;
            while let Some(occurrence) = self.driver.poll() {
                match occurrence {
                    Occurrence::Event(conn, Failed(reason)) => {
                        self.lost(conn, &reason);
                        self.driver.abort(conn);
                    }
                    Occurrence::Gone(conn, reason) => {
                        let text = match reason {
                            Gone::Closed => "closed by the server",
                            Gone::Failed => "the connection failed",
                            Gone::Displaced | Gone::Overfull | Gone::Stalled => {
                                "closed by this side"
                            }
                        };
                        self.lost(conn, text);
                    }
                    Occurrence::Accepted { .. }
                    | Occurrence::Drained(_)
                    | Occurrence::Datagram(..) => {}
                }
            }
        }
        self.finish();
        Ok(self
            .tallies
            .into_iter()
            .map(|(kind, tally)| (kind, tally.borrow().clone()))
            .collect())
    }

    /// Connects viewers whose turn has come; returns when to look again.
    fn connect_due(&mut self) -> Instant {
        let now = clock::now();
        let elapsed = (now - self.started).as_secs_f64();
        let due = (elapsed * self.plan.connect_rate) as usize + 1;
        while self.begun < self.plan.viewers.len().min(due) {
            self.connect(self.begun);
            self.begun += 1;
        }
        if self.begun == self.plan.viewers.len() {
            return now + LOOK_EVERY;
        }
        let next = self.begun as f64 / self.plan.connect_rate;
        self.started + Duration::from_secs_f64(next).max(now - self.started)
    }

    fn connect(&mut self, index: usize) {
        let Wanted {
            kind,
            stream,
            address,
        } = &self.plan.viewers[index];
        let place = self.tallies.iter().position(|(known, _)| known == kind);
        let place = place.expect("there is a tally for every kind");
        let tally = Rc::clone(&self.tallies[place].1);
        let connected = clock::now();
        let is_sampled = self.made[place].is_multiple_of(self.plan.sample.max(1));
        self.made[place] += 1;
        let viewer = Viewer::new(*kind, stream, &self.shared, &tally, is_sampled, connected);
        let opened = connect(*address).map(|fd| self.driver.open(fd, *address, viewer));
        match opened {
            Ok(Some(conn)) => {
                self.driver.establish(conn);
                self.conns.push((conn, place));
            }
            Ok(None) => self.complain(place, "no room"),
            Err(error) => self.complain(place, &error.to_string()),
        }
    }

    fn complain(&self, place: usize, reason: &str) {
        let mut tally = self.tallies[place].1.borrow_mut();
        tally.errors += 1;
        tally.complaint.get_or_insert_with(|| reason.to_owned());
    }

    fn lost(&mut self, conn: ConnId, reason: &str) {
        let Some(at) = self.conns.iter().position(|(known, _)| *known == conn) else {
            return;
        };
        let (_, place) = self.conns.swap_remove(at);
        let mut tally = self.tallies[place].1.borrow_mut();
        tally.disconnects += 1;
        tally.complaint.get_or_insert_with(|| reason.to_owned());
    }

    /// Counts viewers that wait for a delivery since long.
    fn finish(&mut self) {
        let now = clock::now();
        for (conn, place) in std::mem::take(&mut self.conns) {
            let state = self
                .driver
                .with(conn, |viewer| (viewer.last(), viewer.has_picture()));
            let Some((last, has_picture)) = state else {
                continue;
            };
            let mut tally = self.tallies[place].1.borrow_mut();
            tally.stalls += u64::from(last.is_some_and(|last| now - last > STALL));
            tally.errors += u64::from(!has_picture);
            self.driver.abort(conn);
        }
    }
}
