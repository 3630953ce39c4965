//! Finding out what is needed: every manifest that stays, and all that it mentions.

use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::manifest::{MAX_SIZE, Mentions, mentions};
use wharfinger_oci::{Digest, RepositoryName, Tag, media_type};

use super::evict::Leaving;
use super::item::Item;
use super::keep::kept;
use super::{CollectStep, MarkSet};
use crate::link::{LinkSet, read_link};
use crate::manifest::stored_media_type;
use crate::pace::Pace;
use crate::{Error, Registry, Repository, Result, layout};

/// How many manifests are read at once.
const CONCURRENCY: usize = 16;

/// How many manifests are in memory at once, where it need not be all of a repository.
const BATCH: usize = 256;

/// What is known to stay.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The blobs that are needed.
    pub(super) needed: MarkSet,
    /// The manifests that stay.
    pub(super) manifests: MarkSet,
}

/// A manifest of a repository, under one of its digests.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) digest: Digest,
    pub(super) canonical: Digest,
    pub(super) mentions: Mentions,
    pub(super) is_schema1: bool,
}

/// Looks through repositories, for what their manifests need.
#[derive(Debug)]
pub(super) struct Marker<'a> {
    pub(super) registry: &'a Registry,
    pub(super) delete_untagged: bool,
    /// What does not count, where this is no collection but an eviction.
    pub(super) leaving: Option<Leaving>,
    pub(super) pace: Pace,
}

impl Marker<'_> {
    /// Looks through a repository; gives its manifests that go.
    ///
    /// # Errors
    /// Whatever keeps it from knowing all that is needed.
    pub(super) async fn mark_repository(
        &self,
        name: &RepositoryName,
        marks: &mut Marks,
        told: &mut (impl FnMut(CollectStep<'_>) + Send),
    ) -> Result<Vec<Digest>> {
        told(CollectStep::Repository(name));
        let repository = self.registry.repository(name);
        if !self.delete_untagged {
            let mut digests = repository.links(LinkSet::Manifests).digests().await?;
            digests.retain(|digest| !self.is_leaving(name, digest));
            self.mark_each(&repository, &digests, marks, told).await?;
            self.mark_misplaced(&repository, marks, told).await?;
            return Ok(Vec::new());
        }
        let (tags, nodes) = self.read_repository(&repository).await?;
        let tagged: Vec<_> = tags.into_iter().map(|(_, target)| target).collect();
        let stays = kept(&nodes, &tagged);
        let mut untagged = Vec::new();
        for (node, stays) in nodes.into_iter().zip(stays) {
            if stays {
                mark_manifest(&repository, &node, marks, told).await?;
            } else {
                untagged.push(node.digest);
            }
        }
        Ok(untagged)
    }

    pub(super) fn is_leaving(&self, name: &RepositoryName, digest: &Digest) -> bool {
        let leaving = self.leaving.as_ref();
        leaving.is_some_and(|leaving| leaving.has_manifest(name, digest))
    }

    /// The tags of a repository, with what they stand for, and all its manifests.
    pub(super) async fn read_repository(
        &self,
        repository: &Repository,
    ) -> Result<(Vec<(Tag, Digest)>, Vec<Node>)> {
        let mut digests = repository.links(LinkSet::Manifests).digests().await?;
        let tags = tag_targets(repository).await?;
        digests.extend(tags.iter().map(|(_, target)| target));
        digests.sort_unstable();
        digests.dedup();
        let mut nodes = Vec::new();
        for digests in digests.chunks(BATCH) {
            nodes.extend(self.read_all(repository, digests).await?);
        }
        Ok((tags, nodes))
    }

    /// Marks manifests, and what they mention.
    async fn mark_each(
        &self,
        repository: &Repository,
        digests: &[Digest],
        marks: &mut Marks,
        told: &mut (impl FnMut(CollectStep<'_>) + Send),
    ) -> Result<()> {
        for digests in digests.chunks(BATCH) {
            for node in self.read_all(repository, digests).await? {
                mark_manifest(repository, &node, marks, told).await?;
            }
        }
        Ok(())
    }

    /// Looks through a repository once more: for manifests that were not there when it was marked
    /// before, and where untagged ones go, for those that a tag leads to now. All stay but those
    /// that `go`: what is new is not touched, even without a tag.
    pub(super) async fn mark_new(
        &self,
        name: &RepositoryName,
        go: impl Fn(&Item) -> bool,
        marks: &mut Marks,
        told: &mut (impl FnMut(CollectStep<'_>) + Send),
    ) -> Result<()> {
        let item = |digest: &Digest| Item::Manifest(name.clone(), *digest);
        let repository = self.registry.repository(name);
        let digests = match self.delete_untagged {
            true => {
                let mut untagged = self.mark_repository(name, marks, told).await?;
                untagged.retain(|digest| !go(&item(digest)));
                untagged
            }
            false => {
                let mut digests = repository.links(LinkSet::Manifests).digests().await?;
                let is_known =
                    |digest: &Digest| marks.manifests.contains(item(digest).fingerprint());
                digests.retain(|digest| !is_known(digest) && !self.is_leaving(name, digest));
                digests
            }
        };
        self.mark_each(&repository, &digests, marks, told).await
    }

    /// Marks a manifest, and the manifests that it mentions with all that they need.
    pub(super) async fn mark_with_mentioned(
        &self,
        name: &RepositoryName,
        digest: Digest,
        marks: &mut Marks,
    ) -> Result<()> {
        let repository = self.registry.repository(name);
        let mut pending = vec![digest];
        while let Some(digest) = pending.pop() {
            // Layers are mentioned too, and are not to be read.
            let link = layout::revision_link(name, &digest);
            if read_link(&repository.shared, &link).await?.is_none() {
                continue;
            }
            if let Some(node) = read(&repository, digest).await? {
                let item = Item::Manifest(name.clone(), node.digest);
                if !marks.manifests.contains(item.fingerprint()) {
                    pending.extend(&node.mentions.digests);
                }
                mark_manifest(&repository, &node, marks, &mut |_| ()).await?;
            }
        }
        Ok(())
    }

    /// Marks the manifests that Distribution 2.1.0 linked among the layers, all of them of schema 1.
    /// Only what nothing else needs is looked at, and not what is evicted: that goes as manifests do
    /// that leave.
    async fn mark_misplaced(
        &self,
        repository: &Repository,
        marks: &mut Marks,
        told: &mut (impl FnMut(CollectStep<'_>) + Send),
    ) -> Result<()> {
        let blobs = &repository.shared.blobs;
        for digest in repository.links(LinkSet::Layers).digests().await? {
            let goes = |leaving: &Leaving| leaving.has_link(repository.name(), &digest);
            if self.leaving.as_ref().is_some_and(goes) {
                continue;
            }
            if !digest.is_canonical() || marks.needed.contains(Item::Blob(digest).fingerprint()) {
                continue;
            }
            let size = blobs.stat(&digest).await?;
            if size.is_none_or(|size| size > MAX_SIZE as u64) {
                continue;
            }
            let content = match blobs.get(&digest).await {
                // Nobody needs it, so it need not be whole.
                Err(Error::BlobUnknown(_) | Error::Damaged { .. }) => continue,
                content => content?.bytes,
            };
            if is_schema1(&content)
                && let Some(node) = read(repository, digest).await?
            {
                mark_manifest(repository, &node, marks, told).await?;
            }
        }
        Ok(())
    }

    async fn read_all(&self, repository: &Repository, digests: &[Digest]) -> Result<Vec<Node>> {
        let reads: Vec<_> = digests
            .iter()
            .map(|digest| async {
                self.pace.step().await;
                read(repository, *digest).await
            })
            .collect();
        let nodes: Vec<Option<Node>> = stream::iter(reads)
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        Ok(nodes.into_iter().flatten().collect())
    }
}

/// The tags, with what they stand for.
pub(super) async fn tag_targets(repository: &Repository) -> Result<Vec<(Tag, Digest)>> {
    let tags = match repository.tags().list(None, None).await {
        Err(Error::NameUnknown(_)) => Vec::new(),
        page => page?.items,
    };
    let service = repository.tags();
    let mut targets = Vec::new();
    for tags in tags.chunks(BATCH) {
        let lookups = tags.iter().map(|tag| async {
            match service.get(tag).await {
                Ok(target) => Ok(Some((tag.clone(), target))),
                // The folder of a tag whose first push was cut short.
                Err(Error::ManifestUnknown(_)) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let lookups: Vec<_> = lookups.collect();
        let found: Vec<_> = stream::iter(lookups)
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        targets.extend(found.into_iter().flatten());
    }
    Ok(targets)
}

/// Reads a manifest; `None` when there is no link to it.
async fn read(repository: &Repository, digest: Digest) -> Result<Option<Node>> {
    let links = repository.links(LinkSet::Manifests);
    let Some(canonical) = links.resolve(&digest).await? else {
        return Ok(None);
    };
    let damaged = |reason| Error::Damaged {
        path: layout::revision(repository.name(), &digest),
        reason,
    };
    let content = match repository.shared.blobs.get(&canonical).await {
        Err(Error::BlobUnknown(_)) => {
            return Err(damaged(
                "the manifest's bytes are not there, so what it needs is not known; push it \
                 again, or remove this folder"
                    .to_owned(),
            ));
        }
        content => content?.bytes,
    };
    let mentions = mentions(&content).map_err(|error| damaged(error.to_string()))?;
    Ok(Some(Node {
        digest,
        canonical,
        mentions,
        is_schema1: is_schema1(&content),
    }))
}

fn is_schema1(content: &[u8]) -> bool {
    stored_media_type(content).as_deref() == Some(media_type::SCHEMA1_MANIFEST)
}

async fn mark_manifest(
    repository: &Repository,
    node: &Node,
    marks: &mut Marks,
    told: &mut (impl FnMut(CollectStep<'_>) + Send),
) -> Result<()> {
    let name = repository.name();
    told(CollectStep::MarkedManifest(name, &node.digest));
    for digest in [node.digest, node.canonical] {
        let item = Item::Manifest(name.clone(), digest);
        marks.manifests.insert(item.fingerprint());
    }
    let needed = &mut marks.needed;
    needed.insert(Item::Blob(node.canonical).fingerprint());
    let mut mark = |blob: &Digest| {
        if needed.insert(Item::Blob(*blob).fingerprint()) {
            told(CollectStep::MarkedBlob(name, blob));
        }
    };
    for mentioned in &node.mentions.digests {
        if mentioned.is_canonical() {
            mark(mentioned);
            continue;
        }
        for set in [LinkSet::Layers, LinkSet::Manifests] {
            if let Some(canonical) = repository.links(set).resolve(mentioned).await? {
                mark(&canonical);
            }
        }
    }
    if node.is_schema1 {
        let revision = node.canonical;
        let signatures = repository.links(LinkSet::Signatures { revision });
        for signature in signatures.digests().await? {
            if let Some(canonical) = signatures.resolve(&signature).await? {
                mark(&canonical);
            }
        }
    }
    Ok(())
}
