//! Requests that `object_store` does not have: sent, and sent again where that makes sense.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use object_store::client::{HttpClient, HttpError, HttpErrorKind, HttpRequest};
use object_store::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

use super::client::Retries;

/// What stands as it is in a key within an address, as signatures have it.
pub(super) const KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// The same for a value in a query.
pub(super) const VALUE: &AsciiSet = &KEY.add(b'/');

/// Sends requests that are made and signed elsewhere.
#[derive(Debug)]
pub(super) struct Requests {
    client: HttpClient,
    retries: Retries,
    /// The store's name in errors.
    store: &'static str,
}

/// What a store has answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Requests {
    pub(super) fn new(client: HttpClient, retries: Retries, store: &'static str) -> Self {
        Self {
            client,
            retries,
            store,
        }
    }

    /// Sends what `make` makes, anew for each try, and reads the answer. One of success that cannot
    /// be read is as good as a failure: a store may begin it before it is done.
    pub(super) async fn send<T, F>(
        &self,
        key: &str,
        make: impl Fn() -> F,
        read: impl Fn(&Answer) -> Option<T>,
    ) -> Result<T>
    where
        F: Future<Output = Result<HttpRequest>>,
    {
        let began = Instant::now();
        let mut tried = 0;
        loop {
            let (error, again) = match self.try_once(make().await?).await {
                Ok(answer) if answer.status.is_success() => match read(&answer) {
                    Some(read) => return Ok(read),
                    None => (self.error(answer.text()), true),
                },
                Ok(answer) => {
                    let path = key.to_owned();
                    let source = answer.text().into();
                    match answer.status {
                        StatusCode::NOT_FOUND => return Err(Error::NotFound { path, source }),
                        StatusCode::FORBIDDEN => {
                            return Err(Error::PermissionDenied { path, source });
                        }
                        status => {
                            let again = status.is_server_error() || status.as_u16() == 429;
                            (self.error(source), again)
                        }
                    }
                }
                Err(error) => {
                    let again = !matches!(error.kind(), HttpErrorKind::Unknown);
                    (self.error(error), again)
                }
            };
            if !again || tried >= self.retries.most || began.elapsed() >= self.retries.within {
                return Err(error);
            }
            tried += 1;
            let wait = Duration::from_millis(100 << tried.min(5));
            tokio::time::sleep(wait.mul_f64(0.5 + jitter() / 2.0)).await;
        }
    }

    async fn try_once(&self, request: HttpRequest) -> Result<Answer, HttpError> {
        let answer = self.client.execute(request).await?;
        let status = answer.status();
        let headers = answer.headers().clone();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    /// What went wrong, as an error of the store's.
    pub(super) fn error(&self, source: impl Into<BoxError>) -> Error {
        generic(self.store, source)
    }
}

impl Answer {
    fn text(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!("status {}: {body}", self.status)
    }
}

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong, as an error of the store with that name.
pub(super) fn generic(store: &'static str, source: impl Into<BoxError>) -> Error {
    Error::Generic {
        store,
        source: source.into(),
    }
}

/// A number from 0 to 1.
fn jitter() -> f64 {
    let (bits, _) = uuid::Uuid::new_v4().as_u64_pair();
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}
