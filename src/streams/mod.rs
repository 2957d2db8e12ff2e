//! streams

pub mod access;
pub mod info;
pub mod name;
pub mod page;
