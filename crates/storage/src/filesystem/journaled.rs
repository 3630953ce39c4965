//! Writing small files by way of the journal, with one wait for the device.
//!
//! Under temporary names the files are there before the journal has them, so that hardly anything can
//! fail afterwards; then they get their names, in order. A large file that is moved beside them is not
//! in the journal: its new name is synced first. That its old name is gone is.

use std::io;

use rustix::fs::{AtFlags, FileType, statat};

use super::batch::Moved;
use super::folder::{Folder, Temporary};
use super::journal::{Change, Turn};
use super::store::Store;
use crate::driver::Steps;
use crate::{Result, StoragePath};

/// Moves a file, and writes files step by step, as far as the journal can take them. False when it
/// cannot, or when somebody took a folder away meanwhile: then what there is of it in the journal is
/// void, and all is still to be done, but for a file that was moved, which is not left in `moved`.
pub(super) fn put_all(
    store: &Store,
    turn: &Turn<'_>,
    moved: &mut Option<&Moved>,
    steps: &Steps,
) -> Result<bool> {
    let files = || steps.iter().flatten();
    let old_name = moved.filter(|moved| moved.from != moved.to);
    let mut changes: Vec<_> = old_name
        .iter()
        .map(|moved| Change::Remove(&moved.from))
        .collect();
    changes.extend(files().map(|(path, content)| Change::Put(path, content)));
    let Some(named) = files()
        .map(|(path, _)| path)
        .next()
        .or(moved.map(|moved| &moved.to))
    else {
        return Ok(true);
    };
    let mut folders = Vec::new();
    for (path, _) in files() {
        folders.push(Folder::of_file(store, path)?);
    }
    let new_place = match moved {
        Some(moved) => Some(Folder::of_file(store, &moved.to)?),
        None => None,
    };
    let Some(log) = turn.log(&changes, folders.iter().chain(&new_place)) else {
        return Ok(false);
    };
    let failed = |path: &StoragePath, error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(false),
        _ => Err(store.write_error(path, "write", error)),
    };
    let mut temporaries = Vec::new();
    for (folder, (path, content)) in folders.iter().zip(files()) {
        let place = check_place(folder, path.name());
        match place.and_then(|()| Temporary::with(folder, content)) {
            Ok(temporary) => temporaries.push(temporary),
            Err(error) => return failed(path, error),
        }
    }
    if let (Some(move_it), Some(folder)) = (*moved, new_place) {
        store.journal.settle(&move_it.from)?;
        store.journal.settle(&move_it.to)?;
        match store.move_file(&move_it.from, &move_it.to, &folder)? {
            Ok(_) => store.sync_entry(folder)?,
            Err(error) => return failed(&move_it.to, error),
        }
        *moved = None;
    }

    let durable = match log.commit(&changes, turn.begun) {
        Ok(durable) => durable,
        // The journal may have been taken away with the root.
        Err(error) => return failed(named, error),
    };
    for (temporary, (path, _)) in temporaries.into_iter().zip(files()) {
        if let Err(error) = temporary.put_in_place(path.name()) {
            durable.forget();
            return failed(path, error);
        }
    }
    Ok(true)
}

/// That a file can have this name.
fn check_place(folder: &Folder, name: &str) -> io::Result<()> {
    match statat(&folder.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            Err(io::ErrorKind::IsADirectory.into())
        }
        _ => Ok(()),
    }
}
