//! One WebRTC peer: what arrives from it, what is due, and what is sent to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::arena::{Arena, Burst, SEGMENTS_MAX};
use super::error::Gone;
use super::negotiated::{Negotiated, Setup};
use super::pacer::{Pace, Pacer};
use super::receivers::{Arrived, Receivers};
use super::reports::Reports;
use super::sender::{Round, Sender};
use crate::base::ids::TrackId;
use crate::media::{Kind, Packet, Track};
use crate::proto::ice::{self, Path};
use crate::proto::rtp::{self, abs_send_time};
use crate::proto::srtp::{Inbound, Outbound};
use crate::proto::{dtls, rtcp, sctp, srtp};

/// Packets that wait for their turn to one receiver: 2.4 MB of video. A receiver that is further
/// behind goes on with the next keyframe.
const QUEUE_PACKETS_MAX: usize = 2048;

/// How often a receiver's request for a keyframe is repeated while none comes.
const KEYFRAME_AGAIN: Duration = Duration::from_millis(500);

/// Parameters that all peers of a process share.
#[derive(Clone)]
pub struct Shared {
    /// Our certificate and the handshake's parameters.
    pub dtls: dtls::Context,
    /// ICE's.
    pub ice: ice::Options,
    /// Of what is sent to one receiver.
    pub pace: Pace,
    /// Of data channels.
    pub sctp: sctp::Options,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// What a peer tells its door.
#[derive(Debug)]
pub enum Event {
    /// Packets of this path are the peer's.
    Validated(Path),
    /// They no longer are.
    Invalidated(Path),
    /// Keys are there: media and data can go.
    Connected,
    /// The peer sends a track, or sends it in another codec.
    Track(Track),
    /// A packet of one of its tracks.
    Packet(Packet),
    /// The peer lacks packets that it was sent.
    Lost(Asked),
    /// The peer needs a keyframe of this track.
    KeyframeWanted(TrackId),
    /// The peer gets another track than before in the place of one.
    Switched {
        /// It is no longer sent.
        from: TrackId,
        /// It is.
        to: TrackId,
    },
    /// Of a data channel.
    Data(sctp::Event),
    /// The peer is gone, or of no use. Nothing comes after this.
    Gone(Gone),
}

/// A packet that a peer asks for again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Which of the outgoing tracks.
    pub(super) slot: usize,
    /// The track.
    pub track: TrackId,
    /// Its number in the track.
    pub number: u64,
    /// The number that it was sent with.
    pub(super) sequence: u64,
}

/// What is counted of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerStatistics {
    /// Bytes received and opened.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets of media sent, retransmissions apart.
    pub sent_packets: u64,
    /// Packets that the peer asked for again.
    pub asked: u64,
    /// Packets sent again.
    pub sent_again: u64,
    /// Packets that could not be opened, and replayed ones.
    pub refused: u64,
    /// Times that the peer fell behind and skipped to a keyframe.
    pub skips: u64,
    /// Round-trip time by RTCP; zero when not known.
    pub round_trip: Duration,
    /// What the peer can receive by its own estimate (REMB), in bits a second; 0 when not known.
    pub estimate: u64,
}

struct Keys {
    inbound: Inbound,
    outbound: Outbound,
}

/// A peer.
pub struct Peer {
    agent: ice::Agent,
    handshake: Option<Box<dtls::Session>>,
    shared: Arc<Shared>,
    negotiated: Box<Negotiated>,
    keys: Option<Box<Keys>>,
    /// Where everything goes.
    path: Option<Path>,
    senders: Vec<Sender>,
    receivers: Receivers,
    reports: Reports,
    association: Option<Box<sctp::Association>>,
    pacer: Pacer,
    queue: VecDeque<Packet>,
    /// Counts the packets of the transport.
    number: u16,
    began: Instant,
    is_gone: bool,
    transmits: VecDeque<(Path, Bytes)>,
    events: VecDeque<Event>,
    statistics: PeerStatistics,
}

impl Peer {
    /// A peer that has been answered. `unix` is the wall clock at `now`, since 1970; `seed` gives
    /// numbers that have to be hard to guess, such as timestamps.
    pub fn new(
        now: Instant,
        unix: Duration,
        negotiated: Negotiated,
        shared: &Arc<Shared>,
        seed: u64,
    ) -> Self {
        let mut prng = crate::base::prng::Prng::new(seed);
        let senders = negotiated
            .outgoing
            .iter()
            .map(|outgoing| Sender::new(outgoing.clone(), prng.next_u64(), negotiated.mixed_forms))
            .collect();
        let remote = Some(negotiated.remote.clone());
        Self {
            agent: ice::Agent::new(now, negotiated.local.clone(), remote, shared.ice),
            handshake: None,
            shared: Arc::clone(shared),
            keys: None,
            path: None,
            senders,
            receivers: Receivers::new(&negotiated.incoming, now, prng.next_u64() as u32),
            reports: Reports::new(now, unix, prng.next_u64()),
            association: None,
            pacer: Pacer::new(now, shared.pace),
            queue: VecDeque::new(),
            number: 0,
            began: now,
            is_gone: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            statistics: PeerStatistics::default(),
            negotiated: Box::new(negotiated),
        }
    }

    /// What was agreed on.
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// What is counted.
    pub fn statistics(&self) -> &PeerStatistics {
        &self.statistics
    }

    /// Where everything goes.
    pub fn path(&self) -> Option<Path> {
        self.path
    }

    /// Media and data can go.
    pub fn is_connected(&self) -> bool {
        self.keys.is_some() && !self.is_gone
    }

    /// Bytes arrived. Media is opened in a piece of `inbox`, which then holds its payload.
    pub fn handle_input(&mut self, now: Instant, path: Path, bytes: &[u8], inbox: &mut BytesMut) {
        if self.is_gone {
            return;
        }
        match rtp::Kind::of(bytes) {
            rtp::Kind::Stun => {
                self.agent.handle_input(now, path, bytes);
                self.drain_agent(now);
            }
            rtp::Kind::Dtls => {
                if self.agent.is_valid(path) {
                    self.handshake(now).handle_input(now, bytes);
                    self.drain_handshake(now);
                }
            }
            rtp::Kind::Rtp => self.receive_media(now, path, bytes, inbox),
            rtp::Kind::Rtcp => self.receive_reports(now, path, bytes),
            rtp::Kind::Other => self.statistics.refused += 1,
        }
    }

    fn handshake(&mut self, now: Instant) -> &mut dtls::Session {
        let (shared, negotiated) = (&self.shared, &self.negotiated);
        self.handshake.get_or_insert_with(|| {
            let role = match negotiated.setup {
                Setup::Passive => dtls::Role::Server,
                Setup::Active => dtls::Role::Client,
            };
            let expected = negotiated
                .fingerprints
                .iter()
                .filter_map(|known| dtls::Fingerprint::new(&known.algorithm, &known.bytes))
                .collect();
            Box::new(dtls::Session::new(now, role, &shared.dtls, expected))
        })
    }

    fn drain_agent(&mut self, now: Instant) {
        while let Some(transmit) = self.agent.poll_transmit() {
            self.transmits.push_back(transmit);
        }
        while let Some(event) = self.agent.poll_event() {
            match event {
                ice::Event::Validated(path) => {
                    self.path.get_or_insert(path);
                    self.events.push_back(Event::Validated(path));
                    if self.negotiated.setup == Setup::Active && self.handshake.is_none() {
                        self.handshake(now);
                        self.drain_handshake(now);
                    }
                }
                ice::Event::Selected(path) => self.path = Some(path),
                ice::Event::Dropped(path) => self.events.push_back(Event::Invalidated(path)),
                ice::Event::Expired => self.go(Gone::Silent),
            }
        }
    }

    fn drain_handshake(&mut self, now: Instant) {
        let Some(session) = &mut self.handshake else {
            return;
        };
        let mut received = Vec::new();
        let mut gone = None;
        while let Some(event) = session.poll_event() {
            match event {
                dtls::Event::Connected(keys) => {
                    let (inbound, outbound) = key_pair(&keys, self.negotiated.setup);
                    self.keys = Some(Box::new(Keys { inbound, outbound }));
                    self.reports.begin(now);
                    if let Some(data) = self.negotiated.data {
                        let is_client = self.negotiated.setup == Setup::Active;
                        let options = sctp::Options {
                            remote_port: data.port,
                            peer_message_bytes_max: data.message_bytes_max,
                            ..self.shared.sctp
                        };
                        self.association = Some(Box::new(sctp::Association::new(
                            now, is_client, options,
                        )));
                    }
                    self.events.push_back(Event::Connected);
                }
                dtls::Event::Data(bytes) => received.push(bytes),
                dtls::Event::Closed(reason) => gone = Some(Gone::Dtls(reason)),
            }
        }
        if let Some(association) = &mut self.association {
            for bytes in received {
                association.handle_input(now, bytes);
            }
        }
        self.drain_association(now);
        self.send_handshake();
        if let Some(gone) = gone {
            self.go(gone);
        }
    }

    fn send_handshake(&mut self) {
        if let Some(session) = &mut self.handshake
            && let Some(path) = self.path
        {
            while let Some(bytes) = session.poll_transmit() {
                self.statistics.sent_bytes += bytes.len() as u64;
                self.transmits.push_back((path, bytes));
            }
        }
    }

    fn drain_association(&mut self, now: Instant) {
        let (Some(association), Some(session)) = (&mut self.association, &mut self.handshake)
        else {
            return;
        };
        while let Some(event) = association.poll_event() {
            self.events.push_back(Event::Data(event));
        }
        while let Some(bytes) = association.poll_transmit(now) {
            session.write(now, &bytes);
        }
        self.send_handshake();
    }

    /// The data channels, if they were agreed on and the peer is connected. What was sent goes
    /// out with [`Peer::flush_data`].
    pub fn data(&mut self) -> Option<&mut sctp::Association> {
        self.association.as_deref_mut()
    }

    /// Sends what the data channels have to send.
    pub fn flush_data(&mut self, now: Instant) {
        self.drain_association(now);
    }

    fn receive_media(&mut self, now: Instant, path: Path, bytes: &[u8], inbox: &mut BytesMut) {
        let Some(keys) = self.keys.as_mut().filter(|_| self.agent.is_valid(path)) else {
            self.statistics.refused += 1;
            return;
        };
        inbox.extend_from_slice(bytes);
        let mut packet = inbox.split();
        let Ok(opened) = keys.inbound.unprotect_rtp(&mut packet) else {
            self.statistics.refused += 1;
            return;
        };
        packet.truncate(opened.bytes);
        self.statistics.received_bytes += bytes.len() as u64;
        match self.receivers.receive(now, packet.freeze()) {
            Arrived::Packet(packet) => self.events.push_back(Event::Packet(packet)),
            Arrived::Announced(track, packet) => {
                self.events.push_back(Event::Track(*track));
                self.events.push_back(Event::Packet(packet));
            }
            Arrived::Nothing => {}
            Arrived::Refused => self.statistics.refused += 1,
        }
    }

    fn receive_reports(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        let Some(keys) = self.keys.as_mut().filter(|_| self.agent.is_valid(path)) else {
            self.statistics.refused += 1;
            return;
        };
        let mut packet = BytesMut::from(bytes);
        let Ok(length) = keys.inbound.unprotect_rtcp(&mut packet) else {
            self.statistics.refused += 1;
            return;
        };
        self.statistics.received_bytes += bytes.len() as u64;
        packet.truncate(length);
        for part in rtcp::packets(&packet) {
            self.handle_report(now, &part);
        }
    }

    fn handle_report(&mut self, now: Instant, part: &rtcp::Packet<'_>) {
        match part {
            rtcp::Packet::SenderReport(report) => {
                self.receivers.sender_report(now, report);
                self.round_trip(now, report.blocks());
            }
            rtcp::Packet::ReceiverReport(report) => self.round_trip(now, report.blocks()),
            rtcp::Packet::Nack(nack) => {
                let Some(slot) = self.slot_of_ssrc(nack.media_ssrc) else {
                    return;
                };
                for sequence in nack.sequences() {
                    self.statistics.asked += 1;
                    // A flood of them costs no more than the pace allows.
                    if self.pacer.room(now) <= 0 {
                        continue;
                    }
                    let Some((track, number, sequence)) = self.senders[slot].missing(sequence)
                    else {
                        continue;
                    };
                    self.events.push_back(Event::Lost(Asked {
                        slot,
                        track,
                        number,
                        sequence,
                    }));
                }
            }
            rtcp::Packet::PictureLoss(loss) => self.want_keyframe(now, loss.media_ssrc),
            rtcp::Packet::FullIntra(request) => {
                for entry in request.entries() {
                    self.want_keyframe(now, entry.ssrc);
                }
            }
            rtcp::Packet::MaxBitrate(estimate) => {
                self.statistics.estimate = estimate.bits_per_second;
            }
            rtcp::Packet::Goodbye(goodbye) => self.receivers.goodbye(goodbye),
            rtcp::Packet::Feedback(_)
            | rtcp::Packet::Description(_)
            | rtcp::Packet::Other(_) => {}
        }
    }

    fn slot_of_ssrc(&self, ssrc: u32) -> Option<usize> {
        self.senders
            .iter()
            .position(|sender| sender.outgoing.stream.ssrc == ssrc)
    }

    fn want_keyframe(&mut self, now: Instant, ssrc: u32) {
        if let Some(slot) = self.slot_of_ssrc(ssrc) {
            let sender = &mut self.senders[slot];
            if sender.asked_at.is_none_or(|at| now >= at + KEYFRAME_AGAIN) {
                sender.asked_at = Some(now);
                let track = sender.numbering.track().unwrap_or(sender.numbering.wanted());
                self.events.push_back(Event::KeyframeWanted(track));
            }
        }
    }
}
