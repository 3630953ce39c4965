//! Writing several small files with as few syncs as their order allows.
//!
//! What counts is how often something must wait for the device. The contents, and the folders that
//! were made for them, may be durable at any time before the names: all of them are synced first,
//! together, the contents under temporary names. Then each step gives its files their names and
//! syncs its folders, together again. A file that is moved there and whose content survives already
//! gets its name before all that, which is then synced together with the contents.
//!
//! Where there is a journal, all this is one entry of it (`journaled`).

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use rustix::fs::{Advice, fadvise};

use super::folder::{Folder, Temporary};
use super::journaled;
use super::store::Store;
use super::together::Target;
use crate::driver::Steps;
use crate::{Durability, Result, StoragePath};

/// A file that is moved before anything else appears.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) from: StoragePath,
    pub(super) to: StoragePath,
}

/// Moves a file, and writes files step by step: each step is durable before the next one's files
/// appear.
pub(super) fn put_all(store: &Store, moved: Option<&Moved>, steps: &Steps) -> Result<()> {
    if let Some(moved) = moved {
        store.check_file(&moved.from)?;
    }
    let ends = moved.iter().flat_map(|moved| [&moved.from, &moved.to]);
    let paths: Vec<_> = ends
        .chain(steps.iter().flatten().map(|(path, _)| path))
        .collect();
    let turn = store.journal.turn(store, &paths)?;
    let mut left = moved;
    if let Some(turn) = &turn
        && journaled::put_all(store, turn, &mut left, steps)?
    {
        return Ok(());
    }
    paths
        .iter()
        .try_for_each(|path| store.journal.settle(path))?;
    let is_moved = left.is_none();
    if at_once(store, &mut left, steps)? {
        return match moved {
            Some(moved) if is_moved => store.sync_folder_of(&moved.from),
            _ => Ok(()),
        };
    }
    // A removal has taken away a folder that was just made; one by one, each is made again.
    match (left, moved) {
        (Some(moved), _) => store.rename_synced(&moved.from, &moved.to)?,
        (None, Some(moved)) => store.sync_folder_of(&moved.from)?,
        (None, None) => {}
    }
    let mut files = steps.iter().flatten();
    files.try_for_each(|(path, content)| store.put(path, content, Durability::Machine))
}

/// Whether it came to its end: false when a folder that it had opened was removed. What is still
/// to be moved then is left in `moved`.
fn at_once(store: &Store, moved: &mut Option<&Moved>, steps: &Steps) -> Result<bool> {
    // All folders before the first sync, so that it takes them along.
    let mut folders = Vec::new();
    for (path, _) in steps.iter().flatten() {
        folders.push(Arc::new(Folder::of_file(store, path)?));
    }
    let move_to = match moved {
        Some(moved) => Some(Arc::new(Folder::of_file(store, &moved.to)?)),
        None => None,
    };
    let failed = |path: &StoragePath, error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(false),
        _ => Err(store.write_error(path, "write", error)),
    };

    let mut temporaries = Vec::new();
    for (folder, (path, content)) in folders.iter().zip(steps.iter().flatten()) {
        match written(folder, content) {
            Ok(temporary) => temporaries.push(temporary),
            Err(error) => return failed(path, error),
        }
    }
    let contents = temporaries.iter().zip(steps.iter().flatten());
    let contents = contents.map(|(temporary, (path, _))| temporary.content(path));
    let mut targets: Vec<_> = contents.collect();
    let mut moved_from = None;
    if let (Some(moved), Some(folder)) = (*moved, &move_to) {
        match store.move_file(&moved.from, &moved.to, folder)? {
            Ok(from) => moved_from = Some(from),
            Err(error) => return failed(&moved.to, error),
        }
        targets.push(Target::Folder(Arc::clone(folder)));
    }
    let all = folders.iter().chain(&move_to).map(|folder| &**folder);
    store.sync_with_ways(targets, store.ways_up(all)?)?;
    *moved = None;

    let mut temporaries = temporaries.into_iter();
    let mut left = folders.as_slice();
    for step in steps {
        for ((path, _), temporary) in step.iter().zip(temporaries.by_ref()) {
            if let Err(error) = temporary.put_in_place(path.name()) {
                return failed(path, error);
            }
        }
        let (folders, rest) = left.split_at(step.len());
        left = rest;
        let mut seen = HashSet::new();
        let folders = folders.iter().filter(|folder| seen.insert(&folder.path));
        let mut targets: Vec<_> = folders.cloned().map(Target::Folder).collect();
        // The old name goes when the new one is durable: a crash between the two must not leave the
        // file without a name.
        targets.extend(moved_from.take().map(Target::Folder));
        store.sync(targets)?;
    }
    if let Some(from) = moved_from {
        store.sync(vec![Target::Folder(from)])?;
    }
    Ok(true)
}

/// A file under a temporary name, on its way to the disk.
fn written<'a>(folder: &'a Folder, content: &[u8]) -> io::Result<Temporary<'a>> {
    let temporary = Temporary::with(folder, content)?;
    // Not needed any more, says this, and Linux then begins to write the content at once. So it
    // has its place on the disk when the first of the syncs commits the journal, and the other
    // syncs find their work done. Only a hint: without it they do it themselves.
    let _ = fadvise(&temporary.file, 0, None, Advice::DontNeed);
    Ok(temporary)
}
