//! Collection: removing what no manifest needs any more.
//!
//! [`mark`](self::mark) finds out what is needed and writes nothing; [`sweep`](self::sweep) finds
//! and removes the rest, links before the blobs they lead to, so that an interruption at any point
//! leaves nothing but garbage for the next run.
//!
//! While others write, that goes by a protocol (`docs/collection.md`): [`run`](self::run) has the
//! collector's steps, [`reliance`](self::reliance) the writers', [`view`](self::view) what a node
//! knows of the [`state`](self::state) in the store, and [`turn`](self::turn) whose turn it is.

mod blob_set;
mod item;
mod keep;
mod mark;
mod mark_set;
mod moment;
mod pace;
mod progress;
mod reliance;
mod run;
mod schedule;
mod state;
mod sweep;
mod turn;
mod view;

use std::time::Duration;

use wharfinger_oci::{Digest, RepositoryName};

use crate::catalog::CatalogWalk;
use crate::upload::LEFTOVER_AGE;
use crate::{Registry, Result};
pub(crate) use blob_set::BlobSet;
pub(crate) use item::Item;
use mark::{Marker, Marks, Untagged};
use mark_set::MarkSet;
use pace::Pace;
pub(crate) use progress::Progress;
pub use progress::{Activity, CollectProgress};
pub(crate) use reliance::Reliance;
pub use schedule::CollectSchedule;
use sweep::Unmarked;
pub(crate) use view::Views;

/// What a collection removes besides blobs that nothing needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectOptions {
    /// Nothing is removed, only told.
    pub dry_run: bool,
    /// Manifests go that no tag leads to: neither by itself, nor through an index, nor as the
    /// subject of a manifest that stays, nor as one that has such a manifest as its subject.
    pub delete_untagged: bool,
    /// Whether others may write to the store meanwhile, on this node or another, and for how long
    /// what is not needed stays before it goes: the time that a client has between being told that
    /// something is there and pushing what depends on it. What was written within that time stays
    /// altogether. `None` when nobody writes.
    pub serving: Option<Duration>,
    /// How many files are read or removed in a second at the most.
    pub rate: Option<u32>,
}

/// A step of a collection, told as it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectStep<'a> {
    /// A repository is looked through.
    Repository(&'a RepositoryName),
    /// A manifest stays.
    MarkedManifest(&'a RepositoryName, &'a Digest),
    /// A blob that a manifest needs stays; each blob is told once.
    MarkedBlob(&'a RepositoryName, &'a Digest),
    /// An untagged manifest goes.
    Manifest(&'a RepositoryName, &'a Digest),
    /// Everything is marked, and this is what the marks amount to.
    Marked(&'a CollectReport),
    /// A repository's link goes, as what it leads to does.
    LayerLink(&'a RepositoryName, &'a Digest),
    /// A blob goes.
    Blob(&'a Digest),
    /// For so long nothing happens: others go on with what they have begun.
    Waiting {
        /// How long it takes.
        time: Duration,
        /// Whether what comes to be needed meanwhile stays, without having to be uploaded again.
        is_pardonable: bool,
    },
}

/// What a collection found and, but for a dry run, removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// How many blobs are needed.
    pub marked: u64,
    /// How many untagged manifests go.
    pub manifests: u64,
    /// How many blobs go.
    pub blobs: u64,
    /// The size of those blobs, in bytes.
    pub bytes: u64,
    /// How many links of repositories go.
    pub layer_links: u64,
    /// How many blobs are not needed and stay, having been written too short a time ago.
    pub young: u64,
    /// How many blobs and manifests were to go, and stay as somebody has come to need them.
    pub spared: u64,
}

impl Registry {
    /// Removes the blobs that no manifest needs, the links to them, if asked for untagged
    /// manifests, and last what crashes have left of files. Deletion need not be enabled for it.
    /// `told` hears of every step.
    ///
    /// Unless it is told that others [serve](CollectOptions::serving), nobody may write to the store
    /// meanwhile: a push that relies on a blob which is being removed would be lost. Reading is
    /// safe.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) when a manifest cannot be understood, and what
    /// the store answers. As long as not everything is marked, nothing is removed.
    /// [`Error::AlreadyCollecting`](crate::Error::AlreadyCollecting) while another collection is at
    /// work that knows of others.
    pub async fn collect(
        &self,
        options: CollectOptions,
        mut told: impl FnMut(CollectStep<'_>) + Send,
    ) -> Result<CollectReport> {
        let progress = &self.shared.progress;
        progress.begin();
        let told = |step: CollectStep<'_>| {
            progress.note(&step);
            told(step);
        };
        let report = match options.serving {
            Some(grace) => run::collect(self, options, grace, told).await,
            None => self.collect_alone(options, told).await,
        };
        progress.end(&report, options.dry_run);
        report
    }

    async fn collect_alone(
        &self,
        options: CollectOptions,
        mut told: impl FnMut(CollectStep<'_>) + Send,
    ) -> Result<CollectReport> {
        let mut marks = Marks::default();
        let marker = Marker {
            registry: self,
            delete_untagged: options.delete_untagged,
            pace: Pace::new(options.rate),
        };
        let pace = &marker.pace;
        let all_untagged = marker.mark(&mut marks, &mut told).await?;
        let unmarked =
            sweep::unmarked_blobs(self, &marks, Duration::ZERO, usize::MAX, pace).await?;
        let mut report = tell(&marks, &all_untagged, &unmarked, &mut told);
        if !options.dry_run {
            for untagged in &all_untagged {
                sweep::remove_manifests(self, &untagged.repository, &untagged.manifests).await?;
            }
        }
        let goes = |digest: &Digest| !marks.needed.contains(Item::Blob(*digest).fingerprint());
        let mut walk = CatalogWalk::complete(self);
        while let Some(name) = walk.next().await? {
            let links = sweep::links(self, &name, goes).await?;
            for digest in &links {
                told(CollectStep::LayerLink(&name, digest));
            }
            report.layer_links += links.len() as u64;
            if !options.dry_run {
                sweep::unlink(self, &name, &links, pace, || Ok(())).await?;
            }
        }
        for batch in unmarked.garbage.chunks(BATCH) {
            let digests: Vec<_> = batch.iter().map(|blob| blob.digest).collect();
            for digest in &digests {
                told(CollectStep::Blob(digest));
            }
            if !options.dry_run {
                sweep::remove_blobs(self, &digests, pace, || Ok(())).await?;
            }
        }
        if !options.dry_run {
            self.shared.driver.remove_leftovers(LEFTOVER_AGE).await?;
        }
        Ok(report)
    }
}

/// Tells what marking amounts to.
fn tell(
    marks: &Marks,
    all_untagged: &[Untagged],
    unmarked: &Unmarked,
    told: &mut (impl FnMut(CollectStep<'_>) + Send),
) -> CollectReport {
    let mut report = CollectReport {
        marked: marks.needed.len(),
        blobs: unmarked.garbage.len() as u64,
        bytes: unmarked.garbage.iter().map(|blob| blob.size).sum(),
        young: unmarked.young.len() as u64,
        ..CollectReport::default()
    };
    for untagged in all_untagged {
        report.manifests += untagged.manifests.len() as u64;
        for digest in &untagged.manifests {
            told(CollectStep::Manifest(&untagged.repository, digest));
        }
    }
    told(CollectStep::Marked(&report));
    report
}

/// How many blobs are told of before they are removed together.
const BATCH: usize = 64;
