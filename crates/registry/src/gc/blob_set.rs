//! Many blobs in little memory, for whoever has to know all there are.

use wharfinger_oci::Digest;

use super::MarkSet;
use super::item::Item;

/// A set of blobs by their digests. Two of them whose digests begin with the same 64 bits count as
/// one.
#[derive(Debug, Default)]
pub(crate) struct BlobSet(MarkSet);

impl BlobSet {
    /// Adds one; false when it was in it.
    pub(crate) fn insert(&mut self, digest: &Digest) -> bool {
        self.0.insert(Item::Blob(*digest).fingerprint())
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.0.contains(Item::Blob(*digest).fingerprint())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}
