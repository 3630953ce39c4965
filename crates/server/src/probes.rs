//! What Kubernetes asks a container: whether it lives, and whether it is ready for requests. No
//! path of the API is one of these, and nobody needs to log in for them.

use http::{HeaderValue, Method, Response, StatusCode, header};
use wharfinger_health::Health;

use crate::body::Body;

/// Whether the process is there, and answers.
const LIVE: &str = "/livez";
/// Whether requests should be sent here.
const READY: &str = "/readyz";

/// Whether a path is such a question. There are many, and they say little: no trace tells of them.
pub(crate) fn is_one(path: &str) -> bool {
    matches!(path, LIVE | READY)
}

/// The answer, if this is such a question.
pub(crate) fn answer(health: &Health, method: &Method, path: &str) -> Option<Response<Body>> {
    let good = match path {
        LIVE => true,
        READY => health.is_ready(),
        _ => return None,
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let allow = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(header::ALLOW, allow);
        return Some(response);
    }
    let text = if good { "ok\n" } else { "not ready\n" };
    let mut response = Response::new(Body::full(text));
    if !good {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, plain);
    let fresh = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, fresh);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_follows_health_and_liveness_does_not() {
        let health = Health::default();
        let status = |path| {
            let answer = answer(&health, &Method::GET, path);
            answer.map(|answer| answer.status().as_u16())
        };
        assert_eq!(
            (status("/livez"), status("/readyz")),
            (Some(200), Some(200))
        );
        health.fails("check", "reason");
        assert_eq!(
            (status("/livez"), status("/readyz")),
            (Some(200), Some(503))
        );
        health.passes("check");
        health.drain();
        assert_eq!(
            (status("/livez"), status("/readyz")),
            (Some(200), Some(503))
        );
        assert_eq!(status("/v2/"), None);
        assert_eq!(status("/livez/"), None);
        let posted = answer(&health, &Method::POST, "/livez").unwrap();
        assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
