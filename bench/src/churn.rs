//! Viewers and publishers that come and go at random, with manners and without.
//!
//! Beside them one publisher and a viewer of each kind stay, and must notice nothing. At the end
//! the server has to be as it was: no descriptor, connection or slab more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use clap::Args;
use ringside::base::ids::ConnId;
use ringside::base::prng::Prng;
use ringside::drive::{Driver, Limits, Occurrence, Session};
use ringside::io::Options as Ring;
use ringside::shard::clock;
use serde_json::{Value, json};
use socket2::SockRef;

use crate::control::Metrics;
use crate::fleet::{self, Plan, Wanted};
use crate::process::Process;
use crate::publisher::{self, Publisher, PublisherEvent, connect};
use crate::source::{Shape, Source, Synthetic};
use crate::streams::{join, pause, total, wait_until};
use crate::tally::Tally;
use crate::viewer::{Failed, Kind, Shared, Viewer};

/// Names that publishers take, behind the stream's own and `+`.
const STREAMS: u64 = 4;

/// How long a connection stays at most.
const STAY_MS_MAX: u64 = 6000;

/// How long a connection that was cut in the middle of a step is left open at most.
const CUT_STAY_MS_MAX: u64 = 1500;

/// Bytes of the RTMP handshake that a client sends: C0 and C1, then C2 (Adobe RTMP 1.0 5.2).
const C0: u64 = 1;
const C0_C1: u64 = 1537;
const HANDSHAKE: u64 = 1537 + 1536;

/// What to do.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The server's RTMP port.
    #[arg(long, default_value = "127.0.0.1:1935")]
    pub rtmp: SocketAddr,
    /// The server's HTTP port.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// The server's control port.
    #[arg(long, default_value = "127.0.0.1:4242")]
    pub control: SocketAddr,
    /// The stream that stays; others are NAME+churn0 and so on.
    #[arg(long, default_value = "live")]
    pub stream: String,
    /// The server's process.
    #[arg(long)]
    pub pid: u32,
    /// How long.
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    /// The same seed makes the same choices.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// New connections a second.
    #[arg(long, default_value_t = 50.0)]
    pub rate: f64,
    /// Connections at one time.
    #[arg(long, default_value_t = 150)]
    pub connections: usize,
    /// How long the server has to let go of everything.
    #[arg(long, default_value_t = 20.0)]
    pub settle: f64,
}

/// How often the descriptors are counted, 20 ms apart. The least number counts.
const LOOKS: usize = 10;

/// Runs it, and writes one line of JSON to `out`. True if the server is as it was and the viewers
/// that stayed have noticed nothing.
pub fn run(options: &Options, out: &mut impl Write) -> anyhow::Result<bool> {
    let server = Process::new(options.pid);
    let before = Look::take(options, server)?;
    let shared = Arc::new(Shared::default());
    let source = Source::Synthetic(Synthetic::new(Shape::default()));
    let publish = publisher::spawn(
        options.rtmp,
        vec![(options.stream.clone(), source)],
        &shared,
    )?;
    if !wait_until(Duration::from_secs(10), || {
        shared.publishing.load(Ordering::Relaxed) > 0
    }) {
        bail!("the server did not let the publisher in");
    }
    let watch = fleet::spawn(steady(options), &shared)?;
    wait_until(Duration::from_secs(5), || {
        shared.settled.load(Ordering::Relaxed) >= 4
    });
    shared.is_measuring.store(true, Ordering::Relaxed);
    let mut churn = Churn::new(options)?;
    churn.run(|| publish.is_finished() || watch.is_finished())?;
    let endings = churn.finish()?;
    let during = Look::take(options, server)?;
    shared.is_over.store(true, Ordering::Relaxed);
    let steady = total(&join(vec![watch])?);
    let lost = publish.join().expect("publishers do not panic").err();

    let mut after = Look::take(options, server)?;
    let is_settled = wait_until(Duration::from_secs_f64(options.settle), || {
        if after.has_returned_to(&before) {
            return true;
        }
        pause(Duration::from_millis(500));
        match Look::take(options, server) {
            Ok(look) => after = look,
            Err(error) => eprintln!("{error:#}"),
        }
        after.has_returned_to(&before)
    });
    let unexpected: u64 = endings
        .iter()
        .filter(|(reason, _)| is_unexpected(reason))
        .map(|(_, count)| count)
        .sum();
    let disturbed = steady.errors + steady.disconnects + steady.stalls;
    let is_good = is_settled && unexpected == 0 && disturbed == 0 && lost.is_none();
    let result = json!({
        "kind": "churn",
        "seed": options.seed,
        "seconds": options.seconds,
        "is_good": is_good,
        "has_returned": is_settled,
        "before": before.describe(),
        "end_of_load": during.describe(),
        "after": after.describe(),
        "endings": endings,
        "unexpected": unexpected,
        "steady": {
            "errors": steady.errors,
            "disconnects": steady.disconnects,
            "stalls": steady.stalls,
            "complaint": steady.complaint,
            "added_latency_ms": steady.latency.summary(),
            "delivery_gap_ms": steady.gap.summary(),
            "publisher_lost": lost.map(|error| error.to_string()),
        },
    });
    writeln!(out, "{result}")?;
    Ok(is_good)
}

/// Bytes that no server should send; everything else is an answer.
fn is_unexpected(reason: &str) -> bool {
    reason.contains("malformed") || reason.contains("Protocol(")
}

fn steady(options: &Options) -> Plan {
    let viewers = Kind::CONTAINERS.map(|kind| Wanted {
        kind,
        stream: options.stream.as_str().into(),
        address: if kind == Kind::Rtmp {
            options.rtmp
        } else {
            options.http
        },
    });
    Plan {
        viewers: viewers.into(),
        connect_rate: 100.0,
        sample: 1,
        gather: Duration::ZERO,
    }
}

/// What has to return to where it was.
struct Look {
    descriptors: usize,
    rss: u64,
    connections: f64,
    slabs_in_use: f64,
    publishers: f64,
    viewers: f64,
}

impl Look {
    fn take(options: &Options, server: Process) -> anyhow::Result<Self> {
        let metrics = Metrics::read(options.control)?;
        // The server closes the connection that asked a moment after its answer has been read.
        let mut descriptors = server.descriptors()?;
        for _ in 0..LOOKS {
            pause(Duration::from_millis(20));
            descriptors = descriptors.min(server.descriptors()?);
        }
        Ok(Self {
            descriptors,
            rss: server.rss()?,
            connections: metrics.sum("connections"),
            slabs_in_use: metrics.sum("slabs_in_use"),
            publishers: metrics.sum("publishers"),
            viewers: metrics.sum("viewers"),
        })
    }

    fn has_returned_to(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors
            && self.connections <= before.connections
            && self.slabs_in_use <= before.slabs_in_use
            && self.publishers <= before.publishers
            && self.viewers <= before.viewers
    }

    fn describe(&self) -> Value {
        json!({
            "descriptors": self.descriptors,
            "rss": self.rss,
            "connections": self.connections,
            "slabs_in_use": self.slabs_in_use,
            "publishers": self.publishers,
            "viewers": self.viewers,
        })
    }
}

/// A connection that may be cut after so many bytes of what it would send.
struct Visitor {
    role: Role,
    /// `None` is never cut.
    left: Option<u64>,
    is_cut: bool,
}

enum Role {
    Viewer(Box<Viewer>),
    Publisher(Box<Publisher>),
}

enum VisitorEvent {
    /// All that it may send has been handed over.
    Cut,
    Ready,
    Ended(String),
}

impl Visitor {
    fn publisher(&mut self) -> Option<&mut Publisher> {
        match &mut self.role {
            Role::Publisher(publisher) => Some(publisher),
            Role::Viewer(_) => None,
        }
    }
}

impl Session for Visitor {
    type Event = VisitorEvent;

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        match &mut self.role {
            Role::Viewer(viewer) => viewer.handle_input(now, bytes),
            Role::Publisher(publisher) => publisher.handle_input(now, bytes),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &mut self.role {
            Role::Viewer(viewer) => viewer.handle_timeout(now),
            Role::Publisher(publisher) => publisher.handle_timeout(now),
        }
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.left == Some(0) {
            return None;
        }
        let mut bytes = match &mut self.role {
            Role::Viewer(viewer) => viewer.poll_transmit(),
            Role::Publisher(publisher) => publisher.poll_transmit(),
        }?;
        if let Some(left) = &mut self.left {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        Some(bytes)
    }

    fn poll_event(&mut self) -> Option<VisitorEvent> {
        if self.left == Some(0) && !self.is_cut {
            self.is_cut = true;
            return Some(VisitorEvent::Cut);
        }
        match &mut self.role {
            Role::Viewer(viewer) => viewer
                .poll_event()
                .map(|Failed(reason)| VisitorEvent::Ended(reason)),
            Role::Publisher(publisher) => publisher.poll_event().map(|event| match event {
                PublisherEvent::Ready => VisitorEvent::Ready,
                PublisherEvent::Closed(reason) => VisitorEvent::Ended(reason),
            }),
        }
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.role {
            Role::Viewer(viewer) => viewer.poll_timeout(),
            Role::Publisher(publisher) => publisher.poll_timeout(),
        }
    }
}

/// A connection that is there, and when and how it goes.
struct Stay {
    conn: ConnId,
    until: Instant,
    says_goodbye: bool,
    is_publisher: bool,
}

struct Churn<'a> {
    options: &'a Options,
    driver: Driver<Visitor>,
    random: Prng,
    stays: Vec<Stay>,
    /// Viewers that ask and never read.
    deaf: Vec<(TcpStream, Instant)>,
    endings: BTreeMap<String, u64>,
    shared: Arc<Shared>,
    tally: Rc<RefCell<Tally>>,
}

impl<'a> Churn<'a> {
    fn new(options: &'a Options) -> io::Result<Self> {
        let limits = Limits {
            connections_max: usize::MAX,
            unestablished_max: usize::MAX,
            ..Limits::default()
        };
        Ok(Self {
            options,
            driver: Driver::new(Ring::default(), limits)?,
            random: Prng::new(options.seed),
            stays: Vec::new(),
            deaf: Vec::new(),
            endings: BTreeMap::new(),
            shared: Arc::new(Shared::default()),
            tally: Rc::new(RefCell::new(Tally::default())),
        })
    }

    fn run(&mut self, is_lost: impl Fn() -> bool) -> io::Result<()> {
        let start = clock::now();
        let end = start + Duration::from_secs_f64(self.options.seconds);
        let (mut come, mut told) = (0_u32, start);
        while clock::now() < end && !is_lost() {
            let now = clock::now();
            while f64::from(come) < (now - start).as_secs_f64() * self.options.rate {
                come += 1;
                if self.stays.len() + self.deaf.len() < self.options.connections {
                    self.arrive();
                }
            }
            self.turn()?;
            if now >= told + Duration::from_secs(1) {
                told = now;
                eprintln!(
                    "{:5.0} s  {come} came, {} are here",
                    (now - start).as_secs_f64(),
                    self.stays.len()
                );
            }
        }
        Ok(())
    }

    /// Ends what is left, and tells how connections have ended.
    fn finish(mut self) -> io::Result<BTreeMap<String, u64>> {
        let now = clock::now();
        self.stays.iter_mut().for_each(|stay| stay.until = now);
        let end = now + Duration::from_millis(200);
        while clock::now() < end {
            self.turn()?;
        }
        Ok(self.endings)
    }

    fn turn(&mut self) -> io::Result<()> {
        self.driver
            .turn(true, Some(clock::now() + Duration::from_millis(5)))?;
        while let Some(occurrence) = self.driver.poll() {
            match occurrence {
                Occurrence::Event(conn, VisitorEvent::Cut) => {
                    let stay = self.random.below(CUT_STAY_MS_MAX);
                    let until = clock::now() + Duration::from_millis(stay);
                    let cut = self.stays.iter_mut().find(|known| known.conn == conn);
                    if let Some(cut) = cut {
                        cut.until = cut.until.min(until);
                        cut.says_goodbye = false;
                    }
                    self.count("cut");
                }
                Occurrence::Event(conn, VisitorEvent::Ready) => {
                    let start = |visitor: &mut Visitor| {
                        let now = clock::now();
                        if let Some(publisher) = visitor.publisher() {
                            publisher.start(now);
                        }
                    };
                    self.driver.with(conn, start);
                }
                Occurrence::Event(conn, VisitorEvent::Ended(reason)) => {
                    self.count(&reason);
                    self.forget(conn);
                    self.driver.abort(conn);
                }
                Occurrence::Gone(conn, reason) => {
                    self.count(&format!("by the server: {reason:?}"));
                    self.forget(conn);
                }
                Occurrence::Accepted { .. } | Occurrence::Drained(_) | Occurrence::Datagram(..) => {
                }
            }
        }
        self.send_due();
        self.leave_due();
        Ok(())
    }

    fn arrive(&mut self) {
        let now = clock::now();
        let stay = self.random.below(STAY_MS_MAX);
        let until = now + Duration::from_millis(stay);
        if self.random.chance(5) {
            return self.arrive_deaf(until);
        }
        let is_publisher = self.random.chance(25);
        let kind = Kind::CONTAINERS[self.random.below(4) as usize];
        let name = match self.random.below(10) {
            0..4 if !is_publisher => self.options.stream.clone(),
            // Nobody publishes this one.
            4 if !is_publisher => format!("{}+nobody", self.options.stream),
            // A second publisher, who has to be refused.
            0 => self.options.stream.clone(),
            _ => format!(
                "{}+churn{}",
                self.options.stream,
                self.random.below(STREAMS)
            ),
        };
        let is_rtmp = is_publisher || kind == Kind::Rtmp;
        let left = self
            .random
            .chance(50)
            .then(|| self.cut_at(is_rtmp, is_publisher));
        let role = if is_publisher {
            let shape = Shape {
                video_kbps: 400.0,
                gop_ms: 1000.0,
                ..Shape::default()
            };
            let source = Source::Synthetic(Synthetic::new(shape));
            Role::Publisher(Box::new(Publisher::new(&name, source, now)))
        } else {
            let viewer = Viewer::new(kind, &name, &self.shared, &self.tally, true, now);
            Role::Viewer(Box::new(viewer))
        };
        let address = if is_rtmp {
            self.options.rtmp
        } else {
            self.options.http
        };
        let says_goodbye = self.random.chance(50);
        let resets = self.random.chance(30);
        let fd = match connect(address) {
            Ok(fd) => fd,
            Err(error) => return self.count(&format!("connecting: {error}")),
        };
        if resets {
            // The peer gets a reset instead of an end.
            let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
        }
        let visitor = Visitor {
            role,
            left,
            is_cut: false,
        };
        if let Some(conn) = self.driver.open(fd, address, visitor) {
            self.driver.establish(conn);
            self.stays.push(Stay {
                conn,
                until,
                says_goodbye,
                is_publisher,
            });
        }
    }

    fn arrive_deaf(&mut self, until: Instant) {
        let target = format!(
            "GET /{}.flv HTTP/1.1\r\nHost: a\r\n\r\n",
            self.options.stream
        );
        match TcpStream::connect(self.options.http) {
            Ok(mut socket) => {
                let _ = socket.write_all(target.as_bytes());
                self.deaf.push((socket, until));
            }
            Err(error) => self.count(&format!("connecting: {error}")),
        }
    }

    /// After how many bytes a connection ends: at or in each step of its protocol.
    fn cut_at(&mut self, is_rtmp: bool, is_publisher: bool) -> u64 {
        let mut within = |from: u64, bytes: u64| from + self.random.below(bytes);
        if !is_rtmp {
            return within(0, 60);
        }
        let media = if is_publisher { 300_000 } else { 600 };
        let points = [
            0,
            C0,
            C0 + 768,
            C0_C1,
            within(C0_C1, 1536),
            HANDSHAKE,
            // connect; releaseStream to createStream; publish or play; the middle of a frame.
            within(HANDSHAKE, 250),
            within(HANDSHAKE + 250, 150),
            within(HANDSHAKE + 350, 150),
            within(HANDSHAKE + 500, media),
            within(HANDSHAKE + 500, media),
        ];
        points[self.random.below(points.len() as u64) as usize]
    }

    fn send_due(&mut self) {
        let now = clock::now();
        for stay in self.stays.iter().filter(|stay| stay.is_publisher) {
            self.driver.with(stay.conn, |visitor| {
                let Some(publisher) = visitor.publisher() else {
                    return;
                };
                while publisher.due().is_some_and(|due| due <= now) {
                    publisher.send();
                }
            });
        }
    }

    fn leave_due(&mut self) {
        let now = clock::now();
        self.deaf.retain(|(_, until)| *until > now);
        let leaving: Vec<(ConnId, bool)> = self
            .stays
            .iter()
            .filter(|stay| stay.until <= now)
            .map(|stay| (stay.conn, stay.says_goodbye))
            .collect();
        for (conn, says_goodbye) in leaving {
            self.forget(conn);
            if says_goodbye {
                self.driver.with(conn, |visitor| {
                    visitor.publisher().map(Publisher::finish);
                });
                self.driver.close(conn);
                self.count("left with goodbye");
            } else {
                self.driver.abort(conn);
                self.count("left without a word");
            }
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.stays.retain(|stay| stay.conn != conn);
    }

    fn count(&mut self, ending: &str) {
        *self.endings.entry(ending.to_owned()).or_default() += 1;
    }
}
