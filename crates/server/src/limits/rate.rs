//! How many requests a client may send in a time: a token bucket for each.
//!
//! A bucket is one number, the time at which it would be full again (the generic cell rate
//! algorithm, ITU-T I.371): a request puts it off by what a token takes to grow, and has come too
//! early when that lies further ahead than a whole bucket. That fits into an atomic, so counting
//! takes no lock. The buckets are in a cache of bounded size. One that falls out of it is as good
//! as full, so remembering too few clients can only be too kind.
//!
//! The crate `governor` does the same arithmetic. Its keyed limiters grow with the number of
//! clients until somebody sweeps them, which an attacker with a network of addresses is faster
//! than; the bound, the only difficult part, would still have been ours, and the crate brings a
//! clock, a map and a random number generator besides.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::client::ClientId;

/// How many clients are remembered, at about a hundred bytes each.
pub(crate) const MAX_CLIENTS: usize = 16_384;

/// How often the log may tell of one client.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// So many requests in a time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time in which a token grows, in nanoseconds.
    token: u64,
    /// The time in which all but one of a bucket's tokens grow.
    bucket: u64,
}

impl Rate {
    /// `requests` in the time `per` in the long run, and `burst` at once after a pause. Nought
    /// counts as one.
    pub fn new(requests: u32, per: Duration, burst: u32) -> Self {
        let nanoseconds = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        let token = (nanoseconds / u64::from(requests.max(1))).max(1);
        Self {
            token,
            bucket: token.saturating_mul(u64::from(burst.max(1) - 1)),
        }
    }
}

/// When a client's bucket is full again, in nanoseconds since the limiter began.
#[derive(Debug, Default)]
struct Bucket {
    full_at: AtomicU64,
    /// When the log may tell of it again.
    tell_at: AtomicU64,
}

/// The buckets of all clients.
#[derive(Debug)]
pub(super) struct Rates {
    began: Instant,
    buckets: OnceLock<Cache<ClientId, Arc<Bucket>>>,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            buckets: OnceLock::new(),
        }
    }
}

impl Rates {
    /// Takes a token from a client's bucket, or one that has yet to grow, for which it tells how
    /// long to wait: at most `delay`.
    ///
    /// # Errors
    /// How long it would be, when it is longer.
    pub(super) fn take(
        &self,
        rate: Rate,
        client: ClientId,
        delay: Duration,
    ) -> Result<Duration, Duration> {
        self.take_at(rate, client, delay, self.now())
    }

    fn take_at(
        &self,
        rate: Rate,
        client: ClientId,
        delay: Duration,
        now: u64,
    ) -> Result<Duration, Duration> {
        let bucket = self.bucket(client);
        let mut full_at = bucket.full_at.load(Ordering::Relaxed);
        loop {
            let growing = full_at.saturating_sub(now);
            let wait = Duration::from_nanos(growing.saturating_sub(rate.bucket));
            if wait > delay {
                return Err(wait);
            }
            let next = full_at.max(now).saturating_add(rate.token);
            match bucket.full_at.compare_exchange_weak(
                full_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(wait),
                Err(other) => full_at = other,
            }
        }
    }

    /// Looks whether there is a token in a client's bucket.
    ///
    /// # Errors
    /// How long until there is.
    pub(super) fn look(&self, rate: Rate, client: ClientId) -> Result<(), Duration> {
        let full_at = self.bucket(client).full_at.load(Ordering::Relaxed);
        match full_at.saturating_sub(self.now()) {
            growing if growing > rate.bucket => Err(Duration::from_nanos(growing - rate.bucket)),
            _ => Ok(()),
        }
    }

    /// Whether the log should tell that a client is refused: not with every request.
    pub(super) fn may_tell(&self, client: ClientId) -> bool {
        may_tell(&self.bucket(client).tell_at, self.now())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn bucket(&self, client: ClientId) -> Arc<Bucket> {
        let buckets = self.buckets.get_or_init(|| Cache::new(MAX_CLIENTS));
        let made = buckets.get_or_insert_with(&client, || {
            Ok::<_, std::convert::Infallible>(Arc::default())
        });
        match made {
            Ok(bucket) => bucket,
            Err(never) => match never {},
        }
    }
}

/// Whether it is time to tell, and then not for a while.
pub(super) fn may_tell(tell_at: &AtomicU64, now: u64) -> bool {
    let at = tell_at.load(Ordering::Relaxed);
    let next = now.saturating_add(u64::try_from(TELL_EVERY.as_nanos()).unwrap_or(u64::MAX));
    at <= now
        && tell_at
            .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::Client;
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn client(number: u32) -> ClientId {
        Client::Address(IpAddr::from(number.to_be_bytes())).id()
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let rates = Rates::default();
        let rate = Rate::new(10, Duration::from_secs(1), 5);
        let none = Duration::ZERO;
        let take = |now| rates.take_at(rate, client(1), none, now);
        for _ in 0..5 {
            take(SECOND).unwrap();
        }
        assert_eq!(take(SECOND), Err(Duration::from_millis(100)));
        assert_eq!(take(SECOND + SECOND / 20), Err(Duration::from_millis(50)));
        // What is refused costs nothing.
        take(SECOND + SECOND / 10).unwrap();
        assert!(take(SECOND + SECOND / 10).is_err());
        assert!(
            rates.take_at(rate, client(2), none, SECOND).is_ok(),
            "another client"
        );
        for _ in 0..5 {
            take(100 * SECOND).unwrap();
        }
        assert!(
            take(100 * SECOND).is_err(),
            "a bucket holds no more than a burst"
        );
    }

    #[test]
    fn who_comes_too_early_may_wait_in_line() {
        let rates = Rates::default();
        let rate = Rate::new(10, Duration::from_secs(1), 1);
        let take = || rates.take_at(rate, client(1), Duration::from_millis(250), 0);
        let waits = [0, 100, 200].map(Duration::from_millis);
        assert_eq!([take(), take(), take()], waits.map(Ok));
        // The line is as long as the patience.
        assert_eq!(take(), Err(Duration::from_millis(300)));
        assert_eq!(take(), Err(Duration::from_millis(300)));
    }

    #[test]
    fn no_more_clients_are_remembered_than_fit() {
        let rates = Rates::default();
        let rate = Rate::new(1, Duration::from_secs(3600), 1);
        for number in 0..200_000 {
            let _ = rates.take_at(rate, client(number), Duration::ZERO, 0);
        }
        assert!(rates.buckets.get().unwrap().len() <= MAX_CLIENTS);
    }

    proptest! {
        /// Whatever comes when, no more is let through than a burst and what has grown since.
        #[test]
        fn the_rate_is_never_exceeded(
            requests in 1_u32..1000,
            burst in 1_u32..50,
            pauses in prop::collection::vec(0..SECOND / 50, 1..300),
        ) {
            let rates = Rates::default();
            let rate = Rate::new(requests, Duration::from_secs(1), burst);
            let (mut now, mut let_through) = (0, 0_u64);
            for pause in pauses {
                now += pause;
                match rates.take_at(rate, client(1), Duration::ZERO, now) {
                    Ok(_) => let_through += 1,
                    Err(wait) => {
                        let wait = u64::try_from(wait.as_nanos()).unwrap();
                        prop_assert!(wait > 0 && wait <= rate.token);
                    }
                }
                // Rounding is in the client's favour by less than a token.
                let grown = now.div_ceil(rate.token);
                prop_assert!(let_through <= u64::from(burst) + grown);
            }
        }

        #[test]
        fn no_rate_makes_it_panic(requests: u32, per: u64, burst: u32, delay: u64, now: u64) {
            let rate = Rate::new(requests, Duration::from_nanos(per), burst);
            let rates = Rates::default();
            for _ in 0..3 {
                let _ = rates.take_at(rate, client(1), Duration::from_nanos(delay), now);
            }
        }
    }
}
