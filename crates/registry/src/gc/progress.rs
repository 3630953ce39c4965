//! How far a collection has got, and what all of them came to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use jiff::Timestamp;
use serde::Serialize;

use super::{CollectReport, CollectStep};
use crate::{Registry, Result};

/// What a collection of this process is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// There is none.
    #[default]
    Idle,
    /// It finds out what is needed.
    Marking,
    /// What it wants to remove is known, and can be pardoned.
    Condemned,
    /// It removes.
    Removing,
}

/// How far the collection of this process has got, and what its collections came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CollectProgress {
    /// What it does.
    pub activity: Activity,
    /// How many repositories this one has looked through.
    pub repositories: u64,
    /// How many manifests it has found to stay.
    pub manifests: u64,
    /// How many blobs are to go, as far as it is known.
    pub condemned: u64,
    /// How many collections have ended well.
    pub succeeded: u64,
    /// How many have not.
    pub failed: u64,
    /// When the last one ended well, in seconds since 1970; 0 for never.
    pub last_success: u64,
    /// How many manifests they have removed.
    pub removed_manifests: u64,
    /// How many links.
    pub removed_links: u64,
    /// How many blobs.
    pub removed_blobs: u64,
    /// How many bytes.
    pub removed_bytes: u64,
    /// How many things were to go and were spared.
    pub spared: u64,
}

/// The same, as it is counted.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    activity: AtomicU64,
    repositories: AtomicU64,
    manifests: AtomicU64,
    condemned: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    last_success: AtomicU64,
    removed_manifests: AtomicU64,
    removed_links: AtomicU64,
    removed_blobs: AtomicU64,
    removed_bytes: AtomicU64,
    spared: AtomicU64,
}

impl Progress {
    const ACTIVITIES: [Activity; 4] = [
        Activity::Idle,
        Activity::Marking,
        Activity::Condemned,
        Activity::Removing,
    ];

    fn enter(&self, activity: Activity) {
        let number = Self::ACTIVITIES.iter().position(|one| *one == activity);
        self.activity.store(number.unwrap_or(0) as u64, Relaxed);
    }

    pub(super) fn begin(&self) {
        self.enter(Activity::Marking);
        for number in [&self.repositories, &self.manifests, &self.condemned] {
            number.store(0, Relaxed);
        }
    }

    pub(super) fn note(&self, step: &CollectStep<'_>) {
        match step {
            CollectStep::Repository(_) => drop(self.repositories.fetch_add(1, Relaxed)),
            CollectStep::MarkedManifest(..) => drop(self.manifests.fetch_add(1, Relaxed)),
            CollectStep::Marked(report) => self.condemned.store(report.blobs, Relaxed),
            CollectStep::Waiting { is_pardonable, .. } => self.enter(match is_pardonable {
                true => Activity::Condemned,
                false => Activity::Removing,
            }),
            _ => {}
        }
    }

    pub(super) fn end(&self, report: &Result<CollectReport>, dry_run: bool) {
        self.enter(Activity::Idle);
        let report = match report {
            Ok(report) => report,
            Err(_) => {
                self.failed.fetch_add(1, Relaxed);
                return;
            }
        };
        if dry_run {
            return;
        }
        self.succeeded.fetch_add(1, Relaxed);
        let now = Timestamp::now().as_second().unsigned_abs();
        self.last_success.store(now, Relaxed);
        for (counter, number) in [
            (&self.removed_manifests, report.manifests),
            (&self.removed_links, report.layer_links),
            (&self.removed_blobs, report.blobs),
            (&self.removed_bytes, report.bytes),
            (&self.spared, report.spared),
        ] {
            counter.fetch_add(number, Relaxed);
        }
    }
}

impl Registry {
    /// How far a collection of this process has got.
    pub fn collect_progress(&self) -> CollectProgress {
        let progress = &self.shared.progress;
        let number = |counter: &AtomicU64| counter.load(Relaxed);
        let activity = usize::try_from(number(&progress.activity)).unwrap_or(0);
        CollectProgress {
            activity: Progress::ACTIVITIES[activity % Progress::ACTIVITIES.len()],
            repositories: number(&progress.repositories),
            manifests: number(&progress.manifests),
            condemned: number(&progress.condemned),
            succeeded: number(&progress.succeeded),
            failed: number(&progress.failed),
            last_success: number(&progress.last_success),
            removed_manifests: number(&progress.removed_manifests),
            removed_links: number(&progress.removed_links),
            removed_blobs: number(&progress.removed_blobs),
            removed_bytes: number(&progress.removed_bytes),
            spared: number(&progress.spared),
        }
    }
}
