//! Removing what is not marked, links first: a link never outlives the blob that it leads to.

use wharfinger_oci::Digest;
use wharfinger_storage::Walk;

use super::mark::Untagged;
use super::{CollectStep, MarkSet};
use crate::catalog::CatalogWalk;
use crate::layout::{self, Located};
use crate::link::LinkSet;
use crate::{Error, Registry, Result};

/// A blob that nothing needs.
#[derive(Debug)]
pub(super) struct Garbage {
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
}

/// The blobs of the store that are not needed, in the order of their digests.
pub(super) async fn unmarked_blobs(registry: &Registry, needed: &MarkSet) -> Result<Vec<Garbage>> {
    let driver = &*registry.shared.driver;
    let mut garbage = Vec::new();
    let mut walk = Walk::new(driver, layout::blobs());
    loop {
        let entry = match walk.next().await {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(garbage),
            // Nothing was ever pushed.
            Err(error) if error.is_not_found() => return Ok(garbage),
            Err(error) => return Err(error.into()),
        };
        let Some(Located::BlobData(digest)) = layout::locate(&entry.path) else {
            continue;
        };
        if entry.is_dir || !digest.is_canonical() || needed.contains(&digest) {
            continue;
        }
        if let Some(size) = registry.shared.blobs.stat(&digest).await? {
            garbage.push(Garbage { digest, size });
        }
    }
}

/// Removes the untagged manifests of a repository: from the history of every tag, from the
/// referrers of their subjects, and last their links.
pub(super) async fn remove_untagged(registry: &Registry, untagged: &Untagged) -> Result<()> {
    let repository = registry.repository(&untagged.repository);
    let deleting = &registry.shared.repositories;
    let _deleting = deleting.exclusive(&untagged.repository).await;
    let digests = untagged.manifests.iter().map(|manifest| manifest.digest);
    repository.tags().forget(&digests.collect()).await?;
    let links = repository.links(LinkSet::Manifests);
    for manifest in &untagged.manifests {
        for subject in &manifest.mentions.subjects {
            let referrers = LinkSet::Referrers { subject: *subject };
            let referrers = repository.links(referrers);
            referrers.unlink_here(&manifest.digest).await?;
        }
        links.unlink_here(&manifest.digest).await?;
    }
    Ok(())
}

/// Removes the repositories' links to layers that are not needed; gives their number.
pub(super) async fn links(
    registry: &Registry,
    needed: &MarkSet,
    dry_run: bool,
    told: &mut (impl FnMut(CollectStep<'_>) + Send),
) -> Result<u64> {
    let mut removed = 0;
    let mut walk = CatalogWalk::complete(registry);
    while let Some(name) = walk.next().await? {
        let layers = registry.repository(&name).links(LinkSet::Layers);
        let mut dangling = Vec::new();
        for digest in layers.digests().await? {
            let canonical = match layers.resolve(&digest).await {
                // A broken link grants nothing, and says so where it is used.
                Err(Error::Damaged { .. }) => None,
                canonical => canonical?,
            };
            if canonical.is_some_and(|canonical| !needed.contains(&canonical)) {
                dangling.push(digest);
            }
        }
        let _deleting = registry.shared.repositories.exclusive(&name).await;
        for digest in dangling {
            told(CollectStep::LayerLink(&name, &digest));
            removed += 1;
            if !dry_run {
                layers.unlink_here(&digest).await?;
            }
        }
    }
    Ok(removed)
}
