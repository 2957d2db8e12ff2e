//! Where the server cannot run it says why and what mends it, and ends with 1: no panic from deep
//! inside an executor, no half-started server.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests wait for other processes in real time"
)]
#![allow(unsafe_code, reason = "limits are set by raw calls in the child")]

mod support;

use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use support::seccomp::{self, Filter};
use support::{Said, free_port, run, scratch, write_config};

const REFUSE_MAX: Duration = Duration::from_secs(10);

struct Ports {
    http: u16,
    rtmp: u16,
    control: u16,
}

fn config(name: &str) -> (PathBuf, Ports) {
    let ports = Ports {
        http: free_port(),
        rtmp: free_port(),
        control: free_port(),
    };
    let path = scratch().join(format!("refusal-{name}-{}.json", std::process::id()));
    write_config(
        &path,
        &json!({
            "webrtc": { "port": free_port() },
            "config": {
                "controller": { "interface": "127.0.0.1", "port": ports.control },
                "protocols": [
                    { "connector": "HTTP", "port": ports.http, "interface": "127.0.0.1" },
                    { "connector": "RTMP", "port": ports.rtmp, "interface": "127.0.0.1" },
                ],
            },
            "streams": {},
        }),
    );
    (path, ports)
}

fn ringside(command: &str, config: &Path) -> Command {
    let mut ringside = Command::new(env!("CARGO_BIN_EXE_ringside"));
    ringside.arg(command).arg("-c").arg(config);
    ringside
}

/// Both what is started by an operator and what is asked for advice refuse, and say the same.
#[track_caller]
fn assert_refused(name: &str, prepare: impl Fn(&mut Command), wanted: &[&str]) {
    let (config, _) = config(name);
    for subcommand in ["serve", "doctor"] {
        let mut command = ringside(subcommand, &config);
        prepare(&mut command);
        let said = run(&mut command, REFUSE_MAX);
        assert_explained(subcommand, &said, wanted);
    }
}

#[track_caller]
fn assert_explained(subcommand: &str, said: &Said, wanted: &[&str]) {
    let text = format!("{}{}", said.stdout, said.stderr);
    assert_eq!(
        said.status.code(),
        Some(1),
        "{subcommand}: {}\n{text}",
        said.status
    );
    assert!(!text.contains("panicked"), "{subcommand}:\n{text}");
    assert!(!text.contains("backtrace"), "{subcommand}:\n{text}");
    for part in wanted {
        assert!(
            text.contains(part),
            "{subcommand} does not say {part:?}:\n{text}"
        );
    }
}

/// Makes one system call fail with `errno` for everything the command will run, as a container's
/// profile does.
fn forbid(command: &mut Command, call: libc::c_long, errno: i32) {
    let call = u32::try_from(call).expect("a system call has a small number");
    let mut filter = Filter::new();
    filter.answer(call, seccomp::errno(errno));
    filter.install(command, libc::SECCOMP_RET_ALLOW);
}

fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, value: u64) {
    // SAFETY: setrlimit is async-signal-safe and reads a value on the closure's stack.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit {
                rlim_cur: value,
                rlim_max: value,
            };
            match libc::setrlimit(resource, &raw const limit) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
}

#[test]
fn a_profile_that_forbids_io_uring_is_named() {
    assert_refused(
        "eperm",
        |command| forbid(command, libc::SYS_io_uring_setup, libc::EPERM),
        &[
            "io_uring_setup",
            "EPERM",
            "seccomp",
            "--security-opt seccomp=deploy/seccomp.json",
        ],
    );
}

#[test]
fn a_profile_that_hides_io_uring_is_named() {
    assert_refused(
        "enosys",
        |command| forbid(command, libc::SYS_io_uring_setup, libc::ENOSYS),
        &["io_uring_setup", "ENOSYS", "seccomp", "deploy/seccomp.json"],
    );
}

/// A profile made by hand may allow the first call and forget the others.
#[test]
fn a_profile_that_forgot_a_call_is_named() {
    for (call, name) in [
        (libc::SYS_io_uring_enter, "io_uring_enter"),
        (libc::SYS_io_uring_register, "io_uring_register"),
    ] {
        assert_refused(
            name,
            |command| forbid(command, call, libc::EPERM),
            &[name, "EPERM", "seccomp"],
        );
    }
}

#[test]
fn too_little_locked_memory_is_named() {
    assert_refused(
        "memlock",
        |command| limit(command, libc::RLIMIT_MEMLOCK, 64 * 1024),
        &["memlock", "64 KiB", "512 KiB", "--ulimit memlock=-1"],
    );
}

#[test]
fn too_few_descriptors_are_named() {
    assert_refused(
        "nofile",
        |command| limit(command, libc::RLIMIT_NOFILE, 200),
        &["nofile", "200", "--ulimit nofile=1048576"],
    );
}

#[test]
fn a_port_in_use_is_named() {
    let (config, ports) = config("port");
    for port in [ports.http, ports.rtmp, ports.control] {
        let taken = TcpListener::bind(("127.0.0.1", port)).expect("the port was free");
        for subcommand in ["serve", "doctor"] {
            let said = run(&mut ringside(subcommand, &config), REFUSE_MAX);
            assert_explained(
                subcommand,
                &said,
                &[
                    &format!("port {port} is in use"),
                    &format!("ss -ltnp 'sport = :{port}'"),
                ],
            );
        }
        drop(taken);
    }
}

#[test]
fn an_address_of_another_machine_is_named() {
    let (path, _) = config("address");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("written")).expect("JSON");
    // A documentation address (RFC 5737): nobody has it.
    config["config"]["protocols"][1]["interface"] = json!("192.0.2.7");
    write_config(&path, &config);

    let said = run(&mut ringside("serve", &path), REFUSE_MAX);

    assert_explained(
        "serve",
        &said,
        &["192.0.2.7", "not an address of this machine"],
    );
}

/// With the line and column, so that an editor can go there.
#[test]
fn a_malformed_configuration_is_named() {
    let path = scratch().join(format!("malformed-{}.json", std::process::id()));
    std::fs::write(
        &path,
        "{\n  \"streams\": {\n    \"a\": { \"name\": \"a\" \"source\" }\n  }\n}\n",
    )
    .expect("the scratch folder is writable");

    let said = run(&mut ringside("serve", &path), REFUSE_MAX);

    let file = path
        .file_name()
        .expect("a file")
        .to_string_lossy()
        .into_owned();
    assert_explained("serve", &said, &[&file, ".json:3:"]);
}

/// What is well-formed JSON but means nothing: a port that is none.
#[test]
fn a_wrong_value_is_named_with_its_place() {
    let (path, _) = config("value");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("written")).expect("JSON");
    config["config"]["protocols"][0]["port"] = json!("eighty-eighty");
    write_config(&path, &config);

    let said = run(&mut ringside("serve", &path), REFUSE_MAX);

    let file = path
        .file_name()
        .expect("a file")
        .to_string_lossy()
        .into_owned();
    assert_explained("serve", &said, &[&file, "port"]);
}

#[test]
fn a_healthy_machine_passes_the_doctor() {
    let (config, _) = config("healthy");

    let said = run(&mut ringside("doctor", &config), REFUSE_MAX).success();

    assert!(said.stdout.contains("io_uring works"), "{}", said.stdout);
    assert!(!said.stdout.contains("FAIL"), "{}", said.stdout);
}
