//! Transport-wide feedback: when each packet of a transport arrived, whatever its stream
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3).
//!
//! [`Recorder`] is the receiver's side; [`History`] the sender's.

mod feedback;
mod history;
mod recorder;

pub use feedback::{Feedback, STATUSES_MAX, Statuses};
pub use history::{Acked, History, Rates};
pub use recorder::Recorder;
