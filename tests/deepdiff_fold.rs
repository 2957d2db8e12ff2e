//! Folded chains against the real deepdiff: random dicts and changes; what is folded is what
//! deepdiff makes of it. `tests/run.sh` installs deepdiff with the original client.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bytes::Bytes;
use ringside::proto::deepdiff::{Unfolded, fold, fold_first};
use ringside::proto::pickle::{Dict, Error, Limits, Value, decode, encode};

const SEEDS: usize = 600;

fn python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache =
        cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    cache.join("ringside-tests/replication-0.9.11/bin/python")
}

fn bytes(hex: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

#[test]
fn a_folded_chain_is_what_deepdiff_makes_of_it() {
    let mut child = Command::new(python())
        .arg("tests/clients/deepdiff_peer.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests/run.sh installs it");
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut folded = 0;
    let mut unfolded = BTreeMap::new();
    for seed in 0..SEEDS {
        writeln!(input, "{seed}").unwrap();
        let line = lines.next().unwrap().unwrap();
        let words: Vec<Bytes> = line.split(' ').map(bytes).collect();
        let [base, deltas @ .., expected] = words.as_slice() else {
            panic!("seed {seed}: {line}");
        };
        match fold(base, deltas, Limits::default()) {
            Ok(pickle) => {
                let got = decode(&pickle.into(), Limits::default()).unwrap();
                let expected = decode(expected, Limits::default()).unwrap();
                assert_eq!(got, expected, "seed {seed}");
                folded += 1;
            }
            Err(Unfolded::Pickle(error)) => panic!("seed {seed}: {error}"),
            Err(error) => *unfolded.entry(error).or_insert(0) += 1,
        }
    }
    drop(input);
    child.wait().unwrap();
    eprintln!("{folded} of {SEEDS} folded; not folded: {unfolded:?}");
    assert!(folded > SEEDS / 3, "only {folded} folded: {unfolded:?}");
    assert!(unfolded.contains_key(&Unfolded::Change), "{unfolded:?}");
}

#[test]
fn what_is_not_understood_is_left() {
    let limits = Limits::default();
    // The list stands at two places.
    let shared = Bytes::from_static(b"\x80\x04](]\x94h\0e.");
    assert_eq!(fold(&shared, [], limits), Err(Unfolded::Shared));
    let empty = Bytes::from_static(b"\x80\x04}.");
    assert_eq!(fold(&empty, [], limits).unwrap(), *empty);
    let delta = |part: &str, path: &str| {
        let entries = [(Value::from(path), Value::Int(1))].into_iter().collect();
        let parts = [(Value::from(part), Value::Dict(entries))];
        Bytes::from(encode(&Value::Dict(parts.into_iter().collect())))
    };
    for (part, path, error) in [
        ("attribute_added", "root.x", Unfolded::Change),
        ("set_item_added", "root['x']", Unfolded::Change),
        ("dictionary_item_added", "root.x", Unfolded::Path),
        ("dictionary_item_added", "root['x']['y']", Unfolded::Place),
        ("dictionary_item_removed", "root['x']", Unfolded::Place),
        ("iterable_item_added", "root['x'][0]", Unfolded::Place),
        ("iterable_item_added", "root['x']", Unfolded::Path),
        ("values_changed", "root['x']", Unfolded::Change),
    ] {
        assert_eq!(
            fold(&empty, [&delta(part, path)], limits),
            Err(error),
            "{part} {path}"
        );
    }
    let added = fold(
        &empty,
        [&delta("dictionary_item_added", "root['x']")],
        limits,
    )
    .unwrap();
    let value = decode(&added.into(), limits).unwrap();
    assert_eq!(value.as_dict().unwrap().of("x"), Some(&Value::Int(1)));
}

/// A small delta can hold a lot, by references. Each was within the limits, and all together took as
/// many times the memory as there were deltas.
#[test]
fn a_chain_holds_no_more_than_one_pickle_may() {
    let dict = |entries: &[(&str, Value)]| {
        let entries = entries.iter().cloned();
        Value::Dict(
            entries
                .map(|(key, value)| (Value::from(key), value))
                .collect::<Dict>(),
        )
    };
    let base: Bytes = encode(&dict(&[("n", Value::None)])).into();
    let items = Value::List(vec![Value::Int(1); 400]);
    let new = dict(&[("new_value", items)]);
    let delta = dict(&[("values_changed", dict(&[("root['n']", new)]))]);
    let deltas = vec![Bytes::from(encode(&delta)); 3];
    let limits = Limits {
        expanded_max: 1000,
        ..Limits::default()
    };
    assert_eq!(
        fold(&base, &deltas, limits),
        Err(Unfolded::Pickle(Error::Expanded))
    );
    let (folded, count) = fold_first(&base, &deltas, limits).unwrap();
    assert_eq!(count, 2);
    assert_eq!(Ok(folded), fold(&base, &deltas[..2], limits));
}
