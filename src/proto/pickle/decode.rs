//! Builds what a pickle holds, after the scanner has let it pass.

use bytes::Bytes;

use super::class::Class;
use super::error::Error;
use super::integer::Integer;
use super::opcode as op;
use super::scan::{Limits, Rules, Scanner};
use super::value::{Dict, Value};
use crate::base::bytes::{Reader, Short};

impl From<Short> for Error {
    fn from(Short: Short) -> Self {
        Self::Short
    }
}

/// The value of a pickle that names no class. What is `bytes` in it stays a view of `pickle`.
pub fn decode(pickle: &Bytes, limits: Limits) -> Result<Value, Error> {
    build(pickle, limits, Rules::Plain)
}

/// The same of borrowed memory, which is copied.
pub fn decode_bytes(pickle: &[u8], limits: Limits) -> Result<Value, Error> {
    decode(&Bytes::copy_from_slice(pickle), limits)
}

/// The value of a deepdiff delta.
pub fn decode_delta(pickle: &Bytes, limits: Limits) -> Result<Value, Error> {
    build(pickle, limits, Rules::Delta)
}

fn build(pickle: &Bytes, limits: Limits, rules: Rules) -> Result<Value, Error> {
    let mut scanner = Scanner::new(limits);
    let used = scanner.scan_used(pickle, rules)?;
    let mut builder = Builder {
        pickle,
        input: Reader::new(pickle),
        stack: Vec::new(),
        marks: Vec::new(),
        used,
        memo: used.iter().map(|_| Memo::Unused).collect(),
        memo_len: 0,
    };
    builder.run()
}

/// What a memo entry holds.
enum Memo {
    /// Nothing refers to it.
    Unused,
    /// The value is on the stack at that place.
    OnStack(usize),
    /// The value has gone into another; this is a copy.
    Copy(Value),
}

/// A value, and its memo entry if something refers to it.
struct Slot {
    value: Value,
    memo: Option<usize>,
}

/// CPython's machine. The scanner has checked each step, so an error here would be a mistake in one
/// of the two; it is still an error and not a panic.
struct Builder<'a> {
    pickle: &'a Bytes,
    input: Reader<'a>,
    stack: Vec<Slot>,
    marks: Vec<usize>,
    /// Only entries that are referred to are kept: a copy of each container, at each depth, would
    /// be quadratic.
    used: &'a [bool],
    memo: Vec<Memo>,
    memo_len: usize,
}

impl Builder<'_> {
    fn run(&mut self) -> Result<Value, Error> {
        self.input.take(2)?;
        loop {
            match self.input.u8()? {
                op::STOP => break,
                op::FRAME => {
                    self.input.take(8)?;
                }
                op::MARK => self.marks.push(self.stack.len()),
                op::NONE => self.push(Value::None),
                op::NEWTRUE => self.push(Value::Bool(true)),
                op::NEWFALSE => self.push(Value::Bool(false)),
                op::BININT1 => {
                    let number = self.input.u8()?;
                    self.push(Value::Int(i64::from(number)));
                }
                op::BININT2 => {
                    let number = u16::from_le_bytes(self.input.array()?);
                    self.push(Value::Int(i64::from(number)));
                }
                op::BININT => {
                    let number = i32::from_le_bytes(self.input.array()?);
                    self.push(Value::Int(i64::from(number)));
                }
                op::LONG1 => {
                    let count = self.count1()?;
                    self.long(count)?;
                }
                op::LONG4 => {
                    let count = self.count4()?;
                    self.long(count)?;
                }
                op::BINFLOAT => {
                    let number = self.input.f64()?;
                    self.push(Value::Float(number));
                }
                op::SHORT_BINUNICODE => {
                    let count = self.count1()?;
                    self.text(count)?;
                }
                op::BINUNICODE => {
                    let count = self.count4()?;
                    self.text(count)?;
                }
                op::BINUNICODE8 => {
                    let count = self.count8()?;
                    self.text(count)?;
                }
                op::SHORT_BINBYTES => {
                    let count = self.count1()?;
                    self.bytes(count)?;
                }
                op::BINBYTES => {
                    let count = self.count4()?;
                    self.bytes(count)?;
                }
                op::BINBYTES8 => {
                    let count = self.count8()?;
                    self.bytes(count)?;
                }
                op::EMPTY_LIST => self.push(Value::List(Vec::new())),
                op::EMPTY_DICT => self.push(Value::Dict(Dict::new())),
                op::EMPTY_SET => self.push(Value::Set(Vec::new())),
                op::EMPTY_TUPLE => self.push(Value::Tuple(Vec::new())),
                op::APPEND => self.fill(1)?,
                op::SETITEM => self.fill(2)?,
                op::APPENDS | op::SETITEMS | op::ADDITEMS => {
                    let count = self.behind_mark()?;
                    self.fill(count)?;
                }
                op::TUPLE => {
                    let count = self.behind_mark()?;
                    let items = self.pop(count)?;
                    self.push(Value::Tuple(items));
                }
                op::FROZENSET => {
                    let count = self.behind_mark()?;
                    let items = self.pop(count)?;
                    self.push(Value::FrozenSet(items));
                }
                opcode @ (op::TUPLE1 | op::TUPLE2 | op::TUPLE3) => {
                    let items = self.pop(usize::from(opcode - op::TUPLE1) + 1)?;
                    self.push(Value::Tuple(items));
                }
                op::MEMOIZE => self.remember()?,
                op::BINPUT => {
                    self.input.take(1)?;
                    self.remember()?;
                }
                op::LONG_BINPUT => {
                    self.input.take(4)?;
                    self.remember()?;
                }
                op::BINGET => {
                    let index = self.count1()?;
                    self.recall(index)?;
                }
                op::LONG_BINGET => {
                    let index = self.count4()?;
                    self.recall(index)?;
                }
                op::STACK_GLOBAL => {
                    let names = self.pop(2)?;
                    let [Value::Text(module), Value::Text(name)] = names.as_slice() else {
                        return Err(Error::Class);
                    };
                    let class = Class::named(module, name).ok_or(Error::Class)?;
                    self.push(Value::Class(class));
                }
                op::BINPERSID => {
                    self.pop(1)?;
                    self.push(Value::Class(Class::NONE_TYPE));
                }
                op::REDUCE | op::NEWOBJ => {
                    let mut pair = self.pop(2)?.into_iter();
                    let (Some(Value::Class(class)), Some(Value::Tuple(arguments))) =
                        (pair.next(), pair.next())
                    else {
                        return Err(Error::Stack);
                    };
                    self.push(Value::Object(class, arguments));
                }
                other => return Err(Error::Opcode(other)),
            }
        }
        let root = self.stack.pop().ok_or(Error::Stack)?;
        Ok(root.value)
    }

    fn count1(&mut self) -> Result<usize, Error> {
        Ok(usize::from(self.input.u8()?))
    }

    fn count4(&mut self) -> Result<usize, Error> {
        Ok(u32::from_le_bytes(self.input.array()?) as usize)
    }

    fn count8(&mut self) -> Result<usize, Error> {
        let count = u64::from_le_bytes(self.input.array()?);
        usize::try_from(count).map_err(|_| Error::Short)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(Slot { value, memo: None });
    }

    fn long(&mut self, count: usize) -> Result<(), Error> {
        let number = Integer::new(self.input.take(count)?);
        self.push(match number.to_i64() {
            Some(number) => Value::Int(number),
            None => Value::BigInt(number),
        });
        Ok(())
    }

    fn text(&mut self, count: usize) -> Result<(), Error> {
        let text = std::str::from_utf8(self.input.take(count)?).map_err(|_| Error::Surrogate)?;
        self.push(Value::Text(text.to_owned()));
        Ok(())
    }

    fn bytes(&mut self, count: usize) -> Result<(), Error> {
        let bytes = self.pickle.slice_ref(self.input.take(count)?);
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    fn behind_mark(&mut self) -> Result<usize, Error> {
        let mark = self.marks.pop().ok_or(Error::Stack)?;
        self.stack.len().checked_sub(mark).ok_or(Error::Stack)
    }

    /// The topmost `count` values, which are complete from here on.
    fn pop(&mut self, count: usize) -> Result<Vec<Value>, Error> {
        let from = self.stack.len().checked_sub(count).ok_or(Error::Stack)?;
        let memo = &mut self.memo;
        let values = self.stack.drain(from..).map(|slot| {
            if let Some(index) = slot.memo {
                memo[index] = Memo::Copy(slot.value.clone());
            }
            slot.value
        });
        Ok(values.collect())
    }

    fn fill(&mut self, count: usize) -> Result<(), Error> {
        let items = self.pop(count)?;
        match self.stack.last_mut().map(|slot| &mut slot.value) {
            Some(Value::List(list) | Value::Set(list)) => list.extend(items),
            Some(Value::Dict(dict)) => {
                let mut items = items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    dict.push(key, value);
                }
            }
            Some(_) | None => return Err(Error::Stack),
        }
        Ok(())
    }

    fn remember(&mut self) -> Result<(), Error> {
        let index = self.memo_len;
        self.memo_len += 1;
        let at = self.stack.len().checked_sub(1).ok_or(Error::Stack)?;
        if self.used.get(index).is_some_and(|used| *used) {
            self.stack[at].memo = Some(index);
            self.memo[index] = Memo::OnStack(at);
        }
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<(), Error> {
        let value = match self.memo.get(index) {
            Some(Memo::OnStack(at)) => self.stack.get(*at).map(|slot| slot.value.clone()),
            Some(Memo::Copy(value)) => Some(value.clone()),
            Some(Memo::Unused) | None => None,
        };
        self.push(value.ok_or(Error::Memo)?);
        Ok(())
    }
}
