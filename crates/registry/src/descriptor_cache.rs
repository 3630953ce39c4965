//! The descriptor cache: which digests a repository grants access to, and how large they are.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use wharfinger_oci::{Digest, RepositoryName};

use crate::link::LinkKind;

/// What the cache keeps of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CachedDescriptor {
    /// The digest by which the store keys the blob.
    pub(crate) canonical: Digest,
    /// The size in bytes.
    pub(crate) size: u64,
}

type Key = (RepositoryName, LinkKind, Digest);

/// A bounded cache of access decisions in this process's memory.
///
/// Entries hold only for [`DescriptorCache::MAX_AGE`]: that is the bound within which a deletion
/// by another process on the same store is seen here. A deletion by this process is seen at once.
#[derive(Debug)]
pub(crate) struct DescriptorCache {
    entries: Cache<Key, (CachedDescriptor, Instant)>,
    /// Counts removals, by stripe of keys. A lookup that began before a removal must not put back
    /// what the removal took out.
    generations: Vec<Mutex<u64>>,
    hasher: RandomState,
}

/// Proof of when a lookup began, taken before the store is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup {
    stripe: usize,
    generation: u64,
}

impl DescriptorCache {
    /// How long an entry holds.
    pub(crate) const MAX_AGE: Duration = Duration::from_secs(60);
    const STRIPES: usize = 64;

    /// A cache of at most `capacity` descriptors.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            entries: Cache::new(capacity),
            generations: (0..Self::STRIPES).map(|_| Mutex::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The entry for a digest in a repository's link set.
    pub(crate) fn get(
        &self,
        name: &RepositoryName,
        kind: LinkKind,
        digest: &Digest,
    ) -> Option<CachedDescriptor> {
        let (descriptor, since) = self.entries.get(&(name.clone(), kind, *digest))?;
        (since.elapsed() < Self::MAX_AGE).then_some(descriptor)
    }

    /// Begins a lookup in the store: to be called before the link is read.
    pub(crate) fn begin(&self, digest: &Digest) -> Lookup {
        let stripe = self.stripe(digest);
        Lookup {
            stripe,
            generation: *self.lock(stripe),
        }
    }

    /// Keeps what a lookup found, unless something was removed since it began.
    pub(crate) fn set(
        &self,
        lookup: Lookup,
        name: &RepositoryName,
        kind: LinkKind,
        digest: &Digest,
        descriptor: CachedDescriptor,
    ) {
        let generation = self.lock(lookup.stripe);
        if *generation == lookup.generation {
            let key = (name.clone(), kind, *digest);
            self.entries.insert(key, (descriptor, Instant::now()));
        }
    }

    /// Removes an entry: to be called after the link was removed from the store.
    pub(crate) fn clear(&self, name: &RepositoryName, kind: LinkKind, digest: &Digest) {
        let mut generation = self.lock(self.stripe(digest));
        *generation += 1;
        self.entries.remove(&(name.clone(), kind, *digest));
    }

    /// How many entries there are, those counted that hold no longer.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Removes every entry: when another process may have removed what they stand for.
    pub(crate) fn clear_all(&self) {
        for stripe in 0..Self::STRIPES {
            *self.lock(stripe) += 1;
        }
        self.entries.clear();
    }

    fn stripe(&self, digest: &Digest) -> usize {
        (self.hasher.hash_one(digest) % Self::STRIPES as u64) as usize
    }

    fn lock(&self, stripe: usize) -> std::sync::MutexGuard<'_, u64> {
        self.generations[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_that_began_before_a_removal_is_not_kept() {
        let cache = DescriptorCache::new(10);
        let name: RepositoryName = "a".parse().unwrap();
        let digest = Digest::canonical(b"x");
        let descriptor = CachedDescriptor {
            canonical: digest,
            size: 1,
        };
        let lookup = cache.begin(&digest);
        cache.clear(&name, LinkKind::Layer, &digest);
        cache.set(lookup, &name, LinkKind::Layer, &digest, descriptor);
        assert_eq!(cache.get(&name, LinkKind::Layer, &digest), None);

        let lookup = cache.begin(&digest);
        cache.set(lookup, &name, LinkKind::Layer, &digest, descriptor);
        assert_eq!(cache.get(&name, LinkKind::Layer, &digest), Some(descriptor));
        assert_eq!(cache.get(&name, LinkKind::Manifest, &digest), None);
        let other: RepositoryName = "b".parse().unwrap();
        assert_eq!(cache.get(&other, LinkKind::Layer, &digest), None);

        let lookup = cache.begin(&digest);
        cache.clear_all();
        assert_eq!(cache.get(&name, LinkKind::Layer, &digest), None);
        cache.set(lookup, &name, LinkKind::Layer, &digest, descriptor);
        assert_eq!(cache.get(&name, LinkKind::Layer, &digest), None);
    }

    #[test]
    fn it_is_bounded() {
        let cache = DescriptorCache::new(100);
        let name: RepositoryName = "a".parse().unwrap();
        for n in 0u32..10_000 {
            let digest = Digest::canonical(&n.to_le_bytes());
            let descriptor = CachedDescriptor {
                canonical: digest,
                size: 4,
            };
            cache.set(
                cache.begin(&digest),
                &name,
                LinkKind::Layer,
                &digest,
                descriptor,
            );
        }
        assert!(cache.entries.len() <= 100);
    }
}
