//! Session descriptions (RFC 8866) as lines and attributes, and the fragments of trickle ICE
//! (RFC 8840).
//!
//! The reader keeps what WebRTC uses: `m=` lines and attributes. Lines of another type are read
//! over, in whatever order they come, because RFC 8866 section 5 has unknown ones ignored and
//! offers in the field are not all in its order. What attributes mean is said in
//! [`webrtc`](crate::proto::webrtc).

mod description;
mod error;
mod fragment;

pub use description::{Attribute, Attributes, Description, Limits, Media};
pub use error::Error;
pub use fragment::Fragment;
