//! Packets and chunks on the wire (RFC 9260 section 3, RFC 3758 section 3.2, RFC 6525 section 3).
//!
//! ```text
//! packet  source port (2)  destination port (2)  tag (4)  checksum (4)  chunks
//! chunk   kind (1)  flags (1)  size (2)  value, padded to a multiple of 4
//! DATA    number (4)  stream (2)  number in stream (2)  kind of payload (4)  payload
//! ```

use crate::base::bytes::{Reader, Short};

pub(super) const HEADER_BYTES: usize = 12;
pub(super) const DATA_HEADER_BYTES: usize = 16;
const CHUNK_HEADER_BYTES: usize = 4;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const RECONFIG: u8 = 130;
const FORWARD: u8 = 192;

/// Parameters of INIT.
const COOKIE: u16 = 7;
const EXTENSIONS: u16 = 0x8008;
const FORWARD_SUPPORTED: u16 = 0xc000;

/// Parameters of RE-CONFIG.
const OUTGOING_RESET: u16 = 13;
const INCOMING_RESET: u16 = 14;
const RESET_RESPONSE: u16 = 16;

/// Flags of DATA.
const LAST: u8 = 1;
const FIRST: u8 = 2;
const UNORDERED: u8 = 4;
const AT_ONCE: u8 = 8;

/// Whether a number comes after another one (RFC 1982).
pub(super) fn is_after(number: u32, other: u32) -> bool {
    number.wrapping_sub(other) as i32 > 0
}

/// A piece of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Data<'a> {
    pub(super) number: u32,
    pub(super) stream: u16,
    /// The message's number in its stream, if that is ordered.
    pub(super) sequence: u16,
    pub(super) kind: u32,
    pub(super) is_first: bool,
    pub(super) is_last: bool,
    pub(super) is_unordered: bool,
    /// It is to be acknowledged at once.
    pub(super) is_urgent: bool,
    pub(super) payload: &'a [u8],
}

/// What both INIT and its answer say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Init<'a> {
    pub(super) tag: u32,
    pub(super) window: u32,
    /// Streams that the sender has, and those that it takes.
    pub(super) outgoing: u16,
    pub(super) incoming: u16,
    pub(super) number: u32,
    pub(super) cookie: &'a [u8],
    /// Messages may be given up.
    pub(super) may_forward: bool,
}

/// What has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sack<'a> {
    /// All up to here.
    pub(super) cumulative: u32,
    pub(super) window: u32,
    gaps: &'a [u8],
}

impl Sack<'_> {
    /// First and last number of each block behind `cumulative`, as distances from it.
    pub(super) fn gaps(&self) -> impl Iterator<Item = (u16, u16)> {
        self.gaps.chunks_exact(4).map(|gap| {
            let half = |at: usize| u16::from_be_bytes([gap[at], gap[at + 1]]);
            (half(0), half(2))
        })
    }
}

/// A parameter of RE-CONFIG.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reset<'a> {
    /// The sender has ended these of its streams; all where there are none.
    Outgoing {
        request: u32,
        /// The last number that was sent before.
        last: u32,
        streams: Streams<'a>,
    },
    /// The receiver is to end these of its streams.
    Incoming { request: u32, streams: Streams<'a> },
    /// What became of a request.
    Response { request: u32, result: u32 },
}

/// Numbers of streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Streams<'a>(&'a [u8]);

impl Streams<'_> {
    pub(super) fn is_empty(self) -> bool {
        self.0.len() < 2
    }

    pub(super) fn contains(self, stream: u16) -> bool {
        self.is_empty() || self.iter().any(|known| known == stream)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u16> {
        self.0
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }
}

/// One chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chunk<'a> {
    Data(Data<'a>),
    Init(Init<'a>),
    InitAck(Init<'a>),
    Sack(Sack<'a>),
    Heartbeat(&'a [u8]),
    Abort,
    Shutdown,
    ShutdownAck,
    ShutdownComplete,
    CookieEcho(&'a [u8]),
    CookieAck,
    Reconfig(Parameters<'a>),
    /// Nothing up to this number comes any more. The messages of ordered streams that are told
    /// too are not needed here.
    Forward {
        cumulative: u32,
    },
    /// One that nothing is done about.
    Other,
    /// One that ends the reading of its packet (RFC 9260 section 3.2).
    Unknown,
}

/// The tag and the chunks of a packet whose checksum is right.
pub(super) fn open(packet: &[u8], port: u16) -> Option<(u32, Chunks<'_>)> {
    let (header, chunks) = packet.split_first_chunk::<HEADER_BYTES>()?;
    let mut reader = Reader::new(header);
    let (from, to) = (reader.u16().ok()?, reader.u16().ok()?);
    let tag = reader.u32().ok()?;
    let sum = u32::from_le_bytes(reader.array().ok()?);
    if (from, to) != (port, port) || sum != checksum(packet) {
        return None;
    }
    Some((tag, Chunks(Reader::new(chunks))))
}

/// CRC-32C of a packet as if the sum's own place were zero.
fn checksum(packet: &[u8]) -> u32 {
    let (before, behind) = packet.split_at(8);
    let sum = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
    crc32c::crc32c_append(sum, &behind[4..])
}

/// Writes a packet's header; [`seal`] follows when all chunks are in.
pub(super) fn begin(packet: &mut Vec<u8>, port: u16, tag: u32) {
    packet.extend_from_slice(&port.to_be_bytes());
    packet.extend_from_slice(&port.to_be_bytes());
    packet.extend_from_slice(&tag.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
}

/// Writes the checksum of a packet that is complete.
pub(super) fn seal(packet: &mut [u8]) {
    let sum = crc32c::crc32c(packet);
    packet[8..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// The chunks of a packet. One that is cut short ends it.
pub(super) struct Chunks<'a>(Reader<'a>);

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let chunk = self.read();
        if chunk.is_err() {
            self.0 = Reader::new(&[]);
        }
        chunk.ok()
    }
}

impl<'a> Chunks<'a> {
    fn read(&mut self) -> Result<Chunk<'a>, Short> {
        let (kind, flags) = (self.0.u8()?, self.0.u8()?);
        let size = usize::from(self.0.u16()?);
        let size = size.checked_sub(CHUNK_HEADER_BYTES).ok_or(Short)?;
        let value = self.0.take(size)?;
        // The padding of the last one may be missing.
        let padding = (size.next_multiple_of(4) - size).min(self.0.remaining());
        self.0.take(padding)?;
        let mut reader = Reader::new(value);
        Ok(match kind {
            DATA => Chunk::Data(Data {
                number: reader.u32()?,
                stream: reader.u16()?,
                sequence: reader.u16()?,
                kind: reader.u32()?,
                is_first: flags & FIRST != 0,
                is_last: flags & LAST != 0,
                is_unordered: flags & UNORDERED != 0,
                is_urgent: flags & AT_ONCE != 0,
                payload: reader.rest(),
            }),
            INIT => Chunk::Init(init(reader)?),
            INIT_ACK => Chunk::InitAck(init(reader)?),
            SACK => {
                let (cumulative, window) = (reader.u32()?, reader.u32()?);
                let (gaps, _duplicates) = (usize::from(reader.u16()?), reader.u16()?);
                Chunk::Sack(Sack {
                    cumulative,
                    window,
                    gaps: reader.take(4 * gaps)?,
                })
            }
            HEARTBEAT => Chunk::Heartbeat(value),
            ABORT => Chunk::Abort,
            SHUTDOWN => Chunk::Shutdown,
            SHUTDOWN_ACK => Chunk::ShutdownAck,
            SHUTDOWN_COMPLETE => Chunk::ShutdownComplete,
            COOKIE_ECHO => Chunk::CookieEcho(value),
            COOKIE_ACK => Chunk::CookieAck,
            RECONFIG => Chunk::Reconfig(Parameters(reader)),
            FORWARD => Chunk::Forward {
                cumulative: reader.u32()?,
            },
            // The highest bit of an unknown kind says that the others are to be read.
            _ if kind & 0x80 == 0 && kind > SHUTDOWN_COMPLETE => Chunk::Unknown,
            _ => Chunk::Other,
        })
    }
}

fn init(mut reader: Reader<'_>) -> Result<Init<'_>, Short> {
    let mut init = Init {
        tag: reader.u32()?,
        window: reader.u32()?,
        outgoing: reader.u16()?,
        incoming: reader.u16()?,
        number: reader.u32()?,
        cookie: &[],
        may_forward: false,
    };
    let mut parameters = Parameters(reader);
    while let Some((kind, value)) = parameters.pair() {
        match kind {
            COOKIE => init.cookie = value,
            FORWARD_SUPPORTED => init.may_forward = true,
            EXTENSIONS => init.may_forward |= value.contains(&FORWARD),
            _ => {}
        }
    }
    Ok(init)
}

/// Parameters of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters<'a>(Reader<'a>);

impl PartialEq for Parameters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.rest() == other.0.rest()
    }
}

impl Eq for Parameters<'_> {}

impl<'a> Parameters<'a> {
    fn pair(&mut self) -> Option<(u16, &'a [u8])> {
        let kind = self.0.u16().ok()?;
        let size = usize::from(self.0.u16().ok()?);
        let size = size.checked_sub(CHUNK_HEADER_BYTES)?;
        let value = self.0.take(size).ok()?;
        let padding = (size.next_multiple_of(4) - size).min(self.0.remaining());
        self.0.take(padding).ok()?;
        Some((kind, value))
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Reset<'a>;

    /// Those of RE-CONFIG that are known.
    fn next(&mut self) -> Option<Reset<'a>> {
        loop {
            let (kind, value) = self.pair()?;
            let mut reader = Reader::new(value);
            let reset = match kind {
                OUTGOING_RESET => outgoing_reset(reader),
                INCOMING_RESET => reader.u32().map(|request| Reset::Incoming {
                    request,
                    streams: Streams(reader.rest()),
                }),
                RESET_RESPONSE => reset_response(reader),
                _ => continue,
            };
            return reset.ok();
        }
    }
}

fn outgoing_reset(mut reader: Reader<'_>) -> Result<Reset<'_>, Short> {
    let request = reader.u32()?;
    // The request of the other side that this one answers, if any.
    let _answers = reader.u32()?;
    Ok(Reset::Outgoing {
        request,
        last: reader.u32()?,
        streams: Streams(reader.rest()),
    })
}

fn reset_response(mut reader: Reader<'_>) -> Result<Reset<'_>, Short> {
    Ok(Reset::Response {
        request: reader.u32()?,
        result: reader.u32()?,
    })
}

/// Writes a chunk around what `value` writes.
fn chunk(out: &mut Vec<u8>, kind: u8, flags: u8, value: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[kind, flags, 0, 0]);
    value(out);
    let size = (out.len() - at) as u16;
    out[at + 2..at + 4].copy_from_slice(&size.to_be_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Bytes that a piece of a message takes in a packet.
pub(super) fn data_bytes(payload: usize) -> usize {
    (DATA_HEADER_BYTES + payload).next_multiple_of(4)
}

impl Data<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(self.is_first, FIRST)
            | flag(self.is_last, LAST)
            | flag(self.is_unordered, UNORDERED)
            | flag(self.is_urgent, AT_ONCE);
        let size = (DATA_HEADER_BYTES + self.payload.len()) as u16;
        let mut header = [0; DATA_HEADER_BYTES];
        header[..2].copy_from_slice(&[DATA, flags]);
        header[2..4].copy_from_slice(&size.to_be_bytes());
        header[4..8].copy_from_slice(&self.number.to_be_bytes());
        header[8..10].copy_from_slice(&self.stream.to_be_bytes());
        header[10..12].copy_from_slice(&self.sequence.to_be_bytes());
        header[12..16].copy_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(self.payload);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

impl Init<'_> {
    pub(super) fn write(&self, is_answer: bool, out: &mut Vec<u8>) {
        let kind = if is_answer { INIT_ACK } else { INIT };
        chunk(out, kind, 0, |out| {
            out.extend_from_slice(&self.tag.to_be_bytes());
            out.extend_from_slice(&self.window.to_be_bytes());
            out.extend_from_slice(&self.outgoing.to_be_bytes());
            out.extend_from_slice(&self.incoming.to_be_bytes());
            out.extend_from_slice(&self.number.to_be_bytes());
            if is_answer {
                parameter(out, COOKIE, |out| out.extend_from_slice(self.cookie));
            }
            parameter(out, FORWARD_SUPPORTED, |_| {});
            parameter(out, EXTENSIONS, |out| {
                out.extend_from_slice(&[RECONFIG, FORWARD]);
            });
        });
    }
}

fn parameter(out: &mut Vec<u8>, kind: u16, value: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    value(out);
    let size = (out.len() - at) as u16;
    out[at + 2..at + 4].copy_from_slice(&size.to_be_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Bytes of an acknowledgement.
pub(super) fn sack_bytes(gaps: usize, duplicates: usize) -> usize {
    CHUNK_HEADER_BYTES + 12 + 4 * (gaps + duplicates)
}

pub(super) fn write_sack(
    cumulative: u32,
    window: u32,
    gaps: &[(u16, u16)],
    duplicates: &[u32],
    out: &mut Vec<u8>,
) {
    chunk(out, SACK, 0, |out| {
        out.extend_from_slice(&cumulative.to_be_bytes());
        out.extend_from_slice(&window.to_be_bytes());
        out.extend_from_slice(&(gaps.len() as u16).to_be_bytes());
        out.extend_from_slice(&(duplicates.len() as u16).to_be_bytes());
        for (first, last) in gaps {
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&last.to_be_bytes());
        }
        for number in duplicates {
            out.extend_from_slice(&number.to_be_bytes());
        }
    });
}

pub(super) fn write_heartbeat_ack(value: &[u8], out: &mut Vec<u8>) {
    chunk(out, HEARTBEAT_ACK, 0, |out| out.extend_from_slice(value));
}

pub(super) fn write_cookie_echo(cookie: &[u8], out: &mut Vec<u8>) {
    chunk(out, COOKIE_ECHO, 0, |out| out.extend_from_slice(cookie));
}

pub(super) fn write_cookie_ack(out: &mut Vec<u8>) {
    chunk(out, COOKIE_ACK, 0, |_| {});
}

pub(super) fn write_shutdown_ack(out: &mut Vec<u8>) {
    chunk(out, SHUTDOWN_ACK, 0, |_| {});
}

pub(super) fn write_shutdown_complete(out: &mut Vec<u8>) {
    chunk(out, SHUTDOWN_COMPLETE, 0, |_| {});
}

/// Bytes of a chunk that says that messages were given up.
pub(super) fn forward_bytes(streams: usize) -> usize {
    CHUNK_HEADER_BYTES + 4 + 4 * streams
}

pub(super) fn write_forward(
    cumulative: u32,
    streams: impl Iterator<Item = (u16, u16)>,
    out: &mut Vec<u8>,
) {
    chunk(out, FORWARD, 0, |out| {
        out.extend_from_slice(&cumulative.to_be_bytes());
        for (stream, sequence) in streams {
            out.extend_from_slice(&stream.to_be_bytes());
            out.extend_from_slice(&sequence.to_be_bytes());
        }
    });
}

pub(super) fn write_outgoing_reset(
    request: u32,
    answers: u32,
    last: u32,
    streams: &[u16],
    out: &mut Vec<u8>,
) {
    chunk(out, RECONFIG, 0, |out| {
        parameter(out, OUTGOING_RESET, |out| {
            out.extend_from_slice(&request.to_be_bytes());
            out.extend_from_slice(&answers.to_be_bytes());
            out.extend_from_slice(&last.to_be_bytes());
            for stream in streams {
                out.extend_from_slice(&stream.to_be_bytes());
            }
        });
    });
}

pub(super) fn write_reset_response(request: u32, result: u32, out: &mut Vec<u8>) {
    chunk(out, RECONFIG, 0, |out| {
        parameter(out, RESET_RESPONSE, |out| {
            out.extend_from_slice(&request.to_be_bytes());
            out.extend_from_slice(&result.to_be_bytes());
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let data = Data {
            number: 7,
            stream: 3,
            sequence: 9,
            kind: 53,
            is_first: true,
            is_last: false,
            is_unordered: true,
            is_urgent: false,
            payload: b"hello",
        };
        let init = Init {
            tag: 1,
            window: 2,
            outgoing: 3,
            incoming: 4,
            number: 5,
            cookie: b"cookies",
            may_forward: true,
        };
        let mut packet = Vec::new();
        begin(&mut packet, 5000, 0x0102_0304);
        init.write(true, &mut packet);
        write_sack(6, 1000, &[(2, 3), (5, 5)], &[1], &mut packet);
        write_outgoing_reset(10, 11, 12, &[1, 2, 3], &mut packet);
        write_forward(20, [(1, 2)].into_iter(), &mut packet);
        data.write(&mut packet);
        seal(&mut packet);
        let (tag, mut chunks) = open(&packet, 5000).unwrap();
        assert_eq!(tag, 0x0102_0304);
        assert_eq!(chunks.next(), Some(Chunk::InitAck(init)));
        let Some(Chunk::Sack(sack)) = chunks.next() else {
            panic!("an acknowledgement");
        };
        assert_eq!((sack.cumulative, sack.window), (6, 1000));
        assert_eq!(sack.gaps().collect::<Vec<_>>(), [(2, 3), (5, 5)]);
        let Some(Chunk::Reconfig(mut resets)) = chunks.next() else {
            panic!("a reset");
        };
        let Some(Reset::Outgoing {
            request: 10,
            last: 12,
            streams,
        }) = resets.next()
        else {
            panic!("of outgoing streams");
        };
        assert_eq!(streams.iter().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(chunks.next(), Some(Chunk::Forward { cumulative: 20 }));
        assert_eq!(chunks.next(), Some(Chunk::Data(data)));
        assert_eq!(chunks.next(), None);
        packet[20] ^= 1;
        assert!(open(&packet, 5000).is_none(), "the checksum");
    }

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        // RFC 3720 appendix B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    }
}
