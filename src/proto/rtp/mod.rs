//! RTP packets (RFC 3550 section 5) and their header extensions (RFC 8285).
//!
//! [`Header`] is a view of a packet that was received; [`Template`] writes the header of a packet
//! that is sent.

mod elements;
mod error;
mod extension;
mod header;
mod kind;
pub mod payload;
mod writer;

pub use elements::{Elements, Values};
pub use error::Error;
pub use extension::{Extension, ExtensionMap};
pub use header::{FIXED_BYTES, Header, header_length, ssrc_of};
pub use kind::{Kind, is_rtcp};
pub use writer::{Fields, Patch, Template, TemplateOptions, abs_send_time, write_header};
