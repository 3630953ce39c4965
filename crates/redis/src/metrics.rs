//! What is counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::cache::Shared;

/// How often Redis was asked, how often it knew, and how often it failed.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) errors: AtomicU64,
}

/// Gives the numbers at the time they are asked for.
#[derive(Debug)]
pub(crate) struct Counted(pub(crate) Arc<Shared>);

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.0.counts();
        // Hits first, so that they are never more than the requests.
        let hits = counts.hits.load(Relaxed);
        let mut counter = |name, help, value: u64| {
            let metric = ConstCounter::new(value);
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode(encoder)
        };
        let asked = "How often Redis was asked for a descriptor";
        counter("redis_cache_requests", asked, counts.requests.load(Relaxed))?;
        counter("redis_cache_hits", "How often Redis had it", hits)?;
        let failed = "How often Redis failed, or took too long";
        counter("redis_cache_errors", failed, counts.errors.load(Relaxed))?;
        let up = ConstGauge::new(i64::from(self.0.is_connected()));
        let help = "Whether Redis is in use: 1, or 0 while it cannot be reached";
        up.encode(encoder.encode_descriptor("redis_cache_up", help, None, MetricType::Gauge)?)
    }
}
