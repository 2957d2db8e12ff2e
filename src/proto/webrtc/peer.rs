//! One WebRTC peer: what arrives from it, what is due, and what is sent to it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::error::Gone;
use super::negotiated::{Negotiated, Setup};
use super::pacer::{Pace, Pacer};
use super::receivers::{Arrived, Receivers};
use super::reports::Reports;
use super::sender::Sender;
use crate::base::ids::TrackId;
use crate::media::{Packet, Track};
use crate::proto::ice::{self, Credentials, Path};
use crate::proto::rtp;
use crate::proto::srtp::{Inbound, Outbound};
use crate::proto::{dtls, rtcp, sctp, srtp};

/// How often a receiver's request for a keyframe is repeated while none comes.
const KEYFRAME_AGAIN: Duration = Duration::from_millis(500);

/// What a request for a packet costs of the pace, whether it can be answered or not.
const NACK_COST_BYTES: usize = 100;

/// Received packets are opened in blocks of this size, which live as long as the last of their
/// packets: a second of video of 500 kbit/s.
const INBOX_BYTES: usize = 64 * 1024;

/// How long a peer that answers checks may take for its handshake. Without a bound it would hold
/// its place by nothing but checks.
const CONNECT: Duration = Duration::from_secs(30);

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
    /// Packets of media received and opened.
    pub received_packets: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets of media sent, retransmissions apart.
    pub sent_packets: u64,
    /// Packets that the peer asked for again.
    pub asked: u64,
    /// Packets sent again.
    pub sent_again: u64,
    /// Packets that could not be opened, are of no stream, or came from an address that is not
    /// the peer's.
    pub refused: u64,
    /// Packets that came before, or are too old to tell. Firefox probes for bandwidth with them.
    pub replayed: u64,
    /// Keyframes that the peer asked for; those asked for again at once included.
    pub keyframes_wanted: u64,
    /// Keyframes that the peer was asked for.
    pub keyframes_asked: u64,
    /// Packets that the peer was asked for again.
    pub nacks_sent: u64,
    /// Requests for packets that were not looked at because the pace had no room for the answer.
    pub nacks_refused: u64,
    /// Times that the peer fell behind and skipped to a keyframe.
    pub skips: u64,
    /// Round-trip time by RTCP; zero when not known.
    pub round_trip: Duration,
    /// What the peer can receive by its own estimate (REMB), in bits a second; 0 when not known.
    pub estimate: u64,
}

impl PeerStatistics {
    /// Adds another peer's, times and estimates apart.
    pub fn add(&mut self, other: &Self) {
        self.received_bytes += other.received_bytes;
        self.received_packets += other.received_packets;
        self.sent_bytes += other.sent_bytes;
        self.sent_packets += other.sent_packets;
        self.asked += other.asked;
        self.sent_again += other.sent_again;
        self.refused += other.refused;
        self.replayed += other.replayed;
        self.keyframes_wanted += other.keyframes_wanted;
        self.keyframes_asked += other.keyframes_asked;
        self.nacks_sent += other.nacks_sent;
        self.nacks_refused += other.nacks_refused;
        self.skips += other.skips;
    }

    fn count_unopened(&mut self, error: srtp::Error) {
        match error {
            srtp::Error::Replayed | srtp::Error::TooOld => self.replayed += 1,
            srtp::Error::Short
            | srtp::Error::Version
            | srtp::Error::Unencrypted
            | srtp::Error::NotAuthentic
            | srtp::Error::KeyExhausted => self.refused += 1,
        }
    }
}

pub(super) struct Keys {
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
}

/// A peer.
pub struct Peer {
    pub(super) agent: ice::Agent,
    pub(super) handshake: Option<Box<dtls::Session>>,
    shared: Arc<Shared>,
    pub(super) negotiated: Box<Negotiated>,
    /// What of a handshake has come before the certificate's hash; `None` once that is known.
    pub(super) held: Option<Vec<(Path, Bytes)>>,
    /// Sources of streams that were added.
    pub(super) spent: BTreeSet<u32>,
    pub(super) keys: Option<Box<Keys>>,
    /// Where everything goes.
    pub(super) path: Option<Path>,
    pub(super) senders: Vec<Sender>,
    pub(super) receivers: Receivers,
    pub(super) reports: Reports,
    pub(super) association: Option<Box<sctp::Association>>,
    pub(super) pacer: Pacer,
    pub(super) queue: VecDeque<Packet>,
    /// What the peer is told to send at most, in bits a second.
    pub(super) limit: Option<u64>,
    /// Counts the packets of the transport.
    pub(super) number: u16,
    pub(super) began: Instant,
    /// The handshake is complete.
    pub(super) is_open: bool,
    pub(super) is_gone: bool,
    pub(super) transmits: VecDeque<(Path, Bytes)>,
    pub(super) events: VecDeque<Event>,
    pub(super) statistics: PeerStatistics,
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
        let remote = Some(negotiated.remote.clone());
        Self::with_remote(now, unix, negotiated, remote, shared, seed)
    }

    pub(super) fn with_remote(
        now: Instant,
        unix: Duration,
        negotiated: Negotiated,
        remote: Option<Credentials>,
        shared: &Arc<Shared>,
        seed: u64,
    ) -> Self {
        let mut prng = crate::base::prng::Prng::new(seed);
        let senders = negotiated
            .outgoing
            .iter()
            .map(|outgoing| Sender::new(outgoing.clone(), prng.next_u64(), negotiated.mixed_forms))
            .collect();
        Self {
            held: None,
            spent: BTreeSet::new(),
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
            limit: None,
            number: 0,
            began: now,
            is_open: false,
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

    /// What ICE counts.
    pub fn ice_statistics(&self) -> ice::Statistics {
        self.agent.statistics()
    }

    /// When the peer was last authenticated on a path. `None` if it never was.
    pub fn heard_on(&self, path: Path) -> Option<Instant> {
        self.agent.heard_on(path)
    }

    /// Media and data can go.
    pub fn is_connected(&self) -> bool {
        self.is_open && !self.is_gone
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
                    if self.hold(path, bytes) {
                        return;
                    }
                    self.begin_handshake(now);
                    if let Some(session) = &mut self.handshake {
                        session.handle_input(now, bytes);
                    }
                    self.drain_handshake(now);
                } else {
                    // Whoever is not known here can neither begin a handshake nor end one.
                    self.statistics.refused += 1;
                }
            }
            rtp::Kind::Rtp => self.receive_media(now, path, bytes, inbox),
            rtp::Kind::Rtcp => self.receive_reports(now, path, bytes),
            rtp::Kind::Other => self.statistics.refused += 1,
        }
    }

    fn has_media(&self) -> bool {
        !self.negotiated.incoming.is_empty() || !self.negotiated.outgoing.is_empty()
    }

    /// Until when the handshake has to be complete; `None` once it is.
    pub(super) fn connect_until(&self) -> Option<Instant> {
        (!self.is_open && !self.is_gone).then(|| self.began + CONNECT)
    }

    /// Begins the handshake, if it has not begun.
    pub(super) fn begin_handshake(&mut self, now: Instant) {
        if self.handshake.is_some() {
            return;
        }
        let role = match self.negotiated.setup {
            Setup::Passive => dtls::Role::Server,
            Setup::Active => dtls::Role::Client,
        };
        let known = self.negotiated.fingerprints.iter();
        let expected: Vec<dtls::Fingerprint> = known
            .filter_map(|known| dtls::Fingerprint::new(&known.algorithm, &known.bytes))
            .collect();
        match dtls::Session::new(now, role, &self.shared.dtls, expected) {
            Ok(session) => self.handshake = Some(Box::new(session)),
            Err(_) => self.go(Gone::NoFingerprint),
        }
    }

    pub(super) fn drain_agent(&mut self, now: Instant) {
        while let Some(transmit) = self.agent.poll_transmit() {
            self.transmits.push_back(transmit);
        }
        while let Some(event) = self.agent.poll_event() {
            match event {
                ice::Event::Validated(path) => {
                    self.path.get_or_insert(path);
                    self.events.push_back(Event::Validated(path));
                    if self.negotiated.setup == Setup::Active && self.handshake.is_none() {
                        self.begin_handshake(now);
                        self.drain_handshake(now);
                    }
                }
                ice::Event::Selected(path) => self.path = Some(path),
                ice::Event::Dropped(path) => {
                    if self.path == Some(path) {
                        self.path = self.agent.best();
                    }
                    self.events.push_back(Event::Invalidated(path));
                }
                ice::Event::Expired => self.go(Gone::Silent),
            }
        }
    }

    pub(super) fn drain_handshake(&mut self, now: Instant) {
        let has_media = self.has_media();
        let Some(session) = &mut self.handshake else {
            return;
        };
        let mut received = Vec::new();
        let mut gone = None;
        while let Some(event) = session.poll_event() {
            match event {
                dtls::Event::Connected { srtp } => {
                    let setup = self.negotiated.setup;
                    let keys = srtp.and_then(|keys| key_pair(&keys, setup));
                    if keys.is_none() && has_media {
                        gone = Some(Gone::NoSrtp);
                        continue;
                    }
                    self.keys = keys.map(Box::new);
                    self.is_open = true;
                    self.reports.begin(now);
                    if let Some(data) = self.negotiated.data {
                        let is_client = setup == Setup::Active;
                        let options = sctp::Options {
                            port: data.port,
                            ..self.shared.sctp
                        };
                        let association = sctp::Association::new(now, is_client, options);
                        self.association = Some(Box::new(association));
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

    pub(super) fn send_handshake(&mut self) {
        if let Some(session) = &mut self.handshake
            && let Some(path) = self.path
        {
            while let Some(bytes) = session.poll_transmit() {
                self.statistics.sent_bytes += bytes.len() as u64;
                self.transmits.push_back((path, bytes));
            }
        }
    }

    pub(super) fn drain_association(&mut self, now: Instant) {
        let (Some(association), Some(session)) = (&mut self.association, &mut self.handshake)
        else {
            return;
        };
        while let Some(event) = association.poll_event() {
            self.events.push_back(Event::Data(event));
        }
        while let Some(bytes) = association.poll_transmit() {
            // One that does not fit is lost, as on any network: SCTP sends it again.
            let _ = session.write(now, &bytes);
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
        inbox.clear();
        if inbox.capacity() < bytes.len() {
            inbox.reserve(INBOX_BYTES.max(bytes.len()));
        }
        inbox.extend_from_slice(bytes);
        // What cannot be opened takes no room of the block: its bytes are written over.
        let opened = match keys.inbound.unprotect_rtp(inbox) {
            Ok(opened) => opened,
            Err(error) => {
                self.statistics.count_unopened(error);
                return;
            }
        };
        inbox.truncate(opened.bytes);
        let packet = inbox.split().freeze();
        self.statistics.received_bytes += bytes.len() as u64;
        self.statistics.received_packets += 1;
        match self.receivers.receive(now, packet) {
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
        let mut packet = bytes.to_vec();
        let length = match keys.inbound.unprotect_rtcp(&mut packet) {
            Ok(length) => length,
            Err(error) => {
                self.statistics.count_unopened(error);
                return;
            }
        };
        self.statistics.received_bytes += bytes.len() as u64;
        for part in rtcp::packets(&packet[..length]) {
            match part {
                Ok(part) => self.handle_report(now, part),
                Err(_) => self.statistics.refused += 1,
            }
        }
    }

    fn handle_report(&mut self, now: Instant, part: rtcp::Packet<'_>) {
        match part {
            rtcp::Packet::SenderReport(report) => {
                self.receivers.sender_report(now, &report);
                self.note_round_trip(now, report.blocks);
            }
            rtcp::Packet::ReceiverReport(report) => self.note_round_trip(now, report.blocks),
            rtcp::Packet::Nack(nack) => self.handle_nack(now, &nack),
            rtcp::Packet::Pli(pli) => self.want_keyframe(now, pli.media),
            rtcp::Packet::Fir(request) => {
                for refresh in request.refreshes() {
                    self.want_keyframe(now, refresh.media);
                }
            }
            rtcp::Packet::Remb(estimate) => self.statistics.estimate = estimate.bitrate,
            rtcp::Packet::Goodbye(goodbye) => self.receivers.goodbye(&goodbye),
            rtcp::Packet::TransportCc(_)
            | rtcp::Packet::Descriptions(_)
            | rtcp::Packet::Application(_) => {}
        }
    }

    fn note_round_trip(&mut self, now: Instant, blocks: rtcp::ReportBlocks<'_>) {
        if let Some(round_trip) = self.reports.round_trip(now, blocks) {
            self.statistics.round_trip = round_trip;
        }
    }

    fn handle_nack(&mut self, now: Instant, nack: &rtcp::Nack<'_>) {
        let Some(slot) = self.slot_of_ssrc(nack.media) else {
            return;
        };
        for sequence in nack.numbers() {
            self.statistics.asked += 1;
            // A flood of them costs no more than the pace allows: one is worth a packet.
            if self.pacer.room(now) <= 0 {
                self.statistics.nacks_refused += 1;
                continue;
            }
            self.pacer.take(NACK_COST_BYTES);
            let Some((track, number, sequence)) = self.senders[slot].missing(sequence) else {
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

    fn slot_of_ssrc(&self, ssrc: u32) -> Option<usize> {
        self.senders
            .iter()
            .position(|sender| sender.outgoing.stream.ssrc == ssrc)
    }

    fn want_keyframe(&mut self, now: Instant, ssrc: u32) {
        if let Some(slot) = self.slot_of_ssrc(ssrc) {
            self.statistics.keyframes_wanted += 1;
            let sender = &mut self.senders[slot];
            if sender
                .keyframe_wanted
                .is_none_or(|at| now >= at + KEYFRAME_AGAIN)
            {
                sender.keyframe_wanted = Some(now);
                let numbering = &sender.numbering;
                let track = numbering.track().unwrap_or_else(|| numbering.wanted());
                self.events.push_back(Event::KeyframeWanted(track));
            }
        }
    }

    /// The peer is of no use any more.
    pub(super) fn go(&mut self, gone: Gone) {
        if !self.is_gone {
            self.is_gone = true;
            self.queue.clear();
            self.events.push_back(Event::Gone(gone));
        }
    }
}

/// The keys of both directions.
fn key_pair(keys: &dtls::SrtpKeys, setup: Setup) -> Option<Keys> {
    let profile = srtp::Profile::from_id(keys.profile().number())?;
    let client = (keys.client_key(), keys.client_salt());
    let server = (keys.server_key(), keys.server_salt());
    let (ours, theirs) = match setup {
        Setup::Active => (client, server),
        Setup::Passive => (server, client),
    };
    Some(Keys {
        inbound: Inbound::new(profile, theirs.0, theirs.1),
        outbound: Outbound::new(profile, ours.0, ours.1),
    })
}
