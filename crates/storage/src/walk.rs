//! Walking a tree of folders in path order.

use std::collections::VecDeque;

use crate::{Driver, Entry, Error, Result, StoragePath};

/// How many entries of a folder are asked for at once. A folder that holds more is listed again
/// from where the last page ended.
const PAGE: usize = 16 * 1024;

/// A file or folder that a [`Walk`] has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkEntry {
    /// Its path.
    pub path: StoragePath,
    /// Whether it is a folder, whose content comes next unless it is [pruned](Walk::prune).
    pub is_dir: bool,
}

/// A walk through all files and folders below a folder: depth first, each folder before what it
/// holds, the names of one folder in the order of their bytes.
///
/// What is removed while the walk is under way is passed over, and what is added may be.
///
/// ```
/// # use wharfinger_storage::{Driver, Durability, MemoryDriver, Result, StoragePath, Walk};
/// # async fn example() -> Result<()> {
/// let driver = MemoryDriver::new();
/// for file in ["/a/_own/x", "/a/b/y", "/c"] {
///     driver.put(&file.parse().unwrap(), "".into(), Durability::Process).await?;
/// }
/// let mut seen = Vec::new();
/// let mut walk = Walk::new(&driver, StoragePath::root());
/// while let Some(entry) = walk.next().await? {
///     if entry.path.name().starts_with('_') {
///         walk.prune();
///     }
///     seen.push(entry.path.to_string());
/// }
/// assert_eq!(seen, ["/a", "/a/_own", "/a/b", "/a/b/y", "/c"]);
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug)]
pub struct Walk<'a> {
    driver: &'a dyn Driver,
    /// The folders on the way down to where the walk is.
    levels: Vec<Level>,
    page: usize,
    /// The folder that came last, to be entered by the next step.
    enter: Option<StoragePath>,
}

#[derive(Debug)]
struct Level {
    folder: StoragePath,
    entries: VecDeque<Entry>,
    /// The last name of the page, behind which the next one starts.
    after: Option<String>,
    /// Whether the entries are the last of the folder.
    complete: bool,
    /// Whether the folder may be missing.
    optional: bool,
}

impl Level {
    fn new(folder: StoragePath, after: Option<String>, optional: bool) -> Self {
        Self {
            folder,
            entries: VecDeque::new(),
            after,
            complete: false,
            optional,
        }
    }
}

impl<'a> Walk<'a> {
    /// A walk through everything below `from`, which must be there when the walk begins.
    pub fn new(driver: &'a dyn Driver, from: StoragePath) -> Self {
        let levels = vec![Level::new(from, None, false)];
        Self {
            driver,
            levels,
            page: PAGE,
            enter: None,
        }
    }

    /// Starts behind `path` instead, whether it exists or not: with what it holds, if it is a
    /// folder, and what follows it in path order. A path that does not lie below the start
    /// leaves the walk empty when it comes after the start in path order, and whole when before.
    #[must_use]
    pub fn behind(mut self, path: &StoragePath) -> Self {
        let Some(start) = self.levels.pop() else {
            return self;
        };
        if !path.is_within(&start.folder) {
            if path.parts().lt(start.folder.parts()) {
                self.levels.push(start);
            }
            return self;
        }
        let depth = start.folder.parts().count();
        let mut folder = start.folder;
        for part in path.parts().skip(depth) {
            let below = folder.join(part).expect("a part of a path");
            let optional = !self.levels.is_empty();
            self.levels
                .push(Level::new(folder, Some(part.to_owned()), optional));
            folder = below;
        }
        let optional = !self.levels.is_empty();
        self.levels.push(Level::new(folder, None, optional));
        self
    }

    /// Asks for at most this many entries of a folder at once.
    #[must_use]
    pub fn page(mut self, entries: usize) -> Self {
        self.page = entries.max(1);
        self
    }

    /// Leaves out what is in the folder that came last.
    pub fn prune(&mut self) {
        self.enter = None;
    }

    /// The next file or folder; `None` at the end.
    ///
    /// # Errors
    /// Any that listing a folder meets; [`Error::NotFound`] or [`Error::WrongKind`] only for the
    /// folder that the walk starts at.
    pub async fn next(&mut self) -> Result<Option<WalkEntry>> {
        if let Some(folder) = self.enter.take() {
            self.levels.push(Level::new(folder, None, true));
        }
        while let Some(level) = self.levels.last_mut() {
            if let Some(Entry { name, is_dir }) = level.entries.pop_front() {
                let path = level
                    .folder
                    .join(&name)
                    .expect("listings hold valid parts only");
                self.enter = is_dir.then(|| path.clone());
                return Ok(Some(WalkEntry { path, is_dir }));
            }
            if level.complete {
                self.levels.pop();
                continue;
            }
            // What is in memory is listed at once: without this, who walks through a large store, or
            // again and again through a small one, would let nobody else have the thread.
            tokio::task::coop::consume_budget().await;
            let listed = self
                .driver
                .list(&level.folder, level.after.as_deref(), Some(self.page));
            let entries = match listed.await {
                Ok(entries) => entries,
                Err(Error::NotFound { .. } | Error::WrongKind { .. }) if level.optional => {
                    Vec::new()
                }
                Err(error) => return Err(error),
            };
            level.complete = entries.len() < self.page;
            // Once seen, the folder may go like any other.
            level.optional = true;
            if let Some(last) = entries.last() {
                level.after = Some(last.name.clone());
            }
            level.entries = entries.into();
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::block_on;
    use crate::{Durability, MemoryDriver};

    async fn tree(files: &[&str]) -> MemoryDriver {
        let driver = MemoryDriver::new();
        for file in files {
            let path = file.parse().unwrap();
            driver
                .put(&path, file.to_string().into(), Durability::Process)
                .await
                .unwrap();
        }
        driver
    }

    async fn walked(mut walk: Walk<'_>) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(entry) = walk.next().await.unwrap() {
            seen.push(entry.path.to_string());
        }
        seen
    }

    fn path(text: &str) -> StoragePath {
        text.parse().unwrap()
    }

    #[test]
    fn the_order_is_that_of_the_parts() {
        block_on(async {
            // As text `/a-b` sorts before `/a/c`; as parts `a` comes before `a-b`.
            let driver = tree(&["/a/c", "/a-b", "/a/B"]).await;
            let seen = walked(Walk::new(&driver, StoragePath::root())).await;
            assert_eq!(seen, ["/a", "/a/B", "/a/c", "/a-b"]);
        });
    }

    #[test]
    fn a_pruned_folder_is_not_entered() {
        block_on(async {
            let driver = tree(&["/a/x/1", "/a/y", "/b"]).await;
            let mut walk = Walk::new(&driver, StoragePath::root());
            assert_eq!(walk.next().await.unwrap().unwrap().path, path("/a"));
            walk.prune();
            assert_eq!(walked(walk).await, ["/b"]);
        });
    }

    #[test]
    fn a_missing_start_is_an_error_and_a_folder_that_goes_is_not() {
        block_on(async {
            let driver = tree(&["/a/x/1", "/b"]).await;
            let mut missing = Walk::new(&driver, path("/nowhere")).behind(&path("/nowhere/at/all"));
            // The hint's own folders may be missing, the start may not.
            assert!(missing.next().await.unwrap_err().is_not_found());

            let mut walk = Walk::new(&driver, StoragePath::root());
            assert_eq!(walk.next().await.unwrap().unwrap().path, path("/a"));
            driver.delete(&path("/a")).await.unwrap();
            assert_eq!(walked(walk).await, ["/b"]);
        });
    }

    #[test]
    fn behind_takes_what_the_path_holds_and_what_follows() {
        block_on(async {
            let driver = tree(&["/r/a/1", "/r/b/2", "/r/b/3", "/r/c"]).await;
            let behind = |hint| walked(Walk::new(&driver, path("/r")).behind(&path(hint)));
            assert_eq!(behind("/r/b").await, ["/r/b/2", "/r/b/3", "/r/c"]);
            assert_eq!(behind("/r/b/2").await, ["/r/b/3", "/r/c"]);
            assert_eq!(behind("/r/b/25/x/y").await, ["/r/b/3", "/r/c"]);
            assert_eq!(behind("/r/a0").await, ["/r/b", "/r/b/2", "/r/b/3", "/r/c"]);
            assert_eq!(behind("/r/d").await, [""; 0]);
            assert_eq!(behind("/s").await, [""; 0]);
            assert_eq!(behind("/q").await.len(), 6);
            assert_eq!(behind("/r").await.len(), 6);
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn behind_any_entry_comes_the_rest(
            files in prop::collection::btree_set("(/[ab]){1,3}/[xyz]", 1..20),
            page in 1_usize..4,
        ) {
            block_on(async {
                let files: Vec<_> = files.iter().map(String::as_str).collect();
                let driver = tree(&files).await;
                let all = walked(Walk::new(&driver, StoragePath::root()).page(page)).await;
                assert!(all.is_sorted_by(|a, b| path(a).parts().lt(path(b).parts())), "{all:?}");
                for (i, entry) in all.iter().enumerate() {
                    let walk = Walk::new(&driver, StoragePath::root()).behind(&path(entry));
                    assert_eq!(walked(walk.page(page)).await, all[i + 1..]);
                }
            });
        }
    }
}
