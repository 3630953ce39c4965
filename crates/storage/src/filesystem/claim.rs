//! Who works on a folder: any number of writers, or one who must be alone; and who alone does
//! something beside the writers.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use crate::StoragePath;

/// How a process wants to work on a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// It writes, and lets others write.
    Write,
    /// Nobody else may write.
    Alone,
    /// Nobody else may claim this folder, which is made where there is none. It has nothing to do
    /// with the other claims.
    Folder(&'a StoragePath),
}

/// A claim that was granted; it ends when this is dropped, or with the process.
#[derive(Debug)]
#[must_use = "the claim ends when this is dropped"]
pub struct Claimed {
    _lock: Box<dyn Debug + Send + Sync>,
}

impl Claimed {
    /// A claim that ends when `lock` is dropped.
    pub(crate) fn by(lock: impl Debug + Send + Sync + 'static) -> Self {
        Self {
            _lock: Box::new(lock),
        }
    }
}

/// Why a claim was not granted.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// Somebody else's claim is in the way.
    #[error("another process works on the folder")]
    Taken,
    /// The filesystem has no locks of this kind, or the folder cannot be opened.
    #[error("the folder cannot be locked: {0}")]
    Unlockable(#[from] io::Error),
}

/// Takes flock(2) on the folder itself: no file of ours lies about, and what a killed process
/// held is free at once. Processes that do not ask, such as other registries, are not seen.
pub(super) fn claim(root: &Path, claim: Claim<'_>) -> Result<Claimed, ClaimError> {
    let (folder, operation) = match claim {
        Claim::Write => (root.to_owned(), FlockOperation::NonBlockingLockShared),
        Claim::Alone => (root.to_owned(), FlockOperation::NonBlockingLockExclusive),
        Claim::Folder(path) => {
            let folder = root.join(path.as_str().trim_start_matches('/'));
            std::fs::create_dir_all(&folder)?;
            (folder, FlockOperation::NonBlockingLockExclusive)
        }
    };
    let folder = File::open(folder)?;
    match flock(&folder, operation) {
        Ok(()) => Ok(Claimed::by(folder)),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Err(ClaimError::Taken),
        Err(error) => Err(ClaimError::Unlockable(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_may_write_or_one_may_be_alone() {
        let folder = tempfile::tempdir().unwrap();
        let claim = |kind| claim(folder.path(), kind);
        let taken = |kind| matches!(claim(kind), Err(ClaimError::Taken));
        let first = claim(Claim::Write).unwrap();
        let second = claim(Claim::Write).unwrap();
        assert!(taken(Claim::Alone));
        drop(first);
        assert!(taken(Claim::Alone));
        drop(second);
        let alone = claim(Claim::Alone).unwrap();
        assert!(taken(Claim::Write) && taken(Claim::Alone));
        drop(alone);
        let _again = claim(Claim::Write).unwrap();
        let path = "/a/b".parse().unwrap();
        let other = "/a".parse().unwrap();
        let held = claim(Claim::Folder(&path)).unwrap();
        assert!(taken(Claim::Folder(&path)) && !taken(Claim::Folder(&other)));
        drop(held);
        assert!(!taken(Claim::Folder(&path)));
        let missing = super::claim(&folder.path().join("none"), Claim::Write);
        assert!(matches!(missing, Err(ClaimError::Unlockable(_))));
    }
}
