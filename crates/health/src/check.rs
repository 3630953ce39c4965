//! Looking again and again.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, info, warn};

use crate::{Health, Probe};

/// A probe that is repeated.
#[derive(Clone, Debug)]
pub struct Check {
    /// What it is called in the log and in [`Health::failing`].
    pub name: String,
    /// What is looked at.
    pub probe: Probe,
    /// How often.
    pub interval: Duration,
    /// How long looking may take; longer is a failure.
    pub timeout: Duration,
    /// How many times in a row it must fail to count; 0 is 1.
    pub threshold: u32,
}

impl Check {
    /// What looking may take where nobody says, unless it is repeated more seldom.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// Looks at once, and then again and again, and notes in `health` what was found. It never
    /// ends.
    pub async fn watch(self, health: Health) {
        let mut ticks = interval(self.interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            ticks.tick().await;
            failures = self.look(failures, &health).await;
        }
    }

    /// Looks once after a number of failures; gives the number that there are now.
    async fn look(&self, failures: u32, health: &Health) -> u32 {
        let check = &self.name;
        let looked = timeout(self.timeout, self.probe.look()).await;
        let reason = match looked {
            Ok(Ok(())) => {
                if failures > 0 {
                    info!(check, "a health check passes again");
                }
                health.passes(check);
                return 0;
            }
            Ok(Err(reason)) => reason,
            Err(_) => format!("it does not answer within {:?}", self.timeout),
        };
        let failures = failures.saturating_add(1);
        let threshold = self.threshold.max(1);
        if failures == threshold {
            error!(
                check,
                failures, reason, "a health check fails: requests are not answered"
            );
        } else {
            warn!(check, failures, reason, "a health check fails");
        }
        if failures >= threshold {
            health.fails(check, &reason);
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, StatusCode};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use wharfinger_registry::{Options, Registry};
    use wharfinger_storage::MemoryDriver;
    use wharfinger_storage::testing::fault::{Cause, Effect, Fault, FaultDriver, Operation};

    use super::*;

    fn check(probe: Probe, threshold: u32) -> Check {
        Check {
            name: "it".to_owned(),
            probe,
            interval: Duration::from_millis(1),
            timeout: Duration::from_secs(30),
            threshold,
        }
    }

    /// What the check finds when it looks once.
    async fn found(probe: Probe) -> Option<String> {
        let health = Health::default();
        check(probe, 0).look(0, &health).await;
        health.failing().get("it").cloned()
    }

    #[tokio::test]
    async fn a_check_counts_only_when_it_failed_often_enough_in_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("down");
        let check = check(Probe::File(file.clone()), 3);
        let health = Health::default();
        std::fs::write(&file, "").unwrap();
        let mut failures = 0;
        for wanted in [1, 2] {
            failures = check.look(failures, &health).await;
            assert_eq!(failures, wanted);
            assert!(health.is_good());
        }
        std::fs::remove_file(&file).unwrap();
        failures = check.look(failures, &health).await;
        assert_eq!(failures, 0);
        std::fs::write(&file, "").unwrap();
        for _ in 0..3 {
            failures = check.look(failures, &health).await;
        }
        assert_eq!(health.failing()["it"], "the file is there");
        std::fs::remove_file(&file).unwrap();
        check.look(failures, &health).await;
        assert!(health.is_good());
    }

    #[tokio::test]
    async fn a_check_goes_on_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("down");
        let health = Health::default();
        let watching = tokio::spawn(check(Probe::File(file.clone()), 2).watch(health.clone()));
        let becomes = async |good| {
            while health.is_good() != good {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        for _ in 0..2 {
            std::fs::write(&file, "").unwrap();
            becomes(false).await;
            std::fs::remove_file(&file).unwrap();
            becomes(true).await;
        }
        watching.abort();
    }

    #[tokio::test]
    async fn a_store_that_fails_is_noticed() {
        let driver = Arc::new(FaultDriver::new(MemoryDriver::new()));
        let registry = Registry::new(driver.clone(), Options::default()).unwrap();
        let probe = Probe::Store(registry);
        assert_eq!(found(probe.clone()).await, None, "an empty store is good");
        driver.plan(Fault::new(Effect::Fail(Cause::Io)).on(Operation::Stat));
        assert!(found(probe).await.is_some());
    }

    #[tokio::test]
    async fn what_hangs_fails() {
        let driver = Arc::new(FaultDriver::new(MemoryDriver::new()));
        let registry = Registry::new(driver.clone(), Options::default()).unwrap();
        driver.plan(Fault::new(Effect::Hang).on(Operation::Stat));
        let mut check = check(Probe::Store(registry), 0);
        check.timeout = Duration::from_millis(5);
        let health = Health::default();
        check.look(0, &health).await;
        assert_eq!(
            health.failing()["it"],
            "it does not answer within 5ms",
            "the check ended"
        );
    }

    #[tokio::test]
    async fn an_address_that_nobody_listens_on_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        assert_eq!(found(Probe::Tcp(addr.to_string())).await, None);
        drop(listener);
        let reason = found(Probe::Tcp(addr.to_string())).await.unwrap();
        assert!(
            reason.starts_with("it cannot be connected to: "),
            "{reason}"
        );
    }

    #[tokio::test]
    async fn a_url_is_asked_by_head_with_the_headers_for_the_status_that_is_wanted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut asked = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1000];
                let length = stream.read(&mut request).await.unwrap();
                asked.push(String::from_utf8_lossy(&request[..length]).into_owned());
                stream
                    .write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                    .await
                    .unwrap();
            }
            asked
        });
        let mut headers = HeaderMap::new();
        headers.append("x-one", "a".parse().unwrap());
        headers.append("x-one", "b".parse().unwrap());
        let url = format!("http://user:s-e-cret@{addr}/path");
        let probe = |status| Probe::http(&url, headers.clone(), status).unwrap();
        assert_eq!(found(probe(StatusCode::UNAUTHORIZED)).await, None);
        let reason = found(probe(StatusCode::OK)).await.unwrap();
        assert_eq!(reason, "it answers 401 Unauthorized, not 200 OK");
        let asked = server.await.unwrap();
        assert!(asked[0].starts_with("HEAD /path HTTP/1.1\r\n"), "{asked:?}");
        assert!(asked[0].contains("x-one: a\r\nx-one: b\r\n"), "{asked:?}");
        let reason = found(probe(StatusCode::OK)).await.unwrap();
        assert!(reason.starts_with("it cannot be asked: "), "{reason}");
        assert!(!reason.contains("s-e-cret"), "{reason}");
    }

    #[test]
    fn what_is_no_url_cannot_be_asked() {
        for url in ["", "host", "ftp://host/", "http://"] {
            let probe = Probe::http(url, HeaderMap::new(), StatusCode::OK);
            assert!(probe.is_err(), "{url}");
        }
    }
}
