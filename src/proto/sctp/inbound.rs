//! What the peer sends: which numbers have come, and the messages that they make up.
//!
//! A message of one piece without an order is told at once. All others are put together in the
//! order of their numbers, so that streams wait for each other's losses: nothing has to be known of
//! the numbers within a stream then.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::chunk::{self, Data};
use super::packer::Packer;

/// Runs of numbers behind what is missing: more than an acknowledgement of one packet tells.
const RUNS_MAX: usize = 256;

/// Numbers that may be ahead of the first that is missing.
const AHEAD_MAX: u64 = 32 * 1024;

/// Told in one acknowledgement.
const DUPLICATES_MAX: usize = 16;

/// What a piece costs besides its bytes: a peer that sends them one by one has no more room.
const PIECE_BYTES: usize = 64;

/// How long an acknowledgement waits for company (RFC 9260 section 6.2).
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(200);

/// Packets with data that are acknowledged together.
const ACKNOWLEDGE_EVERY: u32 = 2;

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Message {
    pub(super) stream: u16,
    pub(super) kind: u32,
    pub(super) bytes: Bytes,
}

#[derive(Debug)]
struct Piece {
    stream: u16,
    kind: u32,
    is_first: bool,
    is_last: bool,
    payload: Bytes,
}

/// A message whose pieces are coming.
#[derive(Debug)]
struct Open {
    stream: u16,
    kind: u32,
    bytes: BytesMut,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Acknowledge {
    No,
    At(Instant),
    Now,
}

/// What comes from the peer.
#[derive(Debug)]
pub(super) struct Inbound {
    /// The first number, of which all others are distances, so that they do not wrap.
    first: u32,
    /// All before this one have come, or never will.
    next: u64,
    /// Others that have come, in order, with gaps between them; first and last.
    runs: VecDeque<(u64, u64)>,
    /// Pieces that wait for what is before them.
    held: BTreeMap<u64, Piece>,
    open: Option<Open>,
    /// Bytes of `held`, `open` and of what nobody has taken.
    held_bytes: usize,
    ready: VecDeque<Message>,
    window: usize,
    message_bytes_max: usize,
    acknowledge: Acknowledge,
    packets: u32,
    duplicates: Vec<u32>,
    /// What the peer was last told to have room for.
    told: usize,
    /// Pieces without room, and messages that are too large or have no beginning.
    pub(super) dropped: u64,
}

impl Inbound {
    pub(super) fn new(first: u32, window: usize, message_bytes_max: usize) -> Self {
        Self {
            first,
            next: 0,
            runs: VecDeque::new(),
            held: BTreeMap::new(),
            open: None,
            held_bytes: 0,
            ready: VecDeque::new(),
            window,
            message_bytes_max,
            acknowledge: Acknowledge::No,
            packets: 0,
            duplicates: Vec::new(),
            told: window,
            dropped: 0,
        }
    }

    /// The number before which all have come.
    pub(super) fn cumulative(&self) -> u32 {
        self.first.wrapping_add(self.next as u32).wrapping_sub(1)
    }

    /// A number as a distance from the first; `None` if it has been left behind.
    fn place(&self, number: u32) -> Option<u64> {
        let ahead = number.wrapping_sub(self.cumulative()) as i32;
        u64::try_from(ahead)
            .ok()
            .filter(|ahead| *ahead > 0)
            .map(|ahead| self.next + ahead - 1)
    }

    /// Takes a piece of a message.
    pub(super) fn receive(&mut self, data: &Data<'_>) {
        let Some(place) = self.place(data.number).filter(|at| !self.has(*at)) else {
            if self.duplicates.len() < DUPLICATES_MAX {
                self.duplicates.push(data.number);
            }
            self.acknowledge = Acknowledge::Now;
            return;
        };
        let cost = data.payload.len() + PIECE_BYTES;
        // What others wait for makes room, and has as much again where they have filled theirs: a
        // peer counts the bytes of small messages only, and could never send it otherwise.
        let lets_go_on = place == self.next && !self.held.is_empty();
        let window = if lets_go_on {
            2 * self.window
        } else {
            self.window
        };
        let is_full = self.held_bytes + cost > window;
        if is_full || place >= self.next + AHEAD_MAX || !self.note(place) {
            // Not acknowledged, so it comes again.
            self.acknowledge = Acknowledge::Now;
            self.dropped += 1;
            return;
        }
        if data.is_urgent {
            self.acknowledge = Acknowledge::Now;
        }
        let is_whole = data.is_first && data.is_last;
        if is_whole && data.is_unordered {
            self.tell(data.stream, data.kind, Bytes::copy_from_slice(data.payload));
        } else if place == self.next {
            let piece = (data.is_first, data.is_last);
            self.assemble(data.stream, data.kind, piece, data.payload);
        } else {
            self.held_bytes += cost;
            let piece = Piece {
                stream: data.stream,
                kind: data.kind,
                is_first: data.is_first,
                is_last: data.is_last,
                payload: Bytes::copy_from_slice(data.payload),
            };
            self.held.insert(place, piece);
        }
        if place == self.next {
            self.next += 1;
            self.advance();
        }
    }

    /// Nothing up to a number comes any more.
    pub(super) fn forward(&mut self, cumulative: u32) {
        let Some(place) = self.place(cumulative) else {
            // A repetition: the acknowledgement was lost.
            self.acknowledge = Acknowledge::Now;
            return;
        };
        // What has come of it is told in its order.
        while let Some((at, _)) = self.held.first_key_value()
            && *at <= place
        {
            let Some((at, piece)) = self.held.pop_first() else {
                break;
            };
            if at != self.next {
                self.abandon();
            }
            self.next = at + 1;
            self.put(piece);
        }
        if place >= self.next {
            self.abandon();
            self.next = place + 1;
        }
        while let Some(run) = self.runs.front_mut()
            && run.0 < self.next
        {
            if run.1 >= self.next {
                run.0 = self.next;
                break;
            }
            self.runs.pop_front();
        }
        self.advance();
        self.acknowledge = Acknowledge::Now;
    }

    /// Forgets the message whose pieces were coming.
    fn abandon(&mut self) {
        if let Some(open) = self.open.take() {
            self.held_bytes -= open.bytes.len();
        }
    }

    fn has(&self, place: u64) -> bool {
        let after = self.runs.partition_point(|(first, _)| *first <= place);
        after
            .checked_sub(1)
            .and_then(|index| self.runs.get(index))
            .is_some_and(|(_, last)| place <= *last)
    }

    /// Notes that a number beyond the next one has come. False if there are too many gaps.
    fn note(&mut self, place: u64) -> bool {
        if place == self.next {
            return true;
        }
        let index = self.runs.partition_point(|(first, _)| *first <= place);
        let touches_before = index > 0 && self.runs[index - 1].1 + 1 == place;
        let touches_behind = self
            .runs
            .get(index)
            .is_some_and(|(first, _)| place + 1 == *first);
        match (touches_before, touches_behind) {
            (true, true) => {
                self.runs[index - 1].1 = self.runs[index].1;
                self.runs.remove(index);
            }
            (true, false) => self.runs[index - 1].1 = place,
            (false, true) => self.runs[index].0 = place,
            (false, false) if self.runs.len() < RUNS_MAX => self.runs.insert(index, (place, place)),
            (false, false) => return false,
        }
        self.acknowledge = Acknowledge::Now;
        true
    }

    /// Goes on over what has come already.
    fn advance(&mut self) {
        if let Some((first, last)) = self.runs.front().copied()
            && first == self.next
        {
            self.runs.pop_front();
            let end = last + 1;
            while let Some((at, _)) = self.held.first_key_value()
                && *at < end
            {
                let Some((at, piece)) = self.held.pop_first() else {
                    break;
                };
                if at != self.next {
                    // Whole messages without an order were in between.
                    self.abandon();
                }
                self.next = at + 1;
                self.put(piece);
            }
            if self.next != end {
                self.abandon();
            }
            self.next = end;
        }
    }

    fn put(&mut self, piece: Piece) {
        self.held_bytes -= piece.payload.len() + PIECE_BYTES;
        let place = (piece.is_first, piece.is_last);
        self.assemble(piece.stream, piece.kind, place, &piece.payload);
    }

    /// Takes the next piece.
    fn assemble(
        &mut self,
        stream: u16,
        kind: u32,
        (is_first, is_last): (bool, bool),
        payload: &[u8],
    ) {
        if is_first {
            self.abandon();
            if is_last {
                return self.tell(stream, kind, Bytes::copy_from_slice(payload));
            }
            let bytes = BytesMut::new();
            self.open = Some(Open {
                stream,
                kind,
                bytes,
            });
        }
        let is_its = |open: &&mut Open| open.stream == stream;
        let Some(open) = self.open.as_mut().filter(is_its) else {
            self.dropped += 1;
            return self.abandon();
        };
        if open.bytes.len() + payload.len() > self.message_bytes_max {
            self.dropped += 1;
            return self.abandon();
        }
        open.bytes.extend_from_slice(payload);
        self.held_bytes += payload.len();
        if is_last && let Some(open) = self.open.take() {
            self.held_bytes -= open.bytes.len();
            self.tell(open.stream, open.kind, open.bytes.freeze());
        }
    }

    fn tell(&mut self, stream: u16, kind: u32, bytes: Bytes) {
        if bytes.len() > self.message_bytes_max {
            self.dropped += 1;
            return;
        }
        self.held_bytes += bytes.len() + PIECE_BYTES;
        self.ready.push_back(Message {
            stream,
            kind,
            bytes,
        });
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next message.
    pub(super) fn take(&mut self) -> Option<Message> {
        let message = self.ready.pop_front()?;
        self.held_bytes -= message.bytes.len() + PIECE_BYTES;
        // A peer that has stopped since there was no room is told that there is.
        if self.told < self.window / 4 && self.room() >= self.window / 2 {
            self.acknowledge = Acknowledge::Now;
        }
        if self.ready.is_empty() && self.ready.capacity() > 16 {
            self.ready = VecDeque::new();
        }
        Some(message)
    }

    fn room(&self) -> usize {
        self.window.saturating_sub(self.held_bytes)
    }

    /// A packet with data is complete.
    pub(super) fn end_packet(&mut self, now: Instant) {
        self.packets += 1;
        if self.packets >= ACKNOWLEDGE_EVERY || !self.runs.is_empty() {
            self.acknowledge = Acknowledge::Now;
        } else if self.acknowledge == Acknowledge::No {
            self.acknowledge = Acknowledge::At(now + ACKNOWLEDGE_AFTER);
        }
    }

    pub(super) fn timer(&self) -> Option<Instant> {
        match self.acknowledge {
            Acknowledge::At(at) => Some(at),
            Acknowledge::No | Acknowledge::Now => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.timer().is_some_and(|at| at <= now) {
            self.acknowledge = Acknowledge::Now;
        }
    }

    /// An acknowledgement is due.
    pub(super) fn must_acknowledge(&self) -> bool {
        self.acknowledge == Acknowledge::Now
    }

    /// One is due, or would do no harm.
    pub(super) fn may_acknowledge(&self) -> bool {
        self.acknowledge != Acknowledge::No
    }

    /// Writes an acknowledgement.
    pub(super) fn acknowledge(&mut self, packer: &mut Packer) {
        self.acknowledge = Acknowledge::No;
        self.packets = 0;
        let duplicates = std::mem::take(&mut self.duplicates);
        let room = packer.chunk_bytes_max() - chunk::sack_bytes(0, duplicates.len());
        // Distances from the last of those that have all come.
        let before = self.next;
        let gap = |(first, last): &(u64, u64)| {
            let near = |at: u64| u16::try_from(at + 1 - before).ok();
            near(*first).zip(near(*last))
        };
        let gaps: Vec<(u16, u16)> = self.runs.iter().filter_map(gap).take(room / 4).collect();
        let window = self.room();
        self.told = window;
        let out = packer.control(chunk::sack_bytes(gaps.len(), duplicates.len()));
        chunk::write_sack(self.cumulative(), window as u32, &gaps, &duplicates, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 10_000;

    fn receive(inbound: &mut Inbound, number: u32) {
        inbound.receive(&Data {
            number,
            stream: 1,
            sequence: 0,
            kind: 53,
            is_first: true,
            is_last: true,
            is_unordered: false,
            is_urgent: false,
            payload: &[7],
        });
    }

    #[test]
    fn what_others_wait_for_is_taken_where_they_have_filled_the_window() {
        let mut inbound = Inbound::new(1, WINDOW, WINDOW);
        let mut held = 0;
        while inbound.dropped == 0 {
            held += 1;
            receive(&mut inbound, 1 + held);
        }
        let fit = held - 1;
        receive(&mut inbound, 1);
        assert_eq!(inbound.cumulative(), 1 + fit);
        let mut taken = 0;
        while inbound.take().is_some() {
            taken += 1;
        }
        assert_eq!((taken, inbound.held_bytes), (1 + fit, 0));
    }

    #[test]
    fn a_piece_far_ahead_does_not_open_the_window_for_good() {
        let mut inbound = Inbound::new(1, WINDOW, WINDOW);
        receive(&mut inbound, 5000);
        for number in 1..2000 {
            receive(&mut inbound, number);
            assert!(inbound.held_bytes <= 2 * WINDOW);
        }
        assert!(inbound.dropped > 0);
    }
}
