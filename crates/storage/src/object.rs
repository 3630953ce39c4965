//! The driver that keeps files as objects of a store: of Amazon S3, Google Cloud Storage or Azure
//! Blob Storage.
//!
//! A file is an object, under the key that CNCF Distribution gives it. A folder is what keys have
//! in common: it is there as long as there is something in it.
//!
//! A file is written part by part. While it is unfinished, all that is needed to go on with it,
//! on any node, lies beside it under keys that no path has (see [`unfinished`]); so does nothing
//! on this machine. One shorter than a part is simply an object, written anew each time.

mod azure;
mod bucket;
mod client;
mod failure;
mod gcs;
mod keys;
mod leftovers;
mod listing;
mod open_uploads;
mod reading;
mod requests;
mod s3;
mod store;
mod turns;
mod unfinished;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::RwLock;
use tracing::{Instrument as _, debug};

pub use self::azure::{AzureCredentials, AzureCredentialsError, AzureOptions};
pub use self::bucket::CopyOptions;
use self::bucket::{Bucket, PAGE};
pub use self::client::Retries;
use self::failure::{failed, is_behind_the_end};
pub use self::gcs::{
    CredentialsFault, GcsCredentials, GcsCredentialsError, GcsOptions, ServiceAccount,
};
use self::keys::{Keys, UNFINISHED, parse_unfinished};
pub use self::s3::{Amazon, CredentialsError, S3Credentials, S3Encryption, S3Endpoint, S3Options};
use self::turns::Turns;
use self::unfinished::Unfinished;
use self::writer::ObjectWriter;
use crate::{
    Claim, ClaimError, Claimed, Driver, Durability, Entry, Error, Fetch, Listing, Reader,
    RedirectRequest, Result, Stat, StoragePath, WriteMode, Writer,
};

/// How many folders are listed at once.
const LISTED_AT_ONCE: usize = 16;

/// Keeps files as objects of a store. Cheap to clone: clones are one driver.
#[derive(Clone, Debug)]
pub struct ObjectDriver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: &'static str,
    bucket: Bucket,
    keys: Keys,
    /// The size of the parts of large files in bytes.
    part: usize,
    turns: Turns,
    /// Shared by whatever changes the store, until it has ended.
    operations: Arc<RwLock<()>>,
}

impl ObjectDriver {
    /// The name of the driver for Amazon S3 in the configuration file.
    pub const S3: &'static str = "s3";

    /// The name of the driver for Google Cloud Storage in the configuration file.
    pub const GCS: &'static str = "gcs";

    /// A driver on a bucket of Amazon S3, or of what speaks its protocol. Nothing is asked yet.
    ///
    /// # Errors
    /// When the options contradict each other.
    pub fn s3(options: &S3Options, client: reqwest::Client) -> Result<Self> {
        let bucket = options.bucket(client);
        Self::on(Self::S3, bucket, &options.root, options.part)
    }

    /// The name of the driver for Azure Blob Storage in the configuration file.
    pub const AZURE: &'static str = "azure";

    /// A driver on a container of Azure Blob Storage. Nothing is asked yet.
    ///
    /// # Errors
    /// When the options contradict each other, or a key is none.
    pub fn azure(options: &AzureOptions, client: reqwest::Client) -> Result<Self> {
        let bucket = options.bucket(client);
        Self::on(Self::AZURE, bucket, &options.root, options.part)
    }

    /// A driver on a bucket of Google Cloud Storage. Nothing is asked yet.
    ///
    /// # Errors
    /// When the options contradict each other.
    pub fn gcs(options: &GcsOptions, client: reqwest::Client) -> Result<Self> {
        let bucket = options.bucket(client);
        Self::on(Self::GCS, bucket, &options.root, options.part)
    }

    /// A driver on a bucket, for files whose parts have `part` bytes.
    fn on(
        name: &'static str,
        bucket: object_store::Result<Bucket>,
        root: &str,
        part: u64,
    ) -> Result<Self> {
        let bucket = bucket.map_err(failed(&StoragePath::root(), "set up"))?;
        Ok(Self(Arc::new(Shared {
            name,
            bucket,
            keys: Keys::below(root),
            part: usize::try_from(part).unwrap_or(usize::MAX),
            turns: Turns::default(),
            operations: Arc::default(),
        })))
    }

    /// Why files cannot be kept in the bucket, as far as the store tells.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn unsuitable(&self) -> Result<Option<&'static str>> {
        let told = self.0.bucket.store.unsuitable().await;
        told.map_err(failed(&StoragePath::root(), "ask about it"))
    }

    /// The key of the object that a file is, or would be.
    ///
    /// # Errors
    /// `WrongKind` for the root.
    pub fn key(&self, path: &StoragePath) -> Result<String> {
        match path.is_root() {
            true => Err(Error::not_a_file(path)),
            false => Ok(self.0.keys.of(path)),
        }
    }

    /// The content of a file from an offset on, as far as `end` where that is said.
    async fn read(&self, path: &StoragePath, offset: u64, end: Option<u64>) -> Result<Reader> {
        let key = self.key(path)?;
        // No store takes a larger number.
        let got = match offset <= i64::MAX as u64 {
            true => self.0.bucket.get(&key, offset, end, None).await.map(Some),
            false => Ok(None),
        };
        let got = match got {
            Err(error) if offset > 0 && is_behind_the_end(&error) => None,
            got => got.map_err(failed(path, "read"))?,
        };
        match got {
            Some(got) => Ok(reading::reader(Arc::clone(&self.0), path.clone(), key, got)),
            None if self.file_size(path).await? == offset => Ok(stream::empty().boxed()),
            None => Err(Error::InvalidOffset {
                path: path.clone(),
                offset,
            }),
        }
    }

    /// Goes through with a change, whether or not somebody waits for it.
    async fn change<T, F>(&self, change: impl FnOnce(Arc<Shared>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let operation = Arc::clone(&self.0.operations).read_owned().await;
        let change = change(Arc::clone(&self.0));
        let task = async move {
            let _operation = operation;
            change.await
        };
        match tokio::spawn(task.in_current_span()).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// What the store has of a path.
#[derive(Debug, Default)]
struct Found {
    /// The size of the file in bytes, and when it was written.
    object: Option<Stat>,
    /// What is kept of it unfinished: sizes in bytes, in order.
    unfinished: BTreeMap<u64, Stat>,
    /// Whether something lies below it.
    folder: bool,
}

impl Shared {
    /// Looks for all that there is of a path, in one listing, or two where other names come in
    /// between.
    async fn find(&self, path: &StoragePath, with_folder: bool) -> Result<Found> {
        // The file, what is kept of it, and something of the folder.
        const LOOK: usize = 8;
        let key = self.keys.of(path);
        let below = self.keys.folder(path);
        let list = failed(path, "look");
        let mut found = Found::default();
        let mut listing = self.bucket.list(&key, None, false, LOOK);
        let page = listing.next().await.map_err(&list)?.unwrap_or_default();
        for object in page.objects {
            let stat = Stat {
                size: object.size,
                modified: Some(object.modified),
                is_dir: false,
            };
            if object.key == key {
                found.object = Some(stat);
            } else if object.key.starts_with(&below) {
                found.folder = true;
            } else if let Some((file, size)) = parse_unfinished(&object.key)
                && file == key
            {
                found.unfinished.insert(size, Stat { size, ..stat });
            }
        }
        if let Some(stat) = &found.object
            && !self.bucket.is_file(&key, stat.size).await.map_err(&list)?
        {
            found.object = None;
        }
        let is_file = found.object.is_some() || !found.unfinished.is_empty();
        if with_folder && !is_file && !found.folder && !listing.is_at_end() {
            found.folder = self.bucket.has_any(&below).await.map_err(&list)?;
        }
        Ok(found)
    }

    async fn unfinished(&self, path: &StoragePath, size: u64) -> Result<Unfinished> {
        let key = keys::unfinished(&self.keys.of(path), size);
        let bytes = self.bucket.get_bytes(&key, None).await;
        let bytes = bytes.map_err(failed(path, "read what is kept of it"))?;
        Unfinished::decode(&bytes, size).map_err(|error| Error::io(path, "go on with it", error))
    }

    /// Removes a file, or a folder with all below it.
    async fn delete(&self, path: &StoragePath) -> Result<()> {
        let key = self.keys.of(path);
        let below = self.keys.folder(path);
        let delete = failed(path, "delete");
        let mut any = false;
        let mut listing = self.bucket.list(&key, None, false, PAGE);
        while let Some(page) = listing.next().await.map_err(&delete)? {
            let names = page.objects.into_iter().map(|object| object.key);
            let (ours, others): (Vec<_>, Vec<_>) = names.partition(|name| {
                let rest = name.strip_prefix(&key).unwrap_or_default();
                rest.is_empty() || rest.starts_with(['/', UNFINISHED])
            });
            let is_past = others.last().is_some_and(|name| *name > below);
            let is_before = others.last().is_some_and(|name| *name < below);
            any |= !ours.is_empty();
            self.remove(ours).await.map_err(&delete)?;
            if is_past {
                break;
            }
            if is_before && !listing.is_at_end() {
                // Many names that merely start with the same letters: past them at once.
                listing = self.bucket.list(&below, None, false, PAGE);
            }
        }
        match any {
            true => Ok(()),
            false => Err(Error::not_found(path)),
        }
    }

    /// Removes objects, and gives up the multipart uploads that they tell of.
    async fn remove(&self, keys: Vec<String>) -> object_store::Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut last = BTreeMap::new();
        for (file, size) in keys.iter().filter_map(|key| parse_unfinished(key)) {
            let known = last.entry(file).or_insert(size);
            *known = size.max(*known);
        }
        for (file, size) in last {
            self.give_up(file, size).await?;
        }
        self.bucket.delete(keys).await
    }

    /// Gives up the multipart upload that is kept of the file with so many bytes.
    async fn give_up(&self, key: &str, size: u64) -> object_store::Result<()> {
        let kept = keys::unfinished(key, size);
        let bytes = match self.bucket.get_bytes(&kept, None).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            bytes => bytes?,
        };
        match Unfinished::decode(&bytes, size) {
            Ok(unfinished) => self.bucket.abort(key, &unfinished.header.upload).await,
            Err(error) => {
                debug!(key, %error, "its multipart upload stays until leftovers are removed");
                Ok(())
            }
        }
    }

    async fn rename(&self, from: &StoragePath, to: &StoragePath) -> Result<()> {
        let (source, target) = (self.keys.of(from), self.keys.of(to));
        let size = match self.bucket.head(&source).await {
            Ok(meta) => meta.size,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(match self.find(from, true).await?.folder {
                    true => Error::not_a_file(from),
                    false => Error::not_found(from),
                });
            }
            Err(error) => return Err(failed(from, "look")(error)),
        };
        if source == target {
            return Ok(());
        }
        let copied = self.bucket.copy(&source, &target, size).await;
        copied.map_err(failed(from, "copy"))?;
        let deleted = self.bucket.delete(vec![source]).await;
        deleted.map_err(failed(from, "delete"))
    }
}

#[async_trait]
impl Driver for ObjectDriver {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn has_only_objects(&self) -> bool {
        true
    }

    fn get<'a>(&'a self, path: &'a StoragePath) -> Fetch<'a> {
        Fetch::Right(Box::pin(async move {
            let got = self.0.bucket.get_bytes(&self.key(path)?, None).await;
            got.map_err(failed(path, "read"))
        }))
    }

    async fn put(&self, path: &StoragePath, content: Bytes, _durability: Durability) -> Result<()> {
        let (key, path) = (self.key(path)?, path.clone());
        self.change(|shared| async move {
            let put = shared.bucket.put(&key, vec![content]).await;
            put.map_err(failed(&path, "write"))
        })
        .await
    }

    async fn reader(&self, path: &StoragePath, offset: u64) -> Result<Reader> {
        self.read(path, offset, None).await
    }

    async fn range_reader(&self, path: &StoragePath, range: Range<u64>) -> Result<Reader> {
        let end = (range.start < range.end).then_some(range.end);
        self.read(path, range.start, end).await
    }

    async fn open(&self, path: &StoragePath) -> Result<Option<File>> {
        self.key(path).map(|_| None)
    }

    async fn writer(&self, path: &StoragePath, mode: WriteMode) -> Result<Box<dyn Writer>> {
        self.key(path)?;
        let writer = ObjectWriter::open(Arc::clone(&self.0), path.clone(), mode).await?;
        Ok(Box::new(writer))
    }

    async fn stat(&self, path: &StoragePath) -> Result<Stat> {
        const FOLDER: Stat = Stat {
            size: 0,
            modified: None,
            is_dir: true,
        };
        if path.is_root() {
            return Ok(FOLDER);
        }
        // One listing tells of a file, of an unfinished one and of a folder alike.
        let mut found = self.0.find(path, true).await?;
        match (found.object, found.unfinished.pop_last(), found.folder) {
            (Some(stat), _, _) | (None, Some((_, stat)), _) => Ok(stat),
            (None, None, true) => Ok(FOLDER),
            (None, None, false) => Err(Error::not_found(path)),
        }
    }

    async fn file_size(&self, path: &StoragePath) -> Result<u64> {
        let meta = self.0.bucket.head(&self.key(path)?).await;
        Ok(meta.map_err(failed(path, "look"))?.size)
    }

    async fn list(
        &self,
        path: &StoragePath,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<Entry>> {
        let prefix = self.0.keys.folder(path);
        let listed = listing::list(&self.0.bucket, &prefix, after, limit).await;
        match listed.map_err(failed(path, "list"))? {
            Some(entries) => Ok(entries),
            None if path.is_root() => Ok(Vec::new()),
            None => Err(Error::not_found(path)),
        }
    }

    async fn list_each(&self, paths: &[StoragePath]) -> Result<Vec<Option<Listing>>> {
        let lists = paths.iter().map(|path| async move {
            match self.list(path, None, None).await {
                Err(error) if error.is_not_found() => Ok(None),
                entries => Ok(Some(entries?.into_iter().collect())),
            }
        });
        let lists: Vec<_> = lists.collect();
        stream::iter(lists)
            .buffered(LISTED_AT_ONCE)
            .try_collect()
            .await
    }

    async fn rename(&self, from: &StoragePath, to: &StoragePath) -> Result<()> {
        self.key(from)?;
        self.key(to)?;
        let (from, to) = (from.clone(), to.clone());
        self.change(|shared| async move { shared.rename(&from, &to).await })
            .await
    }

    async fn delete(&self, path: &StoragePath) -> Result<()> {
        if path.is_root() {
            return Err(Error::Unsupported {
                driver: self.0.name,
                operation: "removing its root",
            });
        }
        let path = path.clone();
        self.change(|shared| async move { shared.delete(&path).await })
            .await
    }

    async fn discard_file(&self, path: &StoragePath) -> Result<()> {
        let (key, path) = (self.key(path)?, path.clone());
        self.change(|shared| async move {
            let deleted = shared.bucket.delete(vec![key]).await;
            deleted.map_err(failed(&path, "delete"))
        })
        .await
    }

    /// Any machine may work on the store, and none can be kept from it.
    fn claim(&self, _claim: Claim<'_>) -> Result<Option<Claimed>, ClaimError> {
        Ok(None)
    }

    async fn check(&self) -> Result<()> {
        let name = uuid::Uuid::new_v4().simple();
        let key = format!("{}{UNFINISHED}check-{name}", self.0.keys.root());
        let root = StoragePath::root();
        self.change(|shared| async move {
            let content = vec![Bytes::from_static(b"wharfinger")];
            let put = shared.bucket.put(&key, content).await;
            put.map_err(failed(&root, "write an object in it"))?;
            let deleted = shared.bucket.delete(vec![key]).await;
            deleted.map_err(failed(&root, "delete an object in it"))
        })
        .await
    }

    async fn settled(&self) {
        drop(self.0.operations.write().await);
    }

    async fn remove_leftovers(&self, older_than: Duration) -> Result<u64> {
        self.change(move |shared| async move { leftovers::remove(&shared, older_than).await })
            .await
    }

    async fn redirect_url(&self, request: RedirectRequest<'_>) -> Result<Option<String>> {
        let method = match request.method {
            "GET" => http::Method::GET,
            "HEAD" => http::Method::HEAD,
            _ => return Ok(None),
        };
        let key = self.key(request.path)?;
        let url = self.0.bucket.presigned(method, &key);
        url.await.map_err(failed(request.path, "sign"))
    }

    fn may_redirect(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
