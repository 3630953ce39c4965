//! The driver that keeps files in a folder of this machine.
//!
//! A storage path is the path of a file below the root folder, so that a folder written by CNCF
//! Distribution is read as it is, and the reverse. Three kinds of names are ours besides, and no
//! listing shows them: `.tmp-` and 32 hexadecimal digits beside a file that is being written, and in
//! the root `.wharfinger-trash`, where folders go before they are taken apart, and
//! `.wharfinger-journal`, in which small changes become durable first.
//!
//! Every operation is one hop to tokio's blocking pool, which runs to its end even when the
//! future that waits for it is dropped; only what is in memory is looked at on the spot: a small file,
//! a folder whose listing is known, a file's size. An errand has made its hop before all that, and its
//! operations run where it is.

mod batch;
mod cached;
mod claim;
mod durable;
mod folder;
mod journal;
mod journaled;
mod listing;
mod output;
mod reader;
mod stamp;
mod store;
mod together;
mod trash;
mod writer;

use std::fs::File;
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tracing::warn;

use self::batch::Moved;
pub use self::claim::{Claim, ClaimError, Claimed};
use self::store::Store;
use self::writer::WriterSlots;
use crate::{
    Driver, Durability, Entry, Errand, Error, Fetch, Listing, Reader, Result, Stat, Steps,
    StoragePath, WriteMode, Writer,
};

/// The names in the root that are none of the store's files.
const OURS: [&str; 2] = [trash::TRASH, journal::JOURNAL];

/// How many folders at the most are looked at on the spot. To look at one in a way that never waits
/// takes three times as long as on a thread that may; from here on that is more than the hop.
const LOOKED_AT_ON_THE_SPOT: usize = 8;

/// How many errands there are at once at the most: a quarter of the threads that tokio has for what
/// waits, so that there is one for whoever they wait for, however many the driver may use.
const MOST_ERRANDS: usize = 128;

/// Where a [`FilesystemDriver`] keeps its files, and how many threads it may use.
#[derive(Clone, Debug)]
pub struct FilesystemOptions {
    /// The root folder; made when missing. `rootdirectory` in the configuration file.
    pub root: PathBuf,
    /// How many operations may be at work at once; the others wait. `maxthreads` in the
    /// configuration file. Less than [`MIN_MAX_THREADS`](Self::MIN_MAX_THREADS) counts as that.
    pub max_threads: usize,
    /// Whether small changes become durable together, by way of a journal in the root, where the
    /// root's filesystem is one of this machine's own. `journal` in the configuration file.
    pub journal: bool,
}

impl FilesystemOptions {
    /// The `maxthreads` of a configuration that names none.
    pub const DEFAULT_MAX_THREADS: usize = 100;
    /// The least `maxthreads` there is.
    pub const MIN_MAX_THREADS: usize = 25;

    /// The defaults with this root folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            max_threads: Self::DEFAULT_MAX_THREADS,
            journal: true,
        }
    }
}

/// Keeps files in a folder of this machine. Cheap to clone: clones are one driver.
#[derive(Clone, Debug)]
pub struct FilesystemDriver {
    store: Arc<Store>,
    threads: Arc<Semaphore>,
    /// How many of them there are.
    max_threads: u32,
    /// Those who wait for something else than the disk on a thread of theirs must not keep it from
    /// whoever they wait for: they have leave of their own.
    errands: Arc<Semaphore>,
    writers: Arc<WriterSlots>,
}

impl FilesystemDriver {
    /// The driver's name in the configuration file.
    pub const NAME: &'static str = "filesystem";

    /// A driver on the root folder, which is made, with those above it, when it is missing.
    /// Blocks for as long as the filesystem takes.
    ///
    /// A folder that cannot be written to is accepted, for a registry may serve from it; see
    /// [`check`](Driver::check).
    ///
    /// # Errors
    /// [`Error::Root`] when the root cannot be made or read, or is not a folder, and when what a crash
    /// has left in its journal cannot be done.
    pub fn new(options: FilesystemOptions) -> Result<Self> {
        let store = Arc::new(Store::open(options.root, options.journal)?);
        trash::empty_at_start(&store);
        let max_threads = options.max_threads.max(FilesystemOptions::MIN_MAX_THREADS);
        // No machine has more.
        let max_threads = u32::try_from(max_threads).unwrap_or(u32::MAX);
        Ok(Self {
            store,
            threads: Arc::new(Semaphore::new(max_threads as usize)),
            max_threads,
            errands: Arc::new(Semaphore::new(MOST_ERRANDS.min(max_threads as usize))),
            writers: Arc::default(),
        })
    }

    /// The root folder, absolute.
    pub fn root(&self) -> &Path {
        self.store.root()
    }

    /// Runs `work` on the blocking pool, or right here on an errand, when a thread may be used.
    async fn hop<T: Send + 'static>(
        &self,
        path: &StoragePath,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.permit().await;
        if Errand::is_here() {
            return run(permit, || work(&self.store));
        }
        let store = Arc::clone(&self.store);
        joined(
            path,
            spawn_blocking(move || run(permit, || work(&store))).await,
        )
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.threads)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }
}

/// Does `work` and only then lets the next operation have the thread.
fn run<T>(permit: OwnedSemaphorePermit, work: impl FnOnce() -> T) -> T {
    let result = work();
    drop(permit);
    result
}

/// The result of a hop; a panic goes on in the caller.
fn joined<T>(path: &StoragePath, result: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    match result {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Error::io(path, "start", io::Error::other(error))),
    }
}

#[async_trait]
impl Driver for FilesystemDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn get<'a>(&'a self, path: &'a StoragePath) -> Fetch<'a> {
        if let Some(content) = cached::get(&self.store, path) {
            return Fetch::Left(ready(content));
        }
        let wanted = path.clone();
        let read = self.hop(path, move |store| cached::read(store, &wanted));
        Fetch::Right(Box::pin(read))
    }

    async fn put(&self, path: &StoragePath, content: Bytes, durability: Durability) -> Result<()> {
        let wanted = path.clone();
        self.hop(path, move |store| match durability {
            Durability::Machine => batch::put_all(store, None, &vec![vec![(wanted, content)]]),
            Durability::Process => store.put(&wanted, &content, durability),
        })
        .await
    }

    async fn put_all(&self, steps: Steps) -> Result<()> {
        self.hop(&StoragePath::root(), move |store| {
            batch::put_all(store, None, &steps)
        })
        .await
    }

    async fn move_and_put_all(
        &self,
        from: &StoragePath,
        to: &StoragePath,
        steps: Steps,
    ) -> Result<()> {
        let (moved_from, to) = (from.clone(), to.clone());
        self.hop(from, move |store| {
            let from = moved_from;
            batch::put_all(store, Some(&Moved { from, to }), &steps)
        })
        .await
    }

    async fn reader(&self, path: &StoragePath, offset: u64) -> Result<Reader> {
        reader::open(self, path, offset).await
    }

    async fn open(&self, path: &StoragePath) -> Result<Option<File>> {
        let wanted = path.clone();
        self.hop(path, move |store| Ok(Some(store.open_file(&wanted)?.0)))
            .await
    }

    async fn writer(&self, path: &StoragePath, mode: WriteMode) -> Result<Box<dyn Writer>> {
        Ok(Box::new(writer::open(self, path, mode).await?))
    }

    async fn stat(&self, path: &StoragePath) -> Result<Stat> {
        if !Errand::is_here()
            && let Some(stat) = cached::look(&self.store, path)
        {
            return stat;
        }
        let wanted = path.clone();
        self.hop(path, move |store| store.stat(&wanted)).await
    }

    async fn list(
        &self,
        path: &StoragePath,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<Entry>> {
        if let Some(listing) = listing::known(&self.store, path) {
            return Ok(listing::part(&listing, after, limit));
        }
        let wanted = path.clone();
        let after = after.map(str::to_owned);
        self.hop(path, move |store| {
            listing::list(store, &wanted, after.as_deref(), limit)
        })
        .await
    }

    async fn list_each(&self, paths: &[StoragePath]) -> Result<Vec<Option<Listing>>> {
        if paths.len() <= LOOKED_AT_ON_THE_SPOT {
            let known = paths.iter().map(|path| listing::known(&self.store, path));
            if let Some(listed) = known.map(|listing| listing.map(Some)).collect() {
                return Ok(listed);
            }
        }
        let paths = paths.to_vec();
        self.hop(&StoragePath::root(), move |store| {
            listing::list_each(store, &paths)
        })
        .await
    }

    async fn rename(&self, from: &StoragePath, to: &StoragePath) -> Result<()> {
        let (source, target) = (from.clone(), to.clone());
        self.hop(from, move |store| store.rename(&source, &target))
            .await
    }

    async fn delete(&self, path: &StoragePath) -> Result<()> {
        let wanted = path.clone();
        self.hop(path, move |store| store.delete(&wanted)).await
    }

    async fn discard(&self, path: &StoragePath) -> Result<()> {
        let (wanted, taken) = (path.clone(), path.clone());
        let hop = self.hop(path, move |store| store.take_away(&wanted));
        if let Some(trashed) = hop.await? {
            // It is gone for everybody, and nobody has to wait until it is taken apart.
            let (store, permit) = (Arc::clone(&self.store), self.permit().await);
            spawn_blocking(move || {
                if let Err(error) = run(permit, || trashed.remove(&store)) {
                    warn!(path = %taken, %error, "what was removed is not taken apart yet");
                }
            });
        }
        Ok(())
    }

    async fn remove_empty(&self, path: &StoragePath) -> Result<bool> {
        let wanted = path.clone();
        self.hop(path, move |store| trash::remove_empty(store, &wanted))
            .await
    }

    fn claim(&self, claim: Claim<'_>) -> Result<Option<Claimed>, ClaimError> {
        claim::claim(self.root(), claim).map(Some)
    }

    fn errand(&self) -> Option<Errand> {
        Errand::one_of(&self.errands)
    }

    async fn check(&self) -> Result<()> {
        self.hop(&StoragePath::root(), Store::check).await
    }

    async fn settled(&self) {
        // Each operation has a thread until it ends, and threads are had in the order of asking.
        let all = self.threads.acquire_many(self.max_threads).await;
        drop(all.expect("the semaphore is never closed"));
        let store = Arc::clone(&self.store);
        let left = spawn_blocking(move || store.journal.leave()).await;
        if let Err(error) = left
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    async fn remove_leftovers(&self, older_than: Duration) -> Result<u64> {
        self.hop(&StoragePath::root(), move |store| {
            trash::remove_leftovers(store, older_than)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
