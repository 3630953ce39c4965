//! One collector at a time: whose turn it is, and what it tells the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use wharfinger_storage::{Claim, ClaimError, Claimed, Driver};

use super::item::{self, Entry};
use super::state::{self, CollectorId, Phase, RunId, State};
use crate::repository::Shared;
use crate::{Error, Result, layout};

/// After how many leases without a sign of life a collector counts as gone.
const SILENCE: u32 = 30;

/// For how many leases a collector that cannot tell whether it is still its turn goes on removing.
const UNSURE: u32 = 6;

/// A collector's turn. What it has begun stays as it is when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    shared: Arc<Shared>,
    me: CollectorId,
    state: Arc<Mutex<Option<State>>>,
    /// Whether no other collector can be at work as long as this one lives.
    is_exclusive: bool,
    /// When it was last known to be this collector's turn.
    sure: Arc<Lock<Instant>>,
    lost: Arc<AtomicBool>,
    beating: Option<AbortHandle>,
    _here: OwnedMutexGuard<()>,
    _lock: Option<Claimed>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(beating) = &self.beating {
            beating.abort();
        }
    }
}

impl Turn {
    /// Takes the turn. Where a collector has gone in the midst of a run, its run is taken over.
    ///
    /// # Errors
    /// [`Error::AlreadyCollecting`] while another one is at work.
    pub(super) async fn take(shared: &Arc<Shared>) -> Result<Self> {
        let here = Arc::clone(&shared.collecting).try_lock_owned();
        let here = here.map_err(|_| Error::AlreadyCollecting)?;
        let folder = layout::gc();
        let (lock, is_exclusive) = match shared.driver.claim(Claim::Folder(&folder)) {
            Ok(Some(claimed)) => (Some(claimed), true),
            Ok(None) => (None, !shared.driver.has_only_objects()),
            Err(ClaimError::Taken) => return Err(Error::AlreadyCollecting),
            Err(error @ ClaimError::Unlockable(_)) => {
                warn!(%error, "other collectors are known by what they write only");
                (None, false)
            }
        };
        let mut turn = Self {
            shared: Arc::clone(shared),
            me: CollectorId::generate(),
            state: Arc::default(),
            is_exclusive,
            sure: Arc::new(Lock::new(Instant::now())),
            lost: Arc::default(),
            beating: None,
            _here: here,
            _lock: lock,
        };
        let state = turn.read().await?;
        if let Some(state) = state.as_ref().filter(|state| state.phase != Phase::Over) {
            if !is_exclusive {
                turn.watch(state).await?;
            }
            turn.take_over(state.clone()).await?;
        } else {
            *turn.state.lock().await = state;
        }
        Ok(turn)
    }

    async fn read(&self) -> Result<Option<State>> {
        match state::read(&*self.shared.driver).await {
            Err(error @ Error::Damaged { .. }) if self.is_exclusive => {
                // Whoever wrote it is gone; without a state no request would be acknowledged.
                warn!(%error, "the state of collection begins anew");
                Ok(None)
            }
            state => state,
        }
    }

    /// Waits for a sign of life of whoever began a run.
    ///
    /// # Errors
    /// [`Error::AlreadyCollecting`] when there is one.
    async fn watch(&self, first: &State) -> Result<()> {
        let lease = self.shared.views.lease();
        info!(run = %first.run, "a run is not over; waiting for a sign of life of its collector");
        for _ in 0..SILENCE {
            sleep(lease).await;
            if self.read().await?.as_ref() != Some(first) {
                return Err(Error::AlreadyCollecting);
            }
        }
        Ok(())
    }

    /// Goes on with a run whose collector has gone, or ends it where it had begun to remove: what
    /// it still has under way cannot be known.
    async fn take_over(&mut self, mut state: State) -> Result<()> {
        state.collector = self.me;
        state.beat += 1;
        if state.phase == Phase::Executing {
            state.phase = Phase::Over;
            state.since = Timestamp::now();
        }
        info!(run = %state.run, phase = ?state.phase, "a run whose collector has gone is taken over");
        state::write(&*self.shared.driver, &state).await?;
        *self.state.lock().await = Some(state);
        self.settle().await
    }

    /// Makes sure that no other collector took the turn at the same time, and begins to give signs
    /// of life.
    async fn settle(&mut self) -> Result<()> {
        if self.is_exclusive {
            return Ok(());
        }
        sleep(self.shared.views.lease()).await;
        let mine = self.state.lock().await.clone();
        if state::read(&*self.shared.driver).await? != mine {
            return Err(Error::AlreadyCollecting);
        }
        *lock(&self.sure) = Instant::now();
        if self.beating.is_none() {
            let beat = beat(
                Arc::clone(&self.shared),
                Arc::clone(&self.state),
                Arc::clone(&self.sure),
                Arc::clone(&self.lost),
            );
            self.beating = Some(tokio::spawn(beat).abort_handle());
        }
        Ok(())
    }

    /// The run that is not over, if there is one.
    pub(super) async fn run(&self) -> Option<State> {
        let state = self.state.lock().await.clone();
        state.filter(|state| state.phase != Phase::Over)
    }

    /// Begins a run: tells everybody what it wants to remove.
    pub(super) async fn condemn(&mut self, list: &[Entry]) -> Result<RunId> {
        let driver = &*self.shared.driver;
        let run = RunId::generate();
        let files = item::write_list(driver, run, list).await?;
        let mut state = self.state.lock().await;
        let last = self.read().await?;
        if !self.is_exclusive && last != *state {
            return Err(Error::AlreadyCollecting);
        }
        let new = State {
            run,
            previous: last.map(|last| last.run),
            phase: Phase::Condemned,
            since: Timestamp::now(),
            files,
            collector: self.me,
            beat: 0,
        };
        state::write(driver, &new).await?;
        *state = Some(new);
        drop(state);
        self.settle().await?;
        Ok(run)
    }

    /// Tells others, who may want to collect too, that there is nothing to be removed now.
    pub(super) async fn find_nothing(&self) -> Result<()> {
        if self.state.lock().await.is_some() {
            return self.go_on(Phase::Over).await;
        }
        let first = State {
            run: RunId::generate(),
            previous: None,
            phase: Phase::Over,
            since: Timestamp::now(),
            files: 0,
            collector: self.me,
            beat: 0,
        };
        state::write(&*self.shared.driver, &first).await
    }

    /// Goes on to another phase of the run.
    pub(super) async fn go_on(&self, phase: Phase) -> Result<()> {
        let driver = &*self.shared.driver;
        let mut state = self.state.lock().await;
        if !self.is_exclusive && state::read(driver).await? != *state {
            return Err(Error::AlreadyCollecting);
        }
        let Some(mine) = state.as_mut() else {
            return Ok(());
        };
        let mut new = mine.clone();
        new.phase = phase;
        new.since = Timestamp::now();
        new.beat += 1;
        state::write(driver, &new).await?;
        *mine = new;
        *lock(&self.sure) = Instant::now();
        Ok(())
    }

    /// To be asked before anything is removed.
    ///
    /// # Errors
    /// [`Error::AlreadyCollecting`] when it is not known to be this collector's turn any more.
    pub(super) fn check(&self) -> Result<()> {
        if self.is_exclusive {
            return Ok(());
        }
        let unsure = self.shared.views.lease() * UNSURE;
        let is_sure = lock(&self.sure).elapsed() < unsure;
        match is_sure && !self.lost.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(Error::AlreadyCollecting),
        }
    }

    /// How long everybody needs who does not know of a new phase yet, with something to spare.
    pub(super) fn notice(&self) -> Duration {
        self.shared.views.lease() * 3 / 2
    }
}

/// Gives signs of life until the turn is lost.
async fn beat(
    shared: Arc<Shared>,
    state: Arc<Mutex<Option<State>>>,
    sure: Arc<Lock<Instant>>,
    lost: Arc<AtomicBool>,
) {
    let driver: &dyn Driver = &*shared.driver;
    loop {
        sleep(shared.views.lease() / 2).await;
        let mut state = state.lock().await;
        let Some(mine) = state.as_mut() else {
            continue;
        };
        let began = Instant::now();
        match state::read(driver).await {
            Ok(Some(found)) if found == *mine => {
                let new = State {
                    beat: mine.beat + 1,
                    ..found
                };
                match state::write(driver, &new).await {
                    Ok(()) => {
                        *mine = new;
                        *lock(&sure) = began;
                    }
                    Err(error) => {
                        // It may have been written all the same.
                        warn!(%error, "the state of collection cannot be written");
                        if let Ok(Some(found)) = state::read(driver).await
                            && found == new
                        {
                            *mine = new;
                        }
                    }
                }
            }
            Ok(_) => {
                warn!("another collector has taken over");
                lost.store(true, Ordering::Release);
                return;
            }
            Err(error) => warn!(%error, "the state of collection cannot be read"),
        }
    }
}

fn lock(sure: &Lock<Instant>) -> std::sync::MutexGuard<'_, Instant> {
    sure.lock().unwrap_or_else(PoisonError::into_inner)
}
