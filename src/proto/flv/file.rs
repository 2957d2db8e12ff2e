//! Cuts an FLV file into tags.

use bytes::{Buf, BytesMut};

use super::{Error, Tag, TagKind};
use crate::base::bytes::Reader;

const TAG_HEADER_BYTES: usize = 11;
/// `PreviousTagSize` behind the header and behind every tag. It is not checked: files are met in
/// which it is wrong.
const TRAILER_BYTES: usize = 4;
/// `Filter`: the tag is encrypted.
const FILTER: u8 = 0x20;
/// The header is 9 bytes; a longer one of a later version is skipped up to this size.
const HEADER_BYTES_MAX: usize = 1024;
const HEADER_BYTES_MIN: usize = 9;

/// Reads a file that comes in pieces. Holds what has come of the tag being read, so at most the
/// size that a tag can have (16 MiB) and the last piece.
#[derive(Debug, Default)]
pub struct FileReader {
    buffer: BytesMut,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Header,
    Tags,
    Failed(Error),
}

impl FileReader {
    /// A reader at the start of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Failed(_)) {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole tag; `None` until more bytes have come. An error is final. Encrypted tags and
    /// tags of unknown type are skipped.
    pub fn next_tag(&mut self) -> Result<Option<Tag>, Error> {
        loop {
            let step = match self.state {
                State::Header => self.read_header().map(|done| done.then_some(None)),
                State::Tags => Ok(self.read_tag()),
                State::Failed(error) => Err(error),
            };
            match step {
                Ok(Some(Some(tag))) => return Ok(Some(tag)),
                Ok(Some(None)) => {}
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.state = State::Failed(error);
                    self.buffer = BytesMut::new();
                    return Err(error);
                }
            }
        }
    }

    fn read_header(&mut self) -> Result<bool, Error> {
        let common = self.buffer.len().min(3);
        if self.buffer[..common] != b"FLV"[..common] {
            return Err(Error::NotFlv);
        }
        let mut reader = Reader::new(&self.buffer);
        let Ok(_signature_version_flags) = reader.take(5) else {
            return Ok(false);
        };
        let Ok(size) = reader.u32() else {
            return Ok(false);
        };
        let size = size as usize;
        if !(HEADER_BYTES_MIN..=HEADER_BYTES_MAX).contains(&size) {
            return Err(Error::NotFlv);
        }
        if self.buffer.len() < size + TRAILER_BYTES {
            return Ok(false);
        }
        self.buffer.advance(size + TRAILER_BYTES);
        self.state = State::Tags;
        Ok(true)
    }

    /// `None` if the tag has not come, `Some(None)` if it was skipped.
    fn read_tag(&mut self) -> Option<Option<Tag>> {
        let mut reader = Reader::new(&self.buffer);
        let first = reader.u8().ok()?;
        let size = reader.u24().ok()? as usize;
        let lower = reader.u24().ok()?;
        let upper = reader.u8().ok()?;
        let whole = TAG_HEADER_BYTES + size + TRAILER_BYTES;
        if self.buffer.len() < whole {
            return None;
        }
        let mut tag = self.buffer.split_to(whole).freeze();
        tag.advance(TAG_HEADER_BYTES);
        tag.truncate(size);
        let kind = TagKind::from_number(first & 0x1f).filter(|_| first & FILTER == 0);
        Some(kind.map(|kind| Tag {
            kind,
            timestamp: u32::from(upper) << 24 | lower,
            payload: tag,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = &[
        b'F', b'L', b'V', 1, 5, 0, 0, 0, 9, 0, 0, 0, 0, //
        8, 0, 0, 2, 0, 0, 7, 1, 0, 0, 0, 0xaf, 1, 0, 0, 0, 13, //
        0x29, 0, 0, 1, 0, 0, 7, 0, 0, 0, 0, 9, 0, 0, 0, 12, //
        9, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 11,
    ];

    fn tags(reader: &mut FileReader) -> Vec<(TagKind, u32, usize)> {
        let next = || reader.next_tag().unwrap();
        std::iter::from_fn(next)
            .map(|tag| (tag.kind, tag.timestamp, tag.payload.len()))
            .collect()
    }

    #[test]
    fn a_file_in_any_pieces_gives_the_same_tags() {
        let expected = [(TagKind::Audio, 0x0100_0007, 2), (TagKind::Video, 8, 0)];
        for cut in 0..FILE.len() {
            let mut reader = FileReader::new();
            reader.push(&FILE[..cut]);
            let mut got = tags(&mut reader);
            reader.push(&FILE[cut..]);
            got.extend(tags(&mut reader));
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn what_is_not_flv_is_refused_and_not_kept() {
        for bad in [
            &b"FLX"[..],
            b"G",
            b"FLV\x01\x05\xff\xff\xff\xff",
            b"FLV\x01\x05\0\0\0\x08",
        ] {
            let mut reader = FileReader::new();
            reader.push(bad);
            assert_eq!(reader.next_tag(), Err(Error::NotFlv));
            reader.push(&[0; 1000]);
            assert_eq!(reader.next_tag(), Err(Error::NotFlv));
            assert_eq!(reader.buffer.capacity(), 0);
        }
    }
}
