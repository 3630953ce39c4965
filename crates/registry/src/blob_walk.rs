//! A walk through all blobs, in the order of their digests.

use wharfinger_oci::{Algorithm, Digest};
use wharfinger_storage::Walk;

use crate::layout::{self, Located};
use crate::{Registry, Result};

/// The name of a blob's file in its folder.
const DATA: &str = "data";

/// The walk. It looks at the folders that blobs have, and not at what is in them.
#[derive(Debug)]
pub(crate) struct BlobWalk<'a>(Walk<'a>);

impl<'a> BlobWalk<'a> {
    pub(crate) fn new(registry: &'a Registry) -> Self {
        let all = layout::blobs_of(Algorithm::CANONICAL);
        Self(Walk::new(&*registry.shared.driver, all))
    }

    /// The next blob of which there is at least a folder.
    ///
    /// # Errors
    /// That the store failed.
    pub(crate) async fn next(&mut self) -> Result<Option<Digest>> {
        loop {
            let entry = match self.0.next().await {
                // Nothing was ever pushed.
                Err(error) if error.is_not_found() => return Ok(None),
                entry => entry?,
            };
            let Some(entry) = entry else {
                return Ok(None);
            };
            let data = entry.path.join(DATA).ok();
            if let Some(Located::BlobData(digest)) = data.and_then(|data| layout::locate(&data)) {
                self.0.prune();
                return Ok(Some(digest));
            }
        }
    }
}

/// About how much of all blobs a walk has seen that has come to this one, from 0 to 1: digests are
/// spread evenly.
pub(crate) fn share(digest: &Digest) -> f64 {
    let first = digest.raw().first_chunk().copied().unwrap_or_default();
    f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX)
}
