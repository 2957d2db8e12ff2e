//! ringside's own control: health, and metrics for Prometheus.

mod metrics_text;

pub use metrics_text::{Family, Sample, metrics_text};
