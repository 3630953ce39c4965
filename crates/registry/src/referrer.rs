//! Referrers: which manifests name another one as their subject (OCI distribution specification,
//! "Listing Referrers").

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tracing::warn;
use wharfinger_oci::manifest::{ContentDescriptor, Manifest};
use wharfinger_oci::{Digest, Tag};

use crate::link::LinkSet;
use crate::{Error, Repository, Result};

/// How many referrers' manifests are read at once.
const CONCURRENCY: usize = 16;

/// How many hexadecimal digits of a digest its fallback tag has at most.
const FALLBACK_HEX: usize = 64;

/// The manifests of a repository that refer to others as their subject.
#[derive(Clone, Debug)]
pub struct Referrers {
    repository: Repository,
}

impl Referrers {
    pub(crate) fn new(repository: Repository) -> Self {
        Self { repository }
    }

    /// Descriptors of the manifests whose subject is `subject`, in the order of their digests;
    /// with an artifact type, only those of that type. The subject need not exist.
    ///
    /// What clients kept under the fallback tag `<algorithm>-<hex>`, while the registry was one
    /// without this listing, is listed too.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<ContentDescriptor>> {
        let links = self
            .repository
            .links(LinkSet::Referrers { subject: *subject });
        let mut listed = BTreeSet::from_iter(links.digests().await?);
        listed.extend(self.fallback(subject).await?);
        let descriptions: Vec<_> = listed
            .iter()
            .map(|digest| self.describe(subject, digest))
            .collect();
        let described: Vec<_> = stream::iter(descriptions)
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let wanted = |descriptor: &ContentDescriptor| {
            artifact_type.is_none() || descriptor.artifact_type.as_deref() == artifact_type
        };
        Ok(described.into_iter().flatten().filter(wanted).collect())
    }

    /// The descriptor of one referrer, or `None` when its manifest went without its link, or has
    /// another subject: a client may have put anything under the fallback tag.
    async fn describe(
        &self,
        subject: &Digest,
        digest: &Digest,
    ) -> Result<Option<ContentDescriptor>> {
        let served = match self.repository.manifests().get(digest).await {
            Err(Error::ManifestUnknown(_)) => return Ok(None),
            Err(error @ Error::Damaged { .. }) => {
                warn!(repository = %self.repository.name, %digest, %error, "a referrer is left out");
                return Ok(None);
            }
            served => served?,
        };
        let media_type = served.descriptor.media_type;
        let manifest = match Manifest::parse(Some(&media_type), served.bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                warn!(repository = %self.repository.name, %digest, %error, "a referrer is left out");
                return Ok(None);
            }
        };
        if manifest.subject().map(|named| named.digest) != Some(*subject) {
            return Ok(None);
        }
        Ok(Some(ContentDescriptor {
            media_type: media_type.to_string(),
            digest: *digest,
            size: served.descriptor.size,
            urls: Vec::new(),
            annotations: manifest.annotations().cloned(),
            artifact_type: manifest.artifact_type().map(str::to_owned),
        }))
    }

    /// The digests in the fallback tag's index (OCI distribution specification, "Referrers Tag
    /// Schema").
    async fn fallback(&self, subject: &Digest) -> Result<Vec<Digest>> {
        #[derive(Deserialize)]
        struct Entries {
            #[serde(default)]
            manifests: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            digest: Digest,
        }
        let mut hex = subject.hex();
        hex.truncate(FALLBACK_HEX);
        let Ok(tag) = format!("{}-{hex}", subject.algorithm()).parse::<Tag>() else {
            return Ok(Vec::new());
        };
        let digest = match self.repository.tags().get(&tag).await {
            Err(Error::ManifestUnknown(_)) => return Ok(Vec::new()),
            digest => digest?,
        };
        let index = match self.repository.manifests().get(&digest).await {
            Err(Error::ManifestUnknown(_)) => return Ok(Vec::new()),
            index => index?,
        };
        // Whatever else lies under the tag lists nothing.
        let entries = serde_json::from_slice::<Entries>(&index.bytes);
        let entries = entries.map_or_else(|_| Vec::new(), |entries| entries.manifests);
        Ok(entries.into_iter().map(|entry| entry.digest).collect())
    }
}
