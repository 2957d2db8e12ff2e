//! Commands that show and change the configuration.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::document::{list, object};
use super::{Api, Effect, Work, is_true, names, or_null, protocols};
use crate::config::{Stream, base_name};

/// Members of `config` in a reply that are not part of it.
const REPORTED: [&str; 3] = ["iid", "time", "version"];

/// Members of `config` that MistServer shows whether they are set or not, with its defaults.
const DEFAULTS: &[(&str, &str)] = &[
    ("accesslog", "\"LOG\""),
    (
        "controller",
        r#"{"interface":null,"port":null,"username":null}"#,
    ),
    ("defaultStream", "null"),
    ("prometheus", "\"\""),
    ("protocols", "null"),
    ("serverid", "null"),
    ("sessionInputMode", "15"),
    ("sessionOutputMode", "15"),
    ("sessionStreamInfoMode", "1"),
    ("sessionUnspecifiedMode", "0"),
    ("sessionViewerMode", "14"),
    ("tknMode", "15"),
    ("triggers", "null"),
    ("trustedproxy", "[]"),
];

/// The name and version of this server.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
const RELEASE: &str = concat!("ringside_", env!("CARGO_PKG_VERSION"));

/// `config`: sets each member that is given, and shows all.
pub(super) fn config(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if let Value::Object(members) = argument {
        work.change("config", |document| {
            let config = object(document, "config");
            for (name, value) in members {
                if !REPORTED.contains(&name.as_str()) {
                    config.insert(name.clone(), value.clone());
                }
            }
            Ok(())
        });
    }
    let mut config = work.members("config");
    for (name, default) in DEFAULTS {
        if !config.contains_key(*name) {
            let default = serde_json::from_str(default).unwrap_or_default();
            config.insert((*name).to_owned(), default);
        }
    }
    protocols::report(&mut config, work.world.listening);
    config.insert("iid".to_owned(), api.instance.clone().into());
    config.insert("time".to_owned(), (work.world.unix_ms / 1000).into());
    config.insert("version".to_owned(), format!("{VERSION} {RELEASE}").into());
    work.put("config", config);
}

/// `config_backup`: the whole document. Its passwords are hashed and sealed, unless they were not
/// saved by this server so far.
pub(super) fn backup(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    let document = Value::Object(work.edit.document().clone());
    work.put("config_backup", document);
}

/// `config_restore`: replaces the whole document. Accounts stay when the new one has none: without
/// any, nobody could call from elsewhere again.
pub(super) fn restore(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let Value::Object(new) = argument else {
        work.fail("config_restore", "expected a whole configuration");
        return;
    };
    work.change("config_restore", |document| {
        let accounts = document.get("account").cloned();
        document.clone_from(new);
        let has_accounts = document
            .get("account")
            .and_then(Value::as_object)
            .is_some_and(|accounts| !accounts.is_empty());
        if let (false, Some(accounts)) = (has_accounts, accounts) {
            document.insert("account".to_owned(), accounts);
        }
        Ok(())
    });
}

/// `config_reload`: reads the file again.
pub(super) fn reload(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if is_true(argument) {
        work.effects.push(Effect::Reload);
    }
}

/// `save`: writes the file.
pub(super) fn save(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if work.effects.contains(&Effect::Reload) {
        work.fail("save", "not in one call with config_reload");
    } else if is_true(argument) {
        work.effects.push(Effect::Save);
    }
}

/// `shutdown`: ends the server; for callers of this machine only.
pub(super) fn shutdown(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if !work.world.is_local {
        work.fail("shutdown", "only callers of this machine may");
    } else if is_true(argument) {
        work.effects.push(Effect::Shutdown);
    }
}

/// `streams`: replaces all if it is an object, and shows all.
pub(super) fn streams(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if let Value::Object(new) = argument {
        work.change("streams", |document| {
            let mut streams = Map::new();
            for (name, settings) in new {
                // A list of some, as `addstream` answers, sent back.
                if name == "incomplete list" {
                    return Err("the list is incomplete".to_owned());
                }
                put_stream(&mut streams, name, settings)?;
            }
            document.insert("streams".to_owned(), Value::Object(streams));
            Ok(())
        });
    }
    let streams = work
        .members("streams")
        .into_iter()
        .map(|(name, settings)| {
            let reported = report_stream(work, &name, settings);
            (name, reported)
        })
        .collect();
    work.put("streams", or_null(Value::Object(streams)));
}

/// `addstream`: adds or changes streams, and shows these.
pub(super) fn add_stream(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let Value::Object(new) = argument else {
        work.fail("addstream", "expected {\"NAME\": {\"source\": ...}}");
        return;
    };
    let mut shown = incomplete(work);
    for (name, settings) in new {
        let is_made = work.change("addstream", |document| {
            put_stream(object(document, "streams"), name, settings)
        });
        let Some(base) = base_name(name).filter(|_| is_made) else {
            continue;
        };
        let settings = work.section("streams")[&base].take();
        shown.insert(base, settings);
    }
    work.put("streams", shown);
}

/// `deletestream`: forgets streams; their publishers and viewers are let go.
pub(super) fn delete_stream(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    for name in names(argument) {
        work.change("deletestream", |document| {
            let streams = object(document, "streams");
            let key = key_of(streams, &name).ok_or_else(|| format!("no stream {name}"))?;
            streams.shift_remove(&key);
            Ok(())
        });
    }
    let shown = incomplete(work);
    work.put("streams", shown);
}

/// What the reply has so far of some streams.
fn incomplete(work: &Work<'_>) -> Map<String, Value> {
    let mut shown = match work.reply.members.get("streams") {
        Some(Value::Object(shown)) => shown.clone(),
        _ => Map::new(),
    };
    shown.insert("incomplete list".to_owned(), 1.into());
    shown
}

/// The member of `streams` that a name means: itself, or one that is reduced to the same name.
fn key_of(streams: &Map<String, Value>, name: &str) -> Option<String> {
    if streams.contains_key(name) {
        return Some(name.to_owned());
    }
    let base = base_name(name)?;
    streams
        .keys()
        .find(|key| base_name(key).as_deref() == Some(&base))
        .cloned()
}

fn put_stream(
    streams: &mut Map<String, Value>,
    name: &str,
    settings: &Value,
) -> Result<(), String> {
    let base = base_name(name)
        .filter(|_| !name.contains('+'))
        .ok_or_else(|| "a stream's name has 1 to 100 of a-z, 0-9, _, . and -".to_owned())?;
    let Value::Object(settings) = settings else {
        return Err(format!("streams.{base}: expected an object"));
    };
    let mut settings = settings.clone();
    settings.insert("name".to_owned(), base.clone().into());
    if let Some(old) = key_of(streams, &base).filter(|old| *old != base) {
        streams.shift_remove(&old);
    }
    streams.insert(base, Value::Object(settings));
    Ok(())
}

/// A stream's settings with its state: `online` is 1 while somebody publishes it.
fn report_stream(work: &Work<'_>, name: &str, mut settings: Value) -> Value {
    let Value::Object(members) = &mut settings else {
        return settings;
    };
    let base = base_name(name).unwrap_or_default();
    members.insert("name".to_owned(), name.into());
    let is_live = work
        .world
        .shards
        .iter()
        .flat_map(|shard| &shard.streams)
        .any(|stream| stream.publisher.is_some() && stream.name.as_str() == base);
    members.insert("online".to_owned(), u8::from(is_live).into());
    if let Some(scheme) = work.world.config.stream(&base).and_then(unserved_source) {
        let error = format!("a {scheme} source is not served by this version");
        members.insert("error".to_owned(), error.into());
    }
    settings
}

fn unserved_source(stream: &Stream) -> Option<&str> {
    match stream.source.push() {
        None if !stream.source.expose().is_empty() => Some(stream.source.scheme()),
        None | Some(_) => None,
    }
}

/// `tags`: replaces the server's tags if it is a list, and shows them.
pub(super) fn tags(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if argument.is_array() {
        work.change("tags", |document| {
            document.insert("tags".to_owned(), sorted_set(names(argument)));
            Ok(())
        });
    }
    show_tags(work);
}

/// `add_tag`: adds one tag or several.
pub(super) fn add_tag(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    work.change("add_tag", |document| {
        let mut tags = names(&Value::Array(list(document, "tags").clone()));
        tags.extend(names(argument));
        document.insert("tags".to_owned(), sorted_set(tags));
        Ok(())
    });
    show_tags(work);
}

/// `remove_tag`: removes one tag or several.
pub(super) fn remove_tag(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let removed = names(argument);
    work.change("remove_tag", |document| {
        list(document, "tags").retain(|tag| {
            tag.as_str()
                .is_none_or(|tag| !removed.iter().any(|removed| removed == tag))
        });
        Ok(())
    });
    show_tags(work);
}

fn sorted_set(tags: Vec<String>) -> Value {
    tags.into_iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn show_tags(work: &mut Work<'_>) {
    let tags = sorted_set(names(&work.section("tags")));
    work.put("tags", or_null(tags));
}

/// `bandwidth`: sets `limit` and `exceptions`, and shows them.
pub(super) fn bandwidth(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if let Value::Object(members) = argument {
        work.change("bandwidth", |document| {
            object(document, "bandwidth").extend(members.clone());
            Ok(())
        });
    }
    let mut bandwidth = work.section("bandwidth");
    if !bandwidth.is_object() {
        bandwidth = json!({});
    }
    if bandwidth["exceptions"].is_null() {
        let defaults = work.world.config.bandwidth.exceptions.iter();
        bandwidth["exceptions"] = defaults
            .map(
                |network| match network.prefix_len() == network.max_prefix_len() {
                    true => network.addr().to_string(),
                    false => network.to_string(),
                },
            )
            .collect();
    }
    work.put("bandwidth", bandwidth);
}

/// `ui_settings`: what a page wants kept; replaces it if it is an object, and shows it.
pub(super) fn ui_settings(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if argument.is_object() {
        work.change("ui_settings", |document| {
            document.insert("ui_settings".to_owned(), argument.clone());
            Ok(())
        });
    }
    let settings = work.section("ui_settings");
    work.put("ui_settings", settings);
}

/// `version`. A build says nothing of its date, so that it can be repeated.
pub(super) fn version(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    work.put(
        "version",
        json!({"date": "", "release": RELEASE, "time": "", "version": VERSION}),
    );
}

/// `api_endpoint`: where this API is.
pub(super) fn endpoint(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    let address = work.world.config.general.controller;
    let endpoint = match (address.ip().is_unspecified(), work.world.host) {
        (true, host) if !host.is_empty() => format!("http://{host}/"),
        (true | false, _) => format!("http://{address}/"),
    };
    work.put("api_endpoint", endpoint);
}
