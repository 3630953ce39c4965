//! Manifests: by digest for ever, by tag as long as it is not too old.

use std::time::Instant;

use tokio::time::timeout;
use tracing::warn;
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Descriptor, Digest, Reference, Tag, media_type};
use wharfinger_registry::{Error as RegistryError, Served};
use wharfinger_remote::Fetched;

use super::{Answer, CachedRepository};
use crate::Result;
use crate::download::Failure;
use crate::metrics::Kind;

impl CachedRepository {
    /// A manifest. What is asked for by its digest needs no upstream once it is kept. Of a tag it
    /// is asked again and again what it stands for; while nobody tells, what is kept is served.
    ///
    /// # Errors
    /// When neither has it.
    pub async fn manifest(&self, reference: &Reference) -> Result<Answer<Served>> {
        match reference {
            Reference::Digest(digest) => self.by_digest(digest).await,
            Reference::Tag(tag) => self.by_tag(tag).await,
        }
    }

    async fn by_digest(&self, digest: &Digest) -> Result<Answer<Served>> {
        match self.local().manifests().get(digest).await {
            Err(RegistryError::ManifestUnknown(_)) => {}
            // It can be fetched again, which mends it.
            Err(error @ RegistryError::Damaged { .. }) => {
                warn!(repository = %self.name, %digest, %error, "it is fetched again");
            }
            kept => return Ok(Answer::fresh(self.counted(kept?, true))),
        }
        let (this, reference) = (self.clone(), Reference::Digest(*digest));
        let key = (self.name.clone(), reference.to_string());
        let fetched = self
            .shared
            .manifests
            .join(key, || async move { this.fetch(&reference, None).await });
        let served = fetched.await.unwrap_or_else(|| Err(interrupted()))?;
        Ok(Answer::fresh(self.counted(served, false)))
    }

    async fn by_tag(&self, tag: &Tag) -> Result<Answer<Served>> {
        let kept = self.kept(tag).await?;
        if let Some(kept) = &kept {
            let confirmed = self.shared.confirmed.get(&(self.name.clone(), tag.clone()));
            if confirmed.is_some_and(|at| at.elapsed() < self.shared.options.tag_ttl) {
                return Ok(Answer::fresh(self.counted(kept.clone(), true)));
            }
            if self.shared.upstream.is_resting() {
                return Ok(self.shared.stale(self.counted(kept.clone(), true)));
            }
        }
        let key = (self.name.clone(), tag.to_string());
        let (this, asked) = (self.clone(), tag.clone());
        let before = kept.as_ref().map(|kept| kept.descriptor.digest);
        let current = self
            .shared
            .manifests
            .join(key, || async move { this.revalidate(&asked, before).await });
        let Some(kept) = kept else {
            let served = current.await.unwrap_or_else(|| Err(interrupted()))?;
            return Ok(Answer::fresh(self.counted(served, false)));
        };
        match timeout(self.shared.options.patience, current).await {
            Ok(Some(Ok(served))) => {
                let same = served.descriptor.digest == kept.descriptor.digest;
                Ok(Answer::fresh(self.counted(served, same)))
            }
            outcome => {
                if let Ok(Some(Err(error))) = outcome {
                    warn!(repository = %self.name, %tag, %error, "a tag cannot be confirmed");
                }
                Ok(self.shared.stale(self.counted(kept, true)))
            }
        }
    }

    /// What is kept of a tag.
    async fn kept(&self, tag: &Tag) -> Result<Option<Served>> {
        let local = self.local();
        let kept = async {
            let digest = local.tags().get(tag).await?;
            local.manifests().get(&digest).await
        };
        match kept.await {
            Ok(kept) => Ok(Some(kept)),
            Err(RegistryError::ManifestUnknown(_)) => Ok(None),
            // It can be fetched again.
            Err(error @ RegistryError::Damaged { .. }) => {
                warn!(repository = %self.name, %tag, %error, "it is fetched again");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What a tag stands for at the upstream, where `kept` is what it stands for here.
    async fn revalidate(&self, tag: &Tag, kept: Option<Digest>) -> Result<Served, Failure> {
        let upstream = &self.shared.upstream;
        let manifests = self.local().manifests();
        // Of a tag that is not kept, nothing can be confirmed.
        let current = match kept {
            Some(_) => upstream.digest_of(&self.there, tag, kept.as_ref()).await?,
            None => None,
        };
        let known = match &current {
            Some(digest) => manifests.get(digest).await.ok(),
            None => None,
        };
        let served = match known {
            Some(served) if current == kept => served,
            Some(served) => {
                let fetched = Fetched {
                    media_type: Some(served.descriptor.media_type.to_string()),
                    digest: served.descriptor.digest,
                    bytes: served.bytes,
                };
                self.store(fetched, Some(tag)).await?
            }
            None => {
                let reference = Reference::Tag(tag.clone());
                self.fetch(&reference, Some(tag)).await?
            }
        };
        if !self.shared.options.tag_ttl.is_zero() {
            let key = (self.name.clone(), tag.clone());
            self.shared.confirmed.insert(key, Instant::now());
        }
        Ok(served)
    }

    async fn fetch(&self, reference: &Reference, tag: Option<&Tag>) -> Result<Served, Failure> {
        let fetched = self
            .shared
            .upstream
            .manifest(&self.there, reference)
            .await?;
        let size = fetched.bytes.len() as u64;
        self.shared.metrics.pulled(Kind::Manifest, size);
        self.store(fetched, tag).await
    }

    /// Keeps a manifest, and lets `tag` stand for it. One that cannot be kept is served all the same.
    ///
    /// # Errors
    /// When what a tag is said to stand for is no manifest: no digest tells that it is what it
    /// should be.
    async fn store(&self, fetched: Fetched, tag: Option<&Tag>) -> Result<Served, Failure> {
        let Fetched {
            media_type,
            digest,
            bytes,
        } = fetched;
        let size = bytes.len() as u64;
        let parsed = Manifest::parse(media_type.as_deref(), bytes.clone());
        if let (Some(tag), Err(error)) = (tag, &parsed) {
            let reason = format!("tag {tag} of {}: {error}", self.name);
            return Err(self.shared.upstream.wrong(reason).into());
        }
        let stored = async {
            let tags = tag.map(std::slice::from_ref).unwrap_or_default();
            self.local().manifests().put(&parsed?, &digest, tags).await
        };
        let descriptor = match stored.await {
            Ok(descriptor) => {
                self.keeps(size);
                descriptor
            }
            Err(error) => {
                self.not_kept(&digest, &error);
                let media_type = media_type.unwrap_or_else(|| media_type::OCTET_STREAM.into());
                Descriptor {
                    media_type: media_type.into(),
                    digest,
                    size,
                }
            }
        };
        Ok(Served { descriptor, bytes })
    }

    fn counted(&self, served: Served, hit: bool) -> Served {
        self.is_used(&served.descriptor.digest);
        let (shared, size) = (&self.shared, served.bytes.len() as u64);
        let upstream = &shared.upstream;
        shared.metrics.served(upstream, Kind::Manifest, size, hit);
        served
    }
}

fn interrupted() -> Failure {
    std::io::Error::other("asking the upstream was interrupted").into()
}
