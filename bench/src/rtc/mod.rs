//! Subscribers by WHEP and publishers by WHIP, and what they cost the server.
//!
//! Each client posts an offer, checks its path, shakes hands and has keys of its own. Publishers run
//! on one thread and subscribers on others, so that a frame goes out when it is due.

mod crew;
mod gaps;
pub(crate) mod media;
mod netem;
mod options;
pub(crate) mod peer;
mod post;
mod publisher;
pub(crate) mod sdp;
pub(crate) mod socket;
mod subscriber;
mod tally;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use ringside::proto::dtls;
use ringside::proto::srtp::Profile;
use ringside::shard::clock;
use serde_json::{Map, Value, json};

use self::crew::{Crew, Newcomer, Plan};
pub use self::media::Codec;
use self::netem::Harm;
pub use self::options::{Options, Share, Version, Way};
use self::publisher::Publisher;
use self::subscriber::Subscriber;
use self::tally::{Phase, Shared, Tally};
use crate::control::Metrics;
use crate::process::Process;
use crate::stamp;
use crate::streams::{pause, wait_until};

/// How long publishers may take to be connected.
const PUBLISH_MAX: Duration = Duration::from_secs(10);

/// How long subscribers may take to have media after the last of them was to connect.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// How long what was lost may take to come again after the measurement.
const SETTLING: Duration = Duration::from_millis(500);

/// Subscribers, and publishers of what they play unless others publish it. Writes one line of JSON
/// to `out`. True if nothing went wrong.
pub fn whep(options: &Options, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut options = options.clone();
    if options.no_publisher {
        options.publishers = 0;
    }
    run("whep", &options, out)
}

/// Publishers alone. Writes one line of JSON to `out`. True if nothing went wrong.
pub fn whip(options: &Options, out: &mut impl Write) -> anyhow::Result<bool> {
    let options = Options {
        subscribers: 0,
        ..options.clone()
    };
    run("whip", &options, out)
}

type Working = JoinHandle<io::Result<Tally>>;

fn run(kind: &str, options: &Options, out: &mut impl Write) -> anyhow::Result<bool> {
    options.check()?;
    // Marks and the times of the kernel are of one clock, which begins here.
    stamp::nanoseconds();
    let dtls_options = dtls::Options {
        versions: options.dtls.versions(),
        ..dtls::Options::default()
    };
    let certificate = Arc::new(dtls::Certificate::generate()?);
    let context = dtls::Context::new(certificate, dtls_options)?;
    let server = options.pid.map(Process::new);

    let publishing = Arc::new(Shared::default());
    let publishers = spawn_publishers(options, &context, &publishing)?;
    wait_until(PUBLISH_MAX, || {
        let connected = publishing.connected.load(Ordering::Relaxed);
        connected + publishing.failed.load(Ordering::Relaxed) >= options.publishers
    });
    pause(Duration::from_secs_f64(options.lead));

    let playing = Arc::new(Shared::default());
    let before_joins = Look::take(options, &publishing, &playing)?;
    let subscribers = spawn_subscribers(options, &context, &playing)?;
    let connecting = Duration::from_secs_f64(options.subscribers as f64 / options.connect_rate);
    let joined = wait_until(connecting + SETTLE_MAX, || {
        let failed = playing.failed.load(Ordering::Relaxed);
        playing.connected.load(Ordering::Relaxed) + failed >= options.subscribers
            || playing.is_broken.load(Ordering::Relaxed)
    });
    let after_joins = Look::take(options, &publishing, &playing)?;
    if !options.leave {
        wait_until(SETTLE_MAX, || {
            let failed = playing.failed.load(Ordering::Relaxed);
            playing.settled.load(Ordering::Relaxed) + failed >= options.subscribers
        });
    }
    pause(Duration::from_secs_f64(options.warmup));

    let metrics = options.control.map(Metrics::read).transpose()?;
    let before = Look::take(options, &publishing, &playing)?;
    enter(&publishing, &playing, Phase::Measuring);
    pause(Duration::from_secs_f64(options.seconds));
    let after = Look::take(options, &publishing, &playing)?;
    let metrics_after = options.control.map(Metrics::read).transpose()?;
    enter(&publishing, &playing, Phase::Settling);
    pause(SETTLING + 4 * options.delay());
    let rss_end = server.map(Process::rss).transpose()?;
    let dropped = |shared: &Shared| shared.failed.load(Ordering::Relaxed);
    enter(&publishing, &playing, Phase::Over);
    let played = join(subscribers).context("subscribers")?;
    let published = join(publishers).context("publishers")?;

    let mut result = Map::new();
    let mut put = |name: &str, value: Value| result.insert(name.to_owned(), value);
    put("kind", json!(kind));
    put("subscribers", json!(options.subscribers));
    put("publishers", json!(options.publishers));
    put("media", json!(options.media()));
    put("codec", json!(options.codec.name()));
    put("rate", json!(options.rate));
    put("profiles", profiles(&played, &published));
    put("whole", json!(options.whole));
    describe_joins(options, &before_joins, &after_joins, &played, &mut put);
    describe_window(&before, &after, &mut put);
    let expected = played.expected;
    let lost = expected - played.received.min(expected);
    put("expected", json!(expected));
    put("lost", json!(lost));
    put("loss_percent", json!(percent(lost, expected)));
    put("nacks_sent", json!(played.nacked));
    put("retransmissions_received", json!(played.retransmissions));
    put("duplicates", json!(played.duplicates));
    put("plis_sent", json!(played.plis));
    put("refused", json!(played.refused + published.refused));
    put("harmed", json!(played.harmed + published.harmed));
    put("client_drops", json!(played.dropped_here));
    put("jitter_ms", played.jitter.summary());
    put("added_latency_ms", played.latency.summary());
    put("publisher_asked", json!(published.asked));
    put("publisher_sent_again", json!(published.sent_again));
    put(
        "publisher_keyframes_asked",
        json!(published.keyframes_asked),
    );
    put("publisher_late_frames", json!(published.late_frames));
    put("rss_before", json!(before_joins.rss));
    put("rss_joined", json!(before.rss));
    put("rss_end", json!(rss_end));
    let per_subscriber = before
        .rss
        .zip(before_joins.rss)
        .map(|(after, before)| (after as f64 - before as f64) / options.subscribers.max(1) as f64);
    put("rss_per_subscriber", json!(per_subscriber));
    let metrics = metrics_after.zip(metrics);
    put(
        "server",
        json!(metrics.map(|(after, before)| after.since(&before))),
    );
    let failed = dropped(&playing) + dropped(&publishing);
    put("failed", json!(failed));
    let complaint = played.complaint.or(published.complaint);
    put("complaint", json!(complaint));
    writeln!(out, "{}", Value::Object(result))?;
    Ok(joined && failed == 0)
}

fn enter(publishing: &Shared, playing: &Shared, phase: Phase) {
    publishing.enter(phase);
    playing.enter(phase);
}

fn spawn_publishers(
    options: &Options,
    context: &dtls::Context,
    shared: &Arc<Shared>,
) -> anyhow::Result<Vec<Working>> {
    if options.publishers == 0 {
        return Ok(Vec::new());
    }
    // Of a run with subscribers, only their network is bad.
    let is_harmed = options.subscribers == 0;
    let plan = Plan {
        count: options.publishers,
        is_punctual: true,
        leaves: false,
        whole: false,
        receive: options.harm_received(is_harmed),
        send: options.harm_sent(is_harmed),
        ..plan(options, options.publishers, 1)
    };
    let (options, context, shared) = (options.clone(), context.clone(), Arc::clone(shared));
    let work = move || {
        Crew::new(plan, &context, &shared)?.run(|index| Newcomer {
            role: Publisher::new(options.wanted(), options.rate, index as u32),
            target: format!("/whip/{}", options.stream_name(index)),
            tells_time: false,
        })
    };
    let thread = thread::Builder::new().name("whip".to_owned());
    Ok(vec![thread.spawn(work)?])
}

fn spawn_subscribers(
    options: &Options,
    context: &dtls::Context,
    shared: &Arc<Shared>,
) -> anyhow::Result<Vec<Working>> {
    let threads = options.threads.max(1);
    let mut working = Vec::new();
    for thread in 0..threads {
        let count = (options.subscribers + threads - 1 - thread) / threads;
        if count == 0 {
            continue;
        }
        let plan = Plan {
            seed: options.seed + 1000 * (thread as u64 + 1),
            receive: options.harm_received(true),
            send: options.harm_sent(true),
            ..plan(options, count, threads)
        };
        let (options, context, shared) = (options.clone(), context.clone(), Arc::clone(shared));
        let work = move || {
            Crew::new(plan, &context, &shared)?.run(|index| {
                let number = index * threads + thread;
                let is_opened = number.is_multiple_of(options.open_every());
                let ssrc = 0x4000_0000 + number as u32;
                let streams = options.publishers.max(1);
                Newcomer {
                    role: Subscriber::new(options.wanted(), is_opened, options.round_trip(), ssrc),
                    target: format!("/whep/{}", options.stream_name(number % streams)),
                    tells_time: is_opened,
                }
            })
        };
        let named = thread::Builder::new().name("whep".to_owned());
        working.push(named.spawn(work)?);
    }
    Ok(working)
}

fn plan(options: &Options, count: usize, threads: usize) -> Plan {
    Plan {
        http: options.http,
        count,
        connect_rate: options.connect_rate / threads as f64,
        parallel: (options.parallel / threads).max(1),
        poll: Duration::from_micros(options.poll_us),
        is_punctual: false,
        whole: options.whole,
        leaves: options.leave,
        receive: Harm::default(),
        send: Harm::default(),
        seed: options.seed,
    }
}

fn join(threads: Vec<Working>) -> anyhow::Result<Tally> {
    let mut sum = Tally::default();
    for thread in threads {
        sum.add(&thread.join().expect("clients do not panic")?);
    }
    Ok(sum)
}

/// One look at everything that only rises.
struct Look {
    at: Instant,
    server: Option<Duration>,
    client: Duration,
    rss: Option<u64>,
    received: u64,
    sent: u64,
    connected: usize,
}

impl Look {
    fn take(options: &Options, publishing: &Shared, playing: &Shared) -> anyhow::Result<Self> {
        let server = options.pid.map(Process::new);
        Ok(Self {
            at: clock::now(),
            server: server.map(Process::cpu).transpose()?,
            client: Process::own().cpu()?,
            rss: server.map(Process::rss).transpose()?,
            received: playing.received.load(Ordering::Relaxed),
            sent: publishing.sent.load(Ordering::Relaxed),
            connected: playing.connected.load(Ordering::Relaxed),
        })
    }

    fn server_since(&self, before: &Self) -> Option<f64> {
        let (after, before) = self.server.zip(before.server)?;
        Some((after - before).as_secs_f64())
    }
}

fn describe_joins(
    options: &Options,
    before: &Look,
    after: &Look,
    played: &Tally,
    put: &mut impl FnMut(&str, Value) -> Option<Value>,
) {
    let joins = (after.connected - before.connected) as f64;
    let seconds = (after.at - before.at).as_secs_f64();
    put("connected", json!(after.connected));
    put("joins_s", json!(joins / seconds));
    put("join_ms", played.join.summary());
    put("first_packet_ms", played.first_packet.summary());
    // Media that goes to those that have joined is in this, unless they leave at once.
    let cpu = after.server_since(before).filter(|_| joins > 0.0);
    put("leave", json!(options.leave));
    put("cpu_us_per_join", json!(cpu.map(|cpu| cpu * 1e6 / joins)));
}

fn describe_window(
    before: &Look,
    after: &Look,
    put: &mut impl FnMut(&str, Value) -> Option<Value>,
) {
    let seconds = (after.at - before.at).as_secs_f64();
    let received = after.received - before.received;
    let sent = after.sent - before.sent;
    let server = after.server_since(before);
    put("seconds", json!(seconds));
    put("packets_sent", json!(sent));
    put("packets_received", json!(received));
    put("packets_s", json!(received as f64 / seconds));
    put("server_cpu_s", json!(server));
    put("server_cpu_share", json!(server.map(|cpu| cpu / seconds)));
    // Of publishers alone, what they send; of subscribers that have left, nothing.
    let counted = if after.connected == 0 { sent } else { received };
    let per_packet = server.filter(|_| counted > 0);
    put(
        "cpu_ns_per_packet",
        json!(per_packet.map(|cpu| cpu * 1e9 / counted as f64)),
    );
    let client = (after.client - before.client).as_secs_f64();
    put("client_cpu_share", json!(client / seconds));
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}

fn profiles(played: &Tally, published: &Tally) -> Value {
    let name = |profile| match profile {
        Profile::AeadAes128Gcm => "gcm-128",
        Profile::AeadAes256Gcm => "gcm-256",
        Profile::AesCm128HmacSha1_80 => "sha1-80",
        Profile::AesCm128HmacSha1_32 => "sha1-32",
    };
    let list = |tally: &Tally| {
        let named = tally
            .profiles
            .iter()
            .map(|(p, count)| (name(*p).to_owned(), json!(count)));
        Value::Object(named.collect())
    };
    json!({"subscribers": list(played), "publishers": list(published)})
}
