//! Syncing several files and folders at once.
//!
//! A sync mostly waits for the device to empty its cache, and for the journal where there is one.
//! The kernel lets one such wait serve all who ask meanwhile: it merges flushes, and a commit takes
//! along all that was changed before it. So what may become durable in any order is synced on
//! several threads, which takes about as long as one of the syncs alone. Where that is so short that
//! waking a thread takes no less, one does all of it.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::folder::Folder;
use crate::{Error, Result, StoragePath};

/// How many threads help one that asks.
const HELPERS: usize = 7;

/// How many of them there are: where more ask at once, they serve each other.
const ALL_HELPERS: usize = 32;

/// From when on a sync is so long that help is worth it, in microseconds. To wake a thread takes some
/// fifty of them, of a processor that others could use.
const WORTH_HELP: u64 = 400;

/// Threads that help those who sync. Nobody waits for one to begin: they come from the pool that
/// those who ask are of themselves, where all may be busy.
#[derive(Debug)]
pub(super) struct Helpers {
    permits: Arc<Semaphore>,
    /// How long a sync takes that has no others beside it, in microseconds: an average in which the
    /// last ones count most.
    one_takes: AtomicU64,
}

impl Default for Helpers {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(ALL_HELPERS)),
            one_takes: AtomicU64::new(WORTH_HELP),
        }
    }
}

/// Something to be synced.
#[derive(Debug)]
pub(super) enum Target {
    /// A file's content. Its times may be lost, which nobody needs.
    Content(StoragePath, Arc<File>),
    /// A folder's entries.
    Folder(Arc<Folder>),
}

impl Target {
    pub(super) fn path(&self) -> &StoragePath {
        match self {
            Self::Content(path, _) => path,
            Self::Folder(folder) => &folder.path,
        }
    }

    fn sync(&self) -> Result<()> {
        let synced = match self {
            Self::Content(_, file) => file.sync_data(),
            Self::Folder(folder) => folder.sync(),
        };
        synced.map_err(|error| Error::io(self.path(), "sync", error))
    }
}

#[cfg(test)]
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self {
            Self::Content(..) => "content",
            Self::Folder(_) => "folder",
        };
        write!(f, "{what} {}", self.path())
    }
}

impl Helpers {
    /// Makes all of these survive the machine, in no order.
    pub(super) fn sync(&self, mut targets: Vec<Target>) -> Result<()> {
        if targets.len() <= 1 {
            return targets.pop().map_or(Ok(()), |target| self.sync_one(target));
        }
        let wanted = match self.one_takes.load(Relaxed) {
            ..WORTH_HELP => 0,
            _ => (targets.len() - 1).min(HELPERS),
        };
        let round = Arc::new(Round::new(targets));
        // Without a runtime this thread does all of it.
        if let Ok(runtime) = Handle::try_current() {
            for _ in 0..wanted {
                let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
                    break;
                };
                let round = Arc::clone(&round);
                runtime.spawn_blocking(move || {
                    round.help();
                    drop(permit);
                });
            }
        }
        round.help();
        round.ended()
    }

    fn sync_one(&self, target: Target) -> Result<()> {
        let begun = Instant::now();
        let synced = target.sync();
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        // One that is lost to another thread's makes no difference.
        let average = self.one_takes.load(Relaxed);
        let next = (average / 8 * 7).saturating_add(took / 8);
        self.one_takes.store(next, Relaxed);
        synced
    }
}

/// What is synced together.
#[derive(Debug)]
struct Round {
    state: Mutex<State>,
    all_done: Condvar,
}

#[derive(Debug)]
struct State {
    waiting: Vec<Target>,
    left: usize,
    failed: Option<Error>,
}

impl Round {
    fn new(targets: Vec<Target>) -> Self {
        let state = State {
            left: targets.len(),
            waiting: targets,
            failed: None,
        };
        Self {
            state: Mutex::new(state),
            all_done: Condvar::new(),
        }
    }

    /// Syncs one after the other until none waits. Who comes late finds nothing to do.
    fn help(&self) {
        let next = || self.lock().waiting.pop();
        while let Some(target) = next() {
            let synced = target.sync();
            drop(target);
            let mut state = self.lock();
            state.left -= 1;
            if let Err(error) = synced {
                state.failed.get_or_insert(error);
            }
            if state.left == 0 {
                self.all_done.notify_all();
            }
        }
    }

    /// Waits for those that others have begun.
    fn ended(&self) -> Result<()> {
        let mut state = self
            .all_done
            .wait_while(self.lock(), |state| state.left > 0)
            .unwrap_or_else(PoisonError::into_inner);
        state.failed.take().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(folder: &std::path::Path, name: &str) -> Target {
        let path = format!("/{name}").parse().unwrap();
        let file = File::create(folder.join(name)).unwrap();
        Target::Content(path, Arc::new(file))
    }

    /// A device that cannot be synced.
    fn unsyncable() -> Target {
        let null = File::open("/dev/null").unwrap();
        Target::Content("/null".parse().unwrap(), Arc::new(null))
    }

    fn targets(folder: &std::path::Path) -> Vec<Target> {
        (0..20).map(|n| target(folder, &format!("f{n}"))).collect()
    }

    #[test]
    fn all_are_synced_and_let_go_before_it_returns() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        // With a runtime whose only blocking thread is the one that waits, and with none.
        let files = || -> Vec<_> {
            let targets = targets(folder.path());
            let file = |target: &Target| match target {
                Target::Content(_, file) => Arc::downgrade(file),
                Target::Folder(_) => panic!("there is none"),
            };
            let files = targets.iter().map(file).collect();
            Helpers::default().sync(targets).unwrap();
            files
        };
        assert!(files().iter().all(|file| file.upgrade().is_none()));
        let path = folder.path().to_owned();
        let hop = runtime.spawn_blocking(move || Helpers::default().sync(targets(&path)));
        runtime.block_on(hop).unwrap().unwrap();
    }

    #[test]
    fn one_that_fails_is_named_and_the_others_are_synced() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = targets(folder.path());
        all.insert(7, unsyncable());
        let helpers = Helpers::default();
        let error = helpers.sync(all).unwrap_err();
        assert!(error.to_string().starts_with("/null: sync: "), "{error}");
        assert!(helpers.sync(vec![unsyncable()]).is_err());
        helpers.sync(Vec::new()).unwrap();
    }
}
