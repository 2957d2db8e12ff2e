//! Runs every fuzz target over its committed corpus, so that an input which once broke something
//! is tried by the normal test run.

use std::fs;
use std::path::Path;

#[path = "../fuzz/entry/config_json.rs"]
mod config_json;
#[path = "../fuzz/entry/http_client.rs"]
mod http_client;
#[path = "../fuzz/entry/http_request.rs"]
mod http_request;
#[path = "../fuzz/entry/stream_name.rs"]
mod stream_name;

type Run = fn(&[u8]);

/// A target's name, which is its corpus folder's, and what it runs.
const TARGETS: &[(&str, Run)] = &[
    ("config_json", config_json::run),
    ("http_client", http_client::run),
    ("http_request", http_request::run),
    ("stream_name", stream_name::run),
];

#[test]
fn replay_corpora() {
    for (name, run) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(name);
        let mut count = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            run(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{} is empty", folder.display());
    }
}
