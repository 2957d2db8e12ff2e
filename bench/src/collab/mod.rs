//! Clients of a collaborative session, and what they cost the server.
//!
//! Each client is one of generation B or C with its three connections, or all are of generation A with
//! four: it logs in, brings or fetches the scene, answers signs of life, and gets what the senders send.
//! Then others come late. All run on one thread.

mod crowd;
mod ledger;
mod link;
mod member;
mod options;
mod scene;

use std::io::Write;
use std::mem;
use std::time::Duration;

use anyhow::bail;
use ringside::shard::clock;
use serde_json::{Map, Value, json};

use self::crowd::Crowd;
pub use self::options::{Options, What};
use crate::control::Metrics;
use crate::process::Process;
use crate::stamp;
use crate::tally::Times;

/// How long the scene may take to be brought, and how long clients may take to come.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// How long what was sent may be on its way.
const ARRIVAL_MAX: Duration = Duration::from_secs(10);

/// Runs the clients and measures. Writes one line of JSON to `out`. True if nothing went wrong.
pub fn run(options: &Options, out: &mut impl Write) -> anyhow::Result<bool> {
    options.check()?;
    stamp::nanoseconds();
    let server = options.pid.map(Process::new);
    let rss = || server.map(Process::rss).transpose();
    let cpu = || server.map(Process::cpu).transpose();
    let metrics = || options.control.map(Metrics::read).transpose();

    let mut crowd = Crowd::new(options)?;
    let rss_before = rss()?;
    // The first one brings the scene, before the others come.
    crowd.want(1, 1);
    crowd.run(clock::now() + SETTLE_MAX, Crowd::is_settled)?;
    if crowd.active() == 0 {
        let reason = crowd.tally.complaint.take();
        bail!(
            "no scene: {}",
            reason.as_deref().unwrap_or("it took too long")
        );
    }
    crowd.want(options.clients(), usize::from(options.parallel));
    crowd.run(clock::now() + SETTLE_MAX, Crowd::is_settled)?;
    let joined = crowd.active();
    crowd.run(
        clock::now() + Duration::from_secs_f64(options.warmup),
        |_| false,
    )?;
    let early = mem::take(&mut crowd.tally.join);
    crowd.tally.get = Times::default();

    let rss_joined = rss()?;
    let (before, own_before, cpu_before) = (metrics()?, Process::own().cpu()?, cpu()?);
    let began = clock::now();
    crowd.begin(began);
    let window = Duration::from_secs_f64(options.seconds);
    crowd.run(began + window, |_| false)?;
    crowd.stop();
    crowd.run(clock::now() + ARRIVAL_MAX, Crowd::has_all)?;
    let seconds = (clock::now() - began).as_secs_f64();
    let used = cpu()?.zip(cpu_before).map(|(after, before)| after - before);
    let used = used.map(|used| used.as_secs_f64());
    let own = (Process::own().cpu()? - own_before).as_secs_f64();
    let after = metrics()?;
    let rss_end = rss()?;

    let cpu_before = cpu()?;
    crowd.want(options.all(), 1);
    crowd.run(clock::now() + SETTLE_MAX, Crowd::is_settled)?;
    let join_used = cpu()?.zip(cpu_before).map(|(after, before)| after - before);
    let late_joined = crowd.active() - joined.min(crowd.active());
    crowd.end()?;

    let due = crowd.due();
    let tally = &crowd.tally;
    let lost = due - tally.delivered.min(due);
    let gets = tally.get.count();
    let mut result = Map::new();
    let mut put = |name: &str, value: Value| result.insert(name.to_owned(), value);
    put("kind", json!("collab"));
    put("generation_a", json!(options.generation_a));
    put("generation_b", json!(options.generation_b));
    put("generation_c", json!(options.generation_c()));
    put("senders", json!(options.senders));
    let what = match options.what() {
        What::Change => "change",
        What::Node => "node",
    };
    put("what", json!(what));
    let rate = options.window.is_none().then_some(options.rate);
    put("rate", json!(rate));
    put("window", json!(options.window));
    put("nodes", json!(options.nodes));
    put("node_bytes", json!(options.node_bytes));
    put("joined", json!(joined));
    put("failed", json!(tally.failed));
    put("complaint", json!(tally.complaint));
    put("early_join_ms", early.summary());
    put("seconds", json!(seconds));
    put("sent", json!(tally.sent));
    put("sent_s", json!(tally.sent as f64 / seconds));
    put("sent_late_here", json!(tally.late_here));
    put("due", json!(due));
    put("delivered", json!(tally.delivered));
    put("delivered_s", json!(tally.delivered as f64 / seconds));
    put("lost", json!(lost));
    put("late", json!(tally.late));
    put("bytes_sent", json!(tally.bytes_sent));
    put("bytes_delivered", json!(tally.bytes_delivered));
    put("latency_ms", tally.latency.summary());
    put("server_cpu_s", json!(used));
    put("server_cpu_share", json!(used.map(|used| used / seconds)));
    let each = used.filter(|_| tally.delivered > 0);
    let each = each.map(|used| used * 1e3 / tally.delivered as f64);
    put("cpu_s_per_1000_delivered", json!(each));
    put("client_cpu_share", json!(own / seconds));
    put("joins", json!(late_joined));
    put("join_ms", tally.join.summary());
    put("gets", json!(gets));
    put("get_ms", tally.get.summary());
    let each = join_used.filter(|_| gets > 0);
    let each = each.map(|used| used.as_secs_f64() * 1e6 / gets as f64);
    put("cpu_us_per_get", json!(each));
    put("rss_before", json!(rss_before));
    put("rss_joined", json!(rss_joined));
    put("rss_end", json!(rss_end));
    let server = after
        .zip(before)
        .map(|(after, before)| relayed(&after, &before));
    put("server", json!(server));
    let is_whole = joined == options.clients() && late_joined == usize::from(options.joins);
    writeln!(out, "{}", Value::Object(result))?;
    Ok(is_whole && tally.failed == 0 && lost == 0 && tally.late == 0)
}

/// What the server has counted in the measurement, and what waits at its end.
fn relayed(after: &Metrics, before: &Metrics) -> Value {
    let rise = |name: &str| after.sum(name) - before.sum(name);
    json!({
        "received": rise("collab_received_total"),
        "sent": rise("collab_sent_total"),
        "coalesced": rise("collab_coalesced_total"),
        "overfull": rise("collab_overfull_total"),
        "lost": rise("collab_lost_total"),
        "folded": rise("collab_folded_total"),
        "log_late": rise("collab_log_late_total"),
        "queued_bytes": after.sum("collab_queued_bytes"),
        "node_bytes": after.sum("collab_node_bytes"),
        "enters": rise("ring_enters_total"),
        "sends": rise("ring_sends_total"),
    })
}
