//! The bodies of requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use thiserror::Error;

use crate::metrics::{Handler, Metrics};

/// Why a body ended before its end.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    /// The connection broke, or what came over it was not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// Nothing came for too long.
    #[error("nothing came for {} seconds", .0.as_secs_f32())]
    Timeout(Duration),
}

/// Where the bytes of a body are counted.
#[derive(Debug)]
pub(crate) struct Counted {
    /// Those of this request.
    pub(crate) total: Arc<AtomicU64>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) handler: Handler,
}

impl Counted {
    fn count(&self, bytes: &Bytes) {
        let bytes = bytes.len() as u64;
        self.total.fetch_add(bytes, Relaxed);
        self.metrics.received(self.handler, bytes);
    }
}

/// A body whose client may not pause for longer than `timeout`, and whose bytes are counted.
pub(crate) fn patient(
    body: Incoming,
    timeout: Duration,
    counted: Option<Counted>,
) -> impl Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin {
    let body = BodyDataStream::new(body);
    Box::pin(futures_util::stream::unfold(
        Some((body, counted)),
        move |state| async move {
            let (mut body, counted) = state?;
            match tokio::time::timeout(timeout, body.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(bytes))) => {
                    if let Some(counted) = &counted {
                        counted.count(&bytes);
                    }
                    Some((Ok(bytes), Some((body, counted))))
                }
                Ok(Some(Err(error))) => Some((Err(error.into()), None)),
                Err(_) => Some((Err(BodyError::Timeout(timeout)), None)),
            }
        },
    ))
}
