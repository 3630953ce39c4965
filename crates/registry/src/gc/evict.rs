//! Eviction: removing what a cache can fetch again.
//!
//! A repository of a cache loses manifests and links to blobs although they may be needed, and a
//! blob goes when no other link leads to it and no manifest that stays mentions it. That goes by the
//! protocol of collections, so that others may come to need a blob meanwhile. There is no grace
//! period: whoever has mounted or uploaded a blob has a link to it, which is looked for again.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use wharfinger_oci::{Digest, RepositoryName};

use super::item::{Condemned, Entry, Item, List};
use super::mark::{Marker, Marks, tag_targets};
use super::mark_set::MarkSet;
use super::progress::{Progress, Working};
use super::run::Run;
use super::state::RunId;
use super::sweep::{self, Link};
use super::turn::Turn;
use super::{CollectOptions, CollectReport, CollectStep};
use crate::catalog::CatalogWalk;
use crate::link::LinkSet;
use crate::pace::Pace;
use crate::{Error, Registry, Result};

/// How many blobs are looked at together.
const BATCH: usize = 256;

/// What is to go of the repositories of caches.
#[derive(Clone, Debug, Default)]
pub struct Eviction {
    /// Manifests, with the tags that stand for them.
    pub manifests: BTreeMap<RepositoryName, Vec<Digest>>,
    /// Access to blobs.
    pub blobs: BTreeMap<RepositoryName, Vec<Digest>>,
}

impl Eviction {
    fn repositories(&self) -> impl Iterator<Item = &RepositoryName> {
        let linking = self.blobs.keys();
        let others = linking.filter(|name| !self.manifests.contains_key(*name));
        self.manifests.keys().chain(others)
    }
}

/// What goes although it may be needed.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    manifests: Condemned,
    /// The repositories that have them.
    of: HashSet<RepositoryName>,
    links: HashSet<(RepositoryName, Digest)>,
}

impl Leaving {
    fn new(eviction: &Eviction) -> Self {
        let mut leaving = Self::default();
        for (name, digests) in &eviction.manifests {
            leaving.of.insert(name.clone());
            for digest in digests {
                let item = Item::Manifest(name.clone(), *digest);
                leaving.manifests.insert(&item);
            }
        }
        leaving.manifests.sort();
        for (name, digests) in &eviction.blobs {
            let links = digests.iter().map(|digest| (name.clone(), *digest));
            leaving.links.extend(links);
        }
        leaving
    }

    pub(super) fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> bool {
        self.of.contains(name)
            && self
                .manifests
                .contains(&Item::Manifest(name.clone(), *digest))
    }

    pub(super) fn has_link(&self, name: &RepositoryName, digest: &Digest) -> bool {
        self.links.contains(&(name.clone(), *digest))
    }
}

impl Registry {
    /// Removes what a cache can fetch again: manifests, links to blobs, and the blobs that nothing
    /// else needs or has access to, while others write. It takes half a minute at least, and on an
    /// object store five. Deletion need not be enabled for it.
    ///
    /// Where a collection was cut off, that is ended first; after `grace`, where it had not begun to
    /// remove.
    ///
    /// # Errors
    /// As [`Registry::collect`].
    pub async fn evict(&self, eviction: &Eviction, grace: Duration) -> Result<CollectReport> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let mut turn = Turn::take(&self.shared).await?;
        // What collections have come to is told elsewhere.
        let progress = Progress::default();
        let working = progress.begin();
        if turn.run().is_some() {
            let mut run = Run::evicting(self, &working);
            run.carry_out(&mut turn, grace).await?;
        }
        let mut run = Run::evicting(self, &working);
        let list = run.choose(eviction).await?;
        if list.len() > 0 {
            run.condemn(&mut turn, list).await?;
            run.carry_out(&mut turn, grace).await?;
        }
        if !self.shared.driver.has_only_objects() {
            for name in eviction.repositories() {
                let _writing = self.shared.writing()?;
                run.tidy_folders(name).await?;
            }
        }
        Ok(run.report)
    }
}

impl<'a> Run<'a, fn(CollectStep<'_>)> {
    fn evicting(registry: &'a Registry, progress: &'a Working<'a>) -> Self {
        Self {
            registry,
            options: CollectOptions::default(),
            marker: Marker {
                registry,
                delete_untagged: false,
                leaving: None,
                pace: Pace::new(None),
            },
            marks: Marks::default(),
            report: CollectReport::default(),
            progress,
            told: |_| (),
        }
    }
}

impl<'a, F> Run<'a, F>
where
    F: FnMut(CollectStep<'_>) + Send,
{
    /// Finds out what of an eviction nothing else needs, and takes away at once what needs no notice:
    /// tags, and links to blobs that stay.
    async fn choose(&mut self, eviction: &Eviction) -> Result<List<'a>> {
        let registry = self.registry;
        let mut candidates = MarkSet::default();
        let mut blobs = Vec::new();
        for (name, digests) in &eviction.manifests {
            let repository = registry.repository(name);
            let _writing = registry.shared.writing()?;
            let _deleting = registry.shared.repositories.exclusive(name).await;
            repository.tags().remove_all_of(digests).await?;
            for digest in digests {
                blobs.extend(canonical(registry, name, LinkSet::Manifests, digest).await?);
            }
        }
        for (name, digests) in &eviction.blobs {
            for digest in digests {
                blobs.extend(canonical(registry, name, LinkSet::Layers, digest).await?);
            }
        }
        self.marker.leaving = Some(Leaving::new(eviction));
        blobs.sort_unstable();
        blobs.dedup();
        for blob in &blobs {
            candidates.insert(Item::Blob(*blob).fingerprint());
        }
        let mut evicted = Vec::new();
        let mut walk = CatalogWalk::complete(registry);
        while let Some(name) = walk.next().await? {
            let marks = &mut self.marks;
            let told = &mut self.told;
            self.marker.mark_repository(&name, marks, told).await?;
            let is_candidate =
                |digest: &Digest| candidates.contains(Item::Blob(*digest).fingerprint());
            let links = sweep::links(registry, &name, is_candidate).await?;
            self.spare_linked(&name, &links);
            if eviction.blobs.contains_key(&name) {
                evicted.push((name, links));
            }
        }
        self.unlink_what_stays(evicted).await?;
        self.write_list(eviction, blobs).await
    }

    /// Lets blobs stay to which there is another link than those that are evicted.
    pub(super) fn spare_linked(&mut self, name: &RepositoryName, links: &[Link]) {
        let Some(leaving) = &self.marker.leaving else {
            return;
        };
        for link in links {
            if !leaving.has_link(name, &link.digest) {
                let item = Item::Blob(link.canonical);
                self.marks.needed.insert(item.fingerprint());
            }
        }
    }

    /// Lets manifests stay that a tag leads to again.
    pub(super) async fn spare_tagged(&mut self, name: &RepositoryName) -> Result<()> {
        let leaving = self.marker.leaving.as_ref();
        if !leaving.is_some_and(|leaving| leaving.of.contains(name)) {
            return Ok(());
        }
        let repository = self.registry.repository(name);
        for (_, digest) in tag_targets(&repository).await? {
            if self.marker.is_leaving(name, &digest) {
                self.spare_manifest(name, &digest).await?;
            }
        }
        Ok(())
    }

    /// Takes access away to blobs that others need.
    async fn unlink_what_stays(&mut self, all: Vec<(RepositoryName, Vec<Link>)>) -> Result<()> {
        for (name, mut links) in all {
            let leaving = self.marker.leaving.as_ref();
            links.retain(|link| {
                let goes = leaving.is_some_and(|leaving| leaving.has_link(&name, &link.digest));
                let item = Item::Blob(link.canonical);
                goes && self.marks.needed.contains(item.fingerprint())
            });
            if !links.is_empty() {
                let _writing = self.registry.shared.writing()?;
                self.remove_links(&name, &links, || Ok(())).await?;
            }
        }
        Ok(())
    }

    /// Writes down what is to be condemned.
    async fn write_list(
        &mut self,
        eviction: &Eviction,
        mut blobs: Vec<Digest>,
    ) -> Result<List<'a>> {
        let mut list = List::new(&self.registry.shared, RunId::generate());
        for (name, digests) in &eviction.manifests {
            for digest in digests {
                let item = Item::Manifest(name.clone(), *digest);
                list.push(&Entry { item, size: 0 }).await?;
            }
        }
        let needed = &self.marks.needed;
        blobs.retain(|digest| !needed.contains(Item::Blob(*digest).fingerprint()));
        for digests in blobs.chunks(BATCH) {
            for blob in sweep::look_at(self.registry, digests, &self.marker.pace).await? {
                let item = Item::Blob(blob.digest);
                let size = blob.size;
                list.push(&Entry { item, size }).await?;
            }
        }
        Ok(list)
    }
}

/// What a link leads to; `None` where it leads nowhere that can be told.
async fn canonical(
    registry: &Registry,
    name: &RepositoryName,
    set: LinkSet,
    digest: &Digest,
) -> Result<Option<Digest>> {
    if digest.is_canonical() {
        return Ok(Some(*digest));
    }
    match registry.repository(name).links(set).resolve(digest).await {
        Err(Error::Damaged { .. }) => Ok(None),
        canonical => canonical,
    }
}
