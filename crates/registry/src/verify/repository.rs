//! From what is found to what is told: looking twice, mending, looking again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use wharfinger_oci::{Digest, RepositoryName};

use super::blobs::is_old;
use super::check::{Checked, check};
use super::examine::{Examined, Examiner};
use super::finding::Affected;
use super::quarantine::{Quarantined, quarantine};
use super::{Damage, Finding, Outcome, Position, Repair, Verification, VerifyStep};
use crate::gc::BlobSet;
use crate::{Error, Result, layout};

/// How often a repository is looked at, as long as something is mended: what is restored may need
/// something in turn.
const ROUNDS: usize = 5;

impl Verification<'_> {
    /// Looks at a repository, mends what can be mended, and tells.
    pub(super) async fn repository(
        &mut self,
        name: &RepositoryName,
        told: &mut (impl FnMut(VerifyStep<'_>) + Send),
    ) -> Result<()> {
        let repository = self.registry.repository(name);
        let mut known = HashSet::new();
        for round in 0..ROUNDS {
            let mut seen = self.examine(name).await?;
            if round == 0 {
                self.report.repositories += 1;
                self.report.manifests += seen.manifests;
                self.report.tags += seen.tags;
                for (digest, affected) in seen.affected.drain(..) {
                    self.damaged.entry(digest).or_default().extend(affected);
                }
            }
            seen.findings
                .retain(|finding| !known.contains(&finding.key()));
            if seen.findings.is_empty() {
                return Ok(());
            }
            if self.repair != Repair::Alone {
                // What others did between two looks at different things is none when all of it is
                // looked at again.
                let again = self.examine(name).await?.findings;
                let again: HashSet<_> = again.iter().map(Finding::key).collect();
                seen.findings
                    .retain(|finding| again.contains(&finding.key()));
            }
            let mut has_mended = false;
            for mut finding in seen.findings {
                finding.outcome = self.mend(&repository, &finding).await?;
                has_mended |= matches!(finding.outcome, Outcome::Restored | Outcome::Removed);
                self.tell(&finding, told);
                known.insert(finding.key());
            }
            if !has_mended {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn examine(&mut self, name: &RepositoryName) -> Result<Examined> {
        let repository = self.registry.repository(name);
        let examiner = Examiner {
            verification: self,
            repository,
            layers: BlobSet::default(),
            nodes: Vec::new(),
            by_digest: HashMap::new(),
            damaged: Vec::new(),
            tagged: Vec::new(),
            seen: Examined::default(),
        };
        examiner.examine().await
    }

    fn tell(&mut self, finding: &Finding, told: &mut (impl FnMut(VerifyStep<'_>) + Send)) {
        self.report.damage += 1;
        let is_mended = !matches!(finding.outcome, Outcome::Found | Outcome::Left(_));
        self.report.repaired += u64::from(is_mended);
        told(VerifyStep::Found(finding));
    }

    /// Whether the store has a blob, damaged or not.
    pub(super) async fn has_blob(&self, canonical: &Digest) -> Result<bool> {
        if self.outcomes.get(canonical) == Some(&Outcome::Quarantined) {
            return Ok(false);
        }
        if self.present.contains(canonical) {
            return Ok(true);
        }
        match self.registry.shared.blobs.stat(canonical).await {
            Err(Error::Damaged { .. }) => Ok(true),
            stat => Ok(stat?.is_some()),
        }
    }

    /// Looks at the damaged blobs once more, as somebody may have mended them, and puts them aside.
    pub(super) async fn look_at_damaged(&mut self, position: &mut Position) -> Result<()> {
        let shared = &self.registry.shared;
        let all = std::mem::take(&mut position.damaged);
        for (digest, reason) in all {
            let data = layout::blob_data(&digest);
            let (driver, pace) = (&*shared.driver, &self.pace);
            let checked = check(driver, &data, &digest, pace, |_| ()).await?;
            if !matches!(checked, Checked::Damaged(_)) {
                continue;
            }
            let is_alone = self.repair == Repair::Alone;
            let outcome = match self.repair {
                Repair::Nothing => Outcome::Found,
                Repair::Beside | Repair::Alone => {
                    match quarantine(shared, &digest, is_alone).await? {
                        Quarantined::Done => Outcome::Quarantined,
                        Quarantined::NotDamaged => continue,
                        Quarantined::Left(why) => Outcome::Left(why.to_owned()),
                    }
                }
            };
            self.damaged.insert(digest, Affected::default());
            self.outcomes.insert(digest, outcome);
            position.damaged.insert(digest, reason);
        }
        Ok(())
    }

    /// Tells of the folders that cannot be repositories.
    pub(super) fn tell_folders(
        &mut self,
        folders: Vec<Error>,
        told: &mut (impl FnMut(VerifyStep<'_>) + Send),
    ) {
        for error in folders {
            let Error::Damaged { path, reason } = error else {
                continue;
            };
            let mut finding = Finding::new(Damage::StrayFolder, &path, reason);
            if self.repair != Repair::Nothing {
                finding.outcome = Outcome::Left("move it away by hand".to_owned());
            }
            self.tell(&finding, told);
        }
    }

    /// Tells what blobs are damaged, now that it is known what they affect.
    pub(super) async fn tell_blobs(
        &mut self,
        position: &Position,
        told: &mut (impl FnMut(VerifyStep<'_>) + Send),
    ) -> Result<()> {
        let mut damaged: BTreeMap<_, _> = std::mem::take(&mut self.damaged);
        for (digest, reason) in &position.damaged {
            let path = layout::blob_data(digest);
            let finding = Finding::new(Damage::DamagedBlob, &path, reason).about(digest);
            let affected = damaged.remove(digest).unwrap_or_default();
            let mut finding = finding.affects(affected);
            finding.outcome = self.outcomes.remove(digest).unwrap_or(Outcome::Found);
            self.tell(&finding, told);
        }
        for digest in &position.half_made {
            if self.registry.shared.blobs.stat(digest).await?.is_some() {
                continue;
            }
            let folder = layout::blob(digest);
            if !is_old(&self.registry.shared, &folder, Duration::ZERO).await? {
                continue;
            }
            let reason = "there is a folder for the blob, and no blob in it";
            let finding = Finding::new(Damage::HalfMadeBlob, &folder, reason);
            let mut finding = finding.about(digest);
            finding.outcome = match self.repair {
                Repair::Nothing => Outcome::Found,
                Repair::Beside | Repair::Alone => self.remove_empty(&folder).await?,
            };
            self.tell(&finding, told);
        }
        Ok(())
    }
}
