//! Work that asks a store for many small things in a row.

use std::cell::Cell;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::Driver;

thread_local! {
    static IS_HERE: Cell<bool> = const { Cell::new(false) };
}

/// Leave to use a thread that may wait for a disk; see [`Driver::errand`].
#[derive(Debug)]
pub struct Errand {
    _permit: OwnedSemaphorePermit,
}

impl Errand {
    /// Leave for one of as many as there are permits, unless all are out.
    pub(crate) fn one_of(permits: &Arc<Semaphore>) -> Option<Self> {
        let permit = Arc::clone(permits).try_acquire_owned();
        permit.ok().map(|_permit| Self { _permit })
    }

    /// Whether this thread may wait for a disk, as an errand has it for its own.
    pub(crate) fn is_here() -> bool {
        IS_HERE.get()
    }
}

/// Begins some work, which runs to its end whether anybody waits for it or not. Where the driver has
/// a thread for it that may wait, its calls are made on that thread: to hand a call for a small file
/// to another thread and its result back takes longer than many a call.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn spawn_errand<T: Send + 'static>(
    driver: &dyn Driver,
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let Some(errand) = driver.errand() else {
        return tokio::spawn(work);
    };
    let runtime = Handle::current();
    spawn_blocking(move || {
        let _errand = errand;
        let _here = Here::begin();
        runtime.block_on(work)
    })
}

/// While it is there, the thread is an errand's. A panic ends it, too: the thread goes on to others.
struct Here;

impl Here {
    fn begin() -> Self {
        IS_HERE.set(true);
        Self
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        IS_HERE.set(false);
    }
}
