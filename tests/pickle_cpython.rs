//! The pickle codec against CPython's: random values in both directions. One Python process answers
//! for a whole test; a failure prints the seed. And the pickles of captured sessions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bytes::Bytes;
use ringside::base::prng::Prng;
use ringside::proto::pickle::{
    Dict, Error, Integer, Limits, Pieces, Rules, Scanner, Value, decode, decode_bytes,
    decode_delta, encode,
};
use ringside::proto::session_file::{self, Node, Session};

struct Python {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    fn start() -> Self {
        let mut child = Command::new("python3")
            .arg("tests/clients/pickle_peer.py")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            output,
        }
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    fn load(&mut self, pickle: &[u8]) -> String {
        self.ask(&format!("load {}", hex(pickle)))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// The form of `pickle_peer.py`.
fn text(value: &Value) -> String {
    let all = |items: &[Value]| items.iter().map(text).collect::<Vec<_>>();
    let sorted = |items: &[Value]| {
        let mut items = all(items);
        items.sort();
        items.join(",")
    };
    match value {
        Value::None => "N".into(),
        Value::Bool(true) => "T".into(),
        Value::Bool(false) => "F".into(),
        Value::Int(number) if *number < 0 => format!("i-{:x}", number.unsigned_abs()),
        Value::Int(number) => format!("i{number:x}"),
        Value::BigInt(number) => format!("i{}", big(number)),
        Value::Float(number) => format!("f{:016x}", number.to_bits()),
        Value::Text(text) => format!("s{}", hex(text.as_bytes())),
        Value::Bytes(bytes) => format!("b{}", hex(bytes)),
        Value::List(items) => format!("[{}]", all(items).join(",")),
        Value::Tuple(items) => format!("({})", all(items).join(",")),
        Value::Dict(dict) => {
            let entry = |(key, value): &(Value, Value)| format!("{}:{}", text(key), text(value));
            format!(
                "{{{}}}",
                dict.iter().map(entry).collect::<Vec<_>>().join(",")
            )
        }
        Value::Set(items) => format!("S{};", sorted(items)),
        Value::FrozenSet(items) => format!("Z{};", sorted(items)),
        Value::Class(_) | Value::Object(..) => panic!("a class in plain data"),
    }
}

/// Hexadecimal digits of a number of any length.
fn big(number: &Integer) -> String {
    let mut bytes = number.as_bytes().to_vec();
    let negative = bytes.last().is_some_and(|last| last >> 7 == 1);
    if negative {
        let mut carry = true;
        for byte in &mut bytes {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
        if carry {
            bytes.push(1);
        }
    }
    bytes.reverse();
    let digits = hex(&bytes);
    let sign = if negative { "-" } else { "" };
    format!("{sign}{}", digits.trim_start_matches('0'))
}

#[test]
fn what_cpython_writes_is_read() {
    let mut python = Python::start();
    for seed in 0..200 {
        let protocol = 2 + seed % 4;
        let answer = python.ask(&format!("dump {seed} {protocol}"));
        let (pickle, expected) = answer.split_once(' ').unwrap();
        let pickle = Bytes::from(bytes(pickle));
        match decode(&pickle, Limits::default()) {
            Ok(value) => {
                assert_eq!(text(&value), expected, "seed {seed}");
                assert_eq!(python.load(&encode(&value)), expected, "seed {seed}");
            }
            // Below protocol 4 there are no opcodes for sets and bytes: a function makes them.
            Err(Error::Executes(_)) if protocol < 4 => {}
            Err(error) => panic!("seed {seed}, protocol {protocol}: {error}"),
        }
    }
}

#[test]
fn what_is_written_is_read_by_cpython() {
    let mut python = Python::start();
    for seed in 0..200 {
        let value = random(&mut Prng::new(seed), 4);
        let pickle = encode(&value);
        assert_eq!(python.load(&pickle), text(&value), "seed {seed}");
        let again = decode_bytes(&pickle, Limits::default()).unwrap();
        assert_eq!(text(&again), text(&value), "seed {seed}");
    }
}

#[test]
fn a_session_file_goes_through_cpython_unchanged() {
    let mut users = Dict::new();
    users.set("alice", random(&mut Prng::new(3), 2));
    let node = |n: u64| Node {
        type_name: None,
        uuid: format!("node {n}").into(),
        owner: Bytes::from_static(b"COMMON"),
        dependencies: encode(&Value::List(vec!["node 0".into()])).into(),
        data: encode(&Value::Dict(
            [(Value::from("data"), random(&mut Prng::new(n), 3))]
                .into_iter()
                .collect(),
        ))
        .into(),
    };
    let session = Session {
        nodes: (0..50).map(node).collect(),
        users,
        ..Session::default()
    };
    let answer = Python::start().ask(&format!("session {}", hex(&session.to_bytes())));
    let read = Session::read(&bytes(&answer), session_file::Limits::default()).unwrap();
    assert_eq!(read.nodes, session.nodes);
    assert_eq!(text(&read.users.into()), text(&session.users.into()));
}

/// A changed byte makes another pickle or none. If the scanner lets it pass, CPython loads it
/// without an exception, and to the same value.
#[test]
fn what_passes_loads_in_cpython() {
    let mut python = Python::start();
    let mut scanner = Scanner::default();
    let (mut passed, mut refused) = (0, 0);
    let mut prng = Prng::new(1);
    for seed in 0..300 {
        let mut small = Prng::new(seed);
        let answer = python.ask(&format!("dump {seed} 4"));
        let (pickle, _) = answer.split_once(' ').unwrap();
        let mut pickle = bytes(pickle);
        if pickle.len() > 2000 {
            pickle = encode(&random(&mut small, 2));
        }
        for _ in 0..20 {
            let mut changed = pickle.clone();
            let at = prng.below(changed.len() as u64) as usize;
            changed[at] = prng.next_u64() as u8;
            if scanner.scan(&changed, Rules::Plain).is_err() {
                refused += 1;
                continue;
            }
            passed += 1;
            let loaded = python.load(&changed);
            assert!(!loaded.starts_with("error"), "{}: {loaded}", hex(&changed));
        }
    }
    assert!(
        passed > 500 && refused > 500,
        "{passed} passed, {refused} refused"
    );
}

#[test]
fn every_captured_pickle_passes_and_comes_back() {
    let mut count = 0;
    for entry in fs::read_dir("tests/data/pickle").unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "pickle")
        {
            continue;
        }
        let bytes = Bytes::from(fs::read(&path).unwrap());
        let is_delta = path.to_string_lossy().contains("Delta");
        let (rules, value) = if is_delta {
            (Rules::Delta, decode_delta(&bytes, Limits::default()))
        } else {
            (Rules::Plain, decode(&bytes, Limits::default()))
        };
        let value = value.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let again = Bytes::from(encode(&value));
        Scanner::default().scan(&again, rules).unwrap();
        let read = decode_delta(&again, Limits::default()).unwrap();
        assert_eq!(read, value, "{}", path.display());
        assert_eq!(Pieces::of(&value).concat(), again);
        for end in 0..bytes.len() {
            assert!(Scanner::default().scan(&bytes[..end], rules).is_err());
        }
        count += 1;
    }
    assert!(count > 60, "only {count} captures");
}

fn random(prng: &mut Prng, depth: u64) -> Value {
    if depth == 0 || prng.chance(30) {
        return scalar(prng);
    }
    let many = if depth == 1 && prng.chance(10) {
        1001
    } else {
        9
    };
    let count = [0, 1, 2, 3, 4, 7, many][prng.below(7) as usize];
    match prng.below(5) {
        0 => Value::List((0..count).map(|_| random(prng, depth - 1)).collect()),
        1 => Value::Tuple((0..count).map(|_| random(prng, depth - 1)).collect()),
        2 => {
            let mut dict = Dict::new();
            for n in 0..count {
                dict.set(key(prng, n), random(prng, depth - 1));
            }
            dict.into()
        }
        3 => Value::Set((0..count).map(|n| key(prng, n)).collect()),
        _ => Value::FrozenSet((0..count).map(|n| key(prng, n)).collect()),
    }
}

/// Keys of one container differ by `n`.
fn key(prng: &mut Prng, n: i64) -> Value {
    match prng.below(3) {
        0 => Value::Int(n),
        1 => Value::Text(format!("key {n}")),
        _ => Value::Tuple(vec![Value::Int(n), scalar_key(prng)]),
    }
}

fn scalar_key(prng: &mut Prng) -> Value {
    match prng.below(3) {
        0 => Value::None,
        1 => Value::Bool(prng.chance(50)),
        _ => Value::Bytes(Bytes::from_static(b"\0\xff")),
    }
}

fn scalar(prng: &mut Prng) -> Value {
    match prng.below(9) {
        0 => Value::None,
        1 => Value::Bool(prng.chance(50)),
        2 => Value::Int(prng.next_u64() as i64 >> prng.below(64)),
        3 => {
            let mut bytes = vec![0; 9 + prng.below(300) as usize];
            prng.fill(&mut bytes);
            let number = Integer::new(&bytes);
            number.to_i64().map_or(Value::BigInt(number), Value::Int)
        }
        4 => Value::Float(f64::from_bits(prng.next_u64())),
        5 => Value::Float(prng.below(1000) as f64 / 8.0),
        6 => {
            let count = [0, 3, 255, 256, 300][prng.below(5) as usize];
            Value::Text("aä€😀".chars().cycle().take(count).collect())
        }
        7 if prng.chance(3) => Value::Bytes(Bytes::from(vec![9; 70_000])),
        7 => Value::Text("'\"\\\0\n".into()),
        _ => {
            let mut bytes = vec![0; [0, 3, 255, 256, 300][prng.below(5) as usize]];
            prng.fill(&mut bytes);
            Value::Bytes(bytes.into())
        }
    }
}
