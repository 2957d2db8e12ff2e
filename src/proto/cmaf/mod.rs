//! Fragmented MP4 (ISO/IEC 14496-12, CMAF ISO/IEC 23000-19), writing.
//!
//! One initialisation segment and a `moof`+`mdat` pair for each run of frames: live progressive
//! MP4, Media Source Extensions, and the parts of HLS and DASH. H.264, HEVC, AV1, VP9, AAC, MP3,
//! Opus, FLAC, AC-3 and E-AC-3; VP8 has no sample entry that browsers play and is left out.
//! Encryption, edit lists, subtitles and reading are not here.
//!
//! The boxes are written by hand: the `moof` is on the hot path, and the `moov` embeds decoder
//! configurations as publishers sent them, which a box library would read and write again.

mod boxes;
mod clock;
mod entry;
mod init;
mod muxer;

pub use muxer::Muxer;
