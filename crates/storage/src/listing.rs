//! All of a folder's entries, held in little memory.

use std::fmt;
use std::sync::Arc;

use crate::Entry;

/// Behind a file's name.
const FILE: char = '\u{1}';
/// Behind a folder's name. Both sort before all that a name can have, so that names with what is
/// behind them have the order of the names.
const FOLDER: char = '\u{2}';

/// The direct children of a folder in the order of their names' bytes, in a byte more for each
/// than its name has. Clones share them.
#[derive(Clone, PartialEq, Eq)]
pub struct Listing(Arc<str>);

/// One of the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The name, a single path part.
    pub name: &'a str,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// The place in the listing where the next one begins.
    pub end: usize,
}

impl Listing {
    /// The entries from a place on: 0, what [`seek`](Self::seek) gives, or [`Listed::end`].
    pub fn at(&self, place: usize) -> impl Iterator<Item = Listed<'_>> {
        let mut end = place;
        let rest = self.0.get(place..).unwrap_or_default();
        split(rest).map(move |(name, is_dir)| {
            end += name.len() + 1;
            Listed { name, is_dir, end }
        })
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = Listed<'_>> {
        self.at(0)
    }

    /// The entries whose names sort behind `after`.
    pub fn behind(&self, after: Option<&str>) -> impl Iterator<Item = Listed<'_>> {
        let place = after.map_or(0, |after| self.seek(after));
        let wanted = move |entry: &Listed<'_>| after.is_none_or(|after| entry.name > after);
        self.at(place).filter(wanted)
    }

    /// The place of the first entry whose name is not less than `name`, found in a number of steps
    /// that grows with the logarithm of the size.
    pub fn seek(&self, name: &str) -> usize {
        let text = self.0.as_bytes();
        let is_end = |byte: &u8| matches!(*byte as char, FILE | FOLDER);
        // Entries that begin before `low` are less, those from `high` on are not.
        let (mut low, mut high) = (0, text.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let begin = text[low..middle].iter().rposition(is_end);
            let begin = begin.map_or(low, |end| low + end + 1);
            let length = text[begin..].iter().position(is_end).unwrap_or_default();
            if text[begin..begin + length] < *name.as_bytes() {
                low = begin + length + 1;
            } else {
                high = begin;
            }
        }
        low
    }

    /// Whether there is a folder of this name.
    pub fn has_folder(&self, name: &str) -> bool {
        let first = self.at(self.seek(name)).next();
        first.is_some_and(|entry| entry.name == name && entry.is_dir)
    }

    /// What the names take, in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

/// The names in a text, and whether each is a folder's.
fn split(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let entries = text.split_inclusive([FILE, FOLDER]);
    entries.map(|entry| (&entry[..entry.len() - 1], entry.ends_with(FOLDER)))
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl From<Listed<'_>> for Entry {
    fn from(listed: Listed<'_>) -> Self {
        Self {
            name: listed.name.to_owned(),
            is_dir: listed.is_dir,
        }
    }
}

impl FromIterator<Entry> for Listing {
    fn from_iter<T: IntoIterator<Item = Entry>>(entries: T) -> Self {
        let mut names = Unsorted::default();
        for entry in entries {
            names.push(&entry.name, entry.is_dir);
        }
        names.sorted()
    }
}

/// Entries in whatever order they are found.
#[derive(Debug, Default)]
pub(crate) struct Unsorted(String);

impl Unsorted {
    pub(crate) fn push(&mut self, name: &str, is_dir: bool) {
        self.0.push_str(name);
        self.0.push(if is_dir { FOLDER } else { FILE });
    }

    /// What the names take, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.0.len()
    }

    /// The entries in the order in which they were found.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        split(&self.0)
    }

    pub(crate) fn sorted(self) -> Listing {
        let mut entries: Vec<_> = self.0.split_inclusive([FILE, FOLDER]).collect();
        entries.sort_unstable();
        let sorted = entries.concat();
        drop(entries);
        drop(self);
        Listing(sorted.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let names = prop::collection::btree_map("[a-c._-]{1,3}", any::<bool>(), 0..20);
        names.prop_map(|names| {
            let entries = names.into_iter();
            entries
                .map(|(name, is_dir)| Entry { name, is_dir })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn a_listing_is_its_entries_in_order(mut entries in entries(), name in "[a-c._-]{0,3}") {
            let sorted = entries.clone();
            entries.reverse();
            let listing: Listing = entries.into_iter().collect();
            let all: Vec<Entry> = listing.iter().map(Entry::from).collect();
            prop_assert_eq!(&all, &sorted);
            let behind: Vec<Entry> = listing.behind(Some(&name)).map(Entry::from).collect();
            let expected: Vec<_> = sorted.iter().filter(|e| e.name > name).cloned().collect();
            prop_assert_eq!(behind, expected);
            let from: Vec<Entry> = listing.at(listing.seek(&name)).map(Entry::from).collect();
            let expected: Vec<_> = sorted.iter().filter(|e| e.name >= name).cloned().collect();
            prop_assert_eq!(from, expected);
            let is_folder = sorted.iter().any(|e| e.name == name && e.is_dir);
            prop_assert_eq!(listing.has_folder(&name), is_folder);
            let mut place = 0;
            for entry in &sorted {
                let listed = listing.at(place).next().expect("there are as many");
                prop_assert_eq!(&Entry::from(listed), entry);
                place = listed.end;
            }
            prop_assert_eq!(place, listing.size());
        }
    }
}
