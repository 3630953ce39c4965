//! The registry itself, embeddable: typed services over a storage driver.
//!
//! [`Registry`] hands out [`Repository`]s; a repository hands out its services: [`Blobs`],
//! [`Manifests`], [`Tags`], [`Referrers`] and [`Signatures`]. All of them are cheap to make.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use thiserror::Error;
use wharfinger_oci::manifest::{ContentDescriptor, Manifest, ManifestError};
use wharfinger_oci::{Algorithm, Descriptor, Digest, RepositoryName, Tag};
use wharfinger_storage::{Driver, Reader};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Error)]
pub enum Error {
    #[error("repository {0} is not known")] NameUnknown(RepositoryName),
    #[error("blob {0} is not known")] BlobUnknown(Digest),
    #[error("manifest {0} is not known")] ManifestUnknown(String),
    #[error(transparent)] ManifestInvalid(#[from] ManifestError),
    /// refused by validation.* (reason)
    #[error("{0}")] ManifestRefused(String),
    #[error("the manifest refers to what is not there: {0:?}")] ManifestReferencesUnknown(Vec<Digest>),
    #[error("upload {0} is not known")] UploadUnknown(String),
    /// wrong state (stale offset, already committed, ...)
    #[error("upload: {0}")] UploadInvalid(String),
    #[error("provided digest {expected} does not match the content's {actual}")] DigestMismatch { expected: Digest, actual: Digest },
    #[error("size {actual} differs from {expected}")] SizeMismatch { expected: u64, actual: u64 },
    #[error("{0} is not enabled")] Unsupported(&'static str),
    #[error("the registry is read-only")] ReadOnly,
    #[error("{path}: damaged: {reason}")] Damaged { path: String, reason: String },
    /// the client's body broke off; what came is kept
    #[error("body: {0}")] Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)] Storage(#[from] wharfinger_storage::Error),
}

#[derive(Clone, Debug)]
pub struct Options {
    pub delete: bool,
    pub read_only: bool,
    pub redirect: bool,
    /// blobdescriptor cache: entries, 0 = none
    pub descriptor_cache: usize,
    /// bytes of small content kept in memory
    pub content_cache: u64,
    pub schema1_push: bool,
    pub schema1_key: Option<std::path::PathBuf>,
    pub validation: Validation,
}
impl Default for Options { fn default() -> Self { todo!() } }

/// `validation.manifests`
#[derive(Clone, Debug, Default)]
pub struct Validation { pub todo: () }

#[derive(Clone, Debug)]
pub struct Registry;
impl Registry {
    pub fn new(_driver: Arc<dyn Driver>, _options: Options) -> Result<Self> { todo!() }
    pub fn repository(&self, _name: &RepositoryName) -> Repository { todo!() }
    /// repositories in path order, those behind `after`
    pub async fn catalog(&self, _after: Option<&str>, _limit: usize) -> Result<Page<String>> { todo!() }
    /// can the store be reached (base route / health)
    pub async fn check(&self) -> Result<()> { todo!() }
}

#[derive(Clone, Debug)]
pub struct Page<T> { pub items: Vec<T>, pub more: bool }

#[derive(Clone, Debug)]
pub struct Repository;
impl Repository {
    pub fn name(&self) -> &RepositoryName { todo!() }
    pub fn blobs(&self) -> Blobs { todo!() }
    pub fn manifests(&self) -> Manifests { todo!() }
    pub fn tags(&self) -> Tags { todo!() }
    pub fn referrers(&self) -> Referrers { todo!() }
}

/// The bytes of a blob, from `range.start` on, `range.end - range.start` of them.
pub enum Content {
    Bytes(Bytes),
    /// a local file; read at `range`
    File { file: File, range: Range<u64> },
    Stream { reader: Reader, length: u64 },
}

pub struct Blobs;
impl Blobs {
    /// access check; descriptor.digest is the digest asked for. BlobUnknown
    pub async fn stat(&self, _digest: &Digest) -> Result<Descriptor> { todo!() }
    /// small content whole
    pub async fn get(&self, _descriptor: &Descriptor) -> Result<Bytes> { todo!() }
    pub async fn open(&self, _descriptor: &Descriptor, _range: Range<u64>) -> Result<Content> { todo!() }
    /// Where the store itself serves it, when redirects are enabled and possible
    pub async fn redirect(&self, _descriptor: &Descriptor, _method: &str) -> Result<Option<String>> { todo!() }
    pub async fn put(&self, _media_type: &str, _bytes: Bytes) -> Result<Descriptor> { todo!() }
    /// algorithms besides the canonical one to hash with from the start
    pub async fn create(&self, _algorithm: Algorithm) -> Result<Upload> { todo!() }
    /// UploadUnknown
    pub async fn resume(&self, _id: &UploadId) -> Result<Upload> { todo!() }
    /// None: the source does not have it
    pub async fn mount(&self, _from: &RepositoryName, _digest: &Digest) -> Result<Option<Descriptor>> { todo!() }
    /// Links the blob when it is in one of `readable` (anonymous mount); the caller decides who may read
    pub async fn mount_anywhere(&self, _digest: &Digest) -> Result<Option<Descriptor>> { todo!() }
    pub async fn delete(&self, _digest: &Digest) -> Result<()> { todo!() }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(uuid::Uuid);
impl std::fmt::Display for UploadId { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { self.0.fmt(f) } }
impl std::str::FromStr for UploadId { type Err = Error; fn from_str(_s: &str) -> Result<Self> { todo!() } }

#[derive(Debug)]
pub struct Upload;
impl Upload {
    pub fn id(&self) -> &UploadId { todo!() }
    /// bytes received so far
    pub fn offset(&self) -> u64 { todo!() }
    pub fn started_at(&self) -> jiff::Timestamp { todo!() }
    /// Appends a body. An error of the body is Error::Body: what came before it is kept (call pause).
    pub async fn append<S, E>(&mut self, _body: S) -> Result<()> where S: Stream<Item = Result<Bytes, E>> + Send + Unpin, E: std::error::Error + Send + Sync + 'static { todo!() }
    /// Durable offset and hash state; the upload can be resumed.
    pub async fn pause(self) -> Result<()> { todo!() }
    /// Verifies, stores, links. descriptor.digest == the claimed digest
    pub async fn commit(self, _digest: &Digest) -> Result<Descriptor> { todo!() }
    pub async fn cancel(self) -> Result<()> { todo!() }
}

/// A manifest as it is served.
#[derive(Clone, Debug)]
pub struct Served { pub descriptor: Descriptor, pub bytes: Bytes }

pub struct Manifests;
impl Manifests {
    /// ManifestUnknown
    pub async fn get(&self, _digest: &Digest) -> Result<Served> { todo!() }
    /// `digest`: what the client asks for (canonical when it pushed by tag). Checks references, stores, links, records the referrer, then tags.
    pub async fn put(&self, _manifest: &Manifest, _digest: &Digest, _tags: &[Tag]) -> Result<Descriptor> { todo!() }
    /// also removes the tags that point to it
    pub async fn delete(&self, _digest: &Digest) -> Result<()> { todo!() }
}

pub struct Tags;
impl Tags {
    /// ManifestUnknown
    pub async fn get(&self, _tag: &Tag) -> Result<Digest> { todo!() }
    /// NameUnknown when the repository does not exist
    pub async fn list(&self, _after: Option<&str>, _limit: Option<usize>) -> Result<Page<Tag>> { todo!() }
    pub async fn delete(&self, _tag: &Tag) -> Result<()> { todo!() }
}

pub struct Referrers;
impl Referrers {
    pub async fn list(&self, _subject: &Digest, _artifact_type: Option<&str>) -> Result<Vec<ContentDescriptor>> { todo!() }
}
