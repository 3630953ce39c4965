//! The first entries of a folder.

use std::collections::BinaryHeap;

use crate::Entry;

/// The first entries behind a name, in the order of names, as many as the limit says: memory
/// follows the page, not the folder.
pub(super) struct First<'a> {
    entries: BinaryHeap<Entry>,
    after: Option<&'a str>,
    limit: usize,
}

impl<'a> First<'a> {
    pub(super) fn new(after: Option<&'a str>, limit: usize) -> Self {
        Self {
            entries: BinaryHeap::new(),
            after,
            limit,
        }
    }

    /// Whether an entry of this name would be one of them, as far as is known.
    pub(super) fn wants(&self, name: &str) -> bool {
        let before = |last: &Entry| name < last.name.as_str();
        self.after.is_none_or(|after| name > after)
            && (self.entries.len() < self.limit || self.entries.peek().is_some_and(before))
    }

    pub(super) fn push(&mut self, name: &str, is_dir: bool) {
        if !self.wants(name) {
            return;
        }
        self.entries.push(Entry {
            name: name.to_owned(),
            is_dir,
        });
        if self.entries.len() > self.limit {
            self.entries.pop();
        }
    }

    pub(super) fn into_sorted(self) -> Vec<Entry> {
        self.entries.into_sorted_vec()
    }
}
