//! Frames in RTP payloads, and out of them.
//!
//! | codec | specification | left out |
//! |---|---|---|
//! | H.264 | RFC 6184, packetization modes 0 and 1 | interleaved mode (STAP-B, MTAP, FU-B) |
//! | H.265 | RFC 7798: single units, AP, FU | decoding order numbers, PACI |
//! | VP8 | RFC 7741 | what temporal layers say is read and not written |
//! | VP9 | RFC 9628, non-flexible mode | the scalability structure is read over and not written |
//! | AV1 | RTP Payload Format For AV1, version 1.0 | layers are not told apart |
//! | Opus | RFC 7587 | |
//! | G.711, G.722 | RFC 3551 section 4.5 | |
//!
//! [`Packetizer`] makes packets of frames, [`Depacketizer`] frames of packets, and [`StartFinder`]
//! tells where frames begin without making them. Times are [`MediaTime`](crate::media::MediaTime);
//! [`clock_rate`] says what ticks an RTP timestamp counts.

mod audio;
mod av1;
mod depacketizer;
mod error;
mod h264;
mod h265;
mod nal;
mod packetizer;
mod payloads;
mod reorder;
mod start;
mod vp8;
mod vp9;

#[cfg(test)]
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names the codecs that it is about"
)]
mod tests;

pub use depacketizer::{Depacketizer, FRAME_BYTES_MAX, PacketView, Unit};
pub use error::Error;
pub use h264::profile_level_id;
pub use packetizer::{H264Mode, Options, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN, Packetizer};
pub use reorder::ReorderWatch;
pub use start::StartFinder;

use crate::media::Codec;

/// Ticks of the RTP timestamp in a second; `None` for a codec without a payload format here.
pub fn clock_rate(codec: Codec) -> Option<u32> {
    match codec {
        Codec::H264 | Codec::Hevc | Codec::Av1 | Codec::Vp8 | Codec::Vp9 => Some(90_000),
        Codec::Opus => Some(48_000),
        // G.722 samples at 16 kHz; its clock was a mistake that became the rule (RFC 3551
        // section 4.5.2).
        Codec::Ulaw | Codec::Alaw | Codec::G722 => Some(8000),
        Codec::Aac | Codec::Mp3 | Codec::Flac | Codec::Ac3 | Codec::Eac3 => None,
    }
}
