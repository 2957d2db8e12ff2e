//! The packet.
//!
//! ```text
//! +-------------------------------+-------------------------------+
//! |                 sender SSRC, media SSRC: 8 bytes              |
//! +-------------------------------+-------------------------------+
//! |        first number           |       count of statuses       |
//! +-------------------------------+---------------+---------------+
//! |     reference time, in units of 64 ms         | packet count  |
//! +-------------------------------+---------------+---------------+
//! |  chunks of 16 bits ...        |  deltas of 8 or 16 bits ...   |
//! +-------------------------------+-------------------------------+
//!
//! +-+---+-------------------------+   +-+-+---------------------------+
//! |0|sym|        run length       |   |1|w| 14 symbols of 1 bit (w=0),|
//! +-+---+-------------------------+   +-+-+ or 7 of 2 bits (w=1)      |
//! ```

use crate::base::bytes::Reader;

use crate::proto::rtcp::error::Error;
use crate::proto::rtcp::packet::{TRANSPORT_CC, TRANSPORT_FEEDBACK, begin, end, put};

/// The most statuses in one packet that is read: at 25 packets per millisecond it is more than
/// 100 ms, the usual interval. A run takes 2 bytes for 8191 statuses, so without a bound a
/// datagram could ask for millions of steps.
pub const STATUSES_MAX: u16 = 4096;

/// Ticks of 250 µs in the unit of the reference time.
pub(super) const REFERENCE_TICKS: i64 = 256;

const RUN_MAX: usize = 0x1fff;
const VECTOR: u16 = 0x8000;
const WIDE: u16 = 0x4000;
const NARROW_COUNT: usize = 14;
const WIDE_COUNT: usize = 7;

/// How a packet fared, as it is on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Symbol {
    Missing = 0,
    Small = 1,
    Large = 2,
}

impl Symbol {
    fn parse(bits: u16) -> Result<Self, Error> {
        match bits & 3 {
            0 => Ok(Self::Missing),
            1 => Ok(Self::Small),
            2 => Ok(Self::Large),
            _ => Err(Error::TransportCc),
        }
    }

    /// `previous` and `arrival` in ticks; None if they are too far apart.
    fn of(previous: i64, arrival: Option<i64>) -> Option<Self> {
        let Some(arrival) = arrival else {
            return Some(Self::Missing);
        };
        match arrival - previous {
            0..=0xff => Some(Self::Small),
            -0x8000..=0x7fff => Some(Self::Large),
            _ => None,
        }
    }
}

/// When packets arrived.
#[derive(Clone, Copy, Debug)]
pub struct Feedback<'a> {
    /// Who says so.
    pub sender: u32,
    /// Any stream of the transport.
    pub media: u32,
    /// The number of the first packet.
    pub base: u16,
    /// Counts the packets of feedback, so that a lost one is seen.
    pub count: u8,
    /// `<= STATUSES_MAX`
    statuses: u16,
    /// In units of 64 ms; it has 24 bits and a sign.
    reference: i32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> Feedback<'a> {
    pub(in crate::proto::rtcp) fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let (sender, media) = (reader.u32()?, reader.u32()?);
        let (base, statuses) = (reader.u16()?, reader.u16()?);
        let word = reader.u32()?;
        if statuses > STATUSES_MAX {
            return Err(Error::TransportCc);
        }
        let rest = reader.rest();
        let mut symbols = Symbols::new(rest, statuses);
        let mut delta_bytes = 0;
        while let Some(symbol) = symbols.step()? {
            delta_bytes += symbol as usize;
        }
        let (chunks, rest) = rest.split_at(rest.len() - symbols.chunks.len());
        let deltas = rest.get(..delta_bytes).ok_or(Error::Short)?;
        Ok(Self {
            sender,
            media,
            base,
            count: word as u8,
            statuses,
            reference: word as i32 >> 8,
            chunks,
            deltas,
        })
    }

    /// How many packets it is about, 0 to [`STATUSES_MAX`].
    pub fn len(&self) -> u16 {
        self.statuses
    }

    /// It is about no packet.
    pub fn is_empty(&self) -> bool {
        self.statuses == 0
    }

    /// The packets one by one.
    pub fn statuses(&self) -> Statuses<'a> {
        Statuses {
            symbols: Symbols::new(self.chunks, self.statuses),
            deltas: Reader::new(self.deltas),
            number: self.base,
            ticks: i64::from(self.reference) * REFERENCE_TICKS,
        }
    }
}

/// Iterates over the packets that feedback is about: the number of each, and when it arrived in
/// units of 250 µs (None if it did not). The zero of the time is the receiver's; it wraps around
/// after 2^32 units.
#[derive(Clone, Debug)]
pub struct Statuses<'a> {
    symbols: Symbols<'a>,
    deltas: Reader<'a>,
    number: u16,
    ticks: i64,
}

impl Iterator for Statuses<'_> {
    type Item = (u16, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        // What was parsed has as many chunks and deltas as it needs.
        let symbol = self.symbols.step().ok().flatten()?;
        let number = self.number;
        self.number = number.wrapping_add(1);
        let delta = match symbol {
            Symbol::Missing => return Some((number, None)),
            Symbol::Small => i64::from(self.deltas.u8().ok()?),
            Symbol::Large => i64::from(self.deltas.u16().ok()? as i16),
        };
        self.ticks += delta;
        Some((number, Some(self.ticks)))
    }
}

/// The symbols of chunks.
#[derive(Clone, Debug)]
struct Symbols<'a> {
    chunks: &'a [u8],
    /// Statuses that are left.
    left: u16,
    chunk: u16,
    /// Symbols that are left in `chunk`.
    in_chunk: u16,
}

impl<'a> Symbols<'a> {
    fn new(chunks: &'a [u8], statuses: u16) -> Self {
        Self {
            chunks,
            left: statuses,
            chunk: 0,
            in_chunk: 0,
        }
    }

    fn step(&mut self) -> Result<Option<Symbol>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        while self.in_chunk == 0 {
            let (head, rest) = self.chunks.split_first_chunk().ok_or(Error::Short)?;
            self.chunks = rest;
            self.chunk = u16::from_be_bytes(*head);
            self.in_chunk = match self.chunk & (VECTOR | WIDE) {
                VECTOR => NARROW_COUNT as u16,
                0xc000 => WIDE_COUNT as u16,
                // The upper bit of a run's symbol is where a vector has its width.
                _ => self.chunk & RUN_MAX as u16,
            };
        }
        self.in_chunk -= 1;
        self.left -= 1;
        let bits = match self.chunk & (VECTOR | WIDE) {
            VECTOR => (self.chunk >> self.in_chunk) & 1,
            0xc000 => self.chunk >> (2 * self.in_chunk),
            _ => self.chunk >> 13,
        };
        Symbol::parse(bits).map(Some)
    }
}

/// What a packet of feedback begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) sender: u32,
    pub(super) media: u32,
    pub(super) base: u16,
    pub(super) count: u8,
    /// In units of 64 ms; 24 bits of it are sent.
    pub(super) reference: i64,
}

/// Appends a packet about the first of `arrivals`, in ticks of 250 µs, and returns how many they
/// are: fewer than all if an arrival is too far from the one before it.
pub(super) fn write(
    out: &mut Vec<u8>,
    head: &Head,
    arrivals: impl Iterator<Item = Option<i64>> + Clone,
) -> usize {
    let reference = head.reference * REFERENCE_TICKS;
    let mut symbols = Classified {
        arrivals: arrivals.clone(),
        previous: reference,
    };
    let count = symbols.clone().count();
    let start = begin(out, TRANSPORT_CC, TRANSPORT_FEEDBACK);
    put(out, head.sender);
    put(out, head.media);
    put(out, u32::from(head.base) << 16 | count as u32);
    put(out, (head.reference as u32) << 8 | u32::from(head.count));
    let mut left = count;
    while left > 0 {
        let (chunk, used) = chunk(&symbols);
        out.extend_from_slice(&chunk.to_be_bytes());
        for _ in 0..used {
            symbols.next();
        }
        left -= used;
    }
    let mut previous = reference;
    for arrival in arrivals.take(count).flatten() {
        match arrival - previous {
            delta @ 0..=0xff => out.push(delta as u8),
            delta => out.extend_from_slice(&(delta as i16).to_be_bytes()),
        }
        previous = arrival;
    }
    while !out.len().wrapping_sub(start).is_multiple_of(4) {
        out.push(0);
    }
    end(out, start);
    count
}

/// Symbols of arrivals, up to one that is too far from the one before it.
#[derive(Clone)]
struct Classified<I> {
    arrivals: I,
    previous: i64,
}

impl<I: Iterator<Item = Option<i64>>> Iterator for Classified<I> {
    type Item = Symbol;

    fn next(&mut self) -> Option<Symbol> {
        let arrival = self.arrivals.next()?;
        let symbol = Symbol::of(self.previous, arrival)?;
        self.previous = arrival.unwrap_or(self.previous);
        Some(symbol)
    }
}

/// The chunk that takes most of the symbols, at least one, and how many it takes.
fn chunk(symbols: &(impl Iterator<Item = Symbol> + Clone)) -> (u16, usize) {
    let mut ahead = symbols.clone();
    let Some(first) = ahead.next() else {
        return (0, 0);
    };
    let run = 1 + ahead
        .take(RUN_MAX - 1)
        .take_while(|symbol| *symbol == first)
        .count();
    let mut narrow = (VECTOR, 0);
    let mut wide = (VECTOR | WIDE, 0);
    let is_narrow = |symbol: &Symbol| *symbol != Symbol::Large;
    for symbol in symbols.clone().take(NARROW_COUNT).take_while(is_narrow) {
        narrow.0 |= (symbol as u16) << (NARROW_COUNT - 1 - narrow.1);
        narrow.1 += 1;
    }
    for symbol in symbols.clone().take(WIDE_COUNT) {
        wide.0 |= (symbol as u16) << (2 * (WIDE_COUNT - 1 - wide.1));
        wide.1 += 1;
    }
    // A vector that is not full ends the packet, or would name symbols that are not so.
    let is_last = symbols.clone().nth(narrow.1).is_none();
    if narrow.1 < NARROW_COUNT && !is_last {
        narrow.1 = 0;
    }
    let run = ((first as u16) << 13 | run as u16, run);
    [narrow, wide]
        .into_iter()
        .fold(run, |best, next| if next.1 > best.1 { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rtcp::{Packet, packets};

    const HEAD: Head = Head {
        sender: 1,
        media: 2,
        base: 65_530,
        count: 9,
        reference: -3,
    };

    fn round_trip(arrivals: &[Option<i64>]) -> (Vec<u8>, Vec<Option<i64>>) {
        let mut out = Vec::new();
        write(&mut out, &HEAD, arrivals.iter().copied());
        let Some(Ok(Packet::TransportCc(feedback))) = packets(&out).next() else {
            panic!("{out:?}");
        };
        assert_eq!((feedback.sender, feedback.media), (1, 2));
        assert_eq!((feedback.base, feedback.count), (65_530, 9));
        let mut number = 65_530;
        let mut read = Vec::new();
        for (found, arrival) in feedback.statuses() {
            assert_eq!(found, number);
            number = number.wrapping_add(1);
            read.push(arrival);
        }
        (out, read)
    }

    #[test]
    fn runs_take_one_chunk() {
        let arrivals: Vec<_> = (0..300).map(|index| Some(index - 768)).collect();
        let (out, read) = round_trip(&arrivals);
        assert_eq!(read, arrivals);
        assert_eq!(out[20..22], [0x21, 0x2c], "a run of 300 small deltas");
        assert_eq!(out.len(), 20 + 2 + 300 + 2);
    }

    #[test]
    fn mixed_arrivals_take_vectors() {
        let arrivals: Vec<_> = (0..14)
            .map(|index| (index % 2 == 0).then_some(index - 768))
            .collect();
        let (out, read) = round_trip(&arrivals);
        assert_eq!(read, arrivals);
        assert_eq!(out[20..22], [0xaa, 0xaa], "14 symbols of one bit");
        // Out of order: deltas of two bytes.
        let arrivals = [Some(-700), Some(-701), None, Some(-300), Some(5000)];
        let (out, read) = round_trip(&arrivals);
        assert_eq!(read, arrivals);
        assert_eq!(out[20..22], [0b1101_1000, 0b1010_0000]);
    }

    #[test]
    fn an_arrival_too_far_away_is_left_for_the_next_packet() {
        let arrivals = [Some(-768), None, Some(32_767 - 768), Some(65_535)];
        assert_eq!(round_trip(&arrivals).1, arrivals[..3]);
    }

    #[test]
    fn malformed_feedback_is_refused() {
        let body = |statuses: u16, rest: &[u8]| {
            let mut body = vec![0; 16];
            body[10..12].copy_from_slice(&statuses.to_be_bytes());
            body.extend_from_slice(rest);
            Feedback::parse(&body).err()
        };
        assert_eq!(body(0, &[]), None);
        assert_eq!(body(1, &[]), Some(Error::Short), "no chunk");
        assert_eq!(body(1, &[0x20, 1]), Some(Error::Short), "no delta");
        assert_eq!(body(1, &[0x20, 1, 5]), None);
        assert_eq!(body(1, &[0x60, 1, 5, 5]), Some(Error::TransportCc));
        assert_eq!(body(7, &[0xff, 0xff]), Some(Error::TransportCc));
        assert_eq!(body(4097, &[0x10, 0x01]), Some(Error::TransportCc));
        assert_eq!(body(4096, &[0x10, 0x00]), None);
        // Runs of no length lead nowhere.
        assert_eq!(body(1, &[0, 0, 0, 0]), Some(Error::Short));
        assert_eq!(Feedback::parse(&[0; 15]).err(), Some(Error::Short));
    }
}
