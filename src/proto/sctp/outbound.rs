//! Messages on their way to the peer: what waits, what is in flight, and how much may be.
//!
//! A piece of a message has a number from when it is sent first. Those in flight are a queue from
//! the first one that the peer has not acknowledged. Of a message that is not sent again nothing is
//! kept but its size.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::association::{DCEP, Options, Reliability};
use super::chunk::{self, Data, Sack, is_after};
use super::packer::Packer;

/// Retransmission timeout at first, at least and at most. RFC 9260 section 16 has 1 s, 1 s and
/// 60 s, for paths of which nothing is known; WebRTC's have round trips of up to 300 ms, and a
/// peer that is away for long is found by ICE.
pub(super) const TIMEOUT_FIRST: Duration = Duration::from_millis(500);
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(250);
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// Timeouts in a row after which the peer is gone (RFC 9260 section 16).
const TIMEOUTS_MAX: u32 = 10;

/// Acknowledgements of later pieces after which one is lost (RFC 9260 section 7.2.4).
const MISSES: u8 = 3;

/// Streams that a peer is told to skip messages of, at once: what fits a packet.
const SKIPPED_MAX: usize = 200;

#[derive(Debug)]
struct Stream {
    is_ordered: bool,
    reliability: Reliability,
    /// Of its next ordered message.
    sequence: u16,
    /// Not acknowledged.
    buffered: usize,
    /// Nothing more is taken.
    is_ended: bool,
}

/// What there is to know of a piece of a message besides its bytes.
#[derive(Clone, Copy, Debug)]
struct Facts {
    stream: u16,
    kind: u32,
    is_first: bool,
    is_last: bool,
    is_unordered: bool,
    reliability: Reliability,
    since: Instant,
}

impl Facts {
    fn is_expired(&self, now: Instant) -> bool {
        match self.reliability {
            Reliability::Lifetime(lifetime) => now >= self.since + lifetime,
            Reliability::Reliable | Reliability::Retransmits(_) => false,
        }
    }
}

/// A piece that waits.
#[derive(Debug)]
struct Piece {
    facts: Facts,
    payload: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    InFlight,
    /// The peer has it, but not all before it.
    Acknowledged,
    /// It is lost, and to be sent again.
    Lost,
    /// It will not be sent again.
    GivenUp,
}

/// A piece that was sent.
#[derive(Debug)]
struct Sent {
    facts: Facts,
    sequence: u16,
    bytes: u16,
    state: State,
    misses: u8,
    sends: u32,
    /// Empty where it is not sent again.
    payload: Bytes,
}

/// What goes to the peer.
#[derive(Debug)]
pub(super) struct Outbound {
    /// By number.
    streams: Vec<Option<Stream>>,
    waiting: VecDeque<Piece>,
    flight: VecDeque<Sent>,
    /// Of those in flight that may still arrive.
    flight_bytes: usize,
    /// Of all streams: neither acknowledged nor given up.
    buffered: usize,
    /// Pieces in `flight` that are lost.
    lost: usize,
    next: u32,
    /// The peer has all up to here.
    acknowledged: u32,
    /// Nothing up to here is sent again; `acknowledged` or later.
    given_up: u32,
    /// The peer is to be told so.
    must_forward: bool,
    /// The peer can forget messages.
    may_forward: bool,
    /// What the peer has room for beyond what is in flight.
    window: usize,
    congestion: usize,
    threshold: usize,
    /// Acknowledged since the congestion window last grew.
    partial: usize,
    /// Until this number is acknowledged, no other loss makes the window smaller.
    recovery: Option<u32>,
    packet_bytes: usize,
    timeout: Duration,
    round_trip: Option<(Duration, Duration)>,
    /// A piece whose acknowledgement tells the round trip, and when it was sent.
    probe: Option<(u32, Instant)>,
    timer: Option<Instant>,
    timeouts: u32,
}

impl Outbound {
    pub(super) fn new(first: u32, options: &Options) -> Self {
        let packet_bytes = options.datagram_bytes_max;
        Self {
            streams: Vec::new(),
            waiting: VecDeque::new(),
            flight: VecDeque::new(),
            flight_bytes: 0,
            buffered: 0,
            lost: 0,
            next: first,
            acknowledged: first.wrapping_sub(1),
            given_up: first.wrapping_sub(1),
            must_forward: false,
            may_forward: false,
            window: 0,
            // RFC 9260 section 7.2.1, with the ten packets that RFC 6928 allows TCP.
            congestion: 10 * packet_bytes,
            threshold: usize::MAX,
            partial: 0,
            recovery: None,
            packet_bytes,
            timeout: TIMEOUT_FIRST,
            round_trip: None,
            probe: None,
            timer: None,
            timeouts: 0,
        }
    }

    /// The peer is there.
    pub(super) fn begin(&mut self, window: u32, may_forward: bool) {
        self.window = window as usize;
        self.may_forward = may_forward;
    }

    pub(super) fn configure(&mut self, stream: u16, is_ordered: bool, reliability: Reliability) {
        let index = usize::from(stream);
        if self.streams.len() <= index {
            self.streams.resize_with(index + 1, || None);
        }
        let stream = self.streams[index].get_or_insert(Stream {
            is_ordered,
            reliability,
            sequence: 0,
            buffered: 0,
            is_ended: false,
        });
        stream.is_ordered = is_ordered;
        stream.reliability = reliability;
    }

    fn stream(&mut self, stream: u16) -> Option<&mut Stream> {
        self.streams.get_mut(usize::from(stream))?.as_mut()
    }

    pub(super) fn has(&self, stream: u16) -> bool {
        self.known(stream).is_some()
    }

    pub(super) fn takes(&self, stream: u16) -> bool {
        self.known(stream).is_some_and(|stream| !stream.is_ended)
    }

    fn known(&self, stream: u16) -> Option<&Stream> {
        self.streams.get(usize::from(stream))?.as_ref()
    }

    /// Takes no more messages for a stream.
    pub(super) fn end(&mut self, stream: u16) {
        if let Some(stream) = self.stream(stream) {
            stream.is_ended = true;
        }
    }

    /// A stream has ended; what is sent on it later counts from zero.
    pub(super) fn forget(&mut self, stream: u16) {
        let place = self.streams.get_mut(usize::from(stream));
        if let Some(stream) = place.and_then(Option::take) {
            self.buffered -= stream.buffered;
        }
    }

    /// What a stream has not had acknowledged.
    pub(super) fn buffered(&self, stream: u16) -> usize {
        self.known(stream).map_or(0, |stream| stream.buffered)
    }

    pub(super) fn buffered_all(&self) -> usize {
        self.buffered
    }

    /// All that was written has been sent, and so would be a message of this size.
    pub(super) fn is_prompt(&self, bytes: usize) -> bool {
        self.waiting.is_empty() && self.lost == 0 && self.has_room(bytes)
    }

    /// The number that the next piece gets.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    pub(super) fn timer(&self) -> Option<Instant> {
        self.timer
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Takes a message; `may_send` it at once, where there is room. False without the stream.
    pub(super) fn write(
        &mut self,
        now: Instant,
        stream: u16,
        kind: u32,
        message: &[u8],
        packer: Option<&mut Packer>,
        piece_bytes_max: usize,
    ) -> bool {
        let known = self.streams.get_mut(usize::from(stream));
        let known = known.and_then(Option::as_mut);
        let Some(known) = known.filter(|stream| !stream.is_ended) else {
            return false;
        };
        known.buffered += message.len();
        self.buffered += message.len();
        // Channels are opened in order and without loss (RFC 8832 section 6).
        let (is_ordered, reliability) = match kind {
            DCEP => (true, Reliability::Reliable),
            _ => (known.is_ordered, known.reliability),
        };
        let facts = Facts {
            stream,
            kind,
            is_first: true,
            is_last: true,
            is_unordered: !is_ordered,
            reliability,
            since: now,
        };
        if let Some(packer) = packer
            && message.len() <= piece_bytes_max
            && self.is_prompt(message.len())
        {
            self.send_new(now, facts, message, None, packer);
            return true;
        }
        let message = Bytes::copy_from_slice(message);
        let pieces = message.len().div_ceil(piece_bytes_max);
        for index in 0..pieces {
            let at = index * piece_bytes_max;
            let end = message.len().min(at + piece_bytes_max);
            let facts = Facts {
                is_first: index == 0,
                is_last: index + 1 == pieces,
                ..facts
            };
            let payload = message.slice(at..end);
            self.waiting.push_back(Piece { facts, payload });
        }
        true
    }

    /// Whether a new piece may be sent. One may always be in flight, to find out whether a peer
    /// without room has some again (RFC 9260 section 6.1).
    fn has_room(&self, bytes: usize) -> bool {
        self.flight_bytes == 0 || self.flight_bytes < self.congestion && bytes <= self.window
    }

    fn send_new(
        &mut self,
        now: Instant,
        facts: Facts,
        payload: &[u8],
        shared: Option<&Bytes>,
        packer: &mut Packer,
    ) {
        let Some(stream) = self.stream(facts.stream) else {
            return;
        };
        let sequence = if facts.is_unordered {
            0
        } else {
            stream.sequence
        };
        if facts.is_last && !facts.is_unordered {
            stream.sequence = sequence.wrapping_add(1);
        }
        let number = self.next;
        self.next = number.wrapping_add(1);
        write(number, &facts, sequence, payload, packer);
        self.flight_bytes += payload.len();
        self.window = self.window.saturating_sub(payload.len());
        self.timer.get_or_insert(now + self.timeout);
        self.probe.get_or_insert((number, now));
        let keeps = !(self.may_forward && facts.reliability == Reliability::Retransmits(0));
        let kept = match (keeps, shared) {
            (false, _) => Bytes::new(),
            (true, Some(shared)) => shared.clone(),
            (true, None) => Bytes::copy_from_slice(payload),
        };
        self.flight.push_back(Sent {
            facts,
            sequence,
            bytes: payload.len() as u16,
            state: State::InFlight,
            misses: 0,
            sends: 1,
            payload: kept,
        });
    }

    /// Writes what may be sent: lost pieces first.
    pub(super) fn fill(&mut self, now: Instant, packer: &mut Packer) {
        if self.lost > 0 {
            self.send_again(now, packer);
        }
        while let Some(piece) = self.waiting.front() {
            if piece.facts.is_first && piece.facts.is_expired(now) {
                self.drop_waiting();
                continue;
            }
            if !self.has_room(piece.payload.len()) {
                return;
            }
            if let Some(Piece { facts, payload }) = self.waiting.pop_front() {
                self.send_new(now, facts, &payload, Some(&payload), packer);
            }
        }
    }

    /// Drops the first message that waits, or what is left of it.
    fn drop_waiting(&mut self) {
        while let Some(piece) = self.waiting.pop_front() {
            self.release(piece.facts.stream, piece.payload.len());
            if piece.facts.is_last {
                return;
            }
        }
    }

    fn release(&mut self, stream: u16, bytes: usize) {
        if let Some(stream) = self.stream(stream) {
            let bytes = bytes.min(stream.buffered);
            stream.buffered -= bytes;
            self.buffered -= bytes;
        }
    }

    fn send_again(&mut self, now: Instant, packer: &mut Packer) {
        for index in 0..self.flight.len() {
            if self.lost == 0 || self.flight_bytes >= self.congestion && self.flight_bytes > 0 {
                return;
            }
            let number = self.acknowledged.wrapping_add(1 + index as u32);
            let Some(sent) = self.flight.get_mut(index) else {
                return;
            };
            if sent.state != State::Lost {
                continue;
            }
            sent.state = State::InFlight;
            sent.misses = 0;
            sent.sends += 1;
            write(number, &sent.facts, sent.sequence, &sent.payload, packer);
            self.flight_bytes += usize::from(sent.bytes);
            self.lost -= 1;
            self.timer.get_or_insert(now + self.timeout);
        }
    }

    /// The peer tells what it has. False if that cannot be.
    pub(super) fn acknowledge(&mut self, now: Instant, sack: &Sack<'_>) -> bool {
        let cumulative = sack.cumulative;
        if is_after(cumulative, self.next.wrapping_sub(1)) {
            return false;
        }
        if is_after(self.acknowledged, cumulative) {
            return true; // It was overtaken by a later one.
        }
        let was_full = self.flight_bytes + self.packet_bytes > self.congestion;
        let mut bytes = 0;
        let has_advanced = cumulative != self.acknowledged;
        while self.acknowledged != cumulative && !self.flight.is_empty() {
            bytes += self.arrived(now, 0);
            self.acknowledged = self.acknowledged.wrapping_add(1);
            self.flight.pop_front();
        }
        let highest = self.note_gaps(now, sack, &mut bytes);
        if is_after(self.acknowledged, self.given_up) {
            self.given_up = self.acknowledged;
        }
        if self
            .recovery
            .is_some_and(|until| !is_after(until, self.acknowledged))
        {
            self.recovery = None;
        }
        if has_advanced && self.recovery.is_none() {
            self.grow(bytes, was_full);
        }
        if bytes > 0 || has_advanced {
            self.timeouts = 0;
        }
        if highest > 0 {
            self.note_misses(now, highest);
        }
        self.window = (sack.window as usize).saturating_sub(self.flight_bytes);
        self.give_up_more();
        if self.flight.is_empty() {
            self.timer = None;
        } else if has_advanced || self.timer.is_none() {
            self.timer = Some(now + self.timeout);
        }
        true
    }

    /// A piece has arrived. Gives its size if that is news.
    fn arrived(&mut self, now: Instant, index: usize) -> usize {
        let number = self.acknowledged.wrapping_add(1 + index as u32);
        let sent = &mut self.flight[index];
        let bytes = usize::from(sent.bytes);
        let is_first_try = sent.sends == 1 && sent.state == State::InFlight;
        let mut round_trip = None;
        if let Some((probe, at)) = self.probe
            && !is_after(probe, number)
        {
            self.probe = None;
            if probe == number && is_first_try {
                round_trip = Some(now.saturating_duration_since(at));
            }
        }
        match sent.state {
            State::InFlight => self.flight_bytes -= bytes,
            State::Lost => self.lost -= 1,
            State::Acknowledged | State::GivenUp => return 0,
        }
        sent.state = State::Acknowledged;
        sent.payload = Bytes::new();
        let stream = sent.facts.stream;
        self.release(stream, bytes);
        if let Some(round_trip) = round_trip {
            self.note_round_trip(round_trip);
        }
        bytes
    }

    /// What has arrived behind what is missing. Gives how far the last of the news is from the
    /// first that is missing.
    fn note_gaps(&mut self, now: Instant, sack: &Sack<'_>, bytes: &mut usize) -> usize {
        let (mut done, mut highest) = (0, 0);
        for (first, last) in sack.gaps() {
            // Blocks come in their order; what does not is not looked at, so that all of them
            // together cost one look at each piece.
            let first = usize::from(first).max(done + 1);
            let last = usize::from(last).min(self.flight.len());
            for distance in first..=last {
                let news = self.arrived(now, distance - 1);
                if news > 0 {
                    *bytes += news;
                    highest = distance;
                }
            }
            done = done.max(last);
        }
        highest
    }

    /// All in flight before the last of the news have been missed once more.
    fn note_misses(&mut self, now: Instant, highest: usize) {
        let mut has_loss = false;
        for index in 0..highest.saturating_sub(1) {
            let Some(sent) = self.flight.get_mut(index) else {
                break;
            };
            if sent.state == State::InFlight {
                sent.misses += 1;
                if sent.misses >= MISSES {
                    has_loss = true;
                    self.lose(now, index);
                }
            }
        }
        if has_loss && self.recovery.is_none() {
            self.threshold = (self.congestion / 2).max(4 * self.packet_bytes);
            self.congestion = self.threshold;
            self.partial = 0;
            self.recovery = Some(self.next.wrapping_sub(1));
        }
    }

    fn lose(&mut self, now: Instant, index: usize) {
        let sent = &mut self.flight[index];
        let is_over = self.may_forward
            && match sent.facts.reliability {
                Reliability::Reliable => false,
                Reliability::Retransmits(count) => sent.sends > count,
                Reliability::Lifetime(lifetime) => now >= sent.facts.since + lifetime,
            };
        if is_over {
            self.give_up(index);
        } else {
            sent.state = State::Lost;
            self.flight_bytes -= usize::from(sent.bytes);
            self.lost += 1;
        }
    }

    /// Gives up the message that a piece belongs to: its other pieces are of no use.
    fn give_up(&mut self, index: usize) {
        let mut first = index;
        while first > 0 && !self.flight[first].facts.is_first {
            first -= 1;
        }
        let mut last = index;
        while last + 1 < self.flight.len() && !self.flight[last].facts.is_last {
            last += 1;
        }
        for index in first..=last {
            let sent = &mut self.flight[index];
            let bytes = usize::from(sent.bytes);
            match sent.state {
                State::InFlight => self.flight_bytes -= bytes,
                State::Lost => self.lost -= 1,
                State::Acknowledged | State::GivenUp => continue,
            }
            sent.state = State::GivenUp;
            sent.payload = Bytes::new();
            let stream = sent.facts.stream;
            self.release(stream, bytes);
        }
        let sent = &self.flight[last];
        if !sent.facts.is_last {
            let (stream, is_unordered) = (sent.facts.stream, sent.facts.is_unordered);
            self.drop_waiting();
            if !is_unordered && let Some(stream) = self.stream(stream) {
                stream.sequence = stream.sequence.wrapping_add(1);
            }
        }
    }

    /// Finds out up to where nothing will come any more.
    fn give_up_more(&mut self) {
        let mut at = self.given_up.wrapping_sub(self.acknowledged) as usize;
        let mut end = None;
        while let Some(sent) = self.flight.get(at) {
            match sent.state {
                State::GivenUp => end = Some(at),
                State::Acknowledged => {}
                State::InFlight | State::Lost => break,
            }
            at += 1;
        }
        if let Some(end) = end {
            self.given_up = self.acknowledged.wrapping_add(1 + end as u32);
        }
        self.must_forward = is_after(self.given_up, self.acknowledged);
    }

    /// Tells the peer what will not come any more, if that is news.
    pub(super) fn forward(&mut self, packer: &mut Packer) {
        if !std::mem::take(&mut self.must_forward) {
            return;
        }
        let count = self.given_up.wrapping_sub(self.acknowledged) as usize;
        // Of ordered streams the last message of each.
        let mut skipped = BTreeMap::new();
        for sent in self.flight.iter().take(count) {
            if sent.state == State::GivenUp
                && !sent.facts.is_unordered
                && (skipped.len() < SKIPPED_MAX || skipped.contains_key(&sent.facts.stream))
            {
                skipped.insert(sent.facts.stream, sent.sequence);
            }
        }
        let out = packer.control(chunk::forward_bytes(skipped.len()));
        chunk::write_forward(self.given_up, skipped.into_iter(), out);
    }

    fn grow(&mut self, bytes: usize, was_full: bool) {
        if !was_full {
            return;
        }
        if self.congestion <= self.threshold {
            self.congestion += bytes.min(self.packet_bytes);
        } else {
            self.partial += bytes;
            if self.partial >= self.congestion {
                self.partial -= self.congestion;
                self.congestion += self.packet_bytes;
            }
        }
    }

    /// RFC 9260 section 6.3.1.
    fn note_round_trip(&mut self, time: Duration) {
        let (smoothed, variation) = match self.round_trip {
            None => (time, time / 2),
            Some((smoothed, variation)) => {
                let variation = variation * 3 / 4 + smoothed.abs_diff(time) / 4;
                (smoothed * 7 / 8 + time / 8, variation)
            }
        };
        self.round_trip = Some((smoothed, variation));
        self.timeout = (smoothed + 4 * variation).clamp(TIMEOUT_MIN, TIMEOUT_MAX);
    }

    /// The oldest in flight should have been acknowledged by now. False if the peer is gone.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.timer.is_none_or(|at| now < at) {
            return true;
        }
        self.timer = None;
        if self.flight.is_empty() {
            return true;
        }
        self.timeouts += 1;
        if self.timeouts > TIMEOUTS_MAX {
            return false;
        }
        self.timeout = (2 * self.timeout).min(TIMEOUT_MAX);
        self.threshold = (self.congestion / 2).max(4 * self.packet_bytes);
        self.congestion = self.packet_bytes;
        self.partial = 0;
        self.recovery = None;
        self.probe = None;
        for index in 0..self.flight.len() {
            if self.flight[index].state == State::InFlight {
                self.lose(now, index);
            }
        }
        self.give_up_more();
        self.timer = Some(now + self.timeout);
        true
    }
}

fn write(number: u32, facts: &Facts, sequence: u16, payload: &[u8], packer: &mut Packer) {
    let data = Data {
        number,
        stream: facts.stream,
        sequence,
        kind: facts.kind,
        is_first: facts.is_first,
        is_last: facts.is_last,
        is_unordered: facts.is_unordered,
        is_urgent: false,
        payload,
    };
    data.write(packer.data(chunk::data_bytes(payload.len())));
}
