//! Doing once more what a journal has, after a crash.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tracing::warn;

use super::record::{Batch, Read};
use crate::filesystem::store::Store;
use crate::{Durability, Error, Result, StoragePath};

/// Does all changes of these batches in their order, of which nothing survives the machine yet; gives
/// how many they are.
///
/// What is newer than a change was done by a process without the journal, and stays. What was in the
/// way of a change (a folder where a file is to be) is none of the registry's, and stays, too.
pub(super) fn replay(store: &Store, mut batches: Vec<Batch>) -> Result<usize> {
    batches.sort_by_key(|batch| batch.number);
    let void: HashSet<_> = batches
        .iter()
        .flat_map(|batch| &batch.groups)
        .flat_map(|group| &group.changes)
        .filter_map(|change| match change {
            Read::Void(number) => Some(*number),
            _ => None,
        })
        .collect();
    let mut replay = Replay {
        store,
        time: 0,
        written: HashSet::new(),
    };
    let mut done = 0;
    for batch in batches {
        replay.time = batch.time;
        let groups = batch.groups.into_iter();
        for group in groups.filter(|group| !void.contains(&group.number)) {
            for change in group.changes {
                match change {
                    Read::Put(path, content) => replay.put(path, &content)?,
                    Read::Remove(path) => replay.remove(&path)?,
                    Read::Void(_) => continue,
                }
                done += 1;
            }
        }
    }
    Ok(done)
}

struct Replay<'a> {
    store: &'a Store,
    /// When the change was made.
    time: u64,
    /// What this has written, which is newer and yet not another's.
    written: HashSet<StoragePath>,
}

impl Replay<'_> {
    fn put(&mut self, path: StoragePath, content: &[u8]) -> Result<()> {
        match fs::symlink_metadata(self.store.full(&path)) {
            Ok(found) if self.is_another_s(&path, &found) => return Ok(()),
            _ => {}
        }
        match self.store.put(&path, content, Durability::Process) {
            Ok(()) => {
                self.written.insert(path);
                Ok(())
            }
            Err(error @ Error::WrongKind { .. }) => {
                warn!(%path, %error, "what the journal has for this path is left out");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn remove(&mut self, path: &StoragePath) -> Result<()> {
        let place = self.store.full(path);
        let removed = match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => self.remove_folder(path, &place),
            Ok(found) if self.is_another_s(path, &found) => Ok(()),
            Ok(_) => fs::remove_file(&place),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if !is_absent(&error) => Err(Error::io(path, "remove", error)),
            _ => Ok(()),
        }
    }

    /// Removes all files in a folder that are no newer, and then the folders in which nothing is.
    fn remove_folder(&self, path: &StoragePath, place: &Path) -> io::Result<()> {
        for entry in fs::read_dir(place)? {
            let entry = entry?;
            let below = entry
                .file_name()
                .to_str()
                .and_then(|name| path.join(name).ok());
            let Some(below) = below else {
                continue;
            };
            let found = entry.metadata()?;
            if found.is_dir() {
                self.remove_folder(&below, &entry.path())?;
            } else if !self.is_another_s(&below, &found) {
                fs::remove_file(entry.path())?;
            }
        }
        match fs::remove_dir(place) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed,
        }
    }

    fn is_another_s(&self, path: &StoragePath, found: &Metadata) -> bool {
        if !found.is_file() || self.written.contains(path) {
            return false;
        }
        let nanoseconds = found.mtime().saturating_mul(1_000_000_000) + found.mtime_nsec();
        u64::try_from(nanoseconds).is_ok_and(|modified| modified > self.time)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
