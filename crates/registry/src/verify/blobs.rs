//! Reading all blobs, several at once, in the order of their digests.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;
use wharfinger_oci::Digest;
use wharfinger_storage::StoragePath;

use super::check::{Checked, check};
use super::{HALF_MADE_AGE, Position, Repair, VerifyOptions, VerifyStep};
use crate::blob_walk::BlobWalk;
use crate::gc::BlobSet;
use crate::pace::Pace;
use crate::repository::Shared;
use crate::{Registry, Result, layout};

/// How many blobs may be done that come behind one which is still being read.
const AHEAD: usize = 64 * 1024;

/// The blobs of a store.
pub(super) struct Blobs<'a> {
    registry: &'a Registry,
    workers: usize,
    pace: Arc<Pace>,
    /// How old something half made must be.
    settled: Duration,
    /// Those that are there, where anybody wants to know.
    present: Option<BlobSet>,
}

/// What became of a blob.
enum Read {
    Done(Checked),
    /// There is only its folder, and has been for a while.
    HalfMade,
}

impl<'a> Blobs<'a> {
    pub(super) fn new(registry: &'a Registry, options: &VerifyOptions) -> Self {
        Self {
            registry,
            workers: options.workers.max(1),
            pace: Arc::new(Pace::new(options.rate.and_then(NonZeroU64::new))),
            settled: match options.repair {
                Repair::Alone => Duration::ZERO,
                Repair::Nothing | Repair::Beside => HALF_MADE_AGE,
            },
            present: Some(BlobSet::default()),
        }
    }

    /// The same where nobody wants to know which there are.
    pub(super) fn passing(registry: &'a Registry, options: &VerifyOptions) -> Self {
        Self {
            present: None,
            ..Self::new(registry, options)
        }
    }

    /// Those that are there.
    pub(super) fn present(self) -> BlobSet {
        self.present.unwrap_or_default()
    }

    /// Reads all blobs behind a position, and moves it on.
    ///
    /// # Errors
    /// That the store failed.
    pub(super) async fn read_all(
        &mut self,
        position: &mut Position,
        told: &mut (impl FnMut(VerifyStep<'_>) + Send),
    ) -> Result<()> {
        let mut walk = BlobWalk::new(self.registry);
        let mut reading = JoinSet::new();
        // Bytes, as they are read: a large blob takes its time.
        let (progress, mut bytes) = mpsc::unbounded_channel();
        let mut order = VecDeque::new();
        let mut done = BTreeMap::new();
        let mut more = true;
        loop {
            while more && reading.len() < self.workers && order.len() < AHEAD {
                match walk.next().await? {
                    None => more = false,
                    Some(digest) if position.is_behind(&digest) => self.knew(position, &digest),
                    Some(digest) => {
                        order.push_back(digest);
                        reading.spawn(self.reading(digest, progress.clone()));
                    }
                }
            }
            let ended = tokio::select! {
                Some(bytes) = bytes.recv() => {
                    told(VerifyStep::Read(bytes));
                    continue;
                }
                ended = reading.join_next() => ended,
            };
            let (digest, read) = match ended {
                None => {
                    while let Ok(bytes) = bytes.try_recv() {
                        told(VerifyStep::Read(bytes));
                    }
                    return Ok(());
                }
                Some(Ok(ended)) => ended,
                Some(Err(error)) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => continue, // nobody ends it but who drops all of this
                },
            };
            done.insert(digest, read?);
            let mut has_moved = false;
            while let Some(first) = order.front()
                && let Some(read) = done.remove(first)
            {
                self.note(position, *first, read);
                order.pop_front();
                has_moved = true;
            }
            if has_moved {
                told(VerifyStep::Position(position, position.part()));
            }
        }
    }

    /// Reads a blob.
    fn reading(
        &self,
        digest: Digest,
        progress: mpsc::UnboundedSender<u64>,
    ) -> impl Future<Output = (Digest, Result<Read>)> + Send + 'static {
        let shared = Arc::clone(&self.registry.shared);
        let (pace, settled) = (Arc::clone(&self.pace), self.settled);
        async move {
            let told = |bytes| {
                // Nobody listens any more when all of it has been given up.
                let _ = progress.send(bytes);
            };
            let data = layout::blob_data(&digest);
            let read = async {
                let checked = check(&*shared.driver, &data, &digest, &pace, told).await?;
                let folder = layout::blob(&digest);
                if checked == Checked::Missing && is_old(&shared, &folder, settled).await? {
                    return Ok(Read::HalfMade);
                }
                Ok(Read::Done(checked))
            };
            (digest, read.await)
        }
    }

    /// Notes that a blob is there which was read before.
    fn knew(&mut self, position: &Position, digest: &Digest) {
        if position.half_made.binary_search(digest).is_err() {
            self.has(digest);
        }
    }

    fn has(&mut self, digest: &Digest) {
        if let Some(present) = &mut self.present {
            present.insert(digest);
        }
    }

    fn note(&mut self, position: &mut Position, digest: Digest, read: Read) {
        position.behind = Some(digest);
        match read {
            Read::Done(Checked::Missing) => return,
            Read::HalfMade => {
                position.half_made.push(digest);
                return;
            }
            Read::Done(Checked::Whole(bytes)) => position.bytes += bytes,
            Read::Done(Checked::Damaged(reason)) => {
                warn!(path = %layout::blob_data(&digest), reason, "a blob is damaged");
                self.registry.shared.verified.damaged.fetch_add(1, Relaxed);
                position.damaged.insert(digest, reason);
            }
        }
        position.blobs += 1;
        self.has(&digest);
    }
}

/// Whether something is there that was not written to for so long.
pub(super) async fn is_old(shared: &Shared, path: &StoragePath, age: Duration) -> Result<bool> {
    let stat = match shared.driver.stat(path).await {
        Err(error) if error.is_not_found() => return Ok(false),
        stat => stat?,
    };
    let ago = |written: SystemTime| SystemTime::now().duration_since(written).ok();
    Ok(age.is_zero() || stat.modified.and_then(ago).is_some_and(|ago| ago >= age))
}
