//! Manifests: checked when they come in, kept byte for byte, served as they are.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use wharfinger_oci::manifest::{MAX_SIZE, Manifest};
use wharfinger_oci::schema1::SignatureError;
use wharfinger_oci::{Algorithm, Descriptor, Digest, Tag, media_type, schema1};

use crate::content_cache::SmallContent;
use crate::descriptor_cache::CachedDescriptor;
use crate::gc::{Item, Reliance};
use crate::link::{LinkSet, LinkedBlobs};
use crate::publication::Publication;
use crate::{Error, Repository, Result, layout};

mod validation;

/// A manifest as it is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// Media type, the digest that was asked for, and the number of bytes served.
    pub descriptor: Descriptor,
    /// The bytes: exactly those that were pushed.
    pub bytes: Bytes,
}

/// The manifests of a repository.
#[derive(Clone, Debug)]
pub struct Manifests {
    repository: Repository,
    links: LinkedBlobs,
}

impl Manifests {
    pub(crate) fn new(repository: Repository) -> Self {
        let links = repository.links(LinkSet::Manifests);
        Self { repository, links }
    }

    /// Whether the repository has a manifest with this digest.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a broken link.
    pub async fn contains(&self, digest: &Digest) -> Result<bool> {
        Ok(self.links.stat(digest).await?.is_some())
    }

    /// The digests of all manifests, those of the canonical algorithm first, each in order. One that
    /// was pushed under a digest of another algorithm is there under both.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn digests(&self) -> Result<Vec<Digest>> {
        self.links.digests().await
    }

    /// Sees to it that a collection under way spares a manifest that a client is told to be there,
    /// and will not push then.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] for one that is being removed.
    pub async fn promise(&self, digest: &Digest) -> Result<()> {
        let shared = &self.repository.shared;
        let Some(mut reliance) = Reliance::during_run(shared).await? else {
            return Ok(());
        };
        let item = Item::Manifest(self.repository.name.clone(), *digest);
        if reliance.is_lost(&item) {
            return Err(Error::ManifestUnknown(digest.to_string()));
        }
        if !shared.gate.is_closed() && !Box::pin(reliance.rely_on([item.clone()])).await? {
            let unknown = || Error::ManifestUnknown(digest.to_string());
            return match reliance.is_lost(&item) {
                true => Err(unknown()),
                false => Ok(()),
            };
        }
        Ok(())
    }

    /// The manifest with this digest. A signed schema 1 manifest is put together from its payload
    /// and its signatures; one that has none is signed with the registry's key.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`]; [`Error::Damaged`]; [`Error::SignatureUnknown`].
    pub async fn get(&self, digest: &Digest) -> Result<Served> {
        let unknown = || Error::ManifestUnknown(digest.to_string());
        let blob = self.links.stat(digest).await?.ok_or_else(unknown)?;
        let content = self.content(blob).await?.ok_or_else(unknown)?;
        let (media_type, bytes) = match content.media_type {
            Some(media_type) if &*media_type == media_type::SCHEMA1_MANIFEST => {
                let signed = self.signed(&blob.canonical, &content.bytes).await?;
                (media_type::SCHEMA1_SIGNED_MANIFEST.into(), signed)
            }
            Some(media_type) => (media_type, content.bytes),
            None => return Err(unknown()),
        };
        let descriptor = Descriptor {
            media_type,
            digest: *digest,
            size: bytes.len() as u64,
        };
        Ok(Served { descriptor, bytes })
    }

    /// The stored bytes with their media type, or `None` when they are no manifest: a layer's link
    /// was found where 2.1.0 put manifests' links.
    async fn content(&self, blob: CachedDescriptor) -> Result<Option<SmallContent>> {
        if blob.size > MAX_SIZE as u64 {
            return Ok(None);
        }
        let shared = &self.repository.shared;
        let mut content = match shared.content(&blob.canonical).await {
            Err(Error::BlobUnknown(_)) => return Ok(None),
            content => content?,
        };
        if content.media_type.is_none() {
            let Some(media_type) = stored_media_type(&content.bytes) else {
                return Ok(None);
            };
            content.media_type = Some(media_type);
            shared.blobs.remember(blob.canonical, content.clone());
        }
        Ok(Some(content))
    }

    async fn signed(&self, revision: &Digest, payload: &Bytes) -> Result<Bytes> {
        let Repository { shared, name } = &self.repository;
        let damaged = |error: SignatureError| Error::Damaged {
            path: layout::signatures(name, revision, Algorithm::CANONICAL),
            reason: error.to_string(),
        };
        let mut signatures = self.repository.signatures().get(revision).await?;
        if signatures.is_empty() {
            let key = shared.schema1_key.get();
            let signature = schema1::sign(payload, key, SystemTime::now()).map_err(damaged)?;
            signatures.push(signature);
        }
        schema1::assemble(payload, &signatures).map_err(damaged)
    }

    /// Stores a manifest under `digest`, which may be of any algorithm, and lets `tags` stand for
    /// it. The order is that nothing can be found before what it refers to: the bytes, the
    /// revision and the referrer's record, the tags' history, the tags.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`]; [`Error::ManifestReferencesUnknown`];
    /// [`Error::ManifestRefused`]; [`Error::ReadOnly`].
    pub async fn put(
        &self,
        manifest: &Manifest,
        digest: &Digest,
        tags: &[Tag],
    ) -> Result<Descriptor> {
        let shared = &self.repository.shared;
        let _writing = shared.writing()?;
        let actual = Digest::of(digest.algorithm(), manifest.payload());
        if actual != *digest {
            return Err(Error::DigestMismatch {
                expected: *digest,
                actual,
            });
        }
        let payload = manifest.payload().clone();
        let canonical = Digest::canonical(&payload);
        let mut reliance = Reliance::begin(shared).await?;
        let mut is_run_on = false;
        let _pushing = loop {
            let pushing = shared.repositories.shared(&self.repository.name).await;
            // One that has just ended, too.
            is_run_on |= reliance.is_run_on();
            let mut needed = validation::check(&self.repository, manifest, tags).await?;
            needed.extend(self.own(manifest, digest, canonical));
            if is_run_on {
                needed.extend(validation::check_nested(&self.repository, manifest).await?);
            }
            if reliance.rely_on(needed).await? {
                break pushing;
            }
            drop(pushing);
            reliance.wait().await?;
        };
        let signatures = manifest.signatures();
        if !signatures.is_empty() {
            // Signatures are kept for a manifest that is there.
            let mut publication = Publication::begin(shared, &[canonical]).await;
            publication.blob(canonical, payload.clone()).await?;
            publication.write().await?;
            let service = self.repository.signatures();
            service.add(&canonical, signatures).await?;
        }
        let mut publication = Publication::begin(shared, &[canonical, *digest]).await;
        let blob = publication.blob(canonical, payload.clone()).await?;
        let mut links = vec![(self.links.clone(), *digest)];
        if *digest != canonical {
            links.push((self.links.clone(), canonical));
        }
        if let Some(subject) = manifest.subject() {
            let set = LinkSet::Referrers {
                subject: subject.digest,
            };
            links.push((self.repository.links(set), *digest));
        }
        publication.links(links, blob).await?;
        publication.tags(&self.repository.name, tags, digest);
        reliance.confirm().await?;
        publication.write().await?;
        reliance.confirm().await?;

        let media_type: Arc<str> = manifest.media_type().into();
        if let Some(stored) = stored_media_type(&payload) {
            let content = SmallContent {
                bytes: payload,
                media_type: Some(stored),
            };
            shared.blobs.remember(blob.canonical, content);
        }
        Ok(Descriptor {
            media_type,
            digest: *digest,
            size: manifest.bytes().len() as u64,
        })
    }

    /// What may be there already of what is stored with a manifest, and its subject.
    fn own(&self, manifest: &Manifest, digest: &Digest, canonical: Digest) -> Vec<Item> {
        let name = &self.repository.name;
        let signatures = manifest.signatures().iter();
        let blobs = signatures.map(|signature| Digest::canonical(signature));
        let blobs = blobs.chain([canonical]).map(Item::Blob);
        let subject = manifest.subject().map(|subject| subject.digest);
        let manifests = subject.into_iter().chain([*digest, canonical]);
        let manifests = manifests.map(|digest| Item::Manifest(name.clone(), digest));
        blobs.chain(manifests).collect()
    }

    /// Removes a manifest, the tags that stand for it, and its record as a referrer; gives the
    /// tags in order. Its bytes, and what it refers to, stay until they are collected.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where deletion is off; [`Error::ManifestUnknown`].
    pub async fn delete(&self, digest: &Digest) -> Result<Vec<Tag>> {
        let shared = &self.repository.shared;
        let _writing = shared.deleting()?;
        let _deleting = shared.repositories.exclusive(&self.repository.name).await;
        let unknown = || Error::ManifestUnknown(digest.to_string());
        let blob = self.links.stat(digest).await?.ok_or_else(unknown)?;
        let content = match self.content(blob).await {
            // What is damaged must be possible to remove.
            Err(Error::Damaged { .. }) => None,
            content => Some(content?.ok_or_else(unknown)?),
        };
        let mut digests = vec![*digest, blob.canonical];
        if let Some(content) = &content {
            digests.extend(Algorithm::ALL.map(|a| Digest::of(a, &content.bytes)));
        }
        // Tags first: were the revision gone first, a crash would leave tags that lead nowhere
        // and that no second try could find.
        let tags = self.repository.tags().remove_all_of(&digests).await?;
        if let Some(SmallContent {
            bytes,
            media_type: Some(media_type),
        }) = content
            && let Ok(manifest) = Manifest::parse(Some(&media_type), bytes)
            && let Some(subject) = manifest.subject()
        {
            let set = LinkSet::Referrers {
                subject: subject.digest,
            };
            self.repository
                .links(set)
                .unlink(digest, &blob.canonical)
                .await?;
        }
        self.links.unlink(digest, &blob.canonical).await?;
        Ok(tags)
    }
}

/// The media type of a manifest as it was stored, which Distribution does not record: from the
/// content, as leniently as Distribution reads it. `None` when it is no manifest.
pub(crate) fn stored_media_type(bytes: &[u8]) -> Option<Arc<str>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape<'a> {
        schema_version: u32,
        #[serde(borrow)]
        media_type: Option<std::borrow::Cow<'a, str>>,
        manifests: Option<IgnoredAny>,
        fs_layers: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
        config: Option<IgnoredAny>,
    }
    let shape: Shape<'_> = serde_json::from_slice(bytes).ok()?;
    let known = [
        media_type::OCI_IMAGE_MANIFEST,
        media_type::OCI_IMAGE_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_MANIFEST_LIST,
    ];
    match (shape.schema_version, shape.media_type.as_deref()) {
        (1, _) if shape.fs_layers.is_some() => Some(media_type::SCHEMA1_MANIFEST.into()),
        (2, Some(media_type)) if !media_type.is_empty() => known
            .iter()
            .find(|known| **known == media_type)
            .map(|known| Arc::from(*known)),
        (2, _) if shape.manifests.is_some() => Some(media_type::OCI_IMAGE_INDEX.into()),
        (2, _) if shape.layers.is_some() || shape.config.is_some() => {
            Some(media_type::OCI_IMAGE_MANIFEST.into())
        }
        _ => None,
    }
}
