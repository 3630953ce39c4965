//! Reading all blobs in the background, again and again, by one node at a time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use uuid::Uuid;
use wharfinger_oci::Digest;
use wharfinger_storage::Durability;

use super::blobs::Blobs;
use super::quarantine::{Quarantined, quarantine, settle_suspects};
use super::{Position, Repair, VerifyOptions, VerifyStep};
use crate::turn::{ago, claim, is_recent};
use crate::upload::random;
use crate::{Error, Registry, Result, layout};

/// How often it is written down how far it has got, and damage is dealt with.
const EVERY: Duration = Duration::from_secs(10);

/// The first time comes within this time.
const FIRST_WITHIN: Duration = Duration::from_secs(600);

/// How long after a failure, or when another node is at work, it is tried again, at the most.
const RETRY: Duration = Duration::from_secs(600);

/// When blobs are read in the background (`storage.maintenance.scrub`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubSchedule {
    /// The time between having read all of them and beginning anew, on whichever node.
    pub interval: Duration,
    /// How many bytes are read in a second at the most.
    pub rate: Option<u64>,
}

/// What verifications of this process have come to.
#[derive(Debug, Default)]
pub(crate) struct VerifyCounts {
    /// How many blobs were read in the background.
    pub(crate) blobs: AtomicU64,
    /// How many bytes.
    pub(crate) bytes: AtomicU64,
    /// How many blobs were found to be damaged, in the background or while they were served.
    pub(crate) damaged: AtomicU64,
    /// When all blobs had been read the last time, in seconds since 1970; 0 for never.
    pub(crate) last_pass: AtomicU64,
    /// How many blobs were put aside.
    pub(crate) quarantined: AtomicU64,
}

/// What lies in the store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// The node that is at work, or was.
    node: Uuid,
    /// When it wrote this.
    at: Timestamp,
    position: Position,
    /// When all blobs had been read the last time.
    completed: Option<Timestamp>,
}

impl Registry {
    /// Reads all blobs again and again, and puts the damaged ones aside, as long as no other node
    /// does. In read-only mode nothing is done.
    pub fn scrub_regularly(self, schedule: ScrubSchedule) -> BoxFuture<'static, ()> {
        // Compiled once, here, and not in every program that serves.
        Box::pin(self.scrub_forever(schedule))
    }

    async fn scrub_forever(self, schedule: ScrubSchedule) {
        let node = Uuid::new_v4();
        let mut wait = schedule.interval.min(FIRST_WITHIN).mul_f64(random());
        loop {
            debug!(in_seconds = wait.as_secs(), "blobs are read again");
            sleep(wait).await;
            wait = match self.scrub_if_due(schedule, node).await {
                Ok(wait) => wait,
                Err(Error::ReadOnly) => {
                    info!("blobs are not read again in read-only mode");
                    RETRY
                }
                Err(error) => {
                    warn!(%error, "reading blobs again failed");
                    RETRY
                }
            }
            .min(schedule.interval.max(EVERY));
        }
    }

    /// Reads all blobs unless that was done less than an interval ago; gives the time to the next
    /// try.
    async fn scrub_if_due(&self, schedule: ScrubSchedule, node: Uuid) -> Result<Duration> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let state = self.scrub_state().await?;
        if let Some(completed) = state.completed {
            let last = completed.as_second().unsigned_abs();
            self.shared.verified.last_pass.fetch_max(last, Relaxed);
            let ago = ago(completed);
            if state.position == Position::default() && ago < schedule.interval {
                return Ok(schedule.interval - ago);
            }
        }
        let is_at_work =
            state.node != node && state.position != Position::default() && is_recent(state.at);
        // Where two nodes read at once, both read, and no more.
        let claim = claim(&*self.shared.driver, &layout::scrub());
        let Some(_claimed) = claim.filter(|one| one.is_alone || !is_at_work) else {
            return Ok(RETRY);
        };
        settle_suspects(&self.shared).await?;
        info!(
            blobs = state.position.blobs,
            "blobs are read again from here on"
        );
        let position = self.scrub(schedule, node, state).await?;
        let now = Timestamp::now();
        self.write_scrub_state(State {
            node,
            at: now,
            position: Position::default(),
            completed: Some(now),
        })
        .await?;
        let last = now.as_second().unsigned_abs();
        self.shared.verified.last_pass.store(last, Relaxed);
        info!(
            blobs = position.blobs,
            bytes = position.bytes,
            damaged = position.damaged(),
            "all blobs have been read again"
        );
        Ok(schedule.interval)
    }

    /// Reads all blobs from a position on, and gives the one at the end.
    async fn scrub(&self, schedule: ScrubSchedule, node: Uuid, state: State) -> Result<Position> {
        let counts = &self.shared.verified;
        let options = VerifyOptions {
            repair: Repair::Beside,
            workers: 1,
            rate: schedule.rate,
            resume: state.position,
        };
        let mut position = options.resume.clone();
        let (at, reached) = watch::channel(position.clone());
        let mut blobs = Blobs::passing(self, &options);
        let mut told = |step: VerifyStep<'_>| match step {
            VerifyStep::Read(bytes) => drop(counts.bytes.fetch_add(bytes, Relaxed)),
            VerifyStep::Position(position, _) => {
                let before = at.borrow().blobs;
                counts.blobs.fetch_add(position.blobs - before, Relaxed);
                at.send_replace(position.clone());
            }
            VerifyStep::Repository(..) | VerifyStep::Found(_) => {}
        };
        let mut dealt_with = HashSet::new();
        let mut reading = std::pin::pin!(blobs.read_all(&mut position, &mut told));
        let read = loop {
            tokio::select! {
                read = &mut reading => break read,
                () = sleep(EVERY) => {}
            }
            let position = reached.borrow().clone();
            self.deal_with(&position, &mut dealt_with).await?;
            self.write_scrub_state(State {
                node,
                at: Timestamp::now(),
                position,
                completed: state.completed,
            })
            .await?;
        };
        read?;
        let position = reached.borrow().clone();
        self.deal_with(&position, &mut dealt_with).await?;
        Ok(position)
    }

    /// Puts aside what is damaged.
    async fn deal_with(&self, position: &Position, known: &mut HashSet<Digest>) -> Result<()> {
        for digest in position.damaged.keys() {
            if !known.insert(*digest) {
                continue;
            }
            match quarantine(&self.shared, digest, false).await? {
                Quarantined::Done | Quarantined::NotDamaged => {}
                Quarantined::Left(why) => {
                    warn!(path = %layout::blob_data(digest), why, "a damaged blob stays");
                }
            }
        }
        Ok(())
    }

    async fn scrub_state(&self) -> Result<State> {
        let path = layout::scrub_state();
        let content = match self.shared.driver.get(&path).await {
            Err(error) if error.is_not_found() => return Ok(State::default()),
            content => content?,
        };
        Ok(serde_json::from_slice(&content).unwrap_or_else(|error| {
            warn!(%path, %error, "it does not say how far blobs have been read; all are read anew");
            State::default()
        }))
    }

    async fn write_scrub_state(&self, state: State) -> Result<()> {
        let _writing = self.shared.writing()?;
        let path = layout::scrub_state();
        let content = serde_json::to_vec(&state).map_err(|error| Error::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let content = Bytes::from(content);
        // Whatever a crash leaves of it, blobs are read once more at worst.
        let driver = &self.shared.driver;
        Ok(driver.put(&path, content, Durability::Process).await?)
    }
}
