//! The folder of certificates and keys: a file for each name, its key and chain as PEM, as Go's
//! autocert keeps them, so that Distribution can go on with what is there, and the reverse.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::super::error::{TlsError, TlsPart};

/// Held by the process that asks the authority for something. It is ours: autocert has no such file.
const LOCK: &str = ".wharfinger-lock";

#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The folder, which is made when it is missing.
    ///
    /// # Errors
    /// When it is none, or nothing can be written to it.
    pub(super) fn open(folder: &Path) -> Result<Self, TlsError> {
        let unusable = |reason: String| TlsPart::Cache.unusable(folder, reason);
        if folder.is_file() {
            return Err(unusable("this is a file; it must be a folder".to_owned()));
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| unusable(error.to_string()))?;
        let cache = Self {
            folder: folder.to_owned(),
        };
        let lock = cache.lock_file();
        lock.map_err(|error| unusable(format!("nothing can be written to it: {error}")))?;
        Ok(cache)
    }

    fn lock_file(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.open(self.folder.join(LOCK))
    }

    /// A turn at asking the authority, which ends when it is dropped; `None` while another process
    /// has it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// A file; `None` when there is none.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Writes a file, for the owner alone. Whoever reads it meanwhile finds the old one or the new
    /// one, also after a crash.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = self
            .folder
            .join(format!("{name}.{}", Uuid::new_v4().simple()));
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, self.folder.join(name))?;
            File::open(&self.folder)?.sync_all()
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) {
        // What stays is overwritten by the next one.
        let _ = fs::remove_file(self.folder.join(name));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_for_the_owner_alone_and_nothing_else_is_touched() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("a/b");
        let cache = Cache::open(&folder).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        fs::write(folder.join("other"), "x").unwrap();
        cache.write("a.example", b"1").unwrap();
        cache.write("a.example", b"2").unwrap();
        assert_eq!(mode(&folder.join("a.example")), 0o600);
        assert_eq!(cache.read("a.example").unwrap().unwrap(), b"2");
        assert_eq!(cache.read("b.example").unwrap(), None);
        cache.remove("a.example");
        cache.remove("a.example");
        let mut left: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, [LOCK, "other"]);
    }

    #[test]
    fn one_at_a_time_asks() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = [(); 2].map(|()| Cache::open(folder.path()).unwrap());
        let turn = one.lock().unwrap();
        assert!(turn.is_some());
        assert!(other.lock().unwrap().is_none());
        drop(turn);
        assert!(other.lock().unwrap().is_some());
    }

    #[test]
    fn a_file_is_no_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Cache::open(file.path()).unwrap_err();
        assert_eq!(error.part, TlsPart::Cache);
        assert!(error.reason.contains("must be a folder"), "{error}");
    }
}
