//! Messages in chunks: Adobe RTMP 1.0 section 5.3.
//!
//! ```text
//! basic header    fmt (2)  csid (6), 0: csid - 64 (8), 1: csid - 64 (16, little-endian)
//! fmt 0           timestamp (24)  length (24)  type (8)  message stream id (32, little-endian)
//! fmt 1           delta (24)      length (24)  type (8)
//! fmt 2           delta (24)
//! fmt 3
//! extended        timestamp or delta (32), if the 24 bits of the last header are all ones
//! payload         what is left of the message, at most the chunk size
//! ```

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::Error;
use super::message::{Message, kind};
use crate::base::bytes::{Reader, Short};

/// Chunk size of a connection on which none was announced (section 5.4.1).
pub const CHUNK_SIZE_DEFAULT: usize = 128;
/// A chunk is never longer than the longest message, so larger sizes mean this one.
const CHUNK_SIZE_MAX: u32 = 0xff_ffff;
/// How many chunk streams a connection may use. Clients use up to 8; each costs 64 bytes here.
pub const CHUNK_STREAMS_MAX: usize = 64;
/// 24 bits that say that the timestamp is in the extended field.
const EXTENDED: u32 = 0xff_ffff;
/// Basic header, message header and extended timestamp at their longest.
const HEADER_BYTES_MAX: usize = 3 + 11 + 4;
/// What is allocated for a message before any of it has come. A message grows as it comes, so that
/// an announced length alone costs nothing.
const FIRST_ALLOCATION: usize = 4096;

/// Puts messages together from the bytes of a connection. Chunk sizes and aborts take effect here
/// and are not returned.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_size: usize,
    message_bytes_max: usize,
    streams: Vec<ChunkStream>,
    state: State,
    /// Received bytes of all unfinished messages; at most twice `message_bytes_max`.
    unfinished_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// `length` bytes of a header have come.
    Header {
        bytes: [u8; HEADER_BYTES_MAX],
        length: u8,
    },
    /// `left` bytes of a chunk of `streams[index]` are to come.
    Payload { index: usize, left: usize },
}

/// Payload that was collected with a header: at most three bytes.
type Carry = SmallVec<[u8; 4]>;

impl State {
    /// A header of which `held` has come.
    fn header(held: &[u8]) -> Self {
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[..held.len()].copy_from_slice(held);
        Self::Header {
            bytes,
            length: held.len() as u8,
        }
    }
}

/// What headers leave out because it is as in the message before.
#[derive(Debug)]
struct ChunkStream {
    csid: u32,
    /// The timestamp or delta of the last header, extended or not.
    field: u32,
    extended: bool,
    /// Absolute, of the last message.
    timestamp: u32,
    length: u32,
    kind: u8,
    stream_id: u32,
    payload: BytesMut,
    /// A message has begun and is not complete.
    unfinished: bool,
}

impl ChunkReader {
    /// A reader that refuses messages longer than `message_bytes_max`.
    pub fn new(message_bytes_max: usize) -> Self {
        Self {
            chunk_size: CHUNK_SIZE_DEFAULT,
            message_bytes_max,
            streams: Vec::new(),
            state: State::header(&[]),
            unfinished_bytes: 0,
        }
    }

    /// Takes bytes off the front of `input` until a message is complete; `None` if they do not
    /// complete one. After an error the connection cannot be read any further.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        loop {
            let (index, left, carry) = match self.state {
                State::Payload { index, left } => (index, left, Carry::new()),
                State::Header { .. } => match self.read_header(input)? {
                    Some((index, carry)) => (index, self.chunk_left(index), carry),
                    None => return Ok(None),
                },
            };
            let carried = left.min(carry.len());
            let (taken, rest) = input.split_at((left - carried).min(input.len()));
            *input = rest;
            self.take_payload(index, &carry[..carried], taken)?;
            if carried + taken.len() < left {
                let left = left - carried - taken.len();
                self.state = State::Payload { index, left };
                return Ok(None);
            }
            self.state = State::header(&carry[carried..]);
            if let Some(message) = self.finish(index)? {
                return Ok(Some(message));
            }
        }
    }

    /// Collects a header that may come in pieces, and begins or continues its message. Returns its
    /// chunk stream and what of the collected bytes is behind the header.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<(usize, Carry)>, Error> {
        let State::Header { bytes, length } = &mut self.state else {
            return Ok(None);
        };
        if input.is_empty() {
            return Ok(None);
        }
        let held = usize::from(*length);
        let added = input.len().min(HEADER_BYTES_MAX - held);
        bytes[held..held + added].copy_from_slice(&input[..added]);
        let bytes = *bytes;
        let Some(header) = Header::parse(&bytes[..held + added], &self.streams)? else {
            // Eighteen bytes always make a header, so all of `input` was added.
            *length = (held + added) as u8;
            *input = &input[added..];
            return Ok(None);
        };
        // Bytes held because they might have been a repeated timestamp may turn out not to be.
        *input = &input[header.bytes.saturating_sub(held)..];
        let carry = bytes.get(header.bytes..held).unwrap_or_default().into();
        self.begin(&header).map(|index| Some((index, carry)))
    }

    /// How much payload the chunk that begins has.
    fn chunk_left(&self, index: usize) -> usize {
        let stream = &self.streams[index];
        let missing = stream.length as usize - stream.payload.len();
        missing.min(self.chunk_size)
    }

    fn take_payload(&mut self, index: usize, carry: &[u8], taken: &[u8]) -> Result<(), Error> {
        let stream = &mut self.streams[index];
        stream.grow(carry);
        stream.grow(taken);
        self.unfinished_bytes += carry.len() + taken.len();
        if self.unfinished_bytes > 2 * self.message_bytes_max {
            return Err(Error::UnfinishedTooLarge);
        }
        Ok(())
    }

    /// Applies a header to its chunk stream.
    fn begin(&mut self, header: &Header) -> Result<usize, Error> {
        let index = match header.index {
            Some(index) => index,
            None if self.streams.len() == CHUNK_STREAMS_MAX => {
                return Err(Error::TooManyChunkStreams);
            }
            None => {
                self.streams.push(ChunkStream::new(header.csid));
                self.streams.len() - 1
            }
        };
        let stream = &mut self.streams[index];
        if header.format == 3 && stream.unfinished {
            return Ok(index);
        }
        // A new message where the last one is not complete replaces it.
        self.unfinished_bytes -= stream.payload.len();
        stream.start(header);
        if stream.length as usize > self.message_bytes_max {
            return Err(Error::MessageTooLarge);
        }
        Ok(index)
    }

    /// The message of a chunk stream if it is complete and not for this layer.
    fn finish(&mut self, index: usize) -> Result<Option<Message>, Error> {
        let stream = &mut self.streams[index];
        if stream.payload.len() < stream.length as usize {
            return Ok(None);
        }
        stream.unfinished = false;
        let payload = std::mem::take(&mut stream.payload).freeze();
        self.unfinished_bytes -= payload.len();
        let message = Message {
            kind: stream.kind,
            stream_id: stream.stream_id,
            timestamp: stream.timestamp,
            payload,
        };
        match message.kind {
            kind::SET_CHUNK_SIZE => {
                let size = control_number(&message.payload)?;
                if size == 0 || size > i32::MAX as u32 {
                    return Err(Error::ChunkSize);
                }
                self.chunk_size = size.min(CHUNK_SIZE_MAX) as usize;
                Ok(None)
            }
            kind::ABORT => {
                self.abort(control_number(&message.payload)?);
                Ok(None)
            }
            _ => Ok(Some(message)),
        }
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let payloads = self.streams.iter().map(|stream| stream.payload.capacity());
        self.streams.capacity() * size_of::<ChunkStream>() + payloads.sum::<usize>()
    }

    fn abort(&mut self, csid: u32) {
        let aborted = self.streams.iter_mut().find(|stream| stream.csid == csid);
        if let Some(stream) = aborted {
            self.unfinished_bytes -= stream.payload.len();
            stream.payload = BytesMut::new();
            stream.unfinished = false;
        }
    }
}

/// The number that is the whole of most protocol control messages.
pub(super) fn control_number(payload: &Bytes) -> Result<u32, Error> {
    let read = Reader::new(payload).u32();
    read.map_err(|_: Short| Error::ControlTooShort)
}

impl ChunkStream {
    fn new(csid: u32) -> Self {
        Self {
            csid,
            field: 0,
            extended: false,
            timestamp: 0,
            length: 0,
            kind: 0,
            stream_id: 0,
            payload: BytesMut::new(),
            unfinished: false,
        }
    }

    fn start(&mut self, header: &Header) {
        if let Some((field, extended)) = header.field {
            (self.field, self.extended) = (field, extended);
        }
        if let Some((length, kind)) = header.length_kind {
            (self.length, self.kind) = (length, kind);
        }
        if let Some(stream_id) = header.stream_id {
            self.stream_id = stream_id;
        }
        // After fmt 0, the delta of fmt 3 is the timestamp of that fmt 0 (section 5.3.1.2.4).
        self.timestamp = if header.format == 0 {
            self.field
        } else {
            self.timestamp.wrapping_add(self.field)
        };
        self.payload = BytesMut::new();
        self.unfinished = true;
    }

    /// Appends received bytes; the buffer doubles up to the length of the message, which it then
    /// has exactly.
    fn grow(&mut self, bytes: &[u8]) {
        let (held, length) = (self.payload.len(), self.length as usize);
        if self.payload.capacity() - held < bytes.len() {
            let wanted = (2 * held).max(held + bytes.len()).max(FIRST_ALLOCATION);
            self.payload.reserve(wanted.min(length) - held);
        }
        self.payload.extend_from_slice(bytes);
    }
}

/// One chunk header, with `None` for what it leaves to the chunk stream.
struct Header {
    format: u8,
    csid: u32,
    /// Of the chunk stream, if it is known.
    index: Option<usize>,
    /// Timestamp or delta, and whether it came in the extended field.
    field: Option<(u32, bool)>,
    length_kind: Option<(u32, u8)>,
    stream_id: Option<u32>,
    /// Length of the header.
    bytes: usize,
}

impl Header {
    /// The header at the start of `bytes`; `None` if they end inside it.
    fn parse(bytes: &[u8], streams: &[ChunkStream]) -> Result<Option<Self>, Error> {
        let mut reader = Reader::new(bytes);
        match Self::read(&mut reader, streams) {
            Ok(Some(mut header)) => {
                header.bytes = bytes.len() - reader.remaining();
                Ok(Some(header))
            }
            Ok(None) => Err(Error::UnknownChunkStream),
            Err(Short) => Ok(None),
        }
    }

    /// `None` if the header continues a chunk stream that is not known.
    fn read(reader: &mut Reader<'_>, streams: &[ChunkStream]) -> Result<Option<Self>, Short> {
        let first = reader.u8()?;
        let csid = match first & 0x3f {
            0 => u32::from(reader.u8()?) + 64,
            1 => u32::from(u16::from_le_bytes(reader.array()?)) + 64,
            csid => u32::from(csid),
        };
        let index = streams.iter().position(|stream| stream.csid == csid);
        let mut header = Self {
            format: first >> 6,
            csid,
            index,
            field: None,
            length_kind: None,
            stream_id: None,
            bytes: 0,
        };
        if header.format == 3 {
            let Some(index) = index else {
                return Ok(None);
            };
            streams[index].skip_repeated_timestamp(reader)?;
            return Ok(Some(header));
        }
        // fmt 1 may open a chunk stream: librtmp sends its first ping so (0x42).
        if header.format == 2 && index.is_none() {
            return Ok(None);
        }
        let mut field = reader.u24()?;
        if header.format <= 1 {
            header.length_kind = Some((reader.u24()?, reader.u8()?));
        }
        if header.format == 0 {
            header.stream_id = Some(u32::from_le_bytes(reader.array()?));
        }
        let extended = field == EXTENDED;
        if extended {
            field = reader.u32()?;
        }
        header.field = Some((field, extended));
        Ok(Some(header))
    }
}

impl ChunkStream {
    /// Skips the extended timestamp of a fmt 3 chunk if it is there. The specification wants it
    /// repeated, some encoders leave it out; it is there if the next bytes are the last timestamp
    /// or delta. Payload that happens to be the same four bytes is the price.
    fn skip_repeated_timestamp(&self, reader: &mut Reader<'_>) -> Result<(), Short> {
        if !self.extended {
            return Ok(());
        }
        let rest = reader.rest();
        let candidates = [self.field.to_be_bytes(), self.timestamp.to_be_bytes()];
        let mut undecided = false;
        for candidate in candidates {
            if rest.starts_with(&candidate) {
                reader.take(candidate.len())?;
                return Ok(());
            }
            undecided |= candidate.starts_with(rest);
        }
        if undecided { Err(Short) } else { Ok(()) }
    }
}

/// Where a message goes on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    /// Chunk stream, 2 to 63.
    pub csid: u8,
    /// Message type.
    pub kind: u8,
    /// Message stream.
    pub stream_id: u32,
    /// Milliseconds modulo 2^32.
    pub timestamp: u32,
}

/// Appends a message as one fmt 0 chunk and as many fmt 3 chunks as it takes. It depends on no
/// message before it, so the same bytes can go to every connection with this chunk size.
pub fn write_message(envelope: Envelope, chunk_size: usize, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > CHUNK_SIZE_MAX as usize {
        // No header can say it; the receiver misses one message.
        return;
    }
    let extended = envelope.timestamp >= EXTENDED;
    let chunks = length.div_ceil(chunk_size).max(1);
    out.reserve(16 + length + (chunks - 1) * 5);
    out.push(envelope.csid);
    out.extend_from_slice(&envelope.timestamp.min(EXTENDED).to_be_bytes()[1..]);
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.push(envelope.kind);
    out.extend_from_slice(&envelope.stream_id.to_le_bytes());
    if extended {
        out.extend_from_slice(&envelope.timestamp.to_be_bytes());
    }
    let mut room = chunk_size;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            if room == 0 {
                out.push(0xc0 | envelope.csid);
                if extended {
                    out.extend_from_slice(&envelope.timestamp.to_be_bytes());
                }
                room = chunk_size;
            }
            let (now, later) = rest.split_at(room.min(rest.len()));
            out.extend_from_slice(now);
            room -= now.len();
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn read_all(reader: &mut ChunkReader, bytes: &[u8]) -> Vec<Message> {
        let mut input = bytes;
        let mut messages = Vec::new();
        while let Some(message) = reader.read(&mut input).unwrap() {
            messages.push(message);
        }
        assert!(input.is_empty());
        messages
    }

    fn read_err(bytes: &[u8]) -> Error {
        let mut reader = ChunkReader::new(LIMIT);
        let mut input = bytes;
        loop {
            match reader.read(&mut input) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no error in {bytes:?}"),
                Err(error) => return error,
            }
        }
    }

    fn payloads(messages: &[Message]) -> Vec<(u32, Vec<u8>)> {
        let of = |message: &Message| (message.timestamp, message.payload.to_vec());
        messages.iter().map(of).collect()
    }

    /// fmt 0 of audio on csid 4, message stream 1.
    fn full(timestamp: [u8; 3], length: u8) -> Vec<u8> {
        [&[4][..], &timestamp, &[0, 0, length, 8, 1, 0, 0, 0]].concat()
    }

    #[test]
    fn headers_of_all_formats() {
        let bytes = [
            &full([0, 0, 10], 1)[..],
            &[0xa1],
            &[0x44, 0, 0, 5, 0, 0, 2, 9, 0xb1, 0xb2],
            &[0x84, 0, 0, 7, 0xc1, 0xc2],
            &[0xc4, 0xd1, 0xd2],
        ]
        .concat();
        let messages = read_all(&mut ChunkReader::new(LIMIT), &bytes);
        assert_eq!(
            payloads(&messages),
            [
                (10, vec![0xa1]),
                (15, vec![0xb1, 0xb2]),
                (22, vec![0xc1, 0xc2]),
                (29, vec![0xd1, 0xd2]),
            ]
        );
        assert!(messages.iter().all(|message| message.stream_id == 1));
        assert_eq!([messages[0].kind, messages[3].kind], [8, 9]);
    }

    #[test]
    fn type_3_after_type_0_adds_its_timestamp() {
        let bytes = [&full([0, 0, 10], 1)[..], &[1, 0xc4, 2]].concat();
        let messages = read_all(&mut ChunkReader::new(LIMIT), &bytes);
        assert_eq!(payloads(&messages), [(10, vec![1]), (20, vec![2])]);
    }

    #[test]
    fn long_chunk_stream_ids() {
        let mut bytes = full([0; 3], 1);
        bytes.splice(..1, [0x00, 10]);
        bytes.push(7);
        let mut more = full([0; 3], 1);
        more.splice(..1, [0x01, 0xff, 0xff]);
        more.extend([8, 0xc1, 0xff, 0xff, 9, 0xc0, 10, 6]);
        bytes.extend(more);
        let mut reader = ChunkReader::new(LIMIT);
        let got = payloads(&read_all(&mut reader, &bytes));
        let bytes: Vec<_> = got.into_iter().map(|(_, payload)| payload[0]).collect();
        assert_eq!(bytes, [7, 8, 9, 6]);
        assert_eq!(reader.streams[0].csid, 74);
        assert_eq!(reader.streams[1].csid, 65_599);
    }

    #[test]
    fn chunk_streams_interleave() {
        let bytes = [
            &full([0; 3], 130)[..],
            &[1; 128],
            &[5, 0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, 7],
            &[0xc4, 1, 1],
        ]
        .concat();
        let messages = read_all(&mut ChunkReader::new(LIMIT), &bytes);
        assert_eq!(messages[0].payload[..], [7]);
        assert_eq!(messages[1].payload[..], [1; 130]);
    }

    #[test]
    fn quirk_05_a_chunk_stream_may_open_with_type_1() {
        let ping = [0x42, 0, 0, 0, 0, 0, 6, 4, 0, 6, 0, 0, 0, 9];
        let messages = read_all(&mut ChunkReader::new(LIMIT), &ping);
        assert_eq!((messages[0].kind, messages[0].stream_id), (4, 0));
        assert_eq!(read_err(&[0x82, 0, 0, 0]), Error::UnknownChunkStream);
        assert_eq!(read_err(&[0xc2]), Error::UnknownChunkStream);
    }

    #[test]
    fn chunk_size_changes_midstream() {
        let mut bytes = vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 2];
        bytes.extend(full([0; 3], 3));
        bytes.extend([1, 2]);
        bytes.extend([2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0xc2, 1, 0]);
        bytes.extend([0xc4, 3]);
        bytes.extend(full([0; 3], 200));
        bytes.extend([9; 200]);
        let messages = read_all(&mut ChunkReader::new(LIMIT), &bytes);
        assert_eq!(messages[0].payload[..], [1, 2, 3]);
        assert_eq!(messages[1].payload[..], [9; 200]);
        let set = |size: u32| {
            let header = [2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
            [&header[..], &size.to_be_bytes()].concat()
        };
        assert_eq!(read_err(&set(0)), Error::ChunkSize);
        assert_eq!(read_err(&set(0x8000_0000)), Error::ChunkSize);
        read_all(&mut ChunkReader::new(LIMIT), &set(0x7fff_ffff));
        let short = [2, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 9];
        assert_eq!(read_err(&short), Error::ControlTooShort);
    }

    #[test]
    fn extended_timestamps_with_and_without_repetition() {
        let time = [0x01, 0x02, 0x03, 0x04];
        let start = [&full([0xff; 3], 130)[..], &time, &[7; 128]].concat();
        for continuation in [&[0xc4, 1, 2, 3, 4, 8, 8][..], &[0xc4, 8, 8], &[0xc4, 1, 2]] {
            let bytes = [&start, continuation, &full([0, 0, 1], 1), &[9]].concat();
            let messages = read_all(&mut ChunkReader::new(LIMIT), &bytes);
            assert_eq!(messages.len(), 2, "{continuation:?}");
            assert_eq!(messages[0].timestamp, 0x0102_0304);
            assert_eq!(messages[0].payload.len(), 130);
            assert_eq!(messages[1].payload[..], [9]);
        }
    }

    #[test]
    fn an_extended_delta_counts_for_the_next_message_too() {
        let bytes = [
            &full([0, 0, 1], 1)[..],
            &[1],
            &[0x84, 0xff, 0xff, 0xff, 0x01, 0, 0, 0, 2],
            &[0xc4, 0x01, 0, 0, 0, 3],
            &[0xc4, 4],
        ]
        .concat();
        let messages = read_all(&mut ChunkReader::new(LIMIT), &bytes);
        let times: Vec<_> = messages
            .iter()
            .map(|m| (m.timestamp, m.payload[0]))
            .collect();
        assert_eq!(
            times,
            [(1, 1), (0x0100_0001, 2), (0x0200_0001, 3), (0x0300_0001, 4)]
        );
    }

    #[test]
    fn abort_drops_the_unfinished_message() {
        let bytes = [
            &full([0; 3], 130)[..],
            &[1; 128],
            &[2, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 4],
            &full([0; 3], 1),
            &[9],
        ]
        .concat();
        let mut reader = ChunkReader::new(LIMIT);
        let messages = read_all(&mut reader, &bytes);
        assert_eq!(payloads(&messages), [(0, vec![9])]);
        assert_eq!(reader.unfinished_bytes, 0);
    }

    #[test]
    fn a_new_header_replaces_an_unfinished_message() {
        let bytes = [&full([0; 3], 130)[..], &[1; 128], &full([0; 3], 1), &[9]].concat();
        let mut reader = ChunkReader::new(LIMIT);
        assert_eq!(payloads(&read_all(&mut reader, &bytes)), [(0, vec![9])]);
        assert_eq!(reader.unfinished_bytes, 0);
    }

    #[test]
    fn messages_have_a_size_bound() {
        let header = [4, 0, 0, 0, 0x10, 0, 1, 8, 1, 0, 0, 0];
        assert_eq!(read_err(&header), Error::MessageTooLarge);
    }

    #[test]
    fn unfinished_messages_have_a_size_bound_together() {
        let mut reader = ChunkReader::new(200);
        let mut result = Ok(None);
        for csid in 4..8 {
            let bytes = [&[csid, 0, 0, 0, 0, 0, 200, 8, 1, 0, 0, 0][..], &[1; 128]].concat();
            result = reader.read(&mut &bytes[..]);
        }
        assert_eq!(result, Err(Error::UnfinishedTooLarge));
    }

    #[test]
    fn chunk_streams_have_a_bound() {
        let open = |csid: u8| [0x00, csid, 0, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0];
        let bytes: Vec<u8> = (0..CHUNK_STREAMS_MAX as u8).flat_map(open).collect();
        read_all(&mut ChunkReader::new(LIMIT), &bytes);
        let bytes: Vec<u8> = (0..=CHUNK_STREAMS_MAX as u8).flat_map(open).collect();
        assert_eq!(read_err(&bytes), Error::TooManyChunkStreams);
    }

    #[test]
    fn an_announced_length_costs_no_memory() {
        let mut reader = ChunkReader::new(16 << 20);
        let mut header = &[4, 0, 0, 0, 0xff, 0xff, 0xff, 8, 1, 0, 0, 0, 1][..];
        assert_eq!(reader.read(&mut header), Ok(None));
        assert!(reader.streams[0].payload.capacity() <= FIRST_ALLOCATION);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_in_any_pieces(
            timestamp: u32,
            payload in proptest::collection::vec(any::<u8>(), 0..600),
            chunk_size in 1_usize..300,
            piece in 1_usize..40,
        ) {
            let mut bytes = Vec::new();
            let size = (chunk_size as u32).to_be_bytes();
            let envelope = |kind, timestamp| Envelope { csid: 6, kind, stream_id: 1, timestamp };
            write_message(envelope(1, 0), 128, &[&size], &mut bytes);
            write_message(envelope(9, timestamp), chunk_size, &[&[1, 2], &payload], &mut bytes);
            let mut reader = ChunkReader::new(LIMIT);
            let messages: Vec<_> =
                bytes.chunks(piece).flat_map(|piece| read_all(&mut reader, piece)).collect();
            prop_assert_eq!(messages.len(), 1);
            prop_assert_eq!(messages[0].timestamp, timestamp);
            prop_assert_eq!(&messages[0].payload[2..], &payload[..]);
        }
    }
}
