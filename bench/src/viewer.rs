//! A viewer: plays one stream in one container and measures its delivery.

use std::cell::RefCell;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use ringside::drive::Session;
use ringside::proto::http::ClientSession;
use ringside::proto::rtmp::{Client, ClientEvent, Target};

use crate::container::{self, Container, Flv, Mp4, Seen, Ts};
use crate::stamp;
use crate::tally::Tally;

/// A gap of more than this is a stall.
pub(crate) const STALL: Duration = Duration::from_secs(1);

/// What a viewer plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Rtmp,
    Flv,
    Ts,
    Mp4,
    /// Bytes without a protocol.
    Raw,
}

impl Kind {
    pub(crate) const CONTAINERS: [Self; 4] = [Self::Rtmp, Self::Flv, Self::Ts, Self::Mp4];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Flv => "flv",
            Self::Ts => "ts",
            Self::Mp4 => "mp4",
            Self::Raw => "raw",
        }
    }
}

/// How many viewers of which kind: `rtmp=100,flv=50`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mix(pub(crate) Vec<(Kind, usize)>);

impl FromStr for Mix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let part = |part: &str| {
            let (name, count) = part.split_once('=').context("expected KIND=COUNT")?;
            let Some(kind) = Kind::CONTAINERS
                .into_iter()
                .find(|kind| kind.name() == name)
            else {
                bail!("{name:?} is none of rtmp, flv, ts and mp4");
            };
            Ok((kind, count.parse().context("a count is a number")?))
        };
        text.split(',')
            .map(part)
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }
}

impl Mix {
    /// The kind of every viewer, the kinds spread evenly.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let mut places: Vec<(f64, Kind)> = Vec::new();
        for (kind, count) in &self.0 {
            let place = |index: usize| (index as f64 + 0.5) / *count as f64;
            places.extend((0..*count).map(|index| (place(index), *kind)));
        }
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        places.into_iter().map(|(_, kind)| kind).collect()
    }
}

/// What all threads of a run share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// What arrives counts.
    pub(crate) is_measuring: AtomicBool,
    /// All threads end.
    pub(crate) is_over: AtomicBool,
    /// Bytes that viewers have received.
    pub(crate) bytes: AtomicU64,
    /// Viewers that have seen a picture, and those that will not.
    pub(crate) settled: AtomicUsize,
    /// Publishers that may send.
    pub(crate) publishing: AtomicUsize,
}

impl Shared {
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// What a viewer tells its thread: why it cannot go on.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

/// One connection.
pub(crate) struct Viewer {
    protocol: Protocol,
    shared: Arc<Shared>,
    tally: Rc<RefCell<Tally>>,
    is_sampled: bool,
    connected: Instant,
    /// When bytes came last, once media has come.
    last: Option<Instant>,
    has_picture: bool,
    failure: Option<Failed>,
}

enum Protocol {
    Rtmp(Box<Client>),
    Http(Box<ClientSession>, Container),
    /// Bytes are counted and not looked at.
    Counting,
}

impl Viewer {
    /// A viewer of `stream` that began to connect at `connected`. One that is not sampled is read
    /// up to its first picture only.
    pub(crate) fn new(
        kind: Kind,
        stream: &str,
        shared: &Arc<Shared>,
        tally: &Rc<RefCell<Tally>>,
        is_sampled: bool,
        connected: Instant,
    ) -> Self {
        let http = |container| {
            let target = format!("/{stream}.{}", kind.name());
            Protocol::Http(
                Box::new(ClientSession::get("127.0.0.1", &target)),
                container,
            )
        };
        let protocol = match kind {
            Kind::Rtmp => {
                let seed = stamp::nanoseconds_at(connected);
                Protocol::Rtmp(Box::new(Client::play(target(stream), seed, connected)))
            }
            Kind::Flv => http(Container::Flv(Flv::new())),
            Kind::Ts => http(Container::Ts(Ts::new())),
            Kind::Mp4 => http(Container::Mp4(Mp4::new())),
            Kind::Raw => Protocol::Counting,
        };
        Self {
            protocol,
            shared: Arc::clone(shared),
            tally: Rc::clone(tally),
            is_sampled,
            connected,
            last: None,
            has_picture: kind == Kind::Raw,
            failure: None,
        }
    }

    /// When bytes came last, once media has come.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// It plays.
    pub(crate) fn has_picture(&self) -> bool {
        self.has_picture
    }

    fn delivered(&mut self, now: Instant) {
        let mut tally = self.tally.borrow_mut();
        match self.last.replace(now) {
            // Pieces of one delivery are handled at one time.
            Some(last) if last == now => {}
            Some(last) if self.shared.is_measuring.load(Ordering::Relaxed) => {
                let gap = now - last;
                tally.gap.record(gap);
                tally.stalls += u64::from(gap > STALL);
            }
            Some(_) => {}
            None => tally.first_byte.record(now - self.connected),
        }
    }

    fn seen(&mut self, now: Instant, seen: Seen) {
        if seen.is_keyframe && !self.has_picture {
            self.has_picture = true;
            self.tally
                .borrow_mut()
                .first_keyframe
                .record(now - self.connected);
            self.shared.settled.fetch_add(1, Ordering::Relaxed);
        }
        let Some(sent) = seen.sent else {
            return;
        };
        // What was sent before the viewer came is not late.
        let is_live = sent >= stamp::nanoseconds_at(self.connected);
        if self.is_sampled && is_live && self.shared.is_measuring.load(Ordering::Relaxed) {
            let latency = stamp::nanoseconds_at(now).saturating_sub(sent);
            self.tally
                .borrow_mut()
                .latency
                .record(Duration::from_nanos(latency));
        }
    }

    /// Reads media; true if there was some.
    fn read(&mut self, now: Instant, bytes: &[u8]) -> bool {
        let mut has_media = false;
        let mut frames = Vec::new();
        match &mut self.protocol {
            Protocol::Counting => return true,
            Protocol::Rtmp(client) => {
                client.handle_input(now, bytes);
                while let Some(event) = client.poll_event() {
                    match event {
                        ClientEvent::Message(message) => {
                            has_media = true;
                            frames.extend(container::tag(message.kind, &message.payload));
                        }
                        ClientEvent::Closed(reason) => {
                            self.failure = Some(Failed(format!("RTMP: {reason:?}")));
                        }
                        ClientEvent::Connected | ClientEvent::Ready => {}
                    }
                }
                // In the middle of a stream any input is media.
                has_media |= self.last.is_some();
            }
            Protocol::Http(session, container) => {
                let result = session.handle_input(bytes, |body| {
                    has_media = true;
                    container.read(body, |seen| frames.push(seen));
                });
                match (result, session.status()) {
                    (Err(error), _) => self.failure = Some(Failed(format!("HTTP: {error}"))),
                    (Ok(()), None | Some(200)) => {}
                    (Ok(()), Some(status)) => {
                        self.failure = Some(Failed(format!("HTTP: status {status}")));
                    }
                }
                if session.is_done() && self.failure.is_none() {
                    self.failure = Some(Failed("HTTP: the stream has ended".to_owned()));
                }
            }
        }
        for frame in frames {
            self.seen(now, frame);
        }
        has_media
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        if !self.has_picture {
            self.shared.settled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Session for Viewer {
    type Event = Failed;

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        self.shared
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.read(now, bytes) {
            self.delivered(now);
        }
        if self.has_picture && !self.is_sampled && self.failure.is_none() {
            self.protocol = Protocol::Counting;
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Protocol::Rtmp(client) = &mut self.protocol {
            client.handle_timeout(now);
            self.read(now, &[]);
        }
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        match &mut self.protocol {
            Protocol::Rtmp(client) => client.poll_transmit(),
            Protocol::Http(session, _) => session.poll_transmit(),
            Protocol::Counting => None,
        }
    }

    fn poll_event(&mut self) -> Option<Failed> {
        self.failure.take()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.protocol {
            Protocol::Rtmp(client) => client.poll_timeout(),
            Protocol::Http(..) | Protocol::Counting => None,
        }
    }
}

/// What publishers and players of a stream name.
pub(crate) fn target(stream: &str) -> Target {
    Target {
        app: "live".to_owned(),
        name: stream.to_owned(),
        query: String::new(),
        tc_url: "rtmp://127.0.0.1/live".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_spread_evenly() {
        let mix: Mix = "rtmp=4,flv=2".parse().unwrap();
        let names: Vec<&str> = mix.kinds().into_iter().map(Kind::name).collect();
        assert_eq!(names, ["rtmp", "flv", "rtmp", "rtmp", "flv", "rtmp"]);
        assert!("rtsp=1".parse::<Mix>().is_err() && "flv".parse::<Mix>().is_err());
    }
}
