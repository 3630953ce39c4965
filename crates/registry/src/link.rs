//! Links: how a repository grants access to blobs of the global store.

use tracing::warn;
use wharfinger_oci::{Algorithm, Digest, RepositoryName, Tag};
use wharfinger_storage::StoragePath;

use crate::descriptor_cache::{Asked, CachedDescriptor, DescriptorCache, Lookup};
use crate::publication::Publication;
use crate::repository::{Shared, SharedRef};
use crate::{Error, Result, layout};

/// The kinds of links whose lookups are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LinkKind {
    /// To layers and other blobs.
    Layer,
    /// To manifests.
    Manifest,
}

/// Where the links of one kind live in a repository: one place they are written to, and the
/// places they are looked for in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkSet {
    /// Layers, configs and every other blob.
    Layers,
    /// Manifests. Distribution 2.1.0 wrote their links among those of layers, so they are looked
    /// for there too.
    Manifests,
    /// The signatures of a schema 1 manifest.
    Signatures { revision: Digest },
    /// The manifests whose subject is this digest.
    Referrers { subject: Digest },
    /// The manifests that a tag has stood for.
    TagIndex { tag: Tag },
}

impl LinkSet {
    pub(crate) fn write_path(&self, name: &RepositoryName, digest: &Digest) -> StoragePath {
        match self {
            Self::Layers => layout::layer_link(name, digest),
            Self::Manifests => layout::revision_link(name, digest),
            Self::Signatures { revision } => layout::signature_link(name, revision, digest),
            Self::Referrers { subject } => layout::referrer_link(name, subject, digest),
            Self::TagIndex { tag } => layout::tag_index_link(name, tag, digest),
        }
    }

    fn read_paths(&self, name: &RepositoryName, digest: &Digest) -> Vec<StoragePath> {
        let mut paths = vec![self.write_path(name, digest)];
        if let Self::Manifests = self {
            paths.push(layout::layer_link(name, digest));
        }
        paths
    }

    fn folder(&self, name: &RepositoryName, algorithm: Algorithm) -> StoragePath {
        match self {
            Self::Layers => layout::layers(name, algorithm),
            Self::Manifests => layout::revisions(name, algorithm),
            Self::Signatures { revision } => layout::signatures(name, revision, algorithm),
            Self::Referrers { subject } => layout::referrers(name, subject, algorithm),
            Self::TagIndex { tag } => layout::tag_index(name, tag, algorithm),
        }
    }

    fn cached_as(&self) -> Option<LinkKind> {
        match self {
            Self::Layers => Some(LinkKind::Layer),
            Self::Manifests => Some(LinkKind::Manifest),
            Self::Signatures { .. } | Self::Referrers { .. } | Self::TagIndex { .. } => None,
        }
    }
}

/// The blobs that one link set of a repository grants access to.
#[derive(Clone, Debug)]
pub(crate) struct LinkedBlobs {
    pub(crate) shared: SharedRef,
    pub(crate) name: RepositoryName,
    set: LinkSet,
}

impl LinkedBlobs {
    pub(crate) fn new(shared: SharedRef, name: RepositoryName, set: LinkSet) -> Self {
        Self { shared, name, set }
    }

    /// The access check: what `digest` stands for in this repository, or `None` when there is no
    /// link, or its blob is gone.
    ///
    /// What is found survives the machine: a write of the same digest that is still under way is
    /// waited for.
    pub(crate) async fn stat(&self, digest: &Digest) -> Result<Option<CachedDescriptor>> {
        if let Some((kind, cache)) = self.cache()
            && let Some(known) = cache.get(&self.name, kind, digest)
        {
            return Ok(self.shared.descriptor_lookups.count(Some(known)));
        }
        // In a box, so that what memory knows costs no room for what it does not.
        Box::pin(self.look_up(digest)).await
    }

    /// The access check where memory does not know the answer.
    async fn look_up(&self, digest: &Digest) -> Result<Option<CachedDescriptor>> {
        let cache = self.cache();
        let mut lookup = None;
        if let Some((kind, cache)) = cache {
            let begun = cache.begin(digest);
            let known = match cache.ask_others(begun, &self.name, kind, digest).await {
                Asked::Known(descriptor) => Some(descriptor),
                Asked::Unknown(begun) => {
                    lookup = Some(begun);
                    None
                }
            };
            if let Some(descriptor) = self.shared.descriptor_lookups.count(known) {
                return Ok(Some(descriptor));
            }
        }
        let _published = self.shared.publishing.shared(digest).await;
        let Some(canonical) = self.resolve(digest).await? else {
            return Ok(None);
        };
        let Some(size) = self.shared.blobs.stat(&canonical).await? else {
            warn!(repository = %self.name, %digest, "a link leads to a blob that is not there");
            return Ok(None);
        };
        let descriptor = CachedDescriptor { canonical, size };
        if let (Some((kind, cache)), Some(lookup)) = (cache, lookup) {
            cache
                .found(lookup, &self.name, kind, digest, descriptor)
                .await;
        }
        Ok(Some(descriptor))
    }

    /// The canonical digest that the link for `digest` holds, wherever the link is.
    pub(crate) async fn resolve(&self, digest: &Digest) -> Result<Option<Digest>> {
        for path in self.set.read_paths(&self.name, digest) {
            if let Some(canonical) = read_link(&self.shared, &path).await? {
                return Ok(Some(canonical));
            }
        }
        Ok(None)
    }

    /// Grants access to the blob `blob` under the digest `digest`, durably. The blob must be
    /// durable before.
    pub(crate) async fn link(&self, digest: &Digest, blob: CachedDescriptor) -> Result<()> {
        if self.is_known(digest, blob).await? {
            return Ok(());
        }
        let mut publication = Publication::begin(&self.shared, &[*digest]).await;
        publication
            .links(vec![(self.clone(), *digest)], blob)
            .await?;
        publication.write().await
    }

    /// The descriptor cache, and as what it knows this set; `None` where the set is not cached.
    fn cache(&self) -> Option<(LinkKind, &DescriptorCache)> {
        self.set.cached_as().zip(self.shared.descriptors.as_ref())
    }

    /// Whether access is known to be granted durably: only durable links get into the cache. The
    /// store is asked too, as another process may have removed the link since.
    pub(crate) async fn is_known(&self, digest: &Digest, blob: CachedDescriptor) -> Result<bool> {
        let cached = self
            .cache()
            .and_then(|(kind, cache)| cache.get(&self.name, kind, digest));
        if cached != Some(blob) {
            return Ok(false);
        }
        match read_link(&self.shared, &self.write_path(digest)).await {
            Err(Error::Damaged { .. }) => Ok(false),
            found => Ok(found? == Some(blob.canonical)),
        }
    }

    /// Where the link for a digest is written.
    pub(crate) fn write_path(&self, digest: &Digest) -> StoragePath {
        self.set.write_path(&self.name, digest)
    }

    /// Before a link is written: what [`linked`](Self::linked) wants after it.
    pub(crate) fn begin(&self, digest: &Digest) -> Option<Lookup> {
        let cache = self.cache();
        cache.map(|(_, cache)| cache.begin(digest))
    }

    /// Remembers a link that is durable now.
    pub(crate) fn linked(&self, lookup: Option<Lookup>, digest: &Digest, blob: CachedDescriptor) {
        let cache = self.cache();
        if let (Some((kind, cache)), Some(lookup)) = (cache, lookup) {
            cache.set(&lookup, &self.name, kind, digest, blob);
        }
    }

    /// Takes access under `digest` away, wherever the link is, and under every other algorithm's
    /// digest of the same blob. That of `digest` goes last: as long as it is there, who was cut off
    /// can do it again.
    ///
    /// The caller holds the repository's lock exclusively.
    pub(crate) async fn unlink(&self, digest: &Digest, canonical: &Digest) -> Result<()> {
        let mut digests = Vec::new();
        for algorithm in Algorithm::ALL {
            if algorithm == digest.algorithm() {
                continue;
            }
            for alias in self.digests_of(algorithm).await? {
                let path = self.set.write_path(&self.name, &alias);
                let leads_to = match read_link(&self.shared, &path).await {
                    // A broken link grants nothing.
                    Err(Error::Damaged { .. }) => None,
                    found => found?,
                };
                if leads_to == Some(*canonical) {
                    digests.push(alias);
                }
            }
        }
        digests.push(*digest);
        for digest in digests {
            for path in self.set.read_paths(&self.name, &digest) {
                let folder = path.parent().expect("a link lies in a folder");
                ignore_absent(self.shared.driver.delete(&folder).await)?;
            }
            if let Some((kind, cache)) = self.cache() {
                cache.clear(&self.name, kind, &digest).await;
            }
        }
        Ok(())
    }

    /// Takes access under just this digest away, and only where links are written to.
    ///
    /// The caller holds the repository's lock exclusively.
    pub(crate) async fn unlink_here(&self, digest: &Digest) -> Result<()> {
        let path = self.set.write_path(&self.name, digest);
        let folder = path.parent().expect("a link lies in a folder");
        ignore_absent(self.shared.driver.delete(&folder).await)?;
        if let Some((kind, cache)) = self.cache() {
            cache.clear(&self.name, kind, digest).await;
        }
        Ok(())
    }

    /// All digests that have a link where links are written to, those of the canonical algorithm
    /// first, each in order.
    pub(crate) async fn digests(&self) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for algorithm in Algorithm::ALL {
            digests.extend(self.digests_of(algorithm).await?);
        }
        Ok(digests)
    }

    async fn digests_of(&self, algorithm: Algorithm) -> Result<Vec<Digest>> {
        let folder = self.set.folder(&self.name, algorithm);
        let entries = match self.shared.driver.list(&folder, None, None).await {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            entries => entries?,
        };
        Ok(entries
            .iter()
            .filter_map(|e| Digest::from_hex(algorithm, &e.name).ok())
            .collect())
    }
}

/// The digest that a link holds, or `None` when there is no link.
///
/// # Errors
/// [`Error::Damaged`] when it holds something else.
pub(crate) async fn read_link(shared: &Shared, path: &StoragePath) -> Result<Option<Digest>> {
    let content = match shared.driver.get(path).await {
        Err(error) if error.is_not_found() => return Ok(None),
        content => content?,
    };
    // Distribution writes no newline; a hand-mended link often has one.
    let digest = std::str::from_utf8(&content)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    digest.map(Some).ok_or_else(|| Error::Damaged {
        path: path.clone(),
        reason: match content.len() {
            0 => "the link is empty".to_owned(),
            length => format!("the link's {length} bytes are not a digest"),
        },
    })
}

/// Takes "there was nothing" for success.
pub(crate) fn ignore_absent(result: wharfinger_storage::Result<()>) -> Result<()> {
    match result {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}
