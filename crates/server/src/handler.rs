//! From a request to its answer: the route, the method, the handler, and what every answer has.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::task::{JoinError, JoinHandle};
use tracing::{Instrument as _, error};
use wharfinger_oci::RepositoryName;
use wharfinger_proxy::Upstreams;

use crate::answer::empty;
use crate::body::Body;
use crate::call::Call;
use crate::error::{ApiError, Code, Result};
use crate::exchange::Exchange;
use crate::limits::Turn;
use crate::request_body::{Feeder, RequestBody};
use crate::route::Route;
use crate::{access, base, blob, catalog, manifest, probes, referrer, tag, upload};

/// What a handler says.
type Answer = Result<Response<Body>>;

/// What a handler says that runs by itself, or the panic that came in its way.
type Answering = JoinHandle<std::thread::Result<Answer>>;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Answers a request, whatever happens in between.
pub(crate) async fn handle(
    mut call: Box<Call>,
    route: Result<Option<Route>>,
    body: Incoming,
    exchange: &mut Exchange,
) -> Response<Body> {
    let is_head = call.request.method == Method::HEAD;
    let shared = Arc::clone(&call.shared);
    let counted = exchange.receive(&body);
    let (body, rest) = RequestBody::new(body, &call.request, shared.options.body_timeout, counted);
    let (method, path) = (&call.request.method, call.request.uri.path());
    let outcome = match probes::answer(&call.app().health, method, path) {
        Some(response) => Ok(response),
        None => match admit(&mut call, route, exchange).await {
            Ok(route) => perform(call, route, body).await,
            Err(refused) => {
                drop(body);
                Err(refused)
            }
        },
    };
    rest.come().await;
    let mut response = outcome.unwrap_or_else(ApiError::into_response);
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    for (name, value) in &shared.options.headers {
        headers.append(name, value.clone());
    }
    if is_head {
        // The length of what GET would send stays; the body goes. Hyper would not tell it alone.
        let length = http_body::Body::size_hint(response.body())
            .exact()
            .unwrap_or(0);
        if length > 0 {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        *response.body_mut() = Body::Empty;
    }
    response
}

/// What the request is about, when it may be answered at all.
async fn admit(
    call: &mut Call,
    route: Result<Option<Route>>,
    exchange: &mut Exchange,
) -> Result<Route> {
    let Some(route) = route? else {
        return Err(
            ApiError::with(Code::UNSUPPORTED, "the API has no such path")
                .status(StatusCode::NOT_FOUND),
        );
    };
    if !call.app().health.is_good() && !matches!(route, Route::Root) {
        // Which one fails, and why, is no client's business.
        let detail = "a health check fails; its operator sees which one at /debug/health";
        return Err(ApiError::with(Code::UNAVAILABLE, detail));
    }
    if matches!(route, Route::Root) {
        return Ok(route);
    }
    call.app().limiter.count(call).await?;
    let checked = access::check(call, &route).await;
    call.grant = call.app().limiter.count_checked(call, checked).await?;
    if !call.grant.user.is_empty() {
        call.span.record("auth.user.name", call.grant.user.as_str());
        exchange.sent_by(&call.grant.user);
    }
    Ok(route)
}

async fn perform(call: Box<Call>, route: Route, body: RequestBody) -> Answer {
    let writes = !matches!(
        call.request.method,
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let upstreams = &call.app().upstreams;
    let cached = route.repository().filter(|name| upstreams.have(name));
    let methods_left = route.methods_left(cached.is_some() || call.registry().is_read_only());
    if let Some(name) = cached {
        if writes {
            let refused = ApiError::says(Code::UNSUPPORTED, cannot_write(upstreams, name));
            return Err(refused.or_allow(methods_left));
        }
        // A repository that is not served is not unknown: who asks should hear why, and try no
        // other name.
        if upstreams.deny(name) {
            let message = format!("{name} is not among what this registry may cache");
            return Err(ApiError::says(Code::DENIED, message));
        }
    }
    let turn = match &route {
        Route::Uploads(_) | Route::Upload(..) if !body.is_empty() => {
            call.app().limiter.upload(&call).await?
        }
        _ => None,
    };
    let outcome = if writes && !upload::only_opens(&call, &route) {
        // Boxed, or requests that only read would be moved about in as much memory.
        let written = Box::pin(Write::new(call, route, body, turn).perform()).await;
        written.unwrap_or_else(|error| Err(Box::new(error)))
    } else {
        // It is guarded where it stands: as it is large, moving it would take longer than many an
        // answer.
        let answering = pin!(dispatch(call, route, body, turn));
        AssertUnwindSafe(answering).catch_unwind().await
    };
    let outcome = outcome.unwrap_or_else(|_panic| {
        error!("a handler panicked");
        Err(ApiError::new(Code::UNKNOWN))
    });
    outcome.map_err(|error| error.or_allow(methods_left))
}

/// Why a repository that is kept of another registry takes nothing.
fn cannot_write(upstreams: &Upstreams, name: &RepositoryName) -> String {
    match upstreams.named(name) {
        Some(kept) => format!(
            "{name} is cached from {:?}, which alone can be written to",
            kept.name.as_str()
        ),
        None => "this registry is a cache of another one, which alone can be written to".to_owned(),
    }
}

/// A request that writes. It goes on to its end when the client leaves in the middle: a commit past
/// its point of no return must not be cut off, and what was received must be kept.
struct Write {
    /// `None` when it has begun.
    parts: Option<(Box<Call>, Route, RequestBody, Option<Turn>)>,
}

impl Write {
    fn new(call: Box<Call>, route: Route, body: RequestBody, turn: Option<Turn>) -> Self {
        Self {
            parts: Some((call, route, body, turn)),
        }
    }

    /// The answer, or the panic that came in its way.
    async fn perform(mut self) -> std::result::Result<std::thread::Result<Answer>, JoinError> {
        let mut is_whole = false;
        if let Some((call, _, body, _)) = &mut self.parts {
            // Who waits to be told to go on may be told not to.
            let asks = call.request.headers.contains_key(header::EXPECT);
            is_whole = body.is_empty() || !asks && body.come().await;
        }
        let Some((mut answering, feeder)) = self.begin(is_whole) else {
            unreachable!("it begins once")
        };
        if let Some(feeder) = feeder {
            tokio::select! {
                biased;
                answer = &mut answering => return answer,
                () = feeder.run() => {}
            }
        }
        answering.await
    }

    /// The answer in the making, and what passes the body on to it.
    fn begin(&mut self, is_whole: bool) -> Option<(Answering, Option<Feeder>)> {
        let (call, route, body, turn) = self.parts.take()?;
        let (body, feeder) = body.feed(call.connection.intake.clone());
        let registry = call.registry().clone();
        let answering = AssertUnwindSafe(dispatch(call, route, body, turn)).catch_unwind();
        let answering = answering.in_current_span();
        let answering = match is_whole {
            true => registry.spawn(answering),
            // A thread of its own would wait for the client.
            false => tokio::spawn(answering),
        };
        Some((answering, feeder))
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_ok() {
            self.begin(false);
        }
    }
}

/// Handlers that write or list are boxed, or every request would be moved about in as much memory
/// as they need.
async fn dispatch(
    call: Box<Call>,
    route: Route,
    body: RequestBody,
    _turn: Option<Turn>,
) -> Result<Response<Body>> {
    let call = &*call;
    match (&route, call.request.method.as_str()) {
        (Route::Root, "GET" | "HEAD") => Ok(empty(StatusCode::OK)),
        (Route::Base, "GET" | "HEAD") => Ok(base::get()),
        (Route::Catalog, "GET" | "HEAD") => Box::pin(catalog::list(call)).await,
        (Route::Tags(name), "GET" | "HEAD") => Box::pin(tag::list(call, name)).await,
        (Route::Referrers(name, digest), "GET" | "HEAD") => {
            Box::pin(referrer::list(call, name, digest)).await
        }
        (Route::Blob(name, digest), "GET" | "HEAD") => blob::get(call, name, digest).await,
        (Route::Blob(name, digest), "DELETE") => Box::pin(blob::delete(call, name, digest)).await,
        (Route::Manifest(name, reference), "GET" | "HEAD") => {
            manifest::get(call, name, reference).await
        }
        (Route::Manifest(name, reference), "PUT") => {
            Box::pin(manifest::put(call, name, reference, body)).await
        }
        (Route::Manifest(name, reference), "DELETE") => {
            Box::pin(manifest::delete(call, name, reference)).await
        }
        (Route::Uploads(name), "POST") => Box::pin(upload::post(call, name, body)).await,
        (Route::Upload(name, id), "GET" | "HEAD") => Box::pin(upload::get(call, name, id)).await,
        (Route::Upload(name, id), "PATCH") => Box::pin(upload::patch(call, name, id, body)).await,
        (Route::Upload(name, id), "PUT") => Box::pin(upload::put(call, name, id, body)).await,
        (Route::Upload(name, id), "DELETE") => Box::pin(upload::delete(call, name, id)).await,
        (route, method) => {
            let allow = HeaderValue::from_static(route.methods());
            if method == "OPTIONS" {
                let mut response = empty(StatusCode::OK);
                response.headers_mut().insert(header::ALLOW, allow);
                return Ok(response);
            }
            Err(ApiError::new(Code::UNSUPPORTED).header(header::ALLOW, allow))
        }
    }
}
