//! The catalog: which repositories there are.

use std::collections::VecDeque;

use wharfinger_oci::RepositoryName;
use wharfinger_storage::{Listed, Listing, StoragePath};

use crate::{Error, Page, Registry, Result, layout};

impl Registry {
    /// The repositories in path order (a repository before those nested in it), those behind
    /// `after` only, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn catalog(&self, after: Option<&str>, limit: usize) -> Result<Page<RepositoryName>> {
        let mut walk = CatalogWalk::page(self, after, limit.saturating_add(1));
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
/// The same for a page, but never more than there are repositories still wanted.
const AHEAD_FOR_A_PAGE: usize = 256;

/// A walk over the tree of repositories that opens only the folders it must.
pub(crate) struct CatalogWalk<'a> {
    registry: &'a Registry,
    /// What is ahead of the walk, in its order.
    pending: VecDeque<Step>,
    /// How many repositories are still wanted, where that is known.
    wanted: Option<usize>,
    /// Whether folders count that nothing was ever completely pushed to.
    every_folder: bool,
    /// Whether a folder that cannot be a repository ends the walk instead of being passed over.
    complete: bool,
    /// What else was passed over.
    passed_over: Vec<Error>,
    /// The part of the tree that lies behind, from 0 to 1, as if all in a folder were alike.
    behind: f64,
}

enum Step {
    /// Opens a folder that has not been listed yet.
    Open(Folder),
    /// Goes on with what is nested in a folder.
    Nested(Nested),
    /// Passes a folder that was listed, and gives the repository that it is, if it is one.
    Pass {
        name: Option<RepositoryName>,
        share: f64,
    },
    /// Meets what cannot be a repository.
    Meet(Error),
}

struct Folder {
    path: StoragePath,
    /// The repository's name, empty for the root.
    name: String,
    /// What of `after` lies below this folder: names up to it are not wanted any more.
    after: Option<String>,
    /// The part of the tree that it and all below it are.
    share: f64,
}

/// The folders in a folder that are still to be opened.
struct Nested {
    folder: Folder,
    entries: Listing,
    /// The place in `entries` of the next one.
    place: usize,
    /// Where they began.
    start: usize,
}

impl Nested {
    /// What there is to do about the next folder. Nothing is done for those behind it: there may
    /// be very many.
    fn next(&mut self) -> Option<Step> {
        let from = self.place;
        let is_nested = |entry: &Listed<'_>| entry.is_dir && !entry.name.starts_with('_');
        let entry = self.entries.at(from).find(is_nested)?;
        self.place = entry.end;
        let of_all = self.entries.size() - self.start;
        let Ok(path) = self.folder.path.join(entry.name) else {
            return Some(Step::Meet(no_repository(&self.folder.path, entry.name)));
        };
        // Up to `after` itself nothing is wanted, but what is nested in it is.
        let after = self.folder.after.as_deref().map(split_first);
        let after = after.filter(|(first, _)| entry.name == *first);
        Some(Step::Open(Folder {
            path,
            name: match &*self.folder.name {
                "" => entry.name.to_owned(),
                parent => [parent, "/", entry.name].concat(),
            },
            after: after.map(|(_, rest)| rest.to_owned()),
            share: self.folder.share * (entry.end - from) as f64 / of_all as f64,
        }))
    }
}

/// The first part of a name, and what is nested in it, which may be empty.
fn split_first(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or((name, ""))
}

fn no_repository(path: &StoragePath, name: &str) -> Error {
    Error::Damaged {
        path: path.clone(),
        reason: format!("{name:?} is not the name of a repository"),
    }
}

impl<'a> CatalogWalk<'a> {
    fn new(registry: &'a Registry, after: Option<&str>) -> Self {
        let root = Folder {
            path: layout::repositories(),
            name: String::new(),
            after: after.filter(|after| !after.is_empty()).map(str::to_owned),
            share: 1.0,
        };
        Self {
            registry,
            pending: VecDeque::from([Step::Open(root)]),
            wanted: None,
            every_folder: false,
            complete: false,
            passed_over: Vec::new(),
            behind: 0.0,
        }
    }

    /// A walk from behind `after` on that is likely to end after `wanted` repositories.
    fn page(registry: &'a Registry, after: Option<&str>, wanted: usize) -> Self {
        Self {
            wanted: Some(wanted),
            ..Self::new(registry, after)
        }
    }

    /// A walk that gives every repository.
    pub(crate) fn all(registry: &'a Registry) -> Self {
        Self::new(registry, None)
    }

    /// The folders that could not be repositories, each as a complete walk would end with it.
    pub(crate) fn passed_over(self) -> Vec<Error> {
        self.passed_over
    }

    /// A walk that also gives the folders in which there are but uploads.
    pub(crate) fn every_folder(registry: &'a Registry) -> Self {
        Self {
            every_folder: true,
            ..Self::all(registry)
        }
    }

    /// A walk that misses nothing: it ends with an error where others pass a folder over.
    pub(crate) fn complete(registry: &'a Registry) -> Self {
        Self {
            complete: true,
            ..Self::all(registry)
        }
    }

    /// The next repository.
    ///
    /// # Errors
    /// When the store fails; [`Error::Damaged`] for a folder that a complete walk cannot tell the
    /// repository of.
    pub(crate) async fn next(&mut self) -> Result<Option<RepositoryName>> {
        loop {
            match self.pending.pop_front() {
                None => return Ok(None),
                Some(Step::Pass { name, share }) => {
                    self.behind += share;
                    if name.is_some() {
                        self.wanted = self.wanted.map(|wanted| wanted.saturating_sub(1));
                        return Ok(name);
                    }
                }
                Some(Step::Meet(error)) if self.complete => return Err(error),
                Some(Step::Meet(error)) => self.passed_over.push(error),
                Some(step @ (Step::Open(_) | Step::Nested(_))) => {
                    self.pending.push_front(step);
                    self.look_ahead().await?;
                }
            }
        }
    }

    /// About how much of the tree the walk has seen, from 0 to 1.
    pub(crate) fn behind(&self) -> f64 {
        self.behind
    }

    /// Lists the next folders, as many at once as may be needed.
    async fn look_ahead(&mut self) -> Result<()> {
        let most = match self.wanted {
            None => AHEAD,
            Some(wanted) => wanted.clamp(1, AHEAD_FOR_A_PAGE),
        };
        let mut seen = Vec::new();
        let mut paths = Vec::new();
        let mut repositories = 0;
        while paths.len() + repositories < most
            && let Some(step) = self.pending.pop_front()
        {
            match step {
                Step::Nested(mut nested) => match nested.next() {
                    None => {}
                    Some(next) => {
                        self.pending.push_front(Step::Nested(nested));
                        self.pending.push_front(next);
                    }
                },
                step => {
                    match &step {
                        Step::Open(folder) => paths.push(folder.path.clone()),
                        Step::Pass { name: Some(_), .. } => repositories += 1,
                        _ => {}
                    }
                    seen.push(step);
                }
            }
        }
        let mut listed = match paths.is_empty() {
            true => Vec::new(),
            false => self.registry.shared.driver.list_each(&paths).await?,
        };
        for step in seen.into_iter().rev() {
            match step {
                Step::Open(folder) => {
                    let entries = listed.pop().flatten();
                    self.open(folder, entries);
                }
                step => self.pending.push_front(step),
            }
        }
        Ok(())
    }

    /// Puts in front what there is to do about a folder that was listed.
    fn open(&mut self, folder: Folder, entries: Option<Listing>) {
        let Some(entries) = entries else {
            let share = folder.share;
            return self.pending.push_front(Step::Pass { name: None, share });
        };
        let is_repository =
            self.every_folder || entries.has_folder("_manifests") || entries.has_folder("_layers");
        // A folder that carries a rest of `after`, even an empty one, is `after` or lies above it.
        let name = (is_repository && folder.after.is_none()).then(|| {
            let name = folder.name.parse::<RepositoryName>();
            name.map_err(|_| no_repository(&folder.path, &folder.name))
        });
        let start = match &folder.after {
            Some(after) => entries.seek(split_first(after).0),
            None => 0,
        };
        let mut nested = Nested {
            folder,
            entries,
            place: start,
            start,
        };
        let share = match nested.next() {
            None => nested.folder.share,
            Some(first) => {
                self.pending.push_front(Step::Nested(nested));
                self.pending.push_front(first);
                0.0
            }
        };
        let (name, error) = match name.transpose() {
            Ok(name) => (name, None),
            Err(error) => (None, Some(error)),
        };
        self.pending.push_front(Step::Pass { name, share });
        if let Some(error) = error {
            self.pending.push_front(Step::Meet(error));
        }
    }
}
