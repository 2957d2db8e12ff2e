//! The log beside a session's file: what has changed since the file was written, one record behind
//! the other. A log begins with a head that says which scene it belongs to, and which of that
//! scene's logs it is.
//!
//! ```text
//! head    "RSCOLLB1" | scene, 16 bytes | number, u64 | flags, u8 | CRC-32 of all before, u32
//! record  kind, u8 | parts, u8 | length of each part, u64 ... | CRC-32 of kind to parts, u32 | parts
//! ```
//!
//! Numbers are little endian. A server that dies leaves a record cut at any place: the reader stops
//! before it, and before anything else that is not a record.

use std::io::{self, Read};

use bytes::Bytes;

/// Bytes of a head.
pub const HEAD_BYTES: usize = 8 + 16 + 8 + 1 + 4;

const MAGIC: &[u8; 8] = b"RSCOLLB1";

/// The flag of a log before which records are missing.
const FOLLOWS_GAP: u8 = 1;

/// A delete has one part, a change three, a node four or, in generation A, five.
const PARTS_MAX: usize = 5;

/// What tells a scene from all others: random bytes from the time it was begun.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SceneId(pub [u8; 16]);

/// Where the logs of a scene go on from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Which scene.
    pub scene: SceneId,
    /// The first log that is not part of it yet.
    pub next: u64,
}

/// What a log begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Which scene.
    pub scene: SceneId,
    /// The scene's first log is number 1.
    pub number: u64,
    /// Not everything before it was logged: it fits a file only that goes as far as here.
    pub follows_gap: bool,
}

impl Head {
    /// The log's first bytes.
    pub fn to_bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.scene.0);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.push(if self.follows_gap { FOLLOWS_GAP } else { 0 });
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.try_into().expect("the fields make up the head")
    }

    /// Reads them. `None` where they are not a head.
    pub fn read(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (fields, sum) = bytes.split_last_chunk::<4>()?;
        let (magic, fields_left) = fields.split_first_chunk::<8>()?;
        let (scene, fields_left) = fields_left.split_first_chunk::<16>()?;
        let (number, flags) = fields_left.split_first_chunk::<8>()?;
        let is_head = magic == MAGIC && u32::from_le_bytes(*sum) == crc32fast::hash(fields);
        is_head.then(|| Self {
            scene: SceneId(*scene),
            number: u64::from_le_bytes(*number),
            follows_gap: flags == [FOLLOWS_GAP],
        })
    }
}

/// One thing that has happened to a scene.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// Somebody begins to bring a scene: what was there goes.
    Begin,
    /// The scene is whole.
    Complete,
    /// A whole node: uuid, owner, dependencies, data.
    Node([Bytes; 4]),
    /// A change: uuid, dependencies, delta.
    Commit([Bytes; 3]),
    /// A node goes: uuid.
    Delete(Bytes),
    /// A whole node of generation A: type, uuid, owner, dependencies, data.
    Typed([Bytes; 5]),
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Self::Begin => 1,
            Self::Complete => 2,
            Self::Node(_) => 3,
            Self::Commit(_) => 4,
            Self::Delete(_) => 5,
            Self::Typed(_) => 6,
        }
    }

    /// What it holds.
    pub fn parts(&self) -> &[Bytes] {
        match self {
            Self::Begin | Self::Complete => &[],
            Self::Node(parts) => parts,
            Self::Commit(parts) => parts,
            Self::Delete(uuid) => std::slice::from_ref(uuid),
            Self::Typed(parts) => parts,
        }
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> usize {
        self.parts().iter().map(Bytes::len).sum()
    }

    /// What goes before the parts.
    pub fn head(&self) -> Vec<u8> {
        let parts = self.parts();
        let mut head = vec![self.kind(), parts.len() as u8];
        for part in parts {
            head.extend_from_slice(&(part.len() as u64).to_le_bytes());
        }
        let mut sum = crc32fast::Hasher::new();
        sum.update(&head);
        for part in parts {
            sum.update(part);
        }
        head.extend_from_slice(&sum.finalize().to_le_bytes());
        head
    }

    fn of(kind: u8, parts: Vec<Bytes>) -> Option<Self> {
        match (kind, parts.len()) {
            (1, 0) => Some(Self::Begin),
            (2, 0) => Some(Self::Complete),
            (3, _) => parts.try_into().ok().map(Self::Node),
            (4, _) => parts.try_into().ok().map(Self::Commit),
            (5, _) => {
                let [uuid] = <[Bytes; 1]>::try_from(parts).ok()?;
                Some(Self::Delete(uuid))
            }
            (6, _) => parts.try_into().ok().map(Self::Typed),
            _ => None,
        }
    }
}

/// Bytes before a record's parts: kind, count, lengths and checksum.
fn head_bytes(parts: usize) -> u64 {
    2 + 8 * parts as u64 + 4
}

/// Reads a log's records.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    left: u64,
    is_torn: bool,
}

impl<R: Read> Reader<R> {
    /// A reader of `bytes` bytes of `input`, which stands behind the head. No record is taken to be
    /// longer than that, whatever it says.
    pub fn new(input: R, bytes: u64) -> Self {
        Self {
            input,
            left: bytes,
            is_torn: false,
        }
    }

    /// The next record; `None` at the end, and before what is not a record.
    pub fn record(&mut self) -> io::Result<Option<Record>> {
        if self.left == 0 || self.is_torn {
            return Ok(None);
        }
        let read = self.read_record();
        match read {
            Ok(Some(record)) => {
                self.left -= head_bytes(record.parts().len()) + record.bytes() as u64;
                Ok(Some(record))
            }
            Ok(None) => {
                self.is_torn = true;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.is_torn = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Bytes behind the last whole record.
    pub fn torn_bytes(&self) -> u64 {
        self.left
    }

    fn read_record(&mut self) -> io::Result<Option<Record>> {
        let mut head = [0; 2];
        self.input.read_exact(&mut head)?;
        let [kind, count] = head;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&head);
        if usize::from(count) > PARTS_MAX {
            return Ok(None);
        }
        let mut left = self.left.saturating_sub(head_bytes(count.into()));
        let mut lengths = Vec::with_capacity(PARTS_MAX);
        for _ in 0..count {
            let mut length = [0; 8];
            self.input.read_exact(&mut length)?;
            sum.update(&length);
            let length = u64::from_le_bytes(length);
            let Some(rest) = left.checked_sub(length) else {
                return Ok(None);
            };
            left = rest;
            lengths.push(length);
        }
        let mut expected = [0; 4];
        self.input.read_exact(&mut expected)?;
        let mut parts = Vec::with_capacity(PARTS_MAX);
        for length in lengths {
            let mut part = Vec::new();
            let read = self.input.by_ref().take(length).read_to_end(&mut part)?;
            if read as u64 != length {
                return Ok(None);
            }
            sum.update(&part);
            parts.push(Bytes::from(part));
        }
        if sum.finalize() != u32::from_le_bytes(expected) {
            return Ok(None);
        }
        Ok(Record::of(kind, parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let part = |text: &'static str| Bytes::from_static(text.as_bytes());
        vec![
            Record::Begin,
            Record::Node([part("a"), part("COMMON"), part("]"), part("data")]),
            Record::Complete,
            Record::Commit([part("a"), part("]"), part("")]),
            Record::Delete(part("a")),
            Record::Typed([
                part("Thing"),
                part("b"),
                part("COMMON"),
                part("]"),
                part("x"),
            ]),
        ]
    }

    fn written(records: &[Record]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend(record.head());
            for part in record.parts() {
                bytes.extend_from_slice(part);
            }
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<Record>, u64) {
        let mut reader = Reader::new(bytes, bytes.len() as u64);
        let mut records = Vec::new();
        while let Some(record) = reader.record().unwrap() {
            records.push(record);
        }
        (records, reader.torn_bytes())
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&written(&records())), (records(), 0));
        let head = Head {
            scene: SceneId([7; 16]),
            number: 3,
            follows_gap: true,
        };
        assert_eq!(Head::read(&head.to_bytes()), Some(head));
    }

    #[test]
    fn a_cut_costs_the_cut_record_only() {
        let whole = written(&records());
        let mut ends = vec![0];
        for record in records() {
            ends.push(ends[ends.len() - 1] + record.head().len() + record.bytes());
        }
        for length in 0..=whole.len() {
            let before = ends.iter().filter(|end| **end <= length).count() - 1;
            let (got, torn) = read(&whole[..length]);
            assert_eq!(got, records()[..before], "{length}");
            assert_eq!(torn as usize, length - ends[before], "{length}");
        }
    }

    #[test]
    fn a_changed_byte_ends_the_log() {
        let whole = written(&records());
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            let (got, torn) = read(&changed);
            assert!(got.len() < records().len(), "{at}");
            assert_eq!(got, records()[..got.len()], "{at}");
            assert!(torn > 0, "{at}");
        }
        for at in 0..HEAD_BYTES {
            let head = Head {
                scene: SceneId([7; 16]),
                number: 3,
                follows_gap: false,
            };
            let mut bytes = head.to_bytes();
            bytes[at] ^= 1;
            assert_eq!(Head::read(&bytes), None, "{at}");
        }
    }

    #[test]
    fn a_length_beyond_the_file_is_not_believed() {
        let mut bytes = written(&records()[4..]);
        bytes[2..10].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(read(&bytes), (Vec::new(), bytes.len() as u64));
    }
}
