//! What scanning and decoding a pickle costs: wall time of one thread, the smallest mean of several
//! rounds.
//!
//! `cargo run --release -p ringside-load --bin pickle-cost`
#![allow(clippy::unwrap_used, reason = "it measures or it panics")]
#![allow(clippy::print_stdout, reason = "its numbers are what it is for")]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use ringside::proto::pickle::{Dict, Limits, Rules, Scanner, Value, decode, encode};
use ringside::shard::clock;

const ROUNDS: u32 = 15;
const TURNS: u32 = 2000;

fn main() {
    for (name, rules, pickle) in [
        ("a message number", Rules::Plain, encode(&Value::Int(2))),
        ("a captured Auth", Rules::Plain, captured("Auth")),
        ("a captured Right", Rules::Plain, captured("Right")),
        ("a captured Delta", Rules::Delta, captured("Delta")),
        ("a captured Node", Rules::Plain, captured("Node-4")),
        ("2 kB of floats", Rules::Plain, floats(200)),
        ("a file of 64 MiB", Rules::Plain, file(64 << 20)),
    ] {
        let pickle = Bytes::from(pickle);
        let mut scanner = Scanner::default();
        let scan = smallest(|| {
            scanner.scan(black_box(&pickle), rules).unwrap();
        });
        let decode = smallest(|| match rules {
            Rules::Plain => drop(black_box(decode(&pickle, Limits::default()).unwrap())),
            Rules::Delta => {}
        });
        println!(
            "{name}, {} bytes: scan {} ns, decode {} ns",
            pickle.len(),
            scan.as_nanos(),
            decode.as_nanos()
        );
    }
}

fn smallest(mut work: impl FnMut()) -> Duration {
    let round = |work: &mut dyn FnMut()| {
        let began = clock::now();
        (0..TURNS).for_each(|_| work());
        began.elapsed() / TURNS
    };
    (0..ROUNDS).map(|_| round(&mut work)).min().unwrap()
}

/// The largest captured pickle whose name has `kind` in it.
fn captured(kind: &str) -> Vec<u8> {
    let files = std::fs::read_dir("tests/data/pickle").unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    let fits = paths.filter(|path| path.to_string_lossy().contains(kind));
    let all = fits.map(|path| std::fs::read(path).unwrap());
    all.max_by_key(Vec::len).unwrap()
}

fn floats(count: i32) -> Vec<u8> {
    let items = (0..count).map(|n| Value::Float(f64::from(n))).collect();
    let mut dict = Dict::new();
    dict.set("type_id", "Object");
    dict.set("matrix", Value::List(items));
    encode(&dict.into())
}

fn file(bytes: usize) -> Vec<u8> {
    let mut dict = Dict::new();
    dict.set("type_id", "PosixPath");
    dict.set("file", Bytes::from(vec![7; bytes]));
    encode(&dict.into())
}
