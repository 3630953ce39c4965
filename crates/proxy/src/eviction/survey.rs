//! What caches keep, as it is found in the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use wharfinger_oci::manifest::mentions;
use wharfinger_oci::{Choice, Digest, RepositoryName};
use wharfinger_registry::{Error, Registry, Repository, Result};

use super::{EvictionOptions, Retention, Uses};

/// How many repositories are listed together.
const PAGE: usize = 1000;

/// How many manifests and blobs are looked at at once.
const CONCURRENCY: usize = 16;

/// What a manifest mentions, and its size in bytes.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) size: u64,
    pub(super) mentions: Vec<Digest>,
    pub(super) subjects: Vec<Digest>,
}

/// What is known of content and cannot change.
#[derive(Debug, Default)]
pub(super) struct Known {
    manifests: HashMap<Digest, Arc<Manifest>>,
    sizes: HashMap<Digest, u64>,
}

impl Known {
    pub(super) fn forget_all_but(&mut self, survey: &Survey) {
        let all = || survey.repositories.values();
        let manifests: HashSet<_> = all().flat_map(|kept| kept.manifests.keys()).collect();
        let blobs: HashSet<_> = all().flat_map(|kept| kept.blobs.keys()).collect();
        self.manifests
            .retain(|digest, _| manifests.contains(digest));
        self.sizes.retain(|digest, _| blobs.contains(digest));
    }
}

/// What is kept of one repository.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) retention: Arc<Retention>,
    pub(super) manifests: HashMap<Digest, Arc<Manifest>>,
    /// With their sizes in bytes.
    pub(super) blobs: HashMap<Digest, u64>,
    /// When each was last used, in seconds since 1970.
    pub(super) used: HashMap<Digest, i64>,
    /// What pinned tags stand for.
    pub(super) pinned: Vec<Digest>,
    /// Whether all of it stays.
    pub(super) is_pinned: bool,
}

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) repositories: BTreeMap<RepositoryName, Kept>,
    /// Blobs that a repository has, too, which is no cache: they stay whatever happens here.
    pub(super) elsewhere: HashSet<Digest>,
}

impl Survey {
    /// Looks at everything.
    pub(super) async fn take(
        registry: &Registry,
        options: &EvictionOptions,
        uses: &Uses,
        known: &mut Known,
        now: Timestamp,
    ) -> Result<Self> {
        let mut survey = Self::default();
        let mut others = Vec::new();
        let mut after: Option<RepositoryName> = None;
        loop {
            let page = registry.catalog(after.as_ref().map(|name| name.as_str()), PAGE);
            let page = page.await?;
            after = page.items.last().cloned();
            for name in page.items {
                let Some(retention) = (options.retentions)(&name) else {
                    others.push(name);
                    continue;
                };
                let repository = registry.repository(&name);
                let mut kept = look(&repository, retention, known).await?;
                let digests = kept.manifests.keys().chain(kept.blobs.keys()).copied();
                kept.used = uses.of(&name, digests, now.as_second()).await?;
                survey.repositories.insert(name, kept);
            }
            if !page.more {
                break;
            }
        }
        let all = survey.repositories.values();
        let all: HashSet<_> = all.flat_map(|kept| kept.blobs.keys().copied()).collect();
        for name in others {
            let linked = registry.repository(&name).blobs().digests().await?;
            let shared = linked.into_iter().filter(|digest| all.contains(digest));
            survey.elsewhere.extend(shared);
        }
        Ok(survey)
    }

    /// How many bytes only caches have.
    pub(super) fn size(&self) -> u64 {
        let mut counted = HashSet::new();
        let mut size = 0;
        for kept in self.repositories.values() {
            let manifests = kept.manifests.iter();
            let manifests = manifests.map(|(digest, manifest)| (digest, manifest.size));
            let blobs = kept.blobs.iter().map(|(digest, size)| (digest, *size));
            for (digest, bytes) in manifests.chain(blobs) {
                if !self.elsewhere.contains(digest) && counted.insert(digest) {
                    size += bytes;
                }
            }
        }
        size
    }

    /// All that is kept of a repository.
    pub(super) fn digests_of(&self, name: &RepositoryName) -> impl Iterator<Item = Digest> {
        let kept = self.repositories.get(name).into_iter();
        kept.flat_map(|kept| kept.manifests.keys().chain(kept.blobs.keys()).copied())
    }
}

async fn look(
    repository: &Repository,
    retention: Arc<Retention>,
    known: &mut Known,
) -> Result<Kept> {
    let manifests = repository.manifests().digests().await?;
    let new = manifests
        .iter()
        .filter(|digest| !known.manifests.contains_key(*digest));
    let new: Vec<_> = new.map(|digest| read(repository, *digest)).collect();
    let new: Vec<_> = stream::iter(new)
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    known.manifests.extend(new);
    let blobs = repository.blobs().digests().await?;
    let new = blobs
        .iter()
        .filter(|digest| !known.sizes.contains_key(*digest));
    let new: Vec<_> = new.map(|digest| size(repository, *digest)).collect();
    let new: Vec<_> = stream::iter(new)
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    known.sizes.extend(new.into_iter().flatten());
    let (pinned, is_pinned) = match &retention.pinned {
        None => (Vec::new(), false),
        Some(choice) if choice.has_all_of(repository.name()) => (Vec::new(), true),
        Some(choice) => (pinned(repository, choice).await?, false),
    };
    let manifests = manifests.into_iter().filter_map(|digest| {
        let manifest = known.manifests.get(&digest)?;
        Some((digest, Arc::clone(manifest)))
    });
    let blobs = blobs.into_iter().map(|digest| {
        let size = known.sizes.get(&digest).copied();
        (digest, size.unwrap_or_default())
    });
    Ok(Kept {
        retention,
        manifests: manifests.collect(),
        blobs: blobs.collect(),
        used: HashMap::new(),
        pinned,
        is_pinned,
    })
}

/// What a manifest mentions. One that cannot be read mentions nothing: it is fetched again when
/// somebody wants it.
async fn read(repository: &Repository, digest: Digest) -> Result<(Digest, Arc<Manifest>)> {
    let manifest = match repository.manifests().get(&digest).await {
        Err(Error::ManifestUnknown(_) | Error::Damaged { .. } | Error::SignatureUnknown { .. }) => {
            Manifest::default()
        }
        served => {
            let bytes = served?.bytes;
            let mentions = mentions(&bytes).unwrap_or_default();
            Manifest {
                size: bytes.len() as u64,
                mentions: mentions.digests,
                subjects: mentions.subjects,
            }
        }
    };
    Ok((digest, Arc::new(manifest)))
}

/// The size of a blob; `None` where there is only a link.
async fn size(repository: &Repository, digest: Digest) -> Result<Option<(Digest, u64)>> {
    match repository.blobs().stat(&digest).await {
        Err(Error::BlobUnknown(_) | Error::Damaged { .. }) => Ok(None),
        descriptor => Ok(Some((digest, descriptor?.size))),
    }
}

/// What pinned tags stand for.
async fn pinned(repository: &Repository, choice: &Choice) -> Result<Vec<Digest>> {
    let tags = match repository.tags().list(None, None).await {
        Err(Error::NameUnknown(_)) => return Ok(Vec::new()),
        page => page?.items,
    };
    let mut pinned = Vec::new();
    for tag in tags {
        if choice.has_tag(repository.name(), &tag) {
            match repository.tags().get(&tag).await {
                Err(Error::ManifestUnknown(_) | Error::Damaged { .. }) => {}
                digest => pinned.push(digest?),
            }
        }
    }
    Ok(pinned)
}
