//! Looking at a repository: whether what it says holds, and is there.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::{Algorithm, Digest};
use wharfinger_storage::{Error as StorageError, StoragePath};

use super::blobs::is_old;
use super::check::{Checked, check, is_lost};
use super::finding::{Affected, Fix};
use super::manifest::Node;
use super::{Damage, Finding, HALF_MADE_AGE, Repair, Verification};
use crate::gc::BlobSet;
use crate::link::{LinkSet, read_link};
use crate::{Error, Repository, Result, layout};

/// How many files are read at once.
pub(super) const CONCURRENCY: usize = 16;

/// How many are begun before the first of them are forgotten.
pub(super) const BATCH: usize = 1024;

/// What was seen of a repository.
#[derive(Default)]
pub(super) struct Examined {
    pub(super) findings: Vec<Finding>,
    /// The damaged blobs that manifests need.
    pub(super) affected: Vec<(Digest, Affected)>,
    pub(super) manifests: u64,
    pub(super) tags: u64,
}

/// A repository that is looked at.
pub(super) struct Examiner<'a, 'b> {
    pub(super) verification: &'a mut Verification<'b>,
    pub(super) repository: Repository,
    /// The digests whose links among the layers lead somewhere.
    pub(super) layers: BlobSet,
    /// The manifests that are whole, under each of their digests.
    pub(super) nodes: Vec<Node>,
    pub(super) by_digest: HashMap<Digest, usize>,
    /// The manifests whose bytes are damaged, with the digests of those.
    pub(super) damaged: Vec<(Digest, Digest)>,
    /// What the tags stand for.
    pub(super) tagged: Vec<(String, Digest)>,
    pub(super) seen: Examined,
}

/// What lies where a link belongs.
pub(super) enum LinkState {
    /// A link to this digest.
    Leads(Digest),
    /// Something else.
    Broken(String),
    /// Nothing.
    Missing,
}

impl Examiner<'_, '_> {
    /// Looks at all that a repository has.
    pub(super) async fn examine(mut self) -> Result<Examined> {
        let layers = self.repository.links(LinkSet::Layers).digests().await?;
        for digest in self.links(&LinkSet::Layers, &layers).await? {
            self.layers.insert(&digest);
        }
        self.tags().await?;
        self.manifests().await?;
        self.forget_needed_links();
        self.tags_lead_somewhere().await?;
        self.referrers().await?;
        // Several manifests may need the same, and several tags.
        let mut once: BTreeMap<_, Finding> = BTreeMap::new();
        for finding in std::mem::take(&mut self.seen.findings) {
            match once.entry(finding.key()) {
                Entry::Vacant(place) => drop(place.insert(finding)),
                Entry::Occupied(mut place) => place.get_mut().affected.extend(finding.affected),
            }
        }
        self.seen.findings = once.into_values().collect();
        Ok(self.seen)
    }

    /// Looks at links of one kind; gives those that lead somewhere.
    pub(super) async fn links(&mut self, set: &LinkSet, digests: &[Digest]) -> Result<Vec<Digest>> {
        let name = self.repository.name().clone();
        let mut sound = Vec::new();
        for batch in digests.chunks(BATCH) {
            let paths = batch.iter().map(|digest| set.write_path(&name, digest));
            for (digest, state) in batch.iter().zip(self.look_at(paths).await?) {
                if self.link(set, digest, state).await? {
                    sound.push(*digest);
                }
            }
        }
        Ok(sound)
    }

    /// Whether a link leads to where its name says.
    pub(super) async fn link(
        &mut self,
        set: &LinkSet,
        digest: &Digest,
        state: LinkState,
    ) -> Result<bool> {
        let path = set.write_path(self.repository.name(), digest);
        let unlink = Fix::Unlink {
            set: set.clone(),
            digest: *digest,
        };
        let to = match state {
            LinkState::Missing => {
                self.half_made_link(&path, digest).await?;
                return Ok(false);
            }
            LinkState::Leads(to) if to == *digest || !digest.is_canonical() => to,
            LinkState::Leads(to) => {
                let reason = format!("the link leads to {to}");
                self.broken_link(set, digest, reason).await?;
                return Ok(false);
            }
            LinkState::Broken(reason) => {
                self.broken_link(set, digest, reason).await?;
                return Ok(false);
            }
        };
        if self.verification.damaged.contains_key(&to) {
            match set {
                LinkSet::Manifests => self.damaged.push((*digest, to)),
                _ => self.seen.affected.push((to, self.here())),
            }
        }
        if !self.has_blob(&to).await? {
            let reason = format!("it leads to {to}, which is not there");
            let finding = Finding::new(Damage::DanglingLink, &path, reason).about(&to);
            let affected = match set {
                LinkSet::Manifests => self.affected(digest, &HashMap::new()),
                _ => self.here(),
            };
            self.found(finding.affects(affected).mended_by(unlink));
            return Ok(false);
        }
        if to != *digest && !self.is_alias(digest, &to).await? {
            let reason = format!("it leads to {to}, whose bytes have another digest than this");
            let finding = Finding::new(Damage::BrokenLink, &path, reason).about(digest);
            self.found(finding.mended_by(unlink));
            return Ok(false);
        }
        Ok(true)
    }

    /// A link that holds something else than it should.
    async fn broken_link(&mut self, set: &LinkSet, digest: &Digest, reason: String) -> Result<()> {
        let path = set.write_path(self.repository.name(), digest);
        let (set, digest) = (set.clone(), *digest);
        let fix = match digest.is_canonical() && self.has_blob(&digest).await? {
            true => Fix::Link {
                set,
                digest,
                to: digest,
            },
            false => Fix::Unlink { set, digest },
        };
        let finding = Finding::new(Damage::BrokenLink, &path, reason);
        self.found(finding.about(&digest).mended_by(fix));
        Ok(())
    }

    /// A folder in which a link should be, unless it has only just been made.
    pub(super) async fn half_made_link(
        &mut self,
        path: &StoragePath,
        digest: &Digest,
    ) -> Result<()> {
        let folder = layout::folder_of(path);
        if self.is_settled(&folder).await? {
            let reason = "there is a folder for the link, and no link in it";
            let finding = Finding::new(Damage::HalfMadeLink, path, reason);
            self.found(finding.about(digest).mended_by(Fix::Remove(folder)));
        }
        Ok(())
    }

    /// Of a link to a missing blob that a manifest needs it is told with the manifest. The link is
    /// good again as soon as anybody pushes the blob.
    fn forget_needed_links(&mut self) {
        let mut needed = BlobSet::default();
        for blob in self.nodes.iter().flat_map(|node| &node.blobs) {
            needed.insert(blob);
        }
        let is_useless = |finding: &Finding| match &finding.fix {
            Fix::Unlink {
                set: LinkSet::Layers,
                digest,
            } => finding.damage != Damage::DanglingLink || !needed.contains(digest),
            _ => true,
        };
        self.seen.findings.retain(is_useless);
    }

    /// The records of which manifests have which subject.
    async fn referrers(&mut self) -> Result<()> {
        let name = self.repository.name().clone();
        for algorithm in Algorithm::ALL {
            let folder = layout::subjects(&name, algorithm);
            for subject in self.digests_in(&folder, algorithm).await? {
                let set = LinkSet::Referrers { subject };
                let recorded = self.repository.links(set.clone()).digests().await?;
                for referrer in self.links(&set, &recorded).await? {
                    let node = self.by_digest.get(&referrer);
                    let node = node.map(|index| &self.nodes[*index]);
                    if node.is_some_and(|node| node.subject == Some(subject)) {
                        continue;
                    }
                    let path = set.write_path(&name, &referrer);
                    let reason = "no manifest of the repository has this subject and this digest";
                    let finding = Finding::new(Damage::DanglingLink, &path, reason);
                    self.found(finding.about(&referrer).mended_by(Fix::Unlink {
                        set: set.clone(),
                        digest: referrer,
                    }));
                }
            }
        }
        Ok(())
    }

    /// The digests that name the entries of a folder.
    async fn digests_in(&self, folder: &StoragePath, algorithm: Algorithm) -> Result<Vec<Digest>> {
        let driver = &self.repository.shared.driver;
        let entries = match driver.list(folder, None, None).await {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            entries => entries?,
        };
        let digests = entries.iter().map(|e| Digest::from_hex(algorithm, &e.name));
        Ok(digests.filter_map(Result::ok).collect())
    }

    /// What lies where links belong.
    pub(super) async fn look_at(
        &self,
        paths: impl IntoIterator<Item = StoragePath>,
    ) -> Result<Vec<LinkState>> {
        let looks: Vec<_> = paths.into_iter().map(|path| self.look(path)).collect();
        stream::iter(looks)
            .buffered(CONCURRENCY)
            .try_collect()
            .await
    }

    async fn look(&self, path: StoragePath) -> Result<LinkState> {
        match read_link(&self.repository.shared, &path).await {
            Ok(Some(digest)) => Ok(LinkState::Leads(digest)),
            Ok(None) => Ok(LinkState::Missing),
            Err(Error::Damaged { reason, .. }) => Ok(LinkState::Broken(reason)),
            Err(Error::Storage(StorageError::WrongKind { .. })) => {
                let reason = "a folder lies where a link belongs";
                Ok(LinkState::Broken(reason.to_owned()))
            }
            Err(Error::Storage(StorageError::Io { source, .. })) if is_lost(&source) => {
                Ok(LinkState::Broken(format!("it cannot be read: {source}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the store has a blob, damaged or not.
    pub(super) async fn has_blob(&self, canonical: &Digest) -> Result<bool> {
        self.verification.has_blob(canonical).await
    }

    /// Whether a blob's bytes have another digest, too.
    async fn is_alias(&mut self, digest: &Digest, canonical: &Digest) -> Result<bool> {
        let pair = Digest::canonical(format!("{digest} {canonical}").as_bytes());
        if self.verification.hashed_again.contains(&pair)
            || self.verification.damaged.contains_key(canonical)
        {
            return Ok(true);
        }
        let driver = &*self.repository.shared.driver;
        let path = layout::blob_data(canonical);
        let pace = &self.verification.pace;
        let checked = check(driver, &path, digest, pace, |_| ()).await?;
        let is_alias = matches!(checked, Checked::Whole(_));
        if is_alias {
            self.verification.hashed_again.insert(&pair);
        }
        Ok(is_alias)
    }

    /// Whether something was not touched so recently that it may not be complete yet.
    pub(super) async fn is_settled(&self, path: &StoragePath) -> Result<bool> {
        let age = match self.verification.repair {
            Repair::Alone => Duration::ZERO,
            Repair::Nothing | Repair::Beside => HALF_MADE_AGE,
        };
        is_old(&self.repository.shared, path, age).await
    }

    /// The repository, and nothing of it in particular.
    fn here(&self) -> Affected {
        let mut affected = Affected::default();
        affected
            .repositories
            .insert(self.repository.name().to_string());
        affected
    }

    pub(super) fn found(&mut self, finding: Finding) {
        let finding = finding.affects(self.here());
        self.seen.findings.push(finding);
    }
}
