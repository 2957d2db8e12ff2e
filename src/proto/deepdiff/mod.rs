//! Applies deltas of the Python package deepdiff 8.1.1 to the data they were made for, so that a
//! long chain of them can be replaced by its result.
//!
//! Only what has one clear meaning is applied: changed values and types, items of dicts and lists
//! added and removed, and the opcodes of rearranged lists. Anything else is an error that leaves
//! the chain as it is: sets, tuples, moved items, paths to attributes, a place that is not there,
//! and a container that stands at two places, since a change at one would show at the other.

mod apply;
mod path;

use bytes::Bytes;

use crate::proto::pickle::{self, Limits, Rules, Scanner, Summary, Value};

/// Why a chain is left as it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Unfolded {
    /// A pickle that does not pass.
    #[error(transparent)]
    Pickle(#[from] pickle::Error),
    /// A container stands at two places.
    #[error("a container is shared")]
    Shared,
    /// A kind of change, or a form of one, that is not applied here.
    #[error("a kind of change that is not folded")]
    Change,
    /// A path of another form than keys and indexes.
    #[error("a path that is not folded")]
    Path,
    /// The data has no such place, or something else is there.
    #[error("the data does not fit the change")]
    Place,
}

/// The pickle of `base` after as many of the first `deltas` as can be applied, and their number.
pub fn fold_first(
    base: &Bytes,
    deltas: &[Bytes],
    limits: Limits,
) -> Result<(Vec<u8>, usize), Unfolded> {
    let mut scanner = Scanner::new(limits);
    is_unshared(scanner.scan(base, Rules::Plain)?)?;
    let mut data = pickle::decode(base, limits)?;
    for (count, delta) in deltas.iter().enumerate() {
        let applied = scanner
            .scan(delta, Rules::Delta)
            .map_err(Unfolded::from)
            .and_then(is_unshared)
            .and_then(|()| Ok(pickle::decode_delta(delta, limits)?))
            .and_then(|delta| apply::apply(&mut data, delta));
        if let Err(unfolded) = applied {
            // Half of the change may be in the data: without it once more.
            return match count {
                0 => Err(unfolded),
                _ => Ok((fold(base, &deltas[..count], limits)?, count)),
            };
        }
    }
    Ok((finish(&data, &mut scanner)?, deltas.len()))
}

/// The pickle of `base` after all `deltas`, in their order.
pub fn fold<'a>(
    base: &Bytes,
    deltas: impl IntoIterator<Item = &'a Bytes>,
    limits: Limits,
) -> Result<Vec<u8>, Unfolded> {
    let mut scanner = Scanner::new(limits);
    is_unshared(scanner.scan(base, Rules::Plain)?)?;
    let mut data = pickle::decode(base, limits)?;
    for delta in deltas {
        is_unshared(scanner.scan(delta, Rules::Delta)?)?;
        let delta = pickle::decode_delta(delta, limits)?;
        apply::apply(&mut data, delta)?;
    }
    finish(&data, &mut scanner)
}

fn finish(data: &Value, scanner: &mut Scanner) -> Result<Vec<u8>, Unfolded> {
    let folded = pickle::encode(data);
    // Data that grew past the limits would be refused when it comes back.
    if !data.is_plain() {
        return Err(Unfolded::Change);
    }
    scanner.scan(&folded, Rules::Plain)?;
    Ok(folded)
}

fn is_unshared(summary: Summary) -> Result<(), Unfolded> {
    if summary.shares_containers {
        return Err(Unfolded::Shared);
    }
    Ok(())
}

/// What a path leads through.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Index(usize),
    Key(String),
}

impl Step {
    fn as_key(&self) -> Result<Value, Unfolded> {
        match self {
            Self::Key(key) => Ok(Value::from(key.as_str())),
            Self::Index(_) => Err(Unfolded::Place),
        }
    }
}
