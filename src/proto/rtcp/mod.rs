//! RTCP packets: reports (RFC 3550 section 6), feedback (RFC 4585), full intra requests
//! (RFC 5104), transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01) and
//! REMB (draft-alvestrand-rmcat-remb-03), in compound packets or alone (RFC 5506).
//!
//! [`packets`] takes a datagram apart without a copy; the `write_` functions append one packet
//! each, so that a compound packet is a sequence of calls. Extended reports (RFC 3611), TMMBR
//! and all that is unknown are passed over.

mod describe;
mod error;
mod feedback;
mod outgoing;
mod packet;
mod report;
pub mod twcc;

pub use describe::{Application, Descriptions, Goodbye, write_description, write_goodbye};
pub use error::Error;
pub use feedback::{
    Fir, Nack, Numbers, Pli, Refresh, Refreshes, Remb, write_fir, write_nack, write_pli, write_remb,
};
pub use outgoing::Outgoing;
pub use packet::{Packet, Packets, Ssrcs, packets};
pub use report::{
    ReceiverReport, ReportBlock, ReportBlocks, SenderInfo, SenderReport, write_receiver_report,
    write_sender_report,
};
