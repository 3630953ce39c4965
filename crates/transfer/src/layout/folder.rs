//! A layout in a folder, to which only what is new is written.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use tokio::task::spawn_blocking;
use wharfinger_oci::{Algorithm, Digest, Hasher};

use super::{INDEX, Index, MARKER, MARKER_CONTENT, blob_path};
use crate::endpoint::Blob;
use crate::error::Problem;
use crate::{Error, Fault, Result};

/// Where blobs are until they are whole. What a killed export leaves there goes with the next one.
const UNFINISHED: &str = ".unfinished";

/// A folder that is exported to.
#[derive(Debug)]
pub(crate) struct FolderSink {
    root: Arc<PathBuf>,
    /// The name of the next unfinished blob.
    next: AtomicU64,
    /// Locked, so that no other export is at work here, nor what goes on of one that was dropped.
    marker: Arc<File>,
}

impl FolderSink {
    /// Opens a folder, or makes it.
    ///
    /// # Errors
    /// When there is something else in it, or another export is at work on it.
    pub(crate) async fn open(root: &Path) -> Result<Self> {
        let root = root.to_owned();
        blocking(move || Self::open_now(root)).await
    }

    fn open_now(root: PathBuf) -> Result<Self> {
        let refuse = |reason| {
            Err(Error::Destination {
                path: root.clone(),
                reason,
            })
        };
        if !root.join(MARKER).exists() {
            fs::create_dir_all(&root).map_err(Error::io(&root, "make"))?;
            if !is_empty(&root)? {
                return refuse("it is neither empty nor an image layout");
            }
            replace(&root, MARKER, MARKER_CONTENT)?;
        }
        for algorithm in Algorithm::ALL {
            let folder = root.join("blobs").join(algorithm.as_str());
            fs::create_dir_all(&folder).map_err(Error::io(&folder, "make"))?;
        }
        let path = root.join(MARKER);
        let marker = File::open(&path).map_err(Error::io(&path, "open"))?;
        match marker.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return refuse("another export writes to it"),
            Err(TryLockError::Error(error)) => return Err(Error::io(&path, "lock")(error)),
        }
        let path = root.join(INDEX);
        match fs::read(&path) {
            Ok(bytes) => {
                let index: Result<Index, _> = serde_json::from_slice(&bytes);
                if !index.is_ok_and(|index| index.is_of_an_export()) {
                    return refuse(
                        "it is an image layout that no export wrote; its images would be lost",
                    );
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(path, "read")(error)),
        }
        let unfinished = root.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(unfinished, "remove")(error));
            }
            _ => {}
        }
        fs::create_dir(&unfinished).map_err(Error::io(&unfinished, "make"))?;
        Ok(Self {
            root: Arc::new(root),
            next: AtomicU64::new(0),
            marker: Arc::new(marker),
        })
    }

    /// Whether a blob is there, whole: only whole ones have their names.
    pub(crate) async fn has(&self, digest: &Digest, size: u64) -> Result<bool> {
        let path = self.root.join(blob_path(digest));
        blocking(move || match fs::symlink_metadata(&path) {
            Ok(found) => Ok(found.is_file() && found.len() == size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(path, "look at")(error)),
        })
        .await
    }

    /// Writes a blob, and gives it its name when all of it is on the disk.
    pub(crate) async fn blob(&self, mut blob: Blob<'_>) -> Result<(), Problem> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(UNFINISHED).join(number.to_string());
        let algorithm = blob.digest.algorithm();
        let marker = Arc::clone(&self.marker);
        let mut unfinished = blocking(move || Unfinished::create(path, algorithm, marker)).await?;
        while let Some(piece) = blob.pieces.next().await {
            // What is unfinished goes when it is dropped.
            let bytes = piece?;
            let length = bytes.len() as u64;
            unfinished = blocking(move || {
                unfinished.write(&bytes)?;
                Ok(unfinished)
            })
            .await?;
            (blob.told)(length);
        }
        let digest = blob.digest;
        let root = Arc::clone(&self.root);
        let actual = blocking(move || unfinished.finish(&digest, &root)).await?;
        match actual == digest {
            true => Ok(()),
            false => Err(Problem::Fault(Fault::Digest {
                place: blob.place,
                expected: digest,
                actual,
            })),
        }
    }

    /// Puts the index in its place, when all else is on the disk; then removes the blobs that are
    /// not needed, where it is said which are, and gives how many.
    pub(crate) async fn finish(
        self,
        index: Vec<u8>,
        needed: Option<HashSet<Digest>>,
    ) -> Result<u64> {
        let Self { root, marker, .. } = self;
        blocking(move || {
            // Locked until all of it is done.
            let _marker = marker;
            for algorithm in Algorithm::ALL {
                sync_folder(&root.join("blobs").join(algorithm.as_str()))?;
            }
            sync_folder(&root.join("blobs"))?;
            replace(&root, INDEX, &index)?;
            let unfinished = root.join(UNFINISHED);
            fs::remove_dir_all(&unfinished).map_err(Error::io(unfinished, "remove"))?;
            match needed {
                Some(needed) => prune(&root, &needed),
                None => Ok(0),
            }
        })
        .await
    }
}

/// A blob that is being written.
#[derive(Debug)]
struct Unfinished {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    _marker: Arc<File>,
}

impl Unfinished {
    fn create(path: PathBuf, algorithm: Algorithm, marker: Arc<File>) -> Result<Self> {
        let file = File::create_new(&path).map_err(Error::io(&path, "make"))?;
        let hasher = Hasher::new(algorithm);
        Ok(Self {
            path,
            file,
            hasher,
            _marker: marker,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        let written = self.file.write_all(bytes);
        written.map_err(Error::io(&self.path, "write"))
    }

    /// Gives it its place if it has the digest; gives the digest that it has.
    fn finish(self, expected: &Digest, root: &Path) -> Result<Digest> {
        let actual = self.hasher.clone().finish();
        if actual == *expected {
            let synced = self.file.sync_all();
            synced.map_err(Error::io(&self.path, "sync"))?;
            let place = root.join(blob_path(expected));
            fs::rename(&self.path, &place).map_err(Error::io(place, "rename to"))?;
        }
        Ok(actual)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is not there any more when it has got its place.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_empty(folder: &Path) -> Result<bool> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder, "list"))?;
    // What a killed export of ours may have left, and what file systems have in their roots.
    let is_nothing = |name: &OsStr| name == temporary(MARKER).as_str() || name == "lost+found";
    let mut entries = entries.map(|entry| entry.map(|entry| is_nothing(&entry.file_name())));
    entries
        .try_fold(true, |all, one| Ok(all && one?))
        .map_err(Error::io(folder, "list"))
}

/// Replaces a small file of a folder: after a crash it is the old or the new one.
fn replace(folder: &Path, name: &str, content: &[u8]) -> Result<()> {
    let temporary = folder.join(temporary(name));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, folder.join(name))
    };
    write().map_err(Error::io(folder.join(name), "write"))?;
    sync_folder(folder)
}

fn temporary(name: &str) -> String {
    format!(".{name}")
}

fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(Error::io(folder, "sync"))
}

fn prune(root: &Path, needed: &HashSet<Digest>) -> Result<u64> {
    let mut pruned = 0;
    for algorithm in Algorithm::ALL {
        let folder = root.join("blobs").join(algorithm.as_str());
        for entry in fs::read_dir(&folder).map_err(Error::io(&folder, "list"))? {
            let entry = entry.map_err(Error::io(&folder, "list"))?;
            let name = entry.file_name();
            let digest = name.to_str().map(|hex| Digest::from_hex(algorithm, hex));
            if let Some(Ok(digest)) = digest
                && !needed.contains(&digest)
            {
                fs::remove_file(entry.path()).map_err(Error::io(entry.path(), "remove"))?;
                pruned += 1;
            }
        }
    }
    Ok(pruned)
}

/// Runs what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::source("a thread", error)),
    }
}
