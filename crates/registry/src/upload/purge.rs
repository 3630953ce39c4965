//! Purging: removing uploads that nobody goes on with.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use uuid::Uuid;
use wharfinger_oci::RepositoryName;

use super::{UploadId, state};
use crate::catalog::CatalogWalk;
use crate::link::{LinkSet, LinkedBlobs, ignore_absent};
use crate::{Error, Registry, Result, layout};

/// The first purge of a schedule comes within this time.
const FIRST_WITHIN: Duration = Duration::from_secs(3600);

/// How old what lies beside its target must be to be a crash's leftover and no write under way.
pub(crate) const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 3600);

/// When old uploads are removed (`storage.maintenance.uploadpurging`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeSchedule {
    /// How long ago an upload must have been begun.
    pub age: Duration,
    /// The time between two purges.
    pub interval: Duration,
    /// Whether the uploads are only told in the log.
    pub dry_run: bool,
}

/// What a purge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// The uploads removed, or, in a dry run, those that would have been.
    pub purged: Vec<(RepositoryName, UploadId)>,
    /// How many uploads were left alone.
    pub kept: usize,
    /// What could not be removed, and why.
    pub failed: Vec<(RepositoryName, UploadId, String)>,
}

impl Registry {
    /// Purges again and again: removes old uploads, and what crashes have left of files. The first
    /// purge comes at random within an hour, or the interval when that is shorter, so that nodes on
    /// one store take turns. In read-only mode nothing is removed.
    pub fn purge_regularly(self, schedule: PurgeSchedule) -> BoxFuture<'static, ()> {
        // Compiled once, here, and not in every program that serves.
        Box::pin(self.purge_forever(schedule))
    }

    async fn purge_forever(self, schedule: PurgeSchedule) {
        let mut wait = schedule.interval.min(FIRST_WITHIN).mul_f64(random());
        loop {
            debug!(in_seconds = wait.as_secs(), "the next purge of old uploads");
            sleep(wait).await;
            wait = schedule.interval;
            match self.purge_uploads(schedule.age, schedule.dry_run).await {
                Ok(_) => {}
                Err(Error::ReadOnly) => info!("old uploads stay in read-only mode"),
                Err(error) => warn!(%error, "old uploads cannot be purged"),
            }
            if schedule.dry_run {
                continue;
            }
            match self.remove_leftovers().await {
                Ok(0) | Err(Error::ReadOnly) => {}
                Ok(removed) => info!(removed, "leftovers of writes cut short were removed"),
                Err(error) => warn!(%error, "leftovers of writes cut short cannot be removed"),
            }
        }
    }

    async fn remove_leftovers(&self) -> Result<u64> {
        let _writing = self.shared.writing()?;
        Ok(self.shared.driver.remove_leftovers(LEFTOVER_AGE).await?)
    }

    /// Removes the uploads that were begun longer ago than `age`. One that a request is working on
    /// stays.
    ///
    /// # Errors
    /// When the repositories cannot be listed; [`Error::ReadOnly`], which ends it wherever it has
    /// got to. A single upload's failure is in the report.
    pub async fn purge_uploads(&self, age: Duration, dry_run: bool) -> Result<PurgeReport> {
        if self.is_read_only() && !dry_run {
            return Err(Error::ReadOnly);
        }
        let mut report = PurgeReport::default();
        let mut walk = CatalogWalk::every_folder(self);
        while let Some(name) = walk.next().await? {
            let folder = layout::uploads(&name);
            let entries = match self.shared.driver.list(&folder, None, None).await {
                Err(error) if error.is_not_found() => continue,
                entries => entries?,
            };
            let ids = entries.iter().map(|entry| layout::upload_of(&entry.name));
            let mut ids: Vec<_> = ids.flatten().collect();
            ids.dedup();
            for id in ids {
                self.purge_upload(&name, id, age, dry_run, &mut report)
                    .await?;
            }
        }
        info!(
            purged = report.purged.len(),
            kept = report.kept,
            failed = report.failed.len(),
            dry_run,
            "old uploads were purged"
        );
        Ok(report)
    }

    async fn purge_upload(
        &self,
        name: &RepositoryName,
        id: UploadId,
        age: Duration,
        dry_run: bool,
        report: &mut PurgeReport,
    ) -> Result<()> {
        let _writing = match dry_run {
            true => None,
            false => Some(self.shared.writing()?),
        };
        let Some(_held) = self.shared.uploads.try_exclusive(&id) else {
            report.kept += 1;
            return Ok(());
        };
        let removed = async {
            let old = self.begun(name, &id).await?.is_some_and(|begun| {
                Timestamp::now().duration_since(begun).unsigned_abs() > age
                    && begun < Timestamp::now()
            });
            if old && !dry_run {
                for left in [layout::upload(name, &id), layout::small_upload(name, &id)] {
                    ignore_absent(self.shared.driver.delete(&left).await)?;
                }
            }
            Ok::<_, Error>(old)
        };
        match removed.await {
            Ok(true) => {
                let what = if dry_run { "would be" } else { "was" };
                info!(repository = %name, upload = %id, "an old upload {what} purged");
                report.purged.push((name.clone(), id));
            }
            Ok(false) => report.kept += 1,
            Err(error) => {
                warn!(repository = %name, upload = %id, %error, "an upload cannot be purged");
                report.failed.push((name.clone(), id, error.to_string()));
            }
        }
        Ok(())
    }

    /// When an upload was begun: by its record, or, where that is missing or damaged, when its folder
    /// or its small file was last changed.
    async fn begun(&self, name: &RepositoryName, id: &UploadId) -> Result<Option<Timestamp>> {
        let links = LinkedBlobs::new(Arc::clone(&self.shared), name.clone(), LinkSet::Layers);
        match state::started_at(&links, id).await {
            Ok(begun) => return Ok(Some(begun)),
            Err(Error::UploadUnknown(_)) => {}
            Err(error) => return Err(error),
        }
        match state::changed_at(&links, &layout::upload(name, id)).await {
            Err(Error::Storage(error)) if error.is_not_found() => {
                state::changed_at(&links, &layout::small_upload(name, id)).await
            }
            changed => changed,
        }
    }
}

/// A number from 0 to 1.
pub(crate) fn random() -> f64 {
    let (bits, _) = Uuid::new_v4().as_u64_pair();
    // 32 bits are a fraction that f64 holds exactly.
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}
