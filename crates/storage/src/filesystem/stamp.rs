//! By what it is known that a file or folder is still as it was: the kernel stamps each change with
//! the time.

use std::fs::File;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;

/// In nanoseconds.
const SECOND: i128 = 1_000_000_000;

/// A file or folder, whatever its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// Seconds and nanoseconds since 1970.
pub(super) type Time = (i64, u32);

/// When a file or folder was last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) modified: Time,
    pub(super) changed: Time,
}

impl Times {
    /// Whether every change that comes after `now`, by the clock that stamps, leaves other times:
    /// that clock was past these by more than they are precise.
    pub(super) fn are_settled(&self, now: Time) -> bool {
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

/// What a look tells: what is there, and its times.
pub(super) fn identify(stat: &Stat) -> (FileId, Times) {
    #[allow(clippy::unnecessary_cast)] // not on every platform
    let id = FileId {
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

/// How far the clock by which the kernel stamps is behind the system's, at the most: a tick, and some
/// more where a virtual machine's processors do not run all the time.
const LAG: Duration = match cfg!(test) {
    true => Duration::from_millis(100),
    false => Duration::from_secs(1),
};

/// A time that the clock by which the kernel stamps has passed. Less exact than [`now`], but asked for
/// in a way that works under every tool that looks at programs while they run.
pub(super) fn passed() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default().saturating_sub(LAG);
    let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
    (seconds, since.subsec_nanos())
}

/// Whether the filesystem that something lies on is one of this machine alone, whose times are the
/// kernel's.
pub(super) fn is_local(place: &File) -> bool {
    kind(place).is_some()
}

/// Whether a place is on a disk of this machine.
pub(super) fn is_on_disk(place: &File) -> bool {
    kind(place) == Some(Kind::Disk)
}

#[derive(PartialEq, Eq)]
enum Kind {
    Disk,
    Memory,
}

/// What a place is on, where that is this machine's own.
#[cfg(target_os = "linux")]
fn kind(place: &File) -> Option<Kind> {
    use rustix::fs::fstatfs;

    // From linux/magic.h, and ZFS's own. What lies over others (overlayfs, FUSE) may lie over
    // anything, and is not among them.
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    const F2FS: u64 = 0xf2f5_2010;
    const TMPFS: u64 = 0x0102_1994;
    const ZFS: u64 = 0x2fc1_2fc1;

    match fstatfs(place).ok()?.f_type as u64 & 0xffff_ffff {
        EXT | XFS | BTRFS | F2FS | ZFS => Some(Kind::Disk),
        TMPFS => Some(Kind::Memory),
        _ => None,
    }
}

/// Elsewhere nothing is known of filesystems.
#[cfg(not(target_os = "linux"))]
fn kind(_place: &File) -> Option<Kind> {
    None
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
}
