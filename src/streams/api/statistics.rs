//! Commands that show who is connected and what they use.
//!
//! As in MistServer, `up` is what the server sends and `down` what it receives. Packets are not
//! counted: everything that is served here goes over TCP, whose losses the kernel hides.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::sessions::{format_id, tags_of};
use super::{Api, Work, names, or_null};
use crate::base::ids::ShardId;
use crate::media::{Codec, Kind};
use crate::streams::client::{ClientSnapshot, Figures, Tally};
use crate::streams::info::track_name;
use crate::streams::name::StreamName;
use crate::streams::snapshot::{ShardSnapshot, StreamSnapshot, TrackSnapshot};
use crate::streams::viewing::Session;

/// Seconds of history, as in MistServer. A second of the sums is about 600 bytes, so 400 kB.
const HISTORY_S: usize = 600;

/// How long something is sampled after it was asked for. Sums are always taken: a shard has them
/// at hand. Each client and each stream are looked at only while somebody wants to see them,
/// because that takes time for each viewer.
const WATCHED_FOR: Duration = Duration::from_secs(60);

/// Streams whose totals are kept at once.
const STREAMS_WATCHED_MAX: usize = 64;

/// What was there in one second.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Seconds since 1970.
    pub unix_s: i64,
    /// Sums over all shards.
    pub tally: Tally,
    /// The same of each stream that is watched.
    pub streams: BTreeMap<String, Tally>,
}

/// Bytes of a client when it was last looked at, and a second or more before.
#[derive(Clone, Copy, Debug)]
struct Pace {
    at: Instant,
    up: u64,
    down: u64,
    up_rate: f64,
    down_rate: f64,
}

/// The last minutes.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    paces: BTreeMap<(ShardId, u64), Pace>,
    clients_until: Option<Instant>,
    streams_until: BTreeMap<String, Instant>,
}

impl History {
    /// Whether somebody looks at clients.
    pub fn watches_clients(&self, now: Instant) -> bool {
        self.clients_until.is_some_and(|until| now < until)
    }

    /// Whether somebody looks at single streams.
    pub fn watches_streams(&mut self, now: Instant) -> bool {
        self.streams_until.retain(|_, until| now < *until);
        !self.streams_until.is_empty()
    }

    /// Notes that clients are looked at.
    pub fn watch_clients(&mut self, now: Instant) {
        self.clients_until = Some(now + WATCHED_FOR);
    }

    /// Notes which streams' totals a call asks for.
    pub fn watch_streams(&mut self, now: Instant, call: &Map<String, Value>) {
        let Some(argument) = call.get("totals") else {
            return;
        };
        for request in each_request(argument) {
            for name in names(&request["streams"]) {
                if self.streams_until.len() < STREAMS_WATCHED_MAX
                    || self.streams_until.contains_key(&name)
                {
                    self.streams_until.insert(name, now + WATCHED_FOR);
                }
            }
        }
    }

    /// Adds a second. `shards` is empty unless streams are watched.
    pub fn add(&mut self, unix_s: i64, tally: Tally, shards: &[ShardSnapshot]) {
        let mut sample = Sample {
            unix_s,
            tally,
            ..Sample::default()
        };
        for stream in shards.iter().flat_map(|shard| &shard.streams) {
            if self.streams_until.contains_key(stream.name.as_str()) {
                let sum = sample.streams.entry(stream.name.to_string()).or_default();
                for (protocol, figures) in tally_of(stream) {
                    sum.entry(protocol).or_default().add(&figures);
                }
            }
        }
        for session in sessions(shards) {
            if let Some(sum) = sample.streams.get_mut(session.stream.as_str()) {
                sum.entry(session.form.connector()).or_default().viewers += 1;
            }
        }
        if self.samples.len() == HISTORY_S {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Notes what clients have used so far, for their rates. Those that are gone are forgotten.
    pub fn pace(&mut self, now: Instant, clients: &[ClientSnapshot]) {
        let mut paces = BTreeMap::new();
        for client in clients {
            let fresh = Pace {
                at: now,
                up: client.up,
                down: client.down,
                // Until there is a second look: the mean since it came.
                up_rate: client.up as f64 / client.age.as_secs_f64().max(1.0),
                down_rate: client.down as f64 / client.age.as_secs_f64().max(1.0),
            };
            let pace = match self.paces.get(&client.id) {
                Some(before) => {
                    let elapsed = now.saturating_duration_since(before.at).as_secs_f64();
                    if elapsed < 0.5 {
                        *before
                    } else {
                        let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 / elapsed;
                        Pace {
                            up_rate: rate(client.up, before.up),
                            down_rate: rate(client.down, before.down),
                            ..fresh
                        }
                    }
                }
                None => fresh,
            };
            paces.insert(client.id, pace);
        }
        self.paces = paces;
    }
}

/// The viewers of playlists of all shards, each once.
fn sessions(shards: &[ShardSnapshot]) -> impl Iterator<Item = &Session> {
    let by_id: BTreeMap<u64, &Session> = shards
        .iter()
        .flat_map(|shard| &shard.sessions)
        .map(|session| (session.id, session))
        .collect();
    by_id.into_values()
}

fn tally_of(stream: &StreamSnapshot) -> Tally {
    let mut tally = stream.tally();
    if stream.is_home {
        let input = Figures {
            inputs: u64::from(stream.publisher.is_some()),
            down: stream.tracks.iter().map(|track| track.bytes).sum(),
            ..Figures::default()
        };
        tally.entry("INPUT:RTMP").or_default().add(&input);
    }
    tally
}

/// The requests of an argument that may be one, or a list of them.
fn each_request(argument: &Value) -> &[Value] {
    match argument.as_array() {
        Some(requests) if requests.iter().all(Value::is_object) => requests,
        Some(_) | None => std::slice::from_ref(argument),
    }
}

/// One reply for one request, a list for a list.
fn answer_each(argument: &Value, answer: impl FnMut(&Value) -> Value) -> Value {
    let is_list = matches!(argument, Value::Array(_));
    let mut answers: Vec<Value> = each_request(argument).iter().map(answer).collect();
    match answers.pop() {
        Some(only) if !is_list && answers.is_empty() => only,
        Some(last) => {
            answers.push(last);
            answers.into()
        }
        None => Value::Null,
    }
}

/// The fields that a request asks for, in the order of `all`'s names where it does not say.
fn fields_of(request: &Value, all: &[&str]) -> Vec<String> {
    let asked = names(&request["fields"]);
    let known: Vec<String> = asked
        .into_iter()
        .filter(|field| all.contains(&field.as_str()))
        .collect();
    if known.is_empty() {
        all.iter().map(|field| (*field).to_owned()).collect()
    } else {
        known
    }
}

const CLIENT_FIELDS: [&str; 13] = [
    "host",
    "stream",
    "protocol",
    "conntime",
    "position",
    "down",
    "up",
    "downbps",
    "upbps",
    "sessid",
    "pktcount",
    "pktlost",
    "pktretransmit",
];

/// `clients`: who is connected. Always as of the present: the past of each client is not kept, and
/// `time` in the reply says so.
pub(super) fn clients(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let clients = work.world.clients;
    let time = work.world.unix_ms / 1000;
    let paces = &api.history.paces;
    let answer = answer_each(argument, |request| {
        let fields = fields_of(request, &CLIENT_FIELDS);
        let (streams, protocols) = (names(&request["streams"]), names(&request["protocols"]));
        let data: Vec<Value> = clients
            .iter()
            .filter(|client| streams.is_empty() || streams.contains(&client.stream.to_string()))
            .filter(|client| {
                protocols.is_empty()
                    || protocols
                        .iter()
                        .any(|wanted| wanted.eq_ignore_ascii_case(client.protocol))
            })
            .map(|client| {
                let pace = paces.get(&client.id);
                fields
                    .iter()
                    .map(|field| client_field(client, pace, field))
                    .collect()
            })
            .collect();
        json!({"data": or_null(data.into()), "fields": fields, "time": time})
    });
    work.put("clients", answer);
}

fn client_field(client: &ClientSnapshot, pace: Option<&Pace>, field: &str) -> Value {
    let rate = |rate: fn(&Pace) -> f64| pace.map_or(0, |pace| rate(pace).round() as u64);
    match field {
        "host" => client
            .host
            .map_or_else(String::new, |host| host.to_string())
            .into(),
        "stream" => client.stream.as_str().into(),
        "protocol" => client.protocol.into(),
        "conntime" => client.age.as_secs().into(),
        "position" => (client.position_ms / 1000).into(),
        "down" => client.down.into(),
        "up" => client.up.into(),
        "downbps" => rate(|pace| pace.down_rate).into(),
        "upbps" => rate(|pace| pace.up_rate).into(),
        "sessid" => format_id(client.id).into(),
        _ => 0.into(),
    }
}

const TOTAL_FIELDS: [&str; 7] = [
    "clients",
    "inputs",
    "outputs",
    "downbps",
    "upbps",
    "perc_lost",
    "perc_retrans",
];

/// `totals`: sums over the last ten minutes, a row for each second. Those of single streams begin
/// when they are first asked for.
pub(super) fn totals(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let now = work.world.unix_ms / 1000;
    let samples = &api.history.samples;
    let answer = answer_each(argument, |request| total(samples, now, request));
    work.put("totals", answer);
}

fn total(samples: &VecDeque<Sample>, now: i64, request: &Value) -> Value {
    let fields = fields_of(request, &TOTAL_FIELDS);
    // Zero and below count from the present.
    let time = |name: &str, default: i64| match request[name].as_i64() {
        Some(time) if time <= 0 => now.saturating_add(time),
        Some(time) => time,
        None => default,
    };
    let (start, end) = (time("start", i64::MIN), time("end", i64::MAX));
    let (streams, protocols) = (names(&request["streams"]), names(&request["protocols"]));
    let sum = |sample: &Sample| -> Option<Figures> {
        let tallies: Vec<&Tally> = if streams.is_empty() {
            vec![&sample.tally]
        } else {
            streams
                .iter()
                .filter_map(|name| sample.streams.get(name))
                .collect()
        };
        let mut sum = Figures::default();
        let mut is_any = false;
        for (protocol, figures) in tallies.into_iter().flatten() {
            if protocols.is_empty()
                || protocols
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(protocol))
            {
                sum.add(figures);
                is_any = true;
            }
        }
        is_any.then_some(sum)
    };
    let points: Vec<(i64, Figures)> = samples
        .iter()
        .filter_map(|sample| Some((sample.unix_s, sum(sample)?)))
        .collect();
    let mut rows = Vec::new();
    let mut times = Vec::new();
    for pair in points.windows(2) {
        let [(before_s, before), (at, figures)] = pair else {
            continue;
        };
        if *at < start || *at > end {
            continue;
        }
        let seconds = (at - before_s).max(1) as u64;
        let rate = |new: u64, old: u64| new.saturating_sub(old) / seconds;
        let row: Value = fields
            .iter()
            .map(|field| match field.as_str() {
                "clients" => figures.viewers + figures.inputs + figures.outputs,
                "inputs" => figures.inputs,
                "outputs" => figures.outputs,
                "downbps" => rate(figures.down, before.down),
                "upbps" => rate(figures.up, before.up),
                _ => 0,
            })
            .collect();
        rows.push(row);
        times.push(*at);
    }
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return json!({
            "data": null, "end": null, "fields": fields, "interval": null, "start": null,
        });
    };
    json!({
        "data": rows,
        "end": last,
        "fields": fields,
        "interval": intervals(&times),
        "start": first,
    })
}

/// The distances between rows: `[how many, seconds]` for each run of equal ones.
fn intervals(times: &[i64]) -> Vec<(u64, i64)> {
    let mut runs: Vec<(u64, i64)> = Vec::new();
    for pair in times.windows(2) {
        let step = pair[1] - pair[0];
        match runs.last_mut() {
            Some((count, seconds)) if *seconds == step => *count += 1,
            Some(_) | None => runs.push((1, step)),
        }
    }
    runs
}

/// What all shards know of a stream.
#[derive(Default)]
pub(super) struct Whole<'a> {
    home: Option<&'a StreamSnapshot>,
    pub(super) viewers: u64,
    views: u64,
    view_seconds: u64,
    sent: u64,
}

impl Whole<'_> {
    pub(super) fn has_publisher(&self) -> bool {
        self.home.is_some_and(|home| home.publisher.is_some())
    }
}

/// The streams that are live somewhere.
pub(super) fn live(shards: &[ShardSnapshot]) -> BTreeMap<&StreamName, Whole<'_>> {
    let mut streams: BTreeMap<&StreamName, Whole<'_>> = BTreeMap::new();
    for stream in shards.iter().flat_map(|shard| &shard.streams) {
        let whole = streams.entry(&stream.name).or_default();
        if stream.is_home {
            whole.home = Some(stream);
        }
        let tally = stream.tally();
        whole.viewers += tally.values().map(|figures| figures.viewers).sum::<u64>();
        whole.sent += tally.values().map(|figures| figures.up).sum::<u64>();
        whole.views += stream.views;
        whole.view_seconds += stream.view_seconds;
    }
    streams.retain(|_, whole| whole.home.is_some());
    for session in sessions(shards) {
        if let Some(whole) = streams.get_mut(&session.stream) {
            whole.viewers += 1;
            whole.views += 1;
        }
    }
    streams
}

/// The fields of `active_streams` where a call does not say which.
const STREAM_FIELDS: [&str; 17] = [
    "downbytes",
    "firstms",
    "health",
    "inputs",
    "lastms",
    "outputs",
    "packloss",
    "packretrans",
    "packsent",
    "pid",
    "status",
    "tags",
    "tracks",
    "upbytes",
    "viewers",
    "views",
    "viewseconds",
];

/// Those that are shown only when they are asked for.
const MORE_STREAM_FIELDS: [&str; 4] = ["zerounix", "clients", "unspecified", "sourcepids"];

/// `active_streams`: true for names, a list of fields, or an object.
pub(super) fn active_streams(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let streams = live(work.world.shards);
    let row =
        |api: &Api, work: &Work<'_>, name: &StreamName, whole: &Whole<'_>, fields: &[String]| {
            let values = fields.iter();
            let values = values.map(|field| stream_field(api, work, name, whole, field));
            values.collect::<Vec<Value>>()
        };
    let answer = match argument {
        Value::Object(_) => {
            let mut wanted = names(&argument["stream"]);
            wanted.extend(names(&argument["streams"]));
            let chosen = streams.iter().filter(|(name, _)| {
                wanted.is_empty()
                    || wanted.iter().any(|wanted| {
                        wanted == name.as_str()
                            || (wanted.strip_suffix('+') == Some(name.base())
                                && name.wildcard().is_some())
                    })
            });
            let known = [&STREAM_FIELDS[..], &MORE_STREAM_FIELDS].concat();
            let fields = match argument["fields"].is_null() {
                true => fields_of(&Value::Null, &STREAM_FIELDS),
                false => fields_of(argument, &known),
            };
            if super::is_true(&argument["longform"]) {
                let streams = chosen.map(|(name, whole)| {
                    let values = row(api, work, name, whole, &fields);
                    let members: Map<_, _> = fields.iter().cloned().zip(values).collect();
                    (name.to_string(), Value::Object(members))
                });
                Value::Object(streams.collect())
            } else {
                let data: Map<_, _> = chosen
                    .map(|(name, whole)| {
                        (
                            name.to_string(),
                            row(api, work, name, whole, &fields).into(),
                        )
                    })
                    .collect();
                json!({"data": or_null(data.into()), "fields": fields})
            }
        }
        Value::Array(_) => {
            let fields = names(argument);
            let streams = streams
                .iter()
                .map(|(name, whole)| {
                    (
                        name.to_string(),
                        row(api, work, name, whole, &fields).into(),
                    )
                })
                .collect();
            or_null(Value::Object(streams))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let names: Vec<&str> = streams.keys().map(|name| name.as_str()).collect();
            or_null(json!(names))
        }
    };
    work.put("active_streams", answer);
}

/// `stats_streams`: true for names, or a list of the fields `clients` and `lastms`.
pub(super) fn stats_streams(api: &mut Api, work: &mut Work<'_>, argument: &Value) {
    let streams = live(work.world.shards);
    let fields = names(argument);
    let answer = if fields.is_empty() {
        let names: Vec<&str> = streams.keys().map(|name| name.as_str()).collect();
        or_null(json!(names))
    } else {
        let streams = streams
            .iter()
            .map(|(name, whole)| {
                let row: Value = fields
                    .iter()
                    .map(|field| match field.as_str() {
                        "clients" => whole.viewers.into(),
                        field => stream_field(api, work, name, whole, field),
                    })
                    .collect();
                (name.to_string(), row)
            })
            .collect();
        or_null(Value::Object(streams))
    };
    work.put("stats_streams", answer);
}

fn stream_field(
    api: &Api,
    work: &Work<'_>,
    name: &StreamName,
    whole: &Whole<'_>,
    field: &str,
) -> Value {
    let Some(home) = whole.home else {
        return Value::Null;
    };
    let inputs = u64::from(home.publisher.is_some());
    let tracks = &home.tracks;
    match field {
        "status" if inputs > 0 => "Online".into(),
        "status" => "Waiting for data".into(),
        "viewers" => whole.viewers.into(),
        "inputs" => inputs.into(),
        "clients" => (whole.viewers + inputs).into(),
        "tracks" => tracks.len().into(),
        "views" => whole.views.into(),
        "viewseconds" => whole.view_seconds.into(),
        "upbytes" => whole.sent.into(),
        "downbytes" => tracks.iter().map(|track| track.bytes).sum::<u64>().into(),
        "firstms" => tracks.iter().map(|track| track.first_ms).min().into(),
        "lastms" => tracks.iter().map(|track| track.last_ms).max().into(),
        "zerounix" => (home.unix_zero_ms / 1000).into(),
        "health" => health(work, name, home),
        "pid" => json!([work.world.pid]),
        "sourcepids" => Value::Array(Vec::new()),
        "tags" => tags_of(api, work, name),
        // Pushes, and the losses that TCP does not tell.
        _ => 0.into(),
    }
}

/// A stream's tracks. `keys` has means where MistServer has extremes, because only sums are kept;
/// `jitter` is not measured.
fn health(work: &Work<'_>, name: &StreamName, stream: &StreamSnapshot) -> Value {
    let mut health = Map::new();
    let mut buffer_max = 0;
    for track in &stream.tracks {
        let buffer = (track.last_ms - track.first_ms).max(0);
        buffer_max = buffer_max.max(buffer);
        health.insert(track_name(&track.track), track_health(track, buffer));
    }
    let tracks: Vec<String> = stream
        .tracks
        .iter()
        .map(|track| track_name(&track.track))
        .collect();
    let keep_away = name
        .settings(work.world.config)
        .map_or(0, |settings| settings.keep_away.as_millis() as u64);
    health.insert("buffer".to_owned(), buffer_max.into());
    health.insert("jitter".to_owned(), 0.into());
    health.insert("maxkeepaway".to_owned(), keep_away.into());
    health.insert("tracks".to_owned(), tracks.into());
    Value::Object(health)
}

fn track_health(track: &TrackSnapshot, buffer: i64) -> Value {
    let per_second = match (&track.track.video, &track.track.audio) {
        (Some(video), _) => f64::from(video.frames_per_1000_s) / 1000.0,
        (None, _) => 0.0,
    };
    let frames = track.frames / track.keyframes.max(1);
    let frame_ms = match (&track.track.audio, track.track.codec) {
        (Some(audio), Codec::Aac) => 1_024_000 / u64::from(audio.rate.max(1)),
        (Some(audio), Codec::Mp3) => 1_152_000 / u64::from(audio.rate.max(1)),
        _ if per_second > 0.0 => (1000.0 / per_second).round() as u64,
        _ => 0,
    };
    let mut health = json!({
        "buffer": buffer,
        "codec": track.track.codec.name(),
        "id": track.track.id.0 + 1,
        "idx": track.track.id.0,
        "jitter": 0,
        "kbits": track.bytes_per_s * 8 / 1000,
        "keys": {
            "frame_ms_max": frame_ms, "frame_ms_min": frame_ms,
            "frames_max": frames, "frames_min": frames,
            "ms_max": frames * frame_ms, "ms_min": frames * frame_ms,
        },
    });
    let mut extend = |value: Value| {
        if let (Value::Object(health), Value::Object(more)) = (&mut health, value) {
            health.extend(more);
        }
    };
    match track.track.kind() {
        Kind::Video => {
            if let Some(video) = &track.track.video {
                extend(json!({
                    "bframes": false,
                    "efpks": video.frames_per_1000_s,
                    "efps": per_second,
                    "fpks": video.frames_per_1000_s,
                    "fps": per_second,
                    "height": video.height,
                    "width": video.width,
                }));
            }
        }
        Kind::Audio => {
            if let Some(audio) = &track.track.audio {
                extend(json!({"channels": audio.channels, "rate": audio.rate}));
            }
        }
    }
    health
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(viewers: u64, up: u64) -> Tally {
        let figures = Figures {
            viewers,
            up,
            ..Figures::default()
        };
        Tally::from([("FLV", figures)])
    }

    fn history() -> VecDeque<Sample> {
        let mut history = History::default();
        for second in 0..700_i64 {
            if second != 690 {
                history.add(second, tally(3, second as u64 * 100), &[]);
            }
        }
        history.samples
    }

    #[test]
    fn totals_are_rates_with_a_row_for_each_second() {
        let samples = history();
        assert_eq!(samples.len(), HISTORY_S);
        let reply = total(
            &samples,
            699,
            &json!({"start": -5, "fields": ["clients", "upbps"]}),
        );
        assert_eq!(
            reply,
            json!({
                "data": [[3, 100], [3, 100], [3, 100], [3, 100], [3, 100], [3, 100]],
                "end": 699, "fields": ["clients", "upbps"], "interval": [[5, 1]], "start": 694,
            })
        );
    }

    #[test]
    fn a_second_that_was_missed_is_a_longer_interval() {
        let reply = total(&history(), 699, &json!({"start": 688, "end": 692}));
        assert_eq!(reply["interval"], json!([[1, 1], [1, 2], [1, 1]]));
        assert_eq!(reply["data"][2][4], 100, "a rate all the same");
    }

    #[test]
    fn what_is_not_there_is_null() {
        let reply = total(&history(), 699, &json!({"streams": ["live"], "start": -5}));
        assert_eq!(reply["data"], Value::Null);
        assert_eq!(reply["start"], Value::Null);
        let reply = total(&history(), 699, &json!({"protocols": ["RTMP"]}));
        assert_eq!(reply["data"], Value::Null);
        let reply = total(&history(), 699, &json!({"protocols": ["flv"], "start": -1}));
        assert_eq!(reply["data"][0][0], 3);
    }
}
