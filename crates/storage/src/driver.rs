//! The contract every storage backend fulfils.

use std::fmt::Debug;
use std::fs::File;
use std::future::Ready;
use std::net::IpAddr;
use std::ops::Range;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{BoxFuture, Either};

use crate::{Claim, ClaimError, Claimed, Errand, Error, Listing, Result, StoragePath};

/// A file's content from some offset on, in pieces of bounded size.
pub type Reader = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// The content of a small file: at once where nobody has to wait for it, which is most often so and
/// then takes no more than the reading, or in a while.
pub type Fetch<'a> = Either<Ready<Result<Bytes>>, BoxFuture<'a, Result<Bytes>>>;

/// What is known of a file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The size in bytes; 0 for a folder.
    pub size: u64,
    /// When it was last written, where the store knows.
    pub modified: Option<SystemTime>,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// One direct child of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, a single path part.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// How a [`Writer`] starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// A new, empty file; one that exists is replaced when the writer commits or closes.
    Create,
    /// The existing file from this offset in bytes on; what lies behind the offset is dropped.
    Append {
        /// Where to go on; at most the file's size.
        at: u64,
    },
}

/// How long a write must be able to survive when it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives the machine: content, name and every new folder are synced.
    Machine,
    /// It survives the process; the machine may lose it.
    Process,
}

/// Small files that are written together: steps, each of them files with their content.
///
/// Those of one step appear in their order, without a promise which of them a crash leaves; a
/// later step's appear only when all of the earlier steps' survive the machine.
pub type Steps = Vec<Vec<(StoragePath, Bytes)>>;

/// A request that a client might be sent to the store itself for.
#[derive(Clone, Debug)]
pub struct RedirectRequest<'a> {
    /// The file that is asked for.
    pub path: &'a StoragePath,
    /// The method: `GET` or `HEAD`.
    pub method: &'a str,
    /// The media type the answer should carry.
    pub content_type: &'a str,
    /// Who asks, where that is known.
    pub client: Option<IpAddr>,
}

/// Files under paths: the contract that every backend fulfils.
///
/// Any future may be dropped at any time: the operation then has happened or not, but nothing is
/// half done that a reader could see.
#[async_trait]
pub trait Driver: Debug + Send + Sync + 'static {
    /// The driver's name, as it stands in the configuration file.
    fn name(&self) -> &'static str;

    /// Whether this is a store of objects, which has files and nothing else. Then
    ///
    /// - a path may be a file and have others below it, and no operation says that a file or a
    ///   folder is the wrong kind; only the root is known to be a folder;
    /// - a file that was closed and not committed can be looked at with [`stat`](Driver::stat) and
    ///   gone on with, and may not be readable before it is committed;
    /// - [`open`](Driver::open) has no handle for any path, and does not look;
    /// - times may be whole seconds.
    fn has_only_objects(&self) -> bool {
        false
    }

    /// The whole content of a file. For small files: it is held in memory.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind` for a folder.
    fn get<'a>(&'a self, path: &'a StoragePath) -> Fetch<'a>;

    /// Writes a small file whole, making the folders above it. A reader sees the old content or
    /// the new, never a part; with [`Durability::Machine`] also after a crash of the machine,
    /// which with [`Durability::Process`] may leave the file old, new, missing or damaged.
    ///
    /// # Errors
    /// `WrongKind` when the path is a folder, or a part above it a file.
    async fn put(&self, path: &StoragePath, content: Bytes, durability: Durability) -> Result<()>;

    /// Writes small files step by step, each as [`put`](Self::put) does with
    /// [`Durability::Machine`]. A store overrides this where it can save work: what must be
    /// ordered are the names, while the contents may become durable all at once before.
    ///
    /// # Errors
    /// As `put`; some of the files may have been written then, but none of a step behind that of
    /// the file that failed.
    async fn put_all(&self, steps: Steps) -> Result<()> {
        for (path, content) in steps.into_iter().flatten() {
            self.put(&path, content, Durability::Machine).await?;
        }
        Ok(())
    }

    /// Moves a file whose content survives the machine, replacing one that has the new path, and
    /// then writes small files step by step: as [`rename`](Self::rename) and
    /// [`put_all`](Self::put_all) do one after the other. A store overrides this where it can save
    /// work: what is moved must be durable only before the first step's files appear.
    ///
    /// # Errors
    /// As `rename` and `put_all`; the file may have been moved then.
    async fn move_and_put_all(
        &self,
        from: &StoragePath,
        to: &StoragePath,
        steps: Steps,
    ) -> Result<()> {
        self.rename(from, to).await?;
        self.put_all(steps).await
    }

    /// The content of a file from `offset` (in bytes) on.
    ///
    /// # Errors
    /// `NotFound`; `InvalidOffset` beyond the end (the end itself gives an empty stream);
    /// `WrongKind` for a folder.
    async fn reader(&self, path: &StoragePath, offset: u64) -> Result<Reader>;

    /// The content of a part of a file, in bytes, for which a store may send no more than that; the
    /// reader may go on behind the part's end.
    ///
    /// # Errors
    /// As [`reader`](Driver::reader) from the part's start on.
    async fn range_reader(&self, path: &StoragePath, range: Range<u64>) -> Result<Reader> {
        self.reader(path, range.start).await
    }

    /// An open handle of the file, where files are local: the serving path reads from it without
    /// the driver. `None` where they are not.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind` for a folder.
    async fn open(&self, path: &StoragePath) -> Result<Option<File>>;

    /// A writer for a file of any size, making the folders above it.
    ///
    /// A path has one writer: opening another ends the earlier one, whose operations then fail.
    /// So bytes of an abandoned request never land in a file that a later request goes on with.
    ///
    /// # Errors
    /// `WrongKind` when the path is a folder, or with [`WriteMode::Create`] a part above it a file.
    /// With [`WriteMode::Append`], `NotFound` when there is no file and `InvalidOffset` when it is
    /// shorter than the offset.
    async fn writer(&self, path: &StoragePath, mode: WriteMode) -> Result<Box<dyn Writer>>;

    /// What is known of a file or folder.
    ///
    /// # Errors
    /// `NotFound`.
    async fn stat(&self, path: &StoragePath) -> Result<Stat>;

    /// The size of a file in bytes, for which a store may have to look less closely than for
    /// [`stat`](Driver::stat). A file that was closed and not committed may count as missing.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind` for a folder.
    async fn file_size(&self, path: &StoragePath) -> Result<u64> {
        match self.stat(path).await? {
            stat if stat.is_dir => Err(Error::not_a_file(path)),
            stat => Ok(stat.size),
        }
    }

    /// The direct children of a folder in the order of their names' bytes, those that sort behind
    /// `after` only, `limit` at the most. Names that are no valid path part are left out.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind` for a file.
    async fn list(
        &self,
        path: &StoragePath,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<Entry>>;

    /// The direct children of several folders, each as [`list`](Self::list) gives all of them,
    /// or `None` for a folder that is not there.
    ///
    /// # Errors
    /// `WrongKind` for a file.
    async fn list_each(&self, paths: &[StoragePath]) -> Result<Vec<Option<Listing>>> {
        let mut listed = Vec::with_capacity(paths.len());
        for path in paths {
            listed.push(match self.list(path, None, None).await {
                Err(error) if error.is_not_found() => None,
                entries => Some(entries?.into_iter().collect()),
            });
        }
        Ok(listed)
    }

    /// Moves a file, replacing one that is there, atomically, and makes the folders above its new
    /// place. On return the move survives the machine; the content does if it did before.
    ///
    /// # Errors
    /// `NotFound` when there is nothing at `from`; `WrongKind` when either is a folder, or a part
    /// above `to` a file.
    async fn rename(&self, from: &StoragePath, to: &StoragePath) -> Result<()>;

    /// Removes a file, or a folder with all below it. A path that merely starts with the same
    /// letters stays. On return the removal survives the machine.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` for the root.
    async fn delete(&self, path: &StoragePath) -> Result<()>;

    /// Removes as [`delete`](Self::delete) does, but a crash of the machine may bring back what
    /// was removed: for what nobody is promised to be gone.
    ///
    /// # Errors
    /// As `delete`.
    async fn discard(&self, path: &StoragePath) -> Result<()> {
        self.delete(path).await
    }

    /// Removes a file that is there, or was there, and of which nothing is unfinished, as
    /// [`discard`](Self::discard) does: a store need not look first.
    ///
    /// # Errors
    /// When it cannot be removed. That it is not there is no error.
    async fn discard_file(&self, path: &StoragePath) -> Result<()> {
        match self.discard(path).await {
            Err(error) if error.is_not_found() => Ok(()),
            discarded => discarded,
        }
    }

    /// Removes a folder if nothing is in it; gives whether it did. Who puts something into it at the
    /// same time loses nothing: it stays, or is made again. Where there are only objects, no folder
    /// is empty.
    ///
    /// # Errors
    /// When it cannot be removed. That it is not there, or is a file, is no error.
    async fn remove_empty(&self, _path: &StoragePath) -> Result<bool> {
        Ok(false)
    }

    /// Says how this process works on the store, as long as what is returned is kept. It binds
    /// only those that say so too. `None` where no other process can work on the store, and where
    /// others cannot be kept from it.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when others' claims are in the way.
    fn claim(&self, claim: Claim<'_>) -> Result<Option<Claimed>, ClaimError>;

    /// Leave for work that will make many calls in a row to make them on one thread of its own,
    /// which may wait ([`spawn_errand`](crate::spawn_errand)). `None` where calls do not keep a
    /// thread waiting, and where too many do already.
    fn errand(&self) -> Option<Errand> {
        None
    }

    /// Writes something and removes it again, to tell whether the store can be written to.
    ///
    /// # Errors
    /// What keeps it from being written to.
    async fn check(&self) -> Result<()>;

    /// Ready when all operations that were begun before have ended, those too whose futures have
    /// been dropped: nothing of them reaches the store afterwards. What they made survive the machine
    /// does so then for other programs, too.
    async fn settled(&self);

    /// Removes what writes cut short by a crash have left behind and no listing shows, where it is
    /// older than `older_than`; gives how much that was. It may read every folder of the store.
    ///
    /// # Errors
    /// When something cannot be looked at or removed.
    async fn remove_leftovers(&self, older_than: Duration) -> Result<u64>;

    /// Where the store itself serves this request, or `None` where it cannot.
    ///
    /// # Errors
    /// Any that signing meets.
    async fn redirect_url(&self, _request: RedirectRequest<'_>) -> Result<Option<String>> {
        Ok(None)
    }

    /// Whether [`redirect_url`](Driver::redirect_url) may ever give an address. Where it cannot,
    /// downloads need not ask.
    fn may_redirect(&self) -> bool {
        false
    }
}

/// A file being written. Dropping it without [`close`](Writer::close),
/// [`commit`](Writer::commit) or [`cancel`](Writer::cancel) keeps whatever the store has by then.
#[async_trait]
pub trait Writer: Debug + Send + Sync {
    /// Appends buffers, in order, without copying them where the store allows.
    ///
    /// # Errors
    /// After an error the writer is good only for `cancel`.
    async fn write(&mut self, buffers: Vec<Bytes>) -> Result<()>;

    /// The file's size so far in bytes, counting what was there before.
    fn size(&self) -> u64;

    /// Ends this writer so that another may append later; what was written survives the machine.
    ///
    /// # Errors
    /// The file then has at least what was durable before.
    async fn close(self: Box<Self>) -> Result<()>;

    /// Ends the file: all of it survives the machine and can be read, moved and replaced.
    ///
    /// # Errors
    /// The file then may be missing or short, and must not be relied on.
    async fn commit(self: Box<Self>) -> Result<()>;

    /// Gives the file up and removes it. A file that [`WriteMode::Create`] would have replaced
    /// stays as it was.
    ///
    /// # Errors
    /// The file may remain.
    async fn cancel(self: Box<Self>) -> Result<()>;
}
