//! A collaborative session without sockets: clients' bytes go in, what the server sends comes out,
//! in virtual time.

#[allow(dead_code, reason = "not every test uses all of it")]
pub(crate) mod client;
#[allow(dead_code, reason = "not every test uses all of it")]
pub(crate) mod four;
#[allow(dead_code, reason = "not every test uses all of it")]
pub(crate) mod outgoing;
pub(crate) mod reader;
#[allow(dead_code, reason = "not every test uses all of it")]
pub(crate) mod stage;
#[allow(dead_code, reason = "not every test uses all of it")]
pub(crate) mod world;

use bytes::Bytes;
use ringside::collab::Options;
use ringside::config::Secret;
use ringside::proto::pickle::{Limits, Value, decode};
use std::time::Duration;

/// Nodes.
#[allow(dead_code, reason = "not every test uses them")]
pub(crate) const CUBE: &str = "aaaaaaaa-0000-4000-8000-000000000001";
#[allow(dead_code, reason = "not every test uses them")]
pub(crate) const LAMP: &str = "aaaaaaaa-0000-4000-8000-000000000002";
#[allow(dead_code, reason = "not every test uses them")]
pub(crate) const MESH: &str = "aaaaaaaa-0000-4000-8000-000000000003";

/// A session with both passwords that takes the versions of all clients.
pub(crate) fn options() -> Options {
    Options {
        port: 5555,
        admin_password: Secret::new("adm"),
        server_password: Secret::new("pw"),
        versions: vec!["0.9.11".to_owned(), "0.10.2".to_owned()],
        timeout: Duration::from_secs(3),
        stall: Duration::from_secs(60),
    }
}

/// What a pickle holds.
#[track_caller]
pub(crate) fn value(pickle: &Bytes) -> Value {
    decode(pickle, Limits::default()).expect("a pickle")
}
