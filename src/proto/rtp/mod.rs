//! RTP packets (RFC 3550 section 5) and their header extensions (RFC 8285).
//!
//! [`Header`] is a view of a packet that was received; [`Template`] writes the header of a packet
//! that is sent. [`Incoming`] is what is known of a stream that is received: order, losses and
//! the statistics of its reports. [`Clock`] turns its timestamps into the publisher's timeline.

mod clock;
mod elements;
mod error;
mod extension;
mod header;
mod incoming;
mod kind;
mod missing;
pub mod payload;
pub mod red;
mod renumber;
mod rtx;
mod writer;

pub use clock::{Clock, Timeline};
pub use elements::{Elements, Values};
pub use error::Error;
pub use extension::{Extension, ExtensionMap};
pub use header::{FIXED_BYTES, Header, header_length, ssrc_of};
pub use incoming::{Arrival, Incoming, Received, Reception};
pub use kind::{Kind, is_rtcp};
pub use rtx::{OSN_BYTES, Original, original};
pub use writer::{Fields, Patch, Template, TemplateOptions, abs_send_time, write_header};
