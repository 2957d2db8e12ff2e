//! What an operator can watch.

use crate::spaces::host::Host;
use crate::spaces::message::Counted;

/// A family of metrics: name, explanation, whether it only rises, samples.
pub(super) type Family = (
    &'static str,
    &'static str,
    bool,
    Vec<(Vec<(&'static str, String)>, u64)>,
);

/// What media shards count: name, explanation, whether it only rises, and where it is.
type Column = (&'static str, &'static str, bool, fn(&Counted) -> u64);

const COLUMNS: &[Column] = &[
    (
        "spaces_messages_received_total",
        "Messages of players' data channels, locations among them.",
        true,
        |s| s.relay.received,
    ),
    (
        "spaces_messages_refused_total",
        "Messages beyond what one player may send.",
        true,
        |s| s.relay.refused,
    ),
    (
        "spaces_messages_delivered_total",
        "Messages handed to receivers' data channels.",
        true,
        |s| s.relay.delivered,
    ),
    (
        "spaces_locations_dropped_total",
        "Locations that newer ones took the place of before they were sent.",
        true,
        |s| s.relay.locations_dropped,
    ),
    (
        "spaces_messages_dropped_total",
        "Other messages that found no room, and messages for channels that are not open.",
        true,
        |s| s.relay.messages_dropped,
    ),
    (
        "spaces_locations_left_out_total",
        "Locations of players who are far away, left out by `spaces.nearest`.",
        true,
        |s| s.relay.far_left_out,
    ),
    (
        "spaces_flushes_total",
        "Times that what waited for one receiver was sent.",
        true,
        |s| s.relay.flushes,
    ),
    (
        "spaces_messages_queued",
        "Messages that wait for receivers.",
        false,
        |s| s.queued as u64,
    ),
    (
        "spaces_gather_ms",
        "How long messages wait for others: 5 while there are many, up to 20 on a busy CPU.",
        false,
        |s| s.gather.as_millis() as u64,
    ),
    (
        "spaces_orders_dropped_total",
        "Orders for transports whose player did not come, beyond what is kept.",
        true,
        |s| s.relay.orders_dropped,
    ),
    (
        "spaces_audio_packets_received_total",
        "Packets of players' sound.",
        true,
        |s| s.relay.audio_received,
    ),
    (
        "spaces_audio_packets_delivered_total",
        "Packets of sound handed to receivers.",
        true,
        |s| s.relay.audio_delivered,
    ),
    (
        "spaces_data_consumers",
        "Players' messages that others get, one for each of both.",
        false,
        |s| s.census.0 as u64,
    ),
    (
        "spaces_data_producers",
        "Players whose messages come to this shard.",
        false,
        |s| s.census.2 as u64,
    ),
    (
        "spaces_transports_waiting",
        "Transports that this shard has made.",
        false,
        |s| s.transports.0 as u64,
    ),
    (
        "spaces_transports_running",
        "Transports that this shard runs.",
        false,
        |s| s.transports.1 as u64,
    ),
];

/// All of spaces. Names of spaces are players' words, and as many as players like, so they are not
/// in here; `/spaces` has them.
pub(super) fn families<'a>(
    host: &Host,
    counted: impl Iterator<Item = &'a Counted> + Clone,
) -> Vec<Family> {
    let gauges = [
        (
            "spaces_players",
            "Players, those whose place is kept included.",
            host.players(),
        ),
        (
            "spaces_players_idle",
            "Players who are in no space.",
            host.idle(),
        ),
        (
            "spaces_players_together",
            "Players in the space that has most.",
            host.together(),
        ),
        ("spaces_open", "Spaces that somebody is in.", host.spaces()),
        (
            "spaces_transports",
            "Transports of players.",
            host.transports(),
        ),
    ];
    let gauge = |(name, what, value)| (name, what, false, vec![(Vec::new(), value as u64)]);
    let mut families: Vec<Family> = gauges.map(gauge).into();
    let events = host.counters().each();
    let events = events.map(|(name, value)| (vec![("event", name.to_owned())], value));
    families.push((
        "spaces_events_total",
        "What players did, and what was refused to them.",
        true,
        events.collect(),
    ));
    families.extend(COLUMNS.iter().map(|(name, what, rises, of)| {
        let shards = counted.clone();
        let samples = shards.map(|it| (vec![("shard", it.shard.0.to_string())], of(it)));
        (*name, *what, *rises, samples.collect())
    }));
    families
}
