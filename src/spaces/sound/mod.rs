//! What players hear of each other.

pub(super) mod door;
