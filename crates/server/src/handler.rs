//! From a request to its answer: the route, the method, the handler, and what every answer has.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use tracing::{Span, error};

use crate::answer::empty;
use crate::body::Body;
use crate::call::Call;
use crate::error::{ApiError, Code, Result};
use crate::limits::Turn;
use crate::request_body::RequestBody;
use crate::route::Route;
use crate::{access, base, blob, catalog, manifest, referrer, tag, upload};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The name of the user whose request was answered: on the answer, for the log.
#[derive(Clone, Debug)]
pub(crate) struct User(pub(crate) String);

/// Answers a request, whatever happens in between.
pub(crate) async fn handle(mut call: Call, body: Incoming) -> Response<Body> {
    let is_head = call.request.method == Method::HEAD;
    let options = Arc::clone(&call.options);
    let (body, rest) = RequestBody::new(body, &call.request, options.body_timeout);
    let mut user = String::new();
    let outcome = match admit(&mut call).await {
        Ok(route) => {
            user.clone_from(&call.grant.user);
            perform(call, route, body).await
        }
        Err(refused) => {
            drop(body);
            Err(refused)
        }
    };
    rest.come().await;
    let mut response = outcome.unwrap_or_else(ApiError::into_response);
    if !user.is_empty() {
        response.extensions_mut().insert(User(user));
    }
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    for (name, value) in &options.headers {
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
async fn admit(call: &mut Call) -> Result<Route> {
    let Some(route) = Route::of(&call.options.prefix, call.request.uri.path())? else {
        return Err(
            ApiError::with(Code::UNSUPPORTED, "the API has no such path")
                .status(StatusCode::NOT_FOUND),
        );
    };
    if let (Some(failure), false) = (call.app.health.failure(), matches!(route, Route::Root)) {
        return Err(ApiError::with(Code::UNAVAILABLE, failure));
    }
    if matches!(route, Route::Root) {
        return Ok(route);
    }
    call.app.limiter.count(call).await?;
    let checked = access::check(call, &route).await;
    call.grant = call.app.limiter.count_checked(call, checked).await?;
    if !call.grant.user.is_empty() {
        Span::current().record("user", call.grant.user.as_str());
    }
    Ok(route)
}

async fn perform(call: Call, route: Route, body: RequestBody) -> Result<Response<Body>> {
    let turn = match &route {
        Route::Uploads(_) | Route::Upload(..) if !body.is_empty() => {
            call.app.limiter.upload(&call).await?
        }
        _ => None,
    };
    let writes = !matches!(
        call.request.method,
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let methods_left = route.methods_left(call.registry().is_read_only());
    // What writes goes on to its end when the client leaves in the middle: a commit past its point
    // of no return must not be cut off, and what was received must be kept.
    let outcome = if writes {
        tokio::spawn(guarded(call, route, body, turn))
            .await
            .unwrap_or_else(|error| Err(Box::new(error)))
    } else {
        guarded(call, route, body, turn).await
    };
    let outcome = outcome.unwrap_or_else(|_panic| {
        error!("a handler panicked");
        Err(ApiError::new(Code::UNKNOWN))
    });
    outcome.map_err(|error| error.or_allow(methods_left))
}

/// The answer, or the panic that came in its way.
fn guarded(
    call: Call,
    route: Route,
    body: RequestBody,
    turn: Option<Turn>,
) -> impl Future<Output = std::thread::Result<Result<Response<Body>>>> {
    AssertUnwindSafe(dispatch(call, route, body, turn)).catch_unwind()
}

/// Handlers that write are boxed, or every request would be moved about in as much memory as they
/// need.
async fn dispatch(
    call: Call,
    route: Route,
    body: RequestBody,
    _turn: Option<Turn>,
) -> Result<Response<Body>> {
    let call = &call;
    match (&route, call.request.method.as_str()) {
        (Route::Root, "GET" | "HEAD") => Ok(empty(StatusCode::OK)),
        (Route::Base, "GET" | "HEAD") => Ok(base::get()),
        (Route::Catalog, "GET" | "HEAD") => catalog::list(call).await,
        (Route::Tags(name), "GET" | "HEAD") => tag::list(call, name).await,
        (Route::Referrers(name, digest), "GET" | "HEAD") => {
            referrer::list(call, name, digest).await
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
        (Route::Upload(name, id), "GET" | "HEAD") => upload::get(call, name, id).await,
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
