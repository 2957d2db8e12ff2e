//! Many client sessions of one kind on one thread.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringside::base::ids::ConnId;
use ringside::drive::{Driver, Gone, Occurrence, Session};
use ringside::shard::clock;

use crate::fleet::{RING, limits};
use crate::publisher::{LOOK_EVERY, connect};
use crate::viewer::{Failed, Shared};

/// How a thread's connections come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) count: usize,
    /// New connections in a second.
    pub(crate) rate: f64,
    /// How long to wait for more than one delivery before handling them.
    pub(crate) gather: Duration,
}

/// Runs sessions that `make` makes until the run is over; `complain` hears why one was lost.
/// `at_end` sees each one that is left.
pub(crate) fn run<S: Session<Event = Failed>>(
    plan: Plan,
    shared: &Shared,
    mut make: impl FnMut(usize, Instant) -> S,
    complain: impl Fn(&str),
    at_end: impl Fn(&S),
) -> io::Result<()> {
    let limits = limits(plan.gather);
    let mut driver: Driver<S> = Driver::new(RING, limits)?;
    let mut conns: Vec<ConnId> = Vec::new();
    let (started, mut begun) = (clock::now(), 0);
    while !shared.is_over() {
        let now = clock::now();
        let due = ((now - started).as_secs_f64() * plan.rate) as usize + 1;
        while begun < plan.count.min(due) {
            let session = make(begun, clock::now());
            begun += 1;
            match connect(plan.address).map(|fd| driver.open(fd, plan.address, session)) {
                Ok(Some(conn)) => {
                    driver.establish(conn);
                    conns.push(conn);
                }
                Ok(None) => complain("no room"),
                Err(error) => complain(&error.to_string()),
            }
        }
        let next = if begun == plan.count {
            now + LOOK_EVERY
        } else {
            started + Duration::from_secs_f64(begun as f64 / plan.rate).max(now - started)
        };
        driver.turn(true, Some(next.min(now + LOOK_EVERY)))?;
        while let Some(occurrence) = driver.poll() {
            match occurrence {
                Occurrence::Event(conn, Failed(reason)) => {
                    complain(&reason);
                    driver.abort(conn);
                    conns.retain(|known| *known != conn);
                }
                Occurrence::Gone(conn, reason) => {
                    complain(match reason {
                        Gone::Closed => "closed by the server",
                        Gone::Failed => "the connection failed",
                        Gone::Displaced | Gone::Overfull | Gone::Stalled => "closed by this side",
                    });
                    conns.retain(|known| *known != conn);
                }
                Occurrence::Accepted { .. } | Occurrence::Drained(_) | Occurrence::Datagram(..) => {
                }
            }
        }
    }
    for conn in conns {
        driver.with(conn, |session| at_end(session));
        driver.abort(conn);
    }
    Ok(())
}
