//! Work that one of the nodes on a store does at a time, again and again.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;
use wharfinger_storage::{Claim, ClaimError, Claimed, Driver, Durability, StoragePath};

use crate::{Error, Registry, Result, layout};

/// For how long a node that has written nothing is believed to be at work.
const SILENCE: Duration = Duration::from_secs(120);

/// Whether it is a node's turn.
#[derive(Debug)]
pub enum TurnTaking {
    /// It is.
    Taken(Turn),
    /// The work was done; it is due after so long.
    Later(Duration),
    /// Another node is at work.
    Others,
}

/// A node's turn, which is given up with it.
#[derive(Debug)]
pub struct Turn {
    registry: Registry,
    work: String,
    node: Uuid,
    interval: Duration,
    /// When the work was done before.
    completed: Option<Timestamp>,
    _claimed: Option<Claimed>,
}

/// What lies in the store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// The node that is at work, or was.
    node: Uuid,
    /// When it wrote this.
    at: Timestamp,
    /// Whether it is at work.
    working: bool,
    /// When the work was done the last time.
    completed: Option<Timestamp>,
}

impl Registry {
    /// Asks whether it is this node's turn to do some work, which is due after an interval. Where
    /// files cannot be locked, two nodes may do it at once.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], or when the store fails.
    pub async fn take_turn(
        &self,
        work: &str,
        node: Uuid,
        interval: Duration,
    ) -> Result<TurnTaking> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let before = self.turn_state(work).await?;
        if let Some(ago) = before.completed.map(ago).filter(|ago| *ago < interval) {
            return Ok(TurnTaking::Later(interval - ago));
        }
        let is_at_work = before.node != node && before.working && is_recent(before.at);
        let claim = claim(&*self.shared.driver, &layout::turn(work));
        let Some(Claimant { claimed, .. }) = claim.filter(|one| one.is_alone || !is_at_work) else {
            return Ok(TurnTaking::Others);
        };
        let turn = Turn {
            registry: self.clone(),
            work: work.to_owned(),
            node,
            interval,
            completed: before.completed,
            _claimed: claimed,
        };
        turn.write(true, turn.completed).await?;
        Ok(TurnTaking::Taken(turn))
    }

    async fn turn_state(&self, work: &str) -> Result<State> {
        let path = layout::turn_state(work);
        let content = match self.shared.driver.get(&path).await {
            Err(error) if error.is_not_found() => return Ok(State::default()),
            content => content?,
        };
        Ok(serde_json::from_slice(&content).unwrap_or_else(|error| {
            warn!(%path, %error, "it does not say when this was done; it is done now");
            State::default()
        }))
    }
}

impl Turn {
    /// Tells other nodes that this one is at work. Should be done more often than once in two
    /// minutes.
    pub async fn beat(&self) {
        if let Err(error) = self.write(true, self.completed).await {
            warn!(work = self.work, %error, "other nodes cannot be told that this one is at work");
        }
    }

    /// Tells that the work was done; gives the time to the next one, or nothing when that cannot be
    /// told.
    pub async fn end(self) -> Option<Duration> {
        match self.write(false, Some(Timestamp::now())).await {
            Ok(()) => Some(self.interval),
            Err(error) => {
                warn!(work = self.work, %error, "it cannot be told that this was done");
                None
            }
        }
    }

    async fn write(&self, working: bool, completed: Option<Timestamp>) -> Result<()> {
        let shared = &self.registry.shared;
        let _writing = shared.writing()?;
        let path = layout::turn_state(&self.work);
        let state = State {
            node: self.node,
            at: Timestamp::now(),
            working,
            completed,
        };
        let content = serde_json::to_vec(&state).map_err(|error| Error::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        // Whatever a crash leaves of it, the work is done once more at worst.
        let put = shared
            .driver
            .put(&path, Bytes::from(content), Durability::Process);
        Ok(put.await?)
    }
}

/// Whoever has claimed work that one node does at a time.
#[derive(Debug)]
pub(crate) struct Claimant {
    /// What ends with the claim, where there is a lock.
    pub(crate) claimed: Option<Claimed>,
    /// Whether no other node can have claimed it. Else they know each other by what they write only.
    pub(crate) is_alone: bool,
}

/// Claims the work that has a folder of its own; `None` when another node has it.
pub(crate) fn claim(driver: &dyn Driver, folder: &StoragePath) -> Option<Claimant> {
    let (claimed, is_alone) = match driver.claim(Claim::Folder(folder)) {
        Ok(Some(claimed)) => (Some(claimed), true),
        Ok(None) => (None, !driver.has_only_objects()),
        Err(ClaimError::Taken) => return None,
        Err(error @ ClaimError::Unlockable(_)) => {
            warn!(%folder, %error, "other nodes at this work are known by what they write only");
            (None, false)
        }
    };
    Some(Claimant { claimed, is_alone })
}

/// Whether a node that wrote something then is believed to be still at work.
pub(crate) fn is_recent(moment: Timestamp) -> bool {
    ago(moment) < SILENCE
}

/// How long ago something was; no time where it lies in the future.
pub(crate) fn ago(moment: Timestamp) -> Duration {
    let ago = Timestamp::now().duration_since(moment);
    Duration::try_from(ago).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wharfinger_storage::testing::fault::{Cause, Effect, Fault, FaultDriver, Operation};
    use wharfinger_storage::{FilesystemDriver, FilesystemOptions, MemoryDriver};

    use super::*;
    use crate::Options;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A turn that nobody keeps from the node, and why.
    async fn taken(registry: &Registry, node: Uuid, why: &str) -> Turn {
        match registry.take_turn("work", node, HOUR).await.unwrap() {
            TurnTaking::Taken(turn) => turn,
            other => panic!("{why}: {other:?}"),
        }
    }

    async fn others_have_it(registry: &Registry, node: Uuid) {
        let others = registry.take_turn("work", node, HOUR).await.unwrap();
        assert!(matches!(others, TurnTaking::Others), "{others:?}");
    }

    #[tokio::test]
    async fn one_node_has_the_turn_and_the_next_comes_when_it_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let node = || {
            let driver =
                Arc::new(FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap());
            Registry::new(driver, Options::default()).unwrap()
        };
        let (one, two) = (node(), node());
        let [a, b] = [Uuid::new_v4(), Uuid::new_v4()];
        let turn = taken(&one, a, "nobody else wants it").await;
        turn.beat().await;
        others_have_it(&two, b).await;
        let other_work = two.take_turn("other", b, HOUR).await.unwrap();
        assert!(matches!(other_work, TurnTaking::Taken(_)));
        // One that has gone without a word leaves it to others.
        drop(turn);
        let turn = taken(&two, b, "nobody is at work").await;
        assert_eq!(turn.end().await, Some(HOUR));
        let later = one.take_turn("work", a, HOUR).await.unwrap();
        let TurnTaking::Later(wait) = later else {
            panic!("it was done: {later:?}");
        };
        assert!(wait <= HOUR && wait > HOUR / 2);
        let again = one.take_turn("work", a, Duration::ZERO).await.unwrap();
        assert!(matches!(again, TurnTaking::Taken(_)), "{again:?}");
        let read_only = Registry::new(
            Arc::new(FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap()),
            Options {
                read_only: true,
                ..Options::default()
            },
        );
        let refused = read_only.unwrap().take_turn("work", a, HOUR).await;
        assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
    }

    /// As in a bucket, where nodes know each other by what they write alone.
    #[tokio::test]
    async fn where_nothing_can_be_locked_a_node_is_known_by_what_it_wrote() {
        let driver = Arc::new(FaultDriver::new(MemoryDriver::new()));
        driver.plan(Fault::new(Effect::Fail(Cause::Io)).on(Operation::Claim));
        let node = || {
            let driver: Arc<dyn Driver> = driver.clone();
            Registry::new(driver, Options::default()).unwrap()
        };
        let (one, two) = (node(), node());
        let [a, b] = [Uuid::new_v4(), Uuid::new_v4()];
        let turn = taken(&one, a, "nobody else wants it").await;
        turn.beat().await;
        others_have_it(&two, b).await;
        // One that has gone without a word is waited for, unless it comes back itself.
        drop(turn);
        others_have_it(&two, b).await;
        let turn = taken(&one, a, "it is its own turn").await;
        let silent = State {
            node: a,
            at: Timestamp::now() - SILENCE,
            working: true,
            completed: None,
        };
        let silent = Bytes::from(serde_json::to_vec(&silent).unwrap());
        let state = layout::turn_state("work");
        let put = driver.put(&state, silent, Durability::Process);
        put.await.unwrap();
        drop(turn);
        let turn = taken(&two, b, "the other one has been silent for too long").await;
        assert_eq!(turn.end().await, Some(HOUR));
        let later = one.take_turn("work", a, HOUR).await.unwrap();
        assert!(matches!(later, TurnTaking::Later(_)), "{later:?}");
    }
}
