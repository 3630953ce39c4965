//! What stores do each in its own way.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use http::Method;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{Attributes, Error, ObjectStore, ObjectStoreExt as _, PutPayload, Result};

use super::bucket::{Object, Page};

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

    /// A page of what starts with `prefix`, and the token of the next one.
    async fn list(
        &self,
        prefix: &str,
        options: PaginatedListOptions,
    ) -> Result<(Page, Option<String>)> {
        let prefix = (!prefix.is_empty()).then_some(prefix);
        let listed = self.objects().list_paginated(prefix, options).await?;
        let objects = listed.result.objects.into_iter().map(|meta| Object {
            key: meta.location.to_string(),
            size: meta.size,
            modified: meta.last_modified.into(),
        });
        let folders = listed.result.common_prefixes.into_iter();
        let page = Page {
            objects: objects.collect(),
            folders: folders.map(|path| path.to_string()).collect(),
        };
        Ok((page, listed.page_token))
    }

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

    /// Removes objects, whether they are there or not.
    async fn delete(&self, keys: &[Path]) -> Result<()> {
        delete_together(self.objects(), keys).await
    }

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

    /// Makes a part of some bytes of an object, and gives its id. Where the store has no request
    /// for this, the bytes come here and go back.
    async fn copy_part(
        &self,
        from: &Path,
        range: Range<u64>,
        to: &Path,
        upload: &str,
        index: usize,
    ) -> Result<String> {
        let bytes = self.objects().get_range(from, range).await?;
        self.put_part(to, upload, index, bytes.into()).await
    }

    /// Makes an object of the parts with these ids, in their order.
    async fn complete(&self, key: &Path, upload: &str, parts: Vec<String>) -> Result<()>;

    /// Gives an upload up.
    async fn abort(&self, key: &Path, upload: &str) -> Result<()>;

    /// The uploads below `prefix` that are neither complete nor given up.
    async fn open_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>>;

    /// Why files cannot be kept in the bucket, as far as the store tells.
    async fn unsuitable(&self) -> Result<Option<&'static str>> {
        Ok(None)
    }

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

/// Removes objects, many by one request where the store can do that.
pub(super) async fn delete_together(objects: &dyn Objects, keys: &[Path]) -> Result<()> {
    let mut deleted = match keys {
        [] => return Ok(()),
        [one] => stream::once(objects.delete(one)).boxed(),
        several => {
            let keys = stream::iter(several.to_vec()).map(Ok).boxed();
            let deleted = objects.delete_stream(keys);
            deleted.map(|deleted| deleted.map(drop)).boxed()
        }
    };
    while let Some(deleted) = deleted.next().await {
        match deleted {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An upload that is neither complete nor given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenUpload {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) begun: SystemTime,
}
