//! The bodies of requests.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::request::Parts;
use http::{Version, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::metrics::{Handler, Metrics};

/// How long the rest of a body is taken that nobody wants any more.
const LINGER: Duration = Duration::from_secs(5);

/// How long the answer waits for that to have ended.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Why a body ended before its end.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    /// The connection broke, or what came over it was not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// Nothing came for too long.
    #[error("nothing came for {} seconds", .0.as_secs_f32())]
    Timeout(Duration),
    /// More came than was let come.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
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

/// A body whose client may not pause for too long, and whose bytes are counted.
///
/// Dropped before its end, the rest is still taken for a while, and thrown away: a connection that
/// is closed while its client sends takes the answer along that the client has not yet read. Some
/// clients even go wrong over an answer that comes before they have sent all (containerd 1.6 waits
/// for ever), so it is better to answer when the [`Rest`] has come.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// `None` when there is nothing more to come.
    body: Option<Incoming>,
    patience: Duration,
    /// Wakes when the client has paused for too long; made when it first pauses.
    alarm: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    most: u64,
    received: u64,
    counted: Option<Counted>,
    lingers: bool,
    /// Dropped when the rest has come.
    rest: Option<oneshot::Sender<()>>,
}

/// Whether the rest of a body is still to come, or to be thrown away.
#[derive(Debug)]
pub(crate) struct Rest(Option<oneshot::Receiver<()>>);

impl Rest {
    /// Ready when it has come, or is too long in coming.
    pub(crate) async fn come(self) {
        if let Some(rest) = self.0 {
            let _ = timeout(ANSWER_WITHIN, rest).await;
        }
    }
}

impl RequestBody {
    /// The body of a request whose client may not pause for longer than `patience`.
    pub(crate) fn new(
        body: Incoming,
        request: &Parts,
        patience: Duration,
        counted: Option<Counted>,
    ) -> (Self, Rest) {
        // HTTP/2 ends a stream without its connection. A client that waits to be told to go on is
        // told by the answer not to.
        let lingers =
            request.version < Version::HTTP_2 && !request.headers.contains_key(header::EXPECT);
        let body = (!body.is_end_stream()).then_some(body);
        let (rest, has_come) = body.as_ref().map(|_| oneshot::channel()).unzip();
        let body = Self {
            body,
            patience,
            alarm: None,
            is_waiting: false,
            most: u64::MAX,
            received: 0,
            counted,
            lingers,
            rest,
        };
        (body, Rest(has_come))
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_none()
    }

    /// Breaks off with [`BodyError::TooLarge`] when more than this comes, in bytes.
    pub(crate) fn at_most(mut self, bytes: u64) -> Self {
        self.most = bytes;
        self
    }

    fn poll_paused(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep(self.patience)));
        if !std::mem::replace(&mut self.is_waiting, true) {
            alarm.as_mut().reset(Instant::now() + self.patience);
        }
        alarm.as_mut().poll(context)
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let frame = loop {
            let Some(body) = &mut this.body else {
                return Poll::Ready(None);
            };
            match Pin::new(body).poll_frame(context) {
                Poll::Ready(frame) => {
                    this.is_waiting = false;
                    match frame {
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(bytes) => break bytes,
                            Err(_trailers) => {}
                        },
                        Some(Err(error)) => {
                            this.body = None;
                            return Poll::Ready(Some(Err(error.into())));
                        }
                        None => this.body = None,
                    }
                }
                Poll::Pending => {
                    ready!(this.poll_paused(context));
                    this.body = None;
                    return Poll::Ready(Some(Err(BodyError::Timeout(this.patience))));
                }
            }
        };
        this.received += frame.len() as u64;
        if let Some(counted) = &this.counted {
            counted.count(&frame);
        }
        Poll::Ready(Some(if this.received > this.most {
            Err(BodyError::TooLarge(this.most))
        } else {
            Ok(frame)
        }))
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && self.lingers
            && !body.is_end_stream()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(throw_away(body, self.rest.take()));
        }
    }
}

async fn throw_away(mut body: Incoming, _rest: Option<oneshot::Sender<()>>) {
    let all = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = timeout(LINGER, all).await;
}
