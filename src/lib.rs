//! ringside hosts live things at high density: one Linux process, thread-per-core on io_uring.
//!
//! The folders are floors; a folder imports only folders on lower floors (`tests/floors.rs`).
//! `ARCHITECTURE.md` follows one packet through them.

pub mod admin;
pub mod base;
pub mod collab;
pub mod config;
pub mod drive;
pub mod hub;
pub mod io;
pub mod media;
pub mod metrics;
pub mod proto;
pub mod server;
pub mod shard;
pub mod spaces;
pub mod streams;
