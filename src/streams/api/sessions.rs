//! Commands that end sessions and streams, and the tags that streams are given while they run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Api, Effect, Work, names, or_null};
use crate::base::ids::ShardId;
use crate::streams::client::SessionFilter;
use crate::streams::name::StreamName;

/// Streams that may have tags of their own, and tags of one of them.
const TAGGED_MAX: usize = 1000;
const TAGS_MAX: usize = 32;

/// Tags that streams were given over the API. They last until the server ends.
#[derive(Clone, Debug, Default)]
pub(super) struct RuntimeTags(BTreeMap<StreamName, BTreeSet<String>>);

/// `stop_sessions`: a stream, several, or `{STREAM: PROTOCOL}`. Ends viewers; a publisher is ended
/// by `{STREAM: "INPUT:RTMP"}` or `nuke_stream`.
pub(super) fn stop_sessions(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let filters: Vec<SessionFilter> = match argument {
        Value::Object(members) => members
            .iter()
            .map(|(stream, protocol)| SessionFilter {
                stream: (!stream.is_empty()).then(|| stream.clone()),
                protocol: protocol
                    .as_str()
                    .filter(|protocol| !protocol.is_empty())
                    .map(str::to_owned),
                id: None,
            })
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            names(argument)
                .into_iter()
                .map(|stream| SessionFilter {
                    stream: Some(stream),
                    ..SessionFilter::default()
                })
                .collect()
        }
    };
    work.effects
        .extend(filters.into_iter().map(Effect::StopSessions));
}

/// `stop_sessid`: one session or several, by the `sessid` of `clients`.
pub(super) fn stop_session(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    for text in names(argument) {
        match parse_id(&text) {
            Some(id) => work.effects.push(Effect::StopSessions(SessionFilter {
                id: Some(id),
                ..SessionFilter::default()
            })),
            None => work.fail("stop_sessid", "not the id of a session"),
        }
    }
}

/// A session's id in replies.
pub(super) fn format_id((shard, number): (ShardId, u64)) -> String {
    format!("{:x}-{number:x}", shard.0)
}

fn parse_id(text: &str) -> Option<(ShardId, u64)> {
    let (shard, number) = text.split_once('-')?;
    let shard = u16::from_str_radix(shard, 16).ok()?;
    Some((ShardId(shard), u64::from_str_radix(number, 16).ok()?))
}

/// `invalidate_sessions`: MistServer asks its USER_NEW trigger again. Without triggers nothing can
/// have changed for those who were let in, so all of them stay.
pub(super) fn invalidate(_: &mut Api, _: &mut Work<'_>, _: &Value) {}

/// `nuke_stream`: ends a stream at once.
pub(super) fn nuke(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    for name in names(argument) {
        match StreamName::parse(&name) {
            Ok(name) => work.effects.push(Effect::Nuke(name)),
            Err(reason) => work.fail("nuke_stream", reason),
        }
    }
}

/// `tag_stream`: `{STREAM: TAG}` or `{STREAM: [TAGS]}`.
pub(super) fn tag_stream(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    for (name, tags) in each(work, "tag_stream", argument) {
        let streams = &mut api.tags.0;
        if streams.len() >= TAGGED_MAX && !streams.contains_key(&name) {
            work.fail("tag_stream", "too many streams have tags");
            continue;
        }
        let own = streams.entry(name).or_default();
        own.extend(tags);
        while own.len() > TAGS_MAX {
            own.pop_last();
        }
    }
}

/// `untag_stream`: as `tag_stream`.
pub(super) fn untag_stream(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    for (name, tags) in each(work, "untag_stream", argument) {
        if let Some(own) = api.tags.0.get_mut(&name) {
            own.retain(|tag| !tags.contains(tag));
            if own.is_empty() {
                api.tags.0.remove(&name);
            }
        }
    }
}

fn each(
    work: &mut Work<'_>,
    command: &'static str,
    argument: &Value,
) -> Vec<(StreamName, Vec<String>)> {
    let mut found = Vec::new();
    for (name, tags) in argument.as_object().into_iter().flatten() {
        match StreamName::parse(name) {
            Ok(name) => found.push((name, names(tags))),
            Err(reason) => work.fail(command, reason),
        }
    }
    found
}

/// `stream_tags`: one stream, several, or true for all that are live or have tags.
pub(super) fn stream_tags(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let mut wanted: BTreeSet<StreamName> = names(argument)
        .iter()
        .filter_map(|name| StreamName::parse(name).ok())
        .collect();
    if wanted.is_empty() {
        let live = work.world.shards.iter().flat_map(|shard| &shard.streams);
        wanted.extend(live.map(|stream| stream.name.clone()));
        wanted.extend(api.tags.0.keys().cloned());
    }
    let tags: Map<String, Value> = wanted
        .into_iter()
        .map(|name| (name.to_string(), tags_of(api, work, &name)))
        .collect();
    work.put("stream_tags", tags);
}

/// The tags of a stream: those of the configuration and those it was given.
pub(super) fn tags_of(api: &Api, work: &Work<'_>, name: &StreamName) -> Value {
    let mut tags: BTreeSet<&str> = BTreeSet::new();
    if let Some(settings) = name.settings(work.world.config) {
        tags.extend(settings.tags.iter().map(String::as_str));
    }
    if let Some(own) = api.tags.0.get(name) {
        tags.extend(own.iter().map(String::as_str));
    }
    or_null(json!(tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_as_they_are_written() {
        for id in [(ShardId(0), 0), (ShardId(7), u64::MAX)] {
            assert_eq!(parse_id(&format_id(id)), Some(id));
        }
        for bad in ["", "-", "1", "x-1", "10000-1"] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }
}
