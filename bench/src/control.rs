//! The server's own numbers, from its control port.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// How long the control port may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// One answer of `/metrics`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    /// By name, summed over labels.
    sums: BTreeMap<String, f64>,
    /// Upper bounds in milliseconds and counts of the latency histogram, summed over shards.
    latency: Vec<(f64, f64)>,
}

impl Metrics {
    pub(crate) fn read(control: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self::parse(&get(control, "/metrics")?))
    }

    fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        let mut buckets: BTreeMap<u64, f64> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let value: f64 = value.parse().unwrap_or(0.0);
            let (plain, labels) = name.split_once('{').unwrap_or((name, ""));
            if plain == "ringside_added_latency_seconds_bucket" {
                let bound = labels
                    .split('"')
                    .skip_while(|part| !part.ends_with("le="))
                    .nth(1);
                let seconds = bound.and_then(|bound| bound.parse::<f64>().ok());
                let us = seconds
                    .filter(|s| s.is_finite())
                    .map_or(u64::MAX, |s| (s * 1e6) as u64);
                *buckets.entry(us).or_default() += value;
            } else {
                *metrics.sums.entry(plain.to_owned()).or_default() += value;
            }
        }
        let bound = |us: u64| {
            if us == u64::MAX {
                f64::INFINITY
            } else {
                us as f64 / 1e3
            }
        };
        metrics.latency = buckets
            .into_iter()
            .map(|(us, count)| (bound(us), count))
            .collect();
        metrics
    }

    /// The sum of all samples of `ringside_NAME`.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.sums
            .get(&format!("ringside_{name}"))
            .copied()
            .unwrap_or(0.0)
    }

    /// What has happened between an earlier answer and this one.
    pub(crate) fn since(&self, earlier: &Self) -> Value {
        let rise = |name: &str| self.sum(name) - earlier.sum(name);
        json!({
            "added_latency_ms": {
                "p50": self.latency_quantile(earlier, 0.5),
                "p99": self.latency_quantile(earlier, 0.99),
                "p999": self.latency_quantile(earlier, 0.999),
            },
            "sends": rise("ring_sends_total"),
            "enters": rise("ring_enters_total"),
            "completions": rise("ring_completions_total"),
            "runs_out": rise("runs_out_total"),
            "viewer_skips": rise("viewer_skips_total"),
            "viewers_stalled": rise("viewers_stalled_total"),
            "bad_media": rise("bad_media_total"),
            "retimed_frames": rise("retimed_frames_total"),
            "mirror_lost_frames": rise("mirror_lost_frames_total"),
            "merge_window_ms": self.sum("merge_window_milliseconds"),
        })
    }

    /// From cumulative buckets, as if values lay evenly in each.
    fn latency_quantile(&self, earlier: &Self, share: f64) -> Value {
        let counts: Vec<(f64, f64)> = self
            .latency
            .iter()
            .enumerate()
            .map(|(index, (bound, count))| {
                let before = earlier.latency.get(index).map_or(0.0, |(_, count)| *count);
                (*bound, count - before)
            })
            .collect();
        let total = counts.last().map_or(0.0, |(_, count)| *count);
        let wanted = total * share;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in counts {
            if count >= wanted && count > below {
                if bound.is_infinite() {
                    return json!(low);
                }
                let value = low + (bound - low) * (wanted - below) / (count - below);
                return json!((value * 1e3).round() / 1e3);
            }
            (low, below) = (bound, count);
        }
        Value::Null
    }
}

/// The body of the answer to one request.
fn get(control: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect_timeout(&control, ANSWER_MAX)
        .with_context(|| format!("the control port {control}"))?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: {control}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!(
            "the control port says {}",
            head.lines().next().unwrap_or_default()
        );
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_and_latency_is_told_from_the_difference() {
        let early = Metrics::parse("ringside_added_latency_seconds_bucket{le=\"0.001\"} 10\n");
        let late = Metrics::parse(
            "# HELP x\nringside_connections{shard=\"0\"} 2\nringside_connections{shard=\"1\"} 3\n\
             ringside_added_latency_seconds_bucket{le=\"0.001\"} 20\n\
             ringside_added_latency_seconds_bucket{le=\"0.002\"} 20\n\
             ringside_added_latency_seconds_bucket{le=\"+Inf\"} 20\n",
        );
        assert_eq!(late.sum("connections"), 5.0);
        assert_eq!(late.latency_quantile(&early, 0.5), json!(0.5));
    }
}
