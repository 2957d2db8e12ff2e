//! WebRTC on one shard at one moment, for metrics and tests.

use crate::proto::ice;
use crate::proto::webrtc::PeerStatistics;

/// WebRTC on one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RtcSnapshot {
    /// What there is.
    pub census: Census,
    /// Peers whose handshake is complete.
    pub connected: u64,
    /// What the door has counted.
    pub counters: Counters,
    /// What was counted of all peers there are and were.
    pub peers: PeerStatistics,
    /// What ICE counted of them.
    pub ice: ice::Statistics,
    /// Datagrams of nobody that is known.
    pub strangers: u64,
    /// Datagrams that arrived on another shard than that of their peer and were passed on.
    pub strays_passed: u64,
    /// Datagrams that could not be brought to where they belong.
    pub strays_dropped: u64,
    /// Checks for sessions of other shards that were asked about there.
    pub claims: u64,
    /// Checks that would have led another peer's packets away.
    pub paths_kept: u64,
    /// Datagrams of media sent, and their bytes.
    pub media_packets_sent: u64,
    /// Bytes of these.
    pub media_bytes_sent: u64,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Offers refused.
    pub offers_refused: u64,
    /// Offers answered.
    pub offers_answered: u64,
    /// Sessions that nobody came for.
    pub never_came: u64,
    /// Sessions that ended because too many handshakes were going on where they were to run.
    pub handshakes_refused: u64,
    /// Packets that could not be sent again, since they are not kept any more.
    pub not_kept: u64,
    /// Data channels that nothing here is for.
    pub channels_ignored: u64,
    /// Messages on data channels that nothing here is for, or that were too many.
    pub data_ignored: u64,
}

/// How much there is of what a session takes, all of which is zero without sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Sessions that were made here.
    pub sessions: usize,
    /// Sessions that nobody has come for, and peers here whose handshake is not done.
    pub half_open: usize,
    /// Peers that run here.
    pub peers: usize,
    /// Peers whose session is known.
    pub running: usize,
    /// Offers that are being answered.
    pub asking: usize,
    /// WebSockets that signal.
    pub sockets: usize,
    /// Sessions that are controlled while they run, and what they wait for.
    pub controls: usize,
    /// Addresses whose datagrams arrive on another shard than their peer's.
    pub routes: usize,
    /// Addresses and names that lead to peers.
    pub leading: (usize, usize),
}

/// A quantity: its name, what it is, whether it only ever rises, and where it is.
pub type Column = (&'static str, &'static str, bool, fn(&RtcSnapshot) -> u64);

/// All that Prometheus is told, each by shard.
pub const COLUMNS: &[Column] = &[
    (
        "webrtc_sessions",
        "WebRTC sessions whose offer this shard answered.",
        false,
        |s| s.census.sessions as u64,
    ),
    (
        "webrtc_half_open_sessions",
        "Sessions that nobody has come for, and peers whose handshake is not complete.",
        false,
        |s| s.census.half_open as u64,
    ),
    ("webrtc_peers", "WebRTC peers of this shard.", false, |s| {
        s.census.peers as u64
    }),
    (
        "webrtc_connected_peers",
        "WebRTC peers whose handshake is complete.",
        false,
        |s| s.connected,
    ),
    (
        "webrtc_signalling_sockets",
        "WebSockets that signal for a WebRTC session.",
        false,
        |s| s.census.sockets as u64,
    ),
    (
        "webrtc_routes",
        "Addresses whose datagrams arrive on another shard than their peer's, on both.",
        false,
        |s| s.census.routes as u64,
    ),
    (
        "webrtc_paths",
        "Addresses that lead to a WebRTC peer.",
        false,
        |s| s.census.leading.0 as u64,
    ),
    (
        "webrtc_offers_answered_total",
        "Offers answered.",
        true,
        |s| s.counters.offers_answered,
    ),
    (
        "webrtc_offers_refused_total",
        "Offers refused.",
        true,
        |s| s.counters.offers_refused,
    ),
    (
        "webrtc_never_came_total",
        "Sessions whose peer was never heard.",
        true,
        |s| s.counters.never_came,
    ),
    (
        "webrtc_handshakes_refused_total",
        "Sessions that ended because too many handshakes were going on.",
        true,
        |s| s.counters.handshakes_refused,
    ),
    (
        "webrtc_packets_in_total",
        "Packets of media received and opened.",
        true,
        |s| s.peers.received_packets,
    ),
    (
        "webrtc_in_bytes_total",
        "Bytes of media and reports received and opened.",
        true,
        |s| s.peers.received_bytes,
    ),
    (
        "webrtc_packets_out_total",
        "Packets of media sent, retransmissions included.",
        true,
        |s| s.media_packets_sent,
    ),
    (
        "webrtc_out_bytes_total",
        "Bytes of these packets.",
        true,
        |s| s.media_bytes_sent,
    ),
    (
        "webrtc_mean_packet_bytes",
        "Bytes of a packet of media sent, on average since the start.",
        false,
        |s| s.media_bytes_sent / s.media_packets_sent.max(1),
    ),
    (
        "webrtc_packets_refused_total",
        "Packets that could not be opened, or are of no stream.",
        true,
        |s| s.peers.refused,
    ),
    (
        "webrtc_packets_replayed_total",
        "Packets that came before, or are too old to tell.",
        true,
        |s| s.peers.replayed,
    ),
    (
        "webrtc_channels_ignored_total",
        "Data channels that nothing here is for.",
        true,
        |s| s.counters.channels_ignored,
    ),
    (
        "webrtc_data_ignored_total",
        "Messages on data channels that nothing here is for, or that were too many.",
        true,
        |s| s.counters.data_ignored,
    ),
    (
        "webrtc_nacks_asked_total",
        "Packets that publishers were asked for again.",
        true,
        |s| s.peers.nacks_sent,
    ),
    (
        "webrtc_nacks_received_total",
        "Packets that receivers asked for again.",
        true,
        |s| s.peers.asked,
    ),
    (
        "webrtc_nacks_answered_total",
        "Packets sent again.",
        true,
        |s| s.peers.sent_again,
    ),
    (
        "webrtc_nacks_not_kept_total",
        "Packets asked for that are not kept any more.",
        true,
        |s| s.counters.not_kept,
    ),
    (
        "webrtc_nacks_refused_total",
        "Packets asked for by receivers that ask for more than their pace allows.",
        true,
        |s| s.peers.nacks_refused,
    ),
    (
        "webrtc_keyframes_wanted_total",
        "Keyframes that receivers asked for.",
        true,
        |s| s.peers.keyframes_wanted,
    ),
    (
        "webrtc_keyframes_asked_total",
        "Keyframes that publishers were asked for.",
        true,
        |s| s.peers.keyframes_asked,
    ),
    (
        "webrtc_skips_total",
        "Times that a receiver fell behind and skipped to a keyframe.",
        true,
        |s| s.peers.skips,
    ),
    (
        "webrtc_strangers_total",
        "Datagrams of nobody that is known.",
        true,
        |s| s.strangers,
    ),
    (
        "webrtc_claims_total",
        "Checks for sessions of other shards that were asked about there.",
        true,
        |s| s.claims,
    ),
    (
        "webrtc_strays_passed_total",
        "Datagrams passed on to the shard of their peer.",
        true,
        |s| s.strays_passed,
    ),
    (
        "webrtc_strays_dropped_total",
        "Datagrams that could not be brought to where they belong.",
        true,
        |s| s.strays_dropped,
    ),
    (
        "webrtc_paths_kept_total",
        "Checks that would have led another peer's packets away.",
        true,
        |s| s.paths_kept,
    ),
    (
        "webrtc_ice_answered_total",
        "ICE checks answered.",
        true,
        |s| s.ice.answered,
    ),
    (
        "webrtc_ice_wrong_total",
        "ICE checks without the right name or integrity, and datagrams that are none.",
        true,
        |s| s.ice.wrong_username + s.ice.wrong_integrity + s.ice.malformed,
    ),
    (
        "webrtc_ice_refused_total",
        "ICE checks answered by an error.",
        true,
        |s| s.ice.role_conflicts + s.ice.unknown_attributes,
    ),
    (
        "webrtc_ice_paths_dropped_total",
        "Addresses dropped because a peer came from too many.",
        true,
        |s| s.ice.paths_dropped,
    ),
];
