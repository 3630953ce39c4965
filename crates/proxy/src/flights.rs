//! Work that is done once for all who want it at the same time.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tracing::Instrument as _;

type UnderWay<K, T> = Mutex<HashMap<K, watch::Receiver<Option<T>>>>;

/// What is under way, by what it is about.
#[derive(Clone)]
pub(crate) struct Flights<K, T>(Arc<UnderWay<K, T>>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights")
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// The outcome of the work about `key` that is under way, or else of `work`, which begins now,
    /// in a task of its own: it comes to its end whether anybody still waits or not. `None` is work
    /// that panicked.
    pub(crate) async fn join<W>(&self, key: K, work: impl FnOnce() -> W) -> Option<T>
    where
        W: Future<Output = T> + Send + 'static,
    {
        let mut outcome = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&key) {
                Some(outcome) => outcome.clone(),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    flights.insert(key.clone(), receiver.clone());
                    let landing = Landing {
                        flights: self.clone(),
                        key,
                    };
                    let work = work();
                    tokio::spawn(
                        async move {
                            let outcome = work.await;
                            // Who comes from here on begins anew: this is not newer than it.
                            drop(landing);
                            sender.send_replace(Some(outcome));
                        }
                        .in_current_span(),
                    );
                    receiver
                }
            }
        };
        let landed = outcome.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

/// Takes work off the list when it ends, in whatever way.
struct Landing<K: Eq + Hash, T> {
    flights: Flights<K, T>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        let flights = flights.as_mut().map_err(PoisonError::get_mut);
        flights
            .unwrap_or_else(|poisoned| poisoned)
            .remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_many_want_is_done_once_and_comes_to_its_end_without_them() {
        let flights = Flights::<&str, usize>::default();
        let begun = Arc::new(AtomicUsize::new(0));
        let (go, gone) = watch::channel(false);
        let work = || {
            let (begun, mut gone) = (Arc::clone(&begun), gone.clone());
            move || async move {
                let _ = gone.wait_for(|go| *go).await;
                begun.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let left = tokio::time::timeout(
            std::time::Duration::from_millis(1),
            flights.join("a", work()),
        );
        assert!(left.await.is_err(), "it waits for the signal");
        let (first, second) = (flights.join("a", work()), flights.join("a", work()));
        let signal = async { go.send(true).unwrap() };
        let (first, second, ()) = tokio::join!(first, second, signal);
        assert_eq!((first, second), (Some(1), Some(1)));
        assert_eq!(flights.join("a", work()).await, Some(2));
        assert_eq!(
            flights.join("b", || async { panic!("on purpose") }).await,
            None
        );
        assert_eq!(flights.join("b", work()).await, Some(3));
    }
}
