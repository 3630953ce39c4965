//! Leaving the store's power to those who are served.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets so many steps, or bytes, through in a second, and no more.
#[derive(Debug)]
pub(crate) struct Pace {
    /// How many in a second.
    rate: Option<NonZeroU64>,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most `rate` a second; `None` for as many as there are.
    pub(crate) fn new(rate: Option<NonZeroU64>) -> Self {
        Self {
            rate,
            next: Mutex::default(),
        }
    }

    /// Waits for the next step's turn.
    pub(crate) async fn step(&self) {
        self.steps(1).await;
    }

    /// The same for several at once. A pause is not made up for.
    pub(crate) async fn steps(&self, number: u64) {
        let Some(rate) = self.rate else {
            return;
        };
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + Duration::from_secs_f64(number as f64 / rate.get() as f64));
            turn
        };
        sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn steps_come_at_their_pace() {
        let began = Instant::now();
        let pace = Pace::new(NonZeroU64::new(10));
        for _ in 0..11 {
            pace.step().await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        sleep_until(began + Duration::from_secs(100)).await;
        pace.steps(10).await; // a pause is not made up for
        pace.step().await;
        assert_eq!(began.elapsed(), Duration::from_secs(101));
        let pace = Pace::new(None);
        for _ in 0..1000 {
            pace.step().await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(101));
    }
}
