//! The bodies of requests.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use thiserror::Error;

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

/// A body whose client may not pause for longer than `timeout`.
pub(crate) fn patient(
    body: Incoming,
    timeout: Duration,
) -> impl Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin {
    let body = BodyDataStream::new(body);
    Box::pin(futures_util::stream::unfold(
        Some(body),
        move |body| async move {
            let mut body = body?;
            match tokio::time::timeout(timeout, body.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
                Ok(Some(Err(error))) => Some((Err(error.into()), None)),
                Err(_) => Some((Err(BodyError::Timeout(timeout)), None)),
            }
        },
    ))
}
