//! What metrics tell of the files of sessions.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use super::Post;
use super::keeper::Gauges;
use crate::collab::door::Row;

/// One quantity: its name, what it is, whether it only grows, and its value.
type Column = (&'static str, &'static str, bool, fn(&Post) -> u64);

pub(super) fn rows<'a>(posts: impl Iterator<Item = &'a Post> + Clone) -> Vec<Row> {
    if posts.clone().next().is_none() {
        return Vec::new();
    }
    let row = |(name, help, is_counter, value): &Column| {
        let sample = |post: &Post| (vec![("port", post.port.to_string())], value(post));
        (
            *name,
            *help,
            *is_counter,
            posts.clone().map(sample).collect(),
        )
    };
    COLUMNS.iter().map(row).collect()
}

/// A session's files, as an operator is shown them.
pub(super) fn describe(post: &Post) -> Value {
    json!({
        "file": post.file,
        "saves": number(post, |gauges| &gauges.saves),
        "save_failures": number(post, |gauges| &gauges.save_failures),
        "saved_unix_s": number(post, |gauges| &gauges.saved_unix_s),
        "saved_bytes": number(post, |gauges| &gauges.saved_bytes),
        "unsaved": flag(post, |gauges| &gauges.is_unsaved) == 1,
        "log_bytes": number(post, |gauges| &gauges.log_bytes),
        "log_failing": flag(post, |gauges| &gauges.is_log_failing) == 1,
    })
}

fn number(post: &Post, gauge: fn(&Gauges) -> &AtomicU64) -> u64 {
    gauge(&post.keeper.gauges).load(Ordering::Relaxed)
}

fn flag(post: &Post, gauge: fn(&Gauges) -> &AtomicBool) -> u64 {
    gauge(&post.keeper.gauges).load(Ordering::Relaxed).into()
}

const COLUMNS: &[Column] = &[
    (
        "collab_saves_total",
        "Times that a collaborative session was saved.",
        true,
        |post| number(post, |gauges| &gauges.saves),
    ),
    (
        "collab_save_failures_total",
        "Times that a collaborative session could not be saved.",
        true,
        |post| number(post, |gauges| &gauges.save_failures),
    ),
    (
        "collab_saved_timestamp_seconds",
        "When the session was saved last.",
        false,
        |post| number(post, |gauges| &gauges.saved_unix_s),
    ),
    (
        "collab_saved_bytes",
        "Bytes of the session's file.",
        false,
        |post| number(post, |gauges| &gauges.saved_bytes),
    ),
    (
        "collab_save_milliseconds",
        "How long the last save took.",
        false,
        |post| number(post, |gauges| &gauges.save_ms),
    ),
    (
        "collab_unsaved",
        "1 while the session has changes that no file has.",
        false,
        |post| flag(post, |gauges| &gauges.is_unsaved),
    ),
    (
        "collab_log_bytes",
        "Bytes of the session's logs.",
        false,
        |post| number(post, |gauges| &gauges.log_bytes),
    ),
    (
        "collab_log_failures_total",
        "Times that the session's log could not be written.",
        true,
        |post| number(post, |gauges| &gauges.log_failures),
    ),
    (
        "collab_log_failing",
        "1 while changes are not logged that should be.",
        false,
        |post| flag(post, |gauges| &gauges.is_log_failing),
    ),
    (
        "collab_keeper_pending_bytes",
        "Bytes of changes that wait for the disk.",
        false,
        |post| number(post, |gauges| &gauges.pending_bytes),
    ),
    (
        "collab_keeper_losses_total",
        "Times that too much waited for the disk.",
        true,
        |post| post.losses,
    ),
];
