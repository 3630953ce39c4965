//! Staying connected: trying again and again, and telling the log of what changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::cache::Shared;
use crate::connection::Failure;

/// How long it takes until the next attempt: at first, and at most.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A connection that followed another and did not hold for as long shows that something is unsteady:
/// the next counts only when it has held for as long, or the log would tell of each.
const STEADY: Duration = Duration::from_secs(10);

/// Has `shared` connected whenever that is possible.
pub(crate) async fn keep_connected(shared: Arc<Shared>) {
    let mut log = Log::new(shared.options.servers.to_string());
    let mut wait = SHORTEST_WAIT;
    loop {
        let connected = shared.connect().await;
        let failure = match connected {
            Err(failure) => {
                shared.tried.send_replace(true);
                failure
            }
            Ok(connection) => {
                shared.take(connection);
                shared.tried.send_replace(true);
                match timeout(log.probation(), shared.until_lost()).await {
                    Ok(failure) => failure,
                    Err(_) => {
                        log.works();
                        wait = SHORTEST_WAIT;
                        shared.until_lost().await
                    }
                }
            }
        };
        log.fails(&failure);
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// What the log was told.
#[derive(Debug)]
struct Log {
    servers: String,
    told: Told,
    in_use_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing yet, or that Redis is in use.
    Works,
    /// That it cannot be reached.
    Unreachable,
    /// That it can, and does not do what it is asked.
    Refuses,
}

impl Log {
    fn new(servers: String) -> Self {
        Self {
            servers,
            told: Told::Works,
            in_use_since: None,
        }
    }

    /// How long a new connection has to hold before it counts.
    fn probation(&self) -> Duration {
        let before = self.in_use_since;
        match before.is_some_and(|since| since.elapsed() < STEADY) {
            true => STEADY,
            false => Duration::ZERO,
        }
    }

    fn works(&mut self) {
        info!(servers = self.servers, "Redis is in use");
        self.told = Told::Works;
        self.in_use_since = Some(Instant::now());
    }

    /// Tells of the first failure, and of the first that is a matter of another kind.
    fn fails(&mut self, failure: &Failure) {
        let now = match failure.is_refusal() {
            true => Told::Refuses,
            false => Told::Unreachable,
        };
        if self.told == Told::Works || (self.told, now) == (Told::Unreachable, Told::Refuses) {
            warn!(
                servers = self.servers,
                reason = %failure,
                "Redis is not in use until this has passed: everything is looked up in the store"
            );
            self.told = now;
        }
    }
}
