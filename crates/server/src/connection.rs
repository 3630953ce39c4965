//! Connections: accepting them, speaking HTTP over them, and ending well.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tracing::{Span, debug, field, info, info_span, warn};
use uuid::Uuid;
use wharfinger_auth::Grant;
use wharfinger_health::Health;
use wharfinger_registry::Registry;

use crate::Options;
use crate::access_log::asked_for;
use crate::app::App;
use crate::call::Call;
use crate::exchange::Exchange;
use crate::handler::handle;
use crate::route::Route;
use crate::sending::Sending;
use crate::upload_state::Secret;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long to wait before accepting again when the process has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers HTTP requests for a registry.
#[derive(Clone, Debug)]
pub struct Server {
    app: Arc<App>,
}

impl Server {
    /// A server for `registry`.
    pub fn new(registry: Registry, options: Options) -> Self {
        let secret = match &options.secret {
            Some(secret) => Secret::new(secret),
            None => Secret::generate(),
        };
        Self {
            app: Arc::new(App {
                registry,
                options: ArcSwap::from_pointee(options),
                secret,
                health: Health::default(),
            }),
        }
    }

    /// What decides whether requests are answered.
    pub fn health(&self) -> Health {
        self.app.health.clone()
    }

    /// Accepts connections until `stop` is ready, then lets the requests under way finish, for as
    /// long as [`Options::drain_timeout`] allows.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.accept(stream, peer, &graceful),
                    Err(error) => accept_failed(&error).await,
                },
            }
        }
        drop(listener);
        self.app.health.drain();
        let drain_timeout = self.app.options.load().drain_timeout;
        info!("no more connections are accepted; requests under way finish");
        let drained = tokio::time::timeout(drain_timeout, graceful.shutdown());
        if drained.await.is_err() {
            warn!("some requests did not finish in time and are cut off");
        }
    }

    fn accept(&self, stream: TcpStream, peer: SocketAddr, graceful: &GracefulShutdown) {
        // Answers are written whole; waiting for more to send would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "the connection broke before its first request");
            return;
        }
        let app = Arc::clone(&self.app);
        let options = self.app.options.load();
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .max_buf_size(options.max_header_size.max(8 * 1024));
        let http2_headers = u32::try_from(options.max_header_size).unwrap_or(u32::MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(http2_headers);
        if !options.http2_cleartext {
            builder = builder.http1_only();
        }
        let service = service_fn(move |request| {
            let app = Arc::clone(&app);
            async move { Ok::<_, Infallible>(respond(&app, peer, request).await) }
        });
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%peer, error, "a connection ended badly");
            }
        });
    }
}

/// # Cancel safety
/// Dropping this while it waits loses nothing.
pub(crate) async fn accept_failed(error: &io::Error) {
    // A connection that ended in the queue concerns nobody else; being out of file descriptors
    // does, and passes only with time.
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    ) {
        warn!(%error, "a connection cannot be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn respond(
    app: &Arc<App>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Sending> {
    let (request, body) = request.into_parts();
    let options = app.options.load_full();
    let id = request_id(&request.headers);
    let route = Route::of(&options.prefix, request.uri.path());
    let known = route.as_ref().ok().and_then(Option::as_ref);
    let span = log_span(&request, &id, peer, known);
    let call = Call {
        app: Arc::clone(app),
        options,
        id: id.clone(),
        request,
        peer,
        span: span.clone(),
        grant: Grant::default(),
    };
    let mut exchange = Exchange::begin(&call, known);
    let trace = exchange.trace();
    let mut response = {
        // To enter the spans by hand saves moving the handler's large future into others.
        let mut handling = pin!(handle(call, route, body, &mut exchange));
        poll_fn(|context| {
            let _spans = (span.enter(), trace.enter());
            handling.as_mut().poll(context)
        })
        .await
    };
    response.headers_mut().insert(REQUEST_ID, id);
    exchange.answer(response)
}

/// What all lines in the log about a request say of it, under the names that CNCF Distribution's
/// have.
fn log_span(request: &Parts, id: &HeaderValue, peer: SocketAddr, route: Option<&Route>) -> Span {
    let text = |name| {
        request
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    info_span!(
        "request",
        http.request.id = id.to_str().unwrap_or_default(),
        http.request.method = request.method.as_str(),
        http.request.host = request.uri.host().or_else(|| text(header::HOST)),
        http.request.uri = asked_for(&request.uri),
        http.request.remoteaddr = %peer,
        http.request.useragent = text(header::USER_AGENT),
        auth.user.name = field::Empty,
        vars.name = route.and_then(Route::repository).map(|name| name.as_str()),
        trace_id = field::Empty,
    )
}

/// The client's name for its request, when it is a sane one; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=64).contains(&bytes.len())
            && bytes
                .iter()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
    };
    headers
        .get(REQUEST_ID)
        .filter(sane)
        .cloned()
        .unwrap_or_else(|| {
            let mut text = [0; uuid::fmt::Simple::LENGTH];
            let id = Uuid::new_v4().simple().encode_lower(&mut text);
            HeaderValue::from_str(id).expect("a UUID is plain text")
        })
}
