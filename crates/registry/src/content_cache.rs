//! Manifests and small blobs in memory, keyed by digest: their content cannot change, so only
//! access to them must be checked again.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use wharfinger_oci::Digest;

use crate::metrics::Lookups;

/// Small content, checked against its digest when it was read.
#[derive(Clone, Debug)]
pub(crate) struct SmallContent {
    /// The bytes.
    pub(crate) bytes: Bytes,
    /// The media type, where it was found out (for manifests).
    pub(crate) media_type: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Digest, SmallContent> for Weight {
    fn weight(&self, _: &Digest, content: &SmallContent) -> u64 {
        content.bytes.len() as u64 + 256
    }
}

/// A cache of small content, bounded by bytes.
#[derive(Debug)]
pub(crate) struct ContentCache {
    entries: Option<Cache<Digest, SmallContent, Weight>>,
    pub(crate) lookups: Lookups,
}

impl ContentCache {
    /// The largest content that is kept, in bytes.
    pub(crate) const MAX_ITEM: u64 = 64 * 1024;

    /// A cache of at most `capacity` bytes; 0 keeps nothing.
    pub(crate) fn new(capacity: u64) -> Self {
        let items = usize::try_from(capacity / 4096)
            .unwrap_or(usize::MAX)
            .max(16);
        Self {
            entries: (capacity > 0).then(|| Cache::with_weighter(items, capacity, Weight)),
            lookups: Lookups::default(),
        }
    }

    /// The content with this canonical digest.
    pub(crate) fn get(&self, canonical: &Digest) -> Option<SmallContent> {
        self.lookups.count(self.entries.as_ref()?.get(canonical))
    }

    /// Keeps content that is known to have this canonical digest.
    pub(crate) fn set(&self, canonical: Digest, content: SmallContent) {
        if let Some(cache) = &self.entries
            && content.bytes.len() as u64 <= Self::MAX_ITEM
        {
            cache.insert(canonical, content);
        }
    }

    /// Drops content that is no longer there.
    pub(crate) fn remove(&self, canonical: &Digest) {
        if let Some(cache) = &self.entries {
            cache.remove(canonical);
        }
    }

    /// How many pieces of content there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.as_ref().map_or(0, Cache::len)
    }

    /// How many bytes they take.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.as_ref().map_or(0, Cache::weight)
    }
}
