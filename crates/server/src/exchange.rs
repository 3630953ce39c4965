//! A request from its arrival until the last byte of its answer is sent, or never will be: what is
//! then counted, logged and told to the trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, debug, enabled};

use crate::access_log::Entry;
use crate::body::Body;
use crate::call::Call;
use crate::metrics::{ABANDONED, Handler, Metrics, Observed};
use crate::probes;
use crate::request_body::Counted;
use crate::route::Route;
use crate::sending::Sending;
use crate::trace;

/// A request that is being answered. When it is dropped, the request is over. Where nobody wants to
/// know, there is nothing in it.
#[derive(Debug)]
pub(crate) struct Exchange(Option<Box<Watched>>);

/// What is known of a request that somebody wants to know of.
#[derive(Debug)]
struct Watched {
    began: Instant,
    answered: Option<Duration>,
    method: Method,
    handler: Handler,
    /// `None` until there is an answer.
    status: Option<StatusCode>,
    /// The bytes of the request's line and headers.
    head: u64,
    received: Option<Arc<AtomicU64>>,
    sent: AtomicU64,
    metrics: Option<Arc<Metrics>>,
    entry: Option<Entry>,
    span: Span,
    trace: Span,
}

impl Exchange {
    /// Begins with a request that has just arrived, for a path that the API has or, if `None`, has
    /// not.
    pub(crate) fn begin(call: &Call, route: Option<&Route>) -> Self {
        let options = call.options();
        let watched = options.metrics.is_some()
            || options.access_log
            || options.continue_trace.is_some()
            || is_told(&call.span);
        Self(watched.then(|| Box::new(Watched::begin(call, route))))
    }

    /// The span of the request's trace.
    pub(crate) fn trace(&self) -> Span {
        let watched = self.0.as_ref();
        watched.map_or_else(Span::none, |watched| watched.trace.clone())
    }

    /// Notes who sent the request.
    pub(crate) fn sent_by(&mut self, user: &str) {
        if let Some(watched) = &mut self.0 {
            watched.trace.record("enduser.id", user);
            if let Some(entry) = &mut watched.entry {
                entry.user = Some(user.to_owned());
            }
        }
    }

    /// Counts the bytes of the request's body as they come.
    pub(crate) fn receive(&mut self, body: &Incoming) -> Option<Counted> {
        let watched = self.0.as_mut()?;
        let metrics = watched.metrics.clone()?;
        if http_body::Body::is_end_stream(body) {
            return None;
        }
        let total = Arc::clone(watched.received.insert(Arc::default()));
        Some(Counted {
            total,
            metrics,
            handler: watched.handler,
        })
    }

    /// Goes on with the answer: the request is over when that has been sent.
    pub(crate) fn answer(mut self, response: Response<Body>) -> Response<Sending> {
        if let Some(watched) = &mut self.0 {
            watched.status = Some(response.status());
            watched.answered = Some(watched.began.elapsed());
        }
        response.map(|body| Sending::new(body, self))
    }

    /// Whether anybody wants to know how it ends.
    pub(crate) fn is_watched(&self) -> bool {
        self.0.is_some()
    }

    /// Counts bytes of the answer's body that were sent.
    pub(crate) fn count_sent(&self, bytes: u64) {
        if let Some(watched) = &self.0 {
            watched.sent.fetch_add(bytes, Relaxed);
            if let Some(metrics) = &watched.metrics {
                metrics.sent(watched.handler, bytes);
            }
        }
    }
}

impl Watched {
    fn begin(call: &Call, route: Option<&Route>) -> Self {
        let began = Instant::now();
        let options = call.options();
        let handler = route.map_or(Handler::Other, Handler::of);
        let metrics = options.metrics.clone();
        if let Some(metrics) = &metrics {
            metrics.begun(handler);
        }
        let trace = options
            .continue_trace
            .filter(|_| !probes::is_one(call.request.uri.path()))
            .map_or_else(Span::none, |begin| trace::span(call, route, begin));
        Self {
            began,
            answered: None,
            method: call.request.method.clone(),
            handler,
            status: None,
            head: metrics.as_ref().map_or(0, |_| head_size(call)),
            received: None,
            sent: AtomicU64::new(0),
            metrics,
            entry: options.access_log.then(|| Entry::new(call)),
            span: call.span.clone(),
            trace,
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let sent = self.sent.load(Relaxed);
        let body = self.received.as_ref().map_or(0, |body| body.load(Relaxed));
        if let Some(metrics) = &self.metrics {
            metrics.ended(Observed {
                handler: self.handler,
                method: &self.method,
                status: self.status,
                took,
                answered: self.answered,
                received: self.head + body,
                sent,
            });
        }
        trace::ended(&self.trace, self.status, sent);
        let status = self.status.map_or(ABANDONED, |status| status.as_u16());
        if let Some(entry) = &self.entry {
            entry.write(status, sent, took);
        }
        if is_told(&self.span) {
            let _entered = self.span.enter();
            debug!(
                target: "response",
                {
                    http.response.status = status,
                    http.response.written = sent,
                    http.response.duration = ?took,
                },
                "response completed"
            );
        }
    }
}

/// Whether there is a line about the answer in the log. That may depend on what the span of the request
/// says, which is not looked at where no line can be so detailed.
fn is_told(span: &Span) -> bool {
    Level::DEBUG <= LevelFilter::current()
        && span.in_scope(|| enabled!(target: "response", Level::DEBUG))
}

/// About how many bytes the request's line and headers took, as Prometheus's library for Go counts
/// them: whatever the version of HTTP.
fn head_size(call: &Call) -> u64 {
    let request = &call.request;
    let line = request.method.as_str().len() + request.uri.path().len();
    let query = request.uri.query().map_or(0, str::len);
    let headers = request.headers.iter();
    let headers = headers.map(|(name, value)| name.as_str().len() + value.len());
    (line + query + "HTTP/1.1".len() + headers.sum::<usize>()) as u64
}
