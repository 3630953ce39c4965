//! The journal's files: what is written together, and when they may be used again.
//!
//! There are two. Batches go to one of them, until it is full or a second old. Then they go to the
//! other, and the *keeper*, a thread of its own, lets the filesystem write back all that the first one's
//! batches have changed, whereupon it is empty again. Who finds both full waits for the keeper.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use tracing::error;

use super::record::{BLOCK, Change, Collected, Key};
use crate::StoragePath;

/// How large a file gets, in bytes.
pub(super) const FULL: u64 = 16 << 20;

/// How long a batch gets, in bytes, before others wait for the next one.
const ENOUGH: usize = 4 << 20;

/// How old what it has gets before it is written back.
const OLD: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(in crate::filesystem) struct Log {
    /// The folder whose filesystem it is.
    root: File,
    files: [PathBuf; 2],
    key: Key,
    hasher: RandomState,
    state: Mutex<State>,
    /// For those who write, or wait for the keeper.
    changed: Condvar,
    /// For the keeper, who is not woken for each batch.
    due: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: Collecting,
    /// Whether a batch is being written.
    writing: bool,
    /// Which file batches go to, and where in it.
    active: usize,
    at: u64,
    files: [Used; 2],
    /// The numbers that come next.
    batch: u64,
    group: u64,
    /// The latest batch's time. It never goes back, whatever the clock does.
    time: u64,
    /// Somebody waits for all of it to be written back.
    hurry: bool,
    stopped: bool,
    /// The filesystem could not write something back, and does not say what.
    failed: Option<Errno>,
    /// Nothing is written back for its age.
    #[cfg(test)]
    keeps_all: bool,
    /// How often something was written back.
    #[cfg(test)]
    written_back: u64,
    /// The filesystem fails when it is asked to.
    #[cfg(test)]
    fails: bool,
}

/// The batch that comes next.
#[derive(Debug, Default)]
struct Collecting {
    groups: Collected,
    paths: Vec<u64>,
    /// How many wait for it.
    waiting: usize,
    outcome: Outcome,
}

/// Which file a batch has gone to.
type Outcome = Arc<OnceLock<Result<usize, Errno>>>;

/// How one of the files is used.
#[derive(Debug, Default)]
struct Used {
    /// Since when it has batches.
    since: Option<Instant>,
    /// Open as long as it has: a filesystem on which nothing is written can be made read-only.
    open: Option<Arc<File>>,
    /// What they change, as hashes of the paths.
    paths: HashSet<u64>,
    /// How many changes are not done yet, other than in the journal.
    under_way: usize,
}

/// Changes that are durable, and are to be done now. Dropped when they are.
#[derive(Debug)]
#[must_use = "the journal keeps them until this is dropped"]
pub(in crate::filesystem) struct Durable<'a> {
    log: &'a Log,
    file: usize,
    group: u64,
}

impl Durable<'_> {
    /// They cannot be done: the journal is to forget them.
    pub(in crate::filesystem) fn forget(self) {
        let mut state = self.log.lock();
        let number = state.number_group();
        state.next.groups.add_void(number, self.group);
    }
}

impl Drop for Durable<'_> {
    fn drop(&mut self) {
        let mut state = self.log.lock();
        state.files[self.file].under_way -= 1;
        if state.files[self.file].under_way == 0 && self.file != state.active {
            self.log.due.notify_one();
        }
    }
}

impl State {
    fn number_group(&mut self) -> u64 {
        self.group += 1;
        self.group
    }

    fn is_empty(&self) -> bool {
        self.next.groups.is_empty() && self.files.iter().all(|file| file.since.is_none())
    }

    fn has(&self, path: u64) -> bool {
        self.next.paths.contains(&path) || self.files.iter().any(|file| file.paths.contains(&path))
    }

    /// From now on batches go to the other file, which must be empty.
    fn turn(&mut self) {
        self.active = 1 - self.active;
        self.at = 0;
    }

    /// Whether what is this old is to be written back.
    fn is_old(&self, age: Duration) -> bool {
        #[cfg(test)]
        if self.keeps_all {
            return false;
        }
        age >= OLD
    }
}

/// The time in nanoseconds since 1970, which is never before the one that a file has got from the kernel.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// What an error is to the system: it is told to several.
fn number_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Has the filesystem write back everything.
///
/// ext4 without a journal writes folders and inodes last, behind the flush of the device's cache. To
/// sync a folder flushes it once more.
pub(super) fn write_back(root: &File) -> io::Result<()> {
    // Elsewhere there is no journal.
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(root)?;
    root.sync_all()
}

impl Log {
    /// A log in two empty files.
    pub(super) fn new(root: File, files: [PathBuf; 2]) -> Self {
        Self {
            root,
            files,
            key: uuid::Uuid::new_v4().into_bytes(),
            hasher: RandomState::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
            due: Condvar::new(),
        }
    }

    /// Makes changes durable, all of them or none. Waits for the device once, together with all who
    /// come meanwhile. They were `begun` at this time ([`now`]), and no file of theirs is older.
    pub(in crate::filesystem) fn commit(
        &self,
        changes: &[Change<'_>],
        begun: u64,
    ) -> io::Result<Durable<'_>> {
        let mut state = self.lock();
        while state.writing && state.next.groups.len() > ENOUGH {
            state = self.wait(state);
        }
        let group = self.collect(&mut state, changes);
        state.time = state.time.max(begun);
        state.next.waiting += 1;
        let outcome = Arc::clone(&state.next.outcome);
        let file = loop {
            if let Some(written) = outcome.get() {
                break (*written)?;
            }
            state = if state.writing {
                self.wait(state)
            } else {
                self.write(state)
            };
        };
        Ok(Durable {
            log: self,
            file,
            group,
        })
    }

    /// Notes a change that needs not be durable, so that an earlier one is not made again after it.
    pub(in crate::filesystem) fn note(&self, change: Change<'_>) {
        let mut state = self.lock();
        if !state.is_empty() {
            self.collect(&mut state, &[change]);
        }
    }

    fn collect(&self, state: &mut State, changes: &[Change<'_>]) -> u64 {
        let group = state.number_group();
        state.next.groups.add(group, changes);
        let paths = changes.iter().map(|change| match change {
            Change::Put(path, _) | Change::Remove(path) => self.hasher.hash_one(path),
        });
        state.next.paths.extend(paths);
        group
    }

    /// Writes the next batch.
    fn write<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.writing = true;
        let next = std::mem::take(&mut state.next);
        state.time = state.time.max(now());
        let (number, time) = (state.batch, state.time);
        let blocks = next.groups.into_blocks(&self.key, number, time);
        let length = blocks.len() as u64;
        while state.at > 0 && state.at + length > FULL && state.failed.is_none() {
            if state.files[1 - state.active].since.is_none() {
                state.turn();
            } else {
                state = self.wait(state);
            }
        }
        let (file, at) = (state.active, state.at);
        let state_now = &mut *state;
        let used = &mut state_now.files[file];
        if used.since.is_none() {
            used.since = Some(Instant::now());
            self.due.notify_one();
        }
        used.paths.extend(next.paths);
        used.under_way += next.waiting;
        let open = match (state_now.failed, &used.open) {
            (Some(failed), _) => Err(failed.into()),
            (None, Some(open)) => Ok(Arc::clone(open)),
            (None, None) => self
                .open(file)
                .inspect(|open| used.open = Some(Arc::clone(open))),
        };
        drop(state);

        let written = open.and_then(|open| {
            open.write_all_at(&blocks, at)?;
            open.sync_data()
        });
        let written = written.map_err(|error| number_of(&error));

        let mut state = self.lock();
        match written {
            Ok(()) => {
                state.at += length;
                state.batch += 1;
            }
            // The next batch is written over it.
            Err(_) => state.files[file].under_way -= next.waiting,
        }
        // Nobody else sets it.
        let _ = next.outcome.set(written.map(|()| file));
        state.writing = false;
        self.changed.notify_all();
        state
    }

    fn open(&self, file: usize) -> io::Result<Arc<File>> {
        let open = OpenOptions::new().write(true).open(&self.files[file])?;
        Ok(Arc::new(open))
    }

    /// Waits until nothing that is in the journal changes this path, or anything above it. From then
    /// on what is done to it otherwise is not undone by what is in the journal.
    pub(in crate::filesystem) fn settle(&self, path: &StoragePath) -> io::Result<()> {
        let ways = std::iter::successors(Some(path.clone()), StoragePath::parent);
        let ways: Vec<_> = ways.map(|path| self.hasher.hash_one(path)).collect();
        let mut state = self.lock();
        while ways.iter().any(|path| state.has(*path)) {
            if let Some(failed) = state.failed {
                return Err(failed.into());
            }
            state.hurry = true;
            self.due.notify_one();
            state = self.wait(state);
        }
        Ok(())
    }

    /// What the keeper does, until [`stop`](Self::stop). About once a second it
    /// looks what else there is, and says whether it has failed.
    pub(super) fn keep(&self, mut look: impl FnMut(bool)) {
        let mut state = self.lock();
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() >= OLD {
                let failed = state.failed.is_some();
                drop(state);
                look(failed);
                looked = Instant::now();
                state = self.lock();
            }
            let (active, other) = (state.active, 1 - state.active);
            if state.failed.is_some() {
                if state.stopped {
                    return;
                }
                state = self.wait_until_due(state, OLD);
            } else if state.files[other].since.is_some() {
                state = match state.files[other].under_way {
                    0 => self.write_back(state, other),
                    _ => self.wait_until_due(state, OLD),
                };
            } else if let Some(since) = state.files[active].since {
                let age = since.elapsed();
                if state.writing || !(state.stopped || state.hurry || state.is_old(age)) {
                    // Who writes is soon done.
                    let left = OLD.saturating_sub(age).max(Duration::from_millis(1));
                    state = self.wait_until_due(state, left);
                } else {
                    state.turn();
                    // Who needs what comes now says so again.
                    state.hurry = false;
                }
            } else {
                if state.next.waiting == 0 && !state.writing {
                    // What is left are notes of what need not be made again.
                    state.next = Collecting::default();
                    state.hurry = false;
                    self.changed.notify_all();
                    if state.stopped {
                        return;
                    }
                }
                state = self.wait_until_due(state, OLD);
            }
        }
    }

    fn wait_until_due<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        limit: Duration,
    ) -> MutexGuard<'a, State> {
        let waited = self.due.wait_timeout(state, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Makes all that a file's batches have changed durable where it is, and the file empty.
    fn write_back<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        file: usize,
    ) -> MutexGuard<'a, State> {
        let open = state.files[file].open.clone();
        drop(state);
        let write_back = || {
            write_back(&self.root)?;
            #[cfg(test)]
            if self.lock().fails {
                return Err(Errno::IO.into());
            }
            let open = match open {
                Some(open) => open,
                None => self.open(file)?,
            };
            open.write_all_at(&[0; BLOCK], 0)?;
            open.sync_data()
        };
        let emptied: io::Result<()> = write_back();
        let mut state = self.lock();
        match emptied {
            Ok(()) => {
                state.files[file] = Used::default();
                #[cfg(test)]
                {
                    state.written_back += 1;
                }
            }
            // What is not emptied is done again, which does no harm.
            Err(error) => {
                error!(%error, "what was written cannot be made durable: it is written again, from \
                    the journal");
                state.failed = Some(number_of(&error));
            }
        }
        self.changed.notify_all();
        state
    }

    /// Lets the keeper write back what there is, and end.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.due.notify_one();
    }

    /// How often something was written back.
    #[cfg(test)]
    pub(in crate::filesystem) fn written_back(&self) -> u64 {
        self.lock().written_back
    }

    /// Lets what is to be written back fail.
    #[cfg(test)]
    pub(in crate::filesystem) fn fail(&self) {
        self.lock().fails = true;
    }

    /// Lets nothing be written back for its age.
    #[cfg(test)]
    pub(in crate::filesystem) fn keep_all(&self) {
        self.lock().keeps_all = true;
    }

    /// Whether all that it had is durable elsewhere.
    pub(super) fn is_done(&self) -> bool {
        self.lock().is_empty()
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
