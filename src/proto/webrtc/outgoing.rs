//! What is sent to a peer, and when.

use std::time::Instant;

use bytes::Bytes;

use super::arena::{Arena, Burst, SEGMENTS_MAX};
use super::error::Gone;
use super::pacer::Pacer;
use super::peer::{Asked, Event, Keys, Peer};
use super::sender::Round;
use crate::base::ids::TrackId;
use crate::media::{Codec, Kind, MediaTime, Packet, Start};
use crate::proto::ice::{Credentials, Path};
use crate::proto::rtp::abs_send_time;

/// Packets that wait for their turn to one receiver: 2.4 MB of video. A receiver that is further
/// behind goes on with the next keyframe.
const QUEUE_PACKETS_MAX: usize = 2048;

impl Peer {
    /// Sends packets of one track, as far as the peer is sent that track and takes part in it.
    /// A backlog begins with a keyframe and ends with the newest packet; it begins the track anew.
    pub fn forward(
        &mut self,
        now: Instant,
        packets: &[Packet],
        is_backlog: bool,
        arena: &mut Arena,
        bursts: &mut Vec<Burst>,
    ) {
        let (Some(first), Some(last)) = (packets.first(), packets.last()) else {
            return;
        };
        let Some(slot) = self.slot_for(first.track) else {
            return;
        };
        if !self.is_connected() || self.senders[slot].is_paused {
            return;
        }
        if is_backlog {
            self.queue.retain(|waiting| waiting.track != first.track);
            let newest = packets.iter().map(|packet| packet.time).max();
            let (until, end) = (last.number + 1, newest.unwrap_or(MediaTime::ZERO));
            let before = self.senders[slot].numbering.track();
            self.senders[slot].numbering.enter(first, until, end);
            self.note_switch(slot, before);
        }
        // Sound is little, and a gap in it is heard: it does not wait behind pictures.
        let is_sound = self.senders[slot].outgoing.kind == Kind::Audio;
        if is_sound {
            self.send(now, slot, packets, arena, bursts);
            return;
        }
        let bytes: usize = packets.iter().map(|packet| packet.payload.len()).sum();
        let cost = Pacer::cost(bytes, packets.len());
        if self.queue.is_empty() && self.pacer.room(now) >= cost as i64 {
            self.send(now, slot, packets, arena, bursts);
        } else {
            self.enqueue(slot, packets);
            self.send_queued(now, arena, bursts);
        }
    }

    /// Whoever is so far behind that nothing more may wait goes on with the next keyframe that
    /// fits, which may be among `packets`.
    fn enqueue(&mut self, slot: usize, packets: &[Packet]) {
        if self.queue.len() + packets.len() > QUEUE_PACKETS_MAX {
            let track = packets[0].track;
            self.queue.retain(|waiting| waiting.track != track);
            self.senders[slot].numbering.skip();
            self.statistics.skips += 1;
            self.events.push_back(Event::KeyframeWanted(track));
            let is_keyframe = |packet: &Packet| packet.start == Start::Keyframe;
            let from = packets
                .iter()
                .rposition(is_keyframe)
                .unwrap_or(packets.len());
            let rest = &packets[from..];
            if self.queue.len() + rest.len() <= QUEUE_PACKETS_MAX {
                self.queue.extend(rest.iter().cloned());
            }
            return;
        }
        self.queue.extend(packets.iter().cloned());
    }

    /// Sends as much of what waits as may go.
    fn send_queued(&mut self, now: Instant, arena: &mut Arena, bursts: &mut Vec<Burst>) {
        while let Some(first) = self.queue.front() {
            let mut room = self.pacer.room(now);
            if room <= 0 {
                return;
            }
            let track = first.track;
            let mut count = 0;
            for packet in self.queue.iter().take(SEGMENTS_MAX) {
                if packet.track != track || room <= 0 {
                    break;
                }
                room -= Pacer::cost(packet.payload.len(), 1) as i64;
                count += 1;
            }
            let packets: smallvec::SmallVec<[Packet; SEGMENTS_MAX]> =
                self.queue.drain(..count).collect();
            if let Some(slot) = self.slot_for(track) {
                self.send(now, slot, &packets, arena, bursts);
            }
        }
    }

    fn send(
        &mut self,
        now: Instant,
        slot: usize,
        packets: &[Packet],
        arena: &mut Arena,
        bursts: &mut Vec<Burst>,
    ) {
        let (Some(keys), Some(path)) = (&self.keys, self.path) else {
            return;
        };
        let round = round(keys, path, self.began, now);
        let sender = &mut self.senders[slot];
        let before = sender.numbering.track();
        let first = bursts.len();
        sender.send(round, packets, &mut self.number, arena, bursts);
        for burst in &bursts[first..] {
            self.pacer
                .take(Pacer::cost(burst.bytes.len(), burst.segments));
            self.statistics.sent_bytes += burst.bytes.len() as u64;
            self.statistics.sent_packets += burst.segments as u64;
        }
        self.note_switch(slot, before);
    }

    fn note_switch(&mut self, slot: usize, before: Option<TrackId>) {
        if let (Some(from), Some(to)) = (before, self.senders[slot].numbering.track())
            && from != to
        {
            self.events.push_back(Event::Switched { from, to });
        }
    }

    /// Sends a packet again that the peer has asked for.
    pub fn send_again(
        &mut self,
        now: Instant,
        packet: &Packet,
        asked: Asked,
        arena: &mut Arena,
        bursts: &mut Vec<Burst>,
    ) {
        // Beyond the pace, packets that are asked for again wait until they are asked for again.
        if self.pacer.room(now) <= 0 {
            self.statistics.nacks_refused += 1;
            return;
        }
        let (Some(keys), Some(path)) = (&self.keys, self.path) else {
            return;
        };
        let round = round(keys, path, self.began, now);
        // Another stream may have its place by now, and knows nothing of the number.
        let senders = self.senders.get_mut(asked.slot);
        let Some(sender) = senders.filter(|sender| sender.takes(asked.track)) else {
            return;
        };
        let first = bursts.len();
        sender.send_again(
            round,
            packet,
            asked.sequence,
            &mut self.number,
            arena,
            bursts,
        );
        for burst in &bursts[first..] {
            self.pacer.take(burst.bytes.len());
            self.statistics.sent_bytes += burst.bytes.len() as u64;
            self.statistics.sent_again += 1;
        }
    }

    /// Sends another track in the place of one of its kind, from its next keyframe on. Says which
    /// one, or nothing if there is none to replace.
    pub fn replace(&mut self, kind: Kind, to: TrackId) -> Option<TrackId> {
        let sender = self
            .senders
            .iter_mut()
            .find(|sender| sender.outgoing.kind == kind)?;
        let from = sender
            .numbering
            .track()
            .unwrap_or_else(|| sender.numbering.wanted());
        let given_up = sender.numbering.wanted();
        let is_pending = sender.numbering.track() != Some(given_up);
        sender.numbering.want(to);
        // One that was to come and has not is of no use any more.
        if is_pending && given_up != to {
            let from = given_up;
            self.events.push_back(Event::Switched { from, to });
        }
        Some(from).filter(|from| *from != to)
    }

    /// Stops sending what is of a kind, or goes on with it: with its next keyframe, which is asked
    /// for. The receiver's numbers and times go on as if nothing had been left out.
    pub fn set_paused(&mut self, kind: Kind, is_paused: bool) {
        for sender in &mut self.senders {
            if sender.outgoing.kind != kind || sender.is_paused == is_paused {
                continue;
            }
            sender.is_paused = is_paused;
            let (sent, wanted) = (sender.numbering.track(), sender.numbering.wanted());
            if is_paused {
                let is_other =
                    |packet: &Packet| packet.track != wanted && Some(packet.track) != sent;
                self.queue.retain(is_other);
            } else {
                sender.numbering.skip();
                if kind == Kind::Video {
                    self.events.push_back(Event::KeyframeWanted(wanted));
                }
            }
        }
    }

    /// Whether something of a kind was agreed on to be sent, and as what.
    pub fn sends(&self, kind: Kind) -> Option<Codec> {
        let mut senders = self.senders.iter();
        let sender = senders.find(|sender| sender.outgoing.kind == kind)?;
        Some(sender.outgoing.format.codec)
    }

    /// The tracks that are sent or will be, those that are paused apart.
    pub fn playing(&self) -> impl Iterator<Item = TrackId> {
        let senders = self.senders.iter().filter(|sender| !sender.is_paused);
        senders.map(|sender| sender.numbering.wanted())
    }

    /// The newest point of the stream that was sent.
    pub fn newest(&self) -> Option<MediaTime> {
        let sent = self.senders.iter().filter_map(|sender| sender.newest);
        sent.map(|(time, _)| time).max()
    }

    /// Has the peer told from now on to send no more than this, in bits a second (REMB). False if
    /// that was not agreed on for anything that it sends.
    pub fn limit_bitrate(&mut self, bits_per_s: u64) -> bool {
        let takes = self.receivers.takes_limit();
        if takes {
            self.limit = Some(bits_per_s);
        }
        takes
    }

    /// The pictures that the peer sends.
    pub fn pictures(&self) -> Vec<TrackId> {
        self.receivers.pictures()
    }

    /// The tracks that are sent or will be.
    pub fn tracks(&self) -> impl Iterator<Item = TrackId> {
        self.senders.iter().map(|sender| sender.numbering.wanted())
    }

    fn slot_for(&self, track: TrackId) -> Option<usize> {
        self.senders.iter().position(|sender| {
            sender.numbering.wanted() == track || sender.numbering.track() == Some(track)
        })
    }

    /// New credentials on both sides (RFC 8445 section 9).
    pub fn restart(&mut self, local: Credentials, remote: Credentials) {
        self.agent.restart(local, Some(remote));
    }

    /// Asks the peer for a keyframe of one of its tracks.
    pub fn request_keyframe(&mut self, now: Instant, track: TrackId) {
        if let Some(packet) = self.receivers.keyframe_request(now, track) {
            self.statistics.keyframes_asked += 1;
            self.send_control(packet);
        }
    }

    /// Seals and sends an RTCP packet.
    pub(super) fn send_control(&mut self, mut packet: Vec<u8>) {
        let (Some(keys), Some(path)) = (&mut self.keys, self.path) else {
            return;
        };
        if keys.outbound.protect_rtcp(&mut packet).is_ok() {
            self.statistics.sent_bytes += packet.len() as u64;
            self.transmits.push_back((path, Bytes::from(packet)));
        }
    }

    /// When [`Peer::handle_timeout`] wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.is_gone {
            return None;
        }
        let queue = (!self.queue.is_empty()).then(|| (self.pacer.due(), "paced packets"));
        let handshake = self.handshake.as_ref().and_then(|s| s.poll_timeout());
        let association = self.association.as_ref().and_then(|a| a.poll_timeout());
        let connected = self.is_connected();
        let reports = connected.then(|| (self.reports.due(), "reports"));
        let receivers = self.receivers.poll_timeout().filter(|_| connected);
        let connect = self.connect_until().map(|until| (until, "handshake"));
        [
            self.agent.poll_timeout(),
            connect,
            queue,
            handshake,
            association,
            reports,
            receivers,
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }

    /// The time of [`Peer::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant, arena: &mut Arena, bursts: &mut Vec<Burst>) {
        self.agent.handle_timeout(now);
        self.drain_agent(now);
        if let Some(session) = &mut self.handshake {
            session.handle_timeout(now);
            self.drain_handshake(now);
        }
        if let Some(association) = &mut self.association {
            association.handle_timeout(now);
            self.drain_association(now);
        }
        if self.connect_until().is_some_and(|until| now >= until) {
            self.go(Gone::NotConnected);
        }
        if !self.is_connected() {
            return;
        }
        self.send_queued(now, arena, bursts);
        let round_trip = self.statistics.round_trip;
        let due = self.receivers.handle_timeout(now, round_trip);
        self.statistics.nacks_sent += due.nacks;
        self.statistics.keyframes_asked += due.keyframes;
        for packet in due.packets {
            self.send_control(packet);
        }
        if now >= self.reports.due() {
            let mut packet = self
                .reports
                .write(now, &mut self.senders, &mut self.receivers);
            if let Some(limit) = self.limit {
                self.receivers
                    .write_limit(limit, packet.get_or_insert_default());
            }
            if let Some(packet) = packet {
                self.send_control(packet);
            }
        }
    }

    /// Says goodbye. Nothing is sent or told after what [`Peer::poll_transmit`] still has.
    pub fn close(&mut self, now: Instant) {
        if self.is_gone {
            return;
        }
        if self.is_connected()
            && let Some(packet) = self.reports.goodbye(&self.senders)
        {
            self.send_control(packet);
        }
        if let Some(session) = &mut self.handshake {
            session.close(now);
            self.send_handshake();
        }
        self.is_gone = true;
        self.queue.clear();
    }

    /// The next bytes to send, media apart.
    pub fn poll_transmit(&mut self) -> Option<(Path, Bytes)> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is something to send or to tell, or a timer may have moved.
    pub fn wants_attention(&self) -> bool {
        !self.transmits.is_empty() || !self.events.is_empty() || !self.queue.is_empty()
    }
}

fn round(keys: &Keys, path: Path, began: Instant, now: Instant) -> Round<'_> {
    Round {
        path,
        seal: &keys.outbound,
        abs_send_time: abs_send_time(now.saturating_duration_since(began)),
    }
}
