//! Whole numbers of more than 64 bits.

/// A number as pickle writes it: two's complement, least byte first, no byte more than needed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Integer(Box<[u8]>);

impl Integer {
    /// The number of these bytes, the shortest form of it. No bytes are zero.
    pub fn new(mut bytes: &[u8]) -> Self {
        while let [rest @ .., before, last] = bytes {
            let repeats_the_sign = matches!((before >> 7, last), (0, 0) | (1, 0xff));
            if !repeats_the_sign {
                break;
            }
            bytes = &bytes[..rest.len() + 1];
        }
        match bytes {
            [0] => Self(Box::default()),
            _ => Self(bytes.into()),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The number, if 64 bits hold it.
    pub fn to_i64(&self) -> Option<i64> {
        let sign = match self.0.last() {
            Some(last) if last >> 7 == 1 => 0xff,
            Some(_) | None => 0,
        };
        let mut bytes = [sign; 8];
        bytes.get_mut(..self.0.len())?.copy_from_slice(&self.0);
        Some(i64::from_le_bytes(bytes))
    }
}

impl From<i64> for Integer {
    fn from(number: i64) -> Self {
        Self::new(&number.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_form_and_back() {
        for number in [0, 1, -1, 127, 128, -128, -129, 255, 256, i64::MAX, i64::MIN] {
            assert_eq!(Integer::from(number).to_i64(), Some(number));
        }
        assert_eq!(Integer::from(0).as_bytes(), b"");
        assert_eq!(Integer::from(-1).as_bytes(), b"\xff");
        assert_eq!(Integer::from(128).as_bytes(), b"\x80\x00");
        assert_eq!(Integer::new(&[1, 0, 0, 0, 0, 0, 0, 0, 0]).to_i64(), Some(1));
        assert_eq!(Integer::new(&[0, 0, 0, 0, 0, 0, 0, 0, 1]).to_i64(), None);
    }
}
