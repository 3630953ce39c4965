//! Finding and removing what is not marked.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::manifest::mentions;
use wharfinger_oci::{Digest, RepositoryName};

use super::item::Item;
use super::mark::Marks;
use super::mark_set::MarkSet;
use crate::blob_walk::{BlobWalk, share};
use crate::layout;
use crate::link::LinkSet;
use crate::pace::Pace;
use crate::{Error, Registry, Result};

/// How many blobs are looked at or removed at once.
const CONCURRENCY: usize = 16;

/// How many blobs are passed before it is told how far the walk has got.
const MANY: u64 = 1000;

/// How many blobs are looked at together.
const BATCH: usize = 64;

/// A blob that nothing needs.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
    written: Option<SystemTime>,
}

impl Blob {
    /// Whether it was written less than `grace` ago, or may have been.
    pub(super) fn is_younger_than(&self, grace: Duration) -> bool {
        let age = |written: SystemTime| SystemTime::now().duration_since(written).ok();
        // A time that lies in the future, or is not known, tells that it is new.
        !grace.is_zero() && self.written.and_then(age).is_none_or(|age| age < grace)
    }
}

/// A walk through the blobs that are not marked, in the order of their digests.
#[derive(Debug)]
pub(super) struct Unmarked<'a> {
    walk: BlobWalk<'a>,
    passed: u64,
    behind: f64,
}

impl<'a> Unmarked<'a> {
    pub(super) fn new(registry: &'a Registry) -> Self {
        Self {
            walk: BlobWalk::new(registry),
            passed: 0,
            behind: 0.0,
        }
    }

    /// The next few, or none where many are marked; `None` when there are no more.
    pub(super) async fn next(&mut self, marks: &Marks) -> Result<Option<Vec<Digest>>> {
        let mut digests = Vec::new();
        self.passed = 0;
        while digests.len() < BATCH
            && self.passed < MANY
            && let Some(digest) = self.walk.next().await?
        {
            self.passed += 1;
            self.behind = share(&digest);
            // What is in its folder is looked for only where it is not needed.
            if !marks.needed.contains(Item::Blob(digest).fingerprint()) {
                digests.push(digest);
            }
        }
        Ok((self.passed > 0).then_some(digests))
    }

    /// How many blobs the last step has passed, marked or not.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// About how much of all it has passed, from 0 to 1.
    pub(super) fn behind(&self) -> f64 {
        self.behind
    }
}

/// What is known of blobs, as far as they are there.
pub(super) async fn look_at(
    registry: &Registry,
    digests: &[Digest],
    pace: &Pace,
) -> Result<Vec<Blob>> {
    let looks = digests.iter().map(|&digest| async move {
        pace.step().await;
        let path = layout::blob_data(&digest);
        match registry.shared.driver.stat(&path).await {
            Ok(stat) if !stat.is_dir => Ok(Some(Blob {
                digest,
                size: stat.size,
                written: stat.modified,
            })),
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(Error::from(error)),
        }
    });
    let looks: Vec<_> = looks.collect();
    stream::iter(looks)
        .buffered(CONCURRENCY)
        .try_filter_map(|blob| std::future::ready(Ok(blob)))
        .try_collect()
        .await
}

/// The digests that a repository links, that nothing needs, and of which there is no blob.
/// `present` are blobs that nothing needs.
pub(super) async fn dangling(
    registry: &Registry,
    name: &RepositoryName,
    marks: &Marks,
    present: &MarkSet,
    pace: &Pace,
) -> Result<Vec<Digest>> {
    let mut dangling = Vec::new();
    let layers = registry.repository(name).links(LinkSet::Layers);
    for digest in layers.digests().await? {
        let fingerprint = Item::Blob(digest).fingerprint();
        if !digest.is_canonical()
            || present.contains(fingerprint)
            || marks.needed.contains(fingerprint)
        {
            continue;
        }
        pace.step().await;
        if registry.shared.blobs.stat(&digest).await?.is_none() {
            dangling.push(digest);
        }
    }
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

/// A repository's link to a blob.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// What it grants access under.
    pub(super) digest: Digest,
    pub(super) canonical: Digest,
}

/// A repository's links to blobs that go.
pub(super) async fn links(
    registry: &Registry,
    name: &RepositoryName,
    goes: impl Fn(&Digest) -> bool,
) -> Result<Vec<Link>> {
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
        if let Some(canonical) = canonical.filter(&goes) {
            going.push(Link { digest, canonical });
        }
    }
    Ok(going)
}

/// Removes links of a repository to blobs, each if `check` still lets it.
pub(super) async fn unlink(
    registry: &Registry,
    name: &RepositoryName,
    links: &[Link],
    pace: &Pace,
    check: impl Fn() -> Result<()>,
) -> Result<()> {
    let layers = registry.repository(name).links(LinkSet::Layers);
    let _deleting = registry.shared.repositories.exclusive(name).await;
    for link in links {
        pace.step().await;
        check()?;
        layers.unlink_here(&link.digest).await?;
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
