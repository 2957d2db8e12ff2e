//! Transports between their making and their player's first check.

pub(super) mod door;
