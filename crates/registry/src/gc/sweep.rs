//! Finding and removing what is not marked.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::manifest::mentions;
use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_storage::Walk;

use super::item::Item;
use super::mark::Marks;
use super::pace::Pace;
use crate::catalog::CatalogWalk;
use crate::layout::{self, Located};
use crate::link::{LinkSet, ignore_absent};
use crate::{Error, Registry, Result};

/// How many blobs are removed at once.
const CONCURRENCY: usize = 16;

/// A blob that nothing needs.
#[derive(Debug)]
pub(super) struct Garbage {
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
}

/// The blobs that nothing needs.
#[derive(Debug, Default)]
pub(super) struct Unmarked {
    /// Those that are to go, in the order of their digests.
    pub(super) garbage: Vec<Garbage>,
    /// Those that were written too short a time ago.
    pub(super) young: Vec<Digest>,
    /// Whether there are more than were asked for.
    pub(super) more: bool,
}

/// Looks for blobs that are not needed and were written longer than `grace` ago, `most` at the
/// most.
pub(super) async fn unmarked_blobs(
    registry: &Registry,
    marks: &Marks,
    grace: Duration,
    most: usize,
    pace: &Pace,
) -> Result<Unmarked> {
    let driver = &*registry.shared.driver;
    let mut unmarked = Unmarked::default();
    let mut walk = Walk::new(driver, layout::blobs());
    loop {
        let entry = match walk.next().await {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(unmarked),
            // Nothing was ever pushed.
            Err(error) if error.is_not_found() => return Ok(unmarked),
            Err(error) => return Err(error.into()),
        };
        let Some(Located::BlobData(digest)) = layout::locate(&entry.path) else {
            continue;
        };
        let is_needed = || marks.needed.contains(Item::Blob(digest).fingerprint());
        if entry.is_dir || !digest.is_canonical() || is_needed() {
            continue;
        }
        pace.step().await;
        let stat = match driver.stat(&entry.path).await {
            Err(error) if error.is_not_found() => continue,
            stat => stat?,
        };
        let age = |written: SystemTime| SystemTime::now().duration_since(written).ok();
        // A time that lies in the future, or is not known, tells that it is new.
        let is_old = stat.modified.and_then(age).is_some_and(|age| age >= grace);
        if !grace.is_zero() && !is_old {
            unmarked.young.push(digest);
        } else if unmarked.garbage.len() < most {
            let size = stat.size;
            unmarked.garbage.push(Garbage { digest, size });
        } else {
            unmarked.more = true;
            return Ok(unmarked);
        }
    }
}

/// The digests that repositories link, that nothing needs, and of which there is no blob.
pub(super) async fn dangling(
    registry: &Registry,
    marks: &Marks,
    unmarked: &Unmarked,
    pace: &Pace,
) -> Result<Vec<Digest>> {
    let garbage = unmarked.garbage.iter().map(|garbage| &garbage.digest);
    let present: HashSet<_> = garbage.chain(&unmarked.young).collect();
    let mut dangling = HashSet::new();
    let mut walk = CatalogWalk::complete(registry);
    while let Some(name) = walk.next().await? {
        let layers = registry.repository(&name).links(LinkSet::Layers);
        for digest in layers.digests().await? {
            let is_needed = || marks.needed.contains(Item::Blob(digest).fingerprint());
            if !digest.is_canonical()
                || present.contains(&digest)
                || dangling.contains(&digest)
                || is_needed()
            {
                continue;
            }
            pace.step().await;
            if registry.shared.blobs.stat(&digest).await?.is_none() {
                dangling.insert(digest);
            }
        }
    }
    let mut dangling: Vec<_> = dangling.into_iter().collect();
    dangling.sort_unstable();
    Ok(dangling)
}

/// Removes untagged manifests of a repository: from the history of every tag, from the
/// referrers of their subjects, and last their links.
pub(super) async fn remove_manifests(
    registry: &Registry,
    name: &RepositoryName,
    digests: &[Digest],
) -> Result<()> {
    let repository = registry.repository(name);
    let _deleting = registry.shared.repositories.exclusive(name).await;
    let all = digests.iter().copied().collect();
    repository.tags().forget(&all).await?;
    let links = repository.links(LinkSet::Manifests);
    for digest in digests {
        if let Some(canonical) = links.resolve(digest).await?
            && let Ok(content) = registry.shared.blobs.get(&canonical).await
            && let Ok(mentions) = mentions(&content.bytes)
        {
            for subject in mentions.subjects {
                let referrers = LinkSet::Referrers { subject };
                repository.links(referrers).unlink_here(digest).await?;
            }
        }
        links.unlink_here(digest).await?;
    }
    Ok(())
}

/// The digests under which a repository links blobs that go.
pub(super) async fn links(
    registry: &Registry,
    name: &RepositoryName,
    goes: impl Fn(&Digest) -> bool,
) -> Result<Vec<Digest>> {
    let layers = registry.repository(name).links(LinkSet::Layers);
    let mut going = Vec::new();
    for digest in layers.digests().await? {
        let canonical = match digest.is_canonical() {
            true => Some(digest),
            false => match layers.resolve(&digest).await {
                // A broken link grants nothing, and says so where it is used.
                Err(Error::Damaged { .. }) => None,
                canonical => canonical?,
            },
        };
        if canonical.is_some_and(|canonical| goes(&canonical)) {
            going.push(digest);
        }
    }
    Ok(going)
}

/// Removes links of a repository to blobs, each if `check` still lets it.
pub(super) async fn unlink(
    registry: &Registry,
    name: &RepositoryName,
    digests: &[Digest],
    pace: &Pace,
    check: impl Fn() -> Result<()>,
) -> Result<()> {
    let layers = registry.repository(name).links(LinkSet::Layers);
    let _deleting = registry.shared.repositories.exclusive(name).await;
    for digest in digests {
        pace.step().await;
        check()?;
        layers.unlink_here(digest).await?;
    }
    Ok(())
}

/// Removes blobs, each if `check` still lets it.
pub(super) async fn remove_blobs(
    registry: &Registry,
    digests: &[Digest],
    pace: &Pace,
    check: impl Fn() -> Result<()>,
) -> Result<()> {
    let removals = digests.iter().map(|digest| async {
        pace.step().await;
        check()?;
        registry.shared.blobs.remove(digest).await
    });
    let removals: Vec<_> = removals.collect();
    stream::iter(removals)
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}

/// Removes what runs have left that nobody looks at any more: all but the run `kept`.
pub(super) async fn forget_runs(registry: &Registry, kept: Option<&str>) -> Result<()> {
    let driver = &*registry.shared.driver;
    let runs = match driver.list(&layout::gc_runs(), None, None).await {
        Err(error) if error.is_not_found() => return Ok(()),
        runs => runs?,
    };
    for run in runs {
        if Some(&*run.name) != kept {
            ignore_absent(driver.discard(&layout::gc_run(&run.name)).await)?;
        }
    }
    Ok(())
}
