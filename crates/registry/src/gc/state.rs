//! Where collection stands, as all nodes read it from the store.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wharfinger_storage::{Driver, Durability};

use crate::{Error, Result, layout};

/// The name of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RunId(Uuid);

/// The name of whoever collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct CollectorId(Uuid);

impl RunId {
    pub(super) fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl CollectorId {
    pub(super) fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Display for CollectorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// How far a run has got, as others must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// What it wants to remove is known, and can be pardoned.
    Condemned,
    /// What has not been pardoned is removed.
    Executing,
    /// It removes nothing any more.
    Over,
}

/// Where collection stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The run.
    pub(crate) run: RunId,
    /// The run before it.
    pub(crate) previous: Option<RunId>,
    pub(crate) phase: Phase,
    /// When the phase began, by the collector's clock.
    pub(crate) since: Timestamp,
    /// How many files the list of what is condemned has.
    pub(super) files: u32,
    pub(super) collector: CollectorId,
    /// Whether the run is an eviction, which does not count as a collection.
    #[serde(default)]
    pub(super) evicts: bool,
    /// When the last collection before this run ended.
    #[serde(default)]
    pub(super) collected: Option<Timestamp>,
}

impl State {
    /// A run's first state, after `last`.
    pub(super) fn new(last: Option<&Self>, run: RunId, collector: CollectorId) -> Self {
        Self {
            run,
            previous: last.map(|last| last.run),
            phase: Phase::Condemned,
            since: Timestamp::now(),
            files: 0,
            collector,
            evicts: false,
            collected: last.and_then(Self::last_collected),
        }
    }

    /// When the last collection ended that was none of a cache.
    pub(super) fn last_collected(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Over if !self.evicts => Some(self.since),
            _ => self.collected,
        }
    }
}

/// The state, or `None` where nobody has ever collected.
///
/// # Errors
/// [`Error::Damaged`] when it is not one.
pub(super) async fn read(driver: &dyn Driver) -> Result<Option<State>> {
    let path = layout::gc_state();
    let content = match driver.get(&path).await {
        Err(error) if error.is_not_found() => return Ok(None),
        content => content?,
    };
    serde_json::from_slice(&content)
        .map(Some)
        .map_err(|error| Error::Damaged {
            path,
            reason: format!(
                "it does not say where collection stands ({error}); remove it while nothing is \
                 collected"
            ),
        })
}

pub(super) async fn write(driver: &dyn Driver, state: &State) -> Result<()> {
    let content = serde_json::to_vec(state).expect("it has nothing that JSON has not");
    let content = Bytes::from(content);
    Ok(driver
        .put(&layout::gc_state(), content, Durability::Machine)
        .await?)
}
