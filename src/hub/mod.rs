//! Who receives what: streams, their frames, and the byte logs that viewers read.
//!
//! Pure: no socket, clock or thread, so a simulation runs all of it.

mod feed;
mod frame_log;
mod packet_clock;
mod packet_log;
mod registry;
mod timeline;

pub use feed::{Feed, Mark, Pieces};
pub use frame_log::FrameLog;
pub use packet_clock::{PacketClock, Renumbering};
pub use packet_log::{Kept, PacketLog};
pub use registry::{Claim, Claimed, Home, Registry};
pub use timeline::{Adjustment, Timeline};
