//! Leaving an upstream alone that is not to be had, or that wants to be left alone.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::UpstreamError;

/// How long it is left alone after the first failure; each further one doubles that.
const SHORTEST: Duration = Duration::from_secs(1);

/// The longest, unless it says itself for how long.
const LONGEST: Duration = Duration::from_secs(60);

/// Until when an upstream is left alone.
#[derive(Debug, Default)]
pub(super) struct Rest(Mutex<Option<Outage>>);

#[derive(Debug)]
struct Outage {
    until: Instant,
    /// How many failures there were, those that came at once counted as one.
    failures: u32,
    error: UpstreamError,
}

impl Rest {
    /// # Errors
    /// What the upstream answered, while it has said that it will answer nothing else.
    pub(super) fn may_ask(&self) -> Result<(), UpstreamError> {
        let outage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Outage { until, error, .. }) = &*outage else {
            return Ok(());
        };
        let left = until.saturating_duration_since(Instant::now());
        let mut error = error.clone();
        match &mut error {
            UpstreamError::Refused { refusal, .. }
                if refusal.retry_after.is_some() && !left.is_zero() =>
            {
                refusal.retry_after = Some(left);
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Whether it is not asked what can wait.
    pub(super) fn is_resting(&self) -> bool {
        let outage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = outage.as_ref().map(|outage| outage.until);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Takes in how a question fared.
    pub(super) fn note(&self, upstream: &str, error: Option<&UpstreamError>) {
        let mut outage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match error.filter(|error| error.is_outage()) {
            None => {
                if outage.take().is_some() {
                    info!(upstream, "the upstream answers again");
                }
            }
            Some(_) if outage.as_ref().is_some_and(|outage| now < outage.until) => {}
            Some(error) => {
                let before = outage.as_ref().map_or(0, |outage| outage.failures);
                let doubled = SHORTEST.saturating_mul(1 << before.min(10)).min(LONGEST);
                let length = error.retry_after().unwrap_or(doubled);
                warn!(upstream, %error, ?length, "the upstream is left alone for a while");
                *outage = Some(Outage {
                    until: now + length,
                    failures: before + 1,
                    error: error.clone(),
                });
            }
        }
    }
}
