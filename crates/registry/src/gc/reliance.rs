//! The writers' side: to depend on what is there already, without a collection taking it away.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};

use super::item::{self, Item};
use super::state::Phase;
use super::view::View;
use crate::repository::SharedRef;
use crate::{Error, Result};

/// How long a request waits for the end of a run that removes what it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many pardons are written at once.
const CONCURRENCY: usize = 8;

/// What a request depends on and does not write itself, or may not have to.
#[derive(Debug)]
pub(crate) struct Reliance {
    shared: SharedRef,
    view: Arc<View>,
    on: Vec<Item>,
}

impl Reliance {
    /// To be called before anything is looked at that the request will depend on.
    pub(crate) async fn begin(shared: &SharedRef) -> Result<Self> {
        let descriptors = shared.descriptors.as_ref();
        let view = shared.views.get(&*shared.driver, descriptors).await?;
        Ok(Self {
            shared: Arc::clone(shared),
            view,
            on: Vec::new(),
        })
    }

    /// The same where a run is on, which may remove what is there. Without one nothing goes before who
    /// is told of it from now on had time to depend on it, and there is no need of a reliance.
    ///
    /// # Errors
    /// That the store failed.
    pub(crate) async fn during_run(shared: &SharedRef) -> Result<Option<Self>> {
        if shared.views.tell_of_no_run() {
            return Ok(None);
        }
        let reliance = Self::begin(shared).await?;
        Ok(reliance.is_run_on().then_some(reliance))
    }

    /// Sees to it that no collection removes these. False when that is not possible now, or one may
    /// have removed some of them meanwhile: then [`wait`](Self::wait), and look again at whatever
    /// was looked at since [`begin`](Self::begin).
    ///
    /// # Errors
    /// That the store failed.
    pub(crate) async fn rely_on(&mut self, items: impl IntoIterator<Item = Item>) -> Result<bool> {
        let known = self.on.len();
        self.on.extend(items);
        loop {
            let condemned = |item: &&Item| self.view.condemns(item);
            let condemned: Vec<&Item> = self.on[known..].iter().filter(condemned).collect();
            if condemned.is_empty() {
                return Ok(true);
            }
            if self.view.phase() == Phase::Executing {
                return Ok(false);
            }
            self.pardon(&condemned).await?;
            let newer = match self.view.holds() {
                true => Arc::clone(&self.view),
                false => self.newer().await?,
            };
            if newer.run() != self.view.run() || newer.phase() != Phase::Condemned {
                self.view = newer;
                return Ok(false);
            }
            newer.remember_pardons(condemned);
            self.view = newer;
        }
    }

    /// Waits until no collection removes what the request depends on. No lock may be held that the
    /// collection could need.
    ///
    /// # Errors
    /// [`Error::Collecting`] when it takes too long.
    pub(crate) async fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.view.phase() == Phase::Executing && self.on.iter().any(|i| self.view.condemns(i))
        {
            if Instant::now() >= deadline {
                return Err(Error::Collecting);
            }
            sleep(self.shared.views.lease() / 10).await;
            self.view = self.newer().await?;
        }
        // Under whatever run there is now, all of it is relied on anew.
        self.on.clear();
        Ok(())
    }

    /// Relies on what has not been looked at yet, so that it does not matter if it goes first.
    ///
    /// # Errors
    /// [`Error::Collecting`] when a collection that removes it takes too long.
    pub(crate) async fn keep(&mut self, items: &[Item]) -> Result<()> {
        while !self.rely_on(items.iter().cloned()).await? {
            self.wait().await?;
        }
        Ok(())
    }

    /// Whether a run has something condemned that may still be there.
    pub(crate) fn is_run_on(&self) -> bool {
        self.view.phase() != Phase::Over
    }

    /// Whether a run removes this at the moment: it may be there still, and will not be.
    pub(crate) fn is_lost(&self, item: &Item) -> bool {
        self.view.phase() == Phase::Executing && self.view.condemns(item)
    }

    /// To be called when all is done and before it is acknowledged; before something is replaced
    /// that others see at once, too.
    ///
    /// # Errors
    /// [`Error::Collecting`] when collections went by meanwhile that the request knew nothing of.
    pub(crate) async fn confirm(&mut self) -> Result<()> {
        if self.view.holds() {
            return Ok(());
        }
        let newer = self.newer().await?;
        if newer.run() == self.view.run() {
            self.view = newer;
            return Ok(());
        }
        let follows = newer.previous() == self.view.run() && self.view.phase() == Phase::Over;
        if !follows || newer.phase() == Phase::Over {
            return Err(Error::Collecting);
        }
        self.view = newer;
        let on = std::mem::take(&mut self.on);
        match self.rely_on(on).await? {
            true => Ok(()),
            false => Err(Error::Collecting),
        }
    }

    async fn pardon(&self, items: &[&Item]) -> Result<()> {
        let Some(run) = self.view.run() else {
            return Ok(());
        };
        let driver = &*self.shared.driver;
        let writes: Vec<_> = items
            .iter()
            .map(|item| item::write_pardon(driver, run, item))
            .collect();
        stream::iter(writes)
            .buffered(CONCURRENCY)
            .try_collect::<()>()
            .await
    }

    async fn newer(&self) -> Result<Arc<View>> {
        let descriptors = self.shared.descriptors.as_ref();
        let driver = &*self.shared.driver;
        self.shared.views.get_newer(driver, descriptors).await
    }
}
