//! H.264 and HEVC in length-prefixed NAL units, and their configuration records
//! (ISO/IEC 14496-15 5.3.3.1 and 8.3.3.1).

use bytes::Bytes;

use super::Error;
use crate::base::bytes::Reader;
use crate::media::Codec;

/// Where the two low bits `lengthSizeMinusOne` are in `avcC` and in `hvcC`.
const AVCC_LENGTH_SIZE_AT: usize = 4;
const HVCC_LENGTH_SIZE_AT: usize = 21;
/// The shortest records: without parameter sets.
const AVCC_BYTES_MIN: usize = 7;
const HVCC_BYTES_MIN: usize = 23;

/// A configuration record in canonical form, and how long the NAL lengths of its frames are.
pub(super) fn canonical_config(codec: Codec, record: &Bytes) -> Result<(Bytes, u8), Error> {
    let (at, bytes_min) = if codec == Codec::H264 {
        (AVCC_LENGTH_SIZE_AT, AVCC_BYTES_MIN)
    } else {
        (HVCC_LENGTH_SIZE_AT, HVCC_BYTES_MIN)
    };
    // HEVC encoders are met that leave configurationVersion 0.
    if record.len() < bytes_min || record[0] > 1 {
        return Err(Error::Config);
    }
    let length_size = (record[at] & 3) + 1;
    if length_size == 4 {
        return Ok((record.clone(), length_size));
    }
    let mut rewritten = record.to_vec();
    rewritten[at] |= 3;
    Ok((rewritten.into(), length_size))
}

/// A frame whose NAL lengths have 4 bytes, and whether it holds a picture that decoding can start
/// at. The lengths are checked to add up.
pub(super) fn canonical_frame(
    codec: Codec,
    length_size: u8,
    frame: &Bytes,
) -> Result<(Bytes, bool), Error> {
    let mut reader = Reader::new(frame);
    let mut rewritten = Vec::new();
    let mut starts = false;
    while !reader.is_empty() {
        let length = match length_size {
            1 => reader.u8().map(u32::from),
            2 => reader.u16().map(u32::from),
            3 => reader.u24(),
            _ => reader.u32(),
        };
        let length = length.map_err(|_| Error::NalLength)?;
        let unit = reader.take(length as usize).map_err(|_| Error::NalLength)?;
        starts |= unit
            .first()
            .is_some_and(|first| starts_decoding(codec, *first));
        if length_size != 4 {
            rewritten.extend_from_slice(&length.to_be_bytes());
            rewritten.extend_from_slice(unit);
        }
    }
    if length_size == 4 {
        return Ok((frame.clone(), starts));
    }
    Ok((rewritten.into(), starts))
}

/// IDR in H.264; every intra random access point, types 16 to 21, in HEVC.
fn starts_decoding(codec: Codec, first: u8) -> bool {
    if codec == Codec::H264 {
        first & 0x1f == 5
    } else {
        (16..=21).contains(&((first >> 1) & 0x3f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lengths_become_four_bytes() {
        let record = Bytes::from_static(&[1, 0x64, 0, 0x1f, 0xfd, 0xe0, 0]);
        let (config, length_size) = canonical_config(Codec::H264, &record).unwrap();
        assert_eq!((config[4], length_size), (0xff, 2));
        let frame = Bytes::from_static(&[0, 2, 0x65, 7, 0, 1, 0x01]);
        let (frame, starts) = canonical_frame(Codec::H264, length_size, &frame).unwrap();
        assert!(starts);
        assert_eq!(&frame[..], [0, 0, 0, 2, 0x65, 7, 0, 0, 0, 1, 0x01]);
    }

    #[test]
    fn four_byte_lengths_are_not_copied() {
        let frame = Bytes::from(vec![0, 0, 0, 2, 0x02, 7]);
        let (same, starts) = canonical_frame(Codec::Hevc, 4, &frame).unwrap();
        assert!(!starts);
        assert_eq!(same.as_ptr(), frame.as_ptr());
    }

    #[test]
    fn lengths_that_do_not_add_up_are_errors() {
        for bad in [&[0, 0, 0, 2, 0x65][..], &[0, 0, 0], &[0xff; 4]] {
            let frame = Bytes::copy_from_slice(bad);
            let error = canonical_frame(Codec::H264, 4, &frame).unwrap_err();
            assert_eq!(error, Error::NalLength);
        }
        let record = Bytes::from_static(&[1, 0x64, 0, 0x1f, 0xff, 0xe0]);
        assert_eq!(canonical_config(Codec::H264, &record), Err(Error::Config));
    }
}
