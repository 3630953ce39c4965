//! Requests to a bucket, by key.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStoreExt as _, PutPayload, Result,
};
use tokio::time::sleep;
use tracing::debug;

use super::client::Retries;
use super::store::{Objects, OpenUpload, Store};
use super::unfinished::Part;

/// How many keys a store lists at once at the most.
pub(super) const PAGE: usize = 1000;

/// The smallest part in bytes that may be followed by another.
pub(super) const SMALLEST_PART: u64 = 5 * 1024 * 1024;

/// How long a client may use the address that it is sent to, as with Distribution.
const REDIRECT_LASTS: Duration = Duration::from_secs(20 * 60);

/// A bucket.
pub(super) struct Bucket {
    /// Its name.
    pub(super) name: String,
    pub(super) store: Box<dyn Store>,
    pub(super) copying: CopyOptions,
    pub(super) retries: Retries,
}

/// How files are copied within a bucket.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// Larger files are copied part by part, in bytes.
    pub threshold: u64,
    /// The size of those parts in bytes.
    pub part: u64,
    /// How many of them are copied at once.
    pub concurrency: usize,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.name)
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
        let (store, prefix, options) = (&self.bucket.store, self.prefix, &self.options);
        let listed = self.bucket.again(|| store.list(prefix, options.clone()));
        let (page, token) = listed.await?;
        self.at_end = token.is_none();
        self.options.page_token = token;
        Ok(Some(page))
    }
}

impl Bucket {
    fn objects(&self) -> &dyn Objects {
        self.store.objects()
    }

    /// How many parts a file can have.
    pub(super) fn most_parts(&self) -> usize {
        self.store.most_parts()
    }

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
                        && tried < self.retries.most
                        && began.elapsed() < self.retries.within =>
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
        self.get_file(&path(key)?, options).await
    }

    /// An object, or its attributes alone; what is no file is not there.
    async fn get_file(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.objects().get_opts(path, options).await?;
        match self.store.is_no_file(&got.attributes) {
            false => Ok(got),
            true => Err(object_store::Error::NotFound {
                path: path.to_string(),
                source: "it is an unfinished upload of another registry's".into(),
            }),
        }
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
            let got = self.get_file(&path, options.clone()).await?;
            got.bytes().await
        };
        self.again(get).await
    }

    /// Some bytes of an object.
    pub(super) async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.objects().get_range(&path(key)?, range).await
    }

    pub(super) async fn head(&self, key: &str) -> Result<ObjectMeta> {
        let options = GetOptions::new().with_head(true);
        Ok(self.get_file(&path(key)?, options).await?.meta)
    }

    /// Whether an object of a listing is a file.
    pub(super) async fn is_file(&self, key: &str, size: u64) -> Result<bool> {
        if !self.store.may_be_no_file(key, size) {
            return Ok(true);
        }
        match self.head(key).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn put(&self, key: &str, content: Vec<Bytes>) -> Result<()> {
        let content = PutPayload::from_iter(content);
        self.store.put(&path(key)?, content).await
    }

    /// Removes objects, whether they are there or not.
    pub(super) async fn delete(&self, keys: Vec<String>) -> Result<()> {
        let keys: Vec<_> = keys.iter().map(|key| path(key)).collect::<Result<_>>()?;
        self.again(|| self.store.delete(&keys)).await
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
            return self.again(|| self.store.copy(&from, &to)).await;
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
        let (from, to) = (&path(from)?, &path(to)?);
        let copies = pieces.into_iter().enumerate().map(|(i, piece)| {
            let size = piece.end - piece.start;
            async move {
                let copied = self.store.copy_part(from, piece, to, upload, first + i);
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
        self.again(|| self.store.begin(&path)).await
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
        let path = path(key)?;
        let id = self.store.put_part(&path, upload, index, content).await?;
        Ok(Part { id, size })
    }

    pub(super) async fn complete(&self, key: &str, upload: &str, parts: &[Part]) -> Result<()> {
        let ids = parts.iter().map(|part| part.id.clone());
        self.store
            .complete(&path(key)?, upload, ids.collect())
            .await
    }

    /// Gives a multipart upload up; one that is not there is no error.
    pub(super) async fn abort(&self, key: &str, upload: &str) -> Result<()> {
        match self.store.abort(&path(key)?, upload).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            aborted => aborted,
        }
    }

    /// The multipart uploads below `prefix` that are neither complete nor given up.
    pub(super) async fn open_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        self.store.open_uploads(prefix).await
    }

    /// An address under which the store itself answers a request for the object.
    pub(super) async fn presigned(
        &self,
        method: http::Method,
        key: &str,
    ) -> Result<Option<String>> {
        self.store
            .presigned(method, &path(key)?, REDIRECT_LASTS)
            .await
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
