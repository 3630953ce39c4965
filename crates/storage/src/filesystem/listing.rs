//! Listing folders from what their entries tell, without looking at each file; and not reading
//! a folder again that is as it was.

mod first;
mod known;

use std::fs;
use std::io;

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Stat, stat, statat};

use self::first::First;
pub(super) use self::known::KnownListings;
use self::known::Reading;
use super::OURS;
use super::folder::{Folder, is_temporary_name};
use super::stamp;
use super::store::{Store, read_error};
use crate::listing::Unsorted;
use crate::path::is_part;
use crate::{Entry, Error, Listing, Result, StoragePath};

/// The known listing of a folder, when that is true and the kernel can tell so without waiting.
/// `None` says nothing about the folder.
#[cfg(target_os = "linux")]
pub(super) fn known(store: &Store, path: &StoragePath) -> Option<Listing> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2};

    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::CACHED;
    let folder = openat2(CWD, store.full(path), flags, Mode::empty(), resolve).ok()?;
    known_if(store, path, fstat(folder))
}

/// Elsewhere nobody can be asked.
#[cfg(not(target_os = "linux"))]
pub(super) fn known(_store: &Store, _path: &StoragePath) -> Option<Listing> {
    None
}

/// A part of a listing as [`Driver::list`](crate::Driver::list) gives it.
pub(super) fn part(listing: &Listing, after: Option<&str>, limit: Option<usize>) -> Vec<Entry> {
    let entries = listing.behind(after).map(Entry::from);
    entries.take(limit.unwrap_or(usize::MAX)).collect()
}

/// The folder's entries behind `after`, `limit` at the most.
pub(super) fn list(
    store: &Store,
    path: &StoragePath,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Vec<Entry>> {
    let folder = match look(store, path) {
        Some(listing) => return Ok(part(&listing, after, limit)),
        None => OpenFolder::open(store, path)?,
    };
    match limit {
        None => Ok(part(&folder.read()?, after, None)),
        Some(limit) => folder.read_first(after, limit),
    }
}

/// All entries of each of the folders that are there.
pub(super) fn list_each(store: &Store, paths: &[StoragePath]) -> Result<Vec<Option<Listing>>> {
    let mut listed = Vec::with_capacity(paths.len());
    // From the folder that they are in, the way to each of them is short.
    for beside in paths.chunk_by(|a, b| above(a) == above(b)) {
        let place = match beside {
            [first, _, ..] => first.parent(),
            _ => None,
        };
        let place = place.and_then(|path| Folder::open(store, &path).ok());
        for path in beside {
            let known = match &place {
                Some(place) => known_if(
                    store,
                    path,
                    statat(&place.handle, path.name(), AtFlags::empty()),
                ),
                None => look(store, path),
            };
            listed.push(match known {
                Some(listing) => Some(listing),
                None => match OpenFolder::open(store, path).and_then(OpenFolder::read) {
                    Err(error) if error.is_not_found() => None,
                    listing => Some(listing?),
                },
            });
        }
    }
    Ok(listed)
}

/// The path without its last part.
fn above(path: &StoragePath) -> Option<&str> {
    path.as_str().rsplit_once('/').map(|(above, _)| above)
}

/// The known listing of a folder, when that is true.
fn look(store: &Store, path: &StoragePath) -> Option<Listing> {
    known_if(store, path, stat(store.full(path)))
}

fn known_if(
    store: &Store,
    path: &StoragePath,
    folder: rustix::io::Result<Stat>,
) -> Option<Listing> {
    // The root has something to hide that is shown under another path that leads to it.
    match path.is_root() {
        true => None,
        false => store.listings.get(&folder.ok()?),
    }
}

/// A folder whose entries are read.
struct OpenFolder<'a> {
    path: &'a StoragePath,
    dir: Dir,
    /// How to read it when its listing can be kept.
    reading: Option<Reading<'a>>,
}

impl<'a> OpenFolder<'a> {
    fn open(store: &'a Store, path: &'a StoragePath) -> Result<Self> {
        let now = stamp::now();
        let folder = Folder::open(store, path).map_err(|error| {
            let is_there = || fs::metadata(store.full(path)).is_ok();
            match error.kind() {
                io::ErrorKind::NotADirectory if is_there() => Error::not_a_folder(path),
                _ => read_error(path, "list", error),
            }
        })?;
        // See `known_if`.
        let reading = match path.is_root() {
            true => None,
            false => store.listings.reading(&folder.handle, now),
        };
        store.note_reading(path);
        let dir = Dir::new(folder.handle).map_err(|error| Error::io(path, "list", error))?;
        Ok(Self { path, dir, reading })
    }

    /// The next entry that a listing may show.
    fn next(&mut self) -> Result<Option<DirEntry>> {
        while let Some(entry) = self.dir.next() {
            let entry = entry.map_err(|error| Error::io(self.path, "list", error))?;
            let name = name(&entry);
            let hidden = is_temporary_name(name) || (self.path.is_root() && OURS.contains(&name));
            if is_part(name) && !hidden {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Whether the entry is a folder; `None` for what is neither folder nor file.
    fn is_dir(&mut self, entry: &DirEntry) -> Option<bool> {
        let kind = match entry.file_type() {
            // Links count as what they lead to, as in Distribution; that may change without the
            // folder.
            FileType::Symlink | FileType::Unknown => {
                self.reading = None;
                let stat = statat(self.dir.fd().ok()?, entry.file_name(), AtFlags::empty()).ok()?;
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

    fn read(mut self) -> Result<Listing> {
        let mut names = Unsorted::default();
        while let Some(entry) = self.next()? {
            if let Some(is_dir) = self.is_dir(&entry) {
                names.push(name(&entry), is_dir);
            }
        }
        Ok(self.sorted(names))
    }

    /// Sorts all of the names, and keeps them when they can be kept.
    fn sorted(self, names: Unsorted) -> Listing {
        let listing = names.sorted();
        if let Some(reading) = self.reading {
            reading.keep(&listing);
        }
        listing
    }

    /// The first entries behind `after`. All are read into memory only as far as they can be kept.
    fn read_first(mut self, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        let mut names = Unsorted::default();
        loop {
            let size = names.size();
            if !self.reading.as_mut().is_some_and(|r| r.has_room(size)) {
                break;
            }
            let Some(entry) = self.next()? else {
                return Ok(part(&self.sorted(names), after, Some(limit)));
            };
            if let Some(is_dir) = self.is_dir(&entry) {
                names.push(name(&entry), is_dir);
            }
        }
        let mut first = First::new(after, limit);
        for (name, is_dir) in names.iter() {
            first.push(name, is_dir);
        }
        drop(names);
        self.reading = None;
        while let Some(entry) = self.next()? {
            if first.wants(name(&entry))
                && let Some(is_dir) = self.is_dir(&entry)
            {
                first.push(name(&entry), is_dir);
            }
        }
        Ok(first.into_sorted())
    }
}

/// The entry's name; empty when it is no UTF-8, and so no path part.
fn name(entry: &DirEntry) -> &str {
    entry.file_name().to_str().unwrap_or_default()
}
