//! Mirroring: what another registry has is brought here ahead of time, or what is here is brought
//! there, again and again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wharfinger_oci::manifest::{Manifest, Referenced};
use wharfinger_oci::{Digest, RepositoryName, Tag};
use wharfinger_registry::Registry;
use wharfinger_remote::Upstream;

use crate::copy::{Copying, Listed};
use crate::endpoint::{Blob, Mirror, Place, Source, Target};
use crate::error::Problem;
use crate::naming::Naming;
use crate::remote::{RemoteSource, RemoteTarget};
use crate::report::Failure;
use crate::selection::Selection;
use crate::store::{StoreSource, StoreTarget};
use crate::{Fault, Report, Result, Step};

mod metrics;
mod schedule;

pub use metrics::SyncMetrics;
pub use schedule::{SyncSchedule, sync_regularly};

/// Which way images go.
#[derive(Clone, Debug)]
pub enum Direction {
    /// From another registry to this one.
    From(Arc<Upstream>),
    /// From this registry to another one, which [is pushed to](wharfinger_remote::Reach).
    To(Arc<Upstream>),
}

/// What is removed where images go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// Nothing.
    #[default]
    None,
    /// Tags that would be copied if they were where images come from, and are not there any more.
    Tags,
}

/// What is copied again and again.
#[derive(Clone, Debug)]
pub struct SyncJob {
    /// What it is called: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Between whom.
    pub direction: Direction,
    /// What, by its names where it comes from.
    pub selection: Selection,
    /// What it is called where it goes to.
    pub naming: Naming,
    /// What is removed there.
    pub deletion: Deletion,
    /// How many images are copied at once.
    pub at_once: usize,
}

/// Brings one registry up to date with the other. What is there already is not copied again, so
/// that one which was cut short goes on where it was. With `dry_run` nothing is written.
///
/// # Errors
/// When repositories cannot be listed, names collide, or this registry fails. What else cannot be
/// copied or removed is in [`Report::failures`].
pub async fn sync(
    registry: &Registry,
    job: &SyncJob,
    dry_run: bool,
    told: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report> {
    match &job.direction {
        Direction::From(upstream) => {
            let kept = Some((registry, &job.naming));
            let source = RemoteSource::new(Arc::clone(upstream), job.selection.choice(), kept);
            let target = StoreTarget::new(registry);
            between(&source, &target, job, dry_run, told).await
        }
        Direction::To(upstream) => {
            let source = StoreSource(registry);
            let target = RemoteTarget::new(Arc::clone(upstream));
            between(&source, &target, job, dry_run, told).await
        }
    }
}

async fn between<S: Source, M: Mirror>(
    source: &S,
    target: &M,
    job: &SyncJob,
    dry_run: bool,
    told: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report> {
    let SyncJob {
        selection, naming, ..
    } = job;
    let (mut report, listed) = match dry_run {
        true => {
            let trial = Trial::new(target, told);
            let copying = Copying::new(source, &trial, selection, naming, told);
            let (mut report, listed) = copying.run_and_list().await?;
            report.tags = trial.seen().tags;
            (report, listed)
        }
        false => {
            let copying = Copying::new(source, target, selection, naming, told);
            copying.at_once(job.at_once).run_and_list().await?
        }
    };
    if job.deletion == Deletion::Tags {
        let removal = Removal {
            source,
            target,
            selection,
            dry_run,
            told,
        };
        for one in listed.iter().filter(|one| one.is_whole) {
            removal.remove_gone(one, &mut report).await?;
        }
    }
    Ok(report)
}

/// The removal of tags that are gone where images come from.
struct Removal<'a, S, M> {
    source: &'a S,
    target: &'a M,
    selection: &'a Selection,
    dry_run: bool,
    told: &'a (dyn Fn(Step<'_>) + Sync),
}

impl<S: Source, M: Mirror> Removal<'_, S, M> {
    /// Removes what is gone of a repository, all of which was copied.
    async fn remove_gone(&self, listed: &Listed, report: &mut Report) -> Result<()> {
        let Some(all) = &listed.all else {
            return Ok(());
        };
        let tags = self.target.tags(&listed.target).await;
        let Some(tags) = self.or_fail(listed.target.to_string(), tags, report)? else {
            return Ok(());
        };
        let gone = tags.into_iter().filter(|tag| {
            !all.contains(tag) && self.selection.has_tag(&listed.name, tag) && !is_digest_tag(tag)
        });
        let gone: Vec<Tag> = gone.collect();
        if all.is_empty() && !gone.is_empty() {
            self.fail(listed.name.to_string(), Fault::Emptied, report);
            return Ok(());
        }
        for tag in gone {
            let image = format!("{}:{tag}", listed.name);
            // A list that was cut short looks like one of fewer tags.
            match self.source.tagged(&listed.name, &tag).await {
                Ok(None) => {}
                Ok(Some(_)) => {
                    self.fail(image, Fault::Unlisted, report);
                    continue;
                }
                Err(fault) => {
                    self.fail(image, fault, report);
                    continue;
                }
            }
            if !self.dry_run {
                let removed = self.target.untag(&listed.target, &tag).await;
                if self.or_fail(image, removed, report)?.is_none() {
                    continue;
                }
            }
            report.removed += 1;
            (self.told)(Step::Removed(&listed.target, &tag));
        }
        Ok(())
    }

    fn or_fail<T>(
        &self,
        image: String,
        outcome: Result<T, Problem>,
        report: &mut Report,
    ) -> Result<Option<T>> {
        match outcome {
            Ok(outcome) => Ok(Some(outcome)),
            Err(Problem::Fatal(error)) => Err(error),
            Err(Problem::Fault(fault) | Problem::Passing(fault)) => {
                self.fail(image, fault, report);
                Ok(None)
            }
        }
    }

    fn fail(&self, image: String, fault: Fault, report: &mut Report) {
        let failure = Failure { image, fault };
        (self.told)(Step::Failed(&failure));
        report.failures.push(failure);
    }
}

/// Whether a tag is one of those that are called after a digest: signatures and lists of referrers,
/// which are there for what they are about.
fn is_digest_tag(tag: &Tag) -> bool {
    let text = tag.as_str();
    let digest = text.split('.').next().unwrap_or_default();
    digest.replacen('-', ":", 1).parse::<Digest>().is_ok()
}

/// A registry that is not written to: it is only found out what would be.
struct Trial<'a, M> {
    target: &'a M,
    told: &'a (dyn Fn(Step<'_>) + Sync),
    seen: Mutex<Seen>,
}

/// What was found out.
#[derive(Debug, Default)]
struct Seen {
    /// How many tags would be written.
    tags: u64,
    /// The blobs that would be there.
    copied: HashSet<Digest>,
    /// How many blobs would be copied for the image that is looked at, and their bytes.
    pending: (u64, u64),
}

impl<'a, M: Mirror> Trial<'a, M> {
    fn new(target: &'a M, told: &'a (dyn Fn(Step<'_>) + Sync)) -> Self {
        Self {
            target,
            told,
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Mirror> Target for Trial<'_, M> {
    async fn has(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        _size: Option<u64>,
    ) -> Result<bool, Problem> {
        if self.seen().copied.contains(digest) {
            return Ok(true);
        }
        self.target.holds(name, digest).await
    }

    async fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Problem> {
        self.target.has_manifest(name, digest).await
    }

    async fn is_whole(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        manifest: &Manifest,
    ) -> Result<bool, Problem> {
        self.target.is_whole(name, digest, manifest).await
    }

    async fn blob(&self, _name: &RepositoryName, blob: Blob<'_>) -> Result<(), Problem> {
        let mut seen = self.seen();
        seen.copied.insert(blob.digest);
        seen.pending.0 += 1;
        seen.pending.1 += blob.size;
        Ok(())
    }

    async fn manifest(
        &self,
        name: &RepositoryName,
        _manifest: &Manifest,
        digest: &Digest,
        place: Place<'_>,
    ) -> Result<(), Problem> {
        let Place::Top(Some(tag)) = place else {
            return Ok(());
        };
        let is_same = self.target.tagged(name, tag).await? == Some(*digest);
        let (blobs, bytes) = std::mem::take(&mut self.seen().pending);
        if !is_same || blobs > 0 {
            self.seen().tags += 1;
            (self.told)(Step::WouldTag(name, tag, digest, blobs, bytes));
        }
        Ok(())
    }

    fn requires(&self, name: &RepositoryName, reference: &Referenced<'_>) -> bool {
        self.target.requires(name, reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_are_called_after_digests_are_told_from_others() {
        let hex = "a".repeat(64);
        for (tag, wanted) in [
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            ("sha256-abc".to_owned(), false),
            ("1.2.3".to_owned(), false),
            (format!("v{hex}"), false),
        ] {
            assert_eq!(is_digest_tag(&tag.parse().unwrap()), wanted, "{tag}");
        }
    }
}
