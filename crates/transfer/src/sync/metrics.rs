//! What is counted of jobs that copy between registries.

use std::sync::atomic::AtomicI64;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::{Error, Report};

/// What is counted of all jobs.
#[derive(Clone, Debug, Default)]
pub struct SyncMetrics {
    upstreams: wharfinger_remote::Metrics,
    runs: Family<RunLabels, Counter>,
    failures: Family<JobLabels, Counter>,
    blobs: Family<JobLabels, Counter>,
    bytes: Family<JobLabels, Counter>,
    removed: Family<JobLabels, Counter>,
    tags: Family<JobLabels, Gauge<i64, AtomicI64>>,
    last_success: Family<JobLabels, Gauge<i64, AtomicI64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    job: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    job: String,
    outcome: &'static str,
}

impl SyncMetrics {
    /// What is counted of the registries that are copied from and to.
    pub fn upstreams(&self) -> &wharfinger_remote::Metrics {
        &self.upstreams
    }

    /// Lets `registry` tell them, under names that begin with `sync_`.
    pub fn register(&self, registry: &mut Registry) {
        let sync = registry.sub_registry_with_prefix("sync");
        self.upstreams.register(sync);
        sync.register(
            "runs",
            "Runs of a job: complete, partial where something could not be copied, or failed",
            self.runs.clone(),
        );
        for (name, help, family) in [
            (
                "failures",
                "Images that a job could not copy or remove",
                &self.failures,
            ),
            ("blobs", "Blobs that a job copied", &self.blobs),
            ("bytes", "Bytes of blobs that a job copied", &self.bytes),
            ("removed_tags", "Tags that a job removed", &self.removed),
        ] {
            sync.register(name, help, family.clone());
        }
        sync.register(
            "tags",
            "Tags that were there at the end of a job's last run",
            self.tags.clone(),
        );
        sync.register(
            "last_success_timestamp_seconds",
            "When a job's last complete run ended, in seconds since 1970",
            self.last_success.clone(),
        );
    }

    /// Counts a run.
    pub(super) fn ran(&self, job: &str, outcome: &Result<Report, Error>) {
        let job = job.to_owned();
        let (outcome, report) = match outcome {
            Ok(report) if report.failures.is_empty() => ("complete", Some(report)),
            Ok(report) => ("partial", Some(report)),
            Err(_) => ("failed", None),
        };
        let labels = RunLabels {
            job: job.clone(),
            outcome,
        };
        self.runs.get_or_create(&labels).inc();
        let labels = JobLabels { job };
        let Some(report) = report else {
            return;
        };
        for (family, number) in [
            (&self.failures, report.failures.len() as u64),
            (&self.blobs, report.blobs),
            (&self.bytes, report.bytes),
            (&self.removed, report.removed),
        ] {
            family.get_or_create(&labels).inc_by(number);
        }
        let tags = i64::try_from(report.tags).unwrap_or(i64::MAX);
        self.tags.get_or_create(&labels).set(tags);
        if outcome == "complete" {
            let now = Timestamp::now().as_second();
            self.last_success.get_or_create(&labels).set(now);
        }
    }
}
