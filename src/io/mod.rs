//! io

pub mod probe;
