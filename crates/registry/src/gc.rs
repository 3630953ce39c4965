//! Collection: removing what no manifest needs any more.
//!
//! It has two halves. [`mark`](self::mark) finds out what is needed and writes nothing;
//! [`sweep`](self::sweep) removes the rest, links before the blobs they lead to, so that an
//! interruption at any point leaves nothing but garbage for the next run.

mod keep;
mod mark;
mod mark_set;
mod sweep;

use wharfinger_oci::{Digest, RepositoryName};

use crate::upload::LEFTOVER_AGE;
use crate::{Registry, Result};
use mark_set::MarkSet;

/// What a collection removes besides blobs that nothing needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectOptions {
    /// Nothing is removed, only told.
    pub dry_run: bool,
    /// Manifests go that no tag leads to: neither by itself, nor through an index, nor as the
    /// subject of a manifest that stays, nor as one that has such a manifest as its subject.
    pub delete_untagged: bool,
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
}

impl Registry {
    /// Removes the blobs that no manifest needs, the links to them, if asked for untagged
    /// manifests, and last what crashes have left of files. Deletion need not be enabled for it.
    /// `told` hears of every step.
    ///
    /// Nobody may write to the store meanwhile: a push that relies on a blob which is being
    /// removed would be lost. Reading is safe.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) when a manifest cannot be understood, and what
    /// the store answers. As long as not everything is marked, nothing is removed.
    pub async fn collect(
        &self,
        options: CollectOptions,
        mut told: impl FnMut(CollectStep<'_>) + Send,
    ) -> Result<CollectReport> {
        let marked = mark::mark(self, options.delete_untagged, &mut told).await?;
        let garbage = sweep::unmarked_blobs(self, &marked.needed).await?;
        let mut report = CollectReport {
            marked: marked.needed.len(),
            manifests: 0,
            blobs: garbage.len() as u64,
            bytes: garbage.iter().map(|blob| blob.size).sum(),
            layer_links: 0,
        };
        for untagged in &marked.untagged {
            report.manifests += untagged.manifests.len() as u64;
            for manifest in &untagged.manifests {
                told(CollectStep::Manifest(
                    &untagged.repository,
                    &manifest.digest,
                ));
            }
        }
        told(CollectStep::Marked(&report));
        if !options.dry_run {
            for untagged in &marked.untagged {
                sweep::remove_untagged(self, untagged).await?;
            }
        }
        report.layer_links = sweep::links(self, &marked.needed, options.dry_run, &mut told).await?;
        for blob in &garbage {
            told(CollectStep::Blob(&blob.digest));
            if !options.dry_run {
                self.shared.blobs.remove(&blob.digest).await?;
            }
        }
        if !options.dry_run {
            self.shared.driver.remove_leftovers(LEFTOVER_AGE).await?;
        }
        Ok(report)
    }
}
