//! Finding out what is needed: every manifest that stays, and all that it mentions.

use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::manifest::{MAX_SIZE, Mentions, mentions};
use wharfinger_oci::{Digest, RepositoryName, media_type};

use super::keep::kept;
use super::{CollectStep, MarkSet};
use crate::catalog::CatalogWalk;
use crate::link::LinkSet;
use crate::manifest::stored_media_type;
use crate::{Error, Registry, Repository, Result, layout};

/// How many manifests are read at once.
const CONCURRENCY: usize = 16;

/// What marking found.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// The blobs that are needed.
    pub(super) needed: MarkSet,
    /// The manifests that go.
    pub(super) untagged: Vec<Untagged>,
}

/// The manifests of a repository that go because no tag leads to them.
#[derive(Debug)]
pub(super) struct Untagged {
    pub(super) repository: RepositoryName,
    pub(super) manifests: Vec<Node>,
}

/// A manifest of a repository, under one of its digests.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) digest: Digest,
    pub(super) canonical: Digest,
    pub(super) mentions: Mentions,
    is_schema1: bool,
}

/// Looks through all repositories.
///
/// # Errors
/// Whatever keeps it from knowing all that is needed.
pub(super) async fn mark(
    registry: &Registry,
    delete_untagged: bool,
    told: &mut (impl FnMut(CollectStep<'_>) + Send),
) -> Result<Marked> {
    let mut marked = Marked::default();
    let mut walk = CatalogWalk::complete(registry);
    while let Some(name) = walk.next().await? {
        told(CollectStep::Repository(&name));
        let repository = registry.repository(&name);
        let mut digests = repository.links(LinkSet::Manifests).digests().await?;
        let mut tagged = Vec::new();
        if delete_untagged {
            tagged = tag_targets(&repository).await?;
            digests.extend(&tagged);
            digests.sort_unstable();
            digests.dedup();
        }
        let nodes = read_all(&repository, &digests).await?;
        let stays = match delete_untagged {
            true => kept(&nodes, &tagged),
            false => vec![true; nodes.len()],
        };
        let mut manifests = Vec::new();
        for (node, stays) in nodes.into_iter().zip(stays) {
            if stays {
                mark_manifest(&repository, &node, &mut marked.needed, told).await?;
            } else {
                manifests.push(node);
            }
        }
        if !delete_untagged {
            mark_misplaced(&repository, &mut marked.needed, told).await?;
        }
        if !manifests.is_empty() {
            marked.untagged.push(Untagged {
                repository: name,
                manifests,
            });
        }
    }
    Ok(marked)
}

/// What the tags stand for.
async fn tag_targets(repository: &Repository) -> Result<Vec<Digest>> {
    let tags = match repository.tags().list(None, None).await {
        Err(Error::NameUnknown(_)) => Vec::new(),
        page => page?.items,
    };
    let service = repository.tags();
    let lookups: Vec<_> = tags.iter().map(|tag| service.get(tag)).collect();
    let found: Vec<Option<Digest>> = stream::iter(lookups)
        .buffered(CONCURRENCY)
        .map(|found| match found {
            // The folder of a tag whose first push was cut short.
            Err(Error::ManifestUnknown(_)) => Ok(None),
            found => found.map(Some),
        })
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

async fn read_all(repository: &Repository, digests: &[Digest]) -> Result<Vec<Node>> {
    let reads: Vec<_> = digests
        .iter()
        .map(|digest| read(repository, *digest))
        .collect();
    let nodes: Vec<Option<Node>> = stream::iter(reads)
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(nodes.into_iter().flatten().collect())
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
    needed: &mut MarkSet,
    told: &mut (impl FnMut(CollectStep<'_>) + Send),
) -> Result<()> {
    let name = repository.name();
    told(CollectStep::MarkedManifest(name, &node.digest));
    needed.insert(&node.canonical);
    let mut mark = |blob: &Digest| {
        if needed.insert(blob) {
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

/// Marks the manifests that Distribution 2.1.0 linked among the layers, all of them of schema 1.
/// Only what nothing else needs is looked at.
async fn mark_misplaced(
    repository: &Repository,
    needed: &mut MarkSet,
    told: &mut (impl FnMut(CollectStep<'_>) + Send),
) -> Result<()> {
    let blobs = &repository.shared.blobs;
    for digest in repository.links(LinkSet::Layers).digests().await? {
        if !digest.is_canonical() || needed.contains(&digest) {
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
            mark_manifest(repository, &node, needed, told).await?;
        }
    }
    Ok(())
}
