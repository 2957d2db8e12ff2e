//! Writes values.

use super::{Value, marker};

impl Value {
    /// Appends the value. Keys and short strings end at 65535 bytes, longer strings become long
    /// strings.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => {
                out.push(marker::NUMBER);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Boolean(flag) => out.extend_from_slice(&[marker::BOOLEAN, u8::from(*flag)]),
            Self::String(text) => write_string(text, out),
            Self::Object(properties) => {
                write_object_start(out);
                write_properties(properties, out);
            }
            Self::EcmaArray(properties) => {
                out.push(marker::ECMA_ARRAY);
                out.extend_from_slice(&count(properties.len()));
                write_properties(properties, out);
            }
            Self::StrictArray(values) => {
                out.push(marker::STRICT_ARRAY);
                out.extend_from_slice(&count(values.len()));
                values.iter().for_each(|value| value.write(out));
            }
            Self::Null => out.push(marker::NULL),
            Self::Undefined => out.push(marker::UNDEFINED),
            Self::Date(date) => {
                out.push(marker::DATE);
                out.extend_from_slice(&date.to_be_bytes());
                out.extend_from_slice(&[0, 0]);
            }
        }
    }
}

/// Starts an object that is written property by property.
pub fn write_object_start(out: &mut Vec<u8>) {
    out.push(marker::OBJECT);
}

/// The name of the property whose value follows.
pub fn write_key(key: &str, out: &mut Vec<u8>) {
    let end = key.floor_char_boundary(usize::from(u16::MAX));
    out.extend_from_slice(&(end as u16).to_be_bytes());
    out.extend_from_slice(&key.as_bytes()[..end]);
}

/// Ends an object or an ECMA array.
pub fn write_object_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, marker::OBJECT_END]);
}

fn write_properties(properties: &[(String, Value)], out: &mut Vec<u8>) {
    for (key, value) in properties {
        write_key(key, out);
        value.write(out);
    }
    write_object_end(out);
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    if let Ok(length) = u16::try_from(text.len()) {
        out.push(marker::STRING);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(marker::LONG_STRING);
        out.extend_from_slice(&count(text.len()));
    }
    out.extend_from_slice(text.as_bytes());
}

fn count(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::amf::read_all;

    #[test]
    fn what_is_written_is_read_back() {
        let values = [
            Value::from(-1.5),
            Value::from(true),
            Value::from("short"),
            Value::String("long".repeat(20_000)),
            Value::Object(vec![
                ("a".to_owned(), Value::Null),
                (
                    "b".to_owned(),
                    Value::EcmaArray(vec![("c".to_owned(), Value::Undefined)]),
                ),
            ]),
            Value::StrictArray(vec![Value::from("x"), Value::Date(7.0)]),
        ];
        let mut bytes = Vec::new();
        values.iter().for_each(|value| value.write(&mut bytes));
        assert_eq!(read_all(&bytes), values);
    }

    #[test]
    fn a_key_longer_than_its_length_field_is_cut_at_a_character() {
        let mut bytes = Vec::new();
        write_object_start(&mut bytes);
        write_key(&"\u{e9}".repeat(40_000), &mut bytes);
        Value::Null.write(&mut bytes);
        write_object_end(&mut bytes);
        let values = read_all(&bytes);
        assert_eq!(values[0].properties()[0].0.len(), 65_534);
    }
}
