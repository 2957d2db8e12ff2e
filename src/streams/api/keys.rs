//! Commands on stream keys: secret names to push to. They count from the next push on.

use serde_json::{Map, Value, json};

use super::document::object;
use super::{Api, Work, names, or_null};

/// `streamkeys`: replaces all if it is an object, and shows them.
pub(super) fn stream_keys(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if argument.is_object() {
        work.change("streamkeys", |document| {
            document.insert("streamkeys".to_owned(), argument.clone());
            Ok(())
        });
    }
    show_if_asked(work);
}

/// `streamkey_add`: `{KEY: STREAM}`.
pub(super) fn add(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let Value::Object(keys) = argument else {
        work.fail("streamkey_add", "expected {\"KEY\": \"STREAM\"}");
        return;
    };
    let mut added = Vec::new();
    for (key, stream) in keys {
        let is_added = work.change("streamkey_add", |document| {
            object(document, "streamkeys").insert(key.clone(), stream.clone());
            Ok(())
        });
        if is_added {
            added.push(key.as_str());
        }
    }
    let reply = json!({ "added": added });
    work.put("streamkey_add", reply);
    refresh(work);
}

/// `streamkey_del`: one key, or several.
pub(super) fn delete(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let mut deleted = Vec::new();
    for key in names(argument) {
        let mut is_there = false;
        work.change("streamkey_del", |document| {
            is_there = object(document, "streamkeys").shift_remove(&key).is_some();
            Ok(())
        });
        if is_there {
            deleted.push(key);
        }
    }
    let reply = json!({ "deleted": deleted });
    work.put("streamkey_del", reply);
    refresh(work);
}

fn show_if_asked(work: &mut Work<'_>) {
    let keys = work.section("streamkeys");
    let keys = if keys.is_object() {
        keys
    } else {
        Value::Object(Map::new())
    };
    work.put("streamkeys", or_null(keys));
}

/// `streamkeys` of the same call shows what comes out of it.
fn refresh(work: &mut Work<'_>) {
    if work.reply.members.contains_key("streamkeys") {
        show_if_asked(work);
    }
}
