//! A WebRTC peer: ICE-lite, DTLS, SRTP and RTCP, and data channels, of one session; and what its
//! offer and our answer agree on.

mod negotiated;
mod numbering;

pub use negotiated::{
    DataSupport, Fingerprint, Format, Incoming, Negotiated, Outgoing, Setup, Stream,
};
