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
    let mut folding = Folding::new(base, limits)?;
    for (count, delta) in deltas.iter().enumerate() {
        if let Err(unfolded) = folding.apply(delta) {
            // Half of the change may be in the data: without it once more.
            return match count {
                0 => Err(unfolded),
                _ => Ok((fold(base, &deltas[..count], limits)?, count)),
            };
        }
    }
    Ok((folding.finish()?, deltas.len()))
}

/// The pickle of `base` after all `deltas`, in their order.
pub fn fold<'a>(
    base: &Bytes,
    deltas: impl IntoIterator<Item = &'a Bytes>,
    limits: Limits,
) -> Result<Vec<u8>, Unfolded> {
    let mut folding = Folding::new(base, limits)?;
    for delta in deltas {
        folding.apply(delta)?;
    }
    folding.finish()
}

/// Data that changes.
struct Folding {
    data: Value,
    scanner: Scanner,
    limits: Limits,
    /// What may still come: a small delta can hold a lot, and so many small ones too much.
    expanded_left: u32,
}

impl Folding {
    fn new(base: &Bytes, limits: Limits) -> Result<Self, Unfolded> {
        let mut scanner = Scanner::new(limits);
        let summary = is_unshared(scanner.scan(base, Rules::Plain)?)?;
        Ok(Self {
            data: pickle::decode(base, limits)?,
            scanner,
            limits,
            expanded_left: limits.expanded_max.saturating_sub(summary.expanded),
        })
    }

    fn apply(&mut self, delta: &Bytes) -> Result<(), Unfolded> {
        let summary = is_unshared(self.scanner.scan(delta, Rules::Delta)?)?;
        let left = self.expanded_left.checked_sub(summary.expanded);
        self.expanded_left = left.ok_or(pickle::Error::Expanded)?;
        apply::apply(&mut self.data, pickle::decode_delta(delta, self.limits)?)
    }

    fn finish(mut self) -> Result<Vec<u8>, Unfolded> {
        let folded = pickle::encode(&self.data);
        // Data that grew past the limits would be refused when it comes back.
        if !self.data.is_plain() {
            return Err(Unfolded::Change);
        }
        self.scanner.scan(&folded, Rules::Plain)?;
        Ok(folded)
    }
}

fn is_unshared(summary: Summary) -> Result<Summary, Unfolded> {
    match summary.shares_containers {
        true => Err(Unfolded::Shared),
        false => Ok(summary),
    }
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
