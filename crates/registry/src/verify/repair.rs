//! Mending what was found.

use bytes::Bytes;
use wharfinger_oci::{Digest, Tag};
use wharfinger_storage::{Durability, StoragePath};

use super::finding::Fix;
use super::{Damage, Finding, Outcome, Repair, Verification};
use crate::descriptor_cache::CachedDescriptor;
use crate::gc::{Item, Reliance};
use crate::link::{LinkSet, ignore_absent};
use crate::{Error, Repository, Result, layout};

/// Why something stays as it is.
const OTHERS: &str = "others may write to the store; it is mended when nobody does";

impl Verification<'_> {
    /// Mends something that was found in a repository, where that can be done.
    pub(super) async fn mend(&self, repository: &Repository, finding: &Finding) -> Result<Outcome> {
        let is_alone = match self.repair {
            Repair::Nothing => return Ok(Outcome::Found),
            Repair::Beside => false,
            Repair::Alone => true,
        };
        let left = |why: &str| Ok(Outcome::Left(why.to_owned()));
        if let Fix::Remove(folder) = &finding.fix
            && !is_alone
        {
            return self.remove_empty(folder).await;
        }
        // Whoever takes these away meanwhile leaves a link that does no harm.
        let harmless = |set: &LinkSet| matches!(set, LinkSet::Layers | LinkSet::Referrers { .. });
        match &finding.fix {
            Fix::Otherwise(how) => left(how),
            Fix::Link { set, digest, to } if is_alone || harmless(set) => {
                self.restore(repository, set, digest, to).await
            }
            _ if !is_alone => left(OTHERS),
            _ if finding.damage == Damage::DanglingLink && self.present.is_empty() => {
                left("there is no blob at all: is this the right store?")
            }
            Fix::Link { .. } => left(OTHERS),
            Fix::Tag(tag, digest) => self.restore_tag(repository, tag, digest).await,
            Fix::Unlink { set, digest } => {
                let shared = &repository.shared;
                let _writing = shared.writing()?;
                let _deleting = shared.repositories.exclusive(repository.name()).await;
                repository.links(set.clone()).unlink_here(digest).await?;
                Ok(Outcome::Removed)
            }
            Fix::Remove(folder) => {
                let shared = &repository.shared;
                let _writing = shared.writing()?;
                let _deleting = shared.repositories.exclusive(repository.name()).await;
                ignore_absent(shared.driver.delete(folder).await)?;
                Ok(Outcome::Removed)
            }
        }
    }

    /// Removes a folder in which there is nothing, which gets in the way of nobody who puts something
    /// into it.
    pub(super) async fn remove_empty(&self, folder: &StoragePath) -> Result<Outcome> {
        let shared = &self.registry.shared;
        let _writing = shared.writing()?;
        Ok(
            match (shared.driver.remove_empty(folder).await?, self.repair) {
                (true, _) => Outcome::Removed,
                (false, Repair::Alone) => Outcome::Left("something else lies in it".to_owned()),
                (false, Repair::Nothing | Repair::Beside) => Outcome::Left(OTHERS.to_owned()),
            },
        )
    }

    /// Writes a link to what is there, as a push would.
    async fn restore(
        &self,
        repository: &Repository,
        set: &LinkSet,
        digest: &Digest,
        to: &Digest,
    ) -> Result<Outcome> {
        let shared = &repository.shared;
        let gone = || {
            Ok(Outcome::Left(
                "what it leads to has gone meanwhile".to_owned(),
            ))
        };
        let _writing = shared.writing()?;
        let mut reliance = Reliance::begin(shared).await?;
        let mut items = vec![Item::Blob(*to)];
        if !matches!(set, LinkSet::Layers | LinkSet::Signatures { .. }) {
            items.push(Item::Manifest(repository.name().clone(), *digest));
        }
        match reliance.keep(&items).await {
            Err(Error::Collecting) => return gone(),
            kept => kept?,
        }
        let pushing = shared.repositories.shared(repository.name()).await;
        let size = match set {
            // It says which manifest, and not where its bytes are.
            LinkSet::TagIndex { .. } => Some(0),
            _ => shared.blobs.stat(to).await?,
        };
        let Some(size) = size else {
            return gone();
        };
        if let LinkSet::Referrers { .. } = set {
            match repository.links(LinkSet::Manifests).resolve(digest).await {
                Ok(None) => {
                    drop(pushing);
                    return self.forget_record(repository, set, digest).await;
                }
                // It is mended in its turn.
                Ok(Some(_)) | Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.clear_place(repository, set, digest).await?;
        let canonical = *to;
        let blob = CachedDescriptor { canonical, size };
        repository.links(set.clone()).link(digest, blob).await?;
        match reliance.confirm().await {
            Err(Error::Collecting) => gone(),
            confirmed => confirmed.map(|()| Outcome::Restored),
        }
    }

    /// A broken record of a manifest that the repository does not have is of no use, unless somebody
    /// is about to push that.
    async fn forget_record(
        &self,
        repository: &Repository,
        set: &LinkSet,
        digest: &Digest,
    ) -> Result<Outcome> {
        if self.repair != Repair::Alone {
            return Ok(Outcome::Left("its manifest is not there".to_owned()));
        }
        let repositories = &repository.shared.repositories;
        let _deleting = repositories.exclusive(repository.name()).await;
        repository.links(set.clone()).unlink_here(digest).await?;
        Ok(Outcome::Removed)
    }

    /// Removes a folder that lies where a link belongs.
    async fn clear_place(
        &self,
        repository: &Repository,
        set: &LinkSet,
        digest: &Digest,
    ) -> Result<()> {
        let driver = &repository.shared.driver;
        let path = set.write_path(repository.name(), digest);
        match driver.stat(&path).await {
            Ok(stat) if stat.is_dir && self.repair == Repair::Alone => {
                ignore_absent(driver.delete(&path).await)
            }
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Lets a tag stand for the only manifest that it ever stood for.
    async fn restore_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<Outcome> {
        let shared = &repository.shared;
        let _writing = shared.writing()?;
        let _pushing = shared.repositories.exclusive(repository.name()).await;
        let path = layout::tag_current(repository.name(), tag);
        if let Ok(stat) = shared.driver.stat(&path).await
            && stat.is_dir
        {
            ignore_absent(shared.driver.delete(&path).await)?;
        }
        let link = Bytes::from(digest.to_string());
        shared.driver.put(&path, link, Durability::Machine).await?;
        Ok(Outcome::Restored)
    }
}
