//! A journal of small changes, so that they wait for the device once and together.
//!
//! What must survive the machine is written into a file of the journal and synced, together with
//! what others want at the same time; only then it is done where it belongs, without a sync. Soon
//! after, the filesystem writes back all that was done so, and the journal is empty again. After a
//! crash of the machine, which may have taken or damaged what was not written back, the next start
//! does once more all that the journal has, in its order. So the order in which things become durable
//! where they belong does not matter: before anybody reads, all of it is there, or nothing was
//! acknowledged.
//!
//! What is done otherwise (large files, moves) is synced where it is, as ever. It must not be undone by
//! an earlier change that is done once more: so whoever does it waits until none of its path is in the
//! journal ([`Log::settle`]).
//!
//! The journal is one process's. Others on the same folder sync where things are. What they did after a
//! change of the journal is known by its time, and is left as it is.

mod claims;
mod log;
mod record;
mod replay;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::{info, warn};

use self::claims::Claims;
pub(super) use self::log::Log;
pub(super) use self::record::Change;
use super::folder::Folder;
use super::store::{Store, same_file};
use crate::{Error, Result, StoragePath};

/// The folder in the root where the journal is while a process uses it.
pub(super) const JOURNAL: &str = ".wharfinger-journal";

const FILES: [&str; 2] = ["0", "1"];

/// More than this, in bytes, is not worth to be written twice.
const MOST: usize = 512 * 1024;

/// How long to wait before asking again for a journal that another process has.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// This process's part in the journal.
#[derive(Debug)]
pub(super) struct Journal {
    /// Whether to use one. What another has left is always done.
    wanted: bool,
    owned: OnceLock<Owned>,
    asked: Mutex<Option<Instant>>,
    claims: Claims,
}

#[derive(Debug)]
struct Owned {
    log: Arc<Log>,
    /// The root's device.
    device: u64,
    /// Locked as long as it is open.
    _folder: File,
    place: PathBuf,
    keeper: Option<JoinHandle<()>>,
}

/// The right to use the journal for some paths, which nobody else changes meanwhile: so things are
/// done in the order in which the journal has them.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) log: &'a Log,
    device: u64,
    _claim: claims::Claim<'a>,
}

impl Turn<'_> {
    /// Whether these changes can go through the journal, as to their size.
    pub(super) fn takes(&self, changes: &[Change<'_>]) -> bool {
        record::length(changes) <= MOST
    }

    /// Whether a folder is on the filesystem that the journal lets write back.
    pub(super) fn reaches(&self, folder: &Folder) -> bool {
        let found = folder.handle.metadata();
        found.is_ok_and(|found| found.dev() == self.device)
    }
}

impl Journal {
    /// None is used where it is not wanted, or where the root's filesystem will not do.
    pub(super) fn new(root: &Path, wanted: bool) -> Self {
        Self {
            wanted: wanted && will_do(root),
            owned: OnceLock::new(),
            asked: Mutex::default(),
            claims: Claims::default(),
        }
    }

    /// Does what a crash has left in the journal.
    ///
    /// # Errors
    /// When it cannot be read or done.
    pub(super) fn recover(&self, store: &Store) -> Result<()> {
        let place = store.root().join(JOURNAL);
        if !place.is_dir() {
            return Ok(());
        }
        let owned = match take(store, self.wanted) {
            Ok(owned) => owned,
            Err(Error::Root { source, .. }) if is_read_only(&source) => {
                warn!(journal = %place.display(), error = %source, "the journal cannot be used: what \
                    was written last before a crash of the machine may be missing");
                None
            }
            Err(error) => return Err(error),
        };
        self.keep(owned);
        Ok(())
    }

    /// A turn for these paths, when this process has the journal. Waits for others with one of them.
    pub(super) fn turn<'a>(&'a self, store: &Store, paths: &[&StoragePath]) -> Option<Turn<'a>> {
        let owned = self.owned(store)?;
        Some(Turn {
            log: &owned.log,
            device: owned.device,
            _claim: self.claims.claim(paths),
        })
    }

    /// Waits until nothing in the journal changes this path.
    pub(super) fn settle(&self, path: &StoragePath) -> Result<()> {
        let Some(owned) = self.owned.get() else {
            return Ok(());
        };
        let settled = owned.log.settle(path);
        settled.map_err(|error| Error::io(path, "write", error))
    }

    /// Notes that something was removed which may come back.
    pub(super) fn note_removal(&self, path: &StoragePath) {
        if let Some(owned) = self.owned.get() {
            owned.log.note(Change::Remove(path));
        }
    }

    fn owned(&self, store: &Store) -> Option<&Owned> {
        if let Some(owned) = self.owned.get() {
            return Some(owned);
        }
        if !self.wanted {
            return None;
        }
        // One asks, and the others do without meanwhile.
        let mut asked = self.asked.try_lock().ok()?;
        if asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return None;
        }
        if self.owned.get().is_none() {
            let owned = take(store, self.wanted).unwrap_or_else(|error| {
                warn!(%error, "there is no journal: each file is synced by itself");
                None
            });
            self.keep(owned);
            *asked = Some(Instant::now());
        }
        self.owned.get()
    }

    fn keep(&self, owned: Option<Owned>) {
        if let Some(owned) = owned {
            // Nobody else sets it.
            let _ = self.owned.set(owned);
        }
    }

    /// The log, once it is used.
    #[cfg(test)]
    pub(super) fn log(&self) -> Option<&Log> {
        self.owned.get().map(|owned| &*owned.log)
    }
}

/// Takes the journal, where no other process has it and the filesystem will do, and does what a crash
/// has left in it.
fn take(store: &Store, wanted: bool) -> Result<Option<Owned>> {
    let failed = |operation| {
        move |source| Error::Root {
            root: store.root().join(JOURNAL),
            operation,
            source,
        }
    };
    let root = File::open(store.root()).map_err(failed("open the root"))?;
    let Some(folder) = lock(store.root()).map_err(failed("lock the journal"))? else {
        return Ok(None);
    };
    let place = store.root().join(JOURNAL);
    let mut files = Vec::with_capacity(FILES.len());
    let mut batches = Vec::new();
    for name in FILES {
        let path = place.join(name);
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path)
        };
        files.push(open().map_err(failed("open a file of the journal"))?);
        let content = fs::read(&path).map_err(failed("read the journal"))?;
        batches.extend(record::batches(&content));
    }
    if !batches.is_empty() {
        let done = replay::replay(store, batches)?;
        rustix::fs::syncfs(&root).map_err(|error| failed("write back the journal")(error.into()))?;
        info!(changes = done, "what was written last was written again, from the journal");
    }
    let emptied = files.iter().try_for_each(|file| {
        file.set_len(0)?;
        file.sync_all()
    });
    let named = || {
        folder.sync_all()?;
        root.sync_all()
    };
    emptied.and_then(|()| named()).map_err(failed("empty the journal"))?;
    let device = root.metadata().map_err(failed("stat the root"))?.dev();
    let Ok(files) = <[File; 2]>::try_from(files) else {
        return Ok(None);
    };
    if !wanted {
        remove(&place);
        return Ok(None);
    }
    let log = Arc::new(Log::new(root, files));
    let kept = Arc::clone(&log);
    let keeper = thread::Builder::new().name("journal".to_owned());
    let keeper = keeper.spawn(move || kept.keep());
    Ok(Some(Owned {
        log,
        device,
        _folder: folder,
        place,
        keeper: Some(keeper.map_err(failed("start the thread that keeps it"))?),
    }))
}

/// Locks the journal's folder, which is made when it is missing. `None` when another process has it.
fn lock(root: &Path) -> io::Result<Option<File>> {
    let place = root.join(JOURNAL);
    loop {
        match DirBuilder::new().mode(0o700).create(&place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let folder = File::open(&place)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Who had it may have removed it since it was opened.
        match (folder.metadata()?, fs::metadata(&place)) {
            (ours, Ok(there)) if same_file(&ours, &there) => return Ok(Some(folder)),
            (_, Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

/// Removes a journal that has nothing: in vain where it is gone with its root.
fn remove(place: &Path) {
    for name in FILES {
        let _ = fs::remove_file(place.join(name));
    }
    let _ = fs::remove_dir(place);
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

/// Whether the root's filesystem is this machine's own, and says what it could not write back: from
/// Linux 5.8 on, syncfs(2) does.
#[cfg(target_os = "linux")]
fn will_do(root: &Path) -> bool {
    const KINDS: [u32; 4] = [
        0x0000_EF53, // ext4
        0x5846_5342, // XFS
        0x9123_683E, // Btrfs
        0xF2F5_2010, // F2FS
    ];
    let Ok(kind) = rustix::fs::statfs(root) else {
        return false;
    };
    // The kernel's type for it is wider on some machines, with the sign of a narrower one.
    let kind = kind.f_type as u32;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    KINDS.contains(&kind) && version >= (5, 8)
}

#[cfg(not(target_os = "linux"))]
fn will_do(_root: &Path) -> bool {
    false
}

impl Drop for Owned {
    /// After it nothing of the journal is left, unless something could not be written back.
    fn drop(&mut self) {
        self.log.stop();
        let kept = self.keeper.take().is_some_and(|keeper| keeper.join().is_ok());
        if kept && self.log.is_done() {
            remove(&self.place);
        }
    }
}
