//! The descriptor cache: which digests a repository grants access to, and how large they are.
//!
//! Memory is asked first, then Redis where there is one, last the store. An entry in memory holds for
//! a bounded time after its lookup began, whoever answered it.

mod shared;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_redis::{Absence, SharedCache};

use crate::link::LinkKind;
use shared::SharedLevel;

/// What the cache keeps of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CachedDescriptor {
    /// The digest by which the store keys the blob.
    pub(crate) canonical: Digest,
    /// The size in bytes.
    pub(crate) size: u64,
}

type Key = (RepositoryName, LinkKind, Digest);

/// A key to look for.
#[derive(Hash)]
struct Wanted<'a>(&'a RepositoryName, LinkKind, &'a Digest);

impl Equivalent<Key> for Wanted<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        let (name, kind, digest) = key;
        self.0 == name && self.1 == *kind && self.2 == digest
    }
}

/// A bounded cache of access decisions in this process's memory, before what is shared with others.
///
/// Entries in memory hold only for `life`: that is the bound within which a deletion by another
/// process is seen here, where that one could tell the shared cache, or there is none. A deletion by
/// this process is seen at once.
#[derive(Debug)]
pub(crate) struct DescriptorCache {
    /// With the moment from which on an entry does not hold.
    entries: Cache<Key, (CachedDescriptor, Instant)>,
    life: Duration,
    /// Counts removals, by stripe of keys. A lookup that began before a removal must not put back
    /// what the removal took out.
    generations: Vec<Mutex<u64>>,
    hasher: RandomState,
    shared: Option<SharedLevel>,
}

/// Proof of when a lookup began, taken before the store is read.
#[derive(Debug)]
pub(crate) struct Lookup {
    stripe: usize,
    generation: u64,
    began: Instant,
    /// That others did not know either, as far as they were asked.
    absence: Option<Absence>,
}

/// What others know.
#[derive(Debug)]
pub(crate) enum Asked {
    /// This, and memory now knows it too.
    Known(CachedDescriptor),
    /// Nothing; the lookup goes on in the store.
    Unknown(Lookup),
}

impl DescriptorCache {
    const STRIPES: usize = 64;

    /// A cache of at most `capacity` descriptors in memory, each for `life`, before a shared one.
    pub(crate) fn new(capacity: usize, life: Duration, shared: Option<SharedCache>) -> Self {
        Self {
            entries: Cache::new(capacity),
            life,
            generations: (0..Self::STRIPES).map(|_| Mutex::new(0)).collect(),
            hasher: RandomState::new(),
            shared: shared.map(SharedLevel::new),
        }
    }

    /// The entry in memory for a digest in a repository's link set.
    pub(crate) fn get(
        &self,
        name: &RepositoryName,
        kind: LinkKind,
        digest: &Digest,
    ) -> Option<CachedDescriptor> {
        let (descriptor, until) = self.entries.get(&Wanted(name, kind, digest))?;
        (Instant::now() < until).then_some(descriptor)
    }

    /// Begins a lookup: to be called before others are asked, and before the link is read.
    pub(crate) fn begin(&self, digest: &Digest) -> Lookup {
        let stripe = self.stripe(digest);
        Lookup {
            stripe,
            generation: *self.lock(stripe),
            began: Instant::now(),
            absence: None,
        }
    }

    /// Goes on with a lookup in what is shared with others.
    pub(crate) async fn ask_others(
        &self,
        mut lookup: Lookup,
        name: &RepositoryName,
        kind: LinkKind,
        digest: &Digest,
    ) -> Asked {
        let Some(shared) = &self.shared else {
            return Asked::Unknown(lookup);
        };
        match shared.find(lookup.began, name, kind, digest).await {
            Ok((descriptor, until)) => {
                let until = until.min(lookup.began + self.life);
                self.insert(&lookup, name, kind, digest, descriptor, until);
                Asked::Known(descriptor)
            }
            Err(absence) => {
                lookup.absence = absence;
                Asked::Unknown(lookup)
            }
        }
    }

    /// Keeps in memory what a lookup found, unless something was removed since it began.
    pub(crate) fn set(
        &self,
        lookup: &Lookup,
        name: &RepositoryName,
        kind: LinkKind,
        digest: &Digest,
        descriptor: CachedDescriptor,
    ) {
        let until = lookup.began + self.life;
        self.insert(lookup, name, kind, digest, descriptor, until);
    }

    /// Keeps what a lookup found in memory and, where others were asked before, for them.
    pub(crate) async fn found(
        &self,
        mut lookup: Lookup,
        name: &RepositoryName,
        kind: LinkKind,
        digest: &Digest,
        descriptor: CachedDescriptor,
    ) {
        self.set(&lookup, name, kind, digest, descriptor);
        if let (Some(shared), Some(absence)) = (&self.shared, lookup.absence.take()) {
            shared.keep(absence, name, kind, digest, descriptor).await;
        }
    }

    /// Removes an entry: to be called after the link was removed from the store.
    pub(crate) async fn clear(&self, name: &RepositoryName, kind: LinkKind, digest: &Digest) {
        // Memory is last: a lookup that begins after that finds the entry nowhere.
        if let Some(shared) = &self.shared {
            shared.remove(name, kind, digest).await;
        }
        let mut generation = self.lock(self.stripe(digest));
        *generation += 1;
        self.entries.remove(&(name.clone(), kind, *digest));
    }

    /// How many entries there are in memory, those counted that hold no longer.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How often what is shared could not be asked, or told.
    pub(crate) fn errors(&self) -> u64 {
        self.shared.as_ref().map_or(0, SharedLevel::errors)
    }

    /// Trusts nothing of what was known before: when another process may have removed what it stands
    /// for, without telling.
    pub(crate) fn clear_all(&self) {
        if let Some(shared) = &self.shared {
            shared.distrust();
        }
        for stripe in 0..Self::STRIPES {
            *self.lock(stripe) += 1;
        }
        self.entries.clear();
    }

    fn insert(
        &self,
        lookup: &Lookup,
        name: &RepositoryName,
        kind: LinkKind,
        digest: &Digest,
        descriptor: CachedDescriptor,
        until: Instant,
    ) {
        let generation = self.lock(lookup.stripe);
        if *generation == lookup.generation {
            let key = (name.clone(), kind, *digest);
            self.entries.insert(key, (descriptor, until));
        }
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

    fn memory(capacity: usize) -> DescriptorCache {
        DescriptorCache::new(capacity, Duration::from_secs(60), None)
    }

    #[tokio::test]
    async fn a_lookup_that_began_before_a_removal_is_not_kept() {
        let cache = memory(10);
        let name: RepositoryName = "a".parse().unwrap();
        let digest = Digest::canonical(b"x");
        let descriptor = CachedDescriptor {
            canonical: digest,
            size: 1,
        };
        let lookup = cache.begin(&digest);
        cache.clear(&name, LinkKind::Layer, &digest).await;
        cache.set(&lookup, &name, LinkKind::Layer, &digest, descriptor);
        assert_eq!(cache.get(&name, LinkKind::Layer, &digest), None);

        let lookup = cache.begin(&digest);
        cache.set(&lookup, &name, LinkKind::Layer, &digest, descriptor);
        assert_eq!(cache.get(&name, LinkKind::Layer, &digest), Some(descriptor));
        assert_eq!(cache.get(&name, LinkKind::Manifest, &digest), None);
        let other: RepositoryName = "b".parse().unwrap();
        assert_eq!(cache.get(&other, LinkKind::Layer, &digest), None);

        let lookup = cache.begin(&digest);
        cache.clear_all();
        assert_eq!(cache.get(&name, LinkKind::Layer, &digest), None);
        cache.set(&lookup, &name, LinkKind::Layer, &digest, descriptor);
        assert_eq!(cache.get(&name, LinkKind::Layer, &digest), None);
    }

    #[test]
    fn it_is_bounded() {
        let cache = memory(100);
        let name: RepositoryName = "a".parse().unwrap();
        for n in 0u32..10_000 {
            let digest = Digest::canonical(&n.to_le_bytes());
            let descriptor = CachedDescriptor {
                canonical: digest,
                size: 4,
            };
            cache.set(
                &cache.begin(&digest),
                &name,
                LinkKind::Layer,
                &digest,
                descriptor,
            );
        }
        assert!(cache.entries.len() <= 100);
    }
}
