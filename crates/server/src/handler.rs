//! From a request to its answer: the route, the method, the handler, and what every answer has.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use thiserror::Error;
use tracing::error;
use wharfinger_oci::Digest;
use wharfinger_registry::Registry;

use crate::body::Body;
use crate::error::{ApiError, Code, Result};
use crate::health::Health;
use crate::route::Route;
use crate::upload_state::Secret;
use crate::{Options, base, blob, catalog, manifest, referrer, tag, upload};

pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName =
    HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) registry: Registry,
    pub(crate) options: Options,
    pub(crate) secret: Secret,
    pub(crate) health: Health,
}

/// Answers a request, whatever happens in between.
pub(crate) async fn handle(app: &Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let is_head = request.method() == Method::HEAD;
    let mut response = answer(app, request)
        .await
        .unwrap_or_else(ApiError::into_response);
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    for (name, value) in &app.options.headers {
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

async fn answer(app: &Arc<App>, request: Request<Incoming>) -> Result<Response<Body>> {
    let Some(route) = Route::of(&app.options.prefix, request.uri().path())? else {
        return Err(
            ApiError::with(Code::UNSUPPORTED, "the API has no such path")
                .status(StatusCode::NOT_FOUND),
        );
    };
    if let (Some(failure), false) = (app.health.failure(), matches!(route, Route::Root)) {
        return Err(ApiError::with(Code::UNAVAILABLE, failure));
    }
    let writes = !matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let methods_left = route.methods_left(app.registry.is_read_only());
    let app = Arc::clone(app);
    let guarded = AssertUnwindSafe(dispatch(app, route, request)).catch_unwind();
    // What writes goes on to its end when the client leaves in the middle: a commit past its point
    // of no return must not be cut off, and what was received must be kept.
    let outcome = if writes {
        tokio::spawn(guarded)
            .await
            .unwrap_or_else(|error| Err(Box::new(error)))
    } else {
        guarded.await
    };
    let outcome = outcome.unwrap_or_else(|_panic| {
        error!("a handler panicked");
        Err(ApiError::new(Code::UNKNOWN))
    });
    outcome.map_err(|error| error.or_allow(methods_left))
}

async fn dispatch(
    app: Arc<App>,
    route: Route,
    request: Request<Incoming>,
) -> Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = patient(body, app.options.body_timeout);
    let (app, request) = (&*app, &parts);
    match (&route, request.method.as_str()) {
        (Route::Root, "GET" | "HEAD") => Ok(empty(StatusCode::OK)),
        (Route::Base, "GET" | "HEAD") => Ok(base::get()),
        (Route::Catalog, "GET" | "HEAD") => catalog::list(app, request).await,
        (Route::Tags(name), "GET" | "HEAD") => tag::list(app, request, name).await,
        (Route::Referrers(name, digest), "GET" | "HEAD") => {
            referrer::list(app, request, name, digest).await
        }
        (Route::Blob(name, digest), "GET" | "HEAD") => blob::get(app, request, name, digest).await,
        (Route::Blob(name, digest), "DELETE") => blob::delete(app, name, digest).await,
        (Route::Manifest(name, reference), "GET" | "HEAD") => {
            manifest::get(app, request, name, reference).await
        }
        (Route::Manifest(name, reference), "PUT") => {
            manifest::put(app, request, name, reference, body).await
        }
        (Route::Manifest(name, reference), "DELETE") => {
            manifest::delete(app, name, reference).await
        }
        (Route::Uploads(name), "POST") => upload::post(app, request, name, body).await,
        (Route::Upload(name, id), "GET" | "HEAD") => upload::get(app, request, name, id).await,
        (Route::Upload(name, id), "PATCH") => upload::patch(app, request, name, id, body).await,
        (Route::Upload(name, id), "PUT") => upload::put(app, request, name, id, body).await,
        (Route::Upload(name, id), "DELETE") => upload::delete(app, request, name, id).await,
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
fn patient(
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

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

pub(crate) fn digest_value(digest: &Digest) -> HeaderValue {
    HeaderValue::from_str(&digest.to_string()).expect("a digest is plain text")
}

pub(crate) fn etag(digest: &Digest) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{digest}\"")).expect("a digest is plain text")
}
