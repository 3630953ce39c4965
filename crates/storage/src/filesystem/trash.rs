//! Removing folders, and what a crash has left behind.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::OURS;
use super::folder::{ATTEMPTS, Folder, is_temporary_name, temporary_name};
use super::store::{Store, read_error};
use crate::{Error, Result, StoragePath};

/// The folder in the root where folders go to be taken apart. It lies in the root because
/// Distribution, which may serve the same folder later, lists everything below `docker` but not
/// the root: a folder left beside a tag would look like a tag to it.
pub(super) const TRASH: &str = ".wharfinger-trash";

/// What was moved away from its place, so that nobody sees a part of it, and is still to be taken
/// apart. A crash leaves it to the next start.
#[derive(Debug)]
pub(super) struct Trashed {
    gone: PathBuf,
}

impl Trashed {
    /// Takes it apart.
    pub(super) fn remove(self, store: &Store) -> io::Result<()> {
        remove_all(&self.gone)?;
        // Stays where another removal is at work.
        let _ = fs::remove_dir(store.root().join(TRASH));
        Ok(())
    }
}

/// Takes a folder away from its place, all of it at once.
pub(super) fn move_to_trash(store: &Store, parent: &Folder, path: &StoragePath) -> Result<Trashed> {
    let trash = &store.root().join(TRASH);
    let name = temporary_name();
    let mut attempts = 1;
    loop {
        let failed = |error| Error::io(path, "remove", error);
        match fs::create_dir(trash) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        let place = trash.join(&name);
        match fs::rename(store.full(path), &place) {
            Ok(()) => return Ok(Trashed { gone: place }),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                // Behind a link into another filesystem only a place beside it will do.
                let _ = fs::remove_dir(trash);
                parent.rename(path.name(), parent, &name).map_err(failed)?;
                let gone = store.full(&parent.path).join(&name);
                return Ok(Trashed { gone });
            }
            // The trash goes away with the last removal in it.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && attempts < ATTEMPTS
                    && fs::symlink_metadata(store.full(path)).is_ok() =>
            {
                attempts += 1;
            }
            Err(error) => return Err(read_error(path, "remove", error)),
        }
    }
}

/// Removes a folder with all below it, or a file.
fn remove_all(path: &Path) -> io::Result<()> {
    let mut attempts = 1;
    loop {
        match fs::remove_dir_all(path) {
            // A write that had opened the folder before it went to the trash has put its file.
            Err(error)
                if error.kind() == io::ErrorKind::DirectoryNotEmpty && attempts < ATTEMPTS =>
            {
                attempts += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return fs::remove_file(path);
            }
            result => return result,
        }
    }
}

/// Removes a folder if it is empty, which the system finds out and does in one step. A crash may
/// bring it back.
pub(super) fn remove_empty(store: &Store, path: &StoragePath) -> Result<bool> {
    if path.is_root() {
        return Ok(false);
    }
    match fs::remove_dir(store.full(path)) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory => Ok(false),
            _ => Err(Error::io(path, "remove", error)),
        },
    }
}

/// Takes apart what removals cut short by a crash have left in the trash. On a thread of its
/// own, because it may be much and nothing waits for it.
pub(super) fn empty_at_start(store: &Arc<Store>) {
    let trash = store.root().join(TRASH);
    if !trash.is_dir() {
        return;
    }
    std::thread::spawn(move || {
        // Entry by entry: a removal that has just begun needs the trash itself to stay.
        for entry in fs::read_dir(&trash).into_iter().flatten().flatten() {
            if let Err(error) = remove_all(&entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "trash not removed");
            }
        }
        let _ = fs::remove_dir(&trash);
    });
}

/// Removes temporary files and folders below the root that are older than `older_than`.
pub(super) fn remove_leftovers(store: &Store, older_than: Duration) -> Result<u64> {
    let mut removed = 0;
    let mut folders = vec![StoragePath::root()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(store.full(&folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(&folder, "list", error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| Error::io(&folder, "list", error))?;
            let Some(path) = entry
                .file_name()
                .to_str()
                .and_then(|name| folder.join(name).ok())
            else {
                continue;
            };
            if is_temporary_name(path.name()) {
                if is_older(&entry, older_than) {
                    remove_all(&entry.path()).map_err(|e| Error::io(&path, "remove", e))?;
                    removed += 1;
                }
            } else if !OURS.contains(&&path.as_str()[1..])
                && entry.file_type().is_ok_and(|t| t.is_dir())
            {
                folders.push(path);
            }
        }
    }
    Ok(removed)
}

fn is_older(entry: &DirEntry, than: Duration) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age >= than))
}
