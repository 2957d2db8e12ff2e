//! AV1 temporal units (AV1 specification, section 5.3).

use bytes::Bytes;

use super::Error;
use crate::base::bytes::Reader;

const OBU_TEMPORAL_DELIMITER: u8 = 2;
const HAS_SIZE: u8 = 0x02;
const HAS_EXTENSION: u8 = 0x04;

/// A temporal unit whose OBUs all have sizes, without its temporal delimiter.
pub(super) fn canonical_frame(frame: &Bytes) -> Result<Bytes, Error> {
    let mut reader = Reader::new(frame);
    let mut start = 0;
    let mut rewritten: Option<Vec<u8>> = None;
    while !reader.is_empty() {
        let at = frame.len() - reader.remaining();
        let obu = Obu::read(&mut reader)?;
        let end = frame.len() - reader.remaining();
        if obu.header & 0x78 == OBU_TEMPORAL_DELIMITER << 3 {
            if at == start {
                start = end;
            } else if rewritten.is_none() {
                rewritten = Some(frame[start..at].to_vec());
            }
            continue;
        }
        if let Some(bytes) = &mut rewritten {
            obu.write(bytes);
        } else if obu.header & HAS_SIZE == 0 {
            let mut bytes = frame[start..at].to_vec();
            obu.write(&mut bytes);
            rewritten = Some(bytes);
        }
    }
    Ok(rewritten.map_or_else(|| frame.slice(start..), Bytes::from))
}

struct Obu<'a> {
    header: u8,
    extension: Option<u8>,
    payload: &'a [u8],
}

impl<'a> Obu<'a> {
    /// Only the last OBU of a unit can be without a size.
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let mut read = || {
            let header = reader.u8()?;
            let mut extension = None;
            if header & HAS_EXTENSION != 0 {
                extension = Some(reader.u8()?);
            }
            let size = if header & HAS_SIZE != 0 {
                leb128(reader)?
            } else {
                reader.remaining() as u64
            };
            let payload = reader.take(usize::try_from(size).unwrap_or(usize::MAX))?;
            Ok(Self {
                header,
                extension,
                payload,
            })
        };
        read().map_err(|_: Error| Error::ObuSize)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.header | HAS_SIZE);
        out.extend(self.extension);
        let mut size = self.payload.len();
        while size >= 0x80 {
            out.push(size as u8 | 0x80);
            size >>= 7;
        }
        out.push(size as u8);
        out.extend_from_slice(self.payload);
    }
}

/// Section 4.10.5: seven bits a byte, the lowest first, at most eight bytes.
fn leb128(reader: &mut Reader<'_>) -> Result<u64, Error> {
    let mut value = 0;
    for index in 0..8 {
        let byte = reader.u8()?;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::ObuSize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        canonical_frame(&Bytes::copy_from_slice(bytes)).map(|frame| frame.to_vec())
    }

    #[test]
    fn delimiter_goes_and_sizes_come() {
        let sized = [0x0a, 1, 9, 0x32, 2, 7, 8];
        assert_eq!(canonical(&sized), Ok(sized.to_vec()));
        let delimited = [&[0x12, 0][..], &sized].concat();
        assert_eq!(canonical(&delimited), Ok(sized.to_vec()));
        assert_eq!(canonical(&[0x0a, 1, 9, 0x30, 7, 8]), Ok(sized.to_vec()));
        assert_eq!(
            canonical(&[0x0a, 1, 9, 0x12, 0, 0x32, 2, 7, 8]),
            Ok(sized.to_vec())
        );
        assert_eq!(canonical(&[0x34, 0x08, 7]), Ok(vec![0x36, 0x08, 1, 7]));
    }

    #[test]
    fn a_large_obu_gets_a_long_size() {
        let unsized_obu = [&[0x30][..], &[5; 300]].concat();
        let written = canonical(&unsized_obu).unwrap();
        assert_eq!(written[..3], [0x32, 0xac, 0x02]);
        assert_eq!(written.len(), 303);
    }

    #[test]
    fn sizes_that_do_not_add_up_are_errors() {
        for bad in [&[0x32, 5, 1][..], &[0x32], &[0x34], &[0x32, 0xff, 0xff]] {
            assert_eq!(canonical(bad), Err(Error::ObuSize));
        }
        assert_eq!(
            canonical(&[[0x32].as_slice(), &[0xff; 9]].concat()),
            Err(Error::ObuSize)
        );
    }
}
