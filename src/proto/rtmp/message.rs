//! Messages: Adobe RTMP 1.0 sections 5.4 and 7.1.

use bytes::{Buf, Bytes};

use crate::base::bytes::Reader;
use crate::proto::amf::{self, Value};
use crate::proto::flv::{Tag, TagKind};

/// The longest command message that is read. The longest real one is `connect` of Enhanced RTMP
/// with below 1 KiB; a token in a stream name can add some.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;
/// How many tags of an aggregate are taken; servers that send aggregates put a second of media in
/// one.
const AGGREGATE_TAGS_MAX: usize = 1024;

/// Message types.
pub(super) mod kind {
    pub(in crate::proto::rtmp) const SET_CHUNK_SIZE: u8 = 1;
    pub(in crate::proto::rtmp) const ABORT: u8 = 2;
    pub(in crate::proto::rtmp) const ACKNOWLEDGEMENT: u8 = 3;
    pub(in crate::proto::rtmp) const USER_CONTROL: u8 = 4;
    pub(in crate::proto::rtmp) const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
    pub(in crate::proto::rtmp) const SET_PEER_BANDWIDTH: u8 = 6;
    pub(in crate::proto::rtmp) const AUDIO: u8 = 8;
    pub(in crate::proto::rtmp) const VIDEO: u8 = 9;
    pub(in crate::proto::rtmp) const DATA_AMF3: u8 = 15;
    pub(in crate::proto::rtmp) const COMMAND_AMF3: u8 = 17;
    pub(in crate::proto::rtmp) const DATA: u8 = 18;
    pub(in crate::proto::rtmp) const COMMAND: u8 = 20;
    pub(in crate::proto::rtmp) const AGGREGATE: u8 = 22;
}

/// Events of user control messages, section 7.1.7.
pub(super) mod control {
    pub(in crate::proto::rtmp) const STREAM_BEGIN: u16 = 0;
    pub(in crate::proto::rtmp) const STREAM_EOF: u16 = 1;
    pub(in crate::proto::rtmp) const SET_BUFFER_LENGTH: u16 = 3;
    pub(in crate::proto::rtmp) const PING_REQUEST: u16 = 6;
    pub(in crate::proto::rtmp) const PING_RESPONSE: u16 = 7;
}

/// One message, put together from its chunks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its type.
    pub kind: u8,
    /// The message stream it belongs to; 0 for the connection.
    pub stream_id: u32,
    /// Milliseconds modulo 2^32.
    pub timestamp: u32,
    /// Its body.
    pub payload: Bytes,
}

impl Message {
    /// The message as a tag, if it is audio, video or data.
    pub fn into_tag(self) -> Option<Tag> {
        let mut payload = self.payload;
        let kind = match self.kind {
            kind::AUDIO => TagKind::Audio,
            kind::VIDEO => TagKind::Video,
            kind::DATA => TagKind::Script,
            kind::DATA_AMF3 => {
                skip_amf3_marker(&mut payload);
                TagKind::Script
            }
            _ => return None,
        };
        Some(Tag {
            kind,
            timestamp: self.timestamp,
            payload,
        })
    }

    /// The tags of an aggregate message (section 7.1.6), with their times moved so that the first
    /// has the time of the message. What cannot be read ends the list.
    ///
    /// ```text
    /// type (8)  size (24)  timestamp (24)  its upper byte (8)  stream id (24)  body  back pointer (32)
    /// ```
    pub fn split_aggregate(&self) -> Vec<Tag> {
        let mut reader = Reader::new(&self.payload);
        let mut offset = None;
        let mut read = || {
            let kind = reader.u8().ok()?;
            let size = reader.u24().ok()?;
            let lower = reader.u24().ok()?;
            let timestamp = u32::from(reader.u8().ok()?) << 24 | lower;
            reader.u24().ok()?;
            let start = self.payload.len() - reader.remaining();
            let length = reader.take(size as usize).ok()?.len();
            // The last back pointer is missing in some aggregates.
            let _ = reader.u32();
            let offset = *offset.get_or_insert_with(|| self.timestamp.wrapping_sub(timestamp));
            Some((kind, timestamp.wrapping_add(offset), start..start + length))
        };
        let mut tags = Vec::new();
        for _ in 0..AGGREGATE_TAGS_MAX {
            let Some((kind, timestamp, range)) = read() else {
                break;
            };
            tags.extend(TagKind::from_number(kind).map(|kind| Tag {
                kind,
                timestamp,
                payload: self.payload.slice(range),
            }));
        }
        tags
    }
}

/// One command: a call, a result or a status.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Command {
    pub(super) name: String,
    /// 0 if no answer is expected; what is not a number counts as 0.
    pub(super) transaction: f64,
    /// The command object, or null, and what follows it.
    pub(super) arguments: Vec<Value>,
}

impl Command {
    /// Reads a command message of type 20, or of type 17 in which AMF 0 follows a zero byte.
    /// Arguments end at what cannot be read; `None` if not even the name can.
    pub(super) fn read(message: &Message) -> Option<Self> {
        let mut payload = message.payload.clone();
        if message.kind == kind::COMMAND_AMF3 {
            skip_amf3_marker(&mut payload);
        }
        let mut values = amf::read_all(&payload).into_iter();
        let Value::String(name) = values.next()? else {
            return None;
        };
        let transaction = values
            .next()
            .and_then(|value| value.as_f64())
            .unwrap_or(0.0);
        Some(Self {
            name,
            transaction,
            arguments: values.collect(),
        })
    }

    /// The string at `index` behind the command object.
    pub(super) fn text(&self, index: usize) -> Option<&str> {
        self.arguments.get(index + 1)?.as_str()
    }

    /// The truth at `index` behind the command object.
    pub(super) fn flag(&self, index: usize) -> Option<bool> {
        self.arguments.get(index + 1)?.as_bool()
    }
}

/// The body of a command message.
pub(super) fn write_command(name: &str, transaction: f64, arguments: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    Value::from(name).write(&mut out);
    Value::Number(transaction).write(&mut out);
    arguments.iter().for_each(|value| value.write(&mut out));
    out
}

/// An object from its properties.
pub(super) fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    Value::Object(
        properties
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    )
}

/// Messages of types 15 and 17 start with the encoding of what follows: 0 is AMF 0.
fn skip_amf3_marker(payload: &mut Bytes) {
    if payload.first() == Some(&0) {
        payload.advance(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, payload: Vec<u8>) -> Message {
        Message {
            kind,
            stream_id: 1,
            timestamp: 1000,
            payload: payload.into(),
        }
    }

    #[test]
    fn an_aggregate_is_split_and_moved_in_time() {
        let payload = vec![
            8, 0, 0, 1, 0, 0, 50, 0, 0, 0, 0, 0xaa, 0, 0, 0, 12, //
            99, 0, 0, 1, 0, 0, 55, 0, 0, 0, 0, 0xcc, 0, 0, 0, 12, //
            9, 0, 0, 1, 0, 0, 60, 0, 0, 0, 0, 0xbb,
        ];
        let tags = message(kind::AGGREGATE, payload).split_aggregate();
        let fields: Vec<_> = tags
            .iter()
            .map(|t| (t.kind, t.timestamp, t.payload[0]))
            .collect();
        assert_eq!(
            fields,
            [(TagKind::Audio, 1000, 0xaa), (TagKind::Video, 1010, 0xbb)]
        );
        let empty_tags = message(kind::AGGREGATE, vec![8; 0]).split_aggregate();
        assert!(empty_tags.is_empty());
    }

    #[test]
    fn aggregates_have_a_bound() {
        let payload = [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].repeat(AGGREGATE_TAGS_MAX + 5);
        let tags = message(kind::AGGREGATE, payload).split_aggregate();
        assert_eq!(tags.len(), AGGREGATE_TAGS_MAX);
    }

    #[test]
    fn commands_of_both_types_are_read() {
        let body = write_command(
            "publish",
            5.0,
            &[Value::Null, Value::from("a"), true.into()],
        );
        let plain = Command::read(&message(kind::COMMAND, body.clone())).unwrap();
        let marked = Command::read(&message(kind::COMMAND_AMF3, [&[0], &body[..]].concat()));
        assert_eq!(Some(&plain), marked.as_ref());
        assert_eq!((plain.text(0), plain.flag(1)), (Some("a"), Some(true)));
        assert_eq!((plain.text(7), plain.flag(0)), (None, None));
    }

    #[test]
    fn what_is_not_a_command_is_none() {
        for bad in [vec![], vec![5], vec![2, 0, 9]] {
            assert_eq!(Command::read(&message(kind::COMMAND, bad)), None);
        }
    }
}
