//! What a node knows of collections, and for how long it may act on it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use wharfinger_storage::Driver;

use super::item::{self, Fingerprint, Item};
use super::moment::Moment;
use super::state::{self, Phase, RunId, State};
use crate::descriptor_cache::DescriptorCache;
use crate::{Error, Result};

/// How often it is tried to read the state together with its list: a run can end in between.
const TRIES: usize = 5;

/// The state of collection as it was read once.
#[derive(Debug)]
pub(super) struct View {
    state: Option<State>,
    condemned: Arc<Condemned>,
    /// When reading it began.
    read: Moment,
    lease: Duration,
}

/// What a run has condemned.
#[derive(Debug, Default)]
struct Condemned {
    /// In order.
    listed: Vec<Fingerprint>,
    /// What this node has pardoned of it, and has seen to count.
    pardoned: Lock<HashSet<Fingerprint>>,
}

impl View {
    /// Whether an answer may still be based on it.
    pub(super) fn holds(&self) -> bool {
        self.read.is_within(self.lease)
    }

    pub(super) fn run(&self) -> Option<RunId> {
        self.state.as_ref().map(|state| state.run)
    }

    /// The run before.
    pub(super) fn previous(&self) -> Option<RunId> {
        self.state.as_ref().and_then(|state| state.previous)
    }

    /// The phase of the run; without one nothing is removed, as when it is over.
    pub(super) fn phase(&self) -> Phase {
        self.state.as_ref().map_or(Phase::Over, |state| state.phase)
    }

    /// Whether the run wants to remove this, as far as it has not been pardoned by this node.
    pub(super) fn condemns(&self, item: &Item) -> bool {
        if self.condemned.listed.is_empty() {
            return false;
        }
        let fingerprint = item.fingerprint();
        self.condemned.listed.binary_search(&fingerprint).is_ok()
            && !self.pardoned().contains(&fingerprint)
    }

    /// Remembers pardons that count.
    pub(super) fn remember_pardons<'a>(&self, items: impl IntoIterator<Item = &'a Item>) {
        let items = items.into_iter().map(Item::fingerprint);
        self.pardoned().extend(items);
    }

    fn pardoned(&self) -> std::sync::MutexGuard<'_, HashSet<Fingerprint>> {
        let pardoned = self.condemned.pardoned.lock();
        pardoned.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The views of a node: each is read when the last one holds no longer, and somebody needs one.
#[derive(Debug)]
pub(crate) struct Views {
    lease: Duration,
    current: ArcSwapOption<View>,
    reading: Mutex<()>,
}

impl Views {
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            lease,
            current: ArcSwapOption::empty(),
            reading: Mutex::default(),
        }
    }

    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    /// Whether the last one holds, and no run is on by it.
    pub(super) fn tell_of_no_run(&self) -> bool {
        let view = self.current.load();
        view.as_ref()
            .is_some_and(|view| view.phase() == Phase::Over && view.holds())
    }

    /// A view that holds.
    pub(super) async fn get(
        &self,
        driver: &dyn Driver,
        descriptors: Option<&DescriptorCache>,
    ) -> Result<Arc<View>> {
        if let Some(view) = self.current.load_full()
            && view.holds()
        {
            return Ok(view);
        }
        // In a box, so that most requests need no room for it.
        Box::pin(async {
            let _reading = self.reading.lock().await;
            match self.current.load_full() {
                Some(view) if view.holds() => Ok(view),
                _ => self.read(driver, descriptors).await,
            }
        })
        .await
    }

    /// A view that was read after this was called.
    pub(super) async fn get_newer(
        &self,
        driver: &dyn Driver,
        descriptors: Option<&DescriptorCache>,
    ) -> Result<Arc<View>> {
        let called = Moment::now();
        let _reading = self.reading.lock().await;
        match self.current.load_full() {
            Some(view) if view.read.is_since(&called) => Ok(view),
            _ => self.read(driver, descriptors).await,
        }
    }

    async fn read(
        &self,
        driver: &dyn Driver,
        descriptors: Option<&DescriptorCache>,
    ) -> Result<Arc<View>> {
        let last = self.current.load_full();
        let mut tries = 0;
        loop {
            let read = Moment::now();
            let state = state::read(driver).await?;
            let is_new = last.as_ref().is_none_or(|last| {
                last.run() != state.as_ref().map(|state| state.run)
                    || last.state.as_ref().map(|last| last.phase)
                        != state.as_ref().map(|state| state.phase)
            });
            if is_new && let Some(descriptors) = descriptors {
                // What they stand for may have been removed.
                descriptors.clear_all();
            }
            let condemned = match condemned(driver, state.as_ref(), last.as_deref()).await {
                Err(Error::Storage(error)) if error.is_not_found() && tries < TRIES => {
                    tries += 1;
                    continue;
                }
                condemned => condemned?,
            };
            let view = Arc::new(View {
                state,
                condemned,
                read,
                lease: self.lease,
            });
            self.current.store(Some(Arc::clone(&view)));
            return Ok(view);
        }
    }
}

async fn condemned(
    driver: &dyn Driver,
    state: Option<&State>,
    last: Option<&View>,
) -> Result<Arc<Condemned>> {
    let Some(state) = state.filter(|state| state.phase != Phase::Over) else {
        return Ok(Arc::default());
    };
    if let Some(last) = last
        && last.run() == Some(state.run)
        && last.phase() != Phase::Over
    {
        return Ok(Arc::clone(&last.condemned));
    }
    let mut listed = Vec::new();
    for file in 0..state.files {
        let entries = item::read_list(driver, state.run, file).await?;
        listed.extend(entries.iter().map(|entry| entry.item.fingerprint()));
    }
    listed.sort_unstable();
    Ok(Arc::new(Condemned {
        listed,
        pardoned: Lock::default(),
    }))
}
