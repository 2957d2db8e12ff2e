//! The seccomp profile that is shipped, as the filter a container engine makes of it.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests wait for other processes in real time"
)]
#![cfg(target_arch = "x86_64")]

mod support;

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use support::seccomp::Filter;
use support::{Server, clips, ffmpeg, run, scratch, watch, write_config};

const ADDED: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

#[test]
fn a_stream_is_served_under_the_profile() {
    let server = Server::start_prepared(
        json!({ "clip": { "name": "clip", "source": "push://" } }),
        json!({}),
        |command| {
            let (filter, otherwise) = Filter::of_profile(&[]);
            filter.install(command, otherwise);
        },
    );
    let _publisher = server.publish("clip", &clips::demo());

    let capture = watch::capture(&server, "/clip.flv", Duration::from_secs(2));

    let packets = watch::packets(&ffmpeg(), &capture.file);
    assert_eq!(packets.codecs(), ["aac", "h264"]);
}

/// Docker's own profile is this one without what it adds; under it the server says which option is
/// missing.
#[test]
fn the_default_profile_is_refused_with_the_option_that_is_missing() {
    let config = scratch().join(format!("deploy-{}.json", std::process::id()));
    write_config(
        &config,
        &json!({ "config": { "protocols": [] }, "streams": {} }),
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringside"));
    command.args(["serve", "-c"]).arg(&config);
    let (filter, otherwise) = Filter::of_profile(&ADDED);
    filter.install(&mut command, otherwise);

    let said = run(&mut command, Duration::from_secs(10));

    let text = format!("{}{}", said.stdout, said.stderr);
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(
        text.contains("--security-opt seccomp=deploy/seccomp.json"),
        "{text}"
    );
}

/// What the image's HEALTHCHECK runs: it has no shell to ask with.
#[test]
fn health_is_asked_with_the_binary_itself() {
    let mut server = Server::open(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringside"));
    command.args(["health", "-c"]).arg(&server.config);

    run(&mut command, Duration::from_secs(5)).success();

    server.process.signal(libc::SIGTERM);
    server.process.wait(Duration::from_secs(6));
    let said = run(&mut command, Duration::from_secs(5));
    assert_eq!(
        said.status.code(),
        Some(1),
        "{}{}",
        said.stdout,
        said.stderr
    );
}
