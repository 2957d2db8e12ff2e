//! Every crate that ends up in a build has a license that `deny.toml` allows.
//!
//! `cargo deny` checks more, but is not installed everywhere; the rule that matters to whoever
//! ships the binary holds on every machine.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

#[test]
fn dependencies_have_allowed_licenses() {
    let deny: toml::Table = include_str!("../deny.toml")
        .parse()
        .expect("deny.toml is TOML");
    let allowed = strings(&deny["licenses"]["allow"]);
    let exceptions: BTreeMap<String, BTreeSet<String>> = deny["licenses"]["exceptions"]
        .as_array()
        .expect("exceptions is a list")
        .iter()
        .map(|entry| {
            let name = entry["crate"].as_str().expect("an exception names a crate");
            (name.to_owned(), strings(&entry["allow"]))
        })
        .collect();

    let mut refused = Vec::new();
    let packages = packages();
    assert!(packages.len() > 50, "only {} packages seen", packages.len());
    for package in &packages {
        let name = package["name"].as_str().expect("a package has a name");
        let Some(license) = package["license"].as_str() else {
            refused.push(format!("{name}: no license"));
            continue;
        };
        let extra = exceptions.get(name);
        let accepts = |one: &str| {
            let one = one.strip_suffix('+').unwrap_or(one);
            allowed.contains(one) || extra.is_some_and(|extra| extra.contains(one))
        };
        if !satisfied(license, &accepts) {
            refused.push(format!("{name}: {license}"));
        }
    }
    assert!(refused.is_empty(), "\n{}", refused.join("\n"));
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

fn strings(list: &toml::Value) -> BTreeSet<String> {
    list.as_array()
        .expect("a list")
        .iter()
        .map(|item| item.as_str().expect("a string").to_owned())
        .collect()
}

/// SPDX as crates write it: AND binds tighter than OR, `/` is an old OR, parentheses group.
fn satisfied(expression: &str, accepts: &impl Fn(&str) -> bool) -> bool {
    let expression = expression.trim();
    if let Some(sides) = split(expression, " OR ").or_else(|| split(expression, "/")) {
        return sides.iter().any(|side| satisfied(side, accepts));
    }
    if let Some(sides) = split(expression, " AND ") {
        return sides.iter().all(|side| satisfied(side, accepts));
    }
    match expression
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
    {
        Some(inner) => satisfied(inner, accepts),
        None => accepts(expression),
    }
}

/// The sides of `operator` outside of parentheses; `None` if it is not there.
fn split<'text>(expression: &'text str, operator: &str) -> Option<Vec<&'text str>> {
    let mut sides = Vec::new();
    let mut start = 0;
    for (at, _) in expression.match_indices(operator) {
        let before = &expression[..at];
        if before.matches('(').count() == before.matches(')').count() {
            sides.push(&expression[start..at]);
            start = at + operator.len();
        }
    }
    sides.push(&expression[start..]);
    (sides.len() > 1).then_some(sides)
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let mit = |one: &str| one == "MIT";
    assert!(satisfied("MIT OR Apache-2.0", &mit));
    assert!(satisfied("Unlicense/MIT", &mit));
    assert!(!satisfied("MIT AND Apache-2.0", &mit));
    assert!(!satisfied("(MIT OR Apache-2.0) AND Unicode-3.0", &mit));
    assert!(satisfied("GPL-3.0 OR (MIT AND MIT)", &mit));
    assert!(!satisfied("GPL-3.0", &mit));
}
