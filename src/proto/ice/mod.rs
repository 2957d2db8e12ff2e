//! An ICE-lite agent (RFC 8445 section 2.5): it answers checks and never makes any.

mod path;

pub use path::{Channel, Credentials, Path};
