//! Why a pickle is refused.

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Error {
    /// It ends inside an opcode, or without `STOP`.
    #[error("the pickle ends early")]
    Short,
    /// Bytes follow `STOP`.
    #[error("bytes follow the pickle's end")]
    Trailing,
    /// It does not begin with `PROTO` of a version that is known.
    #[error("not a pickle of protocol 2 to 5")]
    Protocol,
    /// An opcode that could run something on a receiver.
    #[error("opcode {0:#04x} could run something")]
    Executes(u8),
    /// An opcode that is no part of what clients write.
    #[error("opcode {0:#04x} is not accepted")]
    Opcode(u8),
    /// A class or function that is not on the list of a delta's types.
    #[error("the pickle names a class that is not allowed")]
    Class,
    /// An opcode takes from the stack what is not there, or is of another kind.
    #[error("the pickle does not fit the stack")]
    Stack,
    /// A reference to what has not been remembered, or that a container grows after.
    #[error("the pickle refers to what is not there")]
    Memo,
    /// A key of a dict, or an item of a set, that CPython cannot hash.
    #[error("a key of the pickle cannot be hashed")]
    Key,
    /// A frame longer than the input, inside another, or one whose end cuts an opcode.
    #[error("a frame of the pickle has the wrong length")]
    Frame,
    /// Text that is not UTF-8 in the form that CPython reads.
    #[error("text of the pickle is not UTF-8")]
    Text,
    /// Text with lone surrogates, which CPython can hold and a [`Value`](super::Value) cannot.
    #[error("text of the pickle has lone surrogates")]
    Surrogate,
    /// A number of more bytes than [`Limits::integer_bytes_max`](super::Limits).
    #[error("a number of the pickle is too long")]
    Integer,
    /// Containers nested deeper than [`Limits::depth_max`](super::Limits).
    #[error("the pickle is nested too deep")]
    Depth,
    /// More remembered than [`Limits::memo_max`](super::Limits).
    #[error("the pickle remembers too much")]
    MemoFull,
    /// More on the stack than [`Limits::stack_max`](super::Limits).
    #[error("the pickle's stack is too high")]
    StackFull,
    /// More than [`Limits::expanded_max`](super::Limits) if each reference were a copy.
    #[error("the pickle expands to too much")]
    Expanded,
}
