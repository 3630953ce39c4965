//! How far a collection has got, how long it will take, and what all of them came to.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::{CollectReport, CollectStep};
use crate::{Error, Registry, Result};

/// What a collection of this process is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// There is none.
    #[default]
    Idle,
    /// It finds out what is needed.
    Marking,
    /// It looks for blobs that are not.
    Searching,
    /// What it wants to remove is known, and can be pardoned. It waits.
    Condemned,
    /// It finds out what has become needed since.
    MarkingAgain,
    /// Nothing can be pardoned any more. It waits for those who do not know of that yet.
    Executing,
    /// It removes.
    Removing,
    /// It removes what is left: empty repositories, and what writes cut short have left.
    Tidying,
}

impl Activity {
    /// What [`CollectProgress::done`] counts.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Idle => "",
            Self::Marking => "manifests",
            Self::Searching => "blobs",
            Self::Condemned | Self::Executing => "seconds",
            Self::MarkingAgain | Self::Tidying => "repositories",
            Self::Removing => "manifests and blobs",
        }
    }
}

/// How far the collection of this process has got, and what its collections came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CollectProgress {
    /// What it does.
    pub activity: Activity,
    /// How much of that is done, in the activity's [`unit`](Activity::unit).
    pub done: u64,
    /// How much there is of it altogether, as far as can be told; 0 where nothing can.
    pub expected: u64,
    /// How long the activity takes yet, in seconds, if it goes on as it did.
    pub seconds_left: Option<u64>,
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
    /// How many empty repositories.
    pub removed_repositories: u64,
    /// How many things were to go and were spared.
    pub spared: u64,
    /// What the last one that ended well came to.
    pub last: Option<CollectReport>,
}

/// The same, as it is counted.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    is_busy: bool,
    /// When the activity began.
    began: Option<Instant>,
    counts: CollectProgress,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A collection begins. Where another one is told of already, nothing is told of this one.
    pub(super) fn begin(&self) -> Working<'_> {
        let mut counted = self.lock();
        let is_told = !std::mem::replace(&mut counted.is_busy, true);
        if is_told {
            let counts = &mut counted.counts;
            (counts.repositories, counts.manifests, counts.condemned) = (0, 0, 0);
        }
        Working(is_told.then_some(self))
    }
}

/// A collection under way. When it is dropped without an [`end`](Self::end), the collection was cut
/// off.
#[derive(Debug)]
pub(super) struct Working<'a>(Option<&'a Progress>);

impl Working<'_> {
    fn counted(&self, change: impl FnOnce(&mut Counted)) {
        if let Some(progress) = self.0 {
            change(&mut progress.lock());
        }
    }

    /// Another activity begins; `expected` as in [`CollectProgress`].
    pub(super) fn enter(&self, activity: Activity, expected: u64) {
        self.counted(|counted| {
            counted.began = Some(Instant::now());
            counted.counts.activity = activity;
            (counted.counts.done, counted.counts.expected) = (0, expected);
        });
    }

    /// So much more is done.
    pub(super) fn advance(&self, number: u64) {
        self.counted(|counted| counted.counts.done += number);
    }

    /// What is done is about this part of all there is, from 0 to 1.
    pub(super) fn is_share(&self, share: f64) {
        self.counted(|counted| {
            let done = counted.counts.done;
            let all = (done as f64 / share.max(f64::EPSILON)).round();
            counted.counts.expected = (all as u64).max(done);
        });
    }

    /// How many repositories have been looked through; 0 where that is not counted.
    pub(super) fn repositories(&self) -> u64 {
        self.0
            .map_or(0, |progress| progress.lock().counts.repositories)
    }

    pub(super) fn note(&self, step: &CollectStep<'_>) {
        self.counted(|counted| {
            let counts = &mut counted.counts;
            match step {
                CollectStep::Repository(_) => counts.repositories += 1,
                CollectStep::MarkedManifest(..) => {
                    counts.manifests += 1;
                    counts.done += u64::from(counts.activity == Activity::Marking);
                }
                CollectStep::Marked(report) => counts.condemned = report.blobs,
                _ => {}
            }
        });
    }

    pub(super) fn end(mut self, report: &Result<CollectReport>, dry_run: bool) {
        let Some(progress) = self.0.take() else {
            return;
        };
        let mut counted = progress.lock();
        counted.rest();
        let counts = &mut counted.counts;
        match report {
            Ok(_) if dry_run => {}
            Ok(report) => {
                counts.succeeded += 1;
                counts.last_success = Timestamp::now().as_second().unsigned_abs();
                counts.removed_manifests += report.manifests;
                counts.removed_links += report.layer_links;
                counts.removed_blobs += report.blobs;
                counts.removed_bytes += report.bytes;
                counts.removed_repositories += report.repositories;
                counts.spared += report.spared;
                counts.last = Some(*report);
            }
            // It was not this one's turn.
            Err(Error::AlreadyCollecting | Error::ReadOnly) => {}
            Err(_) => counts.failed += 1,
        }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.counted(|counted| {
            counted.rest();
            counted.counts.failed += 1;
        });
    }
}

impl Counted {
    fn rest(&mut self) {
        self.is_busy = false;
        self.began = None;
        self.counts.activity = Activity::Idle;
        (self.counts.done, self.counts.expected) = (0, 0);
    }

    fn told(&self) -> CollectProgress {
        let mut counts = self.counts;
        let Some(began) = self.began else {
            return counts;
        };
        let elapsed = began.elapsed();
        if let Activity::Condemned | Activity::Executing = counts.activity {
            counts.done = elapsed.as_secs().min(counts.expected);
        }
        // More than was expected may have been found.
        counts.expected = match counts.expected {
            0 => 0,
            expected => expected.max(counts.done),
        };
        counts.seconds_left = left(&counts, elapsed);
        counts
    }
}

fn left(counts: &CollectProgress, elapsed: Duration) -> Option<u64> {
    let rest = counts.expected.checked_sub(counts.done)?;
    match counts.activity {
        _ if counts.expected == 0 => None,
        Activity::Condemned | Activity::Executing => Some(rest),
        _ if counts.done == 0 => None,
        _ => Some((elapsed.as_secs_f64() * rest as f64 / counts.done as f64) as u64),
    }
}

impl Registry {
    /// How far a collection of this process has got.
    pub fn collect_progress(&self) -> CollectProgress {
        self.shared.progress.lock().told()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_done_tells_how_long_the_rest_takes() {
        let progress = Progress::default();
        let told = || progress.lock().told();
        let working = progress.begin();
        working.enter(Activity::Removing, 400);
        assert_eq!(told().seconds_left, None);
        tokio::time::advance(Duration::from_secs(10)).await;
        working.advance(100);
        assert_eq!((told().done, told().expected), (100, 400));
        assert_eq!(told().seconds_left, Some(30));
        working.advance(400);
        assert_eq!((told().expected, told().seconds_left), (500, Some(0)));

        working.enter(Activity::Searching, 0);
        working.advance(50);
        assert_eq!((told().expected, told().seconds_left), (0, None));
        working.is_share(0.25);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!((told().expected, told().seconds_left), (200, Some(12)));

        working.enter(Activity::Condemned, 60);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!((told().done, told().seconds_left), (20, Some(40)));
        working.end(&Ok(CollectReport::default()), false);
        assert_eq!((told().activity, told().succeeded), (Activity::Idle, 1));
    }

    #[test]
    fn what_is_cut_off_is_told_as_failed_and_a_second_one_not_at_all() {
        let progress = Progress::default();
        let told = || progress.lock().told();
        let working = progress.begin();
        working.enter(Activity::Marking, 0);
        let second = progress.begin();
        second.enter(Activity::Removing, 7);
        second.end(&Err(Error::AlreadyCollecting), false);
        assert_eq!(told().activity, Activity::Marking);
        drop(working);
        assert_eq!((told().activity, told().failed), (Activity::Idle, 1));
        progress.begin().end(&Err(Error::AlreadyCollecting), false);
        assert_eq!((told().failed, told().succeeded), (1, 0));
    }
}
