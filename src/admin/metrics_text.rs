//! The metrics in Prometheus' text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use crate::metrics::{Engine, Latency};

/// Upper bounds of the latency buckets, in microseconds.
const LATENCY_BUCKETS_US: [u64; 16] = [
    50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000, 20_000, 35_000, 50_000, 75_000, 100_000,
    200_000, 1_000_000,
];

/// One sample: labels and value.
pub type Sample = (Vec<(&'static str, String)>, u64);

/// What a door has to tell about one quantity.
#[derive(Debug)]
pub struct Family {
    /// The name, without the `ringside_` that all have.
    pub name: &'static str,
    /// One line of explanation.
    pub help: &'static str,
    /// It only ever rises.
    pub is_counter: bool,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// All metrics: the engines by shard, and what the doors have to tell.
pub fn metrics_text(engines: &BTreeMap<u16, Engine>, families: &[Family]) -> String {
    let mut out = String::new();
    for (name, help, is_counter, value) in ENGINE {
        header(
            &mut out,
            name,
            help,
            if *is_counter { "counter" } else { "gauge" },
        );
        for (shard, engine) in engines {
            sample(
                &mut out,
                name,
                &[("shard", shard.to_string())],
                value(engine),
            );
        }
    }
    let name = "cpu_seconds_total";
    header(&mut out, name, "CPU time of the shard's thread.", "counter");
    for (shard, engine) in engines {
        let seconds = engine.cpu_us as f64 / 1e6;
        sample(&mut out, name, &[("shard", shard.to_string())], seconds);
    }
    let name = "sends_per_enter";
    header(
        &mut out,
        name,
        "Sends for each time that the shard entered its ring.",
        "gauge",
    );
    for (shard, engine) in engines {
        let ratio = engine.sends as f64 / engine.enters.max(1) as f64;
        sample(&mut out, name, &[("shard", shard.to_string())], ratio);
    }
    latency(&mut out, engines);
    segments(&mut out, engines);
    for family in families {
        let kind = if family.is_counter {
            "counter"
        } else {
            "gauge"
        };
        header(&mut out, family.name, family.help, kind);
        for (labels, value) in &family.samples {
            sample(&mut out, family.name, labels, value);
        }
    }
    out
}

type Column = (&'static str, &'static str, bool, fn(&Engine) -> u64);

const ENGINE: &[Column] = &[
    ("connections", "Open connections.", false, |e| e.connections),
    ("received_bytes_total", "Bytes received.", true, |e| {
        e.received_bytes
    }),
    ("accepted_total", "Connections accepted.", true, |e| {
        e.accepted
    }),
    (
        "displaced_total",
        "Idle connections closed to make room for newer ones.",
        true,
        |e| e.displaced,
    ),
    (
        "refused_total",
        "Connections refused because all places were taken.",
        true,
        |e| e.refused,
    ),
    (
        "accept_failures_total",
        "Times that accepting failed.",
        true,
        |e| e.accept_failures,
    ),
    (
        "overfull_total",
        "Connections closed because they did not read their answers.",
        true,
        |e| e.overfull,
    ),
    (
        "tls_connections",
        "Open TLS connections, those in their handshake included.",
        false,
        |e| e.tls_connections,
    ),
    (
        "tls_handshakes_total",
        "TLS handshakes that have ended well.",
        true,
        |e| e.tls_handshakes,
    ),
    (
        "tls_handshake_failures_total",
        "TLS connections that were gone before their handshake had ended.",
        true,
        |e| e.tls_failures,
    ),
    (
        "stalled_total",
        "Connections closed because they took nothing of an answer for too long.",
        true,
        |e| e.stalled,
    ),
    (
        "ring_enters_total",
        "Times that the shard entered its ring.",
        true,
        |e| e.enters,
    ),
    (
        "ring_completions_total",
        "Completions of the ring.",
        true,
        |e| e.completions,
    ),
    (
        "ring_sends_total",
        "Sends submitted to the ring.",
        true,
        |e| e.sends,
    ),
    (
        "ring_no_buffers_total",
        "Times that the kernel had no receive buffer.",
        true,
        |e| e.no_buffers,
    ),
    (
        "ring_errors_total",
        "Operations of the ring that ended with an error.",
        true,
        |e| e.operation_errors,
    ),
    (
        "datagrams_received_total",
        "Receives of datagrams.",
        true,
        |e| e.datagrams_received,
    ),
    (
        "datagrams_truncated_total",
        "Datagrams that did not fit in a receive buffer.",
        true,
        |e| e.datagrams_truncated,
    ),
    (
        "datagram_sends_total",
        "Sends of datagrams, of one or several each.",
        true,
        |e| e.datagram_sends,
    ),
    (
        "datagrams_sent_total",
        "Datagrams that the kernel has taken.",
        true,
        |e| e.datagrams_sent,
    ),
    (
        "datagram_sends_full_total",
        "Sends of datagrams lost because the socket or the device was full.",
        true,
        |e| e.datagram_sends_full,
    ),
    (
        "datagram_sends_failed_total",
        "Sends of datagrams that failed for another reason.",
        true,
        |e| e.datagram_sends_failed,
    ),
    (
        "datagram_sends_dropped_total",
        "Sends of datagrams that were not submitted because too many were under way.",
        true,
        |e| e.datagram_sends_dropped,
    ),
    (
        "mesh_depth",
        "Messages under way to other shards.",
        false,
        |e| e.mesh_depth,
    ),
    (
        "mesh_dropped_total",
        "Frames dropped because another shard's queue was full.",
        true,
        |e| e.mesh_dropped,
    ),
];

fn latency(out: &mut String, engines: &BTreeMap<u16, Engine>) {
    let name = "added_latency_seconds";
    let help =
        "From the receipt of a frame's last byte to the submission of the send that carries it.";
    header(out, name, help, "histogram");
    let mut all = Latency::default();
    for engine in engines.values() {
        all.add(&engine.latency);
    }
    for us in LATENCY_BUCKETS_US {
        let le = format!("{}", us as f64 / 1e6);
        sample(
            out,
            "added_latency_seconds_bucket",
            &[("le", le)],
            all.at_most(us),
        );
    }
    let infinite = [("le", "+Inf".to_owned())];
    sample(out, "added_latency_seconds_bucket", &infinite, all.count());
    sample(out, "added_latency_seconds_sum", &[], all.sum_us() / 1e6);
    sample(out, "added_latency_seconds_count", &[], all.count());
}

fn segments(out: &mut String, engines: &BTreeMap<u16, Engine>) {
    let name = "webrtc_segments_per_send";
    let help = "Packets of WebRTC media that leave in one send.";
    header(out, name, help, "histogram");
    let of = |size: usize| -> u64 { engines.values().map(|engine| engine.segments[size]).sum() };
    let (mut count, mut sum) = (0, 0);
    for size in 1..17 {
        count += of(size);
        sum += size as u64 * of(size);
        let le = [("le", size.to_string())];
        sample(out, "webrtc_segments_per_send_bucket", &le, count);
    }
    let infinite = [("le", "+Inf".to_owned())];
    sample(out, "webrtc_segments_per_send_bucket", &infinite, count);
    sample(out, "webrtc_segments_per_send_sum", &[], sum);
    sample(out, "webrtc_segments_per_send_count", &[], count);
}

fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "# HELP ringside_{name} {help}\n# TYPE ringside_{name} {kind}\n"
    );
}

fn sample(out: &mut String, name: &str, labels: &[(&'static str, String)], value: impl Display) {
    let _ = write!(out, "ringside_{name}");
    for (index, (label, text)) in labels.iter().enumerate() {
        let open = if index == 0 { '{' } else { ',' };
        let _ = write!(out, "{open}{label}=\"{}\"", escape(text));
    }
    if !labels.is_empty() {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn samples_have_labels_and_values() {
        let mut engine = Engine {
            connections: 7,
            ..Engine::default()
        };
        engine.latency.record(Duration::from_micros(150), 3);
        engine.datagram_sends_full = 4;
        engine.segments[7] = 10;
        engine.segments[16] = 1;
        let family = Family {
            name: "stream_viewers",
            help: "Viewers.",
            is_counter: false,
            samples: vec![(vec![("stream", "a\"b".to_owned())], 5)],
        };
        let text = metrics_text(&BTreeMap::from([(1, engine)]), &[family]);
        for line in [
            "ringside_connections{shard=\"1\"} 7",
            "ringside_added_latency_seconds_bucket{le=\"0.0001\"} 0",
            "ringside_added_latency_seconds_bucket{le=\"0.0002\"} 3",
            "ringside_added_latency_seconds_count 3",
            "ringside_datagram_sends_full_total{shard=\"1\"} 4",
            "ringside_webrtc_segments_per_send_bucket{le=\"6\"} 0",
            "ringside_webrtc_segments_per_send_bucket{le=\"7\"} 10",
            "ringside_webrtc_segments_per_send_bucket{le=\"+Inf\"} 11",
            "ringside_webrtc_segments_per_send_sum 86",
            "ringside_webrtc_segments_per_send_count 11",
            "ringside_stream_viewers{stream=\"a\\\"b\"} 5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
