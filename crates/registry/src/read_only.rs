//! Read-only mode: whether a registry writes, and what it tells other processes about it.
//!
//! What writes does so with a [`Writing`] in hand. Switching to read-only gives out no more of
//! them, waits for those that are out, and for what their dropped futures may have left at work in
//! the store; only then the claim to write is given up. So whoever is granted the store for itself,
//! such as a collection, finds nothing of this process that still writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Mutex, Notify, watch};
use tracing::{error, info, warn};
use wharfinger_storage::{Claim, ClaimError, Claimed};

use crate::{Error, Registry, Result};

/// How often it is tried to write again while a collection is at work.
const RETRY: Duration = Duration::from_secs(1);

/// Set in the gate's state while nothing may begin to write.
const CLOSED: usize = 1;
/// What each write under way adds to it.
const ONE: usize = 2;

/// Who may write, and how many do.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: AtomicUsize,
    /// Told when the gate is closed and the last write has ended.
    ended: Notify,
}

/// A write under way.
#[derive(Debug)]
#[must_use = "the write counts as ended when this is dropped"]
pub(crate) struct Writing(Arc<Gate>);

impl Gate {
    pub(crate) fn new(read_only: bool) -> Self {
        Self {
            state: AtomicUsize::new(if read_only { CLOSED } else { 0 }),
            ended: Notify::new(),
        }
    }

    /// # Errors
    /// [`Error::ReadOnly`] when it is closed.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Writing> {
        let more = |state: usize| (state & CLOSED == 0).then_some(state + ONE);
        match self
            .state
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
        {
            Ok(_) => Ok(Writing(Arc::clone(self))),
            Err(_) => Err(Error::ReadOnly),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.load(Ordering::SeqCst) & CLOSED != 0
    }

    fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::SeqCst);
    }

    fn open(&self) {
        self.state.fetch_and(!CLOSED, Ordering::SeqCst);
    }

    /// Ready when the gate is closed and no write is under way.
    async fn empty(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.state.load(Ordering::SeqCst) == CLOSED {
                return;
            }
            ended.await;
        }
    }
}

impl Clone for Writing {
    /// Another part of the same write: it counts until all parts have ended.
    fn clone(&self) -> Self {
        self.0.state.fetch_add(ONE, Ordering::SeqCst);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(ONE, Ordering::SeqCst) == CLOSED + ONE {
            self.0.ended.notify_waiters();
        }
    }
}

/// Why a registry cannot write.
#[derive(Debug, Error)]
pub enum NotWritable {
    /// Another process has the store for itself: a collection.
    #[error("garbage-collect works on the store")]
    Collected,
    /// The store cannot be written to.
    #[error(transparent)]
    Store(#[from] wharfinger_storage::Error),
}

/// The claim that the registry has on its store while it writes.
pub(crate) type HeldClaim = Mutex<Option<Claimed>>;

impl Registry {
    /// Whether everything that writes is refused.
    pub fn is_read_only(&self) -> bool {
        self.shared.gate.is_closed()
    }

    /// Ends read-only mode: claims the store for writing, and looks whether it can be written to.
    /// A store without room is no obstacle, as room can come back.
    ///
    /// A registry that was made writable ([`Options::read_only`](crate::Options::read_only) false)
    /// has no claim before this; who shares the store with collections of other processes makes it
    /// read-only and calls this.
    ///
    /// # Errors
    /// When the registry stays as it was.
    pub async fn make_writable(&self) -> Result<(), NotWritable> {
        let shared = &self.shared;
        let mut held = shared.claimed.lock().await;
        if held.is_none() {
            *held = match shared.driver.claim(Claim::Write) {
                Ok(claimed) => claimed,
                Err(ClaimError::Taken) => return Err(NotWritable::Collected),
                Err(error @ ClaimError::Unlockable(_)) => {
                    warn!(%error, "other processes are not told that this one works on the store");
                    None
                }
            };
        }
        match shared.driver.check().await {
            Err(error) if error.is_no_space() => warn!(%error, "the store is full"),
            Err(error) => {
                if shared.gate.is_closed() {
                    *held = None;
                }
                return Err(error.into());
            }
            Ok(()) => {}
        }
        if shared.gate.is_closed() {
            // A collection may have removed what they stand for.
            if let Some(descriptors) = &shared.descriptors {
                descriptors.clear_all();
            }
            shared.gate.open();
        }
        Ok(())
    }

    /// Begins read-only mode: refuses at once whatever wants to write, and is ready when nothing
    /// is written any more and the claim on the store has been given up. Dropping the future
    /// leaves the registry read-only, with its claim.
    pub async fn make_read_only(&self) {
        let shared = &self.shared;
        shared.gate.close();
        let mut held = shared.claimed.lock().await;
        shared.gate.empty().await;
        shared.driver.settled().await;
        *held = None;
    }

    /// Makes the registry read-only and writable as `wanted` (for read-only) tells, from its next
    /// change on and until its sender is gone. While a collection keeps it from writing it stays
    /// read-only, and tries again. Each change is told in the log.
    pub async fn follow_read_only(self, mut wanted: watch::Receiver<bool>) {
        while wanted.changed().await.is_ok() {
            let read_only = *wanted.borrow_and_update();
            // A change of mind ends what is not yet done.
            let mut changed = wanted.clone();
            tokio::select! {
                () = self.switch(read_only) => {}
                _ = changed.changed() => {}
            }
        }
    }

    async fn switch(&self, read_only: bool) {
        if read_only {
            info!("read-only from now on; writes under way come to their end");
            self.make_read_only().await;
            info!("read-only: nothing is written any more, and garbage-collect can start");
            return;
        }
        let mut told = false;
        while let Err(error) = self.make_writable().await {
            if !std::mem::replace(&mut told, true) {
                error!(%error, "stays read-only until this has passed");
            }
            tokio::time::sleep(RETRY).await;
        }
        info!("writable: pushes and deletions are taken");
    }
}
