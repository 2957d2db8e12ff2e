//! Reads values from bytes a peer sent.

use super::{Error, Value, marker};
use crate::base::bytes::Reader;

/// How deep objects and arrays may be nested. Real commands use 3 levels; the bound keeps the
/// recursion of the decoder shallow.
pub const DEPTH_MAX: u32 = 16;

/// How many values one decoder reads, nested ones included. The longest metadata seen has about
/// 60; the bound keeps a message of empty values from growing 30-fold in memory.
pub const VALUES_MAX: u32 = 4096;

/// Reads values one after the other. A property that cannot be read ends the value it is in, which
/// then holds what came before it: publishers put non-standard values at the end of their metadata,
/// and the rest is still of use.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    reader: Reader<'a>,
    values_left: u32,
    fault: Option<Error>,
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(bytes),
            values_left: VALUES_MAX,
            fault: None,
        }
    }

    /// The next value, `None` at the end. After an error, also one inside the value that was
    /// returned last, there is nothing more to read.
    pub fn next_value(&mut self) -> Result<Option<Value>, Error> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.reader.is_empty() {
            return Ok(None);
        }
        self.value(0)
            .map(Some)
            .inspect_err(|fault| self.fault = Some(*fault))
    }

    /// What stopped the decoder, if something has.
    pub fn fault(&self) -> Option<Error> {
        self.fault
    }

    fn value(&mut self, depth: u32) -> Result<Value, Error> {
        if depth >= DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        self.values_left = self.values_left.checked_sub(1).ok_or(Error::TooMany)?;
        Ok(match self.reader.u8()? {
            marker::NUMBER => Value::Number(self.reader.f64()?),
            marker::BOOLEAN => Value::Boolean(self.reader.u8()? != 0),
            marker::STRING => Value::String(self.short_string()?),
            marker::LONG_STRING | marker::XML_DOCUMENT => {
                let length = self.reader.u32()?;
                Value::String(self.string(length as usize)?)
            }
            marker::OBJECT => Value::Object(self.named_values(depth)),
            marker::TYPED_OBJECT => {
                self.short_string()?;
                Value::Object(self.named_values(depth))
            }
            marker::ECMA_ARRAY => {
                self.reader.u32()?;
                Value::EcmaArray(self.named_values(depth))
            }
            marker::STRICT_ARRAY => Value::StrictArray(self.plain_values(depth)?),
            marker::NULL => Value::Null,
            marker::UNDEFINED | marker::UNSUPPORTED => Value::Undefined,
            marker::DATE => {
                let date = self.reader.f64()?;
                self.reader.u16()?;
                Value::Date(date)
            }
            other => return Err(Error::Marker(other)),
        })
    }

    /// Properties up to the end marker, or up to what cannot be read. An ECMA array that stops at
    /// the end of the message without its end marker is common and not a fault.
    fn named_values(&mut self, depth: u32) -> Vec<(String, Value)> {
        let mut properties = Vec::new();
        while self.fault.is_none() && !self.reader.is_empty() {
            match self.named_value(depth) {
                Ok(Some(property)) => properties.push(property),
                Ok(None) => break,
                Err(fault) => self.fault = Some(fault),
            }
        }
        properties
    }

    fn named_value(&mut self, depth: u32) -> Result<Option<(String, Value)>, Error> {
        let key = self.short_string()?;
        if key.is_empty() && self.reader.rest().first() == Some(&marker::OBJECT_END) {
            self.reader.u8()?;
            return Ok(None);
        }
        let value = self.value(depth + 1)?;
        Ok(Some((key, value)))
    }

    fn plain_values(&mut self, depth: u32) -> Result<Vec<Value>, Error> {
        let count = self.reader.u32()?;
        let mut values = Vec::new();
        for _ in 0..count {
            if self.fault.is_some() {
                break;
            }
            match self.value(depth + 1) {
                Ok(value) => values.push(value),
                Err(fault) => self.fault = Some(fault),
            }
        }
        Ok(values)
    }

    fn short_string(&mut self) -> Result<String, Error> {
        let length = self.reader.u16()?;
        self.string(usize::from(length))
    }

    fn string(&mut self, length: usize) -> Result<String, Error> {
        let bytes = self.reader.take(length)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// All values of `bytes` up to the end or to what cannot be read.
pub fn read_all(bytes: &[u8]) -> Vec<Value> {
    let mut decoder = Decoder::new(bytes);
    let mut values = Vec::new();
    while let Ok(Some(value)) = decoder.next_value() {
        values.push(value);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read() {
        let bytes = [
            &[0x00, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0][..],
            &[0x01, 1],
            &[0x02, 0, 2, b'h', b'i'],
            &[0x03, 0, 1, b'k', 0x05, 0, 0, 0x09],
            &[0x06],
            &[0x08, 0, 0, 0, 1, 0, 1, b'a', 0x01, 0, 0, 0, 0x09],
            &[0x0a, 0, 0, 0, 2, 0x05, 0x06],
            &[0x0b, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x0c, 0, 0, 0, 1, b'L'],
            &[0x0d],
            &[0x10, 0, 1, b'C', 0, 1, b'k', 0x05, 0, 0, 0x09],
        ]
        .concat();
        let key = |name: &str, value| vec![(name.to_owned(), value)];
        assert_eq!(
            read_all(&bytes),
            [
                Value::Number(1.0),
                Value::Boolean(true),
                Value::from("hi"),
                Value::Object(key("k", Value::Null)),
                Value::Undefined,
                Value::EcmaArray(key("a", Value::Boolean(false))),
                Value::StrictArray(vec![Value::Null, Value::Undefined]),
                Value::Date(1.0),
                Value::from("L"),
                Value::Undefined,
                Value::Object(key("k", Value::Null)),
            ]
        );
    }

    #[test]
    fn a_bad_property_keeps_those_before_it() {
        let bytes = [0x03, 0, 1, b'a', 0x01, 1, 0, 1, b'b', 0x11, 0x0c];
        let mut decoder = Decoder::new(&bytes);
        let value = decoder.next_value().unwrap().unwrap();
        assert_eq!(value.property("a"), Some(&Value::Boolean(true)));
        assert_eq!(value.property("b"), None);
        assert_eq!(decoder.fault(), Some(Error::Marker(0x11)));
        assert_eq!(decoder.next_value(), Err(Error::Marker(0x11)));
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |levels| [0x0a, 0, 0, 0, 1].repeat(levels);
        let mut decoder = Decoder::new(&[]);
        assert_eq!(decoder.next_value(), Ok(None));
        let bytes = [nested(DEPTH_MAX as usize - 1), vec![0x05]].concat();
        decoder = Decoder::new(&bytes);
        decoder.next_value().unwrap().unwrap();
        assert_eq!(decoder.fault(), None);
        let bytes = [nested(DEPTH_MAX as usize), vec![0x05]].concat();
        decoder = Decoder::new(&bytes);
        decoder.next_value().unwrap().unwrap();
        assert_eq!(decoder.fault(), Some(Error::TooDeep));
    }

    #[test]
    fn the_count_of_values_has_a_bound() {
        let bytes = [0x05; VALUES_MAX as usize + 1];
        assert_eq!(read_all(&bytes).len(), VALUES_MAX as usize);
        let announced = [0x0a, 0xff, 0xff, 0xff, 0xff, 0x05];
        let mut decoder = Decoder::new(&announced);
        let value = decoder.next_value().unwrap();
        assert_eq!(value, Some(Value::StrictArray(vec![Value::Null])));
        assert_eq!(decoder.fault(), Some(Error::Short));
    }

    #[test]
    fn every_cut_is_an_error_or_a_shorter_value() {
        let bytes = [0x03, 0, 1, b'k', 0x02, 0, 2, b'h', b'i', 0, 0, 0x09];
        for length in 0..bytes.len() {
            let mut decoder = Decoder::new(&bytes[..length]);
            while let Ok(Some(_)) = decoder.next_value() {}
        }
    }
}
