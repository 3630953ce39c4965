//! Where images come from, and where they go.

use wharfinger_oci::manifest::{Manifest, Referenced};
use wharfinger_oci::{Digest, RepositoryName, Tag};

use crate::error::Problem;
use crate::pieces::Pieces;
use crate::{Fault, Result};

/// Where images come from.
pub(crate) trait Source: Sync {
    /// All repositories.
    fn repositories(&self) -> impl Future<Output = Result<Vec<RepositoryName>>> + Send;

    /// A repository's tags.
    fn tags(&self, name: &RepositoryName) -> impl Future<Output = Result<Vec<Tag>, Fault>> + Send;

    /// What a tag stands for now; `None` when it is gone.
    fn tagged(
        &self,
        name: &RepositoryName,
        tag: &Tag,
    ) -> impl Future<Output = Result<Option<Digest>, Fault>> + Send;

    /// A repository's manifests: those at least that nothing else leads to.
    fn revisions(
        &self,
        name: &RepositoryName,
    ) -> impl Future<Output = Result<Vec<Digest>, Fault>> + Send;

    /// The manifests whose subject is this one.
    fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> impl Future<Output = Result<Vec<Digest>, Fault>> + Send;

    /// A manifest, which was said to have a media type; `None` when it is not there.
    fn manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        media_type: Option<&str>,
    ) -> impl Future<Output = Result<Option<Manifest>, Fault>> + Send;

    /// The size of a blob in bytes; `None` when it is not there.
    fn size(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> impl Future<Output = Result<Option<u64>, Fault>> + Send;

    /// The bytes of a blob; `None` when it is not there any more.
    fn open(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> impl Future<Output = Result<Option<Pieces>, Fault>> + Send;

    /// Where content lies, for people.
    fn place(&self, digest: &Digest) -> String;

    /// Whether an image without this is not whole.
    fn requires(&self, name: &RepositoryName, reference: &Referenced<'_>) -> bool;
}

/// A blob to be written.
pub(crate) struct Blob<'a> {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Where it comes from, for people.
    pub(crate) place: String,
    pub(crate) pieces: Pieces,
    /// Is told how many bytes more were written.
    pub(crate) told: &'a (dyn Fn(u64) + Sync),
}

/// Where images go.
pub(crate) trait Target: Sync {
    /// Whether a blob is there, or can be had from another repository; it is kept then. `size` is
    /// that in bytes which the source has; `None` when the source does not have it.
    fn has(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: Option<u64>,
    ) -> impl Future<Output = Result<bool, Problem>> + Send;

    /// Whether a manifest is there.
    fn has_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> impl Future<Output = Result<bool, Problem>> + Send;

    /// Whether a manifest is there with all that it mentions, so that nothing of it is to be looked
    /// at.
    fn is_whole(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        manifest: &Manifest,
    ) -> impl Future<Output = Result<bool, Problem>> + Send {
        let _ = (name, digest, manifest);
        std::future::ready(Ok(false))
    }

    /// Writes a blob, unless its bytes are not those of its digest.
    fn blob(
        &self,
        name: &RepositoryName,
        blob: Blob<'_>,
    ) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Writes a manifest of which all else is there.
    fn manifest(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        digest: &Digest,
        place: Place<'_>,
    ) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Whether an image without this is not whole.
    fn requires(&self, name: &RepositoryName, reference: &Referenced<'_>) -> bool;
}

/// Where a manifest stands in its repository.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// Below another manifest.
    Nested,
    /// Under a tag, or under none.
    Top(Option<&'a Tag>),
}

/// Where images go that are kept like those of a source.
pub(crate) trait Mirror: Target {
    /// Whether a blob is there. Writes nothing.
    fn holds(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> impl Future<Output = Result<bool, Problem>> + Send;

    /// A repository's tags; none where there is no such repository.
    fn tags(&self, name: &RepositoryName)
    -> impl Future<Output = Result<Vec<Tag>, Problem>> + Send;

    /// What a tag stands for.
    fn tagged(
        &self,
        name: &RepositoryName,
        tag: &Tag,
    ) -> impl Future<Output = Result<Option<Digest>, Problem>> + Send;

    /// Removes a tag.
    fn untag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
    ) -> impl Future<Output = Result<(), Problem>> + Send;
}
