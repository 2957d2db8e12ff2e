//! Python's pickle format, protocols 2 to 5, without running any of it.
//!
//! A pickle is a program for a stack machine, and two of its instructions call any function by
//! name. Clients of collaborative sessions run what they are sent, so nothing goes to them that has
//! not been through [`Scanner`]: one pass over the opcodes with an allow-list, on a stack of kinds
//! instead of values. What passes can be loaded by CPython without an exception, and builds nothing
//! but numbers, text, bytes and containers of those; in a delta also the few classes that deepdiff's
//! own loader accepts.
//!
//! [`decode()`] builds a [`Value`] of what has passed, and [`encode()`] writes protocol 4.
//!
//! Described by CPython's `pickletools`. Left out, because no pickler writes them for such data:
//! the text opcodes of protocol 0, `DUP`, `POP` and `POP_MARK`, and lists that hold themselves.

mod class;
mod decode;
mod encode;
mod error;
mod integer;
mod opcode;
mod scan;
#[cfg(test)]
mod scan_tests;
mod value;

pub use class::Class;
pub use decode::{decode, decode_bytes, decode_delta};
pub use encode::{Pieces, encode, write_bytes_head};
pub use error::Error;
pub use integer::Integer;
pub use scan::{Kind, Limits, Rules, Scanner, Summary};
pub use value::{Dict, Value};
