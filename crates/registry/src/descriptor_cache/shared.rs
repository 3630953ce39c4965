//! What is known together with other registries over the same store, in Redis.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_redis::{Absence, Answer, SharedCache};

use super::CachedDescriptor;
use crate::link::LinkKind;

/// The shared cache, and since when this process trusts it.
#[derive(Debug)]
pub(super) struct SharedLevel {
    cache: SharedCache,
    /// What a lookup found that began before this moment is not trusted: this process knows of a
    /// removal which the shared cache may not have been told, or may have missed one itself.
    trusted: Mutex<Instant>,
}

impl SharedLevel {
    pub(super) fn new(cache: SharedCache) -> Self {
        Self {
            cache,
            // The store may have been collected before this process began.
            trusted: Mutex::new(Instant::now()),
        }
    }

    /// What others have found, and until when that holds.
    ///
    /// # Errors
    /// What to give [`keep`](Self::keep), where it is of use.
    pub(super) async fn find(
        &self,
        began: Instant,
        name: &RepositoryName,
        kind: LinkKind,
        digest: &Digest,
    ) -> Result<(CachedDescriptor, Instant), Option<Absence>> {
        let (text, age) = match self.cache.find(&key(name, kind, digest)).await {
            Answer::Kept { text, age } => (text, age),
            Answer::Absent(absence) => return Err(Some(absence)),
            Answer::Unavailable => return Err(None),
        };
        // Redis answered after `began`, so this is before the other's lookup began.
        let found = began.checked_sub(age).ok_or(None)?;
        if found <= *self.trusted() {
            return Err(None);
        }
        let descriptor = parse(&text).ok_or(None)?;
        Ok((descriptor, found + self.cache.life()))
    }

    /// Lets others know what a lookup found.
    pub(super) async fn keep(
        &self,
        absence: Absence,
        name: &RepositoryName,
        kind: LinkKind,
        digest: &Digest,
        descriptor: CachedDescriptor,
    ) {
        let text = format!("{} {}", descriptor.canonical, descriptor.size);
        self.cache
            .keep(&key(name, kind, digest), absence, &text)
            .await;
    }

    /// Lets others know that a link is gone. Where that is not possible, this process at least does
    /// not believe what they knew.
    pub(super) async fn remove(&self, name: &RepositoryName, kind: LinkKind, digest: &Digest) {
        if !self.cache.remove(&key(name, kind, digest)).await {
            self.distrust();
        }
    }

    pub(super) fn errors(&self) -> u64 {
        self.cache.errors()
    }

    /// Trusts only what is found out from now on.
    pub(super) fn distrust(&self) {
        *self.trusted() = Instant::now();
    }

    fn trusted(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.trusted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a descriptor is kept; nothing like Distribution's `repository::<name>::blobs::<digest>`,
/// which has another form and no end.
fn key(name: &RepositoryName, kind: LinkKind, digest: &Digest) -> String {
    let kind = match kind {
        LinkKind::Layer => "layer",
        LinkKind::Manifest => "manifest",
    };
    format!("descriptor:{kind}:{name}:{digest}")
}

/// A descriptor as it is kept: the canonical digest, a space, the size.
fn parse(text: &str) -> Option<CachedDescriptor> {
    let (canonical, size) = text.split_once(' ')?;
    let canonical: Digest = canonical.parse().ok()?;
    canonical.is_canonical().then_some(())?;
    Some(CachedDescriptor {
        canonical,
        size: size.parse().ok()?,
    })
}
