//! Leaving the store's power to those who are served.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets so many steps through in a second, and no more.
#[derive(Debug)]
pub(super) struct Pace {
    between: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most `rate` steps a second; `None` for as many as there are.
    pub(super) fn new(rate: Option<u32>) -> Self {
        let between = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.max(1));
        Self {
            between,
            next: Mutex::default(),
        }
    }

    /// Waits for the next step's turn.
    pub(super) async fn step(&self) {
        self.steps(1).await;
    }

    /// The same for several at once.
    pub(super) async fn steps(&self, number: u32) {
        if self.between.is_zero() {
            return;
        }
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + self.between * number);
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
        let pace = Pace::new(Some(10));
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
