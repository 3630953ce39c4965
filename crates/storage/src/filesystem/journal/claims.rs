//! Who changes which paths through the journal.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::StoragePath;

/// The paths that are being changed. There are as many at once as threads that do it.
#[derive(Debug, Default)]
pub(super) struct Claims {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    held: Vec<(u64, StoragePath)>,
}

/// Nobody else changes these paths, or anything above or below them. Ends when dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    number: u64,
}

impl Claims {
    /// Waits until none of the paths is another's, and takes them all at once: nobody holds one and
    /// waits for another.
    pub(super) fn claim(&self, paths: &[&StoragePath]) -> Claim<'_> {
        let is_in_the_way = |held: &StoragePath| {
            let meets = |path: &&StoragePath| path.is_within(held) || held.is_within(path);
            paths.iter().any(meets)
        };
        let taken = |state: &mut State| state.held.iter().any(|(_, held)| is_in_the_way(held));
        let mut state = self
            .freed
            .wait_while(self.lock(), taken)
            .unwrap_or_else(PoisonError::into_inner);
        state.last += 1;
        let number = state.last;
        let paths = paths.iter().map(|path| (number, (*path).clone()));
        state.held.extend(paths);
        Claim {
            claims: self,
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims
            .lock()
            .held
            .retain(|(number, _)| *number != self.number);
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
        assert_eq!(claims.lock().held.len(), 5);
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
        assert!(claims.lock().held.is_empty());
    }
}
