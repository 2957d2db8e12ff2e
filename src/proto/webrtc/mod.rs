//! A WebRTC peer: ICE-lite, DTLS, SRTP and RTCP, and data channels, of one session; and what its
//! offer and our answer agree on.

mod answer;
mod formats;
mod negotiated;
mod numbering;
mod offer;
mod problem;
mod text;

pub use answer::{
    Facts, PlayAnswer, Preferences, PublishAnswer, answer_play, answer_publish,
};
pub use negotiated::{
    DataSupport, Fingerprint, Format, Incoming, Negotiated, Outgoing, Setup, Stream,
};
pub use offer::Offer;
pub use problem::{LeftOut, Place, Problem};
