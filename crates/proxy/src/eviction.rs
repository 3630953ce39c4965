//! What is kept and not used any more goes: when it was not used for longer than an upstream's time
//! to live, and when all that is kept takes more room than it may, least recently used first.
//!
//! What lies in the store is found out by looking, again and again; only what cannot change is
//! remembered: what manifests mention, and sizes. So it makes no difference who else writes there,
//! or what happened before a start. What goes, goes by [`Registry::evict`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use wharfinger_oci::{Choice, RepositoryName};
use wharfinger_registry::{Error as RegistryError, Registry};

use crate::metrics::{EvictionMetrics, Reason};

mod selection;
mod survey;
mod uses;

use selection::select;
use survey::{Known, Survey};
pub use uses::Uses;

/// How often it is looked for what has not been used for too long, at the most.
const LOOK: Duration = Duration::from_secs(600);

/// How soon after one look the next one may come: it can have removed something, and who writes for
/// longer than that is told to try again.
const PAUSE: Duration = Duration::from_secs(60);

/// How often the times of use are written down.
const WRITE: Duration = Duration::from_secs(300);

/// How soon they are where something is used again that was not for long.
const SOON: Duration = Duration::from_secs(10);

/// How one upstream's content is kept.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// How long it is kept without being used; `None` is for ever.
    pub ttl: Option<Duration>,
    /// What stays in any case; `None` is nothing.
    pub pinned: Option<Choice>,
}

/// Tells how the content of a repository is kept; `None` for a repository that is no cache.
pub type Retentions = Arc<dyn Fn(&RepositoryName) -> Option<Arc<Retention>> + Send + Sync>;

/// What decides about evictions.
#[derive(Clone, derive_more::Debug)]
pub struct EvictionOptions {
    /// How each repository's content is kept.
    #[debug(skip)]
    pub retentions: Retentions,
    /// How much all of it may take, in bytes; `None` is any amount.
    pub size: Option<u64>,
    /// How long what a collection that was cut off has condemned stays before it goes.
    pub grace: Duration,
}

/// What an eviction came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// How many manifests, and how many blobs of repositories, are gone.
    pub items: u64,
    /// How many bytes are gone.
    pub bytes: u64,
    /// How many bytes are kept.
    pub kept: u64,
}

/// Evicts what caches keep in a registry. Clones are cheap and share everything.
#[derive(Clone, Debug)]
pub struct Eviction {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    registry: Registry,
    uses: Uses,
    options: EvictionOptions,
    metrics: EvictionMetrics,
    known: Mutex<Known>,
    /// How much was kept when it was looked the last time, in bytes, with what has come since.
    room: Arc<Room>,
}

/// How much is kept, as far as it is known without looking.
#[derive(Debug, Default)]
pub(crate) struct Room {
    kept: AtomicU64,
    /// How much may be.
    limit: Option<u64>,
    exceeded: Notify,
}

impl Room {
    /// So many bytes are kept besides.
    pub(crate) fn take(&self, bytes: u64) {
        let before = self.kept.fetch_add(bytes, Relaxed);
        let is_more = |limit| before.saturating_add(bytes) > limit;
        if self.limit.is_some_and(is_more) {
            self.exceeded.notify_one();
        }
    }
}

impl Eviction {
    /// What evicts from `registry` what `options` say.
    pub fn new(registry: Registry, options: EvictionOptions) -> Self {
        let room = Arc::new(Room {
            limit: options.size,
            ..Room::default()
        });
        Self {
            shared: Arc::new(Shared {
                uses: Uses::new(registry.clone(), Arc::clone(&room)),
                registry,
                options,
                metrics: EvictionMetrics::default(),
                known: Mutex::default(),
                room,
            }),
        }
    }

    /// What caches tell when content is used.
    pub fn uses(&self) -> Uses {
        self.shared.uses.clone()
    }

    /// What it counts.
    pub fn metrics(&self) -> &EvictionMetrics {
        &self.shared.metrics
    }

    /// Evicts again and again, and writes down what was used when. Of several nodes one evicts at a
    /// time. In read-only mode nothing goes.
    pub async fn run_regularly(self) {
        let shared = &self.shared;
        let mut look = Instant::now();
        let mut write = Instant::now() + WRITE;
        loop {
            tokio::select! {
                () = sleep_until(look) => {
                    // What is more than may be is found by looking, too.
                    let failed = self.run(Timestamp::now()).await.err();
                    match failed {
                        None | Some(RegistryError::ReadOnly) => {}
                        Some(RegistryError::AlreadyCollecting) => {
                            info!("nothing is evicted while something is collected");
                        }
                        Some(error) => warn!(%error, "what is not used any more stays"),
                    }
                    look = Instant::now() + LOOK;
                }
                () = shared.room.exceeded.notified() => {
                    look = look.min(Instant::now() + PAUSE);
                }
                () = shared.uses.urgent.notified() => {
                    write = write.min(Instant::now() + SOON);
                }
                () = sleep_until(write) => {
                    self.write_uses().await;
                    write = Instant::now() + WRITE;
                }
            }
        }
    }

    /// Writes down when content was used, as far as that has changed.
    pub async fn write_uses(&self) {
        match self.shared.uses.write().await {
            Ok(()) | Err(RegistryError::ReadOnly) => {}
            Err(error) => warn!(%error, "when content was used is not written down"),
        }
    }

    /// Looks at what is kept, and evicts what is due at `now`.
    ///
    /// # Errors
    /// As those of [`Registry::evict`].
    pub async fn run(&self, now: Timestamp) -> Result<Evicted, RegistryError> {
        let shared = &*self.shared;
        let mut known = shared.known.lock().await;
        let survey = Survey::take(
            &shared.registry,
            &shared.options,
            &shared.uses,
            &mut known,
            now,
        );
        let survey = survey.await?;
        shared.uses.write().await?;
        shared.keeps(survey.size());
        let selection = select(&survey, shared.options.size, now);
        let mut evicted = Evicted {
            kept: survey.size(),
            ..Evicted::default()
        };
        let Some(leaving) = selection.leaving() else {
            return Ok(evicted);
        };
        info!(
            unused = selection.number(Reason::Ttl),
            for_room = selection.number(Reason::Size),
            kept_bytes = survey.size(),
            "what is not used any more is evicted"
        );
        let report = shared
            .registry
            .evict(&leaving, shared.options.grace)
            .await?;
        // Nothing tells of each thing whether it was spared: it is looked again.
        let after = Survey::take(
            &shared.registry,
            &shared.options,
            &shared.uses,
            &mut known,
            now,
        );
        let after = after.await?;
        known.forget_all_but(&after);
        shared.uses.forget_all_but(&after).await?;
        for ((reason, kind), (number, bytes)) in selection.gone(&after) {
            shared.metrics.evicted(reason, kind, number, bytes);
            evicted.items += number;
            evicted.bytes += bytes;
        }
        evicted.kept = after.size();
        shared.keeps(after.size());
        info!(
            items = evicted.items,
            bytes = evicted.bytes,
            spared = report.spared,
            kept_bytes = evicted.kept,
            "the eviction is over"
        );
        Ok(evicted)
    }
}

impl Shared {
    fn keeps(&self, bytes: u64) {
        self.room.kept.store(bytes, Relaxed);
        self.metrics
            .size
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
