//! Runs every fuzz target over its committed corpus, so that an input which once broke something
//! is tried by the normal test run.

use std::fs;
use std::path::Path;

#[path = "../fuzz/entry/codec_config.rs"]
mod codec_config;
#[path = "../fuzz/entry/codec_frame.rs"]
mod codec_frame;

/// A target's name, which is its corpus folder's, and what it runs.
const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("codec_config", codec_config::run),
    ("codec_frame", codec_frame::run),
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
