//! Folders: opening, making and syncing them, and the files that are not yet in place.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, mkdir, open, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::durable::NameId;
use super::store::Store;
use super::together::Target;
use crate::{Error, Result, StoragePath};

/// As Distribution makes them; the process's umask takes away from it.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);
/// As Distribution makes them; the process's umask takes away from it.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);

/// How often an operation starts again when a removal takes its folder away.
pub(super) const ATTEMPTS: usize = 64;

const TEMPORARY_PREFIX: &str = ".tmp-";
const TEMPORARY_DIGITS: usize = 32;

/// A new name for a file that is not yet in place. Distribution looks for files by their full
/// names in the folders where these appear, and so passes them over.
pub(super) fn temporary_name() -> String {
    format!("{TEMPORARY_PREFIX}{}", uuid::Uuid::new_v4().simple())
}

/// Whether a name has the form of [`temporary_name`].
pub(super) fn is_temporary_name(name: &str) -> bool {
    name.strip_prefix(TEMPORARY_PREFIX).is_some_and(|digits| {
        digits.len() == TEMPORARY_DIGITS
            && digits
                .bytes()
                .all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// An open folder. It stays the same folder even when its name goes to another.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) handle: File,
    pub(super) path: StoragePath,
}

impl Folder {
    pub(super) fn open(store: &Store, path: &StoragePath) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = open(store.full(path), flags, Mode::empty())?;
        Ok(Self {
            handle: handle.into(),
            path: path.clone(),
        })
    }

    /// The folder, made with all above it when missing.
    pub(super) fn open_or_make(store: &Store, path: &StoragePath) -> Result<Self> {
        let failed = |error| store.write_error(path, "make the folder", error);
        let mut attempt = 1;
        loop {
            match Self::open(store, path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {
                    attempt += 1;
                    make(store, path).map_err(failed)?;
                }
                result => return result.map_err(failed),
            }
        }
    }

    /// Opens the folder that a file is or will be in, and makes it where it is not there.
    ///
    /// # Errors
    /// As [`open_or_make`](Self::open_or_make); that the root is no file.
    pub(super) fn of_file(store: &Store, path: &StoragePath) -> Result<Self> {
        let parent = path.parent().ok_or_else(|| Error::not_a_file(path))?;
        Self::open_or_make(store, &parent)
    }

    /// Makes the folder's entries survive the machine.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self.handle.sync_all() {
            // Some network and user-space filesystems have nothing to sync in a folder and say so.
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::INVAL | Errno::NOTSUP)) => {
                Ok(())
            }
            result => result,
        }
    }

    /// Creates a file that must not exist yet.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(openat(&self.handle, name, flags, FILE_MODE)?.into())
    }

    pub(super) fn rename(&self, from: &str, to_folder: &Self, to: &str) -> io::Result<()> {
        Ok(renameat(&self.handle, from, &to_folder.handle, to)?)
    }

    pub(super) fn unlink(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.handle, name, AtFlags::empty())?)
    }
}

/// Makes a folder and those above it that are missing.
fn make(store: &Store, path: &StoragePath) -> io::Result<()> {
    let Some(parent) = path.parent() else {
        // The root itself was taken away while the registry runs; Distribution makes it anew.
        return std::fs::create_dir_all(store.root());
    };
    match mkdir(store.full(path), FOLDER_MODE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => {
            make(store, &parent)?;
            match mkdir(store.full(path), FOLDER_MODE) {
                // Gone again: the caller sees it when it opens the folder, and starts again.
                Ok(()) | Err(Errno::EXIST | Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// A file under a temporary name, removed unless it is put in place.
#[derive(Debug)]
pub(super) struct Temporary<'a> {
    folder: &'a Folder,
    name: String,
    pub(super) file: Arc<File>,
    in_place: bool,
}

impl<'a> Temporary<'a> {
    fn create(folder: &'a Folder) -> io::Result<Self> {
        let name = temporary_name();
        let file = Arc::new(folder.create(&name)?);
        Ok(Self {
            folder,
            name,
            file,
            in_place: false,
        })
    }

    /// With this content.
    pub(super) fn with(folder: &'a Folder, content: &[u8]) -> io::Result<Self> {
        let temporary = Self::create(folder)?;
        (&*temporary.file).write_all(content)?;
        Ok(temporary)
    }

    /// Its content, to be synced as that of the file it becomes.
    pub(super) fn content(&self, path: &StoragePath) -> Target {
        Target::Content(path.clone(), Arc::clone(&self.file))
    }

    /// Gives the file its name, replacing one that has it.
    pub(super) fn put_in_place(mut self, name: &str) -> io::Result<()> {
        self.folder.rename(&self.name, self.folder, name)?;
        self.in_place = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.in_place
            && let Err(error) = self.folder.unlink(&self.name)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.folder.path, name = self.name, %error,
                "temporary file not removed");
        }
    }
}

/// What has to be synced for folders to survive the machine, besides their own entries.
#[derive(Debug, Default)]
pub(super) struct WaysUp {
    pub(super) targets: Vec<Target>,
    /// The names that are durable when all targets are synced.
    settled: Vec<NameId>,
}

impl Store {
    /// The folders above these, as far as they are not known to survive the machine. Each of them
    /// was made before: to sync it now makes the name in it survive.
    pub(super) fn ways_up<'a>(
        &self,
        folders: impl IntoIterator<Item = &'a Folder>,
    ) -> Result<WaysUp> {
        let mut ways = WaysUp::default();
        let mut seen = HashSet::new();
        for folder in folders {
            self.add_way_up(folder, &mut ways, &mut seen)?;
        }
        Ok(ways)
    }

    fn add_way_up(
        &self,
        folder: &Folder,
        ways: &mut WaysUp,
        seen: &mut HashSet<StoragePath>,
    ) -> Result<()> {
        let (mut targets, mut settled) = (Vec::new(), Vec::new());
        let mut path = folder.path.clone();
        let mut id = self.durable.id(&path, &folder.handle);
        while let Some(above) = path.parent() {
            if id.is_some_and(|id| self.durable.contains(id)) {
                break;
            }
            let above = match Folder::open(self, &above) {
                Ok(above) => Arc::new(above),
                // Taken away meanwhile: there is no name left that could be lost.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(Error::io(&above, "open", error)),
            };
            if !seen.contains(&above.path) {
                targets.push(Target::Folder(Arc::clone(&above)));
            }
            settled.extend(id);
            id = self.durable.id(&above.path, &above.handle);
            path = above.path.clone();
        }
        seen.extend(targets.iter().map(|target| target.path().clone()));
        ways.targets.extend(targets);
        ways.settled.extend(settled);
        Ok(())
    }

    /// Syncs the ways up together with `more`.
    pub(super) fn sync_with_ways(&self, mut more: Vec<Target>, ways: WaysUp) -> Result<()> {
        more.extend(ways.targets);
        self.sync(more)?;
        // Only now: a folder is durable when all above it are.
        ways.settled
            .into_iter()
            .for_each(|id| self.durable.insert(id));
        Ok(())
    }
}
