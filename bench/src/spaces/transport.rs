//! One of a player's two transports: a socket, checks, a handshake and an association.

use std::io;
use std::net::UdpSocket;
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use ringside::proto::dtls::Context;
use ringside::proto::ice::Credentials;
use ringside::proto::sctp::{self, Association, ChannelId, Reliability};
use serde_json::Value;

use crate::rtc::peer::{Peer, Progress};
use crate::rtc::sdp::{Answer, fingerprint};
use crate::rtc::socket;

/// Channels of a player that meets 255 others in four spaces.
const CHANNELS_MAX: usize = 1024;

/// One transport.
pub(super) struct Transport {
    pub(super) peer: Peer,
    pub(super) socket: UdpSocket,
    association: Option<Box<Association>>,
    /// Channels that are opened once there is an association.
    waiting: Vec<u16>,
    /// When [`Transport::handle_timeout`] has something to do.
    due: Option<Instant>,
    out: Vec<Vec<u8>>,
    pub(super) is_connected: bool,
    pub(super) complaint: Option<String>,
}

impl Transport {
    /// As the server's `transport_created` describes it. Checks begin at once.
    pub(super) fn open(
        now: Instant,
        context: &Context,
        options: &Value,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let text = |at: &str| options.pointer(at).and_then(Value::as_str);
        let candidates = options["iceCandidates"].as_array();
        let udp = candidates
            .and_then(|all| all.iter().find(|known| known["protocol"] == "udp"))
            .context("no candidate by UDP")?;
        let ip = udp["ip"].as_str().context("no address")?;
        let port = udp["port"].as_u64().context("no port")?;
        let fingerprints = options.pointer("/dtlsParameters/fingerprints");
        let known = fingerprints
            .and_then(Value::as_array)
            .and_then(|all| all.last())
            .context("no fingerprint")?;
        let algorithm = known["algorithm"].as_str().context("no hash function")?;
        let value = known["value"].as_str().context("no hash")?;
        let fingerprint = fingerprint(algorithm, value)?;
        let address = format!("{ip}:{port}").parse()?;
        let remote = Credentials {
            ufrag: text("/iceParameters/usernameFragment")
                .context("no name")?
                .to_owned(),
            password: text("/iceParameters/password")
                .context("no password")?
                .to_owned(),
        };
        let mut transport = Self {
            peer: Peer::new(context, seed),
            socket: socket::open(address, true, false)?,
            association: None,
            waiting: Vec::new(),
            due: None,
            out: Vec::new(),
            is_connected: false,
            complaint: None,
        };
        let answer = Answer {
            remote,
            fingerprint,
            address,
        };
        transport.peer.answered(now, answer, &mut transport.out);
        transport.pump(now, &mut |_, _| {});
        Ok(transport)
    }

    /// Takes a datagram; messages go to `heard`.
    pub(super) fn input(
        &mut self,
        now: Instant,
        bytes: &[u8],
        heard: &mut impl FnMut(ChannelId, Bytes),
    ) {
        self.peer.input(now, bytes, &mut self.out);
        for packet in self.peer.take_data() {
            if let Some(association) = &mut self.association {
                association.handle_input(now, packet);
            }
        }
        self.pump(now, heard);
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        heard: &mut impl FnMut(ChannelId, Bytes),
    ) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.peer.handle_timeout(now, &mut self.out);
        if let Some(association) = &mut self.association {
            association.handle_timeout(now);
        }
        self.pump(now, heard);
    }

    /// Opens a negotiated channel, unordered and without retransmissions, as the clients do.
    pub(super) fn open_channel(&mut self, now: Instant, stream: u16) {
        self.waiting.push(stream);
        self.pump(now, &mut |_, _| {});
    }

    /// Sends a message; false if it cannot go.
    pub(super) fn send(&mut self, now: Instant, stream: u16, bytes: &[u8]) -> bool {
        let Some(association) = &mut self.association else {
            return false;
        };
        let sent = association.send(now, ChannelId(stream), false, bytes);
        self.pump(now, &mut |_, _| {});
        sent.is_ok()
    }

    /// Sends a packet of media that is sealed.
    pub(super) fn send_media(&self, packet: &[u8]) -> io::Result<usize> {
        self.socket.send(packet)
    }

    pub(super) fn close(&mut self, now: Instant) {
        self.peer.close(now, &mut self.out);
        self.flush();
    }

    fn pump(&mut self, now: Instant, heard: &mut impl FnMut(ChannelId, Bytes)) {
        match self.peer.progress() {
            Some(Progress::Connected) => {
                self.is_connected = true;
                let options = sctp::Options {
                    channels_max: CHANNELS_MAX,
                    ..sctp::Options::default()
                };
                self.association = Some(Box::new(Association::new(now, true, options)));
            }
            Some(Progress::Failed(reason)) => self.complaint = Some(reason),
            None => {}
        }
        if let Some(association) = &mut self.association {
            for stream in self.waiting.drain(..) {
                let reliability = Reliability::Retransmits(0);
                let id = ChannelId(stream);
                // A number that is taken is a mistake of the server's, and shows as a loss.
                let _ = association.open_negotiated(now, id, "", "", reliability, false);
            }
            while let Some(event) = association.poll_event() {
                match event {
                    sctp::Event::Message { channel, bytes, .. } => heard(channel, bytes),
                    sctp::Event::Gone => self.complaint = Some("SCTP: gone".to_owned()),
                    sctp::Event::Opened { .. }
                    | sctp::Event::Writable(_)
                    | sctp::Event::Closed(_) => {}
                }
            }
            while let Some(packet) = association.poll_transmit() {
                self.peer.write(now, &packet, &mut self.out);
            }
        }
        let association = self.association.as_ref();
        let association = association.and_then(|known| known.poll_timeout());
        let association = association.map(|(at, _why)| at);
        self.due = self.peer.due().into_iter().chain(association).min();
        self.flush();
    }

    fn flush(&mut self) {
        for bytes in self.out.drain(..) {
            // What does not go is lost, as on any network.
            drop(self.socket.send(&bytes));
        }
    }
}
