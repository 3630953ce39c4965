//! Listings that are kept in memory, and how they are known to be true still.
//!
//! Whoever changes what is in a folder, this process or another, has the kernel set the folder's
//! times to that moment. So a listing is true as long as the folder is the same and has the times
//! that it had when it was read. Four things could deceive:
//!
//! - *A change within the same tick of the clock as the one before.* A listing is kept only when
//!   the folder's times were [settled](Times::are_settled) before it was opened.
//! - *Times that come from another machine's clock, or late,* as network filesystems have them.
//!   Listings are kept only of folders on filesystems that are known to be local.
//! - *A clock that is set back*, so that a later change is stamped as the last one was: it would have
//!   to hit the same nanosecond, or where only seconds are kept, the same second.
//! - *Links*, which are listed as what they lead to, and that may change elsewhere. A folder with
//!   one is not kept.

use std::fs::File;
use std::sync::{Mutex, MutexGuard};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use rustix::fs::{Stat, fstat};

use super::super::stamp::{FileId, Time, Times, identify, is_local};
use crate::Listing;

/// What all listings together may take, in bytes.
const CAPACITY: u64 = 4 << 20;
/// What the names of one folder may take to be kept, in bytes.
const LARGEST: usize = 3 << 20;
/// What they may take, in bytes, to be read for keeping while others are.
const SMALL: usize = 64 << 10;
/// What keeping a listing takes besides its names, in bytes, about.
const OVERHEAD: u64 = 128;

#[derive(Clone, Debug)]
struct Kept {
    times: Times,
    listing: Listing,
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<FileId, Kept> for Weight {
    fn weight(&self, _: &FileId, kept: &Kept) -> u64 {
        kept.listing.size() as u64 + OVERHEAD
    }
}

/// The listings that are kept: the most useful ones, within [`CAPACITY`].
#[derive(Debug)]
pub(crate) struct KnownListings {
    kept: Cache<FileId, Kept, Weight>,
    /// Held while a large folder is read for keeping, so that only one is at a time.
    large: Mutex<()>,
}

impl Default for KnownListings {
    fn default() -> Self {
        let options = OptionsBuilder::new()
            // A part of the cache must have room for the largest listing.
            .shards(1)
            .estimated_items_capacity(CAPACITY as usize / 256)
            .weight_capacity(CAPACITY)
            .build();
        let options = options.expect("all that has no default is given");
        Self {
            kept: Cache::with_options(
                options,
                Weight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            large: Mutex::default(),
        }
    }
}

impl KnownListings {
    /// The listing of a folder that was just looked at, where it is known and true.
    pub(super) fn get(&self, folder: &Stat) -> Option<Listing> {
        let (id, times) = identify(folder);
        let kept = self.kept.get(&id)?;
        (kept.times == times).then_some(kept.listing)
    }

    /// Takes the turn of reading a large folder, for tests.
    #[cfg(test)]
    pub(in super::super) fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.large.lock().expect("no test panics here")
    }

    /// How to read a folder that was opened after [`now`], when its listing can be kept.
    pub(super) fn reading(&self, folder: &File, now: Time) -> Option<Reading<'_>> {
        let (id, times) = identify(&fstat(folder).ok()?);
        let can_be_kept = times.are_settled(now) && is_local(folder);
        can_be_kept.then_some(Reading {
            known: self,
            id,
            times,
            turn: None,
        })
    }
}

/// The reading of a folder whose listing can be kept.
pub(super) struct Reading<'a> {
    known: &'a KnownListings,
    id: FileId,
    times: Times,
    turn: Option<MutexGuard<'a, ()>>,
}

impl Reading<'_> {
    /// Whether names of this size, in bytes, may be held only because they can be kept.
    pub(super) fn has_room(&mut self, size: usize) -> bool {
        if size > SMALL && size <= LARGEST && self.turn.is_none() {
            // Who does not get it reads a page, as of a folder that cannot be kept, and waits for
            // nobody.
            self.turn = self.known.large.try_lock().ok();
        }
        size <= SMALL || (size <= LARGEST && self.turn.is_some())
    }

    pub(super) fn keep(self, listing: &Listing) {
        if listing.size() <= LARGEST {
            let (times, listing) = (self.times, listing.clone());
            self.known.kept.insert(self.id, Kept { times, listing });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let known = KnownListings::default();
        let keep = |inode, size| {
            let mut names = crate::listing::Unsorted::default();
            names.push(&"a".repeat(size), false);
            let reading = Reading {
                known: &known,
                id: FileId { device: 1, inode },
                times: Times {
                    modified: (0, 0),
                    changed: (0, 0),
                },
                turn: None,
            };
            reading.keep(&names.sorted());
        };
        keep(0, LARGEST);
        assert_eq!(known.kept.len(), 0, "too large");
        keep(0, LARGEST - 1);
        assert_eq!(known.kept.len(), 1, "the largest");
        for inode in 1..100_000 {
            keep(inode, 30);
        }
        assert!(known.kept.weight() <= CAPACITY);
        assert!(known.kept.len() > 5_000, "{}", known.kept.len());
    }
}
