//! Viewers by HLS and DASH of a running server, and what they cost it.

mod m3u8;
mod mpd;
mod player;

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ringside::shard::clock;
use serde_json::{Map, Value, json};

use crate::process::Process;
use crate::stamp;
use crate::streams::{pause, publish, wait_until};
use crate::swarm::{self, Plan};
use crate::viewer::Shared;
use player::{Habits, Manner, Player, Tally};

/// How long viewers may take to get media after the last of them was to connect.
const SETTLE_MAX: Duration = Duration::from_secs(15);

/// What to do.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The server's HTTP port.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// The server's RTMP port, for `--publish`.
    #[arg(long, default_value = "127.0.0.1:1935")]
    pub rtmp: SocketAddr,
    /// The stream.
    #[arg(long, default_value = "live")]
    pub stream: String,
    /// Publish this too: an FLV file, `synthetic` or `synthetic:...` as `streams` has it.
    #[arg(long)]
    pub publish: Option<String>,
    /// How long to publish before the first viewer connects.
    #[arg(long, default_value_t = 8.0)]
    pub lead: f64,
    /// Where the stream begins; else /cmaf/STREAM/index.m3u8 or index.mpd, for `hls` /hls.
    #[arg(long)]
    pub path: Option<String>,
    /// How many viewers, each with one connection.
    #[arg(long, default_value_t = 100)]
    pub viewers: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 20.0)]
    pub seconds: f64,
    /// How long to wait before that, once all viewers play.
    #[arg(long, default_value_t = 3.0)]
    pub warmup: f64,
    /// The server's process.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Threads of viewers.
    #[arg(long, default_value_t = 1)]
    pub shards: usize,
    /// New viewers a second.
    #[arg(long, default_value_t = 200.0)]
    pub connect_rate: f64,
    /// Ask for the hinted part before it is listed.
    #[arg(long)]
    pub hints: bool,
    /// Ask for playlists only.
    #[arg(long)]
    pub playlists_only: bool,
    /// Ask for delta updates.
    #[arg(long)]
    pub deltas: bool,
    /// Microseconds to gather deliveries for when there are many.
    #[arg(long, default_value_t = 0)]
    pub gather_us: u64,
}

/// Viewers of whole segments. Writes one line of JSON to `out`. True if nothing went wrong.
pub fn hls(options: &Options, out: &mut impl Write) -> anyhow::Result<bool> {
    run(options, Manner::Hls, out)
}

/// Viewers of parts. Writes one line of JSON to `out`. True if nothing went wrong.
pub fn llhls(options: &Options, out: &mut impl Write) -> anyhow::Result<bool> {
    run(options, Manner::LowLatency, out)
}

/// Viewers of DASH. Writes one line of JSON to `out`. True if nothing went wrong.
pub fn dash(options: &Options, out: &mut impl Write) -> anyhow::Result<bool> {
    run(options, Manner::Dash, out)
}

fn run(options: &Options, manner: Manner, out: &mut impl Write) -> anyhow::Result<bool> {
    stamp::nanoseconds();
    let shared = Arc::new(Shared::default());
    let server = options.pid.map(Process::new);
    let publishing = match &options.publish {
        Some(source) => {
            let names = vec![options.stream.clone()];
            let thread = publish(options.rtmp, names, source, &shared)?;
            pause(Duration::from_secs_f64(options.lead));
            Some(thread)
        }
        None => None,
    };
    let rss_start = server.map(Process::rss).transpose()?;
    let threads = spawn(options, manner, &shared)?;
    let connecting = Duration::from_secs_f64(options.viewers as f64 / options.connect_rate);
    let settled = wait_until(connecting + SETTLE_MAX, || {
        shared.settled.load(Ordering::Relaxed) >= options.viewers
    });
    if !settled {
        eprintln!("not every viewer has media");
    }
    pause(Duration::from_secs_f64(options.warmup));
    let look = || -> anyhow::Result<_> {
        let cpu = server.map(Process::cpu).transpose()?;
        let own = Process::own().cpu()?;
        Ok((clock::now(), cpu, own, shared.bytes.load(Ordering::Relaxed)))
    };
    let before = look()?;
    shared.is_measuring.store(true, Ordering::Relaxed);
    pause(Duration::from_secs_f64(options.seconds));
    shared.is_measuring.store(false, Ordering::Relaxed);
    let after = look()?;
    let rss_end = server.map(Process::rss).transpose()?;
    shared.is_over.store(true, Ordering::Relaxed);
    let mut total = Tally::default();
    for thread in threads {
        let tally = thread.join().expect("viewers do not panic");
        total.add(&tally.context("a thread of viewers")?);
    }
    let lost = publishing.and_then(|thread| thread.join().expect("publishers do not panic").err());

    let seconds = (after.0 - before.0).as_secs_f64();
    let cpu = after.1.zip(before.1);
    let cpu = cpu.map(|(after, before)| (after - before).as_secs_f64());
    let client = (after.2 - before.2).as_secs_f64();
    let bytes = after.3 - before.3;
    let mut result = Map::new();
    let mut put = |name: &str, value: Value| result.insert(name.to_owned(), value);
    let kind = match manner {
        Manner::Hls => "hls",
        Manner::LowLatency => "llhls",
        Manner::Dash => "dash",
    };
    put("kind", json!(kind));
    put("viewers", json!(options.viewers));
    put("seconds", json!(seconds));
    put("requests", json!(total.playlists + total.media));
    put("playlists", json!(total.playlists));
    put("playlist_bytes", json!(total.playlist_bytes));
    put("media", json!(total.media));
    put("media_bytes", json!(total.media_bytes));
    put("bytes", json!(bytes));
    put("mbit_s", json!(bytes as f64 * 8e-6 / seconds));
    put("server_cpu_s", json!(cpu));
    put("server_cpu_share", json!(cpu.map(|cpu| cpu / seconds)));
    let per = |count: f64| cpu.filter(|_| count > 0.0).map(|cpu| cpu / count);
    put("cpu_s_per_gb", json!(per(bytes as f64 / 1e9)));
    let viewer_seconds = options.viewers as f64 * seconds;
    put("cpu_us_per_viewer_s", json!(per(viewer_seconds / 1e6)));
    put(
        "cpu_us_per_playlist",
        json!(per(total.playlists as f64 / 1e6)),
    );
    // Of parts, or of whole segments: what one viewer gets for one piece of media, the playlist
    // that announces it included.
    let pieces = if options.playlists_only {
        total.playlists
    } else {
        total.media
    };
    put(
        "cpu_us_per_viewer_and_part",
        json!(per(pieces as f64 / 1e6)),
    );
    put("client_cpu_s", json!(client));
    put("live_latency_ms", total.latency.summary());
    put("edge_latency_ms", total.edge.summary());
    put("reload_ms", total.reload.summary());
    put("reload_spread_ms", total.spread.summary());
    put("first_media_ms", total.first_media.summary());
    put("stalls", json!(total.stalls));
    put("errors", json!(total.errors));
    put("complaint", json!(total.complaint));
    put("rss_start", json!(rss_start));
    put("rss_end", json!(rss_end));
    put("publisher_lost", json!(lost.map(|error| error.to_string())));
    writeln!(out, "{}", Value::Object(result))?;
    Ok(settled && total.errors == 0 && total.stalls == 0)
}

fn spawn(
    options: &Options,
    manner: Manner,
    shared: &Arc<Shared>,
) -> io::Result<Vec<JoinHandle<io::Result<Tally>>>> {
    let default = match manner {
        Manner::Hls => format!("/hls/{}/index.m3u8", options.stream),
        Manner::LowLatency => format!("/cmaf/{}/index.m3u8", options.stream),
        Manner::Dash => format!("/cmaf/{}/index.mpd", options.stream),
    };
    let habits = Habits {
        manner,
        host: options.http.to_string(),
        entry: options.path.clone().unwrap_or(default),
        uses_hints: options.hints,
        playlists_only: options.playlists_only,
        uses_deltas: options.deltas,
    };
    let shards = options.shards.max(1);
    (0..shards)
        .map(|shard| {
            let plan = Plan {
                address: options.http,
                count: (options.viewers + shards - 1 - shard) / shards,
                rate: options.connect_rate / shards as f64,
                gather: Duration::from_micros(options.gather_us),
            };
            let (habits, shared) = (habits.clone(), Arc::clone(shared));
            thread::Builder::new()
                .name("watch".to_owned())
                .spawn(move || watch(plan, habits, &shared))
        })
        .collect()
}

fn watch(plan: Plan, habits: Habits, shared: &Arc<Shared>) -> io::Result<Tally> {
    let habits = Rc::new(habits);
    let tally = Rc::new(RefCell::new(Tally::default()));
    swarm::run(
        plan,
        shared,
        |_, now| Player::new(&habits, &tally, shared, now),
        |reason| tally.borrow_mut().complain(reason),
        |player| {
            if !player.has_media() {
                tally.borrow_mut().complain("no media until the end");
            }
        },
    )?;
    let tally = tally.borrow().clone();
    Ok(tally)
}
