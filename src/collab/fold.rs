//! Long chains of changes become one node again. That is work for another thread: a node can have
//! tens of megabytes, and nobody else's message waits for it.

use bytes::Bytes;

use super::session::PICKLE;
use crate::proto::deepdiff;

/// Changes that a node has before they are folded.
const COUNT: usize = 64;

/// ... or as many times the node's own bytes, if that is not too little to be worth it.
const TIMES: usize = 4;
const BYTES_MIN: usize = 64 << 10;

/// Bytes of a node that is folded: as values it takes several times as much.
const BASE_BYTES_MAX: usize = 32 << 20;

/// Changes of one job.
const JOB_COUNT_MAX: usize = 1024;
const JOB_BYTES_MAX: usize = 32 << 20;

/// From how many changes, and how many bytes of them, a node of so many bytes is folded.
pub(super) fn above(base_bytes: usize) -> (usize, usize) {
    (COUNT, base_bytes.saturating_mul(TIMES).max(BYTES_MIN))
}

/// The result of folding all that can be folded of a node's changes: the data, and how many.
pub(super) fn fold_now(parts: &[Bytes; 5], commits: &[[Bytes; 4]]) -> Option<(Bytes, usize)> {
    let job = FoldJob::new(0, parts, commits)?;
    job.run().data
}

/// A node whose changes are to be folded.
#[derive(Debug)]
pub struct FoldJob {
    pub(super) uuid: Bytes,
    pub(super) version: u64,
    base: Bytes,
    deltas: Vec<Bytes>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Folded {
    pub(super) uuid: Bytes,
    pub(super) version: u64,
    /// The data after so many of the changes, at least one.
    pub(super) data: Option<(Bytes, usize)>,
    /// The next change cannot be folded.
    pub(super) is_stuck: bool,
}

impl FoldJob {
    /// `None` if there is nothing to fold, or too much.
    pub(super) fn new(version: u64, parts: &[Bytes; 5], commits: &[[Bytes; 4]]) -> Option<Self> {
        if parts[4].len() > BASE_BYTES_MAX {
            return None;
        }
        let mut left = JOB_BYTES_MAX;
        let fits = |delta: &&Bytes| match left.checked_sub(delta.len()) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        };
        let deltas: Vec<Bytes> = commits
            .iter()
            .map(|[_, _, _, delta]| delta)
            .take(JOB_COUNT_MAX)
            .take_while(fits)
            .cloned()
            .collect();
        (!deltas.is_empty()).then(|| Self {
            uuid: parts[1].clone(),
            version,
            base: parts[4].clone(),
            deltas,
        })
    }

    /// Folds: some milliseconds for a usual node, seconds for the biggest.
    pub fn run(self) -> Folded {
        let folded = deepdiff::fold_first(&self.base, &self.deltas, PICKLE).ok();
        let data = folded
            .filter(|(_, count)| *count > 0)
            .map(|(data, count)| (Bytes::from(data), count));
        Folded {
            is_stuck: data.as_ref().map_or(0, |(_, count)| *count) < self.deltas.len(),
            uuid: self.uuid,
            version: self.version,
            data,
        }
    }
}
