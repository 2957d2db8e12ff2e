//! What viewers have measured.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The longest time that is told apart.
const TIME_MAX: Duration = Duration::from_mins(2);

/// Times in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        let max = TIME_MAX.as_micros() as u64;
        Self(Histogram::new_with_max(max, 3).expect("the bounds are ones that it takes"))
    }
}

impl Times {
    pub(crate) fn record(&mut self, time: Duration) {
        self.0.saturating_record(time.as_micros() as u64);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// In milliseconds, `null` without any.
    fn quantile(&self, share: f64) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        milliseconds(self.0.value_at_quantile(share))
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(crate) fn summary(&self) -> Value {
        json!({
            "p50": self.quantile(0.5),
            "p99": self.quantile(0.99),
            "p999": self.quantile(0.999),
            "max": self.quantile(1.0),
            "count": self.0.len(),
        })
    }
}

fn milliseconds(us: u64) -> Value {
    json!(us as f64 / 1000.0)
}

/// The measurements of some viewers.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tally {
    /// From sending a frame to its arrival.
    pub(crate) latency: Times,
    /// Between two deliveries to one viewer.
    pub(crate) gap: Times,
    /// From connecting to the first byte of media.
    pub(crate) first_byte: Times,
    /// From connecting to the first complete keyframe.
    pub(crate) first_keyframe: Times,
    /// Gaps of more than a second.
    pub(crate) stalls: u64,
    /// Connections that failed or were refused.
    pub(crate) errors: u64,
    /// Connections that were lost after the first byte.
    pub(crate) disconnects: u64,
    /// What went wrong first, for a human.
    pub(crate) complaint: Option<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.gap.add(&other.gap);
        self.first_byte.add(&other.first_byte);
        self.first_keyframe.add(&other.first_keyframe);
        self.stalls += other.stalls;
        self.errors += other.errors;
        self.disconnects += other.disconnects;
        if self.complaint.is_none() {
            self.complaint.clone_from(&other.complaint);
        }
    }
}
