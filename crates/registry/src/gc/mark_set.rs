//! The canonical digests of what is needed.

use std::collections::HashSet;

use wharfinger_oci::{Algorithm, Digest};

/// A set of canonical digests, at 32 bytes each.
#[derive(Debug, Default)]
pub(super) struct MarkSet(HashSet<[u8; 32]>);

impl MarkSet {
    /// Adds a digest; false when it was in it. One that is not canonical names no blob.
    pub(super) fn insert(&mut self, digest: &Digest) -> bool {
        key(digest).is_some_and(|key| self.0.insert(key))
    }

    pub(super) fn contains(&self, digest: &Digest) -> bool {
        key(digest).is_some_and(|key| self.0.contains(&key))
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

fn key(digest: &Digest) -> Option<[u8; 32]> {
    if digest.algorithm() != Algorithm::CANONICAL {
        return None;
    }
    digest.raw().try_into().ok()
}
