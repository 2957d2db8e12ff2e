//! A WebRTC peer: ICE-lite, DTLS, SRTP and RTCP, and data channels, of one session; and what its
//! offer and our answer agree on.

mod arena;
mod error;
mod negotiated;
mod numbering;
mod outgoing;
mod pacer;
mod peer;
mod receivers;
mod reports;
mod sender;
mod stub;

pub use arena::{Arena, Burst};
pub use error::Gone;
pub use negotiated::{
    DataSupport, Fingerprint, Format, Incoming, Negotiated, Outgoing, Setup, Stream,
};
pub use numbering::{Numbering, Place};
pub use pacer::Pace;
pub use peer::{Asked, Event, Peer, PeerStatistics, Shared};
