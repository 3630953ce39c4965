//! The catalog: which repositories there are.

use std::collections::VecDeque;

use wharfinger_oci::RepositoryName;
use wharfinger_storage::{Entry, StoragePath};

use crate::{Error, Page, Registry, Result, layout};

impl Registry {
    /// The repositories in path order (a repository before those nested in it), those behind
    /// `after` only, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn catalog(&self, after: Option<&str>, limit: usize) -> Result<Page<RepositoryName>> {
        let mut walk = CatalogWalk::new(self, after);
        let mut items = Vec::new();
        while items.len() < limit {
            match walk.next().await? {
                Some(name) => items.push(name),
                None => return Ok(Page { items, more: false }),
            }
        }
        let more = walk.next().await?.is_some();
        Ok(Page { items, more })
    }
}

/// How many folders are listed at once, ahead of the walk: one request to the store then does
/// for all of them.
const AHEAD: usize = 64;

/// A walk over the tree of repositories that opens only the folders it must.
pub(crate) struct CatalogWalk<'a> {
    registry: &'a Registry,
    /// Folders to open, the next one first, each with the name it stands for and where in it to
    /// go on.
    pending: VecDeque<Folder>,
    /// Whether folders count that nothing was ever completely pushed to.
    every_folder: bool,
    /// Whether a folder that cannot be a repository ends the walk instead of being passed over.
    complete: bool,
    /// What else was passed over.
    passed_over: Vec<Error>,
    /// The part of the tree that lies behind, from 0 to 1, as if all in a folder were alike.
    behind: f64,
}

struct Folder {
    path: StoragePath,
    /// The repository's name, empty for the root.
    name: String,
    /// What is in it, once it was listed; `None` inside when it was not there.
    entries: Option<Option<Vec<Entry>>>,
    /// What of `after` lies below this folder: names up to it are not wanted any more.
    after: Option<String>,
    /// The part of the tree that it and all below it are.
    share: f64,
}

impl<'a> CatalogWalk<'a> {
    pub(crate) fn new(registry: &'a Registry, after: Option<&str>) -> Self {
        let root = Folder {
            path: layout::repositories(),
            name: String::new(),
            entries: None,
            after: after.filter(|after| !after.is_empty()).map(str::to_owned),
            share: 1.0,
        };
        Self {
            registry,
            pending: VecDeque::from([root]),
            every_folder: false,
            complete: false,
            passed_over: Vec::new(),
            behind: 0.0,
        }
    }

    /// The folders that could not be repositories, each as a complete walk would end with it.
    pub(crate) fn passed_over(self) -> Vec<Error> {
        self.passed_over
    }

    /// A walk that also gives the folders in which there are but uploads.
    pub(crate) fn every_folder(registry: &'a Registry) -> Self {
        Self {
            every_folder: true,
            ..Self::new(registry, None)
        }
    }

    /// A walk that misses nothing: it ends with an error where others pass a folder over.
    pub(crate) fn complete(registry: &'a Registry) -> Self {
        Self {
            complete: true,
            ..Self::new(registry, None)
        }
    }

    /// The next repository.
    ///
    /// # Errors
    /// When the store fails; [`Error::Damaged`] for a folder that a complete walk cannot tell the
    /// repository of.
    pub(crate) async fn next(&mut self) -> Result<Option<RepositoryName>> {
        while let Some(folder) = self.pending.front() {
            if folder.entries.is_none() {
                self.list_ahead().await?;
            }
            if let Some(folder) = self.pending.pop_front()
                && let Some(name) = self.open(folder)?
            {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// About how much of the tree the walk has seen, from 0 to 1.
    pub(crate) fn behind(&self) -> f64 {
        self.behind
    }

    /// Lists the next folder, and of those behind it some that have not been listed yet.
    async fn list_ahead(&mut self) -> Result<()> {
        let unlisted = |folder: &&mut Folder| folder.entries.is_none();
        let folders = self.pending.iter_mut().filter(unlisted).take(AHEAD);
        let folders: Vec<_> = folders.collect();
        let paths: Vec<_> = folders.iter().map(|folder| folder.path.clone()).collect();
        let listed = self.registry.shared.driver.list_each(&paths).await?;
        for (folder, entries) in folders.into_iter().zip(listed) {
            folder.entries = Some(entries);
        }
        Ok(())
    }

    /// Opens a folder: queues those in it, and gives its name when it is a repository.
    fn open(&mut self, folder: Folder) -> Result<Option<RepositoryName>> {
        let Some(entries) = folder.entries.flatten() else {
            self.behind += folder.share;
            return Ok(None);
        };
        let (first, rest) = match &folder.after {
            Some(after) => match after.split_once('/') {
                Some((first, rest)) => (Some(first), Some(rest)),
                None => (Some(after.as_str()), None),
            },
            None => (None, None),
        };
        let is_repository = self.every_folder
            || entries
                .iter()
                .any(|e| e.is_dir && matches!(&*e.name, "_manifests" | "_layers"));
        let mut nested = Vec::new();
        for entry in entries {
            if !entry.is_dir || entry.name.starts_with('_') {
                continue;
            }
            let after = match first {
                Some(first) if *entry.name < *first => continue,
                // Up to `after` itself nothing is wanted, but what is nested in it is.
                Some(first) if entry.name == first => Some(rest.unwrap_or_default().to_owned()),
                _ => None,
            };
            let Ok(path) = folder.path.join(&entry.name) else {
                self.pass_over(&folder.path, &entry.name)?;
                continue;
            };
            let name = match &*folder.name {
                "" => entry.name,
                parent => format!("{parent}/{}", entry.name),
            };
            nested.push(Folder {
                path,
                name,
                entries: None,
                after,
                share: 0.0,
            });
        }
        let share = folder.share / (nested.len() + 1) as f64;
        self.behind += share;
        for nested in &mut nested {
            nested.share = share;
        }
        for folder in nested.into_iter().rev() {
            self.pending.push_front(folder);
        }
        // A folder that carries a rest of `after`, even an empty one, is `after` or lies above it.
        if !is_repository || folder.after.is_some() {
            return Ok(None);
        }
        let name = folder.name.parse();
        if name.is_err() {
            self.pass_over(&folder.path, &folder.name)?;
        }
        Ok(name.ok())
    }

    fn pass_over(&mut self, path: &StoragePath, name: &str) -> Result<()> {
        let error = Error::Damaged {
            path: path.clone(),
            reason: format!("{name:?} is not the name of a repository"),
        };
        if self.complete {
            return Err(error);
        }
        self.passed_over.push(error);
        Ok(())
    }
}
