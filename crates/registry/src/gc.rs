//! Collection: removing what no manifest needs any more.
//!
//! [`mark`](self::mark) finds out what is needed and writes nothing; [`sweep`](self::sweep) finds
//! and removes the rest, links before the blobs they lead to, so that an interruption at any point
//! leaves nothing but garbage for the next run; [`tidy`](self::tidy) removes what is left of
//! repositories and of writes cut short. [`run`](self::run) puts these together, for a collection
//! that has the store [`alone`](self::alone) and for one beside others.
//!
//! While others write, that goes by a protocol (`docs/collection.md`): [`serving`](self::serving)
//! has the collector's steps, [`reliance`](self::reliance) the writers', [`view`](self::view) what a
//! node knows of the [`state`](self::state) in the store, and [`turn`](self::turn) whose turn it is.
//! [`evict`](self::evict) goes by the same protocol for what a cache can fetch again.

mod alone;
mod blob_set;
mod evict;
mod explain;
mod item;
mod keep;
mod last;
mod mark;
mod mark_set;
mod moment;
mod progress;
mod reliance;
mod run;
mod schedule;
mod serving;
mod state;
mod sweep;
mod tidy;
mod turn;
mod view;

use std::num::NonZeroU64;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use wharfinger_oci::{Digest, RepositoryName, Tag};

use crate::pace::Pace;
use crate::{Registry, Result};
pub(crate) use blob_set::BlobSet;
pub use evict::Eviction;
pub use explain::{Explanation, Need, Standing};
pub(crate) use item::Item;
use mark::{Marker, Marks};
use mark_set::MarkSet;
pub(crate) use progress::Progress;
pub use progress::{Activity, CollectProgress};
pub(crate) use reliance::Reliance;
use run::{Found, Run};
pub use schedule::CollectSchedule;
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
    /// Something else is done from now on.
    Activity(Activity),
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
        /// Whether it takes so long because another collector may have begun at the same time, of
        /// which nothing can be seen yet.
        for_collectors: bool,
    },
    /// A tag goes that stands for nothing.
    StaleTag(&'a RepositoryName, &'a Tag),
    /// A repository goes in which nothing is left.
    EmptyRepository(&'a RepositoryName),
}

/// What a collection found and, but for a dry run, removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CollectReport {
    /// How many blobs are needed; 0 where another collector found that out.
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
    /// How many blobs and manifests were too many for one run, and stay until the next.
    pub later: u64,
    /// How many tags go that stand for nothing.
    pub stale_tags: u64,
    /// How many repositories go in which nothing is left.
    pub repositories: u64,
    /// How many files, folders and uploads to the store go that writes cut short have left.
    pub leftovers: u64,
}

impl Registry {
    /// Removes the blobs that no manifest needs, the links to them, if asked for untagged
    /// manifests, and last what is left of tags and repositories, and of files after crashes.
    /// Deletion need not be enabled for it. `told` hears of every step.
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
    pub fn collect<'a>(
        &'a self,
        options: CollectOptions,
        told: impl FnMut(CollectStep<'_>) + Send + Sync + 'a,
    ) -> BoxFuture<'a, Result<CollectReport>> {
        self.collect_and_tell(options, Box::new(told))
    }

    /// A future of no particular type, so that it is compiled once, here, and not in every program
    /// that collects.
    fn collect_and_tell<'a>(
        &'a self,
        options: CollectOptions,
        told: Box<dyn FnMut(CollectStep<'_>) + Send + Sync + 'a>,
    ) -> BoxFuture<'a, Result<CollectReport>> {
        Box::pin(self.collect_now(options, told))
    }

    async fn collect_now(
        &self,
        options: CollectOptions,
        mut told: Box<dyn FnMut(CollectStep<'_>) + Send + Sync + '_>,
    ) -> Result<CollectReport> {
        let working = self.shared.progress.begin();
        let mut run = Run {
            registry: self,
            options,
            marker: Marker {
                registry: self,
                delete_untagged: options.delete_untagged,
                leaving: None,
                pace: Pace::new(
                    options
                        .rate
                        .and_then(|rate| NonZeroU64::new(rate.max(1).into())),
                ),
            },
            marks: Marks::default(),
            report: CollectReport::default(),
            progress: &working,
            told: |step: CollectStep<'_>| {
                working.note(&step);
                told(step);
            },
        };
        let report = match options.serving {
            None => alone::collect(run).await,
            Some(_) if options.dry_run => {
                let marked = run.mark(&mut Found::Counted).await;
                marked.map(|()| run.report)
            }
            Some(grace) => serving::collect(run, grace).await,
        };
        working.end(&report, options.dry_run);
        report
    }
}
