//! What every floor may use: byte reading, text writing, identifiers, limits and a seeded generator.

pub mod bytes;
pub mod ids;
pub mod prng;
pub mod text;
