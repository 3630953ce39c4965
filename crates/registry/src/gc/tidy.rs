//! What a collection removes last: tags that stand for nothing, repositories in which nothing is
//! left, and what writes cut short have left behind.
//!
//! Nobody is told of it before, and nobody need be. Only an empty folder is removed as a folder,
//! which the system finds out and does in one step: a push that makes something in it finds it, or
//! makes it anew. Of a tag only the history is removed, never what it stands for: a push that
//! begins anew to let it stand for something writes that last, and loses no more than an entry of
//! that history.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::{Algorithm, RepositoryName, Tag};
use wharfinger_storage::{Driver, StoragePath, Walk};

use super::CollectStep;
use super::progress::Activity;
use super::run::Run;
use crate::catalog::CatalogWalk;
use crate::link::LinkSet;
use crate::upload::LEFTOVER_AGE;
use crate::{Error, Repository, Result, layout};

/// How many tags are looked at together.
const BATCH: usize = 256;

/// How many of them at once.
const CONCURRENCY: usize = 16;

impl<F> Run<'_, F>
where
    F: FnMut(CollectStep<'_>) + Send,
{
    /// Removes what is left.
    pub(super) async fn tidy(&mut self) -> Result<()> {
        self.enter(Activity::Tidying, self.progress.repositories());
        let registry = self.registry;
        let shared = &registry.shared;
        let is_serving = self.options.serving.is_some();
        let writing = || is_serving.then(|| shared.writing()).transpose();
        let mut walk = CatalogWalk::every_folder(registry);
        while let Some(name) = walk.next().await? {
            let _writing = writing()?;
            self.tidy_tags(&registry.repository(&name)).await?;
            if !shared.driver.has_only_objects() {
                self.tidy_folders(&name).await?;
            }
            self.progress.advance(1);
        }
        if !self.options.dry_run {
            let _writing = writing()?;
            self.report.leftovers = shared.driver.remove_leftovers(LEFTOVER_AGE).await?;
        }
        Ok(())
    }

    /// Removes tags that stand for nothing: of which the first push was cut short, or a removal.
    async fn tidy_tags(&mut self, repository: &Repository) -> Result<()> {
        let tags = match repository.tags().list(None, None).await {
            Err(Error::NameUnknown(_)) => return Ok(()),
            page => page?.items,
        };
        let age = match self.options.serving {
            // A push may be about to let it stand for something.
            Some(_) => LEFTOVER_AGE,
            None => Duration::ZERO,
        };
        for tags in tags.chunks(BATCH) {
            let looks: Vec<_> = tags
                .iter()
                .map(|tag| self.is_stale(repository, tag, age))
                .collect();
            let stale: Vec<bool> = stream::iter(looks)
                .buffered(CONCURRENCY)
                .try_collect()
                .await?;
            for (tag, _) in tags.iter().zip(stale).filter(|(_, stale)| *stale) {
                (self.told)(CollectStep::StaleTag(repository.name(), tag));
                self.report.stale_tags += 1;
                if !self.options.dry_run {
                    remove_history(repository, tag).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether a tag stands for nothing, and has not for `age`.
    async fn is_stale(&self, repository: &Repository, tag: &Tag, age: Duration) -> Result<bool> {
        let driver = &*self.registry.shared.driver;
        self.marker.pace.step().await;
        let name = repository.name();
        let current = layout::tag_current(name, tag);
        match driver.file_size(&current).await {
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(false),
        }
        let index = repository.links(LinkSet::TagIndex { tag: tag.clone() });
        for digest in index.digests().await? {
            let link = layout::tag_index_link(name, tag, &digest);
            match driver.stat(&link).await {
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
                Ok(stat) => {
                    let is_old = stat.modified.and_then(|time| time.elapsed().ok());
                    if is_old.is_none_or(|passed| passed < age) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Removes a repository of which there are but folders, and those above it that it leaves empty.
    pub(super) async fn tidy_folders(&mut self, name: &RepositoryName) -> Result<()> {
        let driver = &*self.registry.shared.driver;
        let Some(mut folders) = empty_folders(driver, name).await? else {
            return Ok(());
        };
        let was_repository = !folders.is_empty();
        if was_repository {
            (self.told)(CollectStep::EmptyRepository(name));
        }
        if self.options.dry_run {
            self.report.repositories += u64::from(was_repository);
            return Ok(());
        }
        folders.sort_unstable();
        let mut all_gone = true;
        while let Some(folder) = folders.pop() {
            all_gone &= driver.remove_empty(&folder).await?;
        }
        self.report.repositories += u64::from(was_repository && all_gone);
        let root = layout::repositories();
        let mut above = Some(layout::repository(name));
        while let Some(folder) = above.filter(|folder| *folder != root) {
            if !driver.remove_empty(&folder).await? {
                break;
            }
            above = folder.parent();
        }
        Ok(())
    }
}

/// Removes the history of a tag, and the folders that this leaves empty.
async fn remove_history(repository: &Repository, tag: &Tag) -> Result<()> {
    let name = repository.name();
    let driver = &*repository.shared.driver;
    let index = repository.links(LinkSet::TagIndex { tag: tag.clone() });
    for digest in index.digests().await? {
        index.unlink_here(&digest).await?;
    }
    if driver.has_only_objects() {
        return Ok(());
    }
    let indices = Algorithm::ALL.map(|algorithm| layout::tag_index(name, tag, algorithm));
    let current = layout::tag_current(name, tag);
    let folders = indices.iter().cloned();
    let folders = folders.chain(indices[0].parent()).chain(current.parent());
    for folder in folders.chain([layout::tag(name, tag)]) {
        driver.remove_empty(&folder).await?;
    }
    Ok(())
}

/// A repository's own folders, where there is no file in any of them, and no upload; those nested in
/// it do not count.
async fn empty_folders(
    driver: &dyn Driver,
    name: &RepositoryName,
) -> Result<Option<Vec<StoragePath>>> {
    let mut folders = Vec::new();
    let uploads = layout::uploads(name);
    let layers = layout::layers(name, Algorithm::CANONICAL).parent();
    for folder in [Some(layout::manifests(name)), Some(uploads.clone()), layers] {
        let Some(folder) = folder else { continue };
        let mut walk = Walk::new(driver, folder.clone()).page(1);
        loop {
            match walk.next().await {
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error.into()),
                // An upload may be about to begin in its folder.
                Ok(Some(entry)) if !entry.is_dir || folder == uploads => return Ok(None),
                Ok(Some(entry)) => folders.push(entry.path),
                Ok(None) => {
                    folders.push(folder);
                    break;
                }
            }
        }
    }
    Ok(Some(folders))
}
