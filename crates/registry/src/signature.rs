//! The signatures of signed schema 1 manifests, kept apart from the payload that they sign.

use std::collections::HashSet;
use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::Digest;
use wharfinger_oci::schema1::SigningKey;

use crate::gc::{Item, Reliance};
use crate::link::{LinkSet, LinkedBlobs};
use crate::publication::Publication;
use crate::{Error, Repository, Result};

/// How many signatures are fetched at once.
const CONCURRENCY: usize = 8;

/// How many signatures are added to a revision. Old clients signed anew at every push, and every
/// pull fetches all signatures.
const MAX_KEPT: usize = 256;

/// The signatures of a repository's schema 1 manifests.
#[derive(Clone, Debug)]
pub struct Signatures {
    repository: Repository,
}

impl Signatures {
    pub(crate) fn new(repository: Repository) -> Self {
        Self { repository }
    }

    /// Every signature of a revision, each as the JSON object that it is stored as, in the order
    /// of their digests. A revision may have none.
    ///
    /// # Errors
    /// [`Error::SignatureUnknown`] names one that is listed but cannot be read.
    pub async fn get(&self, revision: &Digest) -> Result<Vec<Bytes>> {
        let links = self.links(revision);
        let listed = links.digests().await?.into_iter();
        let fetches: Vec<_> = listed
            .map(|digest| Self::fetch(&links, revision, digest))
            .collect();
        stream::iter(fetches)
            .buffered(CONCURRENCY)
            .try_filter_map(|fetched| std::future::ready(Ok(fetched)))
            .try_collect()
            .await
    }

    /// A signature, or `None` where there is a folder for it and no link: a crash came between.
    async fn fetch(
        links: &LinkedBlobs,
        revision: &Digest,
        signature: Digest,
    ) -> Result<Option<Bytes>> {
        let unknown = |source| Error::SignatureUnknown {
            revision: *revision,
            signature,
            source: Box::new(source),
        };
        // A push of the same signature that is under way has made it durable then.
        let _published = links.shared.publishing.shared(&signature).await;
        let Some(canonical) = links.resolve(&signature).await.map_err(unknown)? else {
            return Ok(None);
        };
        let content = links.shared.content(&canonical).await;
        Ok(Some(content.map_err(unknown)?.bytes))
    }

    /// Adds signatures, each in the form that [`Manifest::signatures`] gives, to a revision.
    ///
    /// [`Manifest::signatures`]: wharfinger_oci::manifest::Manifest::signatures
    ///
    /// # Errors
    /// [`Error::ReadOnly`]; [`Error::ManifestRefused`] when the revision would have more than 256.
    pub async fn put(&self, revision: &Digest, signatures: &[Bytes]) -> Result<()> {
        let shared = &self.repository.shared;
        let _writing = shared.writing()?;
        let mut reliance = Reliance::begin(shared).await?;
        let own = signatures.iter().map(|s| Item::Blob(Digest::canonical(s)));
        let revision_too = Item::Manifest(self.repository.name.clone(), *revision);
        let all: Vec<_> = own.chain([revision_too]).collect();
        reliance.keep(&all).await?;
        self.add(revision, signatures).await?;
        reliance.confirm().await
    }

    /// The same as a part of a write that is under way.
    pub(crate) async fn add(&self, revision: &Digest, signatures: &[Bytes]) -> Result<()> {
        let shared = &self.repository.shared;
        let links = self.links(revision);
        let mut all: HashSet<Digest> = links.digests().await?.into_iter().collect();
        let kept = all.len();
        all.extend(signatures.iter().map(|s| Digest::canonical(s)));
        if all.len() > kept.max(MAX_KEPT) {
            let reason = format!("it has {kept} signatures already");
            return Err(Error::ManifestRefused(reason));
        }
        // Those that are there already too: another push may not have made them durable yet.
        for signature in signatures {
            let canonical = Digest::canonical(signature);
            let mut publication = Publication::begin(shared, &[canonical]).await;
            let blob = publication.blob(canonical, signature.clone()).await?;
            publication
                .links(vec![(links.clone(), canonical)], blob)
                .await?;
            publication.write().await?;
        }
        Ok(())
    }

    fn links(&self, revision: &Digest) -> LinkedBlobs {
        self.repository.links(LinkSet::Signatures {
            revision: *revision,
        })
    }
}

/// The key that signs schema 1 manifests which have no signature of their own: the configured
/// one, or one made up when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct SchemaOneKey(OnceLock<SigningKey>);

impl SchemaOneKey {
    /// # Errors
    /// When the file cannot be read or holds no usable key.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self> {
        let key = Self::default();
        if let Some(path) = path {
            let file = path.display();
            let pem = std::fs::read_to_string(path)
                .map_err(|error| Error::SigningKey(format!("{file}: {error}")))?;
            let loaded = SigningKey::from_pem(&pem)
                .map_err(|error| Error::SigningKey(format!("{file}: {error}")))?;
            let _first = key.0.set(loaded);
        }
        Ok(key)
    }

    pub(crate) fn get(&self) -> &SigningKey {
        self.0.get_or_init(SigningKey::generate)
    }
}
