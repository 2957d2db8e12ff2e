//! Publishers and viewers of a running server, and what they cost it.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use ringside::shard::clock;
use serde_json::{Map, Value, json};

use crate::control::Metrics;
use crate::fleet::{self, Plan, Tallies, Wanted};
use crate::process::Process;
use crate::publisher;
use crate::source::Source;
use crate::tally::Tally;
use crate::viewer::{Kind, Mix, Shared};

/// How long publishers may take to be let in.
const PUBLISH_MAX: Duration = Duration::from_secs(10);

/// How long viewers may take to see a picture after the last of them was to connect.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The server's RTMP port.
    #[arg(long, default_value = "127.0.0.1:1935")]
    pub rtmp: SocketAddr,
    /// The server's HTTP port.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// The server's control port, whose numbers are added to the result.
    #[arg(long)]
    pub control: Option<SocketAddr>,
    /// The stream to publish and play; further publishers take NAME+1, NAME+2 and so on.
    #[arg(long, default_value = "live")]
    pub stream: String,
    /// An FLV file, `synthetic`, or `synthetic:video_kbps,fps,gop_ms,audio_kbps,audio_fps`.
    #[arg(long, default_value = "synthetic")]
    pub publish: String,
    /// How many publishers; viewers are dealt out to their streams.
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
    /// How many viewers of which kind.
    #[arg(long, default_value = "rtmp=75,flv=75,ts=75,mp4=75")]
    pub viewers: Mix,
    /// How long to measure.
    #[arg(long, default_value_t = 20.0)]
    pub seconds: f64,
    /// How long to wait before that, once all viewers play.
    #[arg(long, default_value_t = 3.0)]
    pub warmup: f64,
    /// How long to publish before the first viewer connects.
    #[arg(long, default_value_t = 2.5)]
    pub lead: f64,
    /// The server's process.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Threads of viewers.
    #[arg(long, default_value_t = 1)]
    pub shards: usize,
    /// New viewers a second.
    #[arg(long, default_value_t = 200.0)]
    pub connect_rate: f64,
    /// One viewer in this many is read to the frame; the others count bytes and gaps.
    #[arg(long, default_value_t = 10)]
    pub sample: usize,
    /// Microseconds to gather deliveries for when there are many. It makes this side cheaper, and
    /// the server's sends too, because it is woken less often.
    #[arg(long, default_value_t = 0)]
    pub gather_us: u64,
}

/// Runs it, and writes one line of JSON to `out`. True if nothing went wrong.
pub fn run(options: &Options, out: &mut impl Write) -> anyhow::Result<bool> {
    let kinds = options.viewers.kinds();
    let server = options.pid.map(Process::new);
    let shared = Arc::new(Shared::default());
    let rss_idle = server.map(Process::rss).transpose()?;
    let publish = start_publishers(options, &shared)?;
    pause(Duration::from_secs_f64(options.lead));
    let rss_start = server.map(Process::rss).transpose()?;

    let threads = plans(options, &kinds)
        .into_iter()
        .map(|plan| fleet::spawn(plan, &shared))
        .collect::<Result<Vec<_>, _>>()?;
    let connecting = Duration::from_secs_f64(kinds.len() as f64 / options.connect_rate);
    let settled = wait_until(connecting + SETTLE_MAX, || {
        shared.settled.load(Ordering::Relaxed) >= kinds.len()
    });
    if !settled {
        eprintln!("not every viewer has a picture");
    }
    pause(Duration::from_secs_f64(options.warmup));

    let before = Sample::take(options, &shared)?;
    shared.is_measuring.store(true, Ordering::Relaxed);
    watch(options, &shared, &before, &publish)?;
    let after = Sample::take(options, &shared)?;
    shared.is_measuring.store(false, Ordering::Relaxed);
    let rss_end = server.map(Process::rss).transpose()?;

    shared.is_over.store(true, Ordering::Relaxed);
    let tallies = join(threads)?;
    let lost_publisher = publish.join().expect("publishers do not panic").err();
    if let Some(error) = &lost_publisher {
        eprintln!("{error:#}");
    }

    let total = total(&tallies);
    let mut result = Map::new();
    result.insert("kind".to_owned(), json!("streams"));
    result.insert("viewers".to_owned(), counts(&kinds));
    result.insert("publishers".to_owned(), json!(options.publishers));
    result.insert("publish".to_owned(), json!(options.publish));
    after.describe(&before, kinds.len(), &mut result);
    let per_viewer = rss_end.zip(rss_start).filter(|_| !kinds.is_empty());
    result.insert("rss_idle".to_owned(), json!(rss_idle));
    result.insert("rss_start".to_owned(), json!(rss_start));
    result.insert("rss_end".to_owned(), json!(rss_end));
    result.insert(
        "rss_per_viewer".to_owned(),
        json!(per_viewer.map(|(end, start)| (end as f64 - start as f64) / kinds.len() as f64)),
    );
    describe_tally(&total, &mut result);
    result.insert("by_kind".to_owned(), by_kind(&tallies));
    result.insert(
        "publisher_lost".to_owned(),
        json!(lost_publisher.map(|e| e.to_string())),
    );
    writeln!(out, "{}", Value::Object(result))?;
    Ok(settled && total.errors == 0 && total.disconnects == 0 && total.stalls == 0)
}

pub(crate) type Publishing = JoinHandle<anyhow::Result<()>>;

fn start_publishers(options: &Options, shared: &Arc<Shared>) -> anyhow::Result<Publishing> {
    let names = (0..options.publishers).map(|index| stream_name(options, index));
    publish(options.rtmp, names.collect(), &options.publish, shared)
}

/// Publishes `source` under each of `names`; returns when all are let in.
pub(crate) fn publish(
    rtmp: SocketAddr,
    names: Vec<String>,
    source: &str,
    shared: &Arc<Shared>,
) -> anyhow::Result<Publishing> {
    let count = names.len();
    let publishers = names
        .into_iter()
        .map(|name| Ok((name, Source::open(source)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let thread = publisher::spawn(rtmp, publishers, shared)?;
    let is_ready = || shared.publishing.load(Ordering::Relaxed) >= count;
    wait_until(PUBLISH_MAX, || is_ready() || thread.is_finished());
    if is_ready() {
        return Ok(thread);
    }
    shared.is_over.store(true, Ordering::Relaxed);
    thread.join().expect("publishers do not panic")?;
    bail!("the server did not let the publishers in");
}

fn stream_name(options: &Options, index: usize) -> String {
    match index {
        0 => options.stream.clone(),
        _ => format!("{}+{index}", options.stream),
    }
}

/// Deals the viewers out to threads and streams.
fn plans(options: &Options, kinds: &[Kind]) -> Vec<Plan> {
    let shards = options.shards.max(1);
    let streams: Vec<Arc<str>> = (0..options.publishers.max(1))
        .map(|index| stream_name(options, index).into())
        .collect();
    let wanted = |(index, kind): (usize, &Kind)| Wanted {
        kind: *kind,
        stream: Arc::clone(&streams[index % streams.len()]),
        address: if *kind == Kind::Rtmp {
            options.rtmp
        } else {
            options.http
        },
    };
    (0..shards)
        .map(|shard| Plan {
            viewers: kinds
                .iter()
                .enumerate()
                .skip(shard)
                .step_by(shards)
                .map(wanted)
                .collect(),
            connect_rate: options.connect_rate / shards as f64,
            sample: options.sample,
            gather: Duration::from_micros(options.gather_us),
        })
        .collect()
}

/// One look at everything that only rises.
struct Sample {
    at: Instant,
    bytes: u64,
    server: Option<Duration>,
    client: Duration,
    metrics: Option<Metrics>,
}

impl Sample {
    fn take(options: &Options, shared: &Shared) -> anyhow::Result<Self> {
        let metrics = options.control.map(Metrics::read).transpose()?;
        Ok(Self {
            at: clock::now(),
            bytes: shared.bytes.load(Ordering::Relaxed),
            server: options.pid.map(|pid| Process::new(pid).cpu()).transpose()?,
            client: Process::own().cpu()?,
            metrics,
        })
    }

    fn describe(&self, before: &Self, viewers: usize, result: &mut Map<String, Value>) {
        let seconds = (self.at - before.at).as_secs_f64();
        let bytes = self.bytes - before.bytes;
        let server = self
            .server
            .zip(before.server)
            .map(|(after, before)| after - before);
        let cpu = server.map(|cpu| cpu.as_secs_f64());
        let client = (self.client - before.client).as_secs_f64();
        let mut put = |name: &str, value: Value| result.insert(name.to_owned(), value);
        put("seconds", json!(seconds));
        put("bytes", json!(bytes));
        put("mbit_s", json!(bytes as f64 * 8e-6 / seconds));
        put("server_cpu_s", json!(cpu));
        put("server_cpu_share", json!(cpu.map(|cpu| cpu / seconds)));
        let gigabytes = bytes as f64 / 1e9;
        let per_gb = cpu.filter(|_| bytes > 0).map(|cpu| cpu / gigabytes);
        put("cpu_s_per_gb", json!(per_gb));
        let viewer_seconds = viewers as f64 * seconds;
        let per_viewer = cpu
            .filter(|_| viewers > 0)
            .map(|cpu| cpu * 1e6 / viewer_seconds);
        put("cpu_us_per_viewer_s", json!(per_viewer));
        put("client_cpu_s", json!(client));
        let metrics = self.metrics.as_ref().zip(before.metrics.as_ref());
        put(
            "server",
            json!(metrics.map(|(after, before)| after.since(before))),
        );
    }
}

/// Waits for the measurement's end, with a line each second.
fn watch(
    options: &Options,
    shared: &Shared,
    before: &Sample,
    publish: &Publishing,
) -> anyhow::Result<()> {
    let end = before.at + Duration::from_secs_f64(options.seconds);
    let server = options.pid.map(Process::new);
    let (mut bytes, mut cpu, mut at) = (before.bytes, before.server, before.at);
    loop {
        let left = end.saturating_duration_since(clock::now());
        if left.is_zero() || publish.is_finished() {
            return Ok(());
        }
        pause(left.min(Duration::from_secs(1)));
        let (old_bytes, old_cpu, old_at) = (bytes, cpu, at);
        bytes = shared.bytes.load(Ordering::Relaxed);
        cpu = server.map(Process::cpu).transpose()?;
        at = clock::now();
        let seconds = (at - old_at).as_secs_f64();
        let rate = (bytes - old_bytes) as f64 * 8e-6 / seconds;
        let used = cpu
            .zip(old_cpu)
            .map(|(cpu, old)| (cpu - old).as_secs_f64() / seconds * 100.0);
        eprintln!(
            "{:5.1} s  {rate:8.1} Mbit/s  server {:5.1} % of a CPU",
            (at - before.at).as_secs_f64(),
            used.unwrap_or(f64::NAN),
        );
    }
}

/// Waits for threads of viewers, and puts together what they have measured.
pub(crate) fn join(threads: Vec<JoinHandle<std::io::Result<Tallies>>>) -> anyhow::Result<Tallies> {
    let mut all: Tallies = Vec::new();
    for thread in threads {
        let tallies = thread
            .join()
            .expect("viewers do not panic")
            .context("a thread of viewers")?;
        for (kind, tally) in tallies {
            match all.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, sum)) => sum.add(&tally),
                None => all.push((kind, tally)),
            }
        }
    }
    Ok(all)
}

pub(crate) fn total(tallies: &Tallies) -> Tally {
    let mut total = Tally::default();
    tallies.iter().for_each(|(_, tally)| total.add(tally));
    total
}

pub(crate) fn describe_tally(tally: &Tally, result: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| result.insert(name.to_owned(), value);
    put("added_latency_ms", tally.latency.summary());
    put("delivery_gap_ms", tally.gap.summary());
    put("first_byte_ms", tally.first_byte.summary());
    put("first_frame_ms", tally.first_keyframe.summary());
    put("stalls", json!(tally.stalls));
    put("errors", json!(tally.errors));
    put("disconnects", json!(tally.disconnects));
    put("complaint", json!(tally.complaint));
}

fn by_kind(tallies: &Tallies) -> Value {
    let kinds = tallies.iter().filter_map(|(kind, tally)| {
        let mut result = Map::new();
        result.insert("added_latency_ms".to_owned(), tally.latency.summary());
        result.insert("first_frame_ms".to_owned(), tally.first_keyframe.summary());
        let has_played = tally.first_keyframe.summary()["count"] != json!(0);
        has_played.then(|| (kind.name().to_owned(), Value::Object(result)))
    });
    Value::Object(kinds.collect())
}

fn counts(kinds: &[Kind]) -> Value {
    let mut counts = Map::new();
    counts.insert("all".to_owned(), json!(kinds.len()));
    for kind in Kind::CONTAINERS {
        let count = kinds.iter().filter(|known| **known == kind).count();
        counts.insert(kind.name().to_owned(), json!(count));
    }
    Value::Object(counts)
}

/// Waits until `is_done`, for `limit` at most. True if it is.
pub(crate) fn wait_until(limit: Duration, mut is_done: impl FnMut() -> bool) -> bool {
    let end = clock::now() + limit;
    while !is_done() {
        if clock::now() >= end {
            return false;
        }
        pause(Duration::from_millis(10));
    }
    true
}

#[expect(
    clippy::disallowed_methods,
    reason = "this thread only waits for others"
)]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}
