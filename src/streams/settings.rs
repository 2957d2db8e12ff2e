//! What the configuration says about streams, in the form the exchange uses.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::streams::access::{Source, StreamKeys};
use crate::streams::name::StreamName;

/// Everything that can change with a reload.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Streams by their base name.
    pub streams: BTreeMap<String, StreamSettings>,
    /// Secret names that may be published to.
    pub stream_keys: StreamKeys,
    /// How bytes go out.
    pub delivery: Delivery,
    /// What a page tells players to connect to.
    pub ports: Ports,
}

impl Settings {
    /// The settings of a stream; `name+anything` has those of `name`.
    pub fn stream(&self, name: &StreamName) -> Option<&StreamSettings> {
        self.streams.get(name.base())
    }
}

/// Settings of one stream.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// Where it comes from, and who may publish it.
    pub source: Source,
    /// How much media is kept (`DVR`). 50 s by default.
    pub window: Duration,
    /// How long viewers are kept when the publisher is gone. 10 s by default; the window with
    /// `resume`.
    pub linger: Duration,
    /// A new publisher replaces the one that is there.
    pub takeover: bool,
}

/// How bytes go to viewers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// When frames are gathered before they are sent.
    pub merge: Merge,
    /// The longest time that a frame is held for the ones after it. 100 ms by default, at most
    /// 1 s.
    pub merge_max: Duration,
    /// A viewer that is further behind is moved to the newest keyframe. 5 s by default.
    pub viewer_queue: Duration,
    /// A viewer that has taken nothing for so long is closed. 10 s by default.
    pub viewer_stall: Duration,
    /// Bytes of one container that are kept for slow viewers, whatever the times above say.
    pub feed_bytes_max: u64,
    /// Bytes of frames that one stream keeps.
    pub stream_bytes_max: usize,
}

/// When frames are gathered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Merge {
    /// Never: each frame is sent when it arrives.
    Off,
    /// When the shard is busy, the longer the busier it is.
    Adaptive,
    /// Always for `merge_max`.
    Fixed,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            merge: Merge::Adaptive,
            merge_max: Duration::from_millis(100),
            viewer_queue: Duration::from_secs(5),
            viewer_stall: Duration::from_secs(10),
            // 5 s at 50 Mbit/s.
            feed_bytes_max: 32 << 20,
            // The default window of 50 s at 40 Mbit/s.
            stream_bytes_max: 256 << 20,
        }
    }
}

/// The ports that players connect to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// HTTP, for pages that are not asked for by that port themselves.
    pub http: u16,
    /// RTMP.
    pub rtmp: Option<u16>,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            http: 8080,
            rtmp: Some(1935),
        }
    }
}
