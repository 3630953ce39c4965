//! All endpoints together.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::join_all;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::info;

use crate::delivery::Client;
use crate::endpoint::{Endpoint, EndpointOptions, Settings};
use crate::event::to_json;
use crate::{Action, Event, EventSink, Format, Kept, Metrics, Source};

/// Sends events to endpoints.
#[derive(Debug)]
pub struct Notifier {
    source: Source,
    metrics: Metrics,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    /// Made with the first endpoint. Held while endpoints are replaced, so that only one does.
    client: Mutex<Option<Client>>,
}

/// Why an endpoint cannot be put to work.
#[derive(Debug, Error)]
#[error("{name}: {reason}")]
pub struct Unusable {
    /// The endpoint's name.
    pub name: String,
    /// What is wrong.
    pub reason: UnusableReason,
}

/// What is wrong with an endpoint.
#[derive(Debug, Error)]
pub enum UnusableReason {
    /// Its folder cannot be worked on.
    #[error("{0}")]
    Folder(String),
    /// Nothing can be sent to it.
    #[error("{0}")]
    Receiver(String),
}

impl Notifier {
    /// A notifier without endpoints, for events of the registry `source`.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            metrics: Metrics::default(),
            endpoints: ArcSwap::default(),
            client: Mutex::default(),
        }
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sends events to these endpoints from now on. An endpoint that was there before keeps what
    /// waits for it and gets it by its new settings: on disk it is known by its folder, in memory
    /// by its name. What waits in memory for one that is gone is lost; on disk it stays.
    ///
    /// # Errors
    /// When one of them cannot be put to work. Then everything is as before.
    pub async fn replace(&self, endpoints: Vec<EndpointOptions>) -> Result<(), Unusable> {
        let mut client = self.client.lock().await;
        let before = self.endpoints.load_full();
        let mut after = Vec::with_capacity(endpoints.len());
        let mut changed = Vec::new();
        let mut started = Vec::new();
        for options in endpoints {
            let usable = self.prepare(&mut client, &options);
            let kept = before
                .iter()
                .find(|endpoint| options.shares_queue_with(&endpoint.settings().options));
            let metrics = self.metrics.of(&options.name);
            let settings = Settings { options, metrics };
            let outcome = match (usable, kept) {
                (Err(unusable), _) => Err(unusable),
                (Ok(_), Some(kept)) => {
                    changed.push((Arc::clone(kept), settings));
                    Ok(Arc::clone(kept))
                }
                (Ok(client), None) => start(settings, client),
            };
            match outcome {
                Ok(endpoint) => {
                    if kept.is_none() {
                        started.push(Arc::clone(&endpoint));
                    }
                    after.push(endpoint);
                }
                Err(unusable) => {
                    self.end(&started, Instant::now()).await;
                    return Err(unusable);
                }
            }
        }
        let mut names = Vec::new();
        for (endpoint, settings) in changed {
            names.push(endpoint.settings().options.name.clone());
            endpoint.change(settings).await;
        }
        self.endpoints.store(Arc::new(after.clone()));
        let gone: Vec<_> = before
            .iter()
            .filter(|endpoint| !after.iter().any(|kept| Arc::ptr_eq(kept, endpoint)))
            .cloned()
            .collect();
        names.extend(self.end(&gone, Instant::now()).await);
        for name in names {
            if !after
                .iter()
                .any(|endpoint| endpoint.settings().options.name == name)
            {
                self.metrics.forget(&name);
            }
        }
        Ok(())
    }

    /// The client for an endpoint, when there can be one.
    fn prepare(
        &self,
        client: &mut Option<Client>,
        options: &EndpointOptions,
    ) -> Result<Client, Unusable> {
        let unusable = |reason: String| Unusable {
            name: options.name.clone(),
            reason: UnusableReason::Receiver(reason),
        };
        let client = match client {
            Some(client) => client,
            None => {
                let made = Client::new().map_err(|error| unusable(error.to_string()))?;
                client.insert(made)
            }
        };
        if options.receiver.is_secure() && !client.trusts_any {
            return Err(unusable(
                "no certificate can be trusted: this machine has no certificate authorities; \
                 install them (ca-certificates) or name a file of them in SSL_CERT_FILE"
                    .to_owned(),
            ));
        }
        Ok(client.clone())
    }

    /// Ends the work of endpoints, and gives their names.
    async fn end(&self, endpoints: &[Arc<Endpoint>], deadline: Instant) -> Vec<String> {
        join_all(endpoints.iter().map(|endpoint| endpoint.finish(deadline))).await;
        let names = endpoints.iter();
        names
            .map(|endpoint| endpoint.settings().options.name.clone())
            .collect()
    }

    /// Ends all work, within about this time: what waits in memory is delivered as far as the
    /// endpoints take it, and what is to be on disk is written. What is lost is logged.
    pub async fn shut_down(&self, within: Duration) {
        let _client = self.client.lock().await;
        let endpoints = self.endpoints.swap(Arc::default());
        let waiting: u64 = endpoints.iter().map(|endpoint| endpoint.at_stake()).sum();
        if waiting > 0 {
            info!(waiting, "events that wait in memory are delivered");
        }
        self.end(&endpoints, Instant::now() + within).await;
    }
}

fn start(settings: Settings, client: Client) -> Result<Arc<Endpoint>, Unusable> {
    let name = settings.options.name.clone();
    Endpoint::start(settings, client).map_err(|error| Unusable {
        name,
        reason: UnusableReason::Folder(error.to_string()),
    })
}

impl EventSink for Notifier {
    fn wants(&self, action: Action, media_type: &str) -> bool {
        let endpoints = self.endpoints.load();
        endpoints
            .iter()
            .any(|endpoint| endpoint.wants(action, media_type))
    }

    fn emit(&self, event: Event) -> Kept {
        let mut kept = Kept::default();
        let mut written: Vec<(Format, Bytes)> = Vec::new();
        for endpoint in self.endpoints.load().iter() {
            if !endpoint.wants(event.action, &event.target.media_type) {
                continue;
            }
            let format = endpoint.settings().options.format;
            let json = match written.iter().find(|(written, _)| *written == format) {
                Some((_, json)) => json.clone(),
                None => {
                    let json = Bytes::from(to_json(&event, &self.source, format));
                    written.push((format, json.clone()));
                    json
                }
            };
            endpoint.push(json, &mut kept);
        }
        kept
    }
}
