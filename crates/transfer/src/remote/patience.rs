//! Asking another registry again that is not to be had for a moment, or that wants to be left alone
//! for a while.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::sleep;
use tracing::info;
use wharfinger_remote::UpstreamError;

/// How often in a row it is asked in vain.
const ATTEMPTS: u32 = 6;

/// How long it is waited after the first time unless the registry says for how long; each further
/// time doubles it.
const PAUSE: Duration = Duration::from_millis(250);

/// Asks again, unless that was in vain for something else before.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    is_lost: AtomicBool,
}

impl Patience {
    /// What is answered, after as many attempts as it takes while the registry is not to be had.
    ///
    /// # Errors
    /// Of the last attempt.
    pub(crate) async fn ask<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T, UpstreamError>
    where
        F: Future<Output = Result<T, UpstreamError>>,
    {
        let mut attempts = 0;
        loop {
            match ask().await {
                Err(error) if error.is_outage() => {
                    attempts += 1;
                    self.wait(attempts, error).await?;
                }
                answer => {
                    self.is_lost.store(false, Relaxed);
                    return answer;
                }
            }
        }
    }

    /// Waits after so many attempts in vain in a row.
    ///
    /// # Errors
    /// The same, when there were enough of them.
    pub(crate) async fn wait(
        &self,
        attempts: u32,
        error: UpstreamError,
    ) -> Result<(), UpstreamError> {
        if attempts >= ATTEMPTS || self.is_lost.load(Relaxed) {
            // What else is asked for would take as long, image by image.
            self.is_lost.store(true, Relaxed);
            return Err(error);
        }
        let doubled = PAUSE * (1 << (attempts - 1));
        let pause = error.retry_after().unwrap_or(doubled);
        info!(%error, seconds = pause.as_secs_f32(), "it is asked again");
        sleep(pause).await;
        Ok(())
    }
}
