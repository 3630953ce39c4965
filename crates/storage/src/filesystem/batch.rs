//! Writing several small files with as few syncs as their order allows.
//!
//! What counts is how often something must wait for the device. The contents, and the folders that
//! were made for them, may be durable at any time before the names: all of them are synced first,
//! together, the contents under temporary names. Then each step gives its files their names and
//! syncs its folders, together again.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::sync::Arc;

use rustix::fs::{Advice, fadvise};

use super::folder::{Folder, Temporary};
use super::store::Store;
use super::together::Target;
use crate::driver::Steps;
use crate::{Durability, Error, Result, StoragePath};

/// Writes files step by step, each step durable before the next one's files appear.
pub(super) fn put_all(store: &Store, steps: &Steps) -> Result<()> {
    if at_once(store, steps)? {
        return Ok(());
    }
    // A removal has taken away a folder that was just made; one by one, each is made again.
    let mut files = steps.iter().flatten();
    files.try_for_each(|(path, content)| store.put(path, content, Durability::Machine))
}

/// Whether it came to its end: false when a folder that it had opened was removed.
fn at_once(store: &Store, steps: &Steps) -> Result<bool> {
    // All folders before the first sync, so that it takes them along.
    let mut folders = Vec::new();
    for (path, _) in steps.iter().flatten() {
        let parent = path.parent().ok_or_else(|| Error::not_a_file(path))?;
        folders.push(Arc::new(Folder::open_or_make(store, &parent)?));
    }
    let files = || steps.iter().flatten().map(|(path, _)| path);
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
    let contents = temporaries.iter().zip(files());
    let contents = contents.map(|(temporary, path)| temporary.content(path));
    store.sync_with_ways(
        contents.collect(),
        store.ways_up(folders.iter().map(|folder| &**folder))?,
    )?;

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
        store.sync(folders.cloned().map(Target::Folder).collect())?;
    }
    Ok(true)
}

/// A file under a temporary name, on its way to the disk.
fn written<'a>(folder: &'a Folder, content: &[u8]) -> io::Result<Temporary<'a>> {
    let temporary = Temporary::create(folder)?;
    (&*temporary.file).write_all(content)?;
    // Not needed any more, says this, and Linux then begins to write the content at once. So it
    // has its place on the disk when the first of the syncs commits the journal, and the other
    // syncs find their work done. Only a hint: without it they do it themselves.
    let _ = fadvise(&temporary.file, 0, None, Advice::DontNeed);
    Ok(temporary)
}
