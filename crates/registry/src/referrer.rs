//! Referrers: which manifests name another one as their subject (OCI distribution specification,
//! "Listing Referrers").

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tracing::warn;
use wharfinger_oci::manifest::{ContentDescriptor, Manifest};
use wharfinger_oci::{Digest, Tag};

use crate::link::LinkSet;
use crate::{Error, Repository, Result};

/// How many referrers' manifests are read at once.
const CONCURRENCY: usize = 16;

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
        let listed = links.digests().await?;
        let descriptions: Vec<_> = listed.iter().map(|digest| self.describe(digest)).collect();
        let described: Vec<_> = stream::iter(descriptions)
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        let mut found: BTreeMap<Digest, ContentDescriptor> = described
            .into_iter()
            .flatten()
            .map(|d| (d.digest, d))
            .collect();
        for descriptor in self.fallback(subject).await? {
            found.entry(descriptor.digest).or_insert(descriptor);
        }
        let wanted = |descriptor: &ContentDescriptor| {
            artifact_type.is_none() || descriptor.artifact_type.as_deref() == artifact_type
        };
        Ok(found.into_values().filter(wanted).collect())
    }

    /// The descriptor of one referrer, or `None` when its manifest went without its link.
    async fn describe(&self, digest: &Digest) -> Result<Option<ContentDescriptor>> {
        let served = match self.repository.manifests().get(digest).await {
            Err(Error::ManifestUnknown(_)) => return Ok(None),
            Err(error @ Error::Damaged { .. }) => {
                warn!(repository = %self.repository.name, %digest, %error, "a referrer is left out");
                return Ok(None);
            }
            served => served?,
        };
        let media_type = served.descriptor.media_type;
        Ok(match Manifest::parse(Some(&media_type), served.bytes) {
            Ok(manifest) => Some(ContentDescriptor {
                media_type: media_type.to_string(),
                digest: *digest,
                size: served.descriptor.size,
                urls: Vec::new(),
                annotations: manifest.annotations().cloned(),
                artifact_type: manifest.artifact_type().map(str::to_owned),
            }),
            Err(error) => {
                warn!(repository = %self.repository.name, %digest, %error, "a referrer is left out");
                None
            }
        })
    }

    /// The entries of the fallback tag's index (OCI distribution specification, "Referrers Tag
    /// Schema"), those whose manifests are there.
    async fn fallback(&self, subject: &Digest) -> Result<Vec<ContentDescriptor>> {
        #[derive(Deserialize)]
        struct Entries {
            #[serde(default)]
            manifests: Vec<serde_json::Value>,
        }
        // A tag has 128 characters at most; the schema cuts the hex of longer digests.
        let mut text = subject.to_string().replace(':', "-");
        text.truncate(Tag::MAX_LEN);
        let Ok(tag) = text.parse::<Tag>() else {
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
        let Ok(entries) = serde_json::from_slice::<Entries>(&index.bytes) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for entry in entries.manifests {
            if let Ok(descriptor) = serde_json::from_value::<ContentDescriptor>(entry)
                && self
                    .repository
                    .manifests()
                    .contains(&descriptor.digest)
                    .await?
            {
                found.push(descriptor);
            }
        }
        Ok(found)
    }
}
