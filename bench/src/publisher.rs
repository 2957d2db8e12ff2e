//! Publishers, on a thread of their own so that viewers do not delay them.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context, bail};
use bytes::Bytes;
use ringside::base::ids::ConnId;
use ringside::drive::{Driver, Limits, Occurrence, Session};
use ringside::io::Options;
use ringside::proto::rtmp::{Client, ClientEvent};
use ringside::shard::clock;

use crate::source::{Source, Timed};
use crate::stamp;
use crate::viewer::{Shared, target};

/// How often a thread looks whether the run is over.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One connection that publishes.
pub(crate) struct Publisher {
    client: Box<Client>,
    source: Source,
    next: Timed,
    started: Option<Instant>,
    sequence: u32,
}

/// What a publisher tells its thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PublisherEvent {
    /// It may send.
    Ready,
    /// The server will not have it.
    Closed(String),
}

impl Publisher {
    pub(crate) fn new(stream: &str, mut source: Source, now: Instant) -> Self {
        let next = source.next();
        Self {
            client: Box::new(Client::publish(
                target(stream),
                stamp::nanoseconds_at(now),
                now,
            )),
            source,
            next,
            started: None,
            sequence: 0,
        }
    }

    /// Sends the configuration; the first frame is due at `now`.
    pub(crate) fn start(&mut self, now: Instant) {
        self.started = Some(now);
        for (kind, body) in self.source.configuration() {
            self.client.send_tag(kind, 0, &body);
        }
    }

    /// When the next frame is due; `None` before the start.
    pub(crate) fn due(&self) -> Option<Instant> {
        Some(self.started? + self.next.due)
    }

    /// Sends the next frame.
    pub(crate) fn send(&mut self) {
        let mut timed = std::mem::replace(&mut self.next, self.source.next());
        if let Some(at) = timed.mark_at {
            stamp::write(&mut timed.body[at..], self.sequence, stamp::nanoseconds());
            self.sequence += 1;
        }
        let Timed {
            due, kind, body, ..
        } = timed;
        self.client.send_tag(kind, due.as_millis() as u32, &body);
    }

    /// Says goodbye.
    pub(crate) fn finish(&mut self) {
        self.client.finish();
    }
}

impl Session for Publisher {
    type Event = PublisherEvent;

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        self.client.handle_input(now, bytes);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.client.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.client.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<PublisherEvent> {
        loop {
            match self.client.poll_event()? {
                ClientEvent::Ready => return Some(PublisherEvent::Ready),
                ClientEvent::Closed(reason) => {
                    return Some(PublisherEvent::Closed(format!("{reason:?}")));
                }
                ClientEvent::Connected | ClientEvent::Message(_) => {}
            }
        }
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.client.poll_timeout()
    }
}

/// Publishes until the run is over. Ends with an error when a publisher is lost.
pub(crate) fn spawn(
    rtmp: SocketAddr,
    publishers: Vec<(String, Source)>,
    shared: &Arc<Shared>,
) -> io::Result<JoinHandle<anyhow::Result<()>>> {
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name("publish".to_owned())
        .spawn(move || run(rtmp, publishers, &shared))
}

fn run(rtmp: SocketAddr, publishers: Vec<(String, Source)>, shared: &Shared) -> anyhow::Result<()> {
    let mut driver: Driver<Publisher> = Driver::new(Options::default(), Limits::default())?;
    let mut conns: Vec<ConnId> = Vec::new();
    for (stream, source) in publishers {
        let publisher = Publisher::new(&stream, source, clock::now());
        let conn = driver
            .open(connect(rtmp)?, rtmp, publisher)
            .context("no room for a publisher")?;
        driver.establish(conn);
        conns.push(conn);
    }
    let mut next = clock::now();
    while !shared.is_over() {
        driver.turn(true, Some(next))?;
        while let Some(occurrence) = driver.poll() {
            match occurrence {
                Occurrence::Event(conn, PublisherEvent::Ready) => {
                    driver.with(conn, |publisher| publisher.start(clock::now()));
                    shared.publishing.fetch_add(1, Ordering::Relaxed);
                }
                Occurrence::Event(_, PublisherEvent::Closed(reason)) => {
                    bail!("a publisher was refused or closed: {reason}");
                }
                Occurrence::Gone(_, reason) => bail!("a publisher was lost: {reason:?}"),
                Occurrence::Accepted { .. } | Occurrence::Drained(_) | Occurrence::Datagram(..) => {
                }
            }
        }
        next = clock::now() + LOOK_EVERY;
        for conn in &conns {
            next = next.min(send_due(&mut driver, *conn)?);
        }
    }
    for conn in conns {
        driver.with(conn, Publisher::finish);
        driver.close(conn);
    }
    let end = clock::now() + LOOK_EVERY;
    while driver.connections() > 0 && clock::now() < end {
        driver.turn(true, Some(end))?;
        while driver.poll().is_some() {}
    }
    Ok(())
}

/// Sends what is due on a connection, and returns when it has to be looked at again.
pub(crate) fn send_due(driver: &mut Driver<Publisher>, conn: ConnId) -> io::Result<Instant> {
    loop {
        let now = clock::now();
        let due = driver.with(conn, |publisher| {
            let due = publisher.due();
            if due.is_some_and(|due| due <= now) {
                publisher.send();
            }
            due
        });
        match due.flatten() {
            // The mark says when, so the bytes go at once.
            Some(due) if due <= now => driver.turn(false, None)?,
            Some(due) => return Ok(due),
            None => return Ok(now + LOOK_EVERY),
        }
    }
}

/// A connection that sends small pieces at once.
pub(crate) fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    socket.set_nodelay(true)?;
    Ok(socket.into())
}
