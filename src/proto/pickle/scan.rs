//! One pass over a pickle that builds nothing.
//!
//! The machine is CPython's, with kinds in place of values: an item knows what it is, how deep it
//! is nested and how much it would be if each reference were a copy. That is enough to refuse what
//! CPython would refuse, and what would cost a receiver more than its bytes suggest.

use super::class::{Class, NONE_TYPE};
use super::error::Error;
use super::opcode as op;

/// How much a pickle may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Containers inside containers. Python's own pickler gives up near 300, and a Blender node
    /// tree of groups in groups stays below 30.
    pub depth_max: u16,
    /// Remembered items, 24 bytes each here. Picklers remember each text and container.
    pub memo_max: usize,
    /// Items on the stack, 24 bytes each. Lists come in batches of 1000, tuples in one piece.
    pub stack_max: usize,
    /// Items, and 32 bytes of text as one more, if each reference were a copy; also 32 of `bytes` or
    /// of a number, where they are referred to.
    pub expanded_max: u32,
    /// Bytes of one whole number; CPython prints them in quadratic time.
    pub integer_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 128,
            memo_max: 1 << 22,
            stack_max: 1 << 22,
            expanded_max: 1 << 24,
            integer_bytes_max: 1024,
        }
    }
}

/// What a pickle may name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rules {
    /// No class at all.
    Plain,
    /// The classes of a deepdiff delta.
    Delta,
}

/// What an item is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `None`.
    None,
    /// `bool`.
    Bool,
    /// `int`.
    Int,
    /// `float`.
    Float,
    /// `str`.
    Text,
    /// `bytes`.
    Bytes,
    /// `tuple`.
    Tuple,
    /// `list`.
    List,
    /// `dict`.
    Dict,
    /// `set`.
    Set,
    /// `frozenset`.
    FrozenSet,
    /// A class by itself.
    Class,
    /// What a class has made.
    Object,
}

/// What a pickle that may pass holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// What it is as a whole.
    pub kind: Kind,
    /// As [`Limits::expanded_max`] counts.
    pub expanded: u32,
    /// Containers inside containers.
    pub depth: u16,
    /// A list, dict or set, or a tuple of such, stands at two places: to change it at one changes
    /// it at the other.
    pub shares_containers: bool,
}

/// No memo entry, or no text.
const NOTHING: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Item {
    kind: Kind,
    hashable: bool,
    /// It came from the memo.
    shared: bool,
    depth: u16,
    expanded: u32,
    /// What a reference to it adds to `expanded`.
    copied: u32,
    /// Its memo entry.
    memo: u32,
    /// The place of its text in `texts`, or a class's number.
    detail: u32,
}

impl Item {
    fn scalar(kind: Kind) -> Self {
        Self {
            kind,
            hashable: true,
            shared: false,
            depth: 0,
            expanded: 1,
            copied: 1,
            memo: NOTHING,
            detail: NOTHING,
        }
    }

    /// What stands in the pickle with `count` bytes. That is room for itself, but each reference to
    /// it is written out as so many bytes again.
    fn of_bytes(kind: Kind, count: usize) -> Result<Self, Error> {
        Ok(Self {
            copied: copied(count)?,
            ..Self::scalar(kind)
        })
    }

    fn container(kind: Kind, hashable: bool) -> Self {
        Self {
            hashable,
            depth: 1,
            ..Self::scalar(kind)
        }
    }
}

fn copied(count: usize) -> Result<u32, Error> {
    u32::try_from(count / 32 + 1).map_err(|_| Error::Expanded)
}

/// Longer text names no class.
const NAME_BYTES_MAX: usize = 64;
/// What is kept between two pickles, so that a big one does not hold memory for ever.
const KEPT_ITEMS: usize = 1 << 12;

/// Scans pickles, one after the other, on the same small stacks.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    stack: Vec<Item>,
    /// Where in `stack` each open mark is.
    marks: Vec<usize>,
    memo: Vec<Item>,
    /// Which memo entries are referred to.
    used: Vec<bool>,
    /// Places of short texts in the input, for the names of classes.
    texts: Vec<(usize, usize)>,
    shares_containers: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Scanner {
    /// A scanner with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            used: Vec::new(),
            texts: Vec::new(),
            shares_containers: false,
        }
    }

    /// Scans one pickle, which has to fill `bytes`.
    pub fn scan(&mut self, bytes: &[u8], rules: Rules) -> Result<Summary, Error> {
        self.clear();
        let result = self.run(bytes, rules);
        if self.stack.capacity() > KEPT_ITEMS || self.memo.capacity() > KEPT_ITEMS {
            self.stack = Vec::new();
            self.memo = Vec::new();
            self.texts = Vec::new();
        }
        result
    }

    /// Scans, and says which memo entries the pickle refers to.
    pub(super) fn scan_used(&mut self, bytes: &[u8], rules: Rules) -> Result<&[bool], Error> {
        self.scan(bytes, rules)?;
        Ok(&self.used)
    }

    fn clear(&mut self) {
        self.stack.clear();
        self.marks.clear();
        self.memo.clear();
        self.used.clear();
        self.texts.clear();
        self.shares_containers = false;
    }

    fn run(&mut self, bytes: &[u8], rules: Rules) -> Result<Summary, Error> {
        let [op::PROTO, 2..=5, ..] = bytes else {
            return Err(Error::Protocol);
        };
        let mut input = Input {
            bytes,
            at: 2,
            frame_end: None,
        };
        loop {
            input.leave_frame()?;
            let opcode = input.array::<1>()?[0];
            match opcode {
                op::STOP => break,
                op::FRAME => input.enter_frame()?,
                op::MARK => {
                    if self.marks.len() >= usize::from(self.limits.depth_max) {
                        return Err(Error::Depth);
                    }
                    self.marks.push(self.stack.len());
                }
                op::NONE => self.push(Item::scalar(Kind::None))?,
                op::NEWTRUE | op::NEWFALSE => self.push(Item::scalar(Kind::Bool))?,
                op::BININT1 => self.number(&mut input, 1)?,
                op::BININT2 => self.number(&mut input, 2)?,
                op::BININT => self.number(&mut input, 4)?,
                op::LONG1 => {
                    let count = input.count1()?;
                    self.number(&mut input, count)?;
                }
                op::LONG4 => {
                    let count = input.count4()?;
                    self.number(&mut input, count)?;
                }
                op::BINFLOAT => {
                    input.take(8)?;
                    self.push(Item::scalar(Kind::Float))?;
                }
                op::SHORT_BINUNICODE => {
                    let count = input.count1()?;
                    self.text(&mut input, count, rules)?;
                }
                op::BINUNICODE => {
                    let count = input.count4()?;
                    self.text(&mut input, count, rules)?;
                }
                op::BINUNICODE8 => {
                    let count = input.count8()?;
                    self.text(&mut input, count, rules)?;
                }
                op::SHORT_BINBYTES => {
                    let count = input.count1()?;
                    input.take(count)?;
                    self.push(Item::of_bytes(Kind::Bytes, count)?)?;
                }
                op::BINBYTES => {
                    let count = input.count4()?;
                    input.take(count)?;
                    self.push(Item::of_bytes(Kind::Bytes, count)?)?;
                }
                op::BINBYTES8 => {
                    let count = input.count8()?;
                    input.take(count)?;
                    self.push(Item::of_bytes(Kind::Bytes, count)?)?;
                }
                op::EMPTY_LIST => self.push(Item::container(Kind::List, false))?,
                op::EMPTY_DICT => self.push(Item::container(Kind::Dict, false))?,
                op::EMPTY_SET => self.push(Item::container(Kind::Set, false))?,
                op::EMPTY_TUPLE => self.push(Item::container(Kind::Tuple, true))?,
                op::APPEND => {
                    let from = self.below(1)?;
                    self.fill(from, Kind::List)?;
                }
                op::SETITEM => {
                    let from = self.below(2)?;
                    self.fill(from, Kind::Dict)?;
                }
                op::APPENDS => {
                    let from = self.mark()?;
                    self.fill(from, Kind::List)?;
                }
                op::SETITEMS => {
                    let from = self.mark()?;
                    self.fill(from, Kind::Dict)?;
                }
                op::ADDITEMS => {
                    let from = self.mark()?;
                    self.fill(from, Kind::Set)?;
                }
                op::TUPLE => {
                    let from = self.mark()?;
                    self.gather(from, Kind::Tuple)?;
                }
                op::FROZENSET => {
                    let from = self.mark()?;
                    self.gather(from, Kind::FrozenSet)?;
                }
                op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                    let from = self.below(usize::from(opcode - op::TUPLE1) + 1)?;
                    self.gather(from, Kind::Tuple)?;
                }
                op::MEMOIZE => self.remember()?,
                op::BINPUT => {
                    let index = input.count1()?;
                    self.remember_as(index)?;
                }
                op::LONG_BINPUT => {
                    let index = input.count4()?;
                    self.remember_as(index)?;
                }
                op::BINGET => {
                    let index = input.count1()?;
                    self.recall(index)?;
                }
                op::LONG_BINGET => {
                    let index = input.count4()?;
                    self.recall(index)?;
                }
                op::STACK_GLOBAL if rules == Rules::Delta => self.class(bytes)?,
                op::BINPERSID if rules == Rules::Delta => self.persistent(bytes)?,
                op::REDUCE | op::NEWOBJ if rules == Rules::Delta => self.make()?,
                other if op::EXECUTES.contains(&other) => return Err(Error::Executes(other)),
                other => return Err(Error::Opcode(other)),
            }
        }
        input.finish()?;
        match (self.stack.as_slice(), self.marks.as_slice()) {
            ([root], []) => Ok(Summary {
                kind: root.kind,
                expanded: root.expanded,
                depth: root.depth,
                shares_containers: self.shares_containers,
            }),
            _ => Err(Error::Stack),
        }
    }

    fn push(&mut self, item: Item) -> Result<(), Error> {
        if self.stack.len() >= self.limits.stack_max {
            return Err(Error::StackFull);
        }
        self.stack.push(item);
        Ok(())
    }

    fn number(&mut self, input: &mut Input<'_>, count: usize) -> Result<(), Error> {
        if count > self.limits.integer_bytes_max {
            return Err(Error::Integer);
        }
        input.take(count)?;
        self.push(Item::of_bytes(Kind::Int, count)?)
    }

    fn text(&mut self, input: &mut Input<'_>, count: usize, rules: Rules) -> Result<(), Error> {
        let at = input.at;
        let text = input.take(count)?;
        if !is_text(text) {
            return Err(Error::Text);
        }
        let mut item = Item::of_bytes(Kind::Text, count)?;
        item.expanded = item.copied;
        if rules == Rules::Delta && count <= NAME_BYTES_MAX {
            item.detail = u32::try_from(self.texts.len()).map_err(|_| Error::StackFull)?;
            self.texts.push((at, count));
        }
        self.push(item)
    }

    /// Where the topmost `count` items begin.
    fn below(&self, count: usize) -> Result<usize, Error> {
        let fence = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(from) if from >= fence => Ok(from),
            Some(_) | None => Err(Error::Stack),
        }
    }

    /// Takes the newest mark: where the items behind it begin.
    fn mark(&mut self) -> Result<usize, Error> {
        self.marks.pop().ok_or(Error::Stack)
    }

    /// Puts all items from `from` into the container before them.
    fn fill(&mut self, from: usize, kind: Kind) -> Result<(), Error> {
        let fence = self.marks.last().copied().unwrap_or(0);
        let at = from.checked_sub(1).filter(|at| *at >= fence);
        let target = at.and_then(|at| self.stack.get(at)).ok_or(Error::Stack)?;
        if target.kind != kind || target.shared {
            return Err(Error::Stack);
        }
        // A pickler refers to what is complete, but for a container that holds itself. So nothing
        // grows after it has been referred to, and depths and sizes stay true.
        let memo = target.memo as usize;
        if self.used.get(memo).is_some_and(|used| *used) {
            return Err(Error::Memo);
        }
        let (mut depth, mut expanded, mut copied) = (target.depth, target.expanded, target.copied);
        let count = self.stack.len() - from;
        // Every how many items one has to be hashable; a list's need not be.
        let step = match (kind == Kind::Dict, kind == Kind::Set) {
            (true, _) if !count.is_multiple_of(2) => return Err(Error::Stack),
            (true, _) => Some(2),
            (_, true) => Some(1),
            (false, false) => None,
        };
        for n in 0..count {
            let item = self.stack[from + n];
            if !item.hashable && step.is_some_and(|step| n.is_multiple_of(step)) {
                return Err(Error::Key);
            }
            depth = depth.max(item.depth.saturating_add(1));
            expanded = expanded.saturating_add(item.expanded);
            copied = copied.saturating_add(item.copied);
        }
        self.check(depth, expanded)?;
        self.stack.truncate(from);
        let grown = [self.stack.last_mut(), self.memo.get_mut(memo)];
        for item in grown.into_iter().flatten() {
            (item.depth, item.expanded, item.copied) = (depth, expanded, copied);
        }
        Ok(())
    }

    /// Makes one tuple or frozenset of all items from `from`.
    fn gather(&mut self, from: usize, kind: Kind) -> Result<(), Error> {
        let mut made = Item::container(kind, true);
        for n in from..self.stack.len() {
            let item = self.stack[n];
            made.hashable &= item.hashable;
            made.depth = made.depth.max(item.depth.saturating_add(1));
            made.expanded = made.expanded.saturating_add(item.expanded);
            made.copied = made.copied.saturating_add(item.copied);
        }
        if kind == Kind::FrozenSet && !made.hashable {
            return Err(Error::Key);
        }
        self.check(made.depth, made.expanded)?;
        self.stack.truncate(from);
        self.push(made)
    }

    fn check(&self, depth: u16, expanded: u32) -> Result<(), Error> {
        if depth > self.limits.depth_max {
            return Err(Error::Depth);
        }
        if expanded > self.limits.expanded_max {
            return Err(Error::Expanded);
        }
        Ok(())
    }

    fn remember(&mut self) -> Result<(), Error> {
        if self.memo.len() >= self.limits.memo_max {
            return Err(Error::MemoFull);
        }
        let index = self.memo.len() as u32;
        let top = self.below(1)?;
        let item = &mut self.stack[top];
        if item.memo != NOTHING {
            return Err(Error::Memo);
        }
        item.memo = index;
        self.memo.push(*item);
        self.used.push(false);
        Ok(())
    }

    /// `BINPUT` names the entry. Picklers count up; a number far ahead would make CPython allocate
    /// a table up to it.
    fn remember_as(&mut self, index: usize) -> Result<(), Error> {
        if index != self.memo.len() {
            return Err(Error::Memo);
        }
        self.remember()
    }

    fn recall(&mut self, index: usize) -> Result<(), Error> {
        let item = *self.memo.get(index).ok_or(Error::Memo)?;
        self.used[index] = true;
        self.shares_containers |= !item.hashable;
        self.push(Item {
            shared: true,
            expanded: item.copied,
            ..item
        })
    }

    /// `STACK_GLOBAL`: the two topmost texts name a class.
    fn class(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let from = self.below(2)?;
        let name = |item: &Item| self.name(bytes, *item);
        let (module, name) = (name(&self.stack[from])?, name(&self.stack[from + 1])?);
        let class = Class::named(module, name).ok_or(Error::Class)?;
        self.stack.truncate(from);
        self.push(Item {
            detail: class.number(),
            ..Item::scalar(Kind::Class)
        })
    }

    fn persistent(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let from = self.below(1)?;
        if self.name(bytes, self.stack[from])? != NONE_TYPE {
            return Err(Error::Class);
        }
        self.stack.truncate(from);
        self.push(Item {
            detail: Class::NONE_TYPE.number(),
            ..Item::scalar(Kind::Class)
        })
    }

    fn name<'a>(&self, bytes: &'a [u8], item: Item) -> Result<&'a str, Error> {
        if item.kind != Kind::Text {
            return Err(Error::Class);
        }
        let (at, count) = *self.texts.get(item.detail as usize).ok_or(Error::Class)?;
        let text = bytes.get(at..at + count).ok_or(Error::Class)?;
        std::str::from_utf8(text).map_err(|_| Error::Class)
    }

    /// `REDUCE` or `NEWOBJ`: a class, and a tuple of arguments.
    fn make(&mut self) -> Result<(), Error> {
        let from = self.below(2)?;
        let (class, arguments) = (self.stack[from], self.stack[from + 1]);
        if class.kind != Kind::Class || arguments.kind != Kind::Tuple {
            return Err(Error::Stack);
        }
        if !Class::numbered(class.detail).is_some_and(Class::can_be_made) {
            return Err(Error::Class);
        }
        self.stack.truncate(from);
        // What a class makes is never used as a key by deepdiff, so it need not be hashable.
        self.push(Item {
            depth: arguments.depth,
            expanded: arguments.expanded,
            copied: arguments.copied,
            ..Item::container(Kind::Object, false)
        })
    }
}

/// The pickle, and the frame that is being read.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    frame_end: Option<usize>,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(count).ok_or(Error::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(Error::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let taken = self.bytes.get(self.at..).ok_or(Error::Short)?;
        let taken = taken.first_chunk::<N>().ok_or(Error::Short)?;
        self.at += N;
        Ok(*taken)
    }

    fn count1(&mut self) -> Result<usize, Error> {
        self.array().map(|[count]| usize::from(count))
    }

    fn count4(&mut self) -> Result<usize, Error> {
        self.array().map(|count| u32::from_le_bytes(count) as usize)
    }

    fn count8(&mut self) -> Result<usize, Error> {
        let count = u64::from_le_bytes(self.array()?);
        usize::try_from(count).map_err(|_| Error::Short)
    }

    /// Frames end between opcodes: CPython's two readers disagree about anything else.
    fn leave_frame(&mut self) -> Result<(), Error> {
        match self.frame_end {
            Some(end) if self.at > end => Err(Error::Frame),
            Some(end) if self.at == end => {
                self.frame_end = None;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn enter_frame(&mut self) -> Result<(), Error> {
        let count = self.count8()?;
        let end = self.at.checked_add(count).ok_or(Error::Frame)?;
        if self.frame_end.is_some() || end > self.bytes.len() {
            return Err(Error::Frame);
        }
        self.frame_end = Some(end);
        Ok(())
    }

    fn finish(&self) -> Result<(), Error> {
        if self.at != self.bytes.len() {
            return Err(Error::Trailing);
        }
        match self.frame_end {
            Some(end) if end != self.at => Err(Error::Frame),
            Some(_) | None => Ok(()),
        }
    }
}

/// CPython reads text as UTF-8 in which lone surrogates stand as three bytes: file names that are
/// no text come so.
fn is_text(mut bytes: &[u8]) -> bool {
    loop {
        let Err(error) = std::str::from_utf8(bytes) else {
            return true;
        };
        bytes = match bytes.get(error.valid_up_to()..) {
            Some([0xed, 0xa0..=0xbf, 0x80..=0xbf, rest @ ..]) => rest,
            Some(_) | None => return false,
        };
    }
}
