//! Copying between registries again and again, by one of the nodes on a store.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, interval_at, sleep};
use tracing::{info, warn};
use uuid::Uuid;
use wharfinger_registry::{Registry, Turn, TurnTaking};

use super::{SyncJob, SyncMetrics, sync};
use crate::{Report, Result, Step};

/// The first time comes within this time.
const FIRST_WITHIN: Duration = Duration::from_secs(60);

/// How long after a failure, or when another node is at work, it is tried again, at the most.
const RETRY: Duration = Duration::from_secs(600);

/// How often others are told that this node is at work.
const EVERY: Duration = Duration::from_secs(30);

/// When a job is done.
#[derive(Clone, Debug)]
pub struct SyncSchedule {
    /// The job.
    pub job: SyncJob,
    /// The time between two ends of it, on whichever node.
    pub interval: Duration,
}

/// Does a job again and again, as long as no other node does. In read-only mode nothing is done.
pub async fn sync_regularly(registry: Registry, schedule: SyncSchedule, metrics: SyncMetrics) {
    let SyncSchedule { job, interval } = schedule;
    let node = Uuid::new_v4();
    let fraction = f64::from(node.as_fields().0) / f64::from(u32::MAX);
    let mut wait = interval.min(FIRST_WITHIN).mul_f64(fraction);
    loop {
        sleep(wait).await;
        wait = match registry.take_turn(&job.name, node, interval).await {
            Ok(TurnTaking::Taken(turn)) => run(&registry, &job, turn, &metrics).await,
            Ok(TurnTaking::Later(wait)) => Some(wait),
            Ok(TurnTaking::Others) => Some(RETRY.min(interval)),
            Err(wharfinger_registry::Error::ReadOnly) => {
                info!(job = job.name, "nothing is mirrored in read-only mode");
                None
            }
            Err(error) => {
                warn!(job = job.name, %error, "nothing is mirrored");
                None
            }
        }
        .unwrap_or(RETRY.min(interval));
    }
}

/// Does a job once; gives the time to the next one, unless it failed.
async fn run(
    registry: &Registry,
    job: &SyncJob,
    turn: Turn,
    metrics: &SyncMetrics,
) -> Option<Duration> {
    info!(job = job.name, "mirroring begins");
    let began = Instant::now();
    let told = |step: Step<'_>| match step {
        Step::Failed(failure) => warn!(job = job.name, %failure, "it is not copied"),
        Step::Removed(repository, tag) => {
            info!(job = job.name, %repository, %tag, "a tag is removed that is gone");
        }
        _ => {}
    };
    let outcome = {
        let mut running = pin!(sync(registry, job, false, &told));
        let mut every = interval_at(Instant::now() + EVERY, EVERY);
        loop {
            tokio::select! {
                outcome = &mut running => break outcome,
                _ = every.tick() => turn.beat().await,
            }
        }
    };
    metrics.ran(&job.name, &outcome);
    log(&job.name, began.elapsed(), &outcome);
    outcome.ok()?;
    turn.end().await
}

fn log(job: &str, took: Duration, outcome: &Result<Report>) {
    match outcome {
        Ok(report) => info!(
            job,
            seconds = took.as_secs(),
            tags = report.tags,
            blobs = report.blobs,
            bytes = report.bytes,
            removed = report.removed,
            failures = report.failures.len(),
            "mirroring is over"
        ),
        Err(error) => warn!(job, %error, "mirroring failed"),
    }
}
