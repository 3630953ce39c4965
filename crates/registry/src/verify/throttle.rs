//! Reading no faster than it is allowed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets so many bytes through in a second, and no more.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Bytes a second.
    rate: Option<u64>,
    next: Mutex<Option<Instant>>,
}

impl Throttle {
    /// `None` lets through as many as there are.
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self {
            rate: rate.filter(|rate| *rate > 0),
            next: Mutex::default(),
        }
    }

    /// Waits until so many bytes may be read. A pause is not made up for.
    pub(super) async fn take(&self, bytes: u64) {
        let Some(rate) = self.rate else {
            return;
        };
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + Duration::from_secs_f64(bytes as f64 / rate as f64));
            turn
        };
        sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_come_at_their_rate() {
        let began = Instant::now();
        let throttle = Throttle::new(Some(1000));
        for _ in 0..11 {
            throttle.take(100).await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        let throttle = Throttle::new(None);
        throttle.take(u64::MAX).await;
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }
}
