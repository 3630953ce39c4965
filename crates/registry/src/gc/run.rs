//! A collection: what is common to one that has the store alone and one beside others.

use std::time::Duration;

use wharfinger_oci::{Digest, RepositoryName};

use super::item::{Entry, Item, List};
use super::last::{self, Last};
use super::mark::{Marker, Marks};
use super::mark_set::MarkSet;
use super::progress::{Activity, Working};
use super::sweep::{self, Blob, Link, Unmarked};
use super::{CollectOptions, CollectReport, CollectStep};
use crate::catalog::CatalogWalk;
use crate::{Registry, Result};

/// How much a run condemns at the most; more goes in the next one. Every node keeps eight bytes of
/// each in memory while the run is on.
const MOST: usize = 1_000_000;

/// A collection under way.
pub(super) struct Run<'a, F> {
    pub(super) registry: &'a Registry,
    pub(super) options: CollectOptions,
    pub(super) marker: Marker<'a>,
    pub(super) marks: Marks,
    pub(super) report: CollectReport,
    pub(super) progress: &'a Working<'a>,
    pub(super) told: F,
}

/// The manifests of a repository that go because no tag leads to them.
#[derive(Debug)]
pub(super) struct Untagged {
    pub(super) repository: RepositoryName,
    pub(super) manifests: Vec<Digest>,
}

/// What becomes of what a run finds to go.
pub(super) enum Found<'a> {
    /// It is counted.
    Counted,
    /// Manifests are remembered; blobs are found again.
    Remembered(Vec<Untagged>),
    /// It is written down, for others.
    Listed(List<'a>),
}

impl Found<'_> {
    /// Whether what is found now must wait for the next run.
    fn is_full(&self) -> bool {
        match self {
            Self::Listed(list) => list.len() >= MOST,
            _ => false,
        }
    }

    /// Gives how many of the manifests go.
    async fn manifests(
        &mut self,
        repository: &RepositoryName,
        manifests: Vec<Digest>,
    ) -> Result<u64> {
        let number = manifests.len() as u64;
        match self {
            Self::Counted => Ok(number),
            Self::Remembered(all) => {
                if number > 0 {
                    let repository = repository.clone();
                    all.push(Untagged {
                        repository,
                        manifests,
                    });
                }
                Ok(number)
            }
            Self::Listed(list) => {
                let room = MOST.saturating_sub(list.len());
                for digest in manifests.iter().take(room) {
                    let item = Item::Manifest(repository.clone(), *digest);
                    list.push(&Entry { item, size: 0 }).await?;
                }
                Ok(number.min(room as u64))
            }
        }
    }

    async fn blob(&mut self, digest: Digest, size: u64) -> Result<()> {
        match self {
            Self::Listed(list) => {
                let item = Item::Blob(digest);
                list.push(&Entry { item, size }).await
            }
            _ => Ok(()),
        }
    }
}

impl<F> Run<'_, F>
where
    F: FnMut(CollectStep<'_>) + Send,
{
    /// Another activity begins, of which so much is expected.
    pub(super) fn enter(&mut self, activity: Activity, expected: u64) {
        self.progress.enter(activity, expected);
        (self.told)(CollectStep::Activity(activity));
    }

    /// Finds out what is needed, and what is not.
    pub(super) async fn mark(&mut self, found: &mut Found<'_>) -> Result<()> {
        self.mark_repositories(found).await?;
        self.search(found).await?;
        self.report.marked = self.marks.needed.len();
        (self.told)(CollectStep::Marked(&self.report));
        Ok(())
    }

    async fn mark_repositories(&mut self, found: &mut Found<'_>) -> Result<()> {
        let driver = &*self.registry.shared.driver;
        let last = last::read(driver).await;
        self.enter(Activity::Marking, last.map_or(0, |last| last.manifests));
        let mut manifests = 0;
        let mut walk = CatalogWalk::complete(self.registry);
        while let Some(name) = walk.next().await? {
            let (marks, told) = (&mut self.marks, &mut self.told);
            let mut told = |step: CollectStep<'_>| {
                manifests += u64::from(matches!(step, CollectStep::MarkedManifest(..)));
                told(step);
            };
            let untagged = self.marker.mark_repository(&name, marks, &mut told).await?;
            for digest in &untagged {
                (self.told)(CollectStep::Manifest(&name, digest));
            }
            let all = untagged.len() as u64;
            let going = found.manifests(&name, untagged).await?;
            self.report.manifests += going;
            self.report.later += all - going;
            self.progress.advance(all);
            if last.is_none() {
                self.progress.is_share(walk.behind());
            }
        }
        if let Found::Listed(_) = found {
            manifests += self.report.manifests;
            let _writing = self.registry.shared.writing()?;
            last::write(driver, Last { manifests }).await?;
        }
        Ok(())
    }

    /// Looks for blobs that are not needed, and for links that lead to none.
    async fn search(&mut self, found: &mut Found<'_>) -> Result<()> {
        self.enter(Activity::Searching, 0);
        let registry = self.registry;
        let grace = self.options.serving.unwrap_or(Duration::ZERO);
        let mut unneeded = MarkSet::default();
        let mut blobs = Unmarked::new(registry);
        while let Some(digests) = blobs.next(&self.marks).await? {
            self.progress.advance(blobs.passed());
            self.progress.is_share(blobs.behind());
            if found.is_full() {
                self.report.later += digests.len() as u64;
                continue;
            }
            let pace = &self.marker.pace;
            for blob in sweep::look_at(registry, &digests, pace).await? {
                let Blob { digest, size, .. } = blob;
                unneeded.insert(Item::Blob(digest).fingerprint());
                if blob.is_younger_than(grace) {
                    self.report.young += 1;
                } else if found.is_full() {
                    self.report.later += 1;
                } else {
                    found.blob(digest, size).await?;
                    self.report.blobs += 1;
                    self.report.bytes += size;
                }
            }
        }
        // Where there is more than enough, links to what stays until the next run must stay too.
        if let Found::Listed(_) = found
            && self.report.later == 0
        {
            let pace = &self.marker.pace;
            let mut walk = CatalogWalk::complete(registry);
            while let Some(name) = walk.next().await? {
                let dangling = sweep::dangling(registry, &name, &self.marks, &unneeded, pace);
                for digest in dangling.await? {
                    if !found.is_full() {
                        unneeded.insert(Item::Blob(digest).fingerprint());
                        found.blob(digest, 0).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes links of a repository to blobs that go, each if `check` still lets it.
    pub(super) async fn remove_links(
        &mut self,
        name: &RepositoryName,
        links: &[Link],
        check: impl Fn() -> Result<()>,
    ) -> Result<()> {
        for link in links {
            (self.told)(CollectStep::LayerLink(name, &link.digest));
        }
        self.report.layer_links += links.len() as u64;
        if self.options.dry_run {
            return Ok(());
        }
        sweep::unlink(self.registry, name, links, &self.marker.pace, check).await
    }
}
