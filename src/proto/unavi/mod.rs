//! The messages of UNAVI's clients: what players say, and what they are told.
//!
//! Four dialects say the same things: JSON with a `subject` (generation 2), JSON with an `id` in two
//! name spaces (3a and 3b), and protocol buffers (4), which may also come as their JSON form. The
//! first frame of a connection tells which one it speaks ([`Dialect::of`]); each is translated from and
//! to one [`Request`] and one [`Response`]. A frame that is none of these is an [`Error`], which nobody
//! is told: the protocol has no error message.
//!
//! # The extended form of generation 4
//!
//! Clients of generation 4 skip what they do not know, so the messages have more in them for those
//! that do (`four.rs` has all numbers):
//!
//! | message | field | |
//! |---|---|---|
//! | `Join` | 2 `token` | a join token (JWT), where the server wants one |
//! | | 3 `resume` | what the last `JoinSuccess` gave, or empty for the first time: the player keeps its id when it comes back soon |
//! | `RtpCapabilities.Codec` | 6 `preferred_payload_type`, 7 `parameters` | as mediasoup has them; `parameters` is JSON |
//! | `RtpParameters` | 3 `encodings` {1 `ssrc`}, 4 `mid`, 5 `cname` | |
//! | `RtpParameters.Codec` | 6 `parameters` | JSON |
//! | `JoinSuccess` | 3 `resume` | |
//! | `Response` | 20 `joinRefused` {1 `world`, 2 `reason`} | `full`, `token`, `banned` or `limit` |
//! | | 21 `consumerClosed` {1 `consumer_id`} | what it played has ended |
//! | | 22 `kicked` {1 `world`, 2 `reason`} | |
//! | | 23 `draining` {} | the server is about to end |
//! | | 24 `talking` {1 `player_id`, 2 `talking`} | somebody begins or ends to talk |
//! | | 25 `dataConsumerClosed` {1 `data_consumer_id`} | |

mod capabilities;
mod dialect;
mod error;
mod four;
mod json;
mod message;
mod three;
mod two;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use four::described;

pub use dialect::{Dialect, Frame};
pub use error::Error;
pub use message::{
    AudioParameters, Candidate, Capabilities, ConsumerParameters, DtlsFingerprint, DtlsRole,
    Request, Response, Side, StreamParameters, TransportParameters, World,
};
