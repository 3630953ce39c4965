//! What comes of a body from the client, as hyper passes it on.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Version, header};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::BodyError;
use crate::metrics::{Handler, Metrics};

/// How long the rest of a body is taken that nobody wants any more.
const LINGER: Duration = Duration::from_secs(5);

/// How long the answer waits for that to have ended.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

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
pub(super) struct Source {
    /// `None` when there is nothing more to come.
    body: Option<Incoming>,
    patience: Duration,
    /// Wakes when the client has paused for too long; made when it first pauses.
    alarm: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
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

impl Source {
    /// The body of a request whose client may not pause for longer than `patience`.
    pub(super) fn new(
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
        let source = Self {
            body,
            patience,
            alarm: None,
            is_waiting: false,
            counted,
            lingers,
            rest,
        };
        (source, Rest(has_come))
    }

    /// Whether all of it has come.
    pub(super) fn is_over(&self) -> bool {
        self.body.is_none()
    }

    /// How many bytes are to come, if that was announced.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.body {
            Some(body) => body.size_hint().exact(),
            None => Some(0),
        }
    }

    /// What comes next.
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        let bytes = loop {
            let Some(body) = &mut self.body else {
                return Poll::Ready(None);
            };
            match Pin::new(&mut *body).poll_frame(context) {
                Poll::Ready(frame) => {
                    self.is_waiting = false;
                    match frame.map(|frame| frame.map(Frame::into_data)) {
                        Some(Ok(Ok(bytes))) => break bytes,
                        Some(Ok(Err(_trailers))) => {}
                        Some(Err(error)) => {
                            self.body = None;
                            return Poll::Ready(Some(Err(error.into())));
                        }
                        None => self.body = None,
                    }
                }
                Poll::Pending => {
                    ready!(self.poll_paused(context));
                    self.body = None;
                    return Poll::Ready(Some(Err(BodyError::Timeout(self.patience))));
                }
            }
        };
        if self.body.as_ref().is_some_and(Incoming::is_end_stream) {
            self.body = None;
        }
        if let Some(counted) = &self.counted {
            counted.count(&bytes);
        }
        Poll::Ready(Some(Ok(bytes)))
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

impl Drop for Source {
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
