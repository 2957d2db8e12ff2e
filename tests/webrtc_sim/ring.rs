//! Our peer and a client that says what it is told to, beside each other in virtual time; nothing
//! is lost or late.

#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(
    unreachable_pub,
    reason = "a shared module of test programs has no outside"
)]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use ringside::media::Packet;
use ringside::proto::ice::{Channel, Credentials, Path};
use ringside::proto::sdp::Limits;
use ringside::proto::webrtc::{
    Arena, Burst, Event, Facts, Offer, Pace, Peer, PeerStatistics, Preferences, answer_play,
    answer_publish,
};

use crate::rtc_client::{Answer, Client, Identity};
use crate::webrtc_sim::{self, UNIX, audio_track, path, server_address, shared, video_track};

pub const STEP: Duration = Duration::from_millis(5);

/// A peer of ours and a client beside each other; nothing is lost or late.
pub struct Ring {
    pub now: Instant,
    pub peer: Peer,
    pub client: Client,
    pub arena: Arena,
    pub inbox: BytesMut,
    pub events: Vec<Event>,
    pub packets: Vec<Packet>,
    /// Datagrams that the peer has sent, where it has sent them.
    pub sent: Vec<(Path, usize)>,
    pub bursts_bytes: usize,
    /// Media as it was sent.
    pub sealed: Vec<Vec<u8>>,
    pub ssrc: Option<u32>,
}

pub fn elsewhere() -> Path {
    Path {
        remote: "192.0.2.66:666".parse().unwrap(),
        channel: Channel(0),
    }
}

impl Ring {
    pub fn new(is_publisher: bool, offer: impl FnOnce(String) -> String, has_rtx: bool) -> Self {
        let identity = Identity::new(1);
        let direction = match is_publisher {
            true => "sendonly",
            false => "recvonly",
        };
        let text = offer(identity.offer(direction, has_rtx));
        let offer = Offer::parse(text.as_bytes(), &Limits::default()).unwrap();
        let (shared, fingerprint) = shared(Pace::default());
        let credentials = Credentials {
            ufrag: "ours".to_owned(),
            password: "0123456789abcdef01234567".to_owned(),
        };
        let facts = Facts {
            credentials: &credentials,
            fingerprint: &fingerprint,
            candidates: &[],
            session: 1,
            seed: 1,
            name: "ring",
        };
        let preferences = Preferences::default();
        let (negotiated, text) = if is_publisher {
            let answer = answer_publish(&offer, &preferences, &facts).unwrap();
            (answer.negotiated, answer.text)
        } else {
            let tracks = [video_track(webrtc_sim::VIDEO), audio_track()];
            let answer = answer_play(&offer, &tracks, &preferences, &facts).unwrap();
            (answer.negotiated, answer.text)
        };
        let now = Instant::now();
        let answer = Answer::parse(&text);
        let ssrc = negotiated.outgoing.first().map(|it| it.stream.ssrc);
        Self {
            now,
            client: Client::new(now, &identity, &answer, server_address(), 1),
            peer: Peer::new(now, UNIX, negotiated, &shared, 1),
            arena: Arena::default(),
            inbox: BytesMut::new(),
            events: Vec::new(),
            packets: Vec::new(),
            sent: Vec::new(),
            bursts_bytes: 0,
            sealed: Vec::new(),
            ssrc,
        }
    }

    pub fn publisher() -> Self {
        let mut ring = Self::new(true, |offer| offer, true);
        ring.connect();
        ring
    }

    pub fn player() -> Self {
        let mut ring = Self::new(false, |offer| offer, true);
        ring.connect();
        ring
    }

    pub fn connect(&mut self) {
        for _ in 0..200 {
            if self.peer.is_connected() && self.client.is_connected() {
                return;
            }
            self.step();
        }
        panic!("not connected");
    }

    pub fn take(&mut self) {
        while let Some((to, bytes)) = self.peer.poll_transmit() {
            self.sent.push((to, bytes.len()));
            if to == path() {
                self.client.handle(self.now, &bytes);
            }
        }
        while let Some(event) = self.peer.poll_event() {
            match event {
                Event::Packet(packet) => self.packets.push(packet),
                other => self.events.push(other),
            }
        }
    }

    pub fn arrive(&mut self, path: Path, bytes: &[u8]) {
        self.peer
            .handle_input(self.now, path, bytes, &mut self.inbox);
        self.take();
    }

    /// Moves what the client has to say, and the time.
    pub fn step(&mut self) {
        self.now += STEP;
        self.client.timeout(self.now);
        for bytes in std::mem::take(&mut self.client.out) {
            self.arrive(path(), &bytes);
        }
        let mut bursts = Vec::new();
        if self
            .peer
            .poll_timeout()
            .is_some_and(|(at, _)| at <= self.now)
        {
            let arena = &mut self.arena;
            self.peer.handle_timeout(self.now, arena, &mut bursts);
        }
        self.give(bursts);
        self.take();
    }

    pub fn give(&mut self, bursts: Vec<Burst>) {
        for burst in bursts {
            let bytes = burst.bytes.len();
            self.bursts_bytes += bytes;
            let segment = burst.segment_bytes.map_or(bytes, usize::from);
            let all: bytes::Bytes = burst.bytes.into();
            for datagram in all.chunks(segment) {
                self.sealed.push(datagram.to_vec());
                self.client.handle(self.now, datagram);
            }
        }
    }

    pub fn statistics(&self) -> PeerStatistics {
        *self.peer.statistics()
    }

    /// The client sends a packet.
    pub fn send(&mut self, ssrc: u32, payload_type: u8, sequence: u64, payload: &[u8]) {
        let packet = self.client.packet(ssrc, payload_type, sequence, payload);
        self.arrive(path(), &packet);
    }

    pub fn control(&mut self, packet: Vec<u8>) {
        let packet = self.client.control(packet);
        self.arrive(path(), &packet);
    }
}
