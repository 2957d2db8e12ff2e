//! Writes protocol 4, without frames and without a memo: CPython loads that alike, and two pickles
//! that were put together stay valid.

use bytes::Bytes;

use super::class::{Class, NONE_TYPE};
use super::integer::Integer;
use super::opcode as op;
use super::value::Value;

/// `value` as a pickle.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Out::Flat(vec![op::PROTO, 4]);
    out.value(value);
    out.bytes().push(op::STOP);
    match out {
        Out::Flat(bytes) => bytes,
        Out::Pieces(_) => unreachable!("it began as one piece"),
    }
}

/// A pickle as a run of pieces. Big `bytes` are pieces of their own and stay shared memory, so that
/// a node of hundreds of megabytes is not copied for each who asks for it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Pieces {
    done: Vec<Bytes>,
    last: Vec<u8>,
}

/// A copy of fewer bytes costs less than one more piece to send.
const PIECE_BYTES_MIN: usize = 4096;

impl Pieces {
    /// `value` as a pickle.
    pub fn of(value: &Value) -> Vec<Bytes> {
        let mut out = Out::Pieces(Self {
            done: Vec::new(),
            last: vec![op::PROTO, 4],
        });
        out.value(value);
        out.bytes().push(op::STOP);
        match out {
            Out::Flat(bytes) => vec![bytes.into()],
            Out::Pieces(mut pieces) => {
                pieces.done.push(pieces.last.into());
                pieces.done
            }
        }
    }
}

/// The opcode and length before `count` bytes.
pub fn write_bytes_head(count: usize, out: &mut Vec<u8>) {
    write_head(count, op::SHORT_BINBYTES, op::BINBYTES, op::BINBYTES8, out);
}

fn write_head(count: usize, short: u8, middle: u8, long: u8, out: &mut Vec<u8>) {
    if let Ok(count) = u8::try_from(count) {
        out.extend_from_slice(&[short, count]);
    } else if let Ok(count) = u32::try_from(count) {
        out.push(middle);
        out.extend_from_slice(&count.to_le_bytes());
    } else {
        out.push(long);
        out.extend_from_slice(&(count as u64).to_le_bytes());
    }
}

enum Out {
    Flat(Vec<u8>),
    Pieces(Pieces),
}

impl Out {
    fn bytes(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Flat(bytes) => bytes,
            Self::Pieces(pieces) => &mut pieces.last,
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::None => self.bytes().push(op::NONE),
            Value::Bool(true) => self.bytes().push(op::NEWTRUE),
            Value::Bool(false) => self.bytes().push(op::NEWFALSE),
            Value::Int(number) => write_int(*number, self.bytes()),
            Value::BigInt(number) => write_long(number, self.bytes()),
            Value::Float(number) => {
                self.bytes().push(op::BINFLOAT);
                self.bytes().extend_from_slice(&number.to_be_bytes());
            }
            Value::Text(text) => write_text(text, self.bytes()),
            Value::Bytes(bytes) => self.payload(bytes),
            Value::List(items) => {
                self.bytes().push(op::EMPTY_LIST);
                self.batches(items, op::APPENDS);
            }
            Value::Set(items) => {
                self.bytes().push(op::EMPTY_SET);
                self.batches(items, op::ADDITEMS);
            }
            Value::Tuple(items) => self.tuple(items),
            Value::FrozenSet(items) => {
                self.bytes().push(op::MARK);
                items.iter().for_each(|item| self.value(item));
                self.bytes().push(op::FROZENSET);
            }
            Value::Dict(dict) => {
                self.bytes().push(op::EMPTY_DICT);
                let mut entries = dict.iter().peekable();
                while entries.peek().is_some() {
                    self.bytes().push(op::MARK);
                    for (key, value) in entries.by_ref().take(BATCH) {
                        self.value(key);
                        self.value(value);
                    }
                    self.bytes().push(op::SETITEMS);
                }
            }
            Value::Class(class) => write_class(*class, self.bytes()),
            Value::Object(class, arguments) => {
                write_class(*class, self.bytes());
                self.tuple(arguments);
                self.bytes().push(op::NEWOBJ);
            }
        }
    }

    fn batches(&mut self, items: &[Value], fill: u8) {
        for batch in items.chunks(BATCH) {
            self.bytes().push(op::MARK);
            batch.iter().for_each(|item| self.value(item));
            self.bytes().push(fill);
        }
    }

    fn tuple(&mut self, items: &[Value]) {
        let end = match items.len() {
            0 => op::EMPTY_TUPLE,
            1 => op::TUPLE1,
            2 => op::TUPLE2,
            3 => op::TUPLE3,
            4.. => {
                self.bytes().push(op::MARK);
                op::TUPLE
            }
        };
        items.iter().for_each(|item| self.value(item));
        self.bytes().push(end);
    }

    fn payload(&mut self, bytes: &Bytes) {
        write_bytes_head(bytes.len(), self.bytes());
        match self {
            Self::Pieces(pieces) if bytes.len() >= PIECE_BYTES_MIN => {
                pieces.done.push(std::mem::take(&mut pieces.last).into());
                pieces.done.push(bytes.clone());
            }
            Self::Flat(out) | Self::Pieces(Pieces { last: out, .. }) => {
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// As CPython does, so that a receiver's stack stays low.
const BATCH: usize = 1000;

fn write_int(number: i64, out: &mut Vec<u8>) {
    if let Ok(number) = u8::try_from(number) {
        out.extend_from_slice(&[op::BININT1, number]);
    } else if let Ok(number) = u16::try_from(number) {
        out.push(op::BININT2);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(op::BININT);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        write_long(&Integer::from(number), out);
    }
}

fn write_long(number: &Integer, out: &mut Vec<u8>) {
    let bytes = number.as_bytes();
    if let Ok(count) = u8::try_from(bytes.len()) {
        out.extend_from_slice(&[op::LONG1, count]);
    } else {
        out.push(op::LONG4);
        let count = u32::try_from(bytes.len()).expect("numbers are bounded where they are read");
        out.extend_from_slice(&count.to_le_bytes());
    }
    out.extend_from_slice(bytes);
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let count = text.len();
    write_head(
        count,
        op::SHORT_BINUNICODE,
        op::BINUNICODE,
        op::BINUNICODE8,
        out,
    );
    out.extend_from_slice(text.as_bytes());
}

fn write_class(class: Class, out: &mut Vec<u8>) {
    if class == Class::NONE_TYPE {
        write_text(NONE_TYPE, out);
        out.push(op::BINPERSID);
        return;
    }
    let (module, name) = class.name();
    write_text(module, out);
    write_text(name, out);
    out.push(op::STACK_GLOBAL);
}
