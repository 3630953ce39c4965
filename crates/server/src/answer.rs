//! What answers are made of.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use wharfinger_oci::Digest;

use crate::body::Body;

pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName =
    HeaderName::from_static("docker-content-digest");

/// How many headers most answers have at most.
const HEADERS: usize = 12;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    // A map that grows is made anew.
    response.headers_mut().reserve(HEADERS);
    response
}

pub(crate) fn digest_value(digest: &Digest) -> HeaderValue {
    let mut text = String::with_capacity(digest.text_len());
    digest.push_text(&mut text);
    // The text itself becomes the value.
    HeaderValue::try_from(text).expect("a digest is plain text")
}

pub(crate) fn etag(digest: &Digest) -> HeaderValue {
    let mut text = String::with_capacity(digest.text_len() + 2);
    text.push('"');
    digest.push_text(&mut text);
    text.push('"');
    HeaderValue::try_from(text).expect("a digest is plain text")
}

/// A number, such as a length, as a header's value.
pub(crate) fn number(number: u64) -> HeaderValue {
    HeaderValue::try_from(number.to_string()).expect("digits are plain text")
}

/// Says so where an answer is what was kept of another registry, which does not tell whether it is
/// still right (`Warning`, RFC 7234, section 5.5.1).
pub(crate) fn mark_stale(headers: &mut HeaderMap, stale: bool) {
    if stale {
        let warning = HeaderValue::from_static("110 - \"Response is Stale\"");
        headers.insert(header::WARNING, warning);
    }
}

/// An answer of JSON.
pub(crate) fn json_response(content: &impl Serialize) -> Response<Body> {
    let mut body = serde_json::to_vec(content).unwrap_or_default();
    body.push(b'\n');
    let mut response = empty(StatusCode::OK);
    *response.body_mut() = Body::full(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
