//! The server: a registry's answers, on the listeners it is given.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use tracing::{Span, error_span, field};
use uuid::Uuid;
use wharfinger_auth::Grant;
use wharfinger_health::Health;
use wharfinger_proxy::Upstreams;
use wharfinger_registry::Registry;

use crate::Options;
use crate::access_log::asked_for;
use crate::app::{App, Shared};
use crate::call::Call;
use crate::exchange::Exchange;
use crate::handler::handle;
use crate::limits::{Limiter, Turn};
use crate::listen::Listener;
use crate::naming;
use crate::peer::Peer;
use crate::route::Route;
use crate::sending::Sending;
use crate::serving::{self, Client, Service, Settings};
use crate::upload_state::Secret;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers HTTP requests for a registry.
#[derive(Clone, Debug)]
pub struct Server {
    app: Arc<App>,
}

impl Server {
    /// A server for `registry`.
    pub fn new(registry: Registry, options: Options) -> Self {
        Self::caching(registry, Upstreams::default(), options)
    }

    /// A server for `registry`, which has what is pulled from `upstreams` as well, and takes nothing
    /// for those.
    pub fn caching(registry: Registry, upstreams: Upstreams, options: Options) -> Self {
        let secret = match &options.secret {
            Some(secret) => Secret::new(secret),
            None => Secret::generate(),
        };
        Self {
            app: Arc::new(App {
                registry,
                upstreams,
                options: ArcSwap::from_pointee(options),
                secret,
                health: Health::default(),
                limiter: Limiter::default(),
            }),
        }
    }

    /// What decides whether requests are answered.
    pub fn health(&self) -> Health {
        self.app.health.clone()
    }

    /// Answers the requests from now on, and speaks on connections from now on, as these options
    /// say. [`Options::secret`] alone stays what it was: the uploads under way need it.
    pub fn set_options(&self, options: Options) {
        self.app.options.store(Arc::new(options));
        self.app.limiter.options_changed();
    }

    /// Accepts connections until `stop` is ready, then lets the requests under way finish, for as
    /// long as [`Options::drain_timeout`] allows. Those that do not are cut off. What has come of
    /// uploads by then is still being made durable on return; it is over when
    /// [`Registry::make_read_only`] is.
    pub fn serve(
        self,
        listener: Listener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.serve_until(listener, Box::pin(stop))
    }

    /// A future of no particular type, so that all that answers requests is compiled once, here,
    /// and not in every program that serves.
    fn serve_until(
        self,
        listener: Listener,
        stop: BoxFuture<'static, ()>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let health = self.health();
            let stop = async {
                stop.await;
                health.drain();
            };
            serving::serve(listener, Answering::new(self.app), stop).await;
        })
    }
}

/// The registry's answers. Each connection has a clone.
struct Answering {
    app: Arc<App>,
    shared: Mutex<Arc<Shared>>,
}

impl Answering {
    fn new(app: Arc<App>) -> Self {
        let options = app.options.load_full();
        Self {
            shared: Mutex::new(Arc::new(Shared::new(&app, options))),
            app,
        }
    }

    /// What a request that comes now shares with others.
    fn shared(&self) -> Arc<Shared> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let options = self.app.options.load();
        if !Arc::ptr_eq(&shared.options, &options) {
            *shared = Arc::new(Shared::new(&self.app, Arc::clone(&options)));
        }
        Arc::clone(&shared)
    }
}

impl Clone for Answering {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.app))
    }
}

impl Service for Answering {
    type Body = Sending;
    type Place = Option<Turn>;

    async fn room(&self) {
        self.app
            .limiter
            .room_for_connection(&self.app.options)
            .await;
    }

    fn place(&self, peer: Peer) -> Option<Option<Turn>> {
        self.app
            .limiter
            .connect(&self.app.options.load(), peer)
            .ok()
    }

    fn settings(&self) -> Settings {
        let options = self.app.options.load();
        Settings {
            header_timeout: options.header_timeout,
            idle_timeout: options.idle_timeout,
            drain_timeout: options.drain_timeout,
            max_header_size: options.max_header_size,
            http2_cleartext: options.http2_cleartext,
        }
    }

    fn answer(
        &self,
        client: &Arc<Client>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Sending>> + Send + 'static {
        respond(self.shared(), Arc::clone(client), request)
    }
}

/// The answer is made in a box: memory that another request has just left is in the processor's cache,
/// while that of a connection has left it since the last request came.
fn respond(
    shared: Arc<Shared>,
    connection: Arc<Client>,
    request: Request<Incoming>,
) -> BoxFuture<'static, Response<Sending>> {
    let (request, body) = request.into_parts();
    let Shared { app, options, .. } = &*shared;
    let id = request_id(&request.headers);
    let mut route = Route::of(&options.prefix, request.uri.path());
    let called = match &mut route {
        Ok(Some(route)) => naming::settle(&app.upstreams, &request, route),
        _ => Ok(None),
    };
    let called = called.unwrap_or_else(|error| {
        route = Err(error);
        None
    });
    let known = route.as_ref().ok().and_then(Option::as_ref);
    let proxies = &options.trusted_proxies;
    let client = proxies.client(connection.peer, &request.headers);
    let name = match client == connection.peer {
        true => Cow::Borrowed(&*connection.name),
        false => Cow::Owned(client.to_string()),
    };
    let span = log_span(&request, &id, &name, known);
    drop(name);
    // In a box: it is handed from one to the next.
    let call = Box::new(Call {
        shared,
        connection,
        id: id.clone(),
        request,
        called,
        client,
        span: span.clone(),
        grant: Grant::default(),
    });
    let mut exchange = Exchange::begin(&call, known);
    let trace = exchange.trace();
    Box::pin(async move {
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
    })
}

/// What all lines in the log about a request say of it, under the names that CNCF Distribution's
/// have.
fn log_span(request: &Parts, id: &HeaderValue, client: &str, route: Option<&Route>) -> Span {
    let text = |name| {
        request
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    // Of an error's level: whatever is logged of a request names it.
    error_span!(
        "request",
        http.request.id = id.to_str().unwrap_or_default(),
        http.request.method = request.method.as_str(),
        http.request.host = request.uri.host().or_else(|| text(header::HOST)),
        http.request.uri = &*asked_for(&request.uri),
        http.request.remoteaddr = client,
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
