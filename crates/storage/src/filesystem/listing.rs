//! Listing a folder from what its entries tell, without looking at each file.

use std::collections::BinaryHeap;
use std::fs;
use std::io;

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, statat};

use super::folder::{Folder, is_temporary_name};
use super::store::{Store, read_error};
use super::trash::TRASH;
use crate::path::is_part;
use crate::{Entry, Error, Result, StoragePath};

pub(super) fn list(
    store: &Store,
    path: &StoragePath,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Vec<Entry>> {
    let folder = Folder::open(store, path).map_err(|error| {
        let is_there = || fs::metadata(store.full(path)).is_ok();
        match error.kind() {
            io::ErrorKind::NotADirectory if is_there() => Error::not_a_folder(path),
            _ => read_error(path, "list", error),
        }
    })?;
    let failed = |error: rustix::io::Errno| Error::io(path, "list", error);
    let mut first = First::new(limit);
    let mut dir = Dir::new(folder.handle).map_err(failed)?;
    while let Some(entry) = dir.next() {
        let entry = entry.map_err(failed)?;
        let Some(name) = entry.file_name().to_str().ok().filter(|name| is_part(name)) else {
            continue;
        };
        let hidden = is_temporary_name(name) || (path.is_root() && name == TRASH);
        if hidden || after.is_some_and(|after| name <= after) || !first.wants(name) {
            continue;
        }
        if let Some(is_dir) = is_dir(&dir, &entry) {
            first.push(Entry {
                name: name.to_owned(),
                is_dir,
            });
        }
    }
    Ok(first.into_sorted())
}

/// Whether the entry is a folder; `None` for what is neither folder nor file.
fn is_dir(dir: &Dir, entry: &DirEntry) -> Option<bool> {
    let kind = match entry.file_type() {
        // Links count as what they lead to, as in Distribution.
        FileType::Symlink | FileType::Unknown => {
            let stat = statat(dir.fd().ok()?, entry.file_name(), AtFlags::empty()).ok()?;
            FileType::from_raw_mode(stat.st_mode)
        }
        kind => kind,
    };
    match kind {
        FileType::Directory => Some(true),
        FileType::RegularFile => Some(false),
        _ => None,
    }
}

/// The first entries in the order of names, as many as the limit says: memory follows the page,
/// not the folder.
enum First {
    All(Vec<Entry>),
    Some {
        entries: BinaryHeap<Entry>,
        limit: usize,
    },
}

impl First {
    fn new(limit: Option<usize>) -> Self {
        match limit {
            None => Self::All(Vec::new()),
            Some(limit) => Self::Some {
                entries: BinaryHeap::new(),
                limit,
            },
        }
    }

    fn wants(&self, name: &str) -> bool {
        match self {
            Self::All(_) => true,
            Self::Some { entries, limit } => {
                let before = |last: &Entry| name < last.name.as_str();
                entries.len() < *limit || entries.peek().is_some_and(before)
            }
        }
    }

    fn push(&mut self, entry: Entry) {
        match self {
            Self::All(entries) => entries.push(entry),
            Self::Some { entries, limit } => {
                entries.push(entry);
                if entries.len() > *limit {
                    entries.pop();
                }
            }
        }
    }

    fn into_sorted(self) -> Vec<Entry> {
        match self {
            Self::All(mut entries) => {
                entries.sort_unstable();
                entries
            }
            Self::Some { entries, .. } => entries.into_sorted_vec(),
        }
    }
}
