//! What goes on besides answering requests, until the process ends.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};
use wharfinger_config::UploadPurging;
use wharfinger_registry::Registry;
use wharfinger_storage::FilesystemDriver;

/// The first purge comes within this time, at random, so that nodes on one store take turns.
const FIRST_PURGE_WITHIN: Duration = Duration::from_secs(3600);

/// How old a file beside its target must be to be a crash's leftover and not a write under way.
pub(crate) const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 3600);

/// Removes old uploads, and what crashes have left of files, again and again.
pub(crate) async fn purge_uploads(
    registry: Registry,
    folder: Option<FilesystemDriver>,
    purging: UploadPurging,
) {
    sleep(FIRST_PURGE_WITHIN.mul_f64(random())).await;
    loop {
        let purged = registry
            .purge_uploads(purging.age.get(), purging.dryrun)
            .await;
        if let Err(error) = purged {
            warn!(%error, "old uploads cannot be purged");
        }
        if let (Some(folder), false) = (&folder, purging.dryrun) {
            match folder.remove_leftovers(LEFTOVER_AGE).await {
                Ok(0) => {}
                Ok(removed) => info!(removed, "leftovers of writes cut short were removed"),
                Err(error) => warn!(%error, "leftovers of writes cut short cannot be removed"),
            }
        }
        sleep(purging.interval.get()).await;
    }
}

/// A number from 0 to 1.
fn random() -> f64 {
    let (bits, _) = uuid::Uuid::new_v4().as_u64_pair();
    // 32 bits are a fraction that f64 holds exactly.
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}
