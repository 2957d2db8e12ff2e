//! What shards tell each other about streams.

use std::sync::Arc;

use crate::base::ids::{StreamId, TrackId};
use crate::config::Config;
use crate::hub::{Claimed, Home};
use crate::media::{Frame, Packet, Track};
use crate::streams::client::{SessionFilter, ShardClients};
use crate::streams::name::StreamName;
use crate::streams::packets::Wishes;
use crate::streams::rtc::RtcMessage;
use crate::streams::segments::Key;
use crate::streams::segments::listing::{Listing, Update};
use crate::streams::snapshot::ShardSnapshot;
use crate::streams::stream_mirror::Backlog;

/// A message on the mesh. Only [`Message::Ingest`] and [`Message::MirrorFrame`] may be lost, and
/// [`Message::IngestPackets`] and [`Message::MirrorPackets`].
#[derive(Debug)]
pub enum Message {
    /// To the registrar: a publisher asks for a name.
    Claim {
        /// The name.
        name: StreamName,
        /// The sender's number for the publisher.
        publisher: u64,
        /// It may replace another one.
        takeover: bool,
    },
    /// To the registrar: a publisher is gone.
    Unclaim {
        /// The name it had claimed.
        name: StreamName,
        /// The sender's number for it.
        publisher: u64,
    },
    /// To the registrar: nobody came back to a stream.
    Release {
        /// Its name.
        name: StreamName,
        /// Its number.
        stream: StreamId,
    },
    /// To the registrar: where is a stream? Answered at once, and again when it goes live.
    Locate {
        /// Its name.
        name: StreamName,
    },
    /// From the registrar: the answer to [`Message::Claim`].
    Claimed {
        /// The name that was claimed.
        name: StreamName,
        /// The receiver's number for the publisher.
        publisher: u64,
        /// The answer.
        claimed: Claimed,
    },
    /// From the registrar: a publisher has been replaced.
    Replaced {
        /// The receiver's number for it.
        publisher: u64,
    },
    /// From the registrar: the answer to [`Message::Release`].
    Released {
        /// The stream.
        stream: StreamId,
        /// False if a publisher has come back, and the stream lives on.
        is_gone: bool,
    },
    /// From the registrar: the answer to [`Message::Locate`].
    Located {
        /// The name that was asked for.
        name: StreamName,
        /// Where it is, if it is live.
        home: Option<Home>,
    },
    /// To the home shard: a publisher on another shard begins.
    Begin {
        /// The stream.
        stream: StreamId,
        /// Its name: this message may arrive before the home shard has heard of the stream.
        name: StreamName,
        /// The sender's number for the publisher.
        publisher: u64,
        /// The number of its grant.
        turn: u64,
        /// The protocol it speaks, for the snapshot.
        protocol: &'static str,
        /// It sends packets, not frames.
        is_packets: bool,
    },
    /// To the home shard: a track of that publisher.
    IngestTrack {
        /// The stream.
        stream: StreamId,
        /// The publisher.
        publisher: u64,
        /// Numbered by the publisher.
        track: Box<Track>,
    },
    /// To the home shard: a frame of that publisher.
    Ingest {
        /// The stream.
        stream: StreamId,
        /// The publisher.
        publisher: u64,
        /// Counts the publisher's frames, so that a lost one is noticed.
        number: u64,
        /// Its track is numbered by the publisher.
        frame: Frame,
    },
    /// To the home shard: packets of that publisher.
    IngestPackets {
        /// The stream.
        stream: StreamId,
        /// The publisher.
        publisher: u64,
        /// Their tracks, numbers and times are the publisher's.
        packets: Vec<Packet>,
    },
    /// To the home shard: viewers of the sender want a keyframe.
    KeyframeWanted {
        /// The stream.
        stream: StreamId,
        /// The track.
        track: TrackId,
    },
    /// From the home shard to that of the publisher: viewers want a keyframe.
    AskKeyframe {
        /// The receiver's number for the publisher.
        publisher: u64,
        /// The publisher's number for the track.
        track: TrackId,
    },
    /// To the home shard: that publisher is gone.
    End {
        /// The stream.
        stream: StreamId,
        /// The publisher.
        publisher: u64,
    },
    /// To the home shard: a viewer came, send everything.
    Subscribe {
        /// The stream.
        stream: StreamId,
        /// What is wanted of it.
        wishes: Wishes,
    },
    /// To the home shard: this is wanted from here on. What is wanted more than before comes with a
    /// backlog.
    Wish {
        /// The stream.
        stream: StreamId,
        /// All that is wanted.
        wishes: Wishes,
    },
    /// To the home shard: no viewer is left.
    Unsubscribe {
        /// The stream.
        stream: StreamId,
    },
    /// From the home shard: tracks and the current group of pictures.
    Backlog {
        /// The stream.
        stream: StreamId,
        /// What there is.
        backlog: Box<Backlog>,
    },
    /// From the home shard: a track that is new or has changed.
    MirrorTrack {
        /// The stream.
        stream: StreamId,
        /// The track.
        track: Box<Track>,
    },
    /// From the home shard: the publisher of now does not have these tracks.
    MirrorRetired {
        /// The stream.
        stream: StreamId,
        /// The tracks.
        tracks: Vec<TrackId>,
    },
    /// From the home shard: a frame.
    MirrorFrame {
        /// The stream.
        stream: StreamId,
        /// Counts the stream's frames, so that a lost one is noticed.
        number: u64,
        /// The frame.
        frame: Frame,
        /// A viewer can begin here.
        entry: bool,
    },
    /// From the home shard: another publisher has begun.
    MirrorBegin {
        /// The stream.
        stream: StreamId,
        /// It sends packets.
        is_packets: bool,
        /// The number of the stream's next frame.
        next: u64,
    },
    /// From the home shard: enough is known of the tracks of a publisher that sends packets.
    MirrorReady {
        /// The stream.
        stream: StreamId,
    },
    /// From the home shard: packets of one track.
    MirrorPackets {
        /// The stream.
        stream: StreamId,
        /// Their numbers are the home shard's.
        packets: Arc<[Packet]>,
    },
    /// To the home shard: a viewer of a rendition came, send its segments.
    SubscribeRendition {
        /// The stream.
        stream: StreamId,
        /// The rendition.
        key: Key,
    },
    /// To the home shard: no viewer of a rendition is left.
    UnsubscribeRendition {
        /// The stream.
        stream: StreamId,
        /// The rendition.
        key: Key,
    },
    /// From the home shard: the segments that are kept; nothing if there is no such rendition.
    RenditionBacklog {
        /// The stream.
        stream: StreamId,
        /// The rendition.
        key: Key,
        /// What there is.
        listing: Option<Box<Listing>>,
    },
    /// From the home shard: a step of a rendition.
    RenditionUpdate {
        /// The stream.
        stream: StreamId,
        /// The rendition.
        key: Key,
        /// The step.
        update: Box<Update>,
    },
    /// From the home shard: the stream is over.
    MirrorEnd {
        /// The stream.
        stream: StreamId,
    },
    /// About a WebRTC session.
    Rtc(Box<RtcMessage>),
    /// To all shards: the configuration has changed.
    Config(Arc<Config>),
    /// To all shards: stop accepting, let viewers go.
    Drain,
    /// To a media shard: say who is here.
    ClientsRequest {
        /// Comes back with the answer.
        token: u64,
        /// Each client, not only sums.
        each: bool,
    },
    /// From a media shard: who is here.
    Clients {
        /// That of the request.
        token: u64,
        /// The answer.
        clients: Box<ShardClients>,
    },
    /// To all media shards: end these sessions.
    StopSessions(Box<SessionFilter>),
    /// To all media shards: end this stream at once.
    Nuke {
        /// Its name.
        name: StreamName,
    },
    /// To a shard: say what you have.
    SnapshotRequest {
        /// Comes back with the answer.
        token: u64,
    },
    /// From a shard: what it has.
    Snapshot {
        /// That of the request.
        token: u64,
        /// The answer.
        snapshot: Box<ShardSnapshot>,
    },
}
