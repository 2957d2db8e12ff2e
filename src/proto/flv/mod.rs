//! Flash Video: tags, as FLV files and RTMP messages carry them.
//!
//! Specifications: "Adobe Flash Video File Format Specification" version 10.1, annex E, and
//! "Enhanced RTMP" versions 1 and 2 (Veovera). Read: H.264, AAC, MP3 and G.711 in their old form, HEVC
//! with the codec number 12 that was never standard, everything with a FourCC, multitrack and
//! `ModEx`. Left out: codecs older than those, encrypted tags, video metadata packets (HDR), the
//! channel layout of `MultichannelConfig`, MPEG-2 TS sequence starts. Written: one video and one
//! audio track, with a FourCC where the old form has no number.
//!
//! [`Demuxer`] turns tags into tracks and frames, [`Muxer`] the other way into a file;
//! [`FileReader`] cuts a file into tags. The bodies of tags are the same in RTMP, so `rtmp` uses
//! [`frame_head`], [`sequence_header`] and [`metadata()`].

mod audio;
mod av1;
mod body;
mod demuxer;
mod error;
mod file;
mod fourcc;
mod metadata;
mod mod_ex;
mod mpeg_audio;
mod muxer;
mod nal;
mod packet;
mod selection;
mod tag;
mod timeline;
mod video;

pub use body::{Head, frame_head, sequence_header};
pub use demuxer::{Demuxer, Event, TRACKS_MAX};
pub use error::{Error, Foreign};
pub use file::FileReader;
pub use metadata::metadata;
pub use muxer::Muxer;
pub use selection::{Selection, carries};
pub use tag::{Tag, TagKind};
pub use timeline::Timeline;

#[cfg(test)]
pub(in crate::proto) mod samples;
