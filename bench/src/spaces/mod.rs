//! Players in spaces, and what they cost the server.
//!
//! Each player is a client of generation 2 with a WebSocket and two transports of its own: it
//! checks paths, shakes hands, and has associations and keys. All run on one thread, which looks at
//! their sockets every so often; when something came is told by the kernel.

mod crowd;
mod line;
mod options;
mod player;
mod tally;
mod transport;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use ringside::proto::dtls;
use ringside::shard::clock;
use serde_json::{Map, Value, json};

use self::crowd::Crowd;
pub use self::options::Options;
use crate::control::Metrics;
use crate::process::Process;
use crate::stamp;

/// How long players may take to come after the last of them was to connect.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// How long what was sent in the window may be on its way.
const SETTLING: Duration = Duration::from_millis(500);

/// Lets players in and measures. Writes one line of JSON to `out`. True if nothing went wrong.
pub fn run(options: &Options, out: &mut impl Write) -> anyhow::Result<bool> {
    options.check()?;
    // Marks and the times of the kernel are of one clock, which begins here.
    stamp::nanoseconds();
    let certificate = Arc::new(dtls::Certificate::generate()?);
    let context = dtls::Context::new(certificate, dtls::Options::default())?;
    let server = options.pid.map(Process::new);
    let rss = || server.map(Process::rss).transpose();
    let cpu = || server.map(Process::cpu).transpose();
    let metrics = || options.control.map(Metrics::read).transpose();

    let mut crowd = Crowd::new(options, &context)?;
    let rss_before = rss()?;
    let connecting = Duration::from_secs_f64(options.players as f64 / options.connect_rate);
    crowd.run(clock::now() + connecting + SETTLE_MAX, Crowd::is_settled)?;
    let is_settled = crowd.is_settled();
    crowd.run(
        clock::now() + Duration::from_secs_f64(options.warmup),
        |_| false,
    )?;

    let window = Duration::from_secs_f64(options.seconds);
    let rss_joined = rss()?;
    let (before, own_before, cpu_before) = (metrics()?, Process::own().cpu()?, cpu()?);
    let began = clock::now();
    crowd.measure(window);
    crowd.run(began + window, |_| false)?;
    let seconds = (clock::now() - began).as_secs_f64();
    let used = cpu()?.zip(cpu_before).map(|(after, before)| after - before);
    let used = used.map(|used| used.as_secs_f64());
    let own = (Process::own().cpu()? - own_before).as_secs_f64();
    let after = metrics()?;
    crowd.run(clock::now() + SETTLING, |_| false)?;
    let rss_end = rss()?;
    let client_drops = crowd.end()?;

    let tally = &crowd.tally;
    let each = |count: u64| {
        used.filter(|_| count > 0)
            .map(|used| used * 1e6 / count as f64)
    };
    let mut result = Map::new();
    let mut put = |name: &str, value: Value| result.insert(name.to_owned(), value);
    put("kind", json!("spaces"));
    put("players", json!(options.players));
    put("worlds", json!(options.worlds));
    put("hz", json!(options.hz));
    put("voice", json!(options.voice));
    put("chat", json!(options.chat));
    put("media", json!(!options.no_media));
    put("joined", json!(tally.joined));
    put("failed", json!(tally.failed));
    put("complaint", json!(tally.complaint));
    put("seconds", json!(seconds));
    put("locations_sent", json!(tally.locations_sent));
    put("locations_unsent", json!(tally.unsent));
    put("locations_late_here", json!(tally.late));
    put("delivered", json!(tally.locations));
    put("delivered_s", json!(tally.locations as f64 / seconds));
    let lost = tally.locations_due - tally.locations.min(tally.locations_due);
    put("lost", json!(lost));
    put("lost_percent", json!(percent(lost, tally.locations_due)));
    put(
        "messages_per_datagram",
        json!((tally.datagrams > 0).then(|| tally.locations as f64 / tally.datagrams as f64)),
    );
    put("location_ms", tally.location.summary());
    put("sounds_sent", json!(tally.sounds_sent));
    put("sounds", json!(tally.sounds));
    let lost = tally.sounds_due - tally.sounds.min(tally.sounds_due);
    put("sounds_lost", json!(lost));
    put("sound_ms", tally.sound.summary());
    put("chats_sent", json!(tally.chats_sent));
    put("chats", json!(tally.chats));
    put(
        "chats_lost",
        json!(tally.chats_due - tally.chats.min(tally.chats_due)),
    );
    put("chat_ms", tally.chat.summary());
    put("join_ms", tally.join.summary());
    put("join_to_location_ms", tally.join_to_location.summary());
    put(
        "connect_to_location_ms",
        tally.connect_to_location.summary(),
    );
    put("server_cpu_s", json!(used));
    put("server_cpu_share", json!(used.map(|used| used / seconds)));
    put("cpu_us_per_location", json!(each(tally.locations)));
    put("cpu_us_per_chat", json!(each(tally.chats)));
    put("client_cpu_share", json!(own / seconds));
    put("client_drops", json!(client_drops));
    put("rss_before", json!(rss_before));
    put("rss_joined", json!(rss_joined));
    put("rss_end", json!(rss_end));
    let grown = rss_joined.zip(rss_before);
    let grown =
        grown.map(|(after, before)| (after as f64 - before as f64) / options.players as f64);
    put("rss_per_player", json!(grown));
    let server = after
        .zip(before)
        .map(|(after, before)| relayed(&after, &before));
    put("server", json!(server));
    writeln!(out, "{}", Value::Object(result))?;
    Ok(is_settled && tally.failed == 0)
}

/// What the server's relays have counted in the window, and what waits at its end.
fn relayed(after: &Metrics, before: &Metrics) -> Value {
    let rise = |name: &str| after.sum(name) - before.sum(name);
    json!({
        "received": rise("spaces_messages_received_total"),
        "delivered": rise("spaces_messages_delivered_total"),
        "locations_dropped": rise("spaces_locations_dropped_total"),
        "messages_dropped": rise("spaces_messages_dropped_total"),
        "flushes": rise("spaces_flushes_total"),
        "queued": after.sum("spaces_messages_queued"),
        "queued_before": before.sum("spaces_messages_queued"),
        "enters": rise("ring_enters_total"),
        "sends": rise("ring_sends_total"),
    })
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}
