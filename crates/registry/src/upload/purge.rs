//! Purging: removing uploads that nobody goes on with.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};
use wharfinger_oci::RepositoryName;

use super::{UploadId, state};
use crate::catalog::CatalogWalk;
use crate::link::{LinkSet, LinkedBlobs, ignore_absent};
use crate::{Error, Registry, Result, layout};

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
    /// Removes the uploads that were begun longer ago than `age`. One that a request is working on
    /// stays.
    ///
    /// # Errors
    /// When the repositories cannot be listed; a single upload's failure is in the report.
    pub async fn purge_uploads(&self, age: Duration, dry_run: bool) -> Result<PurgeReport> {
        let mut report = PurgeReport::default();
        let mut walk = CatalogWalk::every_folder(self);
        while let Some(name) = walk.next().await? {
            let folder = layout::uploads(&name);
            let entries = match self.shared.driver.list(&folder, None, None).await {
                Err(error) if error.is_not_found() => continue,
                entries => entries?,
            };
            for entry in entries {
                if let Ok(id) = entry.name.parse() {
                    self.purge_upload(&name, id, age, dry_run, &mut report)
                        .await;
                }
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
    ) {
        let Some(_held) = self.shared.uploads.try_exclusive(&id) else {
            report.kept += 1;
            return;
        };
        let removed = async {
            let old = self.begun(name, &id).await?.is_some_and(|begun| {
                Timestamp::now().duration_since(begun).unsigned_abs() > age
                    && begun < Timestamp::now()
            });
            if old && !dry_run {
                let folder = layout::upload(name, &id);
                ignore_absent(self.shared.driver.delete(&folder).await)?;
            }
            Ok::<_, Error>(old)
        };
        match removed.await {
            Ok(true) => report.purged.push((name.clone(), id)),
            Ok(false) => report.kept += 1,
            Err(error) => {
                warn!(repository = %name, upload = %id, %error, "an upload cannot be purged");
                report.failed.push((name.clone(), id, error.to_string()));
            }
        }
    }

    /// When an upload was begun: by its record, or, where that is missing or damaged, when its
    /// folder was last changed.
    async fn begun(&self, name: &RepositoryName, id: &UploadId) -> Result<Option<Timestamp>> {
        let links = LinkedBlobs::new(Arc::clone(&self.shared), name.clone(), LinkSet::Layers);
        match state::started_at(&links, id).await {
            Ok(begun) => return Ok(Some(begun)),
            Err(Error::UploadUnknown(_) | Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        let stat = self.shared.driver.stat(&layout::upload(name, id)).await?;
        Ok(stat
            .modified
            .and_then(|modified| Timestamp::try_from(modified).ok()))
    }
}
