//! HTTP Live Streaming: playlists, and the query of a request for one.
//!
//! Specification: RFC 8216 as its second edition continues it (draft-pantos-hls-rfc8216bis-16),
//! named "RFC 8216bis" here. Writing only: live and ended media playlists with parts, preload hints,
//! rendition reports and delta updates, and multivariant playlists. Encryption, date ranges, byte
//! ranges, I-frame playlists, content steering and variables are not here.

mod attributes;
mod error;
mod master;
mod media;
mod query;

pub use error::Error;
pub use master::{MasterPlaylist, Rendition, RenditionKind, Variant, VideoRange};
pub use media::{
    LowLatency, MediaPlaylist, Part, PlaylistType, RenditionReport, Segment, StartOffset,
};
pub use query::{BlockingReload, Skip};
