//! Collecting again and again, by one of the nodes on a store.

use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, interval_at, sleep};
use tracing::{debug, info, warn};

use super::state::{self, Phase};
use super::{Activity, CollectOptions, CollectReport, CollectStep};
use crate::upload::random;
use crate::{Error, Registry, Result};

/// The first collection of a schedule comes within this time.
const FIRST_WITHIN: Duration = Duration::from_secs(3600);

/// How long after a failure it is tried again, at the most, and how often it is looked whether
/// another collector has gone.
const RETRY: Duration = Duration::from_secs(600);

/// How often it is told how far one has got.
const TELL: Duration = Duration::from_secs(60);

/// When collections begin (`storage.maintenance.gc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectSchedule {
    /// The time between two of them, on whichever node.
    pub interval: Duration,
    /// What they remove.
    pub options: CollectOptions,
}

impl Registry {
    /// Collects again and again, as long as no other node does. The first time comes at random
    /// within an hour, or the interval when that is shorter. In read-only mode nothing is removed.
    pub async fn collect_regularly(self, schedule: CollectSchedule) {
        let interval = schedule.interval;
        let mut wait = interval.min(FIRST_WITHIN).mul_f64(random());
        loop {
            debug!(in_seconds = wait.as_secs(), "the next collection");
            self.wait_for_turn(wait).await;
            wait = match self.collect_if_due(schedule).await {
                Ok(wait) => wait,
                Err(Error::ReadOnly) => {
                    info!("nothing is collected in read-only mode");
                    interval
                }
                Err(Error::AlreadyCollecting) => {
                    info!("another node collects, or this one evicts what a cache keeps");
                    interval.min(RETRY)
                }
                Err(error) => {
                    warn!(%error, "the collection failed");
                    interval.min(RETRY)
                }
            };
        }
    }

    /// Waits for so long, or until it looks as if a collector had gone while it removed: whoever
    /// needs what it has condemned is kept waiting until another goes on.
    async fn wait_for_turn(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut seen = None;
        while Instant::now() < until {
            sleep(RETRY.min(until - Instant::now())).await;
            let state = state::read(&*self.shared.driver).await.ok().flatten();
            let removing = state.filter(|state| state.phase == Phase::Executing);
            if removing.is_some() && removing == seen {
                return;
            }
            seen = removing;
        }
    }

    /// Collects unless that was done less than an interval ago; gives the time to the next one.
    async fn collect_if_due(&self, schedule: CollectSchedule) -> Result<Duration> {
        let last = state::read(&*self.shared.driver).await?;
        let over = last.filter(|state| state.phase == Phase::Over || state.evicts);
        let collected = over.and_then(|state| state.last_collected());
        let ago = collected.map(|time| Timestamp::now().duration_since(time).unsigned_abs());
        if let Some(ago) = ago.filter(|ago| *ago < schedule.interval) {
            return Ok(schedule.interval - ago);
        }
        self.collect_and_log(schedule.options, |_| {}).await?;
        Ok(schedule.interval)
    }

    /// Collects, and tells the log how far it has got and what comes of it.
    ///
    /// # Errors
    /// As [`collect`](Registry::collect).
    pub async fn collect_and_log(
        &self,
        options: CollectOptions,
        mut told: impl FnMut(CollectStep<'_>) + Send,
    ) -> Result<CollectReport> {
        let dry_run = options.dry_run;
        info!(
            dry_run,
            delete_untagged = options.delete_untagged,
            "a collection begins"
        );
        let collecting = self.collect(options, |step| {
            log_step(step);
            told(step);
        });
        let mut collecting = pin!(collecting);
        let mut every = interval_at(Instant::now() + TELL, TELL);
        let report = loop {
            tokio::select! {
                report = &mut collecting => break report?,
                _ = every.tick() => self.log_progress(),
            }
        };
        log_report(&report, dry_run);
        Ok(report)
    }

    /// Tells the log how far a collection has got.
    fn log_progress(&self) {
        let progress = self.collect_progress();
        info!(
            activity = ?progress.activity,
            done = progress.done,
            of = progress.expected,
            unit = progress.activity.unit(),
            seconds_left = progress.seconds_left,
            "the collection goes on"
        );
    }
}

fn log_step(step: CollectStep<'_>) {
    match step {
        CollectStep::Activity(activity) => match activity {
            Activity::Marking => info!("looking for what manifests need"),
            Activity::Searching => info!("looking for blobs that are not needed"),
            Activity::MarkingAgain => info!("looking for what has come to be needed"),
            Activity::Removing => info!("removing what is not needed"),
            Activity::Tidying => info!("removing empty repositories and leftovers"),
            Activity::Idle | Activity::Condemned | Activity::Executing => {}
        },
        CollectStep::Marked(report) => info!(
            needed = report.marked,
            manifests = report.manifests,
            blobs = report.blobs,
            bytes = report.bytes,
            young = report.young,
            later = report.later,
            "everything that is needed is known"
        ),
        CollectStep::Waiting {
            time,
            is_pardonable: true,
            ..
        } => info!(seconds = time.as_secs(), "what is not needed is condemned"),
        CollectStep::Waiting { time, .. } => {
            info!(
                seconds = time.as_secs(),
                "what is not needed is removed soon"
            );
        }
        CollectStep::Manifest(repository, digest) => {
            debug!(%repository, %digest, "an untagged manifest goes");
        }
        CollectStep::LayerLink(repository, digest) => {
            debug!(%repository, %digest, "a link goes");
        }
        CollectStep::Blob(digest) => debug!(%digest, "a blob goes"),
        CollectStep::StaleTag(repository, tag) => {
            info!(%repository, %tag, "a tag goes that stands for nothing");
        }
        CollectStep::EmptyRepository(repository) => {
            info!(%repository, "a repository goes in which nothing is left");
        }
        CollectStep::Repository(_)
        | CollectStep::MarkedManifest(..)
        | CollectStep::MarkedBlob(..) => {}
    }
}

fn log_report(report: &CollectReport, dry_run: bool) {
    info!(
        dry_run,
        manifests = report.manifests,
        links = report.layer_links,
        blobs = report.blobs,
        bytes = report.bytes,
        tags = report.stale_tags,
        repositories = report.repositories,
        leftovers = report.leftovers,
        needed = report.marked,
        spared = report.spared,
        young = report.young,
        later = report.later,
        "the collection is over"
    );
}
