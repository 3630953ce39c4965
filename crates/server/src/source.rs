//! Where the content of a repository comes from: the registry's own, or another registry through
//! the cache. What reads asks here and knows no difference.
//!
//! What the cache does is in boxes, or every request would be moved about in as much memory as that
//! needs.

use std::net::IpAddr;
use std::ops::Range;

use http::Method;
use wharfinger_oci::manifest::ContentDescriptor;
use wharfinger_oci::{Descriptor, Digest, Reference, Tag};
use wharfinger_proxy::{Answer, CachedBlob, CachedRepository};
use wharfinger_registry::{Blobs, Content, Error as RegistryError, Page, Repository, Served};

use crate::error::{ApiError, Code, Result};

/// A repository to read from.
#[derive(Debug)]
pub(crate) enum Source {
    Own(Repository),
    Cached(CachedRepository),
}

/// A blob to read.
#[derive(Debug)]
pub(crate) enum Blob {
    Own {
        blobs: Blobs,
        descriptor: Descriptor,
    },
    Cached(CachedBlob),
    /// What was only asked about.
    Described(Descriptor),
}

impl Source {
    pub(crate) async fn manifest(
        &self,
        reference: &Reference,
        method: &Method,
    ) -> Result<Answer<Served>> {
        let repository = match self {
            Self::Cached(repository) => {
                let served = Box::pin(repository.manifest(reference)).await;
                return served.map_err(|error| ApiError::of_cache(error, repository));
            }
            Self::Own(repository) => repository,
        };
        let manifests = repository.manifests();
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(tag) => repository.tags().get(tag).await?,
        };
        if let (&Method::HEAD, Reference::Digest(digest)) = (method, reference) {
            manifests.promise(digest).await?;
        }
        let served = manifests.get(&digest).await.map_err(|error| match error {
            // What was asked for is the tag; the digest behind it says nothing to the client.
            RegistryError::ManifestUnknown(_) => {
                RegistryError::ManifestUnknown(reference.to_string())
            }
            error => error,
        })?;
        Ok(Answer::fresh(served))
    }

    pub(crate) async fn blob(&self, digest: &Digest, method: &Method) -> Result<Blob> {
        match self {
            Self::Own(repository) => {
                let blobs = repository.blobs();
                let descriptor = match *method {
                    Method::HEAD => blobs.promise(digest).await?,
                    _ => blobs.stat(digest).await?,
                };
                Ok(Blob::Own { blobs, descriptor })
            }
            Self::Cached(repository) => {
                let blob = match *method {
                    Method::HEAD => Box::pin(repository.stat(digest)).await.map(Blob::Described),
                    _ => Box::pin(repository.blob(digest)).await.map(Blob::Cached),
                };
                blob.map_err(|error| ApiError::of_cache(error, repository))
            }
        }
    }

    pub(crate) async fn tags(
        &self,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Answer<Page<Tag>>> {
        match self {
            Self::Own(repository) => Ok(Answer::fresh(repository.tags().list(after, limit).await?)),
            Self::Cached(repository) => {
                let tags = repository.tags(after, limit).await;
                tags.map_err(|error| ApiError::of_cache(error, repository))
            }
        }
    }

    pub(crate) async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Answer<Vec<ContentDescriptor>>> {
        match self {
            Self::Own(repository) => {
                let referrers = repository.referrers();
                Ok(Answer::fresh(referrers.list(subject, artifact_type).await?))
            }
            Self::Cached(repository) => {
                let referrers = repository.referrers(subject, artifact_type).await;
                referrers.map_err(|error| ApiError::of_cache(error, repository))
            }
        }
    }
}

impl Blob {
    pub(crate) fn descriptor(&self) -> &Descriptor {
        match self {
            Self::Own { descriptor, .. } | Self::Described(descriptor) => descriptor,
            Self::Cached(blob) => blob.descriptor(),
        }
    }

    /// Where the store itself serves it, when it can.
    pub(crate) async fn redirect(
        &self,
        method: &Method,
        client: Option<IpAddr>,
    ) -> Result<Option<String>> {
        Ok(match self {
            Self::Own { blobs, descriptor } => {
                blobs.redirect(descriptor, method.as_str(), client).await?
            }
            Self::Cached(blob) => Box::pin(blob.redirect(method.as_str(), client)).await?,
            Self::Described(_) => None,
        })
    }

    /// A part of its bytes.
    pub(crate) async fn open(&self, part: Range<u64>) -> Result<Content> {
        match self {
            Self::Own { blobs, descriptor } => Ok(blobs.open(descriptor, part).await?),
            Self::Cached(blob) => Ok(Box::pin(blob.open(part)).await?),
            // Only its size was asked for.
            Self::Described(_) => Err(ApiError::new(Code::UNKNOWN)),
        }
    }
}
