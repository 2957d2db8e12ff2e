//! A player of generation 2 that says what it is told to: for tests of what no client library does.

#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(
    unreachable_pub,
    reason = "a shared module of test programs has no outside"
)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use ringside::proto::ice::Credentials;
use ringside::proto::sctp::{self, Association, ChannelId, Reliability};
use ringside::proto::websocket::{self, ClientHandshake, Message};
use serde_json::{Value, json};

use super::rtc_client::{Answer, Client, Identity, OPUS};
use super::support::spaces::WORLD;

/// The source of a player's sound.
pub const VOICE: u32 = 4242;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a WebSocket goes over.
pub trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// One of a player's transports.
pub struct Transport {
    pub client: Client,
    pub socket: UdpSocket,
    server: SocketAddr,
    /// Locations and whatever else came, by channel.
    pub messages: Vec<(u16, Vec<u8>)>,
    pub sequence: u64,
}

impl Transport {
    fn open(identity: &Identity, options: &Value, seed: u64) -> Self {
        let text = |at: &str| {
            options
                .pointer(at)
                .and_then(Value::as_str)
                .unwrap()
                .to_owned()
        };
        let fingerprints = options["dtlsParameters"]["fingerprints"].as_array();
        let hash = fingerprints.unwrap().last().unwrap()["value"].as_str();
        let bytes = hash.unwrap().split(':');
        let answer = Answer {
            credentials: Credentials {
                ufrag: text("/iceParameters/usernameFragment"),
                password: text("/iceParameters/password"),
            },
            fingerprint: bytes
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                .collect(),
            video_ssrc: None,
        };
        let candidates = options["iceCandidates"].as_array().unwrap();
        let udp = candidates
            .iter()
            .find(|it| it["protocol"] == "udp")
            .unwrap();
        let port = udp["port"].as_u64().unwrap() as u16;
        // The server listens on all addresses; the machine's others are none of the test's.
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let now = Instant::now();
        let mut client = Client::new(now, identity, &answer, server, seed);
        client.association = Some(Association::new(now, true, sctp::Options::default()));
        Self {
            client,
            socket,
            server,
            messages: Vec::new(),
            sequence: 0,
        }
    }

    fn step(&mut self) {
        let now = Instant::now();
        let mut bytes = [0; 2048];
        while let Ok(size) = self.socket.recv(&mut bytes) {
            self.client.handle(now, &bytes[..size]);
        }
        self.client.timeout(now);
        let association = self.client.association.as_mut().unwrap();
        while let Some(event) = association.poll_event() {
            if let sctp::Event::Message { channel, bytes, .. } = event {
                self.messages.push((channel.0, bytes.to_vec()));
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        for datagram in self.client.out.drain(..) {
            // What does not go is lost, as on any network.
            let _ = self.socket.send_to(&datagram, self.server);
        }
    }

    fn open_channel(&mut self, stream: u16) {
        let association = self.client.association.as_mut().unwrap();
        let (now, reliability) = (Instant::now(), Reliability::Retransmits(0));
        let id = ChannelId(stream);
        association
            .open_negotiated(now, id, "", "", reliability, false)
            .unwrap();
    }

    /// Sends a location: a number and a place.
    pub fn locate(&mut self, number: u8, x: i32) {
        let mut location = [0; 21];
        location[0] = number;
        location[1..5].copy_from_slice(&x.to_le_bytes());
        let association = self.client.association.as_mut().unwrap();
        let _ = association.send(Instant::now(), ChannelId(0), false, &location);
        self.client.timeout(Instant::now());
        self.flush();
    }

    /// Sends 20 ms of sound.
    pub fn speak(&mut self) {
        self.sequence += 1;
        let time = self.sequence as u32 * 960;
        let packet = self
            .client
            .packet_at(VOICE, OPUS, (self.sequence, time), &[0xfc; 60]);
        self.client.out.push(packet);
        self.flush();
    }
}

/// A player.
pub struct Player {
    wire: Box<dyn Wire + Send>,
    session: websocket::Session,
    pub identity: Identity,
    /// What it was told, but for what is done about it here.
    pub heard: Vec<(String, Value)>,
    pub number: Option<u8>,
    pub producer: Option<Transport>,
    pub consumer: Option<Transport>,
    offered: Option<Value>,
    /// Its transports are connected when the server offers them.
    pub connects: bool,
    seed: u64,
}

impl Player {
    /// One that is connected.
    #[track_caller]
    pub fn connect(port: u16, seed: u64) -> Self {
        Self::over(tcp(port), seed).expect("a WebSocket")
    }

    /// One that is connected in a certain way; the error is the server's answer.
    pub fn over(mut wire: impl Wire + Send + 'static, seed: u64) -> Result<Self, String> {
        let (mut handshake, request) = ClientHandshake::new("localhost", "/", "", true, seed);
        let text = |error: io::Error| error.to_string();
        wire.write_all(&request).map_err(text)?;
        let end = Instant::now() + PATIENCE;
        let mut head = Vec::new();
        let (deflate, rest) = loop {
            assert!(Instant::now() < end, "no answer");
            let mut bytes = [0; 4096];
            let size = match wire.read(&mut bytes) {
                Ok(0) => return Err(String::from_utf8_lossy(&head).into_owned()),
                Ok(size) => size,
                Err(error) if is_nothing(&error) => continue,
                Err(error) => return Err(error.to_string()),
            };
            head.extend_from_slice(&bytes[..size]);
            match handshake.handle_input(&bytes[..size]) {
                Ok(Some(done)) => break done,
                Ok(None) => {}
                Err(_) => return Err(String::from_utf8_lossy(&head).into_owned()),
            }
        };
        let (now, options) = (Instant::now(), websocket::Options::default());
        let mut session = websocket::Session::client(now, options, deflate, seed);
        session.handle_input(now, &rest);
        Ok(Self {
            wire: Box::new(wire),
            session,
            identity: Identity::new(seed),
            heard: Vec::new(),
            number: None,
            producer: None,
            consumer: None,
            offered: None,
            connects: true,
            seed,
        })
    }

    pub fn say(&mut self, subject: &str, data: Value) {
        let message = json!({"subject": subject, "data": data}).to_string();
        self.session.send_text(&message);
        self.write();
    }

    fn write(&mut self) {
        while let Some(bytes) = self.session.poll_transmit() {
            // A server that has closed does not read.
            let _ = self.wire.write_all(&bytes);
        }
    }

    /// Takes what has come.
    pub fn step(&mut self) {
        let mut bytes = [0; 16 * 1024];
        match self.wire.read(&mut bytes) {
            Ok(size) => self.session.handle_input(Instant::now(), &bytes[..size]),
            Err(error) if is_nothing(&error) => {}
            Err(error) => panic!("the WebSocket: {error}"),
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                websocket::Event::Message(Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    let subject = message["subject"].as_str().expect("a subject").to_owned();
                    self.told(subject, &message["data"]);
                }
                websocket::Event::Message(Message::Binary(_)) => panic!("generation 2 is text"),
                websocket::Event::Closed(reason) => {
                    self.heard
                        .push(("closed".to_owned(), json!(format!("{reason:?}"))));
                }
            }
        }
        self.write();
        let transports = [&mut self.producer, &mut self.consumer];
        transports.into_iter().flatten().for_each(Transport::step);
    }

    fn told(&mut self, subject: String, data: &Value) {
        match subject.as_str() {
            "join_success" => self.number = data["playerId"].as_u64().map(|id| id as u8),
            "transport_created" if data["type"] == "producer" => {
                if self.connects {
                    self.connect_transport("producer");
                }
                let transport = Transport::open(&self.identity, &data["options"], self.seed + 1);
                self.producer = Some(transport);
            }
            "transport_created" => self.offered = Some(data["options"].clone()),
            "create_data_consumer" | "create_consumer" => {
                if let Some(options) = self.offered.take() {
                    self.connect_transport("consumer");
                    let transport = Transport::open(&self.identity, &options, self.seed + 2);
                    self.consumer = Some(transport);
                }
                let stream = data["sctpStreamParameters"]["streamId"].as_u64();
                match stream {
                    Some(stream) => self.consumer.as_mut().unwrap().open_channel(stream as u16),
                    None => self.say("resume_audio", Value::Null),
                }
            }
            _ => {}
        }
        self.heard.push((subject, data.clone()));
    }

    pub fn connect_transport(&mut self, side: &str) {
        let value = self.identity.context.certificate().fingerprint_text();
        self.connect_transport_with(side, value.trim_start_matches("sha-256 "));
    }

    pub fn connect_transport_with(&mut self, side: &str, fingerprint: &str) {
        self.say(
            "connect_transport",
            json!({"type": side, "dtlsParameters": {"role": "client",
                "fingerprints": [{"algorithm": "sha-256", "value": fingerprint}]}}),
        );
    }

    /// Enters a space with both transports.
    pub fn enter(&mut self) {
        self.say("get_router_rtp_capabilities", Value::Null);
        self.say("join", json!(WORLD));
        self.create_transports();
        self.until("it is in", |it| it.number);
    }

    pub fn create_transports(&mut self) {
        for side in ["producer", "consumer"] {
            self.say("create_transport", json!({ "type": side }));
        }
        let opus = json!({"kind": "audio", "mimeType": "audio/opus", "clockRate": 48_000,
            "channels": 2, "preferredPayloadType": 100});
        let can = json!({"codecs": [opus], "headerExtensions": []});
        self.say("set_rtp_capabilities", can);
    }

    /// Says where it is from here on.
    pub fn produce_data(&mut self) {
        let stream = json!({"streamId": 0, "ordered": false, "maxRetransmits": 0});
        self.say("produce_data", stream);
        self.until("its transport is connected", |it| {
            it.producer.as_ref()?.client.is_connected().then_some(())
        });
        self.producer.as_mut().unwrap().open_channel(0);
    }

    pub fn produce_sound(&mut self) {
        self.produce_sound_as(&json!([{"ssrc": VOICE}]));
    }

    /// Produces sound with these SSRCs.
    pub fn produce_sound_as(&mut self, encodings: &Value) {
        let codec = json!({"mimeType": "audio/opus", "payloadType": OPUS, "clockRate": 48_000,
            "channels": 2, "parameters": {}, "rtcpFeedback": []});
        self.say(
            "produce",
            json!({"codecs": [codec], "headerExtensions": [],
                "encodings": encodings, "rtcp": {"cname": "voice", "reducedSize": true}}),
        );
    }

    /// Steps until there is something.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            self.step();
            if let Some(done) = done(self) {
                return done;
            }
            assert!(Instant::now() < end, "{what}: {:?}", self.heard);
        }
    }

    /// Words of a kind that it was told.
    pub fn count(&self, subject: &str) -> usize {
        let all = self.heard.iter();
        all.filter(|(known, _)| known == subject).count()
    }

    pub fn locations(&self) -> &[(u16, Vec<u8>)] {
        self.consumer.as_ref().map_or(&[], |it| &it.messages)
    }

    /// Packets of sound that it was sent.
    pub fn sounds(&self) -> usize {
        self.consumer.as_ref().map_or(0, |it| it.client.rtp.len())
    }
}

/// A connection that does not wait long.
#[track_caller]
pub fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    stream
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
