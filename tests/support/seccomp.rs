//! Filters on system calls, as a container engine installs them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::Value;

use super::repository;

/// Where the C library's headers number the calls.
const NUMBERS: &str = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";

/// Offsets in `struct seccomp_data`: the call's number, then architecture and instruction pointer,
/// then six arguments of 64 bits.
const NUMBER_OFFSET: u32 = 0;
const ARGUMENTS_OFFSET: u32 = 16;

pub fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

/// A list of answers to calls; the first that fits holds.
pub struct Filter {
    program: Vec<libc::sock_filter>,
}

#[derive(Clone, Copy)]
enum Test {
    Equal,
    NotEqual,
}

impl Filter {
    pub fn new() -> Self {
        Self {
            program: vec![load(NUMBER_OFFSET)],
        }
    }

    pub fn answer(&mut self, call: u32, answer: u32) {
        self.program.push(jump_unless(Test::Equal, call, 1));
        self.program.push(give(answer));
    }

    /// An answer that holds only if the lower half of an argument, masked, passes the test.
    fn answer_if(
        &mut self,
        call: u32,
        argument: u32,
        mask: u32,
        test: Test,
        value: u32,
        answer: u32,
    ) {
        self.program.push(jump_unless(Test::Equal, call, 5));
        self.program.push(load(ARGUMENTS_OFFSET + 8 * argument));
        self.program.push(step(
            libc::BPF_ALU | libc::BPF_AND | libc::BPF_K,
            0,
            0,
            mask,
        ));
        self.program.push(jump_unless(test, value, 1));
        self.program.push(give(answer));
        self.program.push(load(NUMBER_OFFSET));
    }

    /// The profile of `deploy/seccomp.json` as an engine applies it to a container without
    /// capabilities on x86_64, without the calls in `except`.
    #[track_caller]
    pub fn of_profile(except: &[&str]) -> (Self, u32) {
        let text = fs::read_to_string(repository().join("deploy/seccomp.json")).expect("readable");
        let profile: Value = serde_json::from_str(&text).expect("the profile is JSON");
        let numbers = numbers();
        let mut filter = Self::new();
        for rule in profile["syscalls"].as_array().expect("a list of rules") {
            let needs_capability = rule["includes"]["caps"].is_array();
            if needs_capability {
                continue;
            }
            let answer = match rule["action"].as_str().expect("an action") {
                "SCMP_ACT_ALLOW" => libc::SECCOMP_RET_ALLOW,
                "SCMP_ACT_ERRNO" => errno(rule["errnoRet"].as_i64().expect("a number") as i32),
                other => panic!("action {other}"),
            };
            for name in rule["names"].as_array().expect("a list of names") {
                let name = name.as_str().expect("a name");
                // Calls of other architectures have no number here.
                let Some(&number) = numbers.get(name).filter(|_| !except.contains(&name)) else {
                    continue;
                };
                let Some(arguments) = rule["args"].as_array() else {
                    filter.answer(number, answer);
                    continue;
                };
                let [argument] = arguments.as_slice() else {
                    panic!("{name}: one condition is all this reads");
                };
                let field = |key: &str| argument[key].as_u64().expect("a number") as u32;
                let (mask, test, value) = match argument["op"].as_str().expect("an operator") {
                    "SCMP_CMP_EQ" => (u32::MAX, Test::Equal, field("value")),
                    "SCMP_CMP_NE" => (u32::MAX, Test::NotEqual, field("value")),
                    "SCMP_CMP_MASKED_EQ" => (field("value"), Test::Equal, field("valueTwo")),
                    other => panic!("{name}: operator {other}"),
                };
                filter.answer_if(number, field("index"), mask, test, value, answer);
            }
        }
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let default = profile["defaultErrnoRet"].as_i64().expect("a number") as i32;
        (filter, errno(default))
    }

    /// Installs the filter in the command's process before its program starts; what no answer
    /// fits gets `otherwise`.
    pub fn install(mut self, command: &mut Command, otherwise: u32) {
        self.program.push(give(otherwise));
        let mut program = self.program;
        // SAFETY: the closure only makes two prctl calls, which are async-signal-safe; the program
        // belongs to the closure, and the kernel copies it.
        unsafe {
            command.pre_exec(move || {
                let whole = libc::sock_fprog {
                    len: program.len() as u16,
                    filter: program.as_mut_ptr(),
                };
                if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                    || libc::prctl(
                        libc::PR_SET_SECCOMP,
                        libc::SECCOMP_MODE_FILTER,
                        &raw const whole,
                    ) != 0
                {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
    }
}

fn step(code: u32, jump_true: u8, jump_false: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: jump_true,
        jf: jump_false,
        k,
    }
}

fn load(offset: u32) -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn give(answer: u32) -> libc::sock_filter {
    step(libc::BPF_RET | libc::BPF_K, 0, 0, answer)
}

/// Skips `steps` unless the test holds.
fn jump_unless(test: Test, value: u32, steps: u8) -> libc::sock_filter {
    let (jump_true, jump_false) = match test {
        Test::Equal => (0, steps),
        Test::NotEqual => (steps, 0),
    };
    step(
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        jump_true,
        jump_false,
        value,
    )
}

/// Every call's number: `#define __NR_read 0`.
#[track_caller]
fn numbers() -> BTreeMap<String, u32> {
    let text = fs::read_to_string(NUMBERS)
        .unwrap_or_else(|error| panic!("{NUMBERS} (linux-libc-dev): {error}"));
    let numbers: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| {
            let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
            Some((name.to_owned(), number.trim().parse().ok()?))
        })
        .collect();
    assert!(numbers.len() > 300, "{} calls in {NUMBERS}", numbers.len());
    numbers
}
