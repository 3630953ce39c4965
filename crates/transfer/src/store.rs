//! A registry, as where images come from and as where they go.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt;
use wharfinger_oci::manifest::{Manifest, Referenced};
use wharfinger_oci::{Descriptor, Digest, RepositoryName, Tag};
use wharfinger_registry::{Error as RegistryError, Registry, layout};

use crate::endpoint::{Blob, Mirror, Place, Source, Target};
use crate::error::Problem;
use crate::pieces::{self, Pieces};
use crate::{Fault, Result};

/// How many repositories are listed at once.
const PAGE: usize = 1000;

/// A registry to read from.
#[derive(Debug)]
pub(crate) struct StoreSource<'a>(pub(crate) &'a Registry);

impl Source for StoreSource<'_> {
    async fn repositories(&self) -> Result<Vec<RepositoryName>> {
        let mut all: Vec<RepositoryName> = Vec::new();
        loop {
            let last = all.last().map(RepositoryName::to_string);
            let page = self.0.catalog(last.as_deref(), PAGE).await?;
            all.extend(page.items);
            if !page.more {
                return Ok(all);
            }
        }
    }

    async fn tags(&self, name: &RepositoryName) -> Result<Vec<Tag>, Fault> {
        match self.0.repository(name).tags().list(None, None).await {
            Ok(page) => Ok(page.items),
            Err(RegistryError::NameUnknown(_)) => Ok(Vec::new()),
            Err(error) => Err(unreadable(layout::tags(name), &error)),
        }
    }

    async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, Fault> {
        match self.0.repository(name).tags().get(tag).await {
            Ok(digest) => Ok(Some(digest)),
            Err(RegistryError::ManifestUnknown(_)) => Ok(None),
            Err(error) => Err(unreadable(layout::tag(name, tag), &error)),
        }
    }

    async fn revisions(&self, name: &RepositoryName) -> Result<Vec<Digest>, Fault> {
        let listed = self.0.repository(name).manifests().digests().await;
        listed.map_err(|error| unreadable(layout::manifests(name), &error))
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Digest>, Fault> {
        let listed = self
            .0
            .repository(name)
            .referrers()
            .list(subject, None)
            .await;
        let listed = listed.map_err(|error| unreadable(self.place(subject), &error))?;
        Ok(listed.into_iter().map(|one| one.digest).collect())
    }

    async fn manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        _media_type: Option<&str>,
    ) -> Result<Option<Manifest>, Fault> {
        let served = match self.0.repository(name).manifests().get(digest).await {
            Err(RegistryError::ManifestUnknown(_)) => return Ok(None),
            Err(error) => return Err(unreadable(self.place(digest), &error)),
            Ok(served) => served,
        };
        let manifest = Manifest::parse(Some(&served.descriptor.media_type), served.bytes);
        let manifest = manifest.map_err(|error| Fault::Invalid {
            digest: *digest,
            reason: error.to_string(),
        })?;
        // A manifest is checked by its canonical digest when it is read; the link could be wrong.
        let actual = Digest::of(digest.algorithm(), manifest.payload());
        match actual == *digest {
            true => Ok(Some(manifest)),
            false => Err(Fault::Digest {
                place: layout::revision_link(name, digest).to_string(),
                expected: *digest,
                actual,
            }),
        }
    }

    async fn size(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<u64>, Fault> {
        match self.0.repository(name).blobs().stat(digest).await {
            Ok(descriptor) => Ok(Some(descriptor.size)),
            Err(RegistryError::BlobUnknown(_)) => Ok(None),
            Err(error) => Err(unreadable(self.place(digest), &error)),
        }
    }

    async fn open(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<Pieces>, Fault> {
        let blobs = self.0.repository(name).blobs();
        let opened = match blobs.stat(digest).await {
            Ok(descriptor) => blobs.open(&descriptor, 0..size).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(content) => Ok(Some(pieces::of_content(content, self.place(digest)))),
            Err(RegistryError::BlobUnknown(_)) => Ok(None),
            Err(error) => Err(unreadable(self.place(digest), &error)),
        }
    }

    fn place(&self, digest: &Digest) -> String {
        match digest.is_canonical() {
            true => layout::blob_data(digest).to_string(),
            // Only the link knows where it is.
            false => digest.to_string(),
        }
    }

    fn requires(&self, name: &RepositoryName, reference: &Referenced<'_>) -> bool {
        self.0.requires(name, reference)
    }
}

fn unreadable(place: impl ToString, error: &RegistryError) -> Fault {
    Fault::Unreadable {
        place: place.to_string(),
        reason: error.to_string(),
    }
}

/// A registry to write to, as clients push to it.
#[derive(Debug)]
pub(crate) struct StoreTarget<'a> {
    registry: &'a Registry,
    /// A repository that has a blob, as far as it was copied here.
    known: Mutex<HashMap<Digest, RepositoryName>>,
}

impl<'a> StoreTarget<'a> {
    pub(crate) fn new(registry: &'a Registry) -> Self {
        Self {
            registry,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, RepositoryName>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for StoreTarget<'_> {
    async fn has(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<bool, Problem> {
        let blobs = self.registry.repository(name).blobs();
        // This writes nothing, and a collection spares what was asked for.
        let mut found = found_or_not(blobs.promise(digest).await.map(Some))?;
        let known = self.known().get(digest).cloned();
        if found.is_none()
            && let Some(from) = known
        {
            found = found_or_not(blobs.mount(&from, digest).await)?;
        }
        if found.is_none() {
            found = found_or_not(blobs.mount_anywhere(digest, |_| true).await)?;
        }
        // What has another length is damaged, and mended by the right bytes.
        let has = found.is_some_and(|found| size.is_none_or(|size| size == found.size));
        if has {
            self.known().insert(*digest, name.clone());
        }
        Ok(has)
    }

    async fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Problem> {
        let manifests = self.registry.repository(name).manifests();
        manifests.contains(digest).await.map_err(problem)
    }

    async fn blob(&self, name: &RepositoryName, blob: Blob<'_>) -> Result<(), Problem> {
        let blobs = self.registry.repository(name).blobs();
        let mut upload = blobs.create(blob.digest.algorithm()).map_err(problem)?;
        let told = blob.told;
        let pieces = blob.pieces.inspect(|piece| {
            if let Ok(bytes) = piece {
                told(bytes.len() as u64);
            }
        });
        if let Err(error) = upload.append(pieces).await {
            let _ = upload.cancel().await;
            return Err(problem(error));
        }
        match upload.commit(&blob.digest).await {
            Ok(_) => {
                self.known().insert(blob.digest, name.clone());
                Ok(())
            }
            Err(RegistryError::DigestMismatch { expected, actual }) => {
                Err(Problem::Fault(Fault::Digest {
                    place: blob.place,
                    expected,
                    actual,
                }))
            }
            Err(error) => Err(problem(error)),
        }
    }

    async fn manifest(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        digest: &Digest,
        place: Place<'_>,
    ) -> Result<(), Problem> {
        let tags: Vec<Tag> = match place {
            Place::Top(tag) => tag.cloned().into_iter().collect(),
            Place::Nested => Vec::new(),
        };
        let manifests = self.registry.repository(name).manifests();
        let put = manifests.put(manifest, digest, &tags).await;
        put.map(|_| ()).map_err(problem)
    }

    fn requires(&self, name: &RepositoryName, reference: &Referenced<'_>) -> bool {
        self.registry.requires(name, reference)
    }
}

impl Mirror for StoreTarget<'_> {
    async fn holds(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Problem> {
        let blobs = self.registry.repository(name).blobs();
        let found = found_or_not(blobs.stat(digest).await.map(Some))?;
        Ok(found.is_some())
    }

    async fn tags(&self, name: &RepositoryName) -> Result<Vec<Tag>, Problem> {
        match self.registry.repository(name).tags().list(None, None).await {
            Ok(page) => Ok(page.items),
            Err(RegistryError::NameUnknown(_)) => Ok(Vec::new()),
            Err(error) => Err(problem(error)),
        }
    }

    async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, Problem> {
        match self.registry.repository(name).tags().get(tag).await {
            Ok(digest) => Ok(Some(digest)),
            Err(RegistryError::ManifestUnknown(_)) => Ok(None),
            Err(error) => Err(problem(error)),
        }
    }

    async fn untag(&self, name: &RepositoryName, tag: &Tag) -> Result<(), Problem> {
        match self.registry.repository(name).tags().delete(tag).await {
            Ok(()) | Err(RegistryError::ManifestUnknown(_)) => Ok(()),
            Err(error) => Err(problem(error)),
        }
    }
}

/// What was found. What is damaged counts as missing: it is mended by what is written then.
fn found_or_not(
    found: Result<Option<Descriptor>, RegistryError>,
) -> Result<Option<Descriptor>, Problem> {
    match found {
        Err(RegistryError::BlobUnknown(_) | RegistryError::Damaged { .. }) => Ok(None),
        found => found.map_err(problem),
    }
}

/// What a registry's error means for an image that is written to it.
fn problem(error: RegistryError) -> Problem {
    match error {
        RegistryError::Body(cause) => match cause.downcast::<Fault>() {
            Ok(fault) => Problem::Fault(*fault),
            Err(cause) => Problem::Fatal(RegistryError::Body(cause).into()),
        },
        RegistryError::ManifestRefused(_)
        | RegistryError::ManifestInvalid(_)
        | RegistryError::Damaged { .. } => Problem::Fault(Fault::Refused(error.to_string())),
        // All of it was there a moment ago.
        RegistryError::Collecting | RegistryError::ManifestReferencesUnknown(_) => {
            Problem::Passing(Fault::Refused(error.to_string()))
        }
        error => Problem::Fatal(error.into()),
    }
}
