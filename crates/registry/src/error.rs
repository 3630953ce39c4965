//! What can go wrong in the registry, apart from HTTP.

use thiserror::Error;
use wharfinger_oci::manifest::ManifestError;
use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_storage::StoragePath;

/// The result of a registry's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation of the registry failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The repository does not exist.
    #[error("repository {0} is not known to the registry")]
    NameUnknown(RepositoryName),
    /// The repository has no link to the blob, or the store has not the blob.
    #[error("blob {0} is not known to the repository")]
    BlobUnknown(Digest),
    /// The repository has no such manifest; the text is the tag or the digest.
    #[error("manifest {0} is not known to the repository")]
    ManifestUnknown(String),
    /// The manifest does not parse or verify.
    #[error(transparent)]
    ManifestInvalid(#[from] ManifestError),
    /// The manifest is valid, but the registry's rules (`validation`) refuse it.
    #[error("the manifest is refused: {0}")]
    ManifestRefused(String),
    /// The manifest refers to blobs or manifests that the repository does not have.
    #[error("the manifest refers to content that the repository does not have: {0:?}")]
    ManifestReferencesUnknown(Vec<Digest>),
    /// A signature of a schema 1 manifest cannot be read: the revision is not served without it.
    #[error("signature {signature} of manifest {revision} cannot be read: {source}")]
    SignatureUnknown {
        /// The manifest's digest.
        revision: Digest,
        /// The signature that is missing.
        signature: Digest,
        /// Why it cannot be read.
        source: Box<Error>,
    },
    /// There is no such upload: it was never begun, has ended, or was purged.
    #[error("upload {0} is not known to the repository")]
    UploadUnknown(String),
    /// The upload cannot take this request.
    #[error("the upload cannot go on: {0}")]
    UploadInvalid(String),
    /// The content has another digest than was claimed.
    #[error("the content has digest {actual}, not {expected}")]
    DigestMismatch {
        /// What was claimed.
        expected: Digest,
        /// What the content has.
        actual: Digest,
    },
    /// The operation is switched off in the configuration.
    #[error("{0} is not enabled on this registry")]
    Unsupported(&'static str),
    /// The registry is in read-only mode.
    #[error("the registry is read-only")]
    ReadOnly,
    /// A collection removes what the request depends on, or went by while the request was under
    /// way. It can be sent again.
    #[error("a collection is at work on what the request needs; try again")]
    Collecting,
    /// Another collection is at work on the store.
    #[error("another collection is at work on the store")]
    AlreadyCollecting,
    /// What lies in the store is not what must lie there. Never served.
    #[error("{path}: damaged: {reason}")]
    Damaged {
        /// The damaged file.
        path: StoragePath,
        /// What is wrong with it.
        reason: String,
    },
    /// The body that was being stored broke off. What came before is kept.
    #[error("the request's body broke off: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The key that signs schema 1 manifests cannot be used; the text names the file.
    #[error("the schema 1 signing key cannot be used: {0}")]
    SigningKey(String),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] wharfinger_storage::Error),
}
