//! Blobs: the global, content-addressed store, and a repository's access to it.

use std::fs::File;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;
use wharfinger_oci::{Algorithm, Descriptor, Digest, RepositoryName, media_type};
use wharfinger_storage::{Driver, Error as StorageError, Reader, RedirectRequest};

use crate::content_cache::{ContentCache, SmallContent};
use crate::descriptor_cache::CachedDescriptor;
use crate::gc::{Item, Reliance};
use crate::link::{LinkSet, LinkedBlobs, ignore_absent};
use crate::publication::Publication;
use crate::verify::suspect;
use crate::{Error, Progress, Registry, Result, Told, Upload, UploadId, layout};

/// How many repositories an anonymous mount looks into before it gives up.
const ANONYMOUS_MOUNT_LIMIT: usize = 256;

/// The global store: blobs by canonical digest. Access is checked above it, through links.
#[derive(Debug)]
pub(crate) struct BlobStore {
    driver: Arc<dyn Driver>,
    content: ContentCache,
}

impl BlobStore {
    pub(crate) fn new(driver: Arc<dyn Driver>, content: ContentCache) -> Self {
        Self { driver, content }
    }

    pub(crate) fn content(&self) -> &ContentCache {
        &self.content
    }

    /// The blob's size in bytes, or `None` when it is not there.
    pub(crate) async fn stat(&self, canonical: &Digest) -> Result<Option<u64>> {
        let path = layout::blob_data(canonical);
        match self.driver.file_size(&path).await {
            Ok(size) => Ok(Some(size)),
            Err(StorageError::WrongKind { .. }) => {
                let reason = "a folder lies where a blob's bytes belong".to_owned();
                Err(Error::Damaged { path, reason })
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A small blob whole. Its bytes have been checked against the digest.
    pub(crate) async fn get(&self, canonical: &Digest) -> Result<SmallContent> {
        if let Some(content) = self.content.get(canonical) {
            return Ok(content);
        }
        let path = layout::blob_data(canonical);
        let bytes = match self.driver.get(&path).await {
            Err(error) if error.is_not_found() => return Err(Error::BlobUnknown(*canonical)),
            bytes => bytes?,
        };
        if Digest::of(canonical.algorithm(), &bytes) != *canonical {
            let reason = format!("its {} bytes have another digest", bytes.len());
            return Err(Error::Damaged { path, reason });
        }
        let content = SmallContent {
            bytes,
            media_type: None,
        };
        self.content.set(*canonical, content.clone());
        Ok(content)
    }

    /// Remembers a manifest's media type along with its bytes.
    pub(crate) fn remember(&self, canonical: Digest, content: SmallContent) {
        self.content.set(canonical, content);
    }

    /// Removes a blob. A crash may bring it back. Who removes it knows that nothing needs it.
    pub(crate) async fn remove(&self, canonical: &Digest) -> Result<()> {
        let data = layout::blob_data(canonical);
        let folder = data.parent().expect("a blob lies in a folder");
        ignore_absent(self.driver.discard(&folder).await)?;
        self.content.remove(canonical);
        Ok(())
    }

    /// Whether small content is there, whole. It is read, so that pushing it mends a file whose
    /// bytes were damaged: the size alone would not tell.
    pub(crate) async fn has(&self, canonical: &Digest, size: u64) -> Result<bool> {
        if self.stat(canonical).await? != Some(size) {
            return Ok(false);
        }
        match self.get(canonical).await {
            Ok(_) => Ok(true),
            Err(Error::BlobUnknown(_)) => Ok(false),
            Err(error @ Error::Damaged { .. }) => {
                warn!(%error, "pushing it again mends it");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether content of any size is there, as far as its size tells; small content is read.
    pub(crate) async fn has_file(&self, blob: CachedDescriptor) -> Result<bool> {
        if blob.size <= ContentCache::MAX_ITEM {
            return self.has(&blob.canonical, blob.size).await;
        }
        Ok(self.stat(&blob.canonical).await? == Some(blob.size))
    }

    /// A part of a blob whose size is known.
    async fn open(&self, blob: CachedDescriptor, range: Range<u64>) -> Result<Content> {
        if blob.size <= ContentCache::MAX_ITEM {
            let bytes = self.get(&blob.canonical).await?.bytes;
            let in_bytes = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
            let range = in_bytes(range.start)..in_bytes(range.end).min(bytes.len());
            return Ok(Content::Bytes(bytes.slice(range)));
        }
        let path = layout::blob_data(&blob.canonical);
        let opened = match self.driver.open(&path).await {
            Err(error) if error.is_not_found() => return Err(Error::BlobUnknown(blob.canonical)),
            opened => opened?,
        };
        let Some(file) = opened else {
            let length = range.end - range.start;
            let reader = match self.driver.range_reader(&path, range).await {
                Err(error) if error.is_not_found() => {
                    return Err(Error::BlobUnknown(blob.canonical));
                }
                reader => reader?,
            };
            return Ok(Content::Stream { reader, length });
        };
        let actual = file.metadata().map_or(blob.size, |metadata| metadata.len());
        if actual != blob.size {
            let reason = format!("it has {actual} bytes, not {}", blob.size);
            return Err(Error::Damaged { path, reason });
        }
        Ok(Content::File { file, range })
    }
}

/// A part of a blob's bytes, in the form that can be sent on with the least work.
#[derive(derive_more::Debug)]
pub enum Content {
    /// Small: the bytes themselves, just those of the range.
    Bytes(Bytes),
    /// A local file, to be read at `range`.
    File {
        /// The open file, its position anywhere.
        file: File,
        /// The part to be sent, in bytes.
        range: Range<u64>,
    },
    /// A stream that begins at the range's start and may go on behind its end.
    Stream {
        /// The stream.
        #[debug(skip)]
        reader: Reader,
        /// How many of its bytes are meant.
        length: u64,
    },
}

/// The blobs that a repository has links to.
#[derive(Clone, Debug)]
pub struct Blobs {
    links: LinkedBlobs,
}

impl Blobs {
    pub(crate) fn new(links: LinkedBlobs) -> Self {
        Self { links }
    }

    /// The access check: whether the repository has the blob, and its size. The descriptor carries
    /// the digest that was asked for.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`]; [`Error::Damaged`] for a broken link.
    pub async fn stat(&self, digest: &Digest) -> Result<Descriptor> {
        let blob = self.blob(digest).await?;
        Ok(descriptor(digest, blob.size))
    }

    /// The same for a client that only asks whether the blob is there, and will not upload it then:
    /// a collection under way spares it.
    ///
    /// # Errors
    /// As [`Blobs::stat`]; a blob that is being removed is unknown.
    pub async fn promise(&self, digest: &Digest) -> Result<Descriptor> {
        let shared = &self.links.shared;
        let Some(mut reliance) = Reliance::during_run(shared).await? else {
            return self.stat(digest).await;
        };
        let blob = self.blob(digest).await?;
        let item = Item::Blob(blob.canonical);
        if reliance.is_lost(&item) {
            return Err(Error::BlobUnknown(*digest));
        }
        // Who is read-only takes no push that could depend on it.
        if !shared.gate.is_closed() && !Box::pin(reliance.rely_on([item.clone()])).await? {
            if reliance.is_lost(&item) {
                return Err(Error::BlobUnknown(*digest));
            }
            self.blob(digest).await?;
        }
        Ok(descriptor(digest, blob.size))
    }

    /// The digests of all that the repository has links to, those of the canonical algorithm first,
    /// each in order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn digests(&self) -> Result<Vec<Digest>> {
        self.links.digests().await
    }

    async fn blob(&self, digest: &Digest) -> Result<CachedDescriptor> {
        self.links
            .stat(digest)
            .await?
            .ok_or(Error::BlobUnknown(*digest))
    }

    /// The store's own handle for a descriptor that [`Blobs::stat`] gave.
    async fn opened(&self, descriptor: &Descriptor) -> Result<CachedDescriptor> {
        if descriptor.digest.is_canonical() {
            Ok(CachedDescriptor {
                canonical: descriptor.digest,
                size: descriptor.size,
            })
        } else {
            self.blob(&descriptor.digest).await
        }
    }

    /// A small blob whole, checked against its digest.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] when it went since; [`Error::Damaged`].
    pub async fn get(&self, descriptor: &Descriptor) -> Result<Bytes> {
        let blob = self.opened(descriptor).await?;
        Ok(self.links.shared.content(&blob.canonical).await?.bytes)
    }

    /// A part of a blob, in bytes. The range must lie within the descriptor's size.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] when it went since; [`Error::Damaged`] when its size is wrong.
    pub async fn open(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Content> {
        let blob = self.opened(descriptor).await?;
        let shared = &self.links.shared;
        let content = shared.blobs.open(blob, range).await;
        if let Err(Error::Damaged { .. }) = &content {
            suspect(shared, &blob.canonical);
        }
        content
    }

    /// Where the store itself serves the blob, when it can and redirects are enabled; `client` is
    /// who asks, where that is known.
    ///
    /// # Errors
    /// Any that signing meets.
    pub async fn redirect(
        &self,
        descriptor: &Descriptor,
        method: &str,
        client: Option<IpAddr>,
    ) -> Result<Option<String>> {
        let shared = &self.links.shared;
        if !shared.driver.may_redirect() || !shared.options.load().redirect {
            return Ok(None);
        }
        let blob = self.opened(descriptor).await?;
        let path = layout::blob_data(&blob.canonical);
        let content_type = media_type::OCTET_STREAM;
        let request = RedirectRequest {
            path: &path,
            method,
            content_type,
            client,
        };
        Ok(shared.driver.redirect_url(request).await?)
    }

    /// Stores a small blob whole and links it.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], or that the store failed.
    pub async fn put(&self, bytes: Bytes) -> Result<Descriptor> {
        let shared = &self.links.shared;
        let _writing = shared.writing()?;
        let canonical = Digest::canonical(&bytes);
        let mut reliance = Reliance::begin(shared).await?;
        reliance.keep(&[Item::Blob(canonical)]).await?;
        let _pushing = shared.repositories.shared(&self.links.name).await;
        let mut publication = Publication::begin(shared, &[canonical]).await;
        let blob = publication.blob(canonical, bytes).await?;
        publication
            .links(vec![(self.links.clone(), canonical)], blob)
            .await?;
        publication.write().await?;
        reliance.confirm().await?;
        Ok(descriptor(&canonical, blob.size))
    }

    /// Begins an upload that will be claimed to have a digest of `algorithm`; another algorithm at
    /// the end is accepted and costs rereading. Nothing is written before it pauses or gets long.
    ///
    /// # Errors
    /// [`Error::ReadOnly`].
    pub fn create(&self, algorithm: Algorithm) -> Result<Upload> {
        let writing = self.links.shared.writing()?;
        Ok(Upload::create(self.links.clone(), algorithm, writing))
    }

    /// Takes up an upload that was paused, on this node or another, or that a crash ended, and that
    /// was begun with `algorithm`. With another one it goes on too, but a claim by it costs
    /// rereading.
    ///
    /// What was [`told`](Progress::told) of it is what makes it survive the machine: the store has the
    /// bytes, but may not know of an upload of which there are none yet, and forget when one was begun.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`]; [`Error::UploadInvalid`] while another request works on it.
    pub async fn resume(
        &self,
        id: &UploadId,
        told: Option<Told>,
        algorithm: Algorithm,
    ) -> Result<Upload> {
        let writing = self.links.shared.writing()?;
        Upload::resume(self.links.clone(), id, told, algorithm, writing).await
    }

    /// How far an upload has got: what is durable of it. It waits a little for a request that works
    /// on it, but unlike [`resume`](Blobs::resume) it answers even when that goes on, and in
    /// read-only mode. `told` is as for [`resume`](Blobs::resume).
    ///
    /// # Errors
    /// [`Error::UploadUnknown`].
    pub async fn progress(&self, id: &UploadId, told: Option<Told>) -> Result<Progress> {
        Progress::of(&self.links, id, told).await
    }

    /// Links a blob of another repository, or answers `None` when that one does not have it.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], or that the store failed.
    pub async fn mount(
        &self,
        from: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Descriptor>> {
        let _writing = self.links.shared.writing()?;
        self.mount_one(from, digest).await
    }

    async fn mount_one(
        &self,
        from: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Descriptor>> {
        let shared = &self.links.shared;
        let source = self.in_repository(from);
        let mut reliance = Reliance::begin(shared).await?;
        let (blob, _pushing) = loop {
            let pushing = shared.repositories.shared(&self.links.name).await;
            let Some(blob) = source.stat(digest).await? else {
                return Ok(None);
            };
            if reliance.rely_on([Item::Blob(blob.canonical)]).await? {
                break (blob, pushing);
            }
            drop(pushing);
            reliance.wait().await?;
        };
        self.links.link(&blob.canonical, blob).await?;
        if *digest != blob.canonical {
            self.links.link(digest, blob).await?;
        }
        reliance.confirm().await?;
        Ok(Some(descriptor(digest, blob.size)))
    }

    /// Links a blob that any repository has for which `readable` holds, or answers `None` when
    /// none of those looked into has it: this one, and the first few in catalog order.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], or that the store failed.
    pub async fn mount_anywhere(
        &self,
        digest: &Digest,
        readable: impl Fn(&RepositoryName) -> bool,
    ) -> Result<Option<Descriptor>> {
        let _writing = self.links.shared.writing()?;
        // Without the bytes there is no repository to look for.
        if digest.is_canonical() && self.links.shared.blobs.stat(digest).await?.is_none() {
            return Ok(None);
        }
        let here = self.links.name.clone();
        if let Some(descriptor) = self.mount_one(&here, digest).await? {
            return Ok(Some(descriptor));
        }
        let registry = Registry {
            shared: Arc::clone(&self.links.shared),
        };
        for name in registry.catalog(None, ANONYMOUS_MOUNT_LIMIT).await?.items {
            if readable(&name)
                && let Some(descriptor) = self.mount_one(&name, digest).await?
            {
                return Ok(Some(descriptor));
            }
        }
        Ok(None)
    }

    /// Takes the repository's access to the blob away. The bytes stay until they are collected.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where deletion is off; [`Error::BlobUnknown`].
    pub async fn delete(&self, digest: &Digest) -> Result<()> {
        let _writing = self.links.shared.deleting()?;
        let _deleting = self
            .links
            .shared
            .repositories
            .exclusive(&self.links.name)
            .await;
        let blob = self.blob(digest).await?;
        self.links.unlink(digest, &blob.canonical).await
    }

    fn in_repository(&self, name: &RepositoryName) -> LinkedBlobs {
        LinkedBlobs::new(
            Arc::clone(&self.links.shared),
            name.clone(),
            LinkSet::Layers,
        )
    }
}

pub(crate) fn descriptor(digest: &Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type::OCTET_STREAM.into(),
        digest: *digest,
        size,
    }
}
