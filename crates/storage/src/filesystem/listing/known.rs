//! Listings that are kept in memory, and how they are known to be true still.
//!
//! Whoever changes what is in a folder, this process or another, has the kernel set the folder's
//! times to that moment. So a listing is true as long as the folder is the same and has the times
//! that it had when it was read. Four things could deceive:
//!
//! - *A change within the same tick of the clock as the one before.* A listing is kept only when,
//!   before its folder was opened, the clock by which the kernel stamps was past the folder's times
//!   by more than they are precise: whatever happens from then on leaves other times.
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

use crate::Listing;

/// What all listings together may take, in bytes.
const CAPACITY: u64 = 4 << 20;
/// What the names of one folder may take to be kept, in bytes.
const LARGEST: usize = 3 << 20;
/// What they may take, in bytes, to be read for keeping while others are.
const SMALL: usize = 64 << 10;
/// What keeping a listing takes besides its names, in bytes, about.
const OVERHEAD: u64 = 128;

/// In nanoseconds.
const SECOND: i128 = 1_000_000_000;

/// A folder, whatever its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FolderId {
    device: u64,
    inode: u64,
}

/// Seconds and nanoseconds since 1970.
type Time = (i64, u32);

/// When a folder was last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    modified: Time,
    changed: Time,
}

impl Times {
    /// Whether every change that comes after `now`, by the clock that stamps, leaves other times.
    fn are_settled(&self, now: Time) -> bool {
        // Where only whole seconds are kept (ext3; FAT has every other one) there are no
        // nanoseconds. All else is more precise than a hundredth of a second.
        let precision = match self.changed.1 {
            0 => 2 * SECOND,
            _ => SECOND / 100,
        };
        let all = |(seconds, nanoseconds)| i128::from(seconds) * SECOND + i128::from(nanoseconds);
        all(now) >= all(self.changed) + precision
    }
}

/// What a look at a folder tells: which it is, and its times.
fn identify(stat: &Stat) -> (FolderId, Times) {
    #[allow(clippy::unnecessary_cast)] // not on every platform
    let id = FolderId {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
    };
    #[allow(clippy::unnecessary_cast)]
    let times = Times {
        modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
    };
    (id, times)
}

#[derive(Clone, Debug)]
struct Kept {
    times: Times,
    listing: Listing,
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<FolderId, Kept> for Weight {
    fn weight(&self, _: &FolderId, kept: &Kept) -> u64 {
        kept.listing.size() as u64 + OVERHEAD
    }
}

/// The listings that are kept: the most useful ones, within [`CAPACITY`].
#[derive(Debug)]
pub(crate) struct KnownListings {
    kept: Cache<FolderId, Kept, Weight>,
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
    id: FolderId,
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

/// The clock by which the kernel stamps what is changed.
#[cfg(target_os = "linux")]
pub(super) fn now() -> Time {
    use rustix::time::{ClockId, clock_gettime};

    let now = clock_gettime(ClockId::RealtimeCoarse);
    #[allow(clippy::unnecessary_cast)] // not on every platform
    let now = (now.tv_sec as i64, now.tv_nsec as u32);
    now
}

/// Elsewhere nothing is known of it: no time is settled.
#[cfg(not(target_os = "linux"))]
pub(super) fn now() -> Time {
    (0, 0)
}

/// Whether the folder's filesystem is one of this machine alone, whose times are the kernel's.
#[cfg(target_os = "linux")]
fn is_local(folder: &File) -> bool {
    use rustix::fs::{StatFs, fstatfs};

    // From linux/magic.h, and ZFS's own. What lies over others (overlayfs, FUSE) may lie over
    // anything, and is not among them.
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    const F2FS: u64 = 0xf2f5_2010;
    const TMPFS: u64 = 0x0102_1994;
    const ZFS: u64 = 0x2fc1_2fc1;

    let magic = |filesystem: StatFs| filesystem.f_type as u64 & 0xffff_ffff;
    let magic = fstatfs(folder).map(magic);
    matches!(magic, Ok(EXT | XFS | BTRFS | F2FS | TMPFS | ZFS))
}

/// Elsewhere nothing is known of filesystems.
#[cfg(not(target_os = "linux"))]
fn is_local(_folder: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_within_the_clocks_precision_are_not_settled() {
        let changed = |seconds, nanoseconds| Times {
            modified: (0, 0),
            changed: (seconds, nanoseconds),
        };
        let fine = changed(100, 999_000_000);
        assert!(!fine.are_settled((100, 999_000_000)), "the same tick");
        assert!(!fine.are_settled((101, 8_999_999)));
        assert!(fine.are_settled((101, 9_000_000)));
        assert!(!fine.are_settled((99, 0)), "the clock was set back");
        let whole = changed(100, 0);
        assert!(!whole.are_settled((101, 999_999_999)), "the same second");
        assert!(whole.are_settled((102, 0)));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let known = KnownListings::default();
        let keep = |inode, size| {
            let mut names = crate::listing::Unsorted::default();
            names.push(&"a".repeat(size), false);
            let reading = Reading {
                known: &known,
                id: FolderId { device: 1, inode },
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
