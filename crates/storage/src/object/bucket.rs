//! Requests to a bucket, by key.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::AmazonS3;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutPayload,
    Result,
};
use tokio::time::sleep;
use tracing::debug;

use super::s3::{CopyOptions, Signed};
use super::unfinished::Part;

/// How many keys a store lists at once at the most.
pub(super) const PAGE: usize = 1000;

/// The smallest part in bytes that may be followed by another.
pub(super) const SMALLEST_PART: u64 = 5 * 1024 * 1024;

/// How long a client may use the address that it is sent to, as with Distribution.
const REDIRECT_LASTS: Duration = Duration::from_secs(20 * 60);

/// A bucket.
pub(super) struct Bucket {
    pub(super) store: AmazonS3,
    /// The same, for requests that make objects: it says what each of them is to have.
    pub(super) making: AmazonS3,
    /// The requests that neither has.
    pub(super) signed: Signed,
    pub(super) copying: CopyOptions,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.signed.bucket())
    }
}

/// An object in a listing.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

/// A part of a listing.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    /// The prefixes of what lies deeper, without the slash at their ends.
    pub(super) folders: Vec<String>,
}

/// A listing that goes on page by page.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    bucket: &'a Bucket,
    prefix: &'a str,
    options: PaginatedListOptions,
    at_end: bool,
}

impl Listing<'_> {
    /// Whether the last page has been given.
    pub(super) fn is_at_end(&self) -> bool {
        self.at_end
    }

    pub(super) async fn next(&mut self) -> Result<Option<Page>> {
        if self.at_end {
            return Ok(None);
        }
        let prefix = (!self.prefix.is_empty()).then_some(self.prefix);
        let (bucket, options) = (self.bucket, &self.options);
        let listed = bucket
            .again(|| bucket.store.list_paginated(prefix, options.clone()))
            .await?;
        self.at_end = listed.page_token.is_none();
        self.options.page_token = listed.page_token;
        let objects = listed.result.objects.into_iter().map(|meta| Object {
            key: meta.location.to_string(),
            size: meta.size,
            modified: meta.last_modified.into(),
        });
        let folders = listed.result.common_prefixes.into_iter();
        Ok(Some(Page {
            objects: objects.collect(),
            folders: folders.map(|path| path.to_string()).collect(),
        }))
    }
}

impl Bucket {
    /// Sends a request that may as well be sent twice again where its answer was lost: whoever
    /// sent it has not tried again itself then.
    async fn again<T, F>(&self, send: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let began = Instant::now();
        let mut tried = 0;
        loop {
            match send().await {
                Err(error)
                    if is_answer_lost(&error)
                        && tried < self.signed.retries().most
                        && began.elapsed() < self.signed.retries().within =>
                {
                    debug!(%error, "an answer of the store was lost");
                    tried += 1;
                    sleep(Duration::from_millis(100 << tried.min(5))).await;
                }
                answer => return answer,
            }
        }
    }

    /// An object from an offset on, as far as `end` where that is said, and only in one version
    /// where that is.
    pub(super) async fn get(
        &self,
        key: &str,
        from: u64,
        end: Option<u64>,
        etag: Option<String>,
    ) -> Result<GetResult> {
        let range = match (from, end) {
            (from, Some(end)) => Some(GetRange::Bounded(from..end)),
            (0, None) => None,
            (from, None) => Some(GetRange::Offset(from)),
        };
        let options = GetOptions::new().with_range(range).with_if_match(etag);
        self.store.get_opts(&path(key)?, options).await
    }

    /// The whole object, or its first bytes.
    pub(super) async fn get_bytes(&self, key: &str, most: Option<u64>) -> Result<Bytes> {
        if most == Some(0) {
            return Ok(Bytes::new());
        }
        let range = most.map(|most| GetRange::Bounded(0..most));
        let options = GetOptions::new().with_range(range);
        let path = path(key)?;
        let get = async || {
            let got = self.store.get_opts(&path, options.clone()).await?;
            got.bytes().await
        };
        self.again(get).await
    }

    /// Some bytes of an object.
    pub(super) async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.store.get_range(&path(key)?, range).await
    }

    pub(super) async fn head(&self, key: &str) -> Result<ObjectMeta> {
        self.store.head(&path(key)?).await
    }

    pub(super) async fn put(&self, key: &str, content: Vec<Bytes>) -> Result<()> {
        let content = PutPayload::from_iter(content);
        self.making.put(&path(key)?, content).await.map(drop)
    }

    /// Removes objects, whether they are there or not.
    pub(super) async fn delete(&self, keys: Vec<String>) -> Result<()> {
        if let [one] = keys.as_slice() {
            let path = path(one)?;
            return match self.again(|| self.store.delete(&path)).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                deleted => deleted,
            };
        }
        let paths: Vec<_> = keys.iter().map(|key| path(key)).collect::<Result<_>>()?;
        let delete = async || {
            let paths = stream::iter(paths.clone()).map(Ok).boxed();
            let deleted = self.store.delete_stream(paths);
            deleted.try_for_each(async |_| Ok(())).await
        };
        self.again(delete).await
    }

    /// What starts with `prefix`, in the order of keys, from behind `after` on, `page` keys at a
    /// time at the most; `folded` gives what goes on behind a slash as one folder.
    pub(super) fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<String>,
        folded: bool,
        page: usize,
    ) -> Listing<'a> {
        let options = PaginatedListOptions {
            offset: after,
            delimiter: folded.then(|| "/".into()),
            max_keys: Some(page),
            ..PaginatedListOptions::default()
        };
        Listing {
            bucket: self,
            prefix,
            options,
            at_end: false,
        }
    }

    /// Whether there is any object whose key starts with `prefix`.
    pub(super) async fn has_any(&self, prefix: &str) -> Result<bool> {
        let page = self.list(prefix, None, false, 1).next().await?;
        Ok(page.is_some_and(|page| !page.objects.is_empty()))
    }

    /// Copies an object of `size` bytes.
    pub(super) async fn copy(&self, from: &str, to: &str, size: u64) -> Result<()> {
        if size <= self.copying.threshold {
            let (from, to) = (path(from)?, path(to)?);
            return self.again(|| self.making.copy(&from, &to)).await;
        }
        let upload = self.begin(to).await?;
        let copied = async {
            let parts = self.copy_parts(from, 0..size, to, &upload, 0).await?;
            self.complete(to, &upload, &parts).await
        };
        let copied = copied.await;
        if copied.is_err() {
            let _ = self.abort(to, &upload).await;
        }
        copied
    }

    /// Copies a range of an object into parts of a multipart upload, the first of them `first`.
    pub(super) async fn copy_parts(
        &self,
        from: &str,
        range: Range<u64>,
        to: &str,
        upload: &str,
        first: usize,
    ) -> Result<Vec<Part>> {
        let pieces = pieces(range, self.copying.part);
        let copies = pieces.into_iter().enumerate().map(|(i, piece)| {
            let size = piece.end - piece.start;
            async move {
                let copied = self.signed.copy_part(from, piece, to, upload, first + i);
                Ok(Part {
                    id: copied.await?,
                    size,
                })
            }
        });
        let copies: Vec<_> = copies.collect();
        stream::iter(copies)
            .buffered(self.copying.concurrency)
            .try_collect()
            .await
    }

    pub(super) async fn begin(&self, key: &str) -> Result<String> {
        let path = path(key)?;
        self.again(|| self.making.create_multipart(&path)).await
    }

    pub(super) async fn put_part(
        &self,
        key: &str,
        upload: &str,
        index: usize,
        content: Vec<Bytes>,
    ) -> Result<Part> {
        let size = content.iter().map(|bytes| bytes.len() as u64).sum();
        let content = PutPayload::from_iter(content);
        let upload = upload.to_owned();
        let path = path(key)?;
        let part = self.store.put_part(&path, &upload, index, content);
        let id = part.await?.content_id;
        Ok(Part { id, size })
    }

    pub(super) async fn complete(&self, key: &str, upload: &str, parts: &[Part]) -> Result<()> {
        let ids = parts.iter().map(|part| PartId {
            content_id: part.id.clone(),
        });
        let upload = upload.to_owned();
        let path = path(key)?;
        let completed = self.store.complete_multipart(&path, &upload, ids.collect());
        completed.await.map(drop)
    }

    /// Gives a multipart upload up; one that is not there is no error.
    pub(super) async fn abort(&self, key: &str, upload: &str) -> Result<()> {
        let aborted = self
            .store
            .abort_multipart(&path(key)?, &upload.to_owned())
            .await;
        match aborted {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            aborted => aborted,
        }
    }

    /// An address under which the store itself answers a request for the object.
    pub(super) async fn presigned(&self, method: http::Method, key: &str) -> Result<String> {
        let path = path(key)?;
        let url = self.store.signed_url(method, &path, REDIRECT_LASTS);
        Ok(url.await?.to_string())
    }
}

/// Whether the connection failed in a way that a request which changes something is not sent
/// again for by itself.
pub(super) fn is_answer_lost(error: &object_store::Error) -> bool {
    let mut cause = Some(error as &(dyn Error + 'static));
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return !matches!(
                error.kind(),
                HttpErrorKind::Connect | HttpErrorKind::Request
            );
        }
        cause = error.source();
    }
    false
}

fn path(key: &str) -> Result<Path> {
    Ok(Path::parse(key)?)
}

/// Cuts a range into pieces of `size` bytes. None is too small to be a part: a small rest goes
/// with the piece before it.
fn pieces(range: Range<u64>, size: u64) -> Vec<Range<u64>> {
    let mut pieces = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let end = match range.end - start {
            left if left < size + SMALLEST_PART => range.end,
            _ => start + size,
        };
        pieces.push(start..end);
        start = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_range_and_none_is_small() {
        const MIB: u64 = 1 << 20;
        assert_eq!(
            pieces(0..12 * MIB, 5 * MIB),
            [0..5 * MIB, 5 * MIB..12 * MIB]
        );
        assert_eq!(
            pieces(0..10 * MIB, 5 * MIB),
            [0..5 * MIB, 5 * MIB..10 * MIB]
        );
        assert_eq!(pieces(0..3, 5 * MIB).len(), 1);
        for end in [5 * MIB, 33 * MIB + 1, 64 * MIB, 64 * MIB - 1] {
            let all = pieces(0..end, 8 * MIB);
            assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!(all.last().unwrap().end, end);
            assert!(
                all.iter()
                    .all(|piece| piece.end - piece.start >= SMALLEST_PART)
            );
        }
    }
}
