//! Images in files: a layout in a folder or an archive, or what `docker save` wrote.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;
use wharfinger_oci::manifest::{MAX_SIZE, Manifest, Referenced};
use wharfinger_oci::{Digest, RepositoryName, Tag, media_type};

use crate::endpoint::Source;
use crate::pieces::Pieces;
use crate::{Error, Fault, Result};

mod archive;
mod contents;
mod docker;
mod layout;
mod open;

use contents::Contents;
pub(crate) use open::{Opened, open};

/// Images that lie in files.
#[derive(Debug)]
pub(crate) struct ImageSource {
    names: Names,
    contents: Arc<Contents>,
    subjects: Mutex<HashMap<RepositoryName, Arc<Subjects>>>,
}

/// The manifests that name one as their subject.
type Subjects = HashMap<Digest, Vec<Digest>>;

/// Which images there are.
#[derive(Debug, Default)]
struct Names {
    repositories: BTreeMap<RepositoryName, Images>,
    /// The media types that were told of manifests.
    media_types: HashMap<Digest, String>,
    /// The digests of the bytes of signed schema 1 manifests.
    signed: HashMap<Digest, Digest>,
}

/// The images of a repository.
#[derive(Debug, Default)]
struct Images {
    tags: BTreeMap<Tag, Digest>,
    untagged: Vec<Digest>,
}

impl Names {
    /// Notes an image; `place` is what names it.
    ///
    /// # Errors
    /// When the tag stands for another one already.
    fn add(
        &mut self,
        place: &str,
        name: RepositoryName,
        tag: Option<Tag>,
        digest: Digest,
    ) -> Result<()> {
        let images = self.repositories.entry(name.clone()).or_default();
        let Some(tag) = tag else {
            images.untagged.push(digest);
            return Ok(());
        };
        match images.tags.insert(tag.clone(), digest) {
            Some(other) if other != digest => {
                let reason = format!("{name}:{tag} stands for {other} and for {digest}");
                Err(Error::source(place, reason))
            }
            _ => Ok(()),
        }
    }
}

impl ImageSource {
    fn new(names: Names, contents: Contents) -> Self {
        Self {
            names,
            contents: Arc::new(contents),
            subjects: Mutex::default(),
        }
    }

    fn images(&self, name: &RepositoryName) -> Option<&Images> {
        self.names.repositories.get(name)
    }

    /// What the untagged manifests of a repository have as their subjects.
    async fn subjects(&self, name: &RepositoryName) -> Result<Arc<Subjects>, Fault> {
        let known = || self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subjects) = known().get(name) {
            return Ok(Arc::clone(subjects));
        }
        let mut subjects = Subjects::new();
        for digest in self.images(name).map_or(&[][..], |images| &images.untagged) {
            if let Some(manifest) = self.manifest(name, digest, None).await?
                && let Some(subject) = manifest.subject()
            {
                subjects.entry(subject.digest).or_default().push(*digest);
            }
        }
        let subjects = Arc::new(subjects);
        known().insert(name.clone(), Arc::clone(&subjects));
        Ok(subjects)
    }

    /// Looks for content where that may block.
    async fn look<T: Send + 'static>(
        &self,
        digest: &Digest,
        look: impl FnOnce(&Contents, &Digest) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let contents = Arc::clone(&self.contents);
        let wanted = *digest;
        match spawn_blocking(move || look(&contents, &wanted)).await {
            Ok(found) => found,
            Err(error) => Err(Fault::Unreadable {
                place: self.place(digest),
                reason: error.to_string(),
            }),
        }
    }
}

impl Source for ImageSource {
    async fn repositories(&self) -> Result<Vec<RepositoryName>> {
        Ok(self.names.repositories.keys().cloned().collect())
    }

    async fn tags(&self, name: &RepositoryName) -> Result<Vec<Tag>, Fault> {
        let tags = self.images(name).map(|images| images.tags.keys());
        Ok(tags.into_iter().flatten().cloned().collect())
    }

    async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, Fault> {
        Ok(self
            .images(name)
            .and_then(|images| images.tags.get(tag).copied()))
    }

    async fn revisions(&self, name: &RepositoryName) -> Result<Vec<Digest>, Fault> {
        let untagged = self.images(name).map(|images| images.untagged.clone());
        Ok(untagged.unwrap_or_default())
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Digest>, Fault> {
        let subjects = self.subjects(name).await?;
        Ok(subjects.get(subject).cloned().unwrap_or_default())
    }

    async fn manifest(
        &self,
        _name: &RepositoryName,
        digest: &Digest,
        told: Option<&str>,
    ) -> Result<Option<Manifest>, Fault> {
        let content = self.names.signed.get(digest).unwrap_or(digest);
        let read = self.look(content, |contents, content| {
            contents.read(content, MAX_SIZE as u64)
        });
        let Some(bytes) = read.await? else {
            return Ok(None);
        };
        let invalid = |reason: String| Fault::Invalid {
            digest: *digest,
            reason,
        };
        let told = told.or_else(|| self.names.media_types.get(digest).map(String::as_str));
        let manifest = Manifest::parse(told, bytes).map_err(|error| invalid(error.to_string()))?;
        // Only what is signed has another digest than its bytes, and that was said.
        let actual = Digest::of(digest.algorithm(), manifest.payload());
        match actual == *digest {
            true => Ok(Some(manifest)),
            false if manifest.media_type() == media_type::SCHEMA1_SIGNED_MANIFEST => {
                Err(invalid(format!("what is signed has the digest {actual}")))
            }
            false => Err(Fault::Digest {
                place: self.place(digest),
                expected: *digest,
                actual,
            }),
        }
    }

    async fn size(&self, _name: &RepositoryName, digest: &Digest) -> Result<Option<u64>, Fault> {
        self.look(digest, |contents, digest| contents.size(digest))
            .await
    }

    async fn open(
        &self,
        _name: &RepositoryName,
        digest: &Digest,
        _size: u64,
    ) -> Result<Option<Pieces>, Fault> {
        let found = self
            .look(digest, |contents, digest| contents.find(digest))
            .await?;
        Ok(found.map(|held| held.pieces(self.place(digest))))
    }

    fn place(&self, digest: &Digest) -> String {
        self.contents.place(digest)
    }

    fn requires(&self, _name: &RepositoryName, _reference: &Referenced<'_>) -> bool {
        false
    }
}
