//! What is counted of other registries.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The bounds of the times until an answer, in seconds.
const SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// What is counted of all upstreams that are asked for the same purpose.
#[derive(Clone, Debug)]
pub struct Metrics {
    answers: Family<AnswerLabels, Counter>,
    seconds: Family<UpstreamLabels, Histogram, fn() -> Histogram>,
    bytes: Family<UpstreamLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    upstream: String,
    status: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            answers: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            bytes: Family::default(),
        }
    }
}

impl Metrics {
    /// Lets `registry` tell them, under names that begin with `upstream_`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "upstream_answers",
            "Answers of an upstream by status; none is no answer",
            self.answers.clone(),
        );
        registry.register(
            "upstream_seconds",
            "Time until an upstream's answer began, or did not come",
            self.seconds.clone(),
        );
        registry.register(
            "upstream_bytes",
            "Bytes of content received from an upstream",
            self.bytes.clone(),
        );
    }

    /// Those of one upstream.
    pub(crate) fn of(&self, upstream: &str) -> UpstreamMetrics {
        let upstream = upstream.to_owned();
        let labels = UpstreamLabels {
            upstream: upstream.clone(),
        };
        UpstreamMetrics {
            seconds: self.seconds.get_or_create(&labels).clone(),
            bytes: self.bytes.get_or_create(&labels).clone(),
            answers: self.answers.clone(),
            upstream,
        }
    }
}

/// What is counted of one upstream.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamMetrics {
    upstream: String,
    answers: Family<AnswerLabels, Counter>,
    seconds: Histogram,
    pub(crate) bytes: Counter,
}

impl UpstreamMetrics {
    /// Counts an answer, or that none came.
    pub(crate) fn answered(&self, status: Option<StatusCode>, took: Duration) {
        let status = status.map_or("none".to_owned(), |status| status.as_u16().to_string());
        let upstream = self.upstream.clone();
        let labels = AnswerLabels { upstream, status };
        self.answers.get_or_create(&labels).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
