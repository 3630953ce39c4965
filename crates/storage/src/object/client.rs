//! The client that all requests to a store go through.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use tokio::sync::Semaphore;
use tracing::{debug, info};

/// How often and how long a request is tried.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// How often it is sent again.
    pub most: usize,
    /// For how long it is sent again.
    pub within: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            most: 6,
            within: Duration::from_secs(60),
        }
    }
}

impl Retries {
    pub(super) fn config(self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: self.most,
            retry_timeout: self.within,
        }
    }
}

/// What `object_store` sends to Google's where nobody in particular asks.
const NOBODY: HeaderValue = HeaderValue::from_static("Bearer ");

/// Sends requests, and tells of them in the log.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) client: reqwest::Client,
    /// Whether each request is told whatever the level of the log is.
    pub(super) log: bool,
    /// As many requests may be at work at once as it has permits.
    pub(super) at_once: Option<Arc<Semaphore>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl HttpConnector for Client {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let began = Instant::now();
        if request.headers().get(AUTHORIZATION) == Some(&NOBODY) {
            request.headers_mut().remove(AUTHORIZATION);
        }
        let _permit = match &self.at_once {
            // It is never closed.
            Some(at_once) => at_once.acquire().await.ok(),
            None => None,
        };
        let answer = HttpService::call(&self.client, request).await;
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        let ms = began.elapsed().as_millis();
        match self.log {
            true => info!(%method, path, status, ms, "a request to the store"),
            false => debug!(%method, path, status, ms, "a request to the store"),
        }
        answer
    }
}
