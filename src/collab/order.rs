//! What a session wants done elsewhere: kept on a disk, or folded.

use super::fold::FoldJob;
use super::scene::Change;

/// Something to be done away from the shard.
#[derive(Debug)]
pub enum Order {
    /// Keep this. Orders of this kind are for one keeper, and in order.
    Keep(Change),
    /// Fold this. Answered by [`Session::folded`](super::Session::folded).
    Fold(FoldJob),
}
