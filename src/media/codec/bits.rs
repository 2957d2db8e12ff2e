//! A bit reader for codec headers.

use crate::base::bytes::Short;

/// Reads bits, most significant first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit. 0 <= at <= 8 * bytes.len()
    at: usize,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bits have not been read.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    /// One bit.
    pub(crate) fn flag(&mut self) -> Result<bool, Short> {
        let byte = *self.bytes.get(self.at / 8).ok_or(Short)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// The next `count` bits as a number; `count` is at most 32.
    pub(crate) fn bits(&mut self, count: u32) -> Result<u32, Short> {
        debug_assert!(count <= 32);
        let mut value = 0u64;
        for _ in 0..count {
            value = value << 1 | u64::from(self.flag()?);
        }
        Ok(value as u32)
    }

    /// The next bits as a small number; `count` is at most 8.
    pub(crate) fn small(&mut self, count: u32) -> Result<u8, Short> {
        debug_assert!(count <= 8);
        self.bits(count).map(|value| value as u8)
    }

    /// Passes over `count` bits.
    pub(crate) fn skip(&mut self, count: usize) -> Result<(), Short> {
        if count > self.remaining() {
            return Err(Short);
        }
        self.at += count;
        Ok(())
    }

    /// An unsigned Exp-Golomb number (ITU-T H.264 9.1). Numbers above 2^32 - 2 do not occur in
    /// any syntax element and read as an early end.
    pub(crate) fn ue(&mut self) -> Result<u32, Short> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(Short);
            }
        }
        let suffix = self.bits(zeros)?;
        Ok(((1u64 << zeros) - 1) as u32 + suffix)
    }

    /// A signed Exp-Golomb number (ITU-T H.264 9.1.1).
    pub(crate) fn se(&mut self) -> Result<i64, Short> {
        let code = i64::from(self.ue()?);
        Ok(if code % 2 == 1 {
            (code + 1) / 2
        } else {
            -code / 2
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_numbers() {
        // 1, 010, 011, 00100, 00101: 0, 1, 2, 3, 4; as signed 0, 1, -1, 2, -2.
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut reader = BitReader::new(&bytes);
        let unsigned: Vec<_> = (0..5).map(|_| reader.ue().unwrap()).collect();
        assert_eq!(unsigned, [0, 1, 2, 3, 4]);
        let mut reader = BitReader::new(&bytes);
        let signed: Vec<_> = (0..5).map(|_| reader.se().unwrap()).collect();
        assert_eq!(signed, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn the_end_is_an_error() {
        let mut reader = BitReader::new(&[0xff]);
        assert_eq!(reader.bits(8), Ok(0xff));
        assert_eq!(reader.flag(), Err(Short));
        assert_eq!(reader.skip(1), Err(Short));
        assert_eq!(BitReader::new(&[0; 16]).ue(), Err(Short));
        let largest = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(BitReader::new(&largest).ue(), Ok(u32::MAX - 1));
    }
}
