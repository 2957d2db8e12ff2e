//! What a WebRTC receiver costs before media: memory of a connected peer and of its parts, and the
//! server's CPU time of a join (offer and answer, ICE, DTLS, keys), with the client in memory.
//!
//! `cargo run --release -p ringside-load --bin peer-cost`
#![allow(clippy::unwrap_used, reason = "it measures or it panics")]
#![allow(clippy::print_stdout, reason = "its numbers are what it is for")]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringside::base::ids::TrackId;
use ringside::media::{AudioFormat, Codec, Track};
use ringside::proto::dtls::{self, Certificate, Context, Role, Versions};
use ringside::proto::ice::{self, Channel, Checker, CheckerOptions, Credentials, Path};
use ringside::proto::sctp;
use ringside::proto::sdp::Limits;
use ringside::proto::webrtc::{
    Facts, Fingerprint, Offer, Pace, Peer, Preferences, Shared, answer_play,
};
use ringside::shard::{clock, thread_cpu_time};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OFFER: &[u8] = include_bytes!("../../../tests/data/sdp/chromium_whep.sdp");
const PEERS: usize = 1000;

const PATH: Path = Path {
    remote: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9),
    channel: Channel(1),
};

const PARTS: [&str; 5] = [
    "answered",
    "session-1.2",
    "session-1.3",
    "peer-1.2",
    "peer-1.3",
];

/// Each part in a process of its own: what one has freed, the next would take.
fn main() {
    let Some(part) = std::env::args().nth(1) else {
        let program = std::env::current_exe().unwrap();
        for part in PARTS {
            let status = Command::new(&program).arg(part).status().unwrap();
            assert!(status.success());
        }
        return;
    };
    let certificate = Arc::new(Certificate::generate().unwrap());
    let versions = match part.as_str() {
        "session-1.2" | "peer-1.2" => Versions::Dtls12,
        "session-1.3" | "peer-1.3" => Versions::Dtls13,
        _ => Versions::Both,
    };
    let mut world = World::new(&certificate, versions);
    // What is made once, such as the tables of the cryptography, is not a peer's.
    drop(world.connected());
    world.spent = Spent::default();
    match part.as_str() {
        "answered" => kept(&part, || world.answered().0),
        "session-1.2" | "session-1.3" => kept(&part, || world.session()),
        _ => {
            kept(&part, || world.connected());
            world.report(&part);
        }
    }
}

/// Resident bytes of what `make` makes.
fn kept<T>(what: &str, mut make: impl FnMut() -> T) {
    let before = resident_bytes();
    let all: Vec<T> = (0..PEERS).map(|_| make()).collect();
    let bytes = (resident_bytes() - before) / all.len();
    println!("{what}: {bytes} bytes");
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// CPU time of the server's side.
#[derive(Default)]
struct Spent {
    joins: u32,
    answer: Duration,
    ice: Duration,
    dtls: Duration,
}

struct World {
    shared: Arc<Shared>,
    client: Context,
    fingerprint: Fingerprint,
    of_server: dtls::Fingerprint,
    tracks: Vec<Track>,
    seed: u64,
    spent: Spent,
}

impl World {
    fn new(certificate: &Arc<Certificate>, versions: Versions) -> Self {
        let options = dtls::Options {
            versions,
            ..dtls::Options::default()
        };
        let track = |id, codec| Track {
            id: TrackId(id),
            codec,
            init: Bytes::new(),
            video: None,
            audio: (codec == Codec::Opus).then_some(AudioFormat {
                rate: 48_000,
                channels: 2,
                bits: 0,
            }),
            language: String::new(),
            rid: String::new(),
        };
        Self {
            shared: Arc::new(Shared {
                dtls: Context::new(Arc::clone(certificate), options).unwrap(),
                ice: ice::Options::default(),
                pace: Pace::default(),
                sctp: sctp::Options::default(),
            }),
            // One certificate for both sides does as well as two.
            client: Context::new(Arc::clone(certificate), options).unwrap(),
            fingerprint: Fingerprint {
                algorithm: "sha-256".to_owned(),
                bytes: certificate.fingerprint().to_vec(),
            },
            of_server: dtls::Fingerprint::new("sha-256", certificate.fingerprint()).unwrap(),
            tracks: vec![track(1, Codec::H264), track(2, Codec::Opus)],
            seed: 0,
            spent: Spent::default(),
        }
    }

    /// A peer whose offer has been answered, and the credentials of both sides.
    fn answered(&self) -> (Peer, Credentials, Credentials) {
        let local = Credentials {
            ufrag: format!("{:08x}", self.seed),
            password: "abcdefghijklmnopqrstuvwxyz".to_owned(),
        };
        let offer = Offer::parse(OFFER, &Limits::default()).unwrap();
        let facts = Facts {
            credentials: &local,
            fingerprint: &self.fingerprint,
            candidates: &["1 1 udp 2130706431 192.0.2.1 18203 typ host".to_owned()],
            session: 1,
            seed: self.seed,
            name: "a",
        };
        let answer = answer_play(&offer, &self.tracks, &Preferences::default(), &facts).unwrap();
        let mut negotiated = answer.negotiated;
        assert_eq!(negotiated.outgoing.len(), 2);
        negotiated.fingerprints = vec![self.fingerprint.clone()];
        let remote = negotiated.remote.clone();
        let unix = Duration::from_secs(1_700_000_000);
        let peer = Peer::new(clock::now(), unix, negotiated, &self.shared, self.seed);
        (peer, local, remote)
    }

    fn connected(&mut self) -> Peer {
        self.seed += 1;
        let now = clock::now();
        let mut inbox = BytesMut::with_capacity(65_536);
        let began = thread_cpu_time();
        let (mut peer, local, remote) = self.answered();
        self.spent.answer += thread_cpu_time() - began;

        let options = CheckerOptions::default();
        let mut checker = Checker::new(now, remote, local, PATH, self.seed, options);
        let request = checker.poll_transmit().unwrap().1;
        let began = thread_cpu_time();
        peer.handle_input(now, PATH, &request, &mut inbox);
        self.spent.ice += thread_cpu_time() - began;
        assert!(peer.poll_transmit().is_some());

        let expected = [self.of_server.clone()];
        let mut client = dtls::Session::new(now, Role::Client, &self.client, expected).unwrap();
        loop {
            let from_client: Vec<Bytes> = std::iter::from_fn(|| client.poll_transmit()).collect();
            if from_client.is_empty() {
                break;
            }
            for bytes in from_client {
                let began = thread_cpu_time();
                peer.handle_input(now, PATH, &bytes, &mut inbox);
                self.spent.dtls += thread_cpu_time() - began;
            }
            while let Some((_, bytes)) = peer.poll_transmit() {
                client.handle_input(now, &bytes);
            }
        }
        while peer.poll_event().is_some() {}
        assert!(peer.is_connected() && client.is_connected());
        self.spent.joins += 1;
        peer
    }

    /// The server's session of a handshake.
    fn session(&self) -> Box<dtls::Session> {
        let now = clock::now();
        let new = |role, context| {
            let expected = [self.of_server.clone()];
            dtls::Session::new(now, role, context, expected).unwrap()
        };
        let mut server = Box::new(new(Role::Server, &self.shared.dtls));
        let mut client = new(Role::Client, &self.client);
        for _ in 0..4 {
            while let Some(bytes) = client.poll_transmit() {
                server.handle_input(now, &bytes);
            }
            while let Some(bytes) = server.poll_transmit() {
                client.handle_input(now, &bytes);
            }
        }
        while server.poll_event().is_some() {}
        assert!(server.is_connected() && client.is_connected());
        server
    }

    fn report(&self, name: &str) {
        let Spent {
            joins,
            answer,
            ice,
            dtls,
        } = &self.spent;
        for (what, spent) in [
            ("offer and answer", answer),
            ("ICE", ice),
            ("handshake and keys", dtls),
        ] {
            println!(
                "{name}: {what}: {} µs of CPU",
                spent.as_micros() / u128::from(*joins)
            );
        }
    }
}
