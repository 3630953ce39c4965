//! Locks by key that exist only while somebody holds them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Read-write locks by key: requests for different keys never wait for each other.
#[derive(Debug)]
pub(crate) struct KeyedLocks<K>(Mutex<HashMap<K, Weak<RwLock<()>>>>);

impl<K> Default for KeyedLocks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> KeyedLocks<K> {
    fn get(&self, key: &K) -> Arc<RwLock<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        // Keys nobody holds any more are swept out when the map would have to grow.
        if locks.len() == locks.capacity() {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::default();
        locks.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }

    /// Waits until nobody holds the key exclusively.
    pub(crate) async fn shared(&self, key: &K) -> OwnedRwLockReadGuard<()> {
        self.get(key).read_owned().await
    }

    /// Waits until nobody holds the key at all.
    pub(crate) async fn exclusive(&self, key: &K) -> OwnedRwLockWriteGuard<()> {
        self.get(key).write_owned().await
    }

    /// Takes the key exclusively unless somebody holds it.
    pub(crate) fn try_exclusive(&self, key: &K) -> Option<OwnedRwLockWriteGuard<()>> {
        self.get(key).try_write_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_independent_and_forgotten() {
        let locks = KeyedLocks::<u32>::default();
        let first = locks.exclusive(&1).await;
        assert!(locks.try_exclusive(&1).is_none());
        assert!(locks.try_exclusive(&2).is_some());
        drop(first);
        assert!(locks.try_exclusive(&1).is_some());
        for key in 0..10_000 {
            drop(locks.shared(&key).await);
        }
        assert!(locks.0.lock().unwrap().len() < 100, "unused locks pile up");
    }
}
