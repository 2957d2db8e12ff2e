//! Bounds and waiting times.

use std::time::Duration;

/// Bounds and waiting times of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Streams that the peer may have open at once. RFC 9113 section 6.5.2 recommends no fewer
    /// than 100.
    pub streams_max: u32,
    /// The longest path with its query. As in HTTP/1.
    pub target_bytes_max: u32,
    /// The largest list of header fields, counted as RFC 9113 section 10.5.1 says: each field has
    /// 32 bytes of overhead. Beyond it the answer is 431.
    pub header_bytes_max: u32,
    /// The most header fields; at most 126, since the method and path lines are not fields and
    /// Host may have to be added.
    pub headers_max: u32,
    /// The longest request body. Also the window of each stream, so that a body is never slowed
    /// down; at least 65 535 are in the window.
    pub body_bytes_max: u32,
    /// The window of the connection, which is also the bound on the bodies being collected on it:
    /// it is opened again when a body is complete.
    pub bodies_bytes_max: u32,
    /// The largest frame that is taken: 16 384 to 16 777 215.
    pub frame_bytes_max: u32,
    /// The largest table of header fields that the peer may have us keep.
    pub header_table_bytes_max: u32,
    /// Bytes given to [`Session::send`](super::Session::send) on one stream that the peer has not
    /// taken. Beyond it the stream is reset. A live viewer's owner stops far below; the largest
    /// body sent this way is a segment of some ten seconds.
    pub stream_queue_bytes_max: usize,
    /// The same over all streams and whole responses too. With shared bytes it bounds what a
    /// peer that does not read keeps alive.
    pub queue_bytes_max: usize,
    /// Bytes that [`Session::poll_transmit`](super::Session::poll_transmit) may have ready, plus at
    /// most one frame. What is beyond stays where it can still be reset.
    pub output_bytes_max: usize,
    /// Input that waits until the peer has read the answers to its pings and settings.
    pub input_bytes_max: usize,
    /// Streams that the peer reset before they were seen. A peer that does this saves itself the
    /// cost of the answer.
    pub pending_resets_max: usize,
    /// Streams in error that are reset by this side, over the connection's life.
    pub error_resets_max: usize,
    /// Resets of streams by the peer. Ten seconds' worth may come at once: a player that seeks
    /// gives up what it has asked for.
    pub resets_per_s: u32,
    /// Control frames. Ten seconds' worth may come at once.
    pub control_frames_per_s: u32,
    /// Window updates: a reader of 1 Gbit/s opens its windows some 8000 times a second if it does
    /// for each 32 kB, stream and connection. One second's worth may come at once.
    pub window_updates_per_s: u32,
    /// From the connection's start to the peer's first SETTINGS.
    pub handshake_timeout: Duration,
    /// From the first byte of a frame, or of the first frame of a header block, to its end.
    pub header_timeout: Duration,
    /// From the end of a request's head to the end of its body. Beyond it the answer is 408.
    pub body_timeout: Duration,
    /// Without a stream.
    pub idle_timeout: Duration,
    /// With something to send of which nothing moves.
    pub stall_timeout: Duration,
    /// From [`Session::close`](super::Session::close) to the end of the last stream.
    pub close_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            streams_max: 100,
            target_bytes_max: 8 * 1024,
            header_bytes_max: 16 * 1024,
            headers_max: 64,
            body_bytes_max: 1024 * 1024,
            // A client that uploads segments of 550 kB at 50 ms has one and a half of them under
            // way at 100 Mbit/s.
            bodies_bytes_max: 2 * 1024 * 1024,
            frame_bytes_max: 16 * 1024,
            header_table_bytes_max: 4096,
            stream_queue_bytes_max: 8 << 20,
            queue_bytes_max: 32 << 20,
            output_bytes_max: 64 * 1024,
            input_bytes_max: 64 * 1024,
            pending_resets_max: 20,
            error_resets_max: 100,
            resets_per_s: 20,
            control_frames_per_s: 50,
            window_updates_per_s: 10_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(30),
        }
    }
}
