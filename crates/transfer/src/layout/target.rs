//! An image layout, as where images go.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use wharfinger_oci::manifest::{ContentDescriptor, Manifest, Referenced};
use wharfinger_oci::{Digest, RepositoryName};

use super::{
    ArchiveSink, FolderSink, IMAGE_NAME, Index, REF_NAME, REPOSITORY, REVISION, blob_path,
};
use crate::endpoint::{Blob, Place, Target};
use crate::error::Problem;
use crate::{Error, Result};

/// What a layout is written into.
#[derive(Debug)]
pub(crate) enum Sink {
    /// A folder, which may have been exported to before.
    Folder(FolderSink),
    /// A tar archive, from its start.
    Archive(tokio::sync::Mutex<ArchiveSink>),
}

/// A layout that is being written. Its index comes last.
#[derive(Debug)]
pub(crate) struct LayoutTarget {
    sink: Sink,
    /// The registry's host, where images have full names.
    host: Option<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    index: Vec<ContentDescriptor>,
    needed: HashSet<Digest>,
}

impl LayoutTarget {
    pub(crate) fn new(sink: Sink, host: Option<String>) -> Self {
        Self {
            sink,
            host,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the index: from now on the layout is that of this export. With `prune`, removes the
    /// blobs that it does not need, and gives how many.
    pub(crate) async fn finish(self, prune: bool) -> Result<u64> {
        let State { index, needed } = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let index = serde_json::to_vec(&Index::new(index));
        let index = index.map_err(|error| Error::source(super::INDEX, error))?;
        match self.sink {
            Sink::Folder(folder) => folder.finish(index, prune.then_some(needed)).await,
            Sink::Archive(archive) => archive.into_inner().finish(index).await.map(|()| 0),
        }
    }

    fn describe(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        digest: &Digest,
        content: &Digest,
        tag: Option<&wharfinger_oci::Tag>,
    ) -> ContentDescriptor {
        let mut annotations = BTreeMap::from([(REPOSITORY.to_owned(), name.to_string())]);
        if let Some(tag) = tag {
            annotations.insert(REF_NAME.to_owned(), format!("{name}:{tag}"));
            if let Some(host) = &self.host {
                annotations.insert(IMAGE_NAME.to_owned(), format!("{host}/{name}:{tag}"));
            }
        }
        if content != digest {
            annotations.insert(REVISION.to_owned(), digest.to_string());
        }
        let artifact_type = manifest.subject().and(manifest.artifact_type());
        ContentDescriptor {
            media_type: manifest.media_type().to_owned(),
            digest: *content,
            size: manifest.bytes().len() as u64,
            urls: Vec::new(),
            annotations: Some(annotations),
            artifact_type: artifact_type.map(str::to_owned),
        }
    }
}

impl Target for LayoutTarget {
    async fn has(
        &self,
        _name: &RepositoryName,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<bool, Problem> {
        let has = match (&self.sink, size) {
            // What the registry does not have an old export may have; but it may be another's.
            (_, None) => false,
            (Sink::Folder(folder), Some(size)) => folder.has(digest, size).await?,
            (Sink::Archive(archive), Some(_)) => archive.lock().await.has(digest),
        };
        if has {
            self.state().needed.insert(*digest);
        }
        Ok(has)
    }

    async fn has_manifest(&self, _: &RepositoryName, _: &Digest) -> Result<bool, Problem> {
        Ok(false)
    }

    async fn blob(&self, _name: &RepositoryName, blob: Blob<'_>) -> Result<(), Problem> {
        let digest = blob.digest;
        match &self.sink {
            Sink::Folder(folder) => folder.blob(blob).await?,
            Sink::Archive(archive) => archive.lock().await.blob(blob).await?,
        }
        self.state().needed.insert(digest);
        Ok(())
    }

    async fn manifest(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        digest: &Digest,
        place: Place<'_>,
    ) -> Result<(), Problem> {
        let bytes = manifest.bytes();
        // The digest of a signed schema 1 manifest is that of what is signed.
        let content = Digest::of(digest.algorithm(), bytes);
        if !self.has(name, &content, Some(bytes.len() as u64)).await? {
            let blob = Blob {
                digest: content,
                size: bytes.len() as u64,
                place: blob_path(&content),
                pieces: Box::pin(stream::iter([Ok(Bytes::clone(bytes))])),
                told: &|_| (),
            };
            self.blob(name, blob).await?;
        }
        if let Place::Top(tag) = place {
            let descriptor = self.describe(name, manifest, digest, &content, tag);
            self.state().index.push(descriptor);
        }
        Ok(())
    }

    fn requires(&self, _name: &RepositoryName, _reference: &Referenced<'_>) -> bool {
        false
    }
}
