//! A tar archive whose files can be read in any order.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Component, Path};
use std::sync::Arc;

use tar::EntryType;

use crate::layout::BLOCK;
use crate::pieces::Extent;
use crate::{Error, Result};

/// How many links may lead from one to another.
const MAX_LINKS: usize = 8;

/// What is in an archive. Of two entries with one name the later counts.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    File(Range<u64>),
    /// The name that it leads to.
    Link(String),
}

impl Archive {
    /// Reads the headers of all entries. Blocks.
    ///
    /// # Errors
    /// When it is no archive, ends too early, or has an entry that leads out of it.
    pub(super) fn index(file: File, name: &str) -> Result<Self> {
        let unreadable =
            |error: io::Error| Error::source(name, format!("not a whole tar archive: {error}"));
        let length = file.metadata().map_err(unreadable)?.len();
        let mut entries = HashMap::new();
        let mut last = 0;
        let mut archive = tar::Archive::new(&file);
        for entry in archive.entries_with_seek().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let told = entry.path().map_err(unreadable)?;
            let place = format!("{name}: {}", told.display());
            let path = inside(Path::new(""), &told)
                .ok_or_else(|| Error::source(&place, "its path leads out of the archive"))?;
            let kind = entry.header().entry_type();
            let start = entry.raw_file_position();
            let end = start.checked_add(entry.size());
            let range = match end {
                Some(end) if end <= length => start..end,
                _ => return Err(Error::source(place, "the archive ends before it does")),
            };
            last = range.end;
            let found = match kind {
                EntryType::Regular | EntryType::Continuous => Entry::File(range),
                EntryType::Symlink | EntryType::Link => {
                    let to = entry.link_name().map_err(unreadable)?.unwrap_or_default();
                    let from = match kind {
                        EntryType::Symlink => told.parent().unwrap_or(Path::new("")),
                        _ => Path::new(""),
                    };
                    let to = inside(from, &to);
                    Entry::Link(to.ok_or_else(|| {
                        Error::source(&place, "it is a link that leads out of the archive")
                    })?)
                }
                EntryType::GNUSparse => {
                    return Err(Error::source(place, "sparse files are not understood"));
                }
                _ => continue,
            };
            entries.insert(path, found);
        }
        // Two empty blocks end an archive, and one must do.
        match last.next_multiple_of(BLOCK).checked_add(BLOCK) {
            Some(end) if end <= length => Ok(Self {
                file: Arc::new(file),
                entries,
            }),
            _ => Err(Error::source(
                name,
                "it is cut short: the end of a tar archive is missing",
            )),
        }
    }

    /// A file, perhaps by way of links; `None` when it is not there.
    pub(super) fn find(&self, name: &str) -> io::Result<Option<Extent>> {
        let mut name = name.strip_prefix("./").unwrap_or(name);
        for _ in 0..MAX_LINKS {
            match self.entries.get(name) {
                None => return Ok(None),
                Some(Entry::Link(to)) => name = to,
                Some(Entry::File(range)) => {
                    return Ok(Some(Extent {
                        file: Arc::clone(&self.file),
                        range: range.clone(),
                    }));
                }
            }
        }
        Err(io::Error::other("it is a link that leads nowhere"))
    }

    /// The folder, with its slash, in which there is a file of this name: the archive's root, or
    /// one in it.
    pub(super) fn folder_of(&self, name: &str) -> Option<String> {
        let folders = self
            .entries
            .keys()
            .filter_map(|path| path.strip_suffix(name));
        folders
            .filter(|folder| {
                folder.is_empty() || folder.ends_with('/') && folder.matches('/').count() == 1
            })
            .min_by_key(|folder| folder.len())
            .map(str::to_owned)
    }

    /// Takes a folder for the root.
    pub(super) fn below(mut self, folder: &str) -> Self {
        let entries = self.entries.drain().filter_map(|(path, entry)| {
            let entry = match entry {
                Entry::Link(to) => Entry::Link(to.strip_prefix(folder)?.to_owned()),
                file => file,
            };
            Some((path.strip_prefix(folder)?.to_owned(), entry))
        });
        self.entries = entries.collect();
        self
    }
}

/// A path as it is from the root of the archive, seen from a folder in it; `None` when it leads
/// out, or is not text.
fn inside(from: &Path, path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in from.components().chain(path.components()) {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let from = |folder: &str, path: &str| inside(Path::new(folder), Path::new(path));
        for (folder, path, wanted) in [
            ("", "./a/b", Some("a/b")),
            ("a", "../b/layer.tar", Some("b/layer.tar")),
            ("", "a/../../b", None),
            ("", "/etc/passwd", None),
            ("a", "../..", None),
        ] {
            assert_eq!(from(folder, path).as_deref(), wanted, "{folder} {path}");
        }
    }
}
