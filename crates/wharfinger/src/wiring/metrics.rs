//! Metrics, and what is measured for them.

use std::sync::Arc;

use prometheus_client::registry::Registry as Metrics;
use wharfinger_config::Config;
use wharfinger_notify::Notifier;
use wharfinger_proxy::Eviction;
use wharfinger_redis::SharedCache;
use wharfinger_registry::Registry;
use wharfinger_storage::{Driver, MeasuredDriver};
use wharfinger_transfer::SyncMetrics;

/// What is counted, and where; nothing is unless it can be looked at.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// All of them, until they are served.
    metrics: Option<Metrics>,
    requests: Option<Arc<wharfinger_server::Metrics>>,
    driver: Option<MeasuredDriver>,
}

impl Measured {
    pub(crate) fn new(config: &Config) -> Self {
        let debug = &config.http.debug;
        let counted = !debug.addr.is_empty() && debug.prometheus.enabled;
        let mut metrics = counted.then(Metrics::default);
        let requests = metrics
            .as_mut()
            .map(|metrics| wharfinger_server::Metrics::new(registry_prefix(metrics)));
        Self {
            metrics,
            requests: requests.map(Arc::new),
            driver: None,
        }
    }

    /// The driver, measured where that is of use: for metrics, or for traces.
    pub(crate) fn driver(&mut self, driver: Arc<dyn Driver>, traced: bool) -> Arc<dyn Driver> {
        if self.requests.is_none() && !traced {
            return driver;
        }
        let measured = MeasuredDriver::new(driver);
        self.driver = Some(measured.clone());
        Arc::new(measured)
    }

    /// Where the server counts requests.
    pub(crate) fn requests(&self) -> Option<Arc<wharfinger_server::Metrics>> {
        self.requests.clone()
    }

    /// Lets what jobs count be told, too.
    pub(crate) fn tell_of(&mut self, jobs: &SyncMetrics) {
        if let Some(metrics) = &mut self.metrics {
            jobs.register(registry_prefix(metrics));
        }
    }

    /// All that is counted, under the path it is served at; only once.
    pub(crate) fn served(
        &mut self,
        registry: &Registry,
        shared_cache: Option<&SharedCache>,
        notifier: &Notifier,
        cached: Option<&wharfinger_proxy::Metrics>,
        eviction: Option<&Eviction>,
        config: &Config,
    ) -> Option<(String, Metrics)> {
        let mut metrics = self.metrics.take()?;
        let ours = registry_prefix(&mut metrics);
        registry.register(ours);
        if let Some(shared) = shared_cache {
            shared.register(ours);
        }
        notifier.metrics().register(ours);
        if let Some(eviction) = eviction {
            eviction.metrics().register(ours);
        }
        if let Some(cached) = cached {
            cached.register(ours);
        }
        if let Some(driver) = &self.driver {
            driver.register(ours);
        }
        wharfinger_server::register_build_info(ours, env!("CARGO_PKG_VERSION"));
        wharfinger_server::register_process(&mut metrics);
        Some((config.http.debug.prometheus.path.clone(), metrics))
    }
}

/// The part of the metrics whose names begin as Distribution's do.
fn registry_prefix(metrics: &mut Metrics) -> &mut Metrics {
    metrics.sub_registry_with_prefix("registry")
}
