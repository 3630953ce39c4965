//! The server: a registry's answers, on the listeners it is given.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use tracing::{Instrument, info_span};
use uuid::Uuid;
use wharfinger_auth::Grant;
use wharfinger_registry::Registry;

use crate::Options;
use crate::access_log::Entry;
use crate::app::App;
use crate::body::Body;
use crate::call::Call;
use crate::handler::handle;
use crate::health::Health;
use crate::listen::Listener;
use crate::serving::{self, Client, Limits, Service};
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
    pub async fn serve(self, listener: Listener, stop: impl Future<Output = ()>) {
        serving::serve(listener, Answering(self.app), stop).await;
    }
}

/// The registry's answers.
#[derive(Clone)]
struct Answering(Arc<App>);

impl Service for Answering {
    type Body = Body;

    fn limits(&self) -> Limits {
        let options = self.0.options.load();
        Limits {
            header_timeout: options.header_timeout,
            idle_timeout: options.idle_timeout,
            drain_timeout: options.drain_timeout,
            max_header_size: options.max_header_size,
            http2_cleartext: options.http2_cleartext,
        }
    }

    async fn answer(&self, client: Client, request: Request<Incoming>) -> Response<Body> {
        respond(&self.0, client, request).await
    }
}

async fn respond(app: &Arc<App>, client: Client, request: Request<Incoming>) -> Response<Body> {
    let (request, body) = request.into_parts();
    let call = Call {
        app: Arc::clone(app),
        options: app.options.load_full(),
        id: request_id(&request.headers),
        request,
        peer: client.peer,
        secure: client.secure,
        grant: Grant::default(),
    };
    let id = call.id.clone();
    let span = info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %call.request.method,
        path = call.request.uri.path(),
        user = tracing::field::Empty,
    );
    let entry = call.options.access_log.then(|| Entry::new(&call));
    let mut response = handle(call, body).instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    if let Some(entry) = entry {
        entry.write(&response);
    }
    response
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
