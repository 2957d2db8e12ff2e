//! WebRTC on the real server: peers that come, move, flood and vanish, and what is left of them.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests measure other processes in real time"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/rtc_floods.rs"]
mod floods;
#[path = "support/rtc_client.rs"]
mod rtc_client;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringside::base::prng::Prng;
use ringside::proto::dtls;
use rtc_client::{AUDIO_SSRC, Answer, Client, Identity, OPUS, VIDEO_SSRC, VP8, picture};
use serde_json::{Value, json};
use support::http::{connect, get};
use support::{Server, free_port, scratch, wait_for};

/// Consent (RFC 7675) and a sweep.
const CONSENT_MAX: Duration = Duration::from_secs(33);

struct Rtc {
    server: Server,
    media: SocketAddr,
    certificate: Arc<dtls::Certificate>,
    number: u64,
}

fn start(shards: u16, webrtc: &Value) -> Rtc {
    let media = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let pinning = scratch().join(format!("pinning-{}.toml", media.port()));
    fs::write(&pinning, format!("[shards]\nmedia = {shards}\n")).unwrap();
    let edit = |all: &mut Value| {
        let connectors = all["config"]["protocols"].as_array_mut().unwrap();
        connectors.push(json!({ "connector": "WebRTC" }));
        all["webrtc"] = json!({ "interface": "127.0.0.1", "port": media.port() });
        for (key, value) in webrtc.as_object().unwrap() {
            all["webrtc"][key] = value.clone();
        }
    };
    let stream = json!({ "cam": { "name": "cam", "source": "push://" } });
    let prepare = |command: &mut Command| {
        command.arg("--pinning").arg(&pinning);
    };
    Rtc {
        server: Server::start_edited(stream, edit, prepare),
        media,
        certificate: Arc::new(dtls::Certificate::generate().unwrap()),
        number: 0,
    }
}

/// Status, headers and body of an answer to a body that is posted.
fn post(port: u16, path: &str, body: &str) -> (u16, String, String) {
    ask(port, "POST", path, "Content-Type: application/sdp", body)
}

fn ask(port: u16, method: &str, path: &str, header: &str, body: &str) -> (u16, String, String) {
    let mut stream = connect(port).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server that has seen enough may close before all is sent.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    (status.unwrap_or(0), head.to_owned(), body.to_owned())
}

/// The value of a header.
fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

/// A client on a socket of its own.
struct Joined {
    client: Client,
    identity: Identity,
    answer: Answer,
    socket: UdpSocket,
    server: SocketAddr,
    /// The session's address.
    location: String,
    sequence: u64,
}

impl Rtc {
    fn identity(&mut self) -> Identity {
        self.number += 1;
        Identity::of(Arc::clone(&self.certificate), self.number)
    }

    fn try_join(&mut self, kind: &str) -> Result<Joined, u16> {
        self.try_join_with(&format!("/{kind}/cam"), |offer| offer)
    }

    fn try_join_with(
        &mut self,
        path: &str,
        edit: impl FnOnce(String) -> String,
    ) -> Result<Joined, u16> {
        let identity = self.identity();
        let direction = match path.starts_with("/whip/") {
            true => "sendonly",
            false => "recvonly",
        };
        let offer = edit(identity.offer(direction, true));
        let (status, head, body) = post(self.server.http, path, &offer);
        if status != 201 {
            return Err(status);
        }
        let answer = Answer::parse(&body);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = Client::new(Instant::now(), &identity, &answer, self.media, self.number);
        Ok(Joined {
            client,
            identity,
            answer,
            socket,
            server: self.media,
            location: header(&head, "Location").unwrap(),
            sequence: 1,
        })
    }

    fn join(&mut self, kind: &str) -> Joined {
        let mut joined = self.try_join(kind).unwrap();
        joined.connect();
        joined
    }

    /// A publisher whose stream can be played.
    fn publish(&mut self) -> Joined {
        let mut publisher = self.join("whip");
        let start = Instant::now();
        loop {
            publisher.publish();
            publisher.run(Duration::from_millis(20));
            if let Ok(answer) = get(self.server.http, "/json_cam.js")
                && let Ok(info) = serde_json::from_slice::<Value>(&answer.body)
                && info["meta"]["tracks"]
                    .as_object()
                    .is_some_and(|tracks| tracks.len() == 2)
            {
                return publisher;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "live");
        }
    }

    /// All metrics, those by shard added up.
    fn metrics(&self) -> BTreeMap<String, u64> {
        let text = get(self.server.control, "/metrics").unwrap().text();
        let mut all = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = name.split('{').next().unwrap().to_owned();
            let value = value.parse::<f64>().unwrap_or(0.0) as u64;
            *all.entry(name).or_insert(0) += value;
        }
        all
    }

    fn metric(&self, name: &str) -> u64 {
        let name = format!("ringside_webrtc_{name}");
        let all = self.metrics();
        *all.get(&name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// What sessions hold.
    fn census(&self) -> Vec<(String, u64)> {
        let all = self.metrics();
        [
            "ringside_webrtc_sessions",
            "ringside_webrtc_half_open_sessions",
            "ringside_webrtc_peers",
            "ringside_webrtc_connected_peers",
            "ringside_webrtc_paths",
            "ringside_webrtc_routes",
            "ringside_viewers",
            "ringside_publishers",
        ]
        .into_iter()
        .map(|name| (name.to_owned(), all[name]))
        .collect()
    }

    fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.server.process.id());
        fs::read_dir(folder).unwrap().count()
    }

    /// Waits until nothing is held any more.
    fn expect_empty(&self, limit: Duration) {
        wait_for("an empty server", limit, || {
            self.census()
                .iter()
                .all(|(_, value)| *value == 0)
                .then_some(())
        });
    }
}

impl Joined {
    fn flush(&mut self) {
        for bytes in std::mem::take(&mut self.client.out) {
            self.socket.send_to(&bytes, self.server).unwrap();
        }
    }

    /// Receives for so long.
    fn run(&mut self, time: Duration) {
        let until = Instant::now() + time;
        let mut bytes = [0; 2048];
        loop {
            self.client.timeout(Instant::now());
            self.flush();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let wait = left.min(Duration::from_millis(20));
            self.socket.set_read_timeout(Some(wait)).unwrap();
            match self.socket.recv_from(&mut bytes) {
                Ok((length, from)) => {
                    assert_eq!(from, self.server);
                    self.client.handle(Instant::now(), &bytes[..length]);
                }
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                    "{error}"
                ),
            }
        }
    }

    fn connect(&mut self) {
        let start = Instant::now();
        while !self.client.is_connected() {
            assert!(start.elapsed() < Duration::from_secs(10), "connected");
            self.run(Duration::from_millis(5));
        }
    }

    /// A picture, every tenth a keyframe, and sound.
    fn publish(&mut self) {
        let at = self.sequence;
        self.sequence += 1;
        let video = self
            .client
            .packet(VIDEO_SSRC, VP8, at, &picture(at % 10 == 1));
        let audio = self.client.packet(AUDIO_SSRC, OPUS, at, &[0xfc; 60]);
        self.socket.send_to(&video, self.server).unwrap();
        self.socket.send_to(&audio, self.server).unwrap();
    }

    fn goodbye(&mut self) {
        self.client.dtls.close(Instant::now());
        self.client.timeout(Instant::now());
        self.flush();
    }

    /// The socket's port changes, as behind a NAT that forgot.
    fn move_socket(&mut self, seed: u64) {
        self.socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let now = Instant::now();
        self.client
            .check_again(now, &self.identity, &self.answer, seed);
        self.flush();
    }
}

/// Sends media until `viewer` has some of it.
fn expect_media(publisher: &mut Joined, viewer: &mut Joined) {
    let before = viewer.client.rtp.len();
    let start = Instant::now();
    while viewer.client.rtp.len() < before + 20 {
        assert!(start.elapsed() < Duration::from_secs(10), "media");
        publisher.publish();
        publisher.run(Duration::from_millis(3));
        viewer.run(Duration::from_millis(3));
    }
}

/// 200 viewers come and go, with a word or without, and so does the publisher: all counts, the
/// descriptors and the slabs are what they were.
#[test]
fn churn_leaves_nothing_behind() {
    let mut rtc = start(2, &json!({}));
    // One round, so that what is made once is there.
    let mut publisher = rtc.publish();
    let mut viewer = rtc.join("whep");
    expect_media(&mut publisher, &mut viewer);
    viewer.goodbye();
    publisher.goodbye();
    rtc.expect_empty(Duration::from_secs(10));
    let descriptors = rtc.descriptors();
    let slabs = rtc.metrics()["ringside_slabs_in_use"];

    let mut prng = Prng::new(7);
    let mut publisher = rtc.publish();
    let mut silent = Vec::new();
    let mut viewers: Vec<Joined> = Vec::new();
    for _ in 0..200 {
        publisher.publish();
        publisher.run(Duration::from_millis(1));
        viewers.push(rtc.join("whep"));
        if viewers.len() > 5 {
            let at = prng.below(viewers.len() as u64) as usize;
            let mut gone = viewers.swap_remove(at);
            match prng.below(4) {
                0 => silent.push(gone),
                1 => {
                    gone.move_socket(prng.next_u64());
                    gone.run(Duration::from_millis(20));
                    gone.goodbye();
                }
                _ => gone.goodbye(),
            }
        }
    }
    expect_media(&mut publisher, &mut viewers[0]);
    assert!(silent.len() > 20);
    drop((viewers, silent, publisher));
    rtc.expect_empty(CONSENT_MAX);
    wait_for("descriptors", Duration::from_secs(10), || {
        (rtc.descriptors() <= descriptors).then_some(())
    });
    wait_for("slabs", Duration::from_secs(15), || {
        (rtc.metrics()["ringside_slabs_in_use"] <= slabs).then_some(())
    });
    assert!(rtc.metric("offers_answered_total") >= 203);
}

/// Checks for names that are nobody's get no answer, and cost a question to another shard at most.
#[test]
fn made_up_names_get_no_answer() {
    let mut rtc = start(2, &json!({}));
    let mut joined = rtc.try_join("whip").unwrap();
    let mut prng = Prng::new(3);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let now = Instant::now();
    for at in 0..500_u64 {
        let mut answer = Answer {
            credentials: joined.answer.credentials.clone(),
            fingerprint: joined.answer.fingerprint.clone(),
            video_ssrc: None,
        };
        // Of both shards' names, and of none.
        let mut name = answer.credentials.ufrag.into_bytes();
        let place = 3 + prng.below(7) as usize;
        name[place] = if name[place] == b'x' { b'y' } else { b'x' };
        if at % 2 == 0 {
            name[1] = b'b';
        }
        if at % 5 == 0 {
            name.truncate(4);
        }
        answer.credentials.ufrag = String::from_utf8(name).unwrap();
        let stranger = Client::new(now, &joined.identity, &answer, rtc.media, at);
        for bytes in &stranger.out {
            socket.send_to(bytes, rtc.media).unwrap();
        }
    }
    // And what is not even a check.
    for bytes in [&[22, 0xfe, 0xfd][..], &[0x80; 100], &[0; 20], &[]] {
        socket.send_to(bytes, rtc.media).unwrap();
    }
    let error = socket.recv(&mut [0; 100]).unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    let all = rtc.metrics();
    assert!(all["ringside_webrtc_claims_total"] <= 500);
    assert!(
        all["ringside_webrtc_strays_dropped_total"] >= 200,
        "{all:?}"
    );
    assert_eq!(all["ringside_webrtc_peers"], 0);
    joined.connect();
}

/// Somebody with a session of its own sends its check from another peer's address: that peer's
/// packets are still its own.
#[test]
fn an_address_stays_its_peers() {
    let mut rtc = start(1, &json!({}));
    let mut publisher = rtc.publish();
    let mut viewer = rtc.join("whep");
    expect_media(&mut publisher, &mut viewer);
    let thief = rtc.try_join("whep").unwrap();
    for bytes in &thief.client.out {
        publisher.socket.send_to(bytes, rtc.media).unwrap();
    }
    publisher.run(Duration::from_millis(100));
    expect_media(&mut publisher, &mut viewer);
    assert!(rtc.metric("paths_kept_total") >= 1);
    assert!(rtc.metric("ice_answered_total") >= 3);
}

/// Offers that nobody comes for are bounded, and forgotten after 30 s, memory and all.
#[test]
fn half_open_sessions_are_bounded() {
    let mut rtc = start(1, &json!({ "half_open_max": 1000 }));
    let mut publisher = rtc.publish();
    let identity = rtc.identity();
    let offer = identity.offer("recvonly", true);
    let mut statuses = BTreeMap::new();
    let begin = rtc.server.resident_bytes();
    for at in 0..1100 {
        let (status, ..) = post(rtc.server.http, "/whep/cam", &offer);
        *statuses.entry(status).or_insert(0) += 1;
        if at % 20 == 0 {
            publisher.publish();
            publisher.run(Duration::from_millis(1));
        }
    }
    assert_eq!(statuses, BTreeMap::from([(201, 1000), (503, 100)]));
    let grown = rtc.server.resident_bytes().saturating_sub(begin);
    assert!(grown < 30_000_000, "{grown} bytes for 1000 sessions");
    let start = Instant::now();
    while rtc.metric("half_open_sessions") > 0 {
        assert!(start.elapsed() < CONSENT_MAX);
        publisher.publish();
        publisher.run(Duration::from_millis(200));
    }
    assert_eq!(rtc.metric("never_came_total"), 1000);
    let mut viewer = rtc.join("whep");
    expect_media(&mut publisher, &mut viewer);
}

/// A peer's address changes, and with it the shard where the kernel brings its packets: media goes
/// on, both ways.
#[test]
fn peers_move_between_shards() {
    let mut rtc = start(2, &json!({}));
    let mut publisher = rtc.publish();
    let mut viewer = rtc.join("whep");
    expect_media(&mut publisher, &mut viewer);
    for seed in 0..12 {
        viewer.move_socket(seed);
        viewer.run(Duration::from_millis(50));
        expect_media(&mut publisher, &mut viewer);
        publisher.move_socket(100 + seed);
        publisher.run(Duration::from_millis(50));
        expect_media(&mut publisher, &mut viewer);
    }
    assert!(rtc.metric("strays_passed_total") > 0, "none came elsewhere");
    assert!(rtc.metric("routes") > 0);
    viewer.goodbye();
    publisher.goodbye();
    rtc.expect_empty(Duration::from_secs(10));
}

/// A viewer that goes on by TCP (RFC 4571), over one connection after the other: the kernel brings each
/// to either shard, and media comes by it whichever of them runs the viewer.
#[test]
fn connections_lead_to_peers_of_other_shards() {
    const CONNECTIONS: u64 = 12;
    let mut rtc = start(2, &json!({}));
    let mut publisher = rtc.publish();
    let mut viewer = rtc.join("whep");
    expect_media(&mut publisher, &mut viewer);
    // Its first check leads to a question to the shard that made the session, or is passed on at once.
    let crossed = |rtc: &Rtc| rtc.metric("claims_total") + rtc.metric("strays_passed_total");
    let mut elsewhere = 0;
    let mut connections = Vec::new();
    for seed in 0..CONNECTIONS {
        let before = crossed(&rtc);
        let mut stream = TcpStream::connect(rtc.media).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (now, identity) = (Instant::now(), &viewer.identity);
        viewer
            .client
            .check_again(now, identity, &viewer.answer, 300 + seed);
        let mut received = Vec::new();
        let media = viewer.client.rtp.len();
        let start = Instant::now();
        while viewer.client.rtp.len() < media + 20 {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "media by connection {seed}"
            );
            publisher.publish();
            publisher.run(Duration::from_millis(3));
            viewer.client.timeout(Instant::now());
            for bytes in std::mem::take(&mut viewer.client.out) {
                let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length[..], &bytes].concat()).unwrap();
            }
            take_frames(&mut stream, &mut received, &mut viewer.client);
        }
        elsewhere += u64::from(crossed(&rtc) > before);
        connections.push(stream);
    }
    // All of them on one shard: one time in 2048.
    assert!(elsewhere > 0 && elsewhere < CONNECTIONS, "{elsewhere}");
    drop(connections);
    viewer.move_socket(400);
    viewer.run(Duration::from_millis(50));
    expect_media(&mut publisher, &mut viewer);
    viewer.goodbye();
    publisher.goodbye();
    rtc.expect_empty(Duration::from_secs(10));
}

/// Gives the client what has come whole.
fn take_frames(stream: &mut TcpStream, received: &mut Vec<u8>, client: &mut Client) {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => panic!("the server has closed the connection"),
            Ok(length) => received.extend_from_slice(&bytes[..length]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    while received.len() >= 2 {
        let end = 2 + usize::from(u16::from_be_bytes([received[0], received[1]]));
        if received.len() < end {
            return;
        }
        client.handle(Instant::now(), &received[2..end]);
        received.drain(..end);
    }
}

#[test]
fn offers_that_are_too_much_are_refused_at_once() {
    let mut rtc = start(1, &json!({}));
    let offer = rtc.identity().offer("sendonly", true);
    let section = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=sendonly\r\n";
    let many = format!("{offer}{}", section.repeat(1000));
    let large = format!("{offer}{}", "a=x:0123456789\r\n".repeat(65_536));
    for body in [many, large, "v=0".repeat(10), String::new()] {
        let begin = Instant::now();
        let (status, _, text) = post(rtc.server.http, "/whip/cam", &body);
        assert!((400..500).contains(&status), "{status}: {text}");
        assert!(begin.elapsed() < Duration::from_secs(1));
    }
    rtc.expect_empty(Duration::from_secs(1));
    rtc.publish();
}

/// ICE restarts (RFC 9725 section 4.3.1) of both sides, at the shard that made the session and at
/// the other: media goes on before and after the client uses its new names.
#[test]
fn ice_restarts_by_patch() {
    let mut rtc = start(2, &json!({}));
    let mut publisher = rtc.publish();
    for seed in 0..6 {
        let mut viewer = rtc.join("whep");
        expect_media(&mut publisher, &mut viewer);
        restart(&rtc, &mut viewer, 10 * seed);
        expect_media(&mut publisher, &mut viewer);
        restart(&rtc, &mut publisher, 10 * seed + 1);
        expect_media(&mut publisher, &mut viewer);
        let (status, ..) = ask(rtc.server.http, "DELETE", &viewer.location, "X-A: b", "");
        assert_eq!(status, 200);
        viewer.run(Duration::from_millis(200));
        assert!(viewer.client.is_closed, "the server says goodbye");
    }
    publisher.goodbye();
    rtc.expect_empty(Duration::from_secs(10));
}

fn restart(rtc: &Rtc, joined: &mut Joined, seed: u64) {
    joined.identity.credentials.ufrag = format!("again{seed}");
    let credentials = &joined.identity.credentials;
    let fragment = format!(
        "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
        credentials.ufrag, credentials.password
    );
    let headers = "Content-Type: application/trickle-ice-sdpfrag\r\nIf-Match: *";
    let (status, head, body) = ask(
        rtc.server.http,
        "PATCH",
        &joined.location,
        headers,
        &fragment,
    );
    assert_eq!(status, 200, "{head} {body}");
    assert!(header(&head, "ETag").is_some());
    let value = |name: &str| {
        let mut lines = body.lines();
        let line = lines.find_map(|line| line.strip_prefix(name));
        line.unwrap().to_owned()
    };
    let old = joined.answer.credentials.ufrag.clone();
    joined.answer.credentials.ufrag = value("a=ice-ufrag:");
    joined.answer.credentials.password = value("a=ice-pwd:");
    assert_ne!(joined.answer.credentials.ufrag, old);
    joined.move_socket(seed);
    joined.run(Duration::from_millis(50));
}
