//! What the driver does on the blocking pool: one function per operation.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open};

use super::FilesystemDriver;
use super::cached::KnownFiles;
use super::durable::DurableNames;
use super::folder::{ATTEMPTS, Folder, Temporary};
use super::journal::{Change, Journal};
use super::listing::KnownListings;
use super::output::Buffers;
use super::together::{Helpers, Target};
use super::trash::{self, Trashed};
use crate::{Durability, Error, Result, Stat, StoragePath};

/// What is to be removed, and the folder it is in.
#[derive(Debug)]
struct Found {
    folder: Folder,
    is_dir: bool,
}

/// The root folder and what is known about its content.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    pub(super) durable: DurableNames,
    pub(super) listings: KnownListings,
    pub(super) files: KnownFiles,
    pub(super) buffers: Buffers,
    pub(super) journal: Arc<Journal>,
    helpers: Helpers,
    /// What was synced, in order, for tests that count.
    #[cfg(test)]
    pub(super) synced: std::sync::Mutex<Vec<String>>,
    /// The folders that were read, in order, for tests that count.
    #[cfg(test)]
    pub(super) read: std::sync::Mutex<Vec<String>>,
}

impl Store {
    /// Makes the root folder when it is missing, looks whether it can be used, and does what a crash
    /// has left in its journal.
    pub(super) fn open(root: PathBuf, journal: bool) -> Result<Self> {
        let failed = |root: &Path, operation| {
            let root = root.to_owned();
            move |source| Error::Root {
                root,
                operation,
                source,
            }
        };
        let root = std::path::absolute(&root).map_err(failed(&root, "find it"))?;
        if !root.is_dir() {
            make_root(&root).map_err(failed(&root, "make it"))?;
        }
        fs::read_dir(&root).map_err(failed(&root, "read it"))?;
        let store = Self {
            files: KnownFiles::new(&root),
            durable: DurableNames::default(),
            listings: KnownListings::default(),
            buffers: Buffers::default(),
            journal: Journal::new(&root, journal),
            root,
            helpers: Helpers::default(),
            #[cfg(test)]
            synced: Default::default(),
            #[cfg(test)]
            read: Default::default(),
        };
        store.journal.recover(&store)?;
        Ok(store)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the path lies on this machine. It cannot lie outside the root, for a storage path
    /// has no `..`; only a link that somebody has put into the root leads out.
    pub(super) fn full(&self, path: &StoragePath) -> PathBuf {
        if path.is_root() {
            self.root.clone()
        } else {
            self.root.join(&path.as_str()[1..])
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let write = || {
            let folder = Folder::open(self, &StoragePath::root())?;
            drop(Temporary::with(&folder, b"wharfinger")?);
            Ok(())
        };
        write().map_err(|source| Error::Root {
            root: self.root.clone(),
            operation: "write a file in it",
            source,
        })
    }

    /// A file open for reading, and its size in bytes.
    pub(super) fn open_file(&self, path: &StoragePath) -> Result<(File, u64)> {
        // NONBLOCK does nothing to files and keeps a stray pipe from holding the thread.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = open(self.full(path), flags, Mode::empty());
        let file = File::from(file.map_err(|error| read_error(path, "open", error.into()))?);
        let metadata = file
            .metadata()
            .map_err(|error| Error::io(path, "stat", error))?;
        if metadata.is_file() {
            Ok((file, metadata.len()))
        } else {
            Err(Error::not_a_file(path))
        }
    }

    pub(super) fn stat(&self, path: &StoragePath) -> Result<Stat> {
        let metadata =
            fs::metadata(self.full(path)).map_err(|error| read_error(path, "stat", error))?;
        Ok(told(&metadata))
    }

    /// Waits for the device twice: for the content together with the folders that were made for
    /// it, and for the name.
    pub(super) fn put(
        &self,
        path: &StoragePath,
        content: &[u8],
        durability: Durability,
    ) -> Result<()> {
        self.retry(path, "write", || {
            let folder = Arc::new(Folder::of_file(self, path)?);
            let temporary = match Temporary::with(&folder, content) {
                Ok(temporary) => temporary,
                Err(error) => return Ok(Err(error)),
            };
            if durability == Durability::Machine {
                let content = vec![temporary.content(path)];
                self.sync_with_ways(content, self.ways_up([&*folder])?)?;
            }
            if let Err(error) = temporary.put_in_place(path.name()) {
                return Ok(Err(error));
            }
            if durability == Durability::Machine {
                self.sync(vec![Target::Folder(folder)])?;
            }
            Ok(Ok(()))
        })
    }

    /// Makes all of these survive the machine, in no order.
    pub(super) fn sync(&self, targets: Vec<Target>) -> Result<()> {
        #[cfg(test)]
        self.note_synced(&targets);
        self.helpers.sync(targets)
    }

    /// What is synced together is one line.
    #[cfg(test)]
    fn note_synced(&self, targets: &[Target]) {
        let targets: Vec<_> = targets.iter().map(Target::to_string).collect();
        let mut synced = self.synced.lock().expect("no test panics here");
        synced.push(targets.join(", "));
    }

    /// Makes what was taken out of the folder of a file survive the machine.
    pub(super) fn sync_folder_of(&self, file: &StoragePath) -> Result<()> {
        let parent = file.parent().ok_or_else(|| Error::not_a_file(file))?;
        match Folder::open(self, &parent) {
            Ok(folder) => self.sync(vec![Target::Folder(Arc::new(folder))]),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(&parent, "open", error)),
        }
    }

    /// Makes a change of the folder's entries, and the folder, survive the machine.
    pub(super) fn sync_entry(&self, folder: Folder) -> Result<()> {
        let ways = self.ways_up([&folder])?;
        self.sync_with_ways(vec![Target::Folder(Arc::new(folder))], ways)
    }

    #[cfg(test)]
    pub(super) fn note_reading(&self, path: &StoragePath) {
        let mut read = self.read.lock().expect("no test panics here");
        read.push(path.to_string());
    }

    #[cfg(not(test))]
    pub(super) fn note_reading(&self, _path: &StoragePath) {}

    pub(super) fn rename(&self, from: &StoragePath, to: &StoragePath) -> Result<()> {
        let _turn = self.journal.turn(self, &[from, to])?;
        self.journal.settle(from)?;
        self.journal.settle(to)?;
        self.rename_synced(from, to)
    }

    /// Moves a file of which there is nothing in the journal.
    pub(super) fn rename_synced(&self, from: &StoragePath, to: &StoragePath) -> Result<()> {
        self.check_file(from)?;
        let to_parent = to.parent().ok_or_else(|| Error::not_a_file(to))?;
        self.retry(to, "rename", || {
            let to_folder = Folder::open_or_make(self, &to_parent)?;
            let from_folder = match self.move_file(from, to, &to_folder)? {
                Ok(folder) => folder,
                Err(error) => return Ok(Err(error)),
            };
            // The new name first: a crash between the two must not leave the file without a name.
            self.sync_entry(to_folder)?;
            if from_folder.path != to_parent {
                self.sync(vec![Target::Folder(from_folder)])?;
            }
            Ok(Ok(()))
        })
    }

    /// That there is a file, before anything is made for it.
    pub(super) fn check_file(&self, path: &StoragePath) -> Result<()> {
        let found = fs::metadata(self.full(path));
        match found
            .map_err(|error| read_error(path, "stat", error))?
            .is_dir()
        {
            true => Err(Error::not_a_file(path)),
            false => Ok(()),
        }
    }

    /// Gives a file another name, in an open folder; the folder it was in. The inner error says
    /// that the other folder is gone, or why the file cannot be there.
    pub(super) fn move_file(
        &self,
        from: &StoragePath,
        to: &StoragePath,
        to_folder: &Folder,
    ) -> Result<io::Result<Arc<Folder>>> {
        let from_parent = from.parent().ok_or_else(|| Error::not_a_file(from))?;
        let rename = || -> io::Result<Arc<Folder>> {
            let from_folder = Folder::open(self, &from_parent)?;
            from_folder.rename(from.name(), to_folder, to.name())?;
            Ok(Arc::new(from_folder))
        };
        let renamed = rename();
        if let Err(error) = &renamed
            && error.kind() == io::ErrorKind::NotFound
        {
            // Was it the source that has gone, or the folder it was to go to?
            fs::symlink_metadata(self.full(from))
                .map_err(|error| read_error(from, "stat", error))?;
        }
        Ok(renamed)
    }

    /// Removes a file, or a folder with all below it.
    pub(super) fn delete(&self, path: &StoragePath) -> Result<()> {
        let turn = self.journal.turn(self, &[path])?;
        let found = self.find(path)?;
        let changes = [Change::Remove(path)];
        let folders = || std::iter::once(&found.folder);
        let log = turn.as_ref().and_then(|turn| {
            let log = turn.log(&changes, folders())?;
            Some((turn, log))
        });
        let trashed = match log {
            Some((turn, log)) => {
                let durable = log.commit(&changes, turn.begun);
                let durable = durable.map_err(|error| Error::io(path, "remove", error))?;
                let taken = self.take(&found, path);
                if taken.is_err() {
                    durable.forget();
                }
                taken?
            }
            None => {
                self.journal.settle(path)?;
                let trashed = self.take(&found, path)?;
                self.sync(vec![Target::Folder(Arc::new(found.folder))])?;
                trashed
            }
        };
        if let Some(trashed) = trashed {
            let removed = trashed.remove(self);
            removed.map_err(|error| Error::io(path, "remove", error))?;
        }
        Ok(())
    }

    /// Takes a file or a folder away from its place, which it may come back to after a crash. What
    /// is left of a folder is to be taken apart.
    pub(super) fn take_away(&self, path: &StoragePath) -> Result<Option<Trashed>> {
        let turn = self.journal.turn(self, &[path])?;
        let found = self.find(path)?;
        if let Some(turn) = &turn {
            turn.note_removal(path);
        }
        self.take(&found, path)
    }

    /// Looks for what is to be removed.
    fn find(&self, path: &StoragePath) -> Result<Found> {
        let Some(parent) = path.parent() else {
            return Err(Error::Unsupported {
                driver: FilesystemDriver::NAME,
                operation: "removing its root",
            });
        };
        let folder = Folder::open(self, &parent).map_err(|e| read_error(path, "open", e))?;
        let metadata = fs::symlink_metadata(self.full(path));
        let is_dir = metadata
            .map_err(|error| read_error(path, "stat", error))?
            .is_dir();
        Ok(Found { folder, is_dir })
    }

    fn take(&self, found: &Found, path: &StoragePath) -> Result<Option<Trashed>> {
        if found.is_dir {
            return trash::move_to_trash(self, &found.folder, path).map(Some);
        }
        let unlinked = found.folder.unlink(path.name());
        unlinked.map_err(|error| read_error(path, "remove", error))?;
        Ok(None)
    }

    /// Runs an operation again when its inner result says that something is not there: a removal
    /// has taken away the folder that was just opened or made.
    fn retry(
        &self,
        path: &StoragePath,
        operation: &'static str,
        mut attempt: impl FnMut() -> Result<io::Result<()>>,
    ) -> Result<()> {
        let mut attempts = 1;
        loop {
            match attempt()? {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < ATTEMPTS => {
                    attempts += 1;
                }
                result => return result.map_err(|e| self.write_error(path, operation, e)),
            }
        }
    }

    /// The error of an operation that makes something at `path`.
    pub(super) fn write_error(
        &self,
        path: &StoragePath,
        operation: &'static str,
        error: io::Error,
    ) -> Error {
        match error.kind() {
            // The second where a file was to replace the folder that it is in.
            io::ErrorKind::IsADirectory | io::ErrorKind::DirectoryNotEmpty => {
                Error::not_a_file(path)
            }
            io::ErrorKind::NotADirectory => match self.file_on_the_way(path) {
                Some(file) => Error::not_a_folder(&file),
                None => Error::io(path, operation, error),
            },
            _ => Error::io(path, operation, error),
        }
    }

    /// The uppermost part of the path that is a file and so has nothing below it.
    fn file_on_the_way(&self, path: &StoragePath) -> Option<StoragePath> {
        let mut ancestors: Vec<_> =
            std::iter::successors(Some(path.clone()), StoragePath::parent).collect();
        ancestors.reverse();
        ancestors
            .into_iter()
            .find(|path| fs::metadata(self.full(path)).is_ok_and(|metadata| !metadata.is_dir()))
    }
}

/// Makes the root folder with those above it, each durable in the one above.
fn make_root(root: &Path) -> io::Result<()> {
    let missing: Vec<_> = root.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(root)?;
    for made in missing {
        if let Some(above) = made.parent() {
            File::open(above)?.sync_all()?;
        }
    }
    Ok(())
}

/// What the kernel tells of a file or folder.
pub(super) fn told(metadata: &fs::Metadata) -> Stat {
    let is_dir = metadata.is_dir();
    Stat {
        size: if is_dir { 0 } else { metadata.len() },
        modified: metadata.modified().ok(),
        is_dir,
    }
}

/// The error of an operation that looks for something: below a file there is nothing.
pub(super) fn read_error(path: &StoragePath, operation: &'static str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::not_found(path),
        io::ErrorKind::IsADirectory => Error::not_a_file(path),
        _ => Error::io(path, operation, error),
    }
}

/// Whether both are one file.
pub(super) fn same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    a.dev() == b.dev() && a.ino() == b.ino()
}
