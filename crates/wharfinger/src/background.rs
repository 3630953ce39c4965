//! What goes on besides answering requests, until the process ends.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info};
use wharfinger_config::StorageCheck;
use wharfinger_registry::Registry;
use wharfinger_server::Health;

/// Looks at the store again and again, and stops the answering of requests while it fails.
pub(crate) async fn check_storage(
    registry: Registry,
    health: Health,
    check: StorageCheck,
    name: String,
) {
    let mut failures = 0;
    let period = check.interval.get().max(Duration::from_millis(1));
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let checked = tokio::time::timeout(period.max(Duration::from_secs(10)), registry.check());
        let failure = match checked.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the store does not answer".to_owned()),
        };
        match failure {
            None => {
                if failures > 0 {
                    info!(check = name, "the store can be reached again");
                }
                failures = 0;
                health.set(&name, false);
            }
            Some(reason) => {
                failures += 1;
                error!(
                    check = name,
                    failures, reason, "the store cannot be reached"
                );
                if failures >= check.threshold {
                    health.set(&name, true);
                }
            }
        }
    }
}
