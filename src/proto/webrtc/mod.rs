//! A WebRTC peer: ICE-lite, DTLS, SRTP and RTCP, and data channels, of one session; and what its
//! offer and our answer agree on.

mod answer;
mod arena;
mod error;
mod formats;
mod negotiated;
mod numbering;
mod offer;
mod outgoing;
mod pacer;
mod peer;
mod problem;
mod receivers;
mod reports;
mod sender;
mod session_key;
mod text;

pub use answer::{Facts, PlayAnswer, Preferences, PublishAnswer, answer_play, answer_publish};
pub use arena::{Arena, Burst};
pub use error::Gone;
pub use negotiated::{
    DataSupport, Fingerprint, Format, Incoming, Negotiated, Outgoing, Red, Setup, Stream,
};
pub use offer::Offer;
pub use pacer::Pace;
pub use peer::{Asked, Event, Peer, PeerStatistics, Shared};
pub use problem::{LeftOut, Place, Problem};
pub use session_key::{ENTROPY_BYTES, Entropy, SessionKey, Tenant, password};
