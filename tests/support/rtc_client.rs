//! A WebRTC client of one path, which says what it is told to: for tests of what no browser sends.

#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(
    unreachable_pub,
    reason = "a shared module of test programs has no outside"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ringside::proto::dtls;
use ringside::proto::ice::{Channel, Checker, CheckerOptions, Credentials, Path};
use ringside::proto::rtp::{Fields, Kind, write_header};
use ringside::proto::sctp;
use ringside::proto::srtp::{Inbound, Outbound, Profile};

pub const VIDEO_SSRC: u32 = 1111;
pub const RTX_SSRC: u32 = 1112;
pub const AUDIO_SSRC: u32 = 2222;
pub const VP8: u8 = 96;
pub const RTX: u8 = 97;
pub const OPUS: u8 = 111;

/// What a client offers with.
pub struct Identity {
    pub context: dtls::Context,
    pub credentials: Credentials,
}

impl Identity {
    pub fn new(number: u64) -> Self {
        let certificate = Arc::new(dtls::Certificate::generate().unwrap());
        Self::of(certificate, number)
    }

    pub fn of(certificate: Arc<dtls::Certificate>, number: u64) -> Self {
        Self {
            context: dtls::Context::new(certificate, dtls::Options::default()).unwrap(),
            credentials: Credentials {
                ufrag: format!("client{number}"),
                password: "client-password-of-32-characters".to_owned(),
            },
        }
    }

    /// An offer of VP8, with retransmissions if `has_rtx`, and Opus, in one direction.
    pub fn offer(&self, direction: &str, has_rtx: bool) -> String {
        let (ufrag, password) = (&self.credentials.ufrag, &self.credentials.password);
        let fingerprint = self.context.certificate().fingerprint_text();
        let mut lines = vec![
            "v=0".to_owned(),
            "o=- 1 1 IN IP4 127.0.0.1".to_owned(),
            "s=-".to_owned(),
            "t=0 0".to_owned(),
            "a=group:BUNDLE 0 1".to_owned(),
            format!("a=ice-ufrag:{ufrag}"),
            format!("a=ice-pwd:{password}"),
            format!("a=fingerprint:sha-256 {fingerprint}"),
            "a=setup:actpass".to_owned(),
        ];
        let numbers = if has_rtx { "96 97" } else { "96" };
        lines.push(format!("m=video 9 UDP/TLS/RTP/SAVPF {numbers}"));
        lines.extend(["c=IN IP4 0.0.0.0", "a=mid:0", "a=rtcp-mux"].map(str::to_owned));
        lines.push(format!("a={direction}"));
        lines.extend(
            [
                "a=rtpmap:96 VP8/90000",
                "a=rtcp-fb:96 nack",
                "a=rtcp-fb:96 nack pli",
            ]
            .map(str::to_owned),
        );
        if has_rtx {
            lines.extend(["a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96"].map(str::to_owned));
        }
        if direction == "sendonly" {
            if has_rtx {
                lines.push(format!("a=ssrc-group:FID {VIDEO_SSRC} {RTX_SSRC}"));
                lines.push(format!("a=ssrc:{RTX_SSRC} cname:c"));
            }
            lines.push(format!("a=ssrc:{VIDEO_SSRC} cname:c"));
        }
        lines.push("m=audio 9 UDP/TLS/RTP/SAVPF 111".to_owned());
        lines.extend(["c=IN IP4 0.0.0.0", "a=mid:1", "a=rtcp-mux"].map(str::to_owned));
        lines.push(format!("a={direction}"));
        lines.push("a=rtpmap:111 opus/48000/2".to_owned());
        if direction == "sendonly" {
            lines.push(format!("a=ssrc:{AUDIO_SSRC} cname:c"));
        }
        lines.iter().map(|line| format!("{line}\r\n")).collect()
    }
}

/// What an answer says to a client.
#[derive(Debug)]
pub struct Answer {
    pub credentials: Credentials,
    pub fingerprint: Vec<u8>,
    /// Of the video that the server sends.
    pub video_ssrc: Option<u32>,
}

impl Answer {
    pub fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let mut lines = text.lines();
            let line = lines.find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {text}"))
                .to_owned()
        };
        let hex = value("a=fingerprint:sha-256 ");
        let bytes = hex.split(':').map(|byte| u8::from_str_radix(byte, 16));
        Self {
            credentials: Credentials {
                ufrag: value("a=ice-ufrag:"),
                password: value("a=ice-pwd:"),
            },
            fingerprint: bytes.map(Result::unwrap).collect(),
            video_ssrc: text.lines().find_map(|line| {
                let number = line.strip_prefix("a=ssrc:")?.split(' ').next()?;
                number.parse().ok()
            }),
        }
    }
}

/// The client's side of a session.
pub struct Client {
    pub checker: Checker,
    pub dtls: dtls::Session,
    pub keys: Option<(Inbound, Outbound)>,
    /// RTCP is numbered by us, RTP by the caller.
    pub path: Path,
    /// Data channels, where they were offered.
    pub association: Option<sctp::Association>,
    /// Datagrams to send.
    pub out: Vec<Vec<u8>>,
    /// What was received and opened.
    pub rtp: Vec<Vec<u8>>,
    pub rtcp: Vec<Vec<u8>>,
    pub is_closed: bool,
    begun: bool,
}

impl Client {
    pub fn new(
        now: Instant,
        identity: &Identity,
        answer: &Answer,
        server: SocketAddr,
        seed: u64,
    ) -> Self {
        let path = Path {
            remote: server,
            channel: Channel(0),
        };
        let expected = dtls::Fingerprint::new("sha-256", &answer.fingerprint).unwrap();
        let role = dtls::Role::Client;
        let mut client = Self {
            checker: Checker::new(
                now,
                identity.credentials.clone(),
                answer.credentials.clone(),
                path,
                seed,
                CheckerOptions::default(),
            ),
            dtls: dtls::Session::new(now, role, &identity.context, [expected]).unwrap(),
            keys: None,
            path,
            association: None,
            out: Vec::new(),
            rtp: Vec::new(),
            rtcp: Vec::new(),
            is_closed: false,
            begun: false,
        };
        client.drain(now);
        client
    }

    pub fn is_connected(&self) -> bool {
        self.keys.is_some()
    }

    /// Another check that this address is ours, as from a new one.
    pub fn check_again(&mut self, now: Instant, identity: &Identity, answer: &Answer, seed: u64) {
        self.checker = Checker::new(
            now,
            identity.credentials.clone(),
            answer.credentials.clone(),
            self.path,
            seed,
            CheckerOptions::default(),
        );
        self.drain(now);
    }

    pub fn handle(&mut self, now: Instant, bytes: &[u8]) {
        match Kind::of(bytes) {
            Kind::Stun => self.checker.handle_input(now, self.path, bytes),
            Kind::Dtls => self.dtls.handle_input(now, bytes),
            Kind::Rtp => {
                let mut packet = bytes.to_vec();
                if let Some((inbound, _)) = &mut self.keys
                    && let Ok(opened) = inbound.unprotect_rtp(&mut packet)
                {
                    packet.truncate(opened.bytes);
                    self.rtp.push(packet);
                }
            }
            Kind::Rtcp => {
                let mut packet = bytes.to_vec();
                if let Some((inbound, _)) = &mut self.keys
                    && let Ok(length) = inbound.unprotect_rtcp(&mut packet)
                {
                    packet.truncate(length);
                    self.rtcp.push(packet);
                }
            }
            Kind::Other => panic!("the server sent {bytes:?}"),
        }
        self.drain(now);
    }

    pub fn timeout(&mut self, now: Instant) {
        self.checker.handle_timeout(now);
        if let Some(association) = &mut self.association {
            association.handle_timeout(now);
        }
        if self.begun {
            self.dtls.handle_timeout(now);
        }
        self.drain(now);
    }

    fn drain(&mut self, now: Instant) {
        while let Some((_, bytes)) = self.checker.poll_transmit() {
            self.out.push(bytes.to_vec());
        }
        while self.checker.poll_event().is_some() {}
        // DTLS begins when the path works, as a browser's does.
        self.begun |= self.checker.is_connected();
        if !self.begun {
            return;
        }
        self.send_handshake();
        while let Some(event) = self.dtls.poll_event() {
            match event {
                dtls::Event::Connected { srtp } => {
                    let srtp = srtp.unwrap();
                    let profile = Profile::from_id(srtp.profile().number()).unwrap();
                    self.keys = Some((
                        Inbound::new(profile, srtp.server_key(), srtp.server_salt()),
                        Outbound::new(profile, srtp.client_key(), srtp.client_salt()),
                    ));
                }
                dtls::Event::Data(bytes) => {
                    if let Some(association) = &mut self.association {
                        association.handle_input(now, bytes);
                    }
                }
                dtls::Event::Closed(_) => self.is_closed = true,
            }
        }
        if let Some(association) = &mut self.association
            && self.keys.is_some()
        {
            while let Some(bytes) = association.poll_transmit() {
                let _ = self.dtls.write(now, &bytes);
            }
        }
        self.send_handshake();
    }

    fn send_handshake(&mut self) {
        while let Some(bytes) = self.dtls.poll_transmit() {
            self.out.push(bytes.to_vec());
        }
    }

    /// A sealed packet. The sequence number is extended.
    pub fn packet(&self, ssrc: u32, payload_type: u8, sequence: u64, payload: &[u8]) -> Vec<u8> {
        let timestamp = sequence as u32 * 3000;
        self.packet_at(ssrc, payload_type, (sequence, timestamp), payload)
    }

    /// The same with a time of its own.
    pub fn packet_at(
        &self,
        ssrc: u32,
        payload_type: u8,
        (sequence, timestamp): (u64, u32),
        payload: &[u8],
    ) -> Vec<u8> {
        let (_, outbound) = self.keys.as_ref().unwrap();
        let mut packet = vec![0; 12];
        let fields = Fields {
            marker: true,
            has_padding: false,
            payload_type,
            sequence: sequence as u16,
            timestamp,
            ssrc,
        };
        let header = write_header(&mut packet, &fields, &[]).unwrap();
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + outbound.rtp_tag_bytes(), 0);
        outbound.protect_rtp((sequence >> 16) as u32, header, &mut packet);
        packet
    }

    /// A sealed RTCP packet.
    pub fn control(&mut self, mut packet: Vec<u8>) -> Vec<u8> {
        let (_, outbound) = self.keys.as_mut().unwrap();
        outbound.protect_rtcp(&mut packet).unwrap();
        packet
    }
}

/// A picture of VP8 in one packet.
pub fn picture(is_key: bool) -> Vec<u8> {
    let mut payload = vec![
        0x10,
        u8::from(!is_key),
        0,
        0,
        0x9d,
        0x01,
        0x2a,
        64,
        0,
        64,
        0,
    ];
    payload.resize(200, 7);
    payload
}
