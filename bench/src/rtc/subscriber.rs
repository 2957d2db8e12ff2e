//! One that plays: counts what comes, asks for what does not, and reports.

use std::time::{Duration, Instant};

use ringside::media::NtpTime;
use ringside::proto::rtcp::{self, ReportBlock, write_nack, write_pli, write_receiver_report};
use ringside::proto::rtp::{Arrival, Header, Incoming, Received, original};
use ringside::proto::srtp::Inbound;

use super::crew::{Role, Turn};
use super::gaps::Gaps;
use super::media;
use super::sdp::{self, Wanted};
use super::tally::Phase;
use crate::stamp;

/// Between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Without a keyframe for so long after the first packet, one is asked for.
const KEYFRAME_MAX: Duration = Duration::from_millis(500);

/// A stream that is received.
struct Stream {
    payload_type: u8,
    ssrc: u32,
    /// Ticks of its clock in a second.
    rate: u32,
    incoming: Incoming,
    gaps: Gaps,
}

impl Stream {
    fn new(payload_type: u8, ssrc: u32) -> Self {
        let rate = if payload_type == sdp::AUDIO {
            48_000
        } else {
            90_000
        };
        Self {
            payload_type,
            ssrc,
            rate,
            incoming: Incoming::new(rate),
            gaps: Gaps::default(),
        }
    }
}

/// A subscriber.
pub(super) struct Subscriber {
    wanted: Wanted,
    /// It decrypts what it gets, and asks for what is missing. The others count by what is in the
    /// clear.
    is_opened: bool,
    round_trip: Duration,
    ssrc: u32,
    streams: Vec<Stream>,
    began: Option<Instant>,
    has_keyframe: bool,
    has_asked: bool,
    report_at: Option<Instant>,
    scratch: Vec<u8>,
}

impl Subscriber {
    pub(super) fn new(wanted: Wanted, is_opened: bool, round_trip: Duration, ssrc: u32) -> Self {
        Self {
            wanted,
            is_opened,
            round_trip,
            ssrc,
            streams: Vec::new(),
            began: None,
            has_keyframe: false,
            has_asked: false,
            report_at: None,
            scratch: Vec::new(),
        }
    }

    fn stream(&mut self, payload_type: u8, ssrc: u32) -> &mut Stream {
        let found = self
            .streams
            .iter()
            .position(|stream| stream.payload_type == payload_type);
        let at = found.unwrap_or_else(|| {
            self.streams.push(Stream::new(payload_type, ssrc));
            self.streams.len() - 1
        });
        &mut self.streams[at]
    }

    /// Takes a packet of media, which came at once or again.
    fn take(&mut self, turn: &mut Turn<'_>, payload_type: u8, ssrc: u32, arrival: Arrival) {
        let now = turn.arrived;
        let stream = self.stream(payload_type, ssrc);
        match stream.incoming.receive(now, arrival) {
            Received::New { number, .. } => stream.gaps.note(number),
            Received::Duplicate => turn.tally.duplicates += 1,
            Received::Empty { .. } | Received::TooOld => {}
        }
    }

    fn look(&mut self, turn: &mut Turn<'_>, payload_type: u8, payload: &[u8], is_again: bool) {
        let codec = self.wanted.codec;
        self.has_keyframe |= payload_type == sdp::VIDEO && media::is_keyframe(codec, payload);
        let sent = match payload_type {
            sdp::VIDEO => media::picture_sent(codec, payload),
            _ => media::sound_sent(payload),
        };
        // A backlog was sent before the subscriber came.
        let since = turn.measured_from;
        if let (Some(sent), Some(since)) = (sent, since)
            && turn.phase == Phase::Measuring
            && sent >= since
            && !is_again
        {
            let latency = stamp::nanoseconds_at(turn.arrived).saturating_sub(sent);
            turn.tally.latency.record(Duration::from_nanos(latency));
        }
    }

    fn receive_again(&mut self, turn: &mut Turn<'_>, inbound: &mut Inbound, bytes: &mut [u8]) {
        let Some((opened, header)) = open(inbound, bytes) else {
            turn.tally.refused += 1;
            return;
        };
        let Ok(Some(found)) = original(&header) else {
            return;
        };
        turn.tally.retransmissions += u64::from(turn.phase == Phase::Measuring);
        let arrival = Arrival {
            sequence: found.sequence,
            timestamp: header.timestamp,
            is_empty: false,
            is_retransmission: true,
        };
        let ssrc = self.streams.iter().find(|s| s.payload_type == sdp::VIDEO);
        let ssrc = ssrc.map_or(0, |stream| stream.ssrc);
        self.take(turn, sdp::VIDEO, ssrc, arrival);
        self.look(turn, sdp::VIDEO, &opened[found.payload], true);
    }

    fn report(&mut self, now: Instant) -> Vec<u8> {
        let mut blocks = Vec::new();
        for stream in &mut self.streams {
            let Some(reception) = stream.incoming.report(now) else {
                continue;
            };
            blocks.push(ReportBlock {
                ssrc: stream.ssrc,
                fraction_lost: reception.fraction_lost,
                cumulative_lost: reception.cumulative_lost,
                highest_sequence: reception.highest_sequence,
                jitter: reception.jitter,
                last_sender_report: reception.last_sender_report,
                delay: reception.delay,
            });
        }
        let mut packet = Vec::with_capacity(128);
        write_receiver_report(&mut packet, self.ssrc, &blocks);
        packet
    }

    fn ask(&mut self, turn: &mut Turn<'_>) {
        let (now, own) = (turn.now, self.ssrc);
        let mut packet = Vec::new();
        for stream in &mut self.streams {
            if stream.payload_type != sdp::VIDEO {
                continue;
            }
            let is_due = stream.incoming.poll_timeout(self.round_trip);
            if is_due.is_some_and(|due| due <= now) {
                let numbers: Vec<u16> = stream.incoming.poll_nacks(now, self.round_trip).collect();
                turn.tally.nacked += numbers.len() as u64;
                write_nack(&mut packet, own, stream.ssrc, numbers);
            }
            let is_late = self.began.is_some_and(|began| now >= began + KEYFRAME_MAX);
            let is_first = is_late && !self.has_keyframe && !self.has_asked;
            if stream.incoming.take_keyframe_needed() || is_first {
                self.has_asked = true;
                turn.tally.plis += 1;
                write_pli(&mut packet, own, stream.ssrc);
            }
        }
        if !packet.is_empty() {
            turn.send_control(packet);
        }
    }
}

impl Role for Subscriber {
    fn offer(&self, peer: &super::peer::Peer, fingerprint: &str) -> String {
        sdp::offer(self.wanted, None, peer.local(), fingerprint)
    }

    fn connected(&mut self, now: Instant) {
        // Reports of many are spread over the second.
        let spread = Duration::from_micros(u64::from(self.ssrc) * 7919 % 1_000_000);
        self.report_at = Some(now + spread);
    }

    fn media(&mut self, turn: &mut Turn<'_>, bytes: &mut [u8]) {
        let [_, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3, ..] = *bytes else {
            return;
        };
        let payload_type = second & 0x7f;
        self.began.get_or_insert(turn.now);
        turn.received += 1;
        if payload_type == sdp::REPAIR {
            if self.is_opened
                && let Some(mut keys) = turn.take_keys()
            {
                self.receive_again(turn, &mut keys.inbound, bytes);
                turn.give_keys(keys);
            }
            return;
        }
        if self.is_opened
            && let Some(mut keys) = turn.take_keys()
        {
            match open(&mut keys.inbound, bytes) {
                Some((_, header)) => self.look(turn, payload_type, header.payload(), false),
                None => turn.tally.refused += 1,
            }
            turn.give_keys(keys);
        }
        let arrival = Arrival {
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            is_empty: false,
            is_retransmission: false,
        };
        let ssrc = u32::from_be_bytes([i0, i1, i2, i3]);
        self.take(turn, payload_type, ssrc, arrival);
    }

    fn control(&mut self, turn: &mut Turn<'_>, bytes: &[u8]) {
        if !self.is_opened {
            return;
        }
        let Some(mut keys) = turn.take_keys() else {
            return;
        };
        self.scratch.clear();
        self.scratch.extend_from_slice(bytes);
        let opened = keys.inbound.unprotect_rtcp(&mut self.scratch);
        turn.give_keys(keys);
        let Ok(length) = opened else {
            turn.tally.refused += 1;
            return;
        };
        for part in rtcp::packets(&self.scratch[..length]) {
            let Ok(rtcp::Packet::SenderReport(report)) = part else {
                continue;
            };
            let stream = self.streams.iter_mut().find(|s| s.ssrc == report.ssrc);
            if let Some(stream) = stream {
                let NtpTime(_) = report.info.ntp;
                stream
                    .incoming
                    .sender_report(turn.now, report.info.ntp.middle());
            }
        }
    }

    fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let Some(report_at) = self.report_at else {
            return;
        };
        if self.is_opened {
            self.ask(turn);
        }
        if turn.now >= report_at {
            let packet = self.report(turn.now);
            turn.send_control(packet);
            self.report_at = Some(turn.now + REPORT_EVERY);
        }
    }

    fn due(&self) -> Option<Instant> {
        // What is missing is looked for with each look at the socket.
        self.report_at
    }

    fn has_media(&self) -> bool {
        !self.streams.is_empty()
    }

    fn enter(&mut self, phase: Phase) {
        for stream in &mut self.streams {
            match phase {
                Phase::Measuring => stream.gaps.open(),
                Phase::Settling => stream.gaps.close(),
                Phase::Joining | Phase::Over => {}
            }
        }
    }

    fn sum(&mut self, now: Instant, tally: &mut super::tally::Tally) {
        for stream in &mut self.streams {
            let (expected, received) = stream.gaps.counts();
            tally.expected += expected;
            tally.received += received;
            if let Some(reception) = stream.incoming.report(now).filter(|_| self.is_opened) {
                let micros = u64::from(reception.jitter) * 1_000_000 / u64::from(stream.rate);
                tally.jitter.record(Duration::from_micros(micros));
            }
        }
    }
}

/// Opens a packet in place.
fn open<'a>(inbound: &mut Inbound, bytes: &'a mut [u8]) -> Option<(&'a [u8], Header<'a>)> {
    let opened = inbound.unprotect_rtp(bytes).ok()?;
    let packet: &[u8] = &bytes[..opened.bytes];
    Some((packet, Header::parse(packet).ok()?))
}
