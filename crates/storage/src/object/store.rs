//! What stores do each in its own way.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use http::Method;
use object_store::list::PaginatedListStore;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{Attributes, ObjectStore, PutPayload, Result};

/// What is asked of all stores alike: reading, listing, removing and signing.
pub(super) trait Objects: ObjectStore + PaginatedListStore + Signer {}

impl<T: ObjectStore + PaginatedListStore + Signer> Objects for T {}

/// A store, as far as it differs from others. An upload is what is made of parts: it has an id of
/// the store's, and becomes an object when it is complete.
#[async_trait]
pub(super) trait Store: fmt::Debug + Send + Sync + 'static {
    fn objects(&self) -> &dyn Objects;

    /// How many parts an upload can have.
    fn most_parts(&self) -> usize;

    /// Whether an object with these attributes is no file, but what another registry keeps of an
    /// unfinished one under the file's key.
    fn is_no_file(&self, _attributes: &Attributes) -> bool {
        false
    }

    /// Whether an object of `size` bytes may be such a one, so that its attributes must be looked
    /// at: a listing does not have them.
    fn may_be_no_file(&self, _key: &str, _size: u64) -> bool {
        false
    }

    async fn put(&self, key: &Path, content: PutPayload) -> Result<()>;

    /// Copies a whole object; it is there when this ends.
    async fn copy(&self, from: &Path, to: &Path) -> Result<()>;

    /// Begins an upload and gives its id.
    async fn begin(&self, key: &Path) -> Result<String>;

    /// Sends a part, the first of them with the index 0, and gives its id.
    async fn put_part(
        &self,
        key: &Path,
        upload: &str,
        index: usize,
        content: PutPayload,
    ) -> Result<String>;

    /// Makes a part of some bytes of an object, and gives its id.
    async fn copy_part(
        &self,
        from: &Path,
        range: Range<u64>,
        to: &Path,
        upload: &str,
        index: usize,
    ) -> Result<String>;

    /// Makes an object of the parts with these ids, in their order.
    async fn complete(&self, key: &Path, upload: &str, parts: Vec<String>) -> Result<()>;

    /// Gives an upload up.
    async fn abort(&self, key: &Path, upload: &str) -> Result<()>;

    /// The uploads below `prefix` that are neither complete nor given up.
    async fn open_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>>;

    /// An address under which the store itself answers a request for the object, for so long;
    /// `None` where there can be none.
    async fn presigned(
        &self,
        method: Method,
        key: &Path,
        lasts: Duration,
    ) -> Result<Option<String>> {
        let url = self.objects().signed_url(method, key, lasts).await?;
        Ok(Some(url.to_string()))
    }
}

/// An upload that is neither complete nor given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenUpload {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) begun: SystemTime,
}
