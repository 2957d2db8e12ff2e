//! ICE (RFC 8445) as a server needs it: [`Agent`] is the lite side (section 2.5), which answers
//! checks and never makes any; [`Checker`] is the least of a full side, for a load client.
//!
//! Beside them: candidates as SDP has them (RFC 8839), and the framing of ICE over TCP (RFC 4571,
//! RFC 6544). Consent is RFC 7675's.
//!
//! Left out: gathering, candidates that are not the host's own, and everything that a full agent
//! does besides one check.

mod agent;
mod candidate;
mod checker;
mod path;
mod tcp;

use crate::proto::stun;

pub use agent::{Agent, Event, Options, Statistics};
pub use candidate::{Candidate, CandidateKind, Transport};
pub use checker::{Checker, CheckerEvent, CheckerOptions};
pub use path::{Channel, Credentials, Path, Stray};
pub use tcp::{Deframer, FRAME_BYTES_MAX, FrameError, frame_header};

/// The user name fragment of whom a check is for; None if `bytes` are no binding request. Nothing
/// else of it is checked.
pub fn ufrag_of(bytes: &[u8]) -> Option<&str> {
    let (ufrag, _) = stun::username_of(bytes)?.split_once(':')?;
    Some(ufrag)
}

#[cfg(test)]
mod agent_tests;
