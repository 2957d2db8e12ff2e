//! MPEG-2 transport streams (ISO/IEC 13818-1), writing.
//!
//! One program. H.264, HEVC, AAC as ADTS, MP3, AC-3 and E-AC-3 as ATSC A/53 and A/52 signal them,
//! Opus as its TS mapping does. AV1, VP8, VP9 and FLAC have no mapping that players agree on and
//! are left out, and so is the SDT: a program of one service needs no name.

mod muxer;
mod packet;
mod tables;

pub use muxer::Muxer;
pub use packet::PACKET_SIZE;
