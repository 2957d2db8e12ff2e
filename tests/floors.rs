//! Checks that imports only point downwards.
//!
//! `FLOORS` is the whole architecture: a folder may import folders on lower floors, never one on
//! its own floor or above. `PROTO_ROWS` is the same rule inside `src/proto`. The test reads source
//! text, so it also sees code behind `cfg`. A new folder fails the test until it is given a floor.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lowest floor first.
const FLOORS: &[&[&str]] = &[
    &["base"],
    &["media", "metrics"],
    &["hub", "proto", "shard"],
    &["io"],
    &["config", "drive"],
    &["admin", "collab", "spaces", "streams"],
    &["server"],
];

/// Lowest row first; same rule, inside `src/proto`.
const PROTO_ROWS: &[&[&str]] = &[
    &[
        "amf",
        "cmaf",
        "dtls",
        "dtsc",
        "http",
        "mpegts",
        "pickle",
        "proxy_protocol",
        "rtcp",
        "rtp",
        "sctp",
        "sdp",
        "session_log",
        "stun",
        "unavi",
        "zmtp",
    ],
    &[
        "dash",
        "deepdiff",
        "flv",
        "hls",
        "http2",
        "ice",
        "replication",
        "rtsp",
        "session_file",
        "srt",
        "srtp",
        "websocket",
    ],
    &["rtmp", "webrtc"],
];

/// Pure folders use no socket, clock, thread or executor, so a simulation can run all of them.
const PURE: &[&str] = &["base", "media", "metrics", "proto", "hub"];

/// In a door only `door.rs` touches the runtime floors; every other file there is pure too.
const DOORS: &[&str] = &["admin", "collab", "spaces", "streams"];
const RUNTIME: &[&str] = &["shard", "io", "drive"];
const IMPURE_PATHS: &[&str] = &[
    "std::net::Udp",
    "std::net::Tcp",
    "std::thread",
    "std::fs",
    "Instant::now",
    "SystemTime::now",
    "glommio",
    "io_uring",
    "libc",
];

#[test]
fn imports_point_down() {
    let floor_by_folder = index(FLOORS);
    let row_by_proto = index(PROTO_ROWS);
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();

    for path in rust_files(Path::new("src")) {
        let parts: Vec<_> = path
            .iter()
            .skip(1)
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        if parts.len() == 1 {
            continue; // lib.rs and main.rs only wire floors together.
        }
        let folder = parts[0].as_str();
        seen.insert(folder.to_owned());
        let Some(&floor) = floor_by_folder.get(folder) else {
            errors.push(format!("{}: folder has no floor", path.display()));
            continue;
        };
        if folder == "proto" && parts.len() > 2 && !row_by_proto.contains_key(parts[1].as_str()) {
            errors.push(format!("{}: protocol has no row", path.display()));
        }
        let text = without_comments(&fs::read_to_string(&path).unwrap());
        for target in crate_paths(&text) {
            let target_top = target[0].as_str();
            if DOORS.contains(&folder)
                && RUNTIME.contains(&target_top)
                && !path.ends_with("door.rs")
            {
                errors.push(format!(
                    "{}: only door.rs may import {target_top}",
                    path.display()
                ));
            }
            if target_top != folder {
                match floor_by_folder.get(target_top) {
                    Some(&below) if below < floor => {}
                    Some(_) => errors.push(format!(
                        "{}: {folder} must not import {target_top}",
                        path.display()
                    )),
                    None => errors.push(format!(
                        "{}: `crate::{target_top}` is not a folder",
                        path.display()
                    )),
                }
            } else if folder == "proto" && parts.len() > 2 {
                let (from, to) = (parts[1].as_str(), target.get(1).map_or("", String::as_str));
                if from != to
                    && row_by_proto.contains_key(to)
                    && row_by_proto.get(to) >= row_by_proto.get(from)
                {
                    errors.push(format!(
                        "{}: proto::{from} must not import proto::{to}",
                        path.display()
                    ));
                }
            }
        }
        if text.contains("super::super::") {
            errors.push(format!(
                "{}: write crate:: instead of super::super::",
                path.display()
            ));
        }
        let pure_file = DOORS.contains(&folder) && !path.ends_with("door.rs");
        if PURE.contains(&folder) || pure_file {
            for banned in IMPURE_PATHS.iter().filter(|banned| text.contains(**banned)) {
                errors.push(format!("{}: pure folder uses {banned}", path.display()));
            }
        }
    }
    for folder in floor_by_folder
        .keys()
        .filter(|folder| !seen.contains(**folder))
    {
        errors.push(format!("FLOORS names {folder}, which has no files"));
    }
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

fn index(floors: &[&'static [&'static str]]) -> BTreeMap<&'static str, usize> {
    floors
        .iter()
        .enumerate()
        .flat_map(|(n, names)| names.iter().map(move |name| (*name, n)))
        .collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every path that starts with `crate::`, groups spread out: `crate::{a::b, c}` gives `[a]`, `[c]`.
fn crate_paths(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        spread(&text[at + "crate::".len()..], &mut Vec::new(), &mut found);
    }
    found
}

fn spread(rest: &str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    if let Some(group) = rest.strip_prefix('{') {
        let mut depth = 0;
        let mut start = 0;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    let item = group[start..i].trim();
                    if !item.is_empty() {
                        spread(item, &mut prefix.clone(), found);
                    }
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let name: String = rest
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    if name.is_empty() {
        return;
    }
    prefix.push(name.clone());
    match rest[name.len()..].strip_prefix("::") {
        Some(next) if prefix.len() < 2 => spread(next, prefix, found),
        _ => found.push(prefix.clone()),
    }
}
