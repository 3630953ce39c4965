//! Which names are known to survive the machine.
//!
//! A file survives only if every folder on the way to it does, and each of those is an entry in
//! the folder above, made durable by syncing that. That a folder is there does not tell: another
//! request, or a process that was killed, may have made it and not have come to the sync. So a
//! folder is trusted when this process has seen its entry synced, and otherwise synced once.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::StoragePath;

/// How many names one generation holds; there are two. An entry takes some 20 bytes.
const GENERATION: usize = 16 * 1024;

/// A name and the very file or folder behind it, as a hash that an outsider cannot aim at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NameId(u64, u64);

/// A bounded memory of durable names: forgetting one costs a sync, no more.
#[derive(Debug, Default)]
pub(super) struct DurableNames {
    hashers: (RandomState, RandomState),
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<NameId>,
    old: HashSet<NameId>,
}

impl Generations {
    fn insert(&mut self, id: NameId) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id);
    }
}

impl DurableNames {
    /// The identity of what `path` names, where the filesystem tells enough. The time of birth
    /// is part of it, because the number of a removed file is soon given to a new one.
    #[cfg(target_os = "linux")]
    pub(super) fn id(&self, path: &StoragePath, file: &File) -> Option<NameId> {
        use rustix::fs::{AtFlags, StatxFlags, statx};

        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let stat = statx(file, "", AtFlags::EMPTY_PATH, wanted).ok()?;
        if !StatxFlags::from_bits_retain(stat.stx_mask).contains(wanted) {
            return None;
        }
        let birth = (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec);
        let identity = (
            path.as_str(),
            stat.stx_dev_major,
            stat.stx_dev_minor,
            stat.stx_ino,
            birth,
        );
        Some(NameId(
            self.hashers.0.hash_one(identity),
            self.hashers.1.hash_one(identity),
        ))
    }

    /// Nothing is known where the time of birth cannot be asked for: each name is synced anew.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn id(&self, _path: &StoragePath, _file: &File) -> Option<NameId> {
        None
    }

    pub(super) fn contains(&self, id: NameId) -> bool {
        let mut generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if generations.young.contains(&id) {
            return true;
        }
        let known = generations.old.contains(&id);
        if known {
            generations.insert(id);
        }
        known
    }

    pub(super) fn insert(&self, id: NameId) {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
    }
}
