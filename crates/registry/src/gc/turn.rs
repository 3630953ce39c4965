//! One collector at a time: whose turn it is, and what it tells the others.

use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{info, warn};
use wharfinger_storage::{Claimed, Durability};

use super::moment::Moment;
use super::state::{self, CollectorId, Phase, RunId, State};
use crate::repository::SharedRef;
use crate::turn::{Claimant, claim};
use crate::{Error, Result, layout};

/// For how many leases others watch a collector for a sign of life before they take over, and for
/// how many whoever has claimed the turn does nothing, as others may have claimed it too.
const SILENCE: u32 = 30;

/// For how many leases a collector goes on that could give no sign of life.
const UNSURE: u32 = 6;

/// A collector's turn. What it has begun stays as it is when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    shared: SharedRef,
    me: CollectorId,
    /// As this collector wrote it, or found it.
    state: Option<State>,
    /// When it last gave a sign of life and knew that it was its turn; `None` where no other
    /// collector can be at work as long as this one lives.
    sure: Option<Arc<Sure>>,
    beating: Option<AbortHandle>,
    _here: OwnedMutexGuard<()>,
    _lock: Option<Claimed>,
}

/// Whether it is known to be a collector's turn. Once it is not, it never is again: somebody may
/// have decided to take over, and not have written that yet.
#[derive(Debug)]
struct Sure(Lock<Option<Moment>>);

impl Sure {
    /// Says that it was so at a moment.
    fn renew(&self, at: Moment, lease: Duration) {
        if self.is_so(lease) {
            *self.lock() = Some(at);
        }
    }

    fn lose(&self) {
        *self.lock() = None;
    }

    fn is_so(&self, lease: Duration) -> bool {
        let mut sure = self.lock();
        *sure = sure.filter(|moment| moment.is_within(lease * UNSURE));
        sure.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Moment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    pub(super) async fn take(shared: &SharedRef) -> Result<Self> {
        let here = Arc::clone(&shared.collecting).try_lock_owned();
        let here = here.map_err(|_| Error::AlreadyCollecting)?;
        let claimant = claim(&*shared.driver, &layout::gc()).ok_or(Error::AlreadyCollecting)?;
        let Claimant { claimed, is_alone } = claimant;
        let mut turn = Self {
            shared: Arc::clone(shared),
            me: CollectorId::generate(),
            state: None,
            sure: (!is_alone).then(|| Arc::new(Sure(Lock::new(Some(Moment::now()))))),
            beating: None,
            _here: here,
            _lock: claimed,
        };
        turn.state = turn.read().await?;
        if let Some(state) = turn.run().cloned() {
            if !is_alone {
                turn.watch(&state).await?;
            }
            turn.take_over(state).await?;
        }
        Ok(turn)
    }

    async fn read(&self) -> Result<Option<State>> {
        match state::read(&*self.shared.driver).await {
            Err(error @ Error::Damaged { .. }) if self.sure.is_none() => {
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
        let first_sign = self.sign_of_life().await?;
        info!(run = %first.run, "a run is not over; waiting for a sign of life of its collector");
        // One more than others go on for, with what they have asked for last.
        for _ in 0..=SILENCE {
            sleep(lease).await;
            let is_same = self.read().await?.as_ref() == Some(first);
            if !is_same || self.sign_of_life().await? != first_sign {
                return Err(Error::AlreadyCollecting);
            }
        }
        Ok(())
    }

    async fn sign_of_life(&self) -> Result<Option<Bytes>> {
        match self.shared.driver.get(&layout::gc_beat()).await {
            Err(error) if error.is_not_found() => Ok(None),
            sign => Ok(Some(sign?)),
        }
    }

    /// Goes on with a run whose collector has gone.
    async fn take_over(&mut self, mut state: State) -> Result<()> {
        // Of this process, it may have left removals under way.
        self.shared.driver.settled().await;
        state.collector = self.me;
        info!(run = %state.run, phase = ?state.phase, "a run whose collector has gone is taken over");
        self.write(state).await
    }

    /// Writes the state, and gives signs of life from then on.
    async fn write(&mut self, state: State) -> Result<()> {
        // What fails here may have been done, or be done yet: the turn ends with the error.
        state::write(&*self.shared.driver, &state).await?;
        self.state = Some(state);
        if let Some(sure) = &self.sure
            && self.beating.is_none()
        {
            *sure.lock() = Some(Moment::now());
            let beat = beat(Arc::clone(&self.shared), self.me, Arc::clone(sure));
            self.beating = Some(tokio::spawn(beat).abort_handle());
        }
        Ok(())
    }

    /// The run that is not over, if there is one.
    pub(super) fn run(&self) -> Option<&State> {
        let state = self.state.as_ref();
        state.filter(|state| state.phase != Phase::Over)
    }

    /// Begins a run: tells everybody of the list of what it wants to remove.
    pub(super) async fn condemn(&mut self, run: RunId, files: u32, evicts: bool) -> Result<()> {
        self.unchanged().await?;
        self.write(State {
            files,
            evicts,
            ..State::new(self.state.as_ref(), run, self.me)
        })
        .await
    }

    /// Tells others, who may want to collect too, that there is nothing to be removed now.
    pub(super) async fn find_nothing(&mut self) -> Result<()> {
        self.unchanged().await?;
        let new = match &self.state {
            Some(last) => State {
                since: Timestamp::now(),
                evicts: false,
                ..last.clone()
            },
            None => State {
                phase: Phase::Over,
                ..State::new(None, RunId::generate(), self.me)
            },
        };
        state::write(&*self.shared.driver, &new).await
    }

    /// Goes on to another phase of the run.
    pub(super) async fn go_on(&mut self, phase: Phase) -> Result<()> {
        self.is_mine().await?;
        let Some(mine) = self.state.clone() else {
            return Ok(());
        };
        self.write(State {
            phase,
            since: Timestamp::now(),
            ..mine
        })
        .await
    }

    /// # Errors
    /// [`Error::AlreadyCollecting`] when somebody else has written the state, or may soon.
    pub(super) async fn is_mine(&self) -> Result<()> {
        self.unchanged().await?;
        self.check()
    }

    /// # Errors
    /// [`Error::AlreadyCollecting`] when somebody else has written the state.
    async fn unchanged(&self) -> Result<()> {
        if self.sure.is_some() && state::read(&*self.shared.driver).await? != self.state {
            return Err(Error::AlreadyCollecting);
        }
        Ok(())
    }

    /// To be asked before anything is removed.
    ///
    /// # Errors
    /// [`Error::AlreadyCollecting`] when it is not known to be this collector's turn any more.
    pub(super) fn check(&self) -> Result<()> {
        let lease = self.shared.views.lease();
        match self.sure.as_ref().is_none_or(|sure| sure.is_so(lease)) {
            true => Ok(()),
            false => Err(Error::AlreadyCollecting),
        }
    }

    /// How long everybody needs who does not know of a new phase yet, with something to spare.
    pub(super) fn notice(&self) -> Duration {
        self.shared.views.lease() * 3 / 2
    }

    /// How long what is condemned stays at the least: whoever else claimed the turn at the same time
    /// has written so by then.
    pub(super) fn least_wait(&self) -> Duration {
        match self.sure {
            Some(_) => self.shared.views.lease() * (SILENCE + 1),
            None => Duration::ZERO,
        }
    }
}

/// Gives signs of life until the turn is lost.
async fn beat(shared: SharedRef, me: CollectorId, sure: Arc<Sure>) {
    let lease = shared.views.lease();
    let driver = &*shared.driver;
    let mut number = 0_u64;
    while sure.is_so(lease) {
        let began = Moment::now();
        number += 1;
        let beat = async {
            let state = state::read(driver).await?;
            if state.is_none_or(|state| state.collector != me) {
                sure.lose();
                return Err(Error::AlreadyCollecting);
            }
            let sign = Bytes::from(format!("{me} {number}"));
            let path = layout::gc_beat();
            Ok(driver.put(&path, sign, Durability::Process).await?)
        };
        match beat.await {
            Ok(()) => sure.renew(began, lease),
            Err(error) => warn!(%error, "a collector could not give a sign of life"),
        }
        sleep(lease / 2).await;
    }
}
