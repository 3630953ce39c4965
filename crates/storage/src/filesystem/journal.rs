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
//! Only a process that changes the store alone has a journal. As soon as others do, too, it writes back
//! what it has, and all sync where things are. What was changed after a change of the journal, by a
//! process that does not know of it, is known by its time, and is left as it is.

mod claims;
mod log;
mod place;
mod record;
mod replay;

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tracing::{info, warn};

use self::claims::Claims;
pub(super) use self::log::Log;
pub(super) use self::place::JOURNAL;
use self::place::{Entered, Place};
pub(super) use self::record::Change;
use super::folder::Folder;
use super::stamp;
use super::store::Store;
use crate::{Error, Result, StoragePath};

/// More than this, in bytes, is not worth to be written twice.
const MOST: usize = 512 * 1024;

/// How long others are taken to be there after they were found.
const OTHERS_STAY: Duration = Duration::from_secs(60);

/// This process's part in the journal.
#[derive(Debug)]
pub(super) struct Journal {
    /// Whether the root's filesystem will do for one, and this process may have one there.
    can_be: AtomicBool,
    /// Whether to use one.
    wanted: bool,
    /// From the first change on.
    entered: ArcSwapOption<Member>,
    /// When others were found. Held by who enters.
    others: Mutex<Option<Instant>>,
    claims: Claims,
    this: Weak<Self>,
}

/// One of those who change the store.
#[derive(Debug)]
struct Member {
    place: Arc<Place>,
    /// When this process is the only one.
    kept: Option<Kept>,
    has_ended: AtomicBool,
}

#[derive(Debug)]
struct Kept {
    log: Arc<Log>,
    /// The root's device.
    device: u64,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// The right to change some paths, which nobody else of this process changes meanwhile: so things are
/// done in the order in which the journal has them.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    member: Arc<Member>,
    /// When it began.
    pub(super) begun: u64,
    _claim: claims::Claim<'a>,
}

impl Turn<'_> {
    /// Notes that something was removed which may come back.
    pub(super) fn note_removal(&self, path: &StoragePath) {
        if let Some(kept) = &self.member.kept {
            kept.log.note(Change::Remove(path));
        }
    }

    /// The journal, when there is one, it takes changes of this size, and the folders are on the
    /// filesystem that it lets write back.
    pub(super) fn log<'a>(
        &self,
        changes: &[Change<'_>],
        mut folders: impl Iterator<Item = &'a Folder>,
    ) -> Option<&Log> {
        let kept = self.member.kept.as_ref()?;
        let is_there = |folder: &Folder| {
            let found = folder.handle.metadata();
            found.is_ok_and(|found| found.dev() == kept.device)
        };
        let takes = record::length(changes) <= MOST && folders.all(is_there);
        takes.then_some(&*kept.log)
    }
}

impl Journal {
    /// None is used where it is not wanted, or where the root's filesystem will not do.
    pub(super) fn new(root: &Path, wanted: bool) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            // Tests have one wherever they run: no power is cut.
            can_be: AtomicBool::new(cfg!(test) || will_do(root)),
            wanted,
            entered: ArcSwapOption::empty(),
            others: Mutex::default(),
            claims: Claims::default(),
            this: Weak::clone(this),
        })
    }

    /// Does what a crash has left in the journal, unless another process has it.
    ///
    /// # Errors
    /// When it cannot be read or done.
    pub(super) fn recover(&self, store: &Store) -> Result<()> {
        let recovered = match Place::enter_now(store.root()) {
            Ok(Some(place)) => forget_all(store, &place).map(|()| place.leave()),
            Ok(None) => Ok(()),
            Err(error) => Err(failed(store, "open it")(error)),
        };
        match recovered {
            Err(Error::Root { root, source, .. }) if is_read_only(&source) => {
                warn!(journal = %root.display(), error = %source, "the journal cannot be used: what was \
                    written last before a crash of the machine may be missing");
                Ok(())
            }
            recovered => recovered,
        }
    }

    /// A turn for these paths. Waits for others with one of them. `None` where there is never a
    /// journal.
    ///
    /// # Errors
    /// When the journal cannot be opened, or another process has it and does not give it up.
    pub(super) fn turn(&self, store: &Store, paths: &[&StoragePath]) -> Result<Option<Turn<'_>>> {
        loop {
            self.enter(store)?;
            if !self.can_be.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let claim = self.claims.claim(paths);
            // Only now: it may have been left meanwhile.
            if let Some(member) = self.entered.load_full() {
                return Ok(Some(Turn {
                    member,
                    begun: log::now(),
                    _claim: claim,
                }));
            }
        }
    }

    /// Waits until nothing in the journal changes this path.
    pub(super) fn settle(&self, path: &StoragePath) -> Result<()> {
        let member = self.entered.load_full();
        let settled = match member.as_ref().and_then(|member| member.kept.as_ref()) {
            Some(kept) => kept.log.settle(path),
            None => Ok(()),
        };
        settled.map_err(|error| Error::io(path, "write", error))
    }

    /// Has all that was done written back where it belongs, and leaves the journal to whoever wants it
    /// next. Waits for those who have a turn.
    pub(super) fn leave(&self) {
        let _claim = self.claims.claim(&[&StoragePath::root()]);
        if let Some(member) = self.entered.swap(None) {
            member.end();
        }
    }

    /// Leaves it, and does without for some time.
    fn do_without(&self) {
        info!("the journal is given up: each file is synced by itself for now");
        *self.others() = Some(Instant::now());
        self.leave();
    }

    /// Makes this process one of those who change the store, if it is not.
    pub(super) fn enter(&self, store: &Store) -> Result<()> {
        if !self.can_be.load(Ordering::Relaxed) {
            return Ok(());
        }
        // One enters, and the rest wait for it.
        let mut others = self.others();
        let are_there = others.is_some_and(|found| found.elapsed() < OTHERS_STAY);
        if let Some(member) = &*self.entered.load() {
            if member.kept.is_some() || !self.wanted || are_there {
                return Ok(());
            }
            // Perhaps it is alone by now.
            self.leave();
        }
        let wants_alone = self.wanted && !are_there;
        let member = loop {
            let (place, how) = match Place::enter(store.root(), wants_alone) {
                Err(error) if is_read_only(&error) => {
                    warn!(root = %store.root().display(), %error, "there can be no journal in the \
                        folder: each file is synced by itself");
                    self.can_be.store(false, Ordering::Relaxed);
                    return Ok(());
                }
                entered => entered.map_err(failed(store, "lock it"))?,
            };
            match (Arc::new(place), how) {
                (place, Entered::Together) => break Member::new(place, None),
                (place, Entered::Alone) if wants_alone => {
                    let kept = self.keep(store, &place)?;
                    break Member::new(place, Some(kept));
                }
                (place, Entered::Alone) => forget_all(store, &place)?,
            }
        };
        if member.kept.is_none() {
            *others = Some(Instant::now());
        }
        self.entered.store(Some(Arc::new(member)));
        Ok(())
    }

    fn others(&self) -> MutexGuard<'_, Option<Instant>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a log in the folder, in which nobody else is.
    fn keep(&self, store: &Store, place: &Arc<Place>) -> Result<Kept> {
        recover(store, place)?;
        let begin = || {
            place.empty()?;
            let root = File::open(store.root())?;
            place.sync(&root)?;
            let device = root.metadata()?.dev();
            let log = Arc::new(Log::new(root, place.files()));
            let (kept, place) = (Arc::clone(&log), Arc::clone(place));
            let mut this = Some(Weak::clone(&self.this));
            let look = move |failed| {
                let is_ours = place.is_there().unwrap_or(true) && !place.is_wanted();
                if (failed || !is_ours)
                    && let Some(journal) = this.take().and_then(|this| this.upgrade())
                {
                    // Which waits for this very thread.
                    thread::spawn(move || journal.do_without());
                }
            };
            let keeper = thread::Builder::new().name("journal".to_owned());
            let keeper = Mutex::new(Some(keeper.spawn(move || kept.keep(look))?));
            Ok(Kept {
                log,
                device,
                keeper,
            })
        };
        begin().map_err(failed(store, "begin it"))
    }

    /// The log, once it is used.
    #[cfg(test)]
    pub(super) fn log(&self) -> Option<Arc<Log>> {
        let member = self.entered.load_full()?;
        member.kept.as_ref().map(|kept| Arc::clone(&kept.log))
    }
}

/// Does what a crash has left in a journal's files.
fn recover(store: &Store, place: &Place) -> Result<()> {
    let contents = place.contents().map_err(failed(store, "read it"))?;
    let batches: Vec<_> = contents
        .iter()
        .flat_map(|content| record::batches(content))
        .collect();
    if batches.is_empty() {
        return Ok(());
    }
    let done = replay::replay(store, batches)?;
    let written_back = File::open(store.root()).and_then(|root| log::write_back(&root));
    written_back.map_err(failed(store, "write back what it has"))?;
    info!(
        changes = done,
        "what was written last was written again, from the journal"
    );
    Ok(())
}

/// Does what is in a journal's files, and removes them.
fn forget_all(store: &Store, place: &Place) -> Result<()> {
    recover(store, place)?;
    let removed = place.remove_files();
    removed.map_err(failed(store, "remove its files"))
}

fn failed(store: &Store, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    let root = store.root().join(JOURNAL);
    move |source| Error::Root {
        root,
        operation,
        source,
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

/// Whether the root is on a disk of this machine, whose filesystem says what it could not write back: from
/// Linux 5.8 on, syncfs(2) does.
fn will_do(root: &Path) -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (5, 8) && File::open(root).is_ok_and(|root| stamp::is_on_disk(&root))
}

impl Member {
    fn new(place: Arc<Place>, kept: Option<Kept>) -> Self {
        Self {
            place,
            kept,
            has_ended: AtomicBool::new(false),
        }
    }

    /// Has everything written back, and leaves. Then nothing of the journal is left, unless that failed.
    /// Only once: soon somebody else may be there.
    fn end(&self) {
        if self.has_ended.swap(true, Ordering::AcqRel) {
            return;
        }
        let is_done = match &self.kept {
            Some(kept) => {
                let keeper = kept
                    .keeper
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                kept.log.stop();
                let ended = keeper.is_none_or(|keeper| keeper.join().is_ok());
                ended && kept.log.is_done() && self.place.remove_files().is_ok()
            }
            None => true,
        };
        if is_done {
            self.place.leave();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_disk_of_this_machine_will_not_do() {
        assert!(!will_do(Path::new("/proc")) && !will_do(Path::new("/not/there")));
    }
}
