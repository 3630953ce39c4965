//! Reading small files, of which most were read a moment ago: links above all.
//!
//! Whoever asks for one waits for no other thread where that can be helped: to hand the reading over
//! costs more than the reading.
//!
//! - What was read within the last second is *kept*, and given again when the kernel says that the
//!   file at that path is still the one that was read, as it was. To ask takes half as long as to
//!   open, read and close.
//! - Linux can be asked to open a file and to read from it only if it need not wait. Whatever it
//!   cannot answer so is read on a thread that may wait.
//!
//! That a file is as it was is known as for [listings](super::listing): by its times, if these were
//! settled before it was opened, and are those of this machine's kernel. The way to a file that was
//! looked at a second ago is in the kernel's memory, so that asking does not wait either.

use std::ffi::CString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quick_cache::sync::Cache;
use rustix::fs::{Stat, fstat, stat};

use super::stamp::{self, FileId, Time, Times, identify};
use super::store::{Store, told};
use crate::{Error, Result, StoragePath};

/// The largest file that is read on the spot, in bytes: more would keep other requests waiting.
#[cfg(target_os = "linux")]
const MAX: usize = 4096;

/// The largest file that is kept, in bytes: links are shorter.
const LARGEST_KEPT: u64 = 256;

/// How many files are kept at the most.
const CAPACITY: usize = 1024;

/// For how long a file is kept. So a file is read anew now and then, whatever became of it and of its
/// filesystem.
const LIFE: Duration = Duration::from_secs(1);

/// What is kept of a small file.
#[derive(Debug)]
struct Known {
    full: CString,
    stamp: Stamp,
    content: Bytes,
    until: Instant,
}

/// What a look at a file tells of its content.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    id: FileId,
    times: Times,
    /// In bytes.
    size: u64,
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        let (id, times) = identify(stat);
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        Self { id, times, size }
    }
}

/// The files that are kept.
#[derive(Debug)]
pub(super) struct KnownFiles {
    kept: Cache<StoragePath, Arc<Known>>,
    /// The device that files must lie on: the root's, when its times can be trusted.
    device: Option<u64>,
}

impl KnownFiles {
    pub(super) fn new(root: &Path) -> Self {
        let device = File::open(root).ok().filter(stamp::is_local);
        let device = device.and_then(|root| fstat(root).ok());
        Self {
            kept: Cache::new(CAPACITY),
            device: device.map(|stat| identify(&stat).0.device),
        }
    }

    /// The file's content, when it is kept and true.
    fn get(&self, path: &StoragePath) -> Option<Bytes> {
        let known = self.kept.get(path)?;
        let holds = Instant::now() < known.until;
        let is_so = holds && stat(&*known.full).is_ok_and(|stat| Stamp::of(&stat) == known.stamp);
        is_so.then(|| known.content.clone())
    }

    /// Whether something is kept, for tests.
    #[cfg(test)]
    pub(super) fn keeps(&self, path: &StoragePath) -> bool {
        self.get(path).is_some()
    }

    /// Keeps what was read of a file at `full`, which was opened when this time had passed, and
    /// then looked at, if it can be kept.
    fn keep(&self, path: &StoragePath, full: PathBuf, passed: Time, stat: &Stat, content: &Bytes) {
        let stamp = Stamp::of(stat);
        // An empty file may be one that is just being written in place.
        let can_be_kept = (1..=LARGEST_KEPT).contains(&stamp.size)
            && stamp.size == content.len() as u64
            && Some(stamp.id.device) == self.device
            && stamp.times.are_settled(passed);
        if can_be_kept && let Ok(full) = CString::new(full.into_os_string().into_encoded_bytes()) {
            let known = Known {
                full,
                stamp,
                content: content.clone(),
                until: Instant::now() + LIFE,
            };
            self.kept.insert(path.clone(), Arc::new(known));
        }
    }
}

/// A small file's content, or that there is no file, when that is known without waiting. `None` says
/// nothing about the file.
pub(super) fn get(store: &Store, path: &StoragePath) -> Option<Result<Bytes>> {
    match store.files.get(path) {
        Some(content) => Some(Ok(content)),
        None => get_in_memory(store, path),
    }
}

/// The same for a file whose name and bytes are in the kernel's memory.
#[cfg(target_os = "linux")]
fn get_in_memory(store: &Store, path: &StoragePath) -> Option<Result<Bytes>> {
    use std::io::IoSliceMut;

    use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    let full = store.full(path);
    let passed = stamp::passed();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match openat2(CWD, &full, flags, Mode::empty(), ResolveFlags::CACHED) {
        Err(Errno::NOENT) => return Some(Err(Error::not_found(path))),
        file => file.ok()?,
    };
    let stat = fstat(&file).ok()?;
    let size = usize::try_from(stat.st_size).ok()?;
    if size > MAX || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    // One byte more, which stays empty unless the file has grown.
    let mut content = vec![0; size + 1];
    let mut buffers = [IoSliceMut::new(&mut content)];
    let read = preadv2(&file, &mut buffers, 0, ReadWriteFlags::NOWAIT).ok()?;
    if read != size {
        return None;
    }
    content.truncate(size);
    let content = content.into();
    store.files.keep(path, full, passed, &stat, &content);
    Some(Ok(content))
}

/// What is known of a file or folder, or that there is none, when its name is in the kernel's memory.
/// `None` says nothing about it.
#[cfg(target_os = "linux")]
pub(super) fn look(store: &Store, path: &StoragePath) -> Option<Result<crate::Stat>> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::Errno;

    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let full = store.full(path);
    let place = match openat2(CWD, full, flags, Mode::empty(), ResolveFlags::CACHED) {
        Err(Errno::NOENT) => return Some(Err(Error::not_found(path))),
        place => File::from(place.ok()?),
    };
    Some(Ok(told(&place.metadata().ok()?)))
}

/// Elsewhere nobody can be asked.
#[cfg(not(target_os = "linux"))]
pub(super) fn look(_store: &Store, _path: &StoragePath) -> Option<Result<crate::Stat>> {
    None
}

/// Elsewhere nobody can be asked.
#[cfg(not(target_os = "linux"))]
fn get_in_memory(_store: &Store, _path: &StoragePath) -> Option<Result<Bytes>> {
    None
}

/// A file's content, on a thread that may wait.
pub(super) fn read(store: &Store, path: &StoragePath) -> Result<Bytes> {
    let passed = stamp::passed();
    let (mut file, size) = store.open_file(path)?;
    let stat = (size <= LARGEST_KEPT).then(|| fstat(&file));
    // One byte more than needed, so that the end is found without growing.
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.read_to_end(&mut content)
        .map_err(|error| Error::io(path, "read", error))?;
    let content = content.into();
    if let Some(Ok(stat)) = stat {
        let full = store.full(path);
        store.files.keep(path, full, passed, &stat, &content);
    }
    Ok(content)
}
