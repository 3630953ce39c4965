//! Tags: names for manifests, with the history of what each has stood for.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::{Digest, Tag};

use crate::link::{LinkSet, ignore_absent, read_link};
use crate::{Error, Page, Repository, Result, layout};

/// The tags of a repository.
#[derive(Clone, Debug)]
pub struct Tags {
    repository: Repository,
}

impl Tags {
    pub(crate) fn new(repository: Repository) -> Self {
        Self { repository }
    }

    /// The digest of the manifest that a tag stands for.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`]; [`Error::Damaged`] for a broken link.
    pub async fn get(&self, tag: &Tag) -> Result<Digest> {
        let path = layout::tag_current(&self.repository.name, tag);
        let digest = read_link(&self.repository.shared, &path).await?;
        digest.ok_or_else(|| Error::ManifestUnknown(tag.to_string()))
    }

    /// The tags in the order of their bytes, those behind `after` only, at most `limit`.
    ///
    /// # Errors
    /// [`Error::NameUnknown`] when nothing was ever pushed to the repository.
    pub async fn list(&self, after: Option<&str>, limit: Option<usize>) -> Result<Page<Tag>> {
        let folder = layout::tags(&self.repository.name);
        let one_more = limit.map(|limit| limit.saturating_add(1));
        let listed = self
            .repository
            .shared
            .driver
            .list(&folder, after, one_more)
            .await;
        let entries = match listed {
            Err(error) if error.is_not_found() => {
                if self.repository.exists().await? {
                    Vec::new()
                } else {
                    return Err(Error::NameUnknown(self.repository.name.clone()));
                }
            }
            entries => entries?,
        };
        let more = limit.is_some_and(|limit| entries.len() > limit);
        let tags = entries
            .iter()
            .filter(|e| e.is_dir)
            .filter_map(|e| e.name.parse().ok());
        let items = tags.take(limit.unwrap_or(usize::MAX)).collect();
        Ok(Page { items, more })
    }

    /// Every manifest that the tag has stood for and that is still known, in no order of time.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn history(&self, tag: &Tag) -> Result<Vec<Digest>> {
        self.index(tag).digests().await
    }

    /// Removes a tag. The manifest stays.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where deletion is off; [`Error::ManifestUnknown`].
    pub async fn delete(&self, tag: &Tag) -> Result<()> {
        let _writing = self.repository.shared.deleting()?;
        let name = &self.repository.name;
        let _deleting = self.repository.shared.repositories.exclusive(name).await;
        match self
            .repository
            .shared
            .driver
            .delete(&layout::tag(name, tag))
            .await
        {
            Err(error) if error.is_not_found() => Err(Error::ManifestUnknown(tag.to_string())),
            result => Ok(result?),
        }
    }

    /// Removes every tag that stands for one of `digests`, and gives them in order. The caller
    /// holds the repository's lock exclusively.
    pub(crate) async fn remove_all_of(&self, digests: &[Digest]) -> Result<Vec<Tag>> {
        let tags = match self.list(None, None).await {
            Err(Error::NameUnknown(_)) => return Ok(Vec::new()),
            page => page?.items,
        };
        let at_once = self.repository.shared.options.load().tag_concurrency;
        let digests: HashSet<_> = digests.iter().collect();
        let removals: Vec<_> = tags
            .into_iter()
            .map(|tag| self.remove_if_of(tag, &digests))
            .collect();
        stream::iter(removals)
            .buffered(at_once.max(1))
            .try_filter_map(|removed| std::future::ready(Ok(removed)))
            .try_collect()
            .await
    }

    /// Gives the tag if it was removed.
    async fn remove_if_of(&self, tag: Tag, digests: &HashSet<&Digest>) -> Result<Option<Tag>> {
        let current = match self.get(&tag).await {
            Ok(current) => current,
            // A tag that stands for nothing readable does not stand for these.
            Err(Error::ManifestUnknown(_) | Error::Damaged { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !digests.contains(&current) {
            return Ok(None);
        }
        let folder = layout::tag(&self.repository.name, &tag);
        ignore_absent(self.repository.shared.driver.delete(&folder).await)?;
        Ok(Some(tag))
    }

    /// Removes manifests from the history of every tag. The caller holds the repository's lock
    /// exclusively.
    pub(crate) async fn forget(&self, digests: &HashSet<Digest>) -> Result<()> {
        let tags = match self.list(None, None).await {
            Err(Error::NameUnknown(_)) => return Ok(()),
            page => page?.items,
        };
        for tag in &tags {
            let index = self.index(tag);
            for digest in index.digests().await? {
                if digests.contains(&digest) {
                    index.unlink_here(&digest).await?;
                }
            }
        }
        Ok(())
    }

    fn index(&self, tag: &Tag) -> crate::link::LinkedBlobs {
        self.repository
            .links(LinkSet::TagIndex { tag: tag.clone() })
    }
}
