//! The users as their file has them now.
//!
//! A thread of its own looks at the file whenever requests ask for it, once for all that have come
//! since it last began, so that a change counts with the next request. A file system that hangs
//! holds up that thread only: requests wait for [`PATIENCE`] and go on with the users that are
//! known.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{error, info};

use super::HtpasswdError;
use super::file::{self, Stamp, Users};

/// How long a request waits for the file.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long the start, or a configuration that is read again, waits for it.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Two changes that are no further apart may have the same time.
const TIMES_DIFFER: Duration = Duration::from_secs(1);

/// A file's users, followed.
#[derive(Debug)]
pub(super) struct Current(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    asked: Condvar,
    /// The number of the look that ended last.
    looked: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    users: Arc<Users>,
    /// The number of the look that is asked for, and of the one that began last, and when.
    wanted: u64,
    began: u64,
    since: Instant,
    /// Whether it has been said that the file system hangs.
    told: bool,
    closed: bool,
}

/// What a look has found.
#[derive(Debug)]
struct Look {
    /// What the file was like before it was read, unless it may have changed since without getting
    /// another one.
    stamp: Option<Option<Stamp>>,
    users: Result<Users, HtpasswdError>,
}

impl Look {
    fn at(path: &Path, stamp: Option<Stamp>) -> Self {
        let earlier = SystemTime::now() - TIMES_DIFFER;
        let settled = stamp.is_none_or(|stamp| stamp.is_before(earlier));
        Self {
            stamp: settled.then_some(stamp),
            users: file::read(path),
        }
    }
}

impl Current {
    /// # Errors
    /// When the file cannot be read or understood, or not in time.
    pub(super) fn new(path: PathBuf) -> Result<Self, HtpasswdError> {
        let looked_at = path.clone();
        let first = in_time(&path, move || {
            Ok(Look::at(&looked_at, Stamp::of(&looked_at)))
        })?;
        let users = first.users?;
        users.warn(&path);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                users: Arc::new(users),
                wanted: 0,
                began: 0,
                since: Instant::now(),
                told: false,
                closed: false,
            }),
            path,
            asked: Condvar::new(),
            looked: watch::Sender::new(0),
        });
        let looking = Arc::clone(&shared);
        let thread = thread::Builder::new().name("users".to_owned());
        match thread.spawn(move || looking.follow(first.stamp)) {
            Ok(_) => Ok(Self(shared)),
            Err(source) => Err(HtpasswdError::File {
                path: shared.path.clone(),
                source,
            }),
        }
    }

    /// The users as the file has them now, or had them when it last could be read.
    pub(super) async fn users(&self) -> Arc<Users> {
        let wanted = {
            let mut state = self.0.lock();
            let under_way = state.began > *self.0.looked.borrow();
            if under_way && state.since.elapsed() > PATIENCE {
                return Arc::clone(&state.users);
            }
            state.wanted = state.began + 1;
            self.0.asked.notify_one();
            state.wanted
        };
        let mut looked = self.0.looked.subscribe();
        let waited = async { looked.wait_for(|last| *last >= wanted).await.is_ok() };
        // What is waited for is a guard, which must be gone before the lock is taken.
        let waited = timeout(PATIENCE, waited).await.is_ok();
        let mut state = self.0.lock();
        if !waited && !std::mem::replace(&mut state.told, true) {
            let file = self.0.path.display();
            error!(%file, "the file system does not answer; the users stay as they were");
        }
        Arc::clone(&state.users)
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.asked.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does: one look for all who have asked since the last one began.
    fn follow(&self, mut seen: Option<Option<Stamp>>) {
        let mut refused = None;
        loop {
            let mut state = self.lock();
            while !state.closed && state.wanted == state.began {
                state = self
                    .asked
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            state.began = state.wanted;
            state.since = Instant::now();
            let number = state.began;
            drop(state);
            let stamp = Stamp::of(&self.path);
            if seen != Some(stamp) {
                let look = Look::at(&self.path, stamp);
                seen = look.stamp;
                refused = self.take(look.users, refused);
            }
            let told = std::mem::take(&mut self.lock().told);
            if told {
                info!(file = %self.path.display(), "the file system answers again");
            }
            self.looked.send_replace(number);
        }
    }

    /// Takes on what was read, and gives why it cannot be used. A file that cannot changes nothing,
    /// and is named once.
    fn take(&self, read: Result<Users, HtpasswdError>, refused: Option<String>) -> Option<String> {
        match read {
            Ok(users) => {
                let same = *self.lock().users == users;
                if !same || refused.is_some() {
                    info!(file = %self.path.display(), "the users were read again");
                    users.warn(&self.path);
                    self.lock().users = Arc::new(users);
                }
                None
            }
            Err(error) => {
                let error = error.to_string();
                if refused.as_ref() != Some(&error) {
                    error!(error, "the users stay as they were");
                }
                Some(error)
            }
        }
    }
}

/// Does something with a file in a thread of its own, and does not wait for long: a file system that
/// hangs must not keep the process from being told to stop.
pub(super) fn in_time<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, HtpasswdError> + Send + 'static,
) -> Result<T, HtpasswdError> {
    let failed = |source| HtpasswdError::File {
        path: path.to_owned(),
        source,
    };
    let (done, result) = mpsc::channel();
    let thread = thread::Builder::new().name("users".to_owned());
    thread
        .spawn(move || {
            let _ = done.send(work());
        })
        .map_err(failed)?;
    result.recv_timeout(START_PATIENCE).unwrap_or_else(|_| {
        let hangs = format!(
            "the file system has not answered for {} s",
            START_PATIENCE.as_secs()
        );
        Err(failed(std::io::Error::other(hangs)))
    })
}
