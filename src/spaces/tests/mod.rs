//! Players without sockets and media.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks at the orders that it is about"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::host::{Host, Output};
use super::message::{Order, Parameters, Report, TransportId};
use super::options::Options;
use crate::base::ids::ConnId;
use crate::proto::ice::{Candidate, Credentials};
use crate::proto::unavi::{Dialect, Frame};
use crate::proto::webrtc::Fingerprint;

mod behaviour;
mod crowd;
mod transcripts;

#[expect(
    clippy::disallowed_methods,
    reason = "a test has to begin at some time"
)]
fn start() -> Instant {
    <Instant>::now()
}

const UNIX_MS: u64 = 1_795_192_289_250;

/// A host, its players' ears, and media shards that do as they are told.
struct Stage {
    host: Host,
    now: Instant,
    /// What each was told, as frames.
    heard: BTreeMap<ConnId, Vec<Frame>>,
    orders: Vec<Order>,
    /// Transports that there are.
    open: BTreeMap<TransportId, ()>,
    /// Reports wait for [`Stage::media`].
    reports: Vec<Report>,
}

impl Stage {
    fn new(options: Options) -> Self {
        Self {
            host: Host::new(options, 2, 7),
            now: start(),
            heard: BTreeMap::new(),
            orders: Vec::new(),
            open: BTreeMap::new(),
            reports: Vec::new(),
        }
    }

    fn connect(&mut self, conn: u64) -> ConnId {
        let conn = ConnId(conn);
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, conn.0 as u8));
        assert!(self.host.connected(self.now, conn, address, None));
        conn
    }

    fn text(&mut self, conn: ConnId, text: &str) {
        let (now, bytes) = (self.now, text.as_bytes());
        self.host.frame(now, UNIX_MS, conn, bytes, true);
        self.collect();
    }

    fn binary(&mut self, conn: ConnId, bytes: &[u8]) {
        self.host.frame(self.now, UNIX_MS, conn, bytes, false);
        self.collect();
    }

    fn close(&mut self, conn: ConnId) {
        self.host.gone(self.now, conn);
        self.collect();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.host.handle_timeout(self.now);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(output) = self.host.poll() {
            match output {
                Output::Tell { to, response } => {
                    for (conn, dialect) in to {
                        let frame = dialect.write(&response);
                        self.heard.entry(conn).or_default().extend(frame);
                    }
                }
                Output::Order(order) => self.obey(order),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match &order {
            Order::Open { transport, .. } => {
                assert!(self.open.insert(*transport, ()).is_none());
                self.reports.push(opened(*transport));
            }
            Order::Close { transport } => assert!(self.open.remove(transport).is_some()),
            other => assert!(self.open.contains_key(&other.transport()), "{other:?}"),
        }
        self.orders.push(order);
    }

    /// Lets the media shards answer.
    fn media(&mut self) {
        for report in std::mem::take(&mut self.reports) {
            self.host.report(report);
            self.collect();
        }
    }

    fn take_heard(&mut self, conn: ConnId) -> Vec<Frame> {
        self.heard.remove(&conn).unwrap_or_default()
    }

    /// What one was told as text.
    fn texts(&mut self, conn: ConnId) -> Vec<serde_json::Value> {
        self.take_heard(conn)
            .iter()
            .map(|frame| match frame {
                Frame::Text(text) => serde_json::from_str(text).expect("JSON"),
                Frame::Binary(_) => panic!("not text"),
            })
            .collect()
    }
}

fn opened(transport: TransportId) -> Report {
    Report::Opened {
        transport,
        parameters: Box::new(Parameters {
            local: Credentials {
                ufrag: "u".repeat(32),
                password: "p".repeat(32),
            },
            candidates: Candidate::hosts(&[Ipv4Addr::LOCALHOST.into()], 20_000, Some(20_000)),
            fingerprints: vec![Fingerprint {
                algorithm: "sha-256".to_owned(),
                bytes: vec![0xaa, 0xbb],
            }],
        }),
    }
}

/// A request of generation 2.
fn two(subject: &str, data: serde_json::Value) -> String {
    serde_json::json!({"subject": subject, "data": data}).to_string()
}

/// All dialects' way to enter a space.
fn join(dialect: Dialect, world: &str) -> String {
    match dialect {
        Dialect::Two => two("join", world.into()),
        Dialect::ThreeA => format!(r#"{{"id":"xyz.unavi.world.join","data":"{world}"}}"#),
        Dialect::ThreeB => format!(r#"{{"id":"com.wired-protocol.world.join","data":"{world}"}}"#),
        Dialect::Four => format!(r#"{{"join":{{"world":"{world}"}}}}"#),
    }
}
