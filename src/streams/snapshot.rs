//! What a shard has at one moment, for metrics, `json_NAME.js` and tests.

use crate::base::ids::{ShardId, StreamId};
use crate::media::Track;
use crate::streams::client::{Tally, tally_of};
use crate::streams::families::Row;
use crate::streams::name::StreamName;
use crate::streams::output::Container;
use crate::streams::viewing::Session;

/// One shard at one moment.
#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    /// Which shard.
    pub shard: ShardId,
    /// What the shard's other doors have to tell.
    pub others: Vec<Row>,
    /// Everything counted since the start.
    pub counters: Counters,
    /// Viewers by container.
    pub viewers: [u64; Container::ALL.len()],
    /// Connections that publish.
    pub publishers: u64,
    /// Connections that wait for a stream to go live.
    pub waiting: u64,
    /// How long frames are gathered at the moment, in milliseconds.
    pub merge_window_ms: u64,
    /// Slabs in use.
    pub slabs_in_use: u64,
    /// Slabs that exist.
    pub slabs: u64,
    /// Viewers of playlists. One whose requests reach several shards is in several snapshots,
    /// under the same number.
    pub sessions: Vec<Session>,
    /// Such viewers since the start.
    pub sessions_total: u64,
    /// Requests that wait for a part or a segment, or are answered as one is made.
    pub segment_waiters: u64,
    /// Streams of which this shard has a copy.
    pub streams: Vec<StreamSnapshot>,
    /// WebRTC, filled in by the shard's loop.
    pub rtc: crate::streams::rtc::RtcSnapshot,
    /// The engine's part, filled in by the shard's loop.
    pub engine: crate::metrics::Engine,
}

/// What an exchange counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames from publishers of this shard.
    pub frames_in: u64,
    /// Bytes of these frames.
    pub bytes_in: u64,
    /// Bytes handed over for viewers, by container.
    pub bytes_out: [u64; Container::ALL.len()],
    /// Runs of frames handed over for viewers.
    pub runs_out: u64,
    /// Tags that could not be read.
    pub bad_media: u64,
    /// Frames whose time was levelled out or rejoined.
    pub retimed: u64,
    /// Times that a viewer was moved to the newest keyframe.
    pub skips: u64,
    /// Viewers closed because they took nothing.
    pub stalled: u64,
    /// Publishers that were refused.
    pub publish_refused: u64,
    /// Viewers that were refused or waited in vain.
    pub play_refused: u64,
    /// Frames lost between shards.
    pub mirror_lost: u64,
    /// Viewers since the start.
    pub viewers_total: u64,
    /// Publishers since the start.
    pub publishers_total: u64,
    /// Bytes of segments and parts handed over, in transport streams and in fragmented MP4.
    pub segment_bytes_out: [u64; 2],
    /// Requests that were refused because too many wait.
    pub waiters_refused: u64,
    /// Packets from publishers of this shard.
    pub packets_in: u64,
    /// Of the bytes from publishers: payloads of packets.
    pub packet_bytes_in: u64,
    /// Packets handed over for viewers, each counted once a viewer.
    pub packets_out: u64,
    /// Frames built from packets.
    pub frames_built: u64,
    /// Keyframes that viewers asked for.
    pub keyframes_wanted: u64,
    /// Keyframes that publishers were asked for.
    pub keyframes_asked: u64,
}

/// One stream at one moment, on one shard.
#[derive(Clone, Debug)]
pub struct StreamSnapshot {
    /// Its name.
    pub name: StreamName,
    /// Its number.
    pub id: StreamId,
    /// True on the shard that has its log.
    pub is_home: bool,
    /// The protocol of the publisher, if there is one. Only set at home.
    pub publisher: Option<&'static str>,
    /// Its tracks.
    pub tracks: Vec<TrackSnapshot>,
    /// Viewers on this shard by container.
    pub viewers: [u64; Container::ALL.len()],
    /// Bytes handed over for viewers of this shard, by container.
    pub bytes_out: [u64; Container::ALL.len()],
    /// Bytes of segments and parts handed over here, in transport streams and in fragmented MP4.
    pub segment_bytes_out: [u64; 2],
    /// Renditions of its segments that are kept up here.
    pub renditions: u64,
    /// Times that viewers of this shard were moved to the newest keyframe.
    pub skips: u64,
    /// Viewers on this shard since the stream began.
    pub views: u64,
    /// How long they have watched, together, in seconds.
    pub view_seconds: u64,
    /// Bytes of frames kept.
    pub log_bytes: u64,
    /// Unix time of the stream's time zero, in milliseconds.
    pub unix_zero_ms: i64,
}

impl StreamSnapshot {
    /// Viewers, apart from those of playlists, and what was sent to all, by MistServer's names.
    pub fn tally(&self) -> Tally {
        tally_of(&self.viewers, &self.bytes_out, &self.segment_bytes_out)
    }
}

/// One track at one moment.
#[derive(Clone, Debug)]
pub struct TrackSnapshot {
    /// The track.
    pub track: Track,
    /// Frames since the stream began.
    pub frames: u64,
    /// Bytes since the stream began.
    pub bytes: u64,
    /// Bytes a second over the last seconds.
    pub bytes_per_s: u64,
    /// The highest of these.
    pub bytes_per_s_max: u64,
    /// Decoding time of the oldest frame kept, in milliseconds.
    pub first_ms: i64,
    /// Decoding time of the newest frame, in milliseconds.
    pub last_ms: i64,
    /// Key frames since the stream began.
    pub keyframes: u64,
}
