//! Counters and histograms, one set a shard, put together when somebody asks.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 10_000_000;

/// How long frames stay in the server: from the receipt of a frame's last byte to the submission
/// of the send that carries it, in microseconds.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            histogram: Histogram::new_with_max(LATENCY_US_MAX, 2)
                .expect("the bounds are ones that the histogram takes"),
        }
    }
}

impl Latency {
    /// Counts `sends` sends of a frame that stayed for `stay`.
    pub fn record(&mut self, stay: Duration, sends: u64) {
        self.histogram
            .saturating_record_n(stay.as_micros() as u64, sends);
    }

    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("all have the same bounds");
    }

    /// Sends counted.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The sum of all, in microseconds.
    pub fn sum_us(&self) -> f64 {
        self.histogram.mean() * self.histogram.len() as f64
    }

    /// The value below which `share` (0 to 1) of all lie, in microseconds.
    pub fn quantile_us(&self, share: f64) -> u64 {
        self.histogram.value_at_quantile(share)
    }

    /// How many lie at or below `us` microseconds.
    pub fn at_most(&self, us: u64) -> u64 {
        self.histogram.count_between(0, us)
    }
}

/// One shard's engine at one moment.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    /// Connections, closing ones included.
    pub connections: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed for newer ones.
    pub displaced: u64,
    /// Connections refused for want of room.
    pub refused: u64,
    /// Times that accepting failed.
    pub accept_failures: u64,
    /// Connections closed because they did not read their answers.
    pub overfull: u64,
    /// TLS handshakes that have ended well.
    pub tls_handshakes: u64,
    /// TLS connections that were gone before their handshake had.
    pub tls_failures: u64,
    /// TLS connections, closing ones included.
    pub tls_connections: u64,
    /// Connections closed because they took nothing of an answer for too long.
    pub stalled: u64,
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Completions.
    pub completions: u64,
    /// Sends submitted.
    pub sends: u64,
    /// Times that the kernel had no receive buffer.
    pub no_buffers: u64,
    /// Operations that failed.
    pub operation_errors: u64,
    /// Messages under way to other shards.
    pub mesh_depth: u64,
    /// Media messages dropped because another shard's queue was full.
    pub mesh_dropped: u64,
    /// CPU time of the shard's thread, in microseconds.
    pub cpu_us: u64,
    /// Added latency.
    pub latency: Latency,
    /// Receives of datagrams.
    pub datagrams_received: u64,
    /// Datagrams that did not fit in a buffer.
    pub datagrams_truncated: u64,
    /// Sends of datagrams, of one or several each.
    pub datagram_sends: u64,
    /// Datagrams that the kernel has taken.
    pub datagrams_sent: u64,
    /// Sends of datagrams lost because the socket or the device was full.
    pub datagram_sends_full: u64,
    /// Sends of datagrams that failed for another reason.
    pub datagram_sends_failed: u64,
    /// Sends of datagrams that were not submitted, since too many were under way.
    pub datagram_sends_dropped: u64,
    /// Sends of WebRTC media by the number of packets in one, 1 to 16; the first is not used.
    pub segments: [u64; 17],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_add_up() {
        let (mut a, mut b) = (Latency::default(), Latency::default());
        a.record(Duration::from_micros(100), 9);
        b.record(Duration::from_millis(5), 1);
        a.add(&b);
        assert_eq!(a.count(), 10);
        assert_eq!(a.quantile_us(0.5), 100);
        assert!(a.quantile_us(0.99) >= 4900);
        assert_eq!(a.at_most(1000), 9);
    }
}
