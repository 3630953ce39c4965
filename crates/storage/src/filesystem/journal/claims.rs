//! Who changes which paths through the journal.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::StoragePath;

/// The paths that are being changed, and those that are going to be. There are as many at once as
/// threads that do it.
#[derive(Debug, Default)]
pub(super) struct Claims {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    /// In the order in which they were claimed.
    claimed: Vec<(u64, StoragePath)>,
}

/// Nobody else changes these paths, or anything above or below them. Ends when dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    number: u64,
}

impl Claims {
    /// Waits until all who claimed one of the paths before are done. So everybody has a turn, and nobody
    /// waits for one who came later.
    pub(super) fn claim(&self, paths: &[&StoragePath]) -> Claim<'_> {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        let new = paths.iter().map(|path| (number, (*path).clone()));
        state.claimed.extend(new);
        let claim = Claim {
            claims: self,
            number,
        };
        let meets = |other: &StoragePath| {
            let meets = |path: &&StoragePath| path.is_within(other) || other.is_within(path);
            paths.iter().any(meets)
        };
        let is_taken = |state: &mut State| {
            let earlier = state
                .claimed
                .iter()
                .take_while(|(other, _)| *other < number);
            earlier.into_iter().any(|(_, other)| meets(other))
        };
        let state = self.freed.wait_while(state, is_taken);
        drop(state.unwrap_or_else(PoisonError::into_inner));
        claim
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.claims.lock();
        state.claimed.retain(|(number, _)| *number != self.number);
        drop(state);
        self.claims.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn path(text: &str) -> StoragePath {
        text.parse().unwrap()
    }

    #[test]
    fn what_has_nothing_in_common_is_changed_at_once() {
        let claims = Claims::default();
        let _first = claims.claim(&[&path("/a/b"), &path("/c")]);
        let _second = claims.claim(&[&path("/a/bc"), &path("/a/c"), &path("/d/c")]);
        assert_eq!(claims.lock().claimed.len(), 5);
    }

    #[test]
    fn who_wants_everything_has_a_turn() {
        let (claims, order) = (Claims::default(), Mutex::new(Vec::new()));
        let first = claims.claim(&[&path("/a")]);
        let wait_for = |claimed| {
            while claims.lock().claimed.len() < claimed {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _all = claims.claim(&[&StoragePath::root()]);
                order.lock().unwrap().push("all");
            });
            wait_for(2);
            scope.spawn(|| {
                let _later = claims.claim(&[&path("/b")]);
                order.lock().unwrap().push("later");
            });
            wait_for(3);
            drop(first);
        });
        assert_eq!(order.into_inner().unwrap(), ["all", "later"]);
    }

    #[test]
    fn a_path_is_one_thread_s_and_so_is_what_is_above_and_below() {
        let (claims, counter) = (Claims::default(), AtomicU64::new(0));
        let paths = [path("/a/b/c"), path("/a/b"), path("/a")];
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let (claims, counter, path) = (&claims, &counter, &paths[thread % 3]);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let _claim = claims.claim(&[path]);
                        let before = counter.load(Ordering::Relaxed);
                        std::thread::yield_now();
                        counter.store(before + 1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counter.into_inner(), 1200);
        assert!(claims.lock().claimed.is_empty());
    }
}
