//! Bounds, waiting times and compression.

use std::time::Duration;

/// Bounds and waiting times of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The largest payload of a frame that is taken, as it is on the wire.
    pub frame_bytes_max: u64,
    /// The largest message that is taken, inflated.
    pub message_bytes_max: usize,
    /// Pings, pongs and empty fragments. Ten seconds' worth may come at once.
    pub control_frames_per_s: u32,
    /// Bytes that may wait to be taken by [`Session::poll_transmit`](super::Session::poll_transmit).
    /// Beyond it the session closes: whoever sends to a peer that does not read has to stop before.
    pub queue_bytes_max: usize,
    /// Without input for so long, a ping is sent.
    pub ping_interval: Duration,
    /// From a ping to any input.
    pub pong_timeout: Duration,
    /// From the first byte of a message to its last.
    pub message_timeout: Duration,
    /// From [`Session::close`](super::Session::close) to the peer's answer.
    pub close_timeout: Duration,
    /// How to compress, if a client offers it; None declines.
    pub deflate: Option<DeflateOptions>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            frame_bytes_max: 1024 * 1024,
            message_bytes_max: 1024 * 1024,
            control_frames_per_s: 20,
            queue_bytes_max: 4 << 20,
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(15),
            message_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
            deflate: Some(DeflateOptions::default()),
        }
    }
}

/// How `permessage-deflate` is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeflateOptions {
    /// 1 (fast) to 9 (small).
    pub level: u8,
    /// Messages below this size are sent as they are: a frame of 200 bytes fits a packet anyway.
    pub threshold_bytes: usize,
    /// Keep the context from one message to the next in both directions: smaller messages for
    /// some 300 kB a connection.
    pub context_takeover: bool,
    /// The base-two logarithm of the window, 9 to 15.
    pub window_bits: u8,
}

impl Default for DeflateOptions {
    fn default() -> Self {
        Self {
            level: 3,
            threshold_bytes: 256,
            context_takeover: false,
            window_bits: 15,
        }
    }
}
