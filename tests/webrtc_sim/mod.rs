//! Our peer and a `str0m` peer, which offers as a browser does, over a seeded lossy link in virtual
//! time. Keys come from the system's randomness, so that a seed repeats the link and not the bytes.

#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(
    unreachable_pub,
    reason = "a shared module of test programs has no outside"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a simulation has to begin at some time"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ringside::base::ids::TrackId;
use ringside::base::prng::Prng;
use ringside::media::{AudioFormat, Codec, Extras, Kind, MediaTime, Packet, Start, Track};
use ringside::proto::ice::{self, Channel, Credentials, Path};
use ringside::proto::sdp::Limits;
use ringside::proto::webrtc::{
    Arena, Burst, Event, Facts, Fingerprint, Negotiated, Offer, Pace, Peer, Preferences, Shared,
    answer_play, answer_publish,
};
use ringside::proto::{dtls, sctp};
use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Input, Output, Rtc};

pub const VIDEO: TrackId = TrackId(0);
pub const LAYER: TrackId = TrackId(1);
pub const AUDIO: TrackId = TrackId(2);

/// Unix time where the simulation begins.
pub const UNIX: Duration = Duration::from_secs(1_700_000_000);

/// What the link does to each datagram, either way.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub loss_percent: u64,
    pub delay: Duration,
    /// Up to so much more, which reorders.
    pub jitter: Duration,
}

pub const CLEAN: Link = Link {
    loss_percent: 0,
    delay: Duration::from_millis(5),
    jitter: Duration::ZERO,
};

pub const LOSSY: Link = Link {
    loss_percent: 5,
    delay: Duration::from_millis(50),
    jitter: Duration::from_millis(15),
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The browser plays.
    Play,
    /// It publishes.
    Publish,
}

type Flight = Reverse<(Instant, u64, bool, Vec<u8>)>;

pub struct World {
    pub seed: u64,
    pub now: Instant,
    pub begin: Instant,
    pub link: Link,
    pub prng: Prng,
    pub peer: Peer,
    pub rtc: Rtc,
    pub mids: BTreeMap<&'static str, Mid>,
    arena: Arena,
    inbox: BytesMut,
    flights: BinaryHeap<Flight>,
    sent: u64,
    browser_due: Instant,
    /// What the server's exchange would keep.
    pub log: BTreeMap<(TrackId, u64), Packet>,
    pub events: Vec<Event>,
    pub packets: Vec<Packet>,
    pub tracks: Vec<Track>,
    pub received: Vec<(Instant, RtpPacket)>,
    pub browser: Vec<str0m::Event>,
    /// Datagrams of one send of ours, and its bytes.
    pub bursts: Vec<(Instant, usize, usize)>,
    /// Retransmissions are answered.
    pub answers_nacks: bool,
}

/// A world ends with its seed if it ends by a panic.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}", self.seed);
        }
    }
}

pub fn browser_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 5000))
}

pub fn server_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 9000))
}

pub fn path() -> Path {
    Path {
        remote: browser_address(),
        channel: Channel(0),
    }
}

pub fn video_track(id: TrackId) -> Track {
    Track {
        id,
        codec: Codec::Vp8,
        init: Bytes::new(),
        video: None,
        audio: None,
        language: String::new(),
        rid: String::new(),
    }
}

pub fn audio_track() -> Track {
    Track {
        id: AUDIO,
        codec: Codec::Opus,
        audio: Some(AudioFormat {
            rate: 48_000,
            channels: 2,
            bits: 0,
        }),
        ..video_track(AUDIO)
    }
}

pub fn shared(pace: Pace) -> (Arc<Shared>, Fingerprint) {
    let certificate = Arc::new(dtls::Certificate::generate().unwrap());
    let fingerprint = Fingerprint {
        algorithm: "sha-256".to_owned(),
        bytes: certificate.fingerprint().to_vec(),
    };
    let shared = Shared {
        dtls: dtls::Context::new(certificate, dtls::Options::default()).unwrap(),
        ice: ice::Options::default(),
        pace,
        sctp: sctp::Options::default(),
    };
    (Arc::new(shared), fingerprint)
}

/// The browser's offer, agreed on: what each side needs to begin.
struct Agreed {
    negotiated: Negotiated,
    shared: Arc<Shared>,
    rtc: Rtc,
    mids: BTreeMap<&'static str, Mid>,
}

fn agree(begin: Instant, seed: u64, role: Role, pace: Pace) -> Agreed {
    let mut rtc = Rtc::builder()
        .clear_codecs()
        .enable_vp8(true)
        .enable_opus(true, false)
        .set_rtp_mode(true)
        .build(begin);
    rtc.add_local_candidate(Candidate::host(browser_address(), "udp").unwrap());
    let direction = match role {
        Role::Play => Direction::RecvOnly,
        Role::Publish => Direction::SendOnly,
    };
    let mut api = rtc.sdp_api();
    let mut add = |kind| api.add_media(kind, direction, Some("s".into()), None, None);
    let mids = BTreeMap::from([
        ("video", add(MediaKind::Video)),
        ("audio", add(MediaKind::Audio)),
    ]);
    api.add_channel("from the browser".to_owned());
    let (offer, pending) = api.apply().unwrap();
    let text = offer.to_sdp_string();
    let offer = Offer::parse(text.as_bytes(), &Limits::default()).unwrap();
    let (shared, fingerprint) = shared(pace);
    let credentials = Credentials {
        ufrag: "ours".to_owned(),
        password: "0123456789abcdef01234567".to_owned(),
    };
    let candidate = format!(
        "1 1 udp 2130706431 {} {} typ host",
        server_address().ip(),
        server_address().port()
    );
    let facts = Facts {
        credentials: &credentials,
        fingerprint: &fingerprint,
        candidates: &[candidate],
        session: seed,
        seed,
        name: "sim",
    };
    let preferences = Preferences::default();
    let (negotiated, answer) = match role {
        Role::Play => {
            let tracks = [video_track(VIDEO), audio_track()];
            let answer = answer_play(&offer, &tracks, &preferences, &facts).unwrap();
            assert!(answer.left_out.is_empty(), "{:?}", answer.left_out);
            (answer.negotiated, answer.text)
        }
        Role::Publish => {
            let answer = answer_publish(&offer, &preferences, &facts).unwrap();
            (answer.negotiated, answer.text)
        }
    };
    let answer = SdpAnswer::from_sdp_string(&answer).unwrap();
    rtc.sdp_api().accept_answer(pending, answer).unwrap();
    Agreed {
        negotiated,
        shared,
        rtc,
        mids,
    }
}

impl World {
    pub fn new(seed: u64, role: Role, link: Link) -> Self {
        Self::with(seed, role, link, Pace::default())
    }

    pub fn with(seed: u64, role: Role, link: Link, pace: Pace) -> Self {
        let begin = Instant::now();
        let agreed = agree(begin, seed, role, pace);
        Self {
            seed,
            now: begin,
            begin,
            link,
            prng: Prng::new(seed),
            peer: Peer::new(begin, UNIX, agreed.negotiated, &agreed.shared, seed),
            rtc: agreed.rtc,
            mids: agreed.mids,
            arena: Arena::default(),
            inbox: BytesMut::new(),
            flights: BinaryHeap::new(),
            sent: 0,
            browser_due: begin,
            log: BTreeMap::new(),
            events: Vec::new(),
            packets: Vec::new(),
            tracks: Vec::new(),
            received: Vec::new(),
            browser: Vec::new(),
            bursts: Vec::new(),
            answers_nacks: true,
        }
    }

    /// Runs until both sides are connected.
    pub fn connect(&mut self) {
        let until = self.now + Duration::from_secs(20);
        while !(self.peer.is_connected() && self.rtc.is_connected()) {
            assert!(self.now < until, "connected within 20 s");
            self.run(Duration::from_millis(10));
        }
        if !self.peer.negotiated().incoming.is_empty() {
            for mid in self.mids.values() {
                let mut api = self.rtc.direct_api();
                let stream = api.stream_tx_by_mid(*mid, None).unwrap();
                // It is to answer all it is asked for.
                stream.set_rtx_cache(2000, Duration::from_secs(10), None);
            }
        }
        self.run(Duration::from_millis(500));
    }

    fn fly(&mut self, is_to_us: bool, bytes: Vec<u8>) {
        if self.prng.below(100) < self.link.loss_percent {
            return;
        }
        let jitter = self.link.jitter.as_micros() as u64;
        let more = Duration::from_micros(self.prng.below(jitter + 1));
        self.sent += 1;
        let at = self.now + self.link.delay + more;
        self.flights.push(Reverse((at, self.sent, is_to_us, bytes)));
    }

    /// Runs for `time`.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.settle();
            let ours = self.peer.poll_timeout().map(|(at, _)| at);
            let flight = self.flights.peek().map(|Reverse((at, ..))| *at);
            let next = [ours, flight, Some(self.browser_due)];
            let next = next.into_iter().flatten().min().unwrap_or(until);
            if next > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            if self.browser_due <= self.now {
                self.rtc.handle_input(Input::Timeout(self.now)).unwrap();
            }
            if ours.is_some_and(|at| at <= self.now) {
                let mut bursts = Vec::new();
                self.peer
                    .handle_timeout(self.now, &mut self.arena, &mut bursts);
                self.send(bursts);
                let again = self.peer.poll_timeout();
                assert!(
                    again.is_none_or(|(at, _)| at > self.now),
                    "a timer does not go on: {again:?}"
                );
            }
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        while let Some(Reverse((at, ..))) = self.flights.peek()
            && *at <= self.now
        {
            let Some(Reverse((_, _, is_to_us, bytes))) = self.flights.pop() else {
                return;
            };
            if is_to_us {
                self.arrive(path(), &bytes);
            } else {
                let receive =
                    Receive::new(Protocol::Udp, server_address(), browser_address(), &bytes);
                let input = Input::Receive(self.now, receive.unwrap());
                self.rtc.handle_input(input).unwrap();
                self.settle();
            }
        }
    }

    /// Our side receives bytes.
    pub fn arrive(&mut self, path: Path, bytes: &[u8]) {
        self.peer
            .handle_input(self.now, path, bytes, &mut self.inbox);
        self.settle();
    }

    /// Takes what both sides have to say, until there is nothing more.
    pub fn settle(&mut self) {
        while let Some((to, bytes)) = self.peer.poll_transmit() {
            assert!(!bytes.is_empty());
            if to == path() {
                self.fly(false, bytes.to_vec());
            }
        }
        while let Some(event) = self.peer.poll_event() {
            match event {
                Event::Packet(packet) => self.packets.push(packet),
                Event::Track(track) => self.tracks.push(track),
                Event::Lost(asked) if self.answers_nacks => {
                    let Some(packet) = self.log.get(&(asked.track, asked.number)) else {
                        continue;
                    };
                    let mut bursts = Vec::new();
                    let arena = &mut self.arena;
                    self.peer
                        .send_again(self.now, packet, asked, arena, &mut bursts);
                    self.send(bursts);
                }
                other => self.events.push(other),
            }
        }
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => {
                    self.browser_due = at.max(self.now + Duration::from_micros(100));
                    return;
                }
                Output::Transmit(transmit) => {
                    assert_eq!(transmit.destination, server_address());
                    self.fly(true, transmit.contents.to_vec());
                }
                Output::Event(str0m::Event::RtpPacket(packet)) => {
                    self.received.push((self.now, packet));
                }
                Output::Event(event) => self.browser.push(event),
            }
        }
    }

    fn send(&mut self, bursts: Vec<Burst>) {
        for burst in bursts {
            assert_eq!(burst.path, path());
            let bytes = burst.bytes.len();
            self.bursts.push((self.now, burst.segments, bytes));
            let segment = burst.segment_bytes.map_or(bytes, usize::from);
            let all: Bytes = burst.bytes.into();
            let mut count = 0;
            for datagram in all.chunks(segment) {
                count += 1;
                self.fly(false, datagram.to_vec());
            }
            assert_eq!(count, burst.segments);
        }
    }

    /// Our side sends packets, which the log keeps.
    pub fn forward(&mut self, packets: &[Packet], is_backlog: bool) {
        for packet in packets {
            self.log
                .insert((packet.track, packet.number), packet.clone());
        }
        let mut bursts = Vec::new();
        let arena = &mut self.arena;
        self.peer
            .forward(self.now, packets, is_backlog, arena, &mut bursts);
        self.send(bursts);
        self.settle();
    }

    pub fn time(&self) -> MediaTime {
        let micros = (self.now - self.begin).as_micros();
        MediaTime::from_micros(i64::try_from(micros).unwrap())
    }

    /// A picture of `count` packets, taken at this moment.
    pub fn picture(&self, track: TrackId, number: u64, count: u64, is_key: bool) -> Vec<Packet> {
        let packet = |at: u64| {
            let first = at == 0;
            let mut payload = vec![if first { 0x10 } else { 0 }];
            // The frame tag of VP8: its lowest bit says that it is no keyframe.
            payload.extend([u8::from(!is_key), 0, 0]);
            payload.extend((number + at).to_be_bytes());
            payload.resize(1100 + (at % 3) as usize, 0x55);
            Packet {
                track,
                number: number + at,
                time: self.time(),
                marker: at + 1 == count,
                start: match (first, is_key) {
                    (true, true) => Start::Keyframe,
                    (true, false) => Start::Frame,
                    (false, _) => Start::No,
                },
                payload: payload.into(),
                extras: Extras::default(),
                received: self.now,
            }
        };
        (0..count).map(packet).collect()
    }

    pub fn sound(&self, number: u64) -> Packet {
        let mut payload = vec![0xfc];
        payload.extend(number.to_be_bytes());
        Packet {
            track: AUDIO,
            start: Start::Keyframe,
            payload: payload.into(),
            marker: false,
            ..self.picture(AUDIO, number, 1, true).remove(0)
        }
    }

    /// The browser's packets of one kind in the order of their sequence numbers, each once.
    pub fn played(&self, kind: Kind) -> BTreeMap<u64, &RtpPacket> {
        let outgoing = self.peer.negotiated().outgoing.iter();
        let ssrc = outgoing
            .filter(|outgoing| outgoing.kind == kind)
            .map(|outgoing| outgoing.stream.ssrc)
            .next()
            .unwrap();
        self.received
            .iter()
            .filter(|(_, packet)| *packet.header.ssrc == ssrc)
            .map(|(_, packet)| (*packet.seq_no, packet))
            .collect()
    }
}

/// The number that a packet of [`World::picture`] carries.
pub fn number_of(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[4..12].try_into().unwrap())
}
