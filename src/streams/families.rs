//! What the streams have to tell Prometheus.

use std::collections::BTreeMap;

use crate::streams::output::Container;
use crate::streams::rtc::COLUMNS;
use crate::streams::segments::Form;
use crate::streams::snapshot::{Counters, ShardSnapshot};

/// A quantity with its samples, in the form that `admin` writes.
pub type Row = (
    &'static str,
    &'static str,
    bool,
    Vec<(Vec<(&'static str, String)>, u64)>,
);

/// All quantities of all shards.
pub fn families(shards: &[ShardSnapshot]) -> Vec<Row> {
    let mut rows: Vec<Row> = vec![
        by_protocol(
            "viewers",
            "Viewers by shard and protocol.",
            false,
            shards
                .iter()
                .map(|s| ("shard", s.shard.to_string(), s.viewers)),
        ),
        by_protocol(
            "media_out_bytes_total",
            "Bytes handed over for viewers, by shard and protocol.",
            true,
            shards
                .iter()
                .map(|s| ("shard", s.shard.to_string(), s.counters.bytes_out)),
        ),
        segment_bytes(shards),
        sessions(shards),
    ];
    for (name, help, is_counter, value) in SHARD {
        let samples = shards
            .iter()
            .map(|shard| (vec![("shard", shard.shard.to_string())], value(shard)))
            .collect();
        rows.push((name, help, *is_counter, samples));
    }
    for (name, help, is_counter, value) in COLUMNS {
        let samples = shards
            .iter()
            .map(|shard| {
                let label = vec![("shard", shard.shard.to_string())];
                (label, value(&shard.rtc))
            })
            .collect();
        rows.push((name, help, *is_counter, samples));
    }
    for (name, help, value) in COUNTERS {
        let samples = shards
            .iter()
            .map(|shard| {
                (
                    vec![("shard", shard.shard.to_string())],
                    value(&shard.counters),
                )
            })
            .collect();
        rows.push((name, help, true, samples));
    }
    rows.extend(stream_rows(shards));
    for other in shards.iter().flat_map(|shard| &shard.others) {
        match rows.iter_mut().find(|(name, ..)| *name == other.0) {
            Some(row) => row.3.extend(other.3.iter().cloned()),
            None => rows.push(other.clone()),
        }
    }
    rows
}

fn by_protocol(
    name: &'static str,
    help: &'static str,
    is_counter: bool,
    rows: impl Iterator<Item = (&'static str, String, [u64; Container::ALL.len()])>,
) -> Row {
    let samples = rows
        .flat_map(|(label, value, counts)| {
            Container::ALL.iter().map(move |container| {
                let protocol = ("protocol", container.name().to_owned());
                (
                    vec![(label, value.clone()), protocol],
                    counts[*container as usize],
                )
            })
        })
        .collect();
    (name, help, is_counter, samples)
}

fn segment_bytes(shards: &[ShardSnapshot]) -> Row {
    let samples = shards
        .iter()
        .flat_map(|shard| {
            [Form::Ts, Form::Cmaf].map(|form| {
                let labels = vec![
                    ("shard", shard.shard.to_string()),
                    ("protocol", form.name().to_owned()),
                ];
                (labels, shard.counters.segment_bytes_out[form as usize])
            })
        })
        .collect();
    let help = "Bytes of segments and parts handed over, by shard and protocol.";
    ("segment_out_bytes_total", help, true, samples)
}

/// A viewer whose requests reach several shards is counted once.
fn sessions(shards: &[ShardSnapshot]) -> Row {
    let all: BTreeMap<u64, Form> = shards
        .iter()
        .flat_map(|shard| &shard.sessions)
        .map(|session| (session.id, session.form))
        .collect();
    let samples = [Form::Ts, Form::Cmaf]
        .map(|form| {
            let count = all.values().filter(|other| **other == form).count();
            (vec![("protocol", form.name().to_owned())], count as u64)
        })
        .into();
    let help = "Viewers of playlists: sessions with a request in the last 15 seconds.";
    ("segment_viewers", help, false, samples)
}

type ShardColumn = (&'static str, &'static str, bool, fn(&ShardSnapshot) -> u64);

const SHARD: &[ShardColumn] = &[
    ("publishers", "Connections that publish.", false, |s| {
        s.publishers
    }),
    (
        "waiting_viewers",
        "Connections that wait for a stream to go live.",
        false,
        |s| s.waiting,
    ),
    (
        "merge_window_milliseconds",
        "How long frames are gathered before they are sent.",
        false,
        |s| s.merge_window_ms,
    ),
    (
        "waiting_segment_requests",
        "Requests that wait for a part or a segment.",
        false,
        |s| s.segment_waiters,
    ),
    ("slabs_in_use", "Slabs of 64 KiB in use.", false, |s| {
        s.slabs_in_use
    }),
    (
        "slabs",
        "Slabs of 64 KiB, idle ones included.",
        false,
        |s| s.slabs,
    ),
];

type CounterColumn = (&'static str, &'static str, fn(&Counters) -> u64);

const COUNTERS: &[CounterColumn] = &[
    (
        "waiters_refused_total",
        "Requests refused because too many wait for parts and segments.",
        |c| c.waiters_refused,
    ),
    ("frames_in_total", "Frames from publishers.", |c| {
        c.frames_in
    }),
    ("media_in_bytes_total", "Bytes of these frames.", |c| {
        c.bytes_in
    }),
    (
        "runs_out_total",
        "Runs of frames handed over for viewers.",
        |c| c.runs_out,
    ),
    ("bad_media_total", "Media that could not be read.", |c| {
        c.bad_media
    }),
    (
        "retimed_frames_total",
        "Frames whose time was levelled out or rejoined.",
        |c| c.retimed,
    ),
    (
        "viewer_skips_total",
        "Times that a slow viewer was moved to the newest keyframe.",
        |c| c.skips,
    ),
    (
        "viewers_stalled_total",
        "Viewers closed because they took nothing.",
        |c| c.stalled,
    ),
    ("publish_refused_total", "Publishers refused.", |c| {
        c.publish_refused
    }),
    (
        "play_refused_total",
        "Viewers refused, or that waited in vain.",
        |c| c.play_refused,
    ),
    (
        "mirror_lost_frames_total",
        "Frames lost between shards.",
        |c| c.mirror_lost,
    ),
    ("viewers_total", "Viewers since the start.", |c| {
        c.viewers_total
    }),
    ("publishers_total", "Publishers since the start.", |c| {
        c.publishers_total
    }),
    ("packets_in_total", "Packets from publishers.", |c| {
        c.packets_in
    }),
    (
        "packets_out_total",
        "Packets handed over for viewers, counted for each viewer.",
        |c| c.packets_out,
    ),
    ("frames_built_total", "Frames built from packets.", |c| {
        c.frames_built
    }),
    (
        "keyframes_wanted_total",
        "Keyframes that viewers asked for.",
        |c| c.keyframes_wanted,
    ),
    (
        "keyframes_asked_total",
        "Keyframes that publishers were asked for.",
        |c| c.keyframes_asked,
    ),
];

#[derive(Default)]
struct StreamSum {
    frames_in: u64,
    bytes_in: u64,
    bytes_out: [u64; Container::ALL.len()],
    skips: u64,
    log_bytes: u64,
    publishers: u64,
    viewers: [u64; Container::ALL.len()],
}

fn stream_rows(shards: &[ShardSnapshot]) -> Vec<Row> {
    let mut sums: BTreeMap<String, StreamSum> = BTreeMap::new();
    for stream in shards.iter().flat_map(|shard| &shard.streams) {
        let sum = sums.entry(stream.name.to_string()).or_default();
        if stream.is_home {
            sum.publishers = u64::from(stream.publisher.is_some());
            sum.log_bytes = stream.log_bytes;
            sum.frames_in = stream.tracks.iter().map(|track| track.frames).sum();
            sum.bytes_in = stream.tracks.iter().map(|track| track.bytes).sum();
        }
        for (sum, bytes) in sum.bytes_out.iter_mut().zip(stream.bytes_out) {
            *sum += bytes;
        }
        sum.skips += stream.skips;
        for (sum, viewers) in sum.viewers.iter_mut().zip(stream.viewers) {
            *sum += viewers;
        }
    }
    let column = |value: fn(&StreamSum) -> u64| {
        sums.iter()
            .map(|(name, sum)| (vec![("stream", name.clone())], value(sum)))
            .collect()
    };
    vec![
        by_protocol(
            "stream_viewers",
            "Viewers by stream and protocol.",
            false,
            sums.iter()
                .map(|(name, s)| ("stream", name.clone(), s.viewers)),
        ),
        by_protocol(
            "stream_media_out_bytes_total",
            "Bytes handed over for viewers, by stream and protocol.",
            true,
            sums.iter()
                .map(|(name, s)| ("stream", name.clone(), s.bytes_out)),
        ),
        (
            "stream_publishers",
            "1 while somebody publishes the stream.",
            false,
            column(|s| s.publishers),
        ),
        (
            "stream_frames_in_total",
            "Frames of the stream.",
            true,
            column(|s| s.frames_in),
        ),
        (
            "stream_media_in_bytes_total",
            "Bytes of these frames.",
            true,
            column(|s| s.bytes_in),
        ),
        (
            "stream_viewer_skips_total",
            "Times that a viewer of the stream was moved to the newest keyframe.",
            true,
            column(|s| s.skips),
        ),
        (
            "stream_log_bytes",
            "Bytes of frames kept.",
            false,
            column(|s| s.log_bytes),
        ),
    ]
}
